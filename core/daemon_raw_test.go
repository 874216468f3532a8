package core

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// rawClient speaks to a daemon in bytes.
type rawClient struct {
	t  testing.TB
	nc net.Conn
	*wire
}

func dialRaw(t testing.TB, d *Daemon) *rawClient {
	t.Helper()
	nc, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &rawClient{t: t, nc: nc, wire: newWire(nc, 1<<26)}
}

// connectRaw dials and does the handshake in msgpack.
func connectRaw(t testing.TB, d *Daemon, object string) *rawClient {
	t.Helper()
	c := dialRaw(t, d)
	c.send(header{typ: msgConnect, serializer: 4}, nil, c.value(4, map[string]any{"handshake": "hello", "object": object}))
	if m := c.receive(); m.typ != msgConnectOK {
		t.Fatalf("handshake: got type %d: %q", m.typ, m.payload)
	}
	return c
}

func (c *rawClient) value(serializer uint8, v any) []byte {
	c.t.Helper()
	s, ok := SerializerByID(serializer)
	if !ok {
		c.t.Fatalf("no serializer %d", serializer)
	}
	b, err := s.AppendValue(nil, v)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *rawClient) parse(m message) any {
	c.t.Helper()
	s, ok := SerializerByID(m.serializer)
	if !ok {
		c.t.Fatalf("no serializer %d", m.serializer)
	}
	v, err := s.ParseValue(m.payload)
	if err != nil {
		c.t.Fatalf("%q: %v", m.payload, err)
	}
	return v
}

func (c *rawClient) request(r Request) []byte {
	c.t.Helper()
	s, _ := SerializerByID(4)
	b, err := s.AppendRequest(nil, r)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

func (c *rawClient) send(h header, a Annotations, payload []byte) {
	c.t.Helper()
	b, err := appendMessage(nil, h, a, payload)
	if err == nil && c.pyro4 != nil {
		b, err = c.pyro4.translate(b, 0)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.sendBytes(b)
}

func (c *rawClient) sendBytes(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns a copy of the next message.
func (c *rawClient) receive() message {
	c.t.Helper()
	m, err := c.readMessage()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	m.payload, m.annotations = bytes.Clone(m.payload), bytes.Clone(m.annotations)
	return m
}

// expectClosed reads the end, and nothing before it.
func (c *rawClient) expectClosed() {
	c.t.Helper()
	m, err := c.readMessage()
	if err == nil {
		c.t.Fatalf("got a message of type %d (%q), want the end of the connection", m.typ, m.payload)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the connection is still open")
	}
}

// expectOpen pings.
func (c *rawClient) expectOpen() {
	c.t.Helper()
	c.send(header{typ: msgPing, serializer: pingSerializer, seq: 0xbeef}, nil, []byte("ping"))
	m := c.receive()
	if m.typ != msgPing || m.seq != 0xbeef || m.serializer != pingSerializer || string(m.payload) != "pong" {
		c.t.Fatalf("ping: got %+v", m)
	}
}

func (c *rawClient) expectException(class ExceptionClass, text string) *RemoteError {
	c.t.Helper()
	m := c.receive()
	e, ok := c.parse(m).(*RemoteError)
	if m.typ != msgResult || m.flags&flagException == 0 || !ok || e.Class != class || e.Text() != text {
		c.t.Fatalf("got type %d, flags %x, %v, want %s: %s", m.typ, m.flags, c.parse(m), class, text)
	}
	if len(e.Traceback) == 0 || !strings.HasSuffix(e.Traceback[len(e.Traceback)-1], "\n") {
		c.t.Errorf("traceback %q, want lines that end in a newline", e.Traceback)
	}
	return e
}

// TestHandshakeRefusals compares with what a stock daemon was seen to answer.
func TestHandshakeRefusals(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{MaxMessageBytes: 1000}, ProxyOptions{})
	connect := func(payload []byte) []byte {
		b, err := appendMessage(nil, header{typ: msgConnect, serializer: 4, seq: 7}, nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	msgpack := func(v any) []byte {
		s, _ := SerializerByID(4)
		b, err := s.AppendValue(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain := func(h header) []byte {
		b, err := appendMessage(nil, h, nil, []byte("ping"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	changed := func(at int, b ...byte) []byte {
		frame := connect(msgpack("x"))
		copy(frame[at:], b)
		return frame
	}
	hello := map[string]any{"handshake": "hello"}
	for _, test := range []struct {
		name string
		sent []byte
		text string
		seq  uint16 // and in msgpack, if it is not 0; else in marshal
		raw  string // the payload, if it matters
	}{
		{name: "garbage", sent: []byte("GET / HTTP/1.0\r\n\r\n"), text: "invalid data", raw: "\xfa\x0cinvalid data"},
		{name: "garbage of six bytes", sent: []byte("GET / "), text: "invalid data"},
		{name: "version 503", sent: changed(4, 1, 0xf7), text: "invalid protocol version: 503", raw: "\xfa\x1dinvalid protocol version: 503"},
		{name: "six bytes of version 47", sent: []byte("PYRO\x00\x2f"), text: "invalid protocol version: 47"},
		{name: "bad magic", sent: changed(38, 0), text: "invalid message or protocol version", raw: "\xfa\x23invalid message or protocol version"},
		{name: "INVOKE first", sent: plain(header{typ: msgInvoke, seq: 9}), text: "invalid msg type 4 received (expected: 1)",
			raw: "\xfa\x29invalid msg type 4 received (expected: 1)"},
		{name: "PING first", sent: plain(header{typ: msgPing}), text: "invalid msg type 6 received (expected: 1)"},
		{name: "too large", sent: changed(12, 0x40), text: "message too large (1073741826, max=1000)"},
		{name: "bad annotations", sent: append(changed(19, 1), 0), text: "annotation chunk length exceeds remaining data"},
		{name: "unknown object", sent: connect(msgpack(map[string]any{"handshake": "hello", "object": "nobody"})), text: "unknown object", seq: 7},
		{name: "object is no str", sent: connect(msgpack(map[string]any{"handshake": "hello", "object": 5})), text: "unknown object", seq: 7},
		{name: "no object", sent: connect(msgpack(hello)), text: "'object'", seq: 7},
		{name: "no handshake", sent: connect(msgpack(map[string]any{"object": "account"})), text: "'handshake'", seq: 7},
		{name: "a list", sent: connect(msgpack([]any{1})), text: "list indices must be integers or slices, not str", seq: 7},
		{name: "a str", sent: connect(msgpack("hello")), text: "string indices must be integers, not 'str'", seq: 7},
		{name: "an int", sent: connect(msgpack(1)), text: "'int' object is not subscriptable", seq: 7},
		{name: "unreadable", sent: connect([]byte{0xc1}), seq: 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, d)
			c.sendBytes(test.sent)
			m := c.receive()
			wantSerializer := uint8(marshalID)
			if test.seq != 0 {
				wantSerializer = 4
			}
			if m.typ != msgConnectFail || m.seq != test.seq || m.serializer != wantSerializer {
				t.Fatalf("got type %d, number %d, serializer %d, want 3, %d, %d", m.typ, m.seq, m.serializer, test.seq, wantSerializer)
			}
			if test.raw != "" && string(m.payload) != test.raw {
				t.Errorf("got %q, want %q", m.payload, test.raw)
			}
			if test.text != "" {
				if got := c.parse(m); got != test.text {
					t.Errorf("got %q, want %q", got, test.text)
				}
			}
			c.expectClosed()
		})
	}
	t.Run("large message before the handshake", func(t *testing.T) {
		t.Parallel()
		_, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
		c := dialRaw(t, d)
		c.sendBytes(changed(12, 0, 0x10, 0, 1))
		if got, want := c.parse(c.receive()), "message too large (1048577, max=1048576)"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		c = connectRaw(t, d, "account")
		c.send(header{typ: msgInvoke, serializer: 4, seq: 1}, nil,
			c.request(Request{Object: "account", Method: "echo", Args: []any{strings.Repeat("x", 1<<20)}, Kwargs: noKwargs}))
		if m := c.receive(); m.flags&flagException != 0 {
			t.Errorf("after the handshake: got %v", c.parse(m))
		}
	})
	t.Run("unknown serializer", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, d)
		c.send(header{typ: msgConnect, serializer: 9}, nil, []byte("x"))
		c.expectClosed()
	})
}

// TestConnectOK looks at the answer in every serializer.
func TestConnectOK(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	for _, s := range serializers {
		t.Run(s.Name(), func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, d)
			c.send(header{typ: msgConnect, serializer: s.ID(), seq: 3}, nil,
				c.value(s.ID(), map[string]any{"handshake": []any{"any", "thing"}, "object": "account"}))
			m := c.receive()
			if m.typ != msgConnectOK || m.seq != 3 || m.serializer != s.ID() || m.flags != flagCorrelationID {
				t.Fatalf("got %+v", m.header)
			}
			reply := c.parse(m).(map[string]any)
			if reply["handshake"] != "hello" {
				t.Errorf("handshake: got %v", reply["handshake"])
			}
			members, err := newMembers(reply["meta"])
			if err != nil || !members.methods["deposit"] || !members.oneway["ping"] || !members.attrs["credit_limit"] || members.attrs["secret"] {
				t.Errorf("metadata: %v, %+v", err, members)
			}
			if data, ok := m.annotation(annotationContracts); !ok || string(data) != "echo=2\nping=1\n" {
				t.Errorf("contracts: got %q, %v", data, ok)
			}
			c.expectOpen()
		})
	}
}

// TestReactions is the table of what a daemon does to messages after the handshake.
//
// spec: O1 R5
func TestReactions(t *testing.T) {
	t.Parallel()
	account, d, _ := serveAccount(t, DaemonOptions{MaxMessageBytes: 1000}, ProxyOptions{})
	call := func(method string, args ...any) Request {
		if args == nil {
			args = []any{}
		}
		return Request{Object: "account", Method: method, Args: args, Kwargs: noKwargs}
	}
	pseudo := func(method string, args ...any) Request {
		return Request{Object: "account", Method: method, Args: args}
	}
	invoke := header{typ: msgInvoke, serializer: 4, seq: 1}
	for _, test := range []struct {
		name   string
		r      Request
		class  ExceptionClass
		text   string
		closes bool
	}{
		{name: "unknown object", r: Request{Object: "nobody", Method: "x", Args: []any{}, Kwargs: noKwargs}, class: DaemonError, text: "unknown object"},
		{name: "unknown method", r: call("nope"), class: AttributeError, text: "'account' object has no attribute 'nope'"},
		{name: "private method", r: call("_nope"), class: AttributeError, text: "attempt to access private attribute '_nope'"},
		{name: "private dunder", r: call("__init__"), class: AttributeError, text: "attempt to access private attribute '__init__'"},
		{name: "other dunder", r: call("__len__"), class: AttributeError, text: "'account' object has no attribute '__len__'"},
		{name: "dotted", r: call("owner.x"), class: AttributeError, text: "'account' object has no attribute 'owner.x'"},
		{name: "hidden field", r: pseudo("__getattr__", "secret"), class: AttributeError, text: "type object 'account' has no attribute 'secret'"},
		{name: "attribute called", r: call("owner"), class: AttributeError, text: "attempt to access unexposed attribute 'owner'"},
		{name: "method read", r: pseudo("__getattr__", "echo"), class: AttributeError,
			text: "attempt to access unexposed or unknown remote attribute 'echo'"},
		{name: "unknown attribute read", r: pseudo("__getattr__", "nope"), class: AttributeError, text: "type object 'account' has no attribute 'nope'"},
		{name: "unknown attribute written", r: pseudo("__setattr__", "nope", 1), class: AttributeError, text: "type object 'account' has no attribute 'nope'"},
		{name: "attribute without name", r: pseudo("__getattr__"), class: "builtins.IndexError", text: "tuple index out of range"},
		{name: "attribute written without value", r: pseudo("__setattr__", "owner"), class: "builtins.IndexError", text: "tuple index out of range"},
		{name: "attribute name is int", r: pseudo("__getattr__", 1), class: TypeError, text: "attribute name must be string, not 'int'"},
		{name: "attribute of other type", r: pseudo("__setattr__", "credit_limit", "x"), class: TypeError,
			text: `attribute 'credit_limit': got str "x", want int`},
		{name: "too few arguments", r: call("deposit", "x"), class: TypeError, text: "deposit() missing 1 required positional argument: 'amount'"},
		{name: "too many arguments", r: call("deposit", "x", 1, 2), class: TypeError, text: "deposit() takes 2 positional arguments but 3 were given"},
		{name: "argument of other type", r: call("deposit", "x", "y"), class: TypeError, text: `deposit() argument 'amount': got str "y", want int`},
		{name: "exception", r: call("fail", "builtins.KeyError", "x"), class: "builtins.KeyError", text: "x"},
		{name: "Go error", r: call("fail", "", "plain"), class: RuntimeError, text: "plain"},
		{name: "deadline", r: call("fail", "deadline", "plain"), class: "builtins.TimeoutError", text: "plain: context deadline exceeded"},
		{name: "unknown Pyro class", r: call("fail", "Pyro5.errors.Nope", "x"), class: PyroError, text: "x"},
		{name: "NamingError", r: call("fail", string(NamingError), "x"), class: NamingError, text: "x"},
		{name: "panic", r: call("panic", "oops"), class: RuntimeError, text: "panic: oops"},
		{name: "result that cannot be sent", r: call("unsendable"), class: TypeError},
		{name: "exception that cannot be sent", r: call("fail_unsendable"), class: PyroError},
		{name: "SecurityError", r: call("fail", string(SecurityError), "x"), class: SecurityError, text: "x", closes: true},
		{name: "CommunicationError", r: call("fail", string(CommunicationError), "x"), class: CommunicationError, text: "x", closes: true},
		{name: "ConnectionClosedError", r: call("fail", string(ConnectionClosedError), "x"), class: ConnectionClosedError, text: "x", closes: true},
		{name: "batch without flag", r: pseudo("<batch>", []any{"ping", []any{}, map[string]any{}}), class: AttributeError,
			text: "'account' object has no attribute '<batch>'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := connectRaw(t, d, "account")
			c.send(invoke, nil, c.request(test.r))
			m := c.receive()
			e, ok := c.parse(m).(*RemoteError)
			if m.seq != 1 || m.serializer != 4 || m.flags != flagException|flagCorrelationID || !ok || e.Class != test.class {
				t.Fatalf("got %+v: %v, want %s", m.header, c.parse(m), test.class)
			}
			if test.text != "" && e.Text() != test.text {
				t.Errorf("text:\n got %s\nwant %s", e.Text(), test.text)
			}
			if n := len(e.Traceback); n < 2 || e.Traceback[n-1] != e.Error()+"\n" {
				t.Errorf("traceback: got %q", e.Traceback)
			}
			_, notExecuted := m.annotation(annotationNotExecuted)
			if notExecuted != (test.name == "unknown object") {
				t.Errorf("annotation PCNX: got %v", notExecuted)
			}
			if test.closes {
				c.expectClosed()
			} else {
				c.expectOpen()
			}
		})
	}
	for _, test := range []struct {
		name string
		h    header
	}{
		{"second CONNECT", header{typ: msgConnect, serializer: 4}},
		{"RESULT from a client", header{typ: msgResult, serializer: 4}},
		{"unknown type", header{typ: 99, serializer: 4}},
		{"unknown serializer", header{typ: msgInvoke, serializer: 9}},
		{"not compressed", header{typ: msgInvoke, serializer: 4, flags: flagCompressed}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := connectRaw(t, d, "account")
			c.send(test.h, nil, c.request(call("ping")))
			c.expectClosed()
		})
	}
	for name, frame := range map[string][]byte{
		"bad version later": []byte("PYRO\x01\xf7"),
		"oversize later":    []byte("PYRO\x01\xf6\x04\x04\x00\x00\x00\x01\x40\x00\x00\x00" + strings.Repeat("\x00", 22) + "\x4d\xc5"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connectRaw(t, d, "account")
			c.sendBytes(frame)
			c.expectClosed()
		})
	}
	t.Run("unparseable", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		c.send(invoke, nil, []byte{0xc1})
		if e := c.parse(c.receive()).(*RemoteError); e.Class != ValueError {
			t.Errorf("got %v, want a ValueError", e)
		}
		c.send(invoke, nil, c.value(4, []any{"account", "ping"}))
		if e := c.parse(c.receive()).(*RemoteError); e.Class != ValueError {
			t.Errorf("tuple of 2: got %v, want a ValueError", e)
		}
		c.expectOpen()
	})
	t.Run("blob", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		h := invoke
		h.flags = flagKeepSerialized
		c.send(h, Annotations{"BLBI": []byte("x")}, c.request(call("ping")))
		c.expectException(ValueError, "annotation BLBI: core: marshal: offset 1: message ends too early")
		c.send(invoke, Annotations{"BLBI": []byte("stale")}, c.request(call("sum", 1, 2)))
		if m := c.receive(); c.parse(m) != int64(3) {
			t.Errorf("with a stale BLBI: got %v, want 3", c.parse(m))
		}
	})
	t.Run("oneway errors are silent", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		h := invoke
		h.flags = flagOneway
		for _, r := range []Request{call("nope"), call("fail", "", "x"), call("panic", "x"), {Object: "nobody", Args: []any{}},
			pseudo("__getattr__", "nope"), pseudo("__getattr__", "owner"), call("deposit")} {
			c.send(h, nil, c.request(r))
		}
		c.send(h, nil, []byte{0xc1})
		c.expectOpen()
	})
	t.Run("a oneway method without the flag replies", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		c.send(invoke, nil, c.request(call("ping")))
		if m := c.receive(); m.typ != msgResult || c.parse(m) != nil {
			t.Errorf("got %+v", m)
		}
	})
	t.Run("oneway does not delay the next call", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		h := invoke
		h.flags = flagOneway
		c.send(h, nil, c.request(call("block", "oneway")))
		within(t, account.entered)
		c.expectOpen()
		close(account.release)
	})
	t.Run("compressed request and correlation id", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		id := [16]byte{1, 2, 3}
		payload := compress(t, c.request(call("echo", strings.Repeat("x", 500))))
		c.send(header{typ: msgInvoke, serializer: 4, seq: 65535, flags: flagCompressed | flagCorrelationID, correlationID: id}, nil, payload)
		m := c.receive()
		if m.correlationID != id || m.seq != 65535 || c.parse(m) != strings.Repeat("x", 500) {
			t.Errorf("got %+v", m.header)
		}
	})
	t.Run("correlation ids are made up", func(t *testing.T) {
		t.Parallel()
		c := connectRaw(t, d, "account")
		seen := map[[16]byte]bool{{}: true}
		for range 100 {
			c.send(invoke, nil, c.request(call("ping")))
			m := c.receive()
			if m.flags&flagCorrelationID == 0 || seen[m.correlationID] || m.correlationID[6]>>4 != 4 || m.correlationID[8]>>6 != 2 {
				t.Fatalf("got flags %x, id %x, want a new UUID of version 4", m.flags, m.correlationID)
			}
			seen[m.correlationID] = true
		}
	})
}

func TestBatch(t *testing.T) {
	t.Parallel()
	account, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	invoke := header{typ: msgInvoke, serializer: 4, seq: 1, flags: flagBatch}
	batch := func(calls ...any) Request { return Request{Object: "account", Method: "<batch>", Args: calls} }
	one := func(method string, kwargs map[string]any, args ...any) any {
		if args == nil {
			args = []any{}
		}
		return []any{method, args, kwargs}
	}
	c := connectRaw(t, d, "account")

	c.send(invoke, nil, c.request(batch(one("sum", noKwargs, 1, 2), one("deposit", map[string]any{"amount": 5}, "b"), one("ping", nil))))
	m := c.receive()
	if got := c.parse(m).([]any); m.flags != flagBatch|flagCorrelationID || len(got) != 3 || got[0] != int64(3) || got[1] != int64(5) || got[2] != nil {
		t.Errorf("got flags %x, %v", m.flags, got)
	}
	c.send(invoke, nil, c.request(batch()))
	if got := c.parse(c.receive()).([]any); len(got) != 0 {
		t.Errorf("empty batch: got %v", got)
	}
	for _, failing := range []any{one("fail", noKwargs, "builtins.KeyError", "x"), one("panic", noKwargs, "x"), one("sum", noKwargs), []any{"sum", 5, noKwargs},
		[]any{"sum", []any{}, 5}} {
		c.send(invoke, nil, c.request(batch(one("deposit", noKwargs, "k", 1), failing, one("deposit", noKwargs, "never", 1))))
		m := c.receive()
		got, ok := c.parse(m).([]any)
		if !ok || len(got) != 2 || m.flags&flagException != 0 {
			t.Fatalf("%v: got %v, want two results", failing, c.parse(m))
		}
		wrapper, ok := got[1].(ClassDict)
		if !ok || wrapper.Class != "Pyro5.core._ExceptionWrapper" {
			t.Fatalf("%v: got %v, want an _ExceptionWrapper", failing, got[1])
		}
		if e, ok := wrapper.Attrs["exception"].(*RemoteError); !ok || len(e.Traceback) == 0 {
			t.Errorf("%v: got %v, want an exception with traceback", failing, wrapper.Attrs)
		}
	}
	for _, r := range []Request{batch(one("deposit", noKwargs, "k", 1), one("nope", noKwargs)), batch(one("_x", noKwargs)), batch(5), batch([]any{"sum"}),
		batch([]any{1, []any{}, noKwargs}), batch(one("unsendable", noKwargs))} {
		c.send(invoke, nil, c.request(r))
		if m := c.receive(); m.flags&flagException == 0 {
			t.Errorf("%v: got %v, want an exception for the whole batch", r, c.parse(m))
		}
	}
	// A oneway batch runs in the order of the connection and answers nothing.
	h := invoke
	h.flags |= flagOneway
	c.send(h, nil, c.request(batch(one("deposit", noKwargs, "oneway", 1), one("nope", noKwargs))))
	c.send(invoke, nil, c.request(batch(one("deposit", noKwargs, "oneway", 1))))
	if got := c.parse(c.receive()).([]any); got[0] != int64(2) {
		t.Errorf("after a oneway batch: got %v, want 2", got)
	}
	account.mu.Lock()
	defer account.mu.Unlock()
	if account.balance["never"] != 0 {
		t.Error("a call behind the one that failed was run")
	}
}

// TestMaxConnections: clients beyond the limit are refused in Pyro's words.
//
// spec: X1 O16
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{MaxConnections: 2}, ProxyOptions{})
	first := connectRaw(t, d, "account")
	second := connectRaw(t, d, "account")
	third := dialRaw(t, d)
	third.send(header{typ: msgConnect, serializer: 4, seq: 5}, nil, third.value(4, map[string]any{"handshake": "hello", "object": "account"}))
	m := third.receive()
	if text := third.parse(m); m.typ != msgConnectFail || m.serializer != marshalID || m.seq != 5 ||
		text != "no free workers, increase server threadpool size" {
		t.Errorf("got %+v: %v", m.header, text)
	}
	third.expectClosed()
	garbage := dialRaw(t, d)
	garbage.sendBytes([]byte("GET / "))
	if m := garbage.receive(); garbage.parse(m) != "invalid data" {
		t.Errorf("got %v", garbage.parse(m))
	}
	first.nc.Close()
	eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.conns)-d.refusing < 2
	})
	connectRaw(t, d, "account").expectOpen()
	second.expectOpen()
}

func TestHandshakeTimeout(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{HandshakeTimeout: 20 * time.Millisecond}, ProxyOptions{})
	silent := dialRaw(t, d)
	silent.expectClosed()
	slow := dialRaw(t, d)
	slow.sendBytes(fromHex(t, golden[0].frame)[:50])
	slow.expectClosed()
	c := connectRaw(t, d, "account")
	dialRaw(t, d).expectClosed() // one that came later timed out
	c.expectOpen()               // the deadline was that of the handshake alone
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	account, d, _ := serveAccount(t, DaemonOptions{IdleTimeout: 30 * time.Millisecond}, ProxyOptions{})
	busy := connectRaw(t, d, "account")
	busy.send(header{typ: msgInvoke, serializer: 4, seq: 1}, nil, busy.request(Request{Object: "account", Method: "block", Args: []any{"x"}, Kwargs: noKwargs}))
	within(t, account.entered)
	connectRaw(t, d, "account").expectClosed() // takes longer than the busy one has been busy
	close(account.release)
	if m := busy.receive(); busy.parse(m) != "x" {
		t.Errorf("a call longer than the idle timeout: got %v", busy.parse(m))
	}
	busy.expectClosed()
}

// TestValidateHandshake has both sides judge the other one's part of the handshake.
//
// spec: X2 C16
func TestValidateHandshake(t *testing.T) {
	t.Parallel()
	validate := func(ctx context.Context, handshake any) (any, error) {
		info := CallInfoFrom(ctx)
		switch handshake {
		case "panic":
			panic("boom")
		case "secret":
			AnnotateReply(ctx, "TEST", []byte(info.Object))
			return []any{"welcome", info.Peer != nil}, nil
		}
		return nil, SecurityError.New("wrong password")
	}
	records := make(logRecords, 100)
	opts := DaemonOptions{ValidateHandshake: validate, Logger: slog.New(records)}
	_, d, p := serveAccount(t, opts, ProxyOptions{Handshake: "secret", ValidateHandshake: func(v any) error {
		if list, ok := v.([]any); !ok || list[0] != "welcome" {
			return errors.New("unexpected welcome")
		}
		return nil
	}})
	if err := p.Call(t.Context(), "ping", nil); err != nil {
		t.Fatal(err)
	}
	for handshake, want := range map[string]string{"guess": "wrong password", "panic": "panic: boom"} {
		refused := NewProxy(d.URI("account"), ProxyOptions{Handshake: handshake})
		err := refused.Call(t.Context(), "ping", nil)
		if e, ok := errors.AsType[*TransportError](err); !ok || e.Written || e.Op != opHandshake || !strings.HasSuffix(e.Err.Error(), "rejected: "+want) {
			t.Errorf("%s: got %v, want a refusal with %q", handshake, err, want)
		}
		refused.Close()
	}
	logged := []string{within(t, records), within(t, records), within(t, records)}
	slices.Sort(logged)
	if want := []string{"client refused", "client refused", "panic in a method"}; !slices.Equal(logged, want) {
		t.Errorf("logged: got %q, want %q", logged, want)
	}
	picky := NewProxy(d.URI("account"), ProxyOptions{Handshake: "secret", ValidateHandshake: func(any) error { return io.ErrNoProgress }})
	defer picky.Close()
	if err := picky.Ping(t.Context()); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got %v, want the validator's error", err)
	}
}
