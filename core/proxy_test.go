package core

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeServer accepts connections and lets a script answer each.
func fakeServer(t testing.TB, script func(c *rawClient)) URI {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer nc.Close()
				script(&rawClient{t: t, nc: nc, wire: newWire(nc, 1<<20)})
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		running.Wait()
	})
	addr := ln.Addr().(*net.TCPAddr)
	return URI{Protocol: "PYRO", Object: "fake", Host: "127.0.0.1", Port: addr.Port}
}

// welcome answers CONNECT as a stock server with the methods "m" and "ow".
func (c *rawClient) welcome() bool {
	m, err := c.readMessage()
	if err != nil || m.typ != msgConnect {
		return false
	}
	meta := map[string]any{"methods": Set{"m", "ow"}, "oneway": Set{"ow"}, "attrs": Set{"a"}}
	c.send(header{typ: msgConnectOK, serializer: m.serializer, seq: m.seq}, nil,
		c.value(m.serializer, map[string]any{"handshake": "hello", "meta": meta}))
	return true
}

// proxyFor makes a proxy that ends with the test.
func proxyFor(t testing.TB, uri URI, opts ProxyOptions) *Proxy {
	p := NewProxy(uri, opts)
	t.Cleanup(func() { p.Close() })
	return p
}

// TestScriptedReplies is the table of what a proxy does with what servers send.
//
// spec: C13 R6
func TestScriptedReplies(t *testing.T) {
	t.Parallel()
	exception := func(class ExceptionClass, text string, traceback ...string) any {
		return &RemoteError{Class: class, Args: []any{text}, Traceback: traceback}
	}
	const result = flagCorrelationID
	for _, test := range []struct {
		name    string
		answer  func(c *rawClient, request message)
		want    error  // in the chain
		text    string // part of the error
		remote  bool   // a RemoteError, else a TransportError
		dropped bool   // the connection is not used again
		undone  bool   // NotExecuted
	}{
		{name: "NamingError", remote: true, want: NamingError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, nil, c.value(4, exception(NamingError, "x")))
		}},
		{name: "ConnectionClosedError", remote: true, dropped: true, want: CommunicationError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, nil, c.value(4, exception(ConnectionClosedError, "x")))
		}},
		{name: "SecurityError", remote: true, dropped: true, want: SecurityError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, nil, c.value(4, exception(SecurityError, "x")))
		}},
		{name: "unknown object", remote: true, undone: true, want: DaemonError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, nil,
				c.value(4, exception(DaemonError, "unknown object", "Traceback\n", "in handleRequest\n")))
		}},
		{name: "unknown object, nobody knows of whom", remote: true, want: DaemonError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, nil, c.value(4, exception(DaemonError, "unknown object")))
		}},
		{name: "unknown object of a call that the method made", remote: true, want: DaemonError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, nil,
				c.value(4, exception(DaemonError, "unknown object", "Traceback\n", "client.py, line 9, in _pyroInvoke\n")))
		}},
		{name: "says that it did not run", remote: true, undone: true, want: ValueError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: result | flagException}, notExecuted, c.value(4, exception(ValueError, "x")))
		}},
		{name: "exception without flag 0x40", remote: true, want: ValueError, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: flagException}, nil, c.value(4, exception(ValueError, "x")))
		}},
		{name: "exception that is a str", dropped: true, want: ProtocolError, text: "exception is str", answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: flagException}, nil, c.value(4, "text"))
		}},
		{name: "wrong number", dropped: true, want: ProtocolError, text: "reply sequence out of sync, got 2 expected 1", answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq + 1}, nil, c.value(4, 1))
		}},
		{name: "wrong serializer", dropped: true, want: SerializeError, text: "invalid serializer in response: 1", answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 1, seq: r.seq}, nil, c.value(1, 1))
		}},
		{name: "wrong type", dropped: true, want: ProtocolError, text: "invalid msg type 6 received (expected: 5)", answer: func(c *rawClient, r message) {
			c.send(header{typ: msgPing, serializer: 4, seq: r.seq}, nil, []byte("pong"))
		}},
		{name: "unparseable", dropped: true, answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq}, nil, []byte{0xc1})
		}},
		{name: "too large", dropped: true, want: MessageTooLargeError, text: "message too large (2000, max=1000)", answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq}, nil, make([]byte, 2000))
		}},
		{name: "garbage", dropped: true, want: ProtocolError, text: "invalid data", answer: func(c *rawClient, r message) {
			c.sendBytes([]byte("HTTP/1.1 400"))
		}},
		{name: "hangs up", dropped: true, want: io.EOF, answer: func(c *rawClient, r message) { c.nc.Close() }},
		{name: "hangs up in the reply", dropped: true, want: io.ErrUnexpectedEOF, answer: func(c *rawClient, r message) {
			c.sendBytes([]byte("PYRO\x01"))
			c.nc.Close()
		}},
		{name: "stream without id", want: ProtocolError, text: "not configured to allow streaming", answer: func(c *rawClient, r message) {
			c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: flagItemStream}, nil, c.value(4, nil))
		}, dropped: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			connections := make(chan struct{}, 10)
			uri := fakeServer(t, func(c *rawClient) {
				connections <- struct{}{}
				if !c.welcome() {
					return
				}
				for {
					m, err := c.readMessage()
					if err != nil {
						return
					}
					test.answer(c, m)
				}
			})
			p := proxyFor(t, uri, ProxyOptions{MaxMessageBytes: 1000})
			var out any
			err := p.Call(t.Context(), "m", &out)
			if test.want != nil && !errors.Is(err, test.want) || err == nil || !strings.Contains(err.Error(), test.text) {
				t.Fatalf("got %v, want %v with %q", err, test.want, test.text)
			}
			transport, isTransport := errors.AsType[*TransportError](err)
			remote, isRemote := errors.AsType[*RemoteError](err)
			if isRemote != test.remote || isTransport == test.remote {
				t.Fatalf("got %T", err)
			}
			if isTransport && (!transport.Written || transport.Op != opRead || transport.Endpoint != uri.location()) {
				t.Errorf("got %+v, want Written", transport)
			}
			if isRemote && remote.NotExecuted != test.undone {
				t.Errorf("NotExecuted: got %v, want %v", remote.NotExecuted, test.undone)
			}
			p.Call(t.Context(), "m", &out)
			want := 1
			if test.dropped {
				want = 2
			}
			if got := len(connections); got != want {
				t.Errorf("%d connections for two calls, want %d", got, want)
			}
		})
	}
}

// spec: C5 C16
func TestHandshakeFailures(t *testing.T) {
	t.Parallel()
	answer := func(typ uint8, serializer uint8, v any) func(c *rawClient) {
		return func(c *rawClient) {
			if m, err := c.readMessage(); err == nil {
				c.send(header{typ: typ, serializer: serializer, seq: m.seq}, nil, c.value(serializer, v))
			}
		}
	}
	meta := func(v any) any { return map[string]any{"handshake": "hello", "meta": v} }
	for _, test := range []struct {
		name   string
		script func(c *rawClient)
		opts   ProxyOptions
		want   string
	}{
		{name: "refusal in marshal", script: answer(msgConnectFail, 2, "no free workers"), want: "rejected: no free workers"},
		{name: "refusal in msgpack", script: answer(msgConnectFail, 4, "no"), want: "rejected: no"},
		{name: "wrong type", script: answer(msgResult, 4, "x"), want: "invalid msg type 5 received (expected: 2,3)"},
		{name: "unknown serializer", script: func(c *rawClient) {
			if _, err := c.readMessage(); err == nil {
				c.send(header{typ: msgConnectOK, serializer: 9}, nil, nil)
			}
		}, want: "invalid serializer in response: 9"},
		{name: "no dict", script: answer(msgConnectOK, 4, 1), want: "answer to CONNECT is int, want dict"},
		{name: "no metadata", script: answer(msgConnectOK, 4, map[string]any{"handshake": 1}), want: "metadata is None, want dict"},
		{name: "no attrs", script: answer(msgConnectOK, 4, meta(map[string]any{"methods": Set{"m"}, "oneway": Set{}})),
			want: `metadata has no list of names as "attrs"`},
		{name: "names that are no str", script: answer(msgConnectOK, 4, meta(map[string]any{"methods": []any{1}, "oneway": Set{}, "attrs": Set{}})),
			want: `metadata has no list of names as "methods"`},
		{name: "hangs up", script: func(c *rawClient) { c.readMessage() }, opts: ProxyOptions{Serializer: "msgpack"}, want: "EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := proxyFor(t, fakeServer(t, test.script), test.opts)
			err := p.Call(t.Context(), "m", nil)
			e, ok := errors.AsType[*TransportError](err)
			if !ok || e.Written || e.Op != opHandshake || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("got %#v: %v\nwant %s", err, err, test.want)
			}
		})
	}
	t.Run("nothing exposed", func(t *testing.T) {
		t.Parallel()
		p := proxyFor(t, fakeServer(t, answer(msgConnectOK, 4, meta(map[string]any{"methods": Set{}, "oneway": Set{}, "attrs": Set{}}))), ProxyOptions{})
		if err := p.Call(t.Context(), "m", nil); !errors.Is(err, PyroError) || !strings.Contains(err.Error(), "doesn't expose any methods") {
			t.Errorf("got %v", err)
		}
	})
}

// TestSerpentFallback has a server without msgpack, which closes without a word.
func TestSerpentFallback(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []uint8
	uri := fakeServer(t, func(c *rawClient) {
		head, err := c.r.Peek(8)
		if err != nil {
			return
		}
		mu.Lock()
		seen = append(seen, head[7])
		mu.Unlock()
		if head[7] == 4 {
			c.readMessage()
			return
		}
		if !c.welcome() {
			return
		}
		if m, err := c.readMessage(); err == nil { // one call per connection
			c.send(header{typ: msgResult, serializer: m.serializer, seq: m.seq}, nil, c.value(m.serializer, "ok"))
		}
	})
	p := proxyFor(t, uri, ProxyOptions{})
	for range 3 {
		var out string
		if err := p.Call(t.Context(), "m", &out); err != nil || out != "ok" {
			t.Fatalf("got %q, %v", out, err)
		}
		eventually(t, func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.idle) == 0 || !p.idle[0].isQuiet()
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []uint8{4, 1, 4, 1, 1}; !slices.Equal(seen, want) {
		t.Errorf("serializers of the handshakes: got %v, want %v", seen, want)
	}
}

// TestNoFallbackAfterRestart has a server that hangs up once, as one does that is being restarted.
func TestNoFallbackAfterRestart(t *testing.T) {
	t.Parallel()
	var connects atomic.Int32
	uri := fakeServer(t, func(c *rawClient) {
		if connects.Add(1) == 1 {
			c.readMessage()
			return
		}
		if !c.welcome() {
			return
		}
		if m, err := c.readMessage(); err == nil {
			c.send(header{typ: msgResult, serializer: m.serializer, seq: m.seq}, nil, c.value(m.serializer, int(m.serializer)))
		}
	})
	p := proxyFor(t, uri, ProxyOptions{})
	for range 2 {
		var serializer int
		if err := p.Call(t.Context(), "m", &serializer); err != nil || serializer != 4 {
			t.Errorf("got serializer %d, %v, want 4", serializer, err)
		}
	}
	if n := connects.Load(); n != 4 {
		t.Errorf("%d connections, want 4: msgpack, serpent, msgpack, and one for the second call", n)
	}
}

// TestNothingWritten has failures after which the method surely did not run.
func TestNothingWritten(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := URI{Protocol: "PYRO", Object: "o", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port}
	ln.Close()
	_, _, connected := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	if err := connected.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		p    *Proxy
		ctx  context.Context
		op   string
		want error
	}{
		{"refused", proxyFor(t, refusing, ProxyOptions{}), t.Context(), "connect", syscall.ECONNREFUSED},
		{"context ended before the connect", proxyFor(t, refusing, ProxyOptions{}), ended, "connect", context.Canceled},
		{"context ended before the call", connected, ended, opSend, context.Canceled},
		{"no resolver", proxyFor(t, URI{Protocol: "PYRONAME", Object: "n"}, ProxyOptions{}), t.Context(), "resolve", nil},
		{"resolver fails", proxyFor(t, URI{Protocol: "PYRONAME", Object: "n"}, ProxyOptions{Resolver: resolverFunc(func(URI) (URI, error) {
			return URI{}, NamingError.New("unknown name: n")
		})}), t.Context(), "resolve", NamingError},
		{"resolves to a name", proxyFor(t, URI{Protocol: "PYRONAME", Object: "n"}, ProxyOptions{Resolver: resolverFunc(func(u URI) (URI, error) {
			return u, nil
		})}), t.Context(), "resolve", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.p.Call(test.ctx, "ping", nil)
			e, ok := errors.AsType[*TransportError](err)
			if !ok || e.Written || e.Op != test.op || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %+v (%v), want op %q, %v, nothing written", e, err, test.op, test.want)
			}
		})
	}
}

type resolverFunc func(URI) (URI, error)

func (f resolverFunc) Resolve(_ context.Context, u URI) (URI, error) { return f(u) }

// TestResolveAtEveryConnect moves the object.
//
// spec: A2
func TestResolveAtEveryConnect(t *testing.T) {
	t.Parallel()
	_, d1, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	_, d2, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	now := d1.URI("account")
	p := proxyFor(t, URI{Protocol: "PYRONAME", Object: "account"}, ProxyOptions{Resolver: resolverFunc(func(URI) (URI, error) { return now, nil })})
	if err := p.Call(t.Context(), "deposit", nil, "x", 1); err != nil {
		t.Fatal(err)
	}
	now = d2.URI("account")
	d1.Close()
	within(t, d1.served)
	var n int
	if err := p.Call(t.Context(), "deposit", &n, "x", 10); err != nil || n != 10 {
		t.Errorf("got %d, %v, want 10 from the second daemon", n, err)
	}
}

// TestRestartIsInvisible stops a server between calls, whose connections the proxies keep, and starts another one at its address.
//
// spec: C9 O15
func TestRestartIsInvisible(t *testing.T) {
	t.Parallel()
	uri := URI{Protocol: "PYRO", Object: "account", Host: "127.0.0.1"}
	var p *Proxy
	for round := range 5 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", uri.Port))
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewDaemon(ln, DaemonOptions{DrainTimeout: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		served := start(func() error { return d.Serve(t.Context()) })
		if uri, err = d.Register("account", newAccount(), ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		if p == nil {
			p = proxyFor(t, uri, ProxyOptions{})
		}
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				if err := p.Call(t.Context(), "deposit", nil, "x", 1); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		calls.Wait()
		if round%2 == 0 {
			err = d.Close()
		} else {
			err = d.Shutdown(t.Context())
		}
		if err := errors.Join(err, within(t, served)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStaleWithoutPeek has connections that nobody can look at: the write fails, with no byte written, and the call goes to a new one.
func TestStaleWithoutPeek(t *testing.T) {
	t.Parallel()
	a, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	var conns []*plainConn
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, address)
		conns = append(conns, &plainConn{Conn: nc})
		return conns[len(conns)-1], err
	}
	p := proxyFor(t, d.URI("account"), ProxyOptions{Dial: dial})
	if err := p.Call(t.Context(), "deposit", nil, "x", 1); err != nil {
		t.Fatal(err)
	}
	conns[0].broken = true
	if err := p.Call(t.Context(), "deposit", nil, "x", 1); err != nil || len(conns) != 2 || a.balance["x"] != 2 {
		t.Errorf("got %v, %d connections, balance %d, want 2 and 2", err, len(conns), a.balance["x"])
	}
	conns[1].half = true
	err := p.Call(t.Context(), "deposit", nil, "x", 1)
	if e, ok := errors.AsType[*TransportError](err); !ok || !e.Written || e.Op != opSend || len(conns) != 2 {
		t.Errorf("after a part of the request: got %v, %d connections, want an error with Written", err, len(conns))
	}
}

// TestMethodIsNoLongerOneway has a server that is replaced, behind a connection that nobody can look at, by one whose method answers.
//
// spec: C6
func TestMethodIsNoLongerOneway(t *testing.T) {
	t.Parallel()
	var connects atomic.Int32
	uri := fakeServer(t, func(c *rawClient) {
		m, err := c.readMessage()
		if err != nil {
			return
		}
		oneway := Set{"m"}
		if connects.Add(1) > 1 {
			oneway = Set{}
		}
		meta := map[string]any{"methods": Set{"m"}, "oneway": oneway, "attrs": Set{}}
		c.send(header{typ: msgConnectOK, serializer: 4, seq: m.seq}, nil, c.value(4, map[string]any{"meta": meta}))
		if m, err = c.readMessage(); err == nil && m.flags&flagOneway == 0 {
			c.send(header{typ: msgResult, serializer: 4, seq: m.seq}, nil, c.value(4, "answer"))
		}
	})
	var conns []*plainConn
	p := proxyFor(t, uri, ProxyOptions{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, address)
		conns = append(conns, &plainConn{Conn: nc})
		return conns[len(conns)-1], err
	}})
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	conns[0].broken = true
	var out string
	if err := p.Call(t.Context(), "m", &out); err != nil || out != "answer" {
		t.Errorf("got %q, %v, want the answer of the new server", out, err)
	}
}

// plainConn hides that a connection is a socket, and fails on demand.
type plainConn struct {
	net.Conn
	broken, half bool
}

func (c *plainConn) Write(b []byte) (int, error) {
	switch {
	case c.broken:
		return 0, syscall.EPIPE
	case c.half:
		n, _ := c.Conn.Write(b[:len(b)/2])
		return n, syscall.ECONNRESET
	}
	return c.Conn.Write(b)
}

// spec: C13
func TestContextEndsCall(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{Plain: true})
	check := func(name string, err, want error) {
		t.Helper()
		e, ok := errors.AsType[*TransportError](err)
		if !ok || !e.Written || e.Op != opRead || !errors.Is(err, want) {
			t.Errorf("%s: got %+v (%v), want %v with Written", name, e, err, want)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.idle) != 0 || len(p.open) != 0 {
			t.Errorf("%s: %d idle connections of %d kept, want none", name, len(p.idle), len(p.open))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	check("deadline", p.Call(ctx, "block", nil, "x"), context.DeadlineExceeded)

	ctx, cancelCause := context.WithCancelCause(t.Context())
	<-a.entered
	done := start(func() error { return p.Call(ctx, "block", nil, "x") })
	within(t, a.entered)
	cause := errors.New("user pressed a key")
	cancelCause(cause)
	err := within(t, done)
	check("cancelled", err, context.Canceled)
	check("cancelled", err, cause)

	// A deadline of one call is no deadline of the next on that connection.
	ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := p.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	c := p.idle[0]
	p.mu.Unlock()
	if err := p.Ping(context.Background()); err != nil || c.bounded {
		t.Errorf("got %v, bounded %v", err, c.bounded)
	}
}

// TestContextEndsWithReply ends the context when the reply is there already: the call succeeded, but its connection is cut or will be.
func TestContextEndsWithReply(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	var afterRead func()
	p := proxyFor(t, d.URI("account"), ProxyOptions{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, address)
		return &hookConn{nc, &afterRead}, err
	}})
	if err := p.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	afterRead = cancel
	if err := p.Ping(ctx); err != nil {
		t.Errorf("got %v, want success", err)
	}
	if len(p.idle) != 0 {
		t.Error("the connection was kept")
	}
}

// hookConn calls a function after each read.
type hookConn struct {
	net.Conn
	afterRead *func()
}

func (c *hookConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if f := *c.afterRead; f != nil {
		f()
	}
	return n, err
}

// TestContextEndsConnect has a server that accepts and says nothing.
func TestContextEndsConnect(t *testing.T) {
	t.Parallel()
	p := proxyFor(t, fakeServer(t, func(c *rawClient) { io.Copy(io.Discard, c.nc) }), ProxyOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := p.Call(ctx, "m", nil)
	if e, ok := errors.AsType[*TransportError](err); !ok || e.Written || e.Op != opHandshake || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a deadline in the handshake, nothing written", err)
	}
	done := start(func() error { return p.Call(t.Context(), "m", nil) })
	eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.open) > 0
	})
	p.Close()
	if err := within(t, done); !errors.Is(err, ErrClosed) {
		t.Errorf("Close during a connect: got %v, want %v", err, ErrClosed)
	}
}

// TestConnectTimeout has servers that take their time, in virtual time.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	uri := URI{Protocol: "PYRO", Object: "account", Host: "memory", Port: 1}
	unheard := func(context.Context, string, string) (net.Conn, error) {
		client, _ := net.Pipe()
		return client, nil
	}
	unreachable := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	late := func(ctx context.Context, network, address string) (net.Conn, error) {
		<-time.After(2 * time.Second)
		return unheard(ctx, network, address)
	}
	for _, test := range []struct {
		name string
		opts ProxyOptions
		op   string
		want time.Duration
	}{
		{"no answer", ProxyOptions{Dial: unheard, ConnectTimeout: 3 * time.Second}, opHandshake, 3 * time.Second},
		{"no connection", ProxyOptions{Dial: unreachable, ConnectTimeout: 3 * time.Second}, "connect", 3 * time.Second},
		{"both together", ProxyOptions{Dial: late, ConnectTimeout: 3 * time.Second}, opHandshake, 3 * time.Second},
		{"no TLS", ProxyOptions{Dial: unheard, ConnectTimeout: 3 * time.Second, TLS: &tls.Config{ServerName: "x"}}, "connect", 3 * time.Second},
		{"default", ProxyOptions{Dial: unheard}, opHandshake, defaultConnectTimeout},
		{"none", ProxyOptions{Dial: unheard, ConnectTimeout: -1}, opHandshake, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := NewProxy(uri, test.opts)
				defer p.Close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				err := p.Call(ctx, "m", nil)
				e, ok := errors.AsType[*TransportError](err)
				if !ok || e.Written || e.Op != test.op || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != test.want {
					t.Errorf("got %v after %v, want a deadline in %q after %v", err, time.Since(began), test.op, test.want)
				}
				began = time.Now()
				err = p.Call(WithConnectTimeout(t.Context(), time.Minute), "m", nil)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
					t.Errorf("got %v after %v, want a deadline after the call's own %v", err, time.Since(began), time.Minute)
				}
			})
		})
	}
	t.Run("calls may take longer", func(t *testing.T) {
		t.Parallel()
		inBubble(t, DaemonOptions{}, func(t *testing.T, ln *pipeListener, a *account, uri URI) {
			p := NewProxy(uri, ProxyOptions{Dial: ln.dial, ConnectTimeout: time.Second})
			defer p.Close()
			time.AfterFunc(time.Minute, func() { a.release <- struct{}{} })
			if err := p.Call(t.Context(), "block", nil, "x"); err != nil {
				t.Error(err)
			}
		})
	})
}

// spec: C11
func TestProxyClose(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	done := start(func() error { return p.Call(context.Background(), "block", nil, "x") })
	within(t, a.entered)
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Fatal(err)
	}
	if err := within(t, done); !errors.Is(err, ErrClosed) {
		t.Errorf("call under way: got %v, want %v", err, ErrClosed)
	}
	if err := p.Call(t.Context(), "ping", nil); err != ErrClosed {
		t.Errorf("later call: got %v, want %v", err, ErrClosed)
	}
}

// spec: C12
func TestConcurrentCalls(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{Plain: true, MaxIdle: 3})
	var calls sync.WaitGroup
	for i := range 10 {
		calls.Go(func() {
			for j := range 50 {
				want := fmt.Sprintf("%d/%d", i, j)
				var got string
				if err := p.Call(context.Background(), "echo", &got, want); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	calls.Wait()
	// All of these run at the same time.
	for i := range 10 {
		calls.Go(func() {
			if err := p.Call(context.Background(), "block", nil, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	for range 10 {
		within(t, a.entered)
	}
	close(a.release)
	calls.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) != 3 || len(p.open) != 3 {
		t.Errorf("%d idle connections of %d, want 3 of 3", len(p.idle), len(p.open))
	}
}

// TestMaxConns: calls beyond the bound wait for a connection, for their context and for the end of the proxy.
func TestMaxConns(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{Plain: true, MaxConns: 2})
	var calls sync.WaitGroup
	call := func() {
		calls.Go(func() {
			if err := p.Call(context.Background(), "block", nil, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	call()
	call()
	within(t, a.entered)
	within(t, a.entered)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	err := p.Call(gone, "echo", nil, "too many")
	if e, ok := errors.AsType[*TransportError](err); !ok || e.Op != "wait for a connection" || e.Written || !errors.Is(err, context.Canceled) {
		t.Errorf("without a connection: got %v, want that it waited for a connection until its context ended", err)
	}
	call() // waits
	select {
	case <-a.entered:
		t.Error("a third call runs on two connections")
	default:
	}
	a.release <- struct{}{} // ends one of the two
	within(t, a.entered)    // the third has its connection
	close(a.release)
	calls.Wait()
	for range 10 { // nothing of the bound was lost on the way
		calls.Go(func() {
			if err := p.Call(context.Background(), "echo", nil, "y"); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	p.mu.Lock()
	open := len(p.open)
	p.mu.Unlock()
	if open != 2 || len(p.slots) != 0 {
		t.Errorf("%d connections open and %d taken, want 2 and 0", open, len(p.slots))
	}
}

func TestMaxConnsClose(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{MaxConns: 1})
	done := make(chan error, 2)
	for range 2 {
		go func() { done <- p.Call(context.Background(), "block", nil, "x") }()
	}
	within(t, a.entered)
	p.Close()
	for range 2 {
		if err := within(t, done); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
	}
}

// TestSequenceWraps makes more calls on a connection than there are numbers.
func TestSequenceWraps(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{Plain: true})
	if err := p.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.idle[0].seq = 65534
	for _, want := range []int{65535, 0, 1} {
		var info map[string]any
		if err := p.Call(t.Context(), "info", &info); err != nil || info["sequence"] != int64(want) {
			t.Errorf("got %v, %v, want %d", info["sequence"], err, want)
		}
	}
}

// spec: C4 C5
func TestLocalChecks(t *testing.T) {
	t.Parallel()
	a, d, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	ctx := t.Context()
	uri := p.URI()
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown method", p.Call(ctx, "nope", nil), fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute or method 'nope'", uri)},
		{"unknown oneway", p.CallOneway(ctx, "nope"), fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute or method 'nope'", uri)},
		{"attribute called", p.Call(ctx, "owner", nil), fmt.Sprintf("AttributeError: 'owner' of remote object '%s' is an attribute, not a method", uri)},
		{"pseudo method", p.Call(ctx, "__getattr__", nil, "owner"),
			fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute or method '__getattr__'", uri)},
		{"nested attribute", p.Attr(ctx, "owner.name", nil), fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute 'owner.name'", uri)},
		{"method of an attribute", p.Call(ctx, "owner.upper", nil),
			fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute or method 'owner.upper'", uri)},
		{"unknown attribute", p.Attr(ctx, "nope", nil), fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute 'nope'", uri)},
		{"method read", p.Attr(ctx, "echo", nil), fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute 'echo'", uri)},
		{"attribute written", p.SetAttr(ctx, "nope", 1), fmt.Sprintf("AttributeError: remote object '%s' has no exposed attribute 'nope'", uri)},
	} {
		if !isLocal(test.err, false) || test.err.Error() != test.want || !errors.Is(test.err, AttributeError) {
			t.Errorf("%s:\n got %v (%[2]T)\nwant %s", test.name, test.err, test.want)
		}
	}
	if err := p.Call(ctx, "echo", nil, make(chan int)); !isLocal(err, false) {
		t.Errorf("argument that cannot be sent: got %v (%[1]T)", err)
	}
	var n int
	if err := p.Call(ctx, "echo", &n, "text"); !isLocal(err, true) || err.Error() != `core: echo: result: got str "text", want int` {
		t.Errorf("result of another type: got %v (%[1]T)", err)
	}
	if err := p.Call(WithAnnotations(ctx, Annotations{"TOOLONG": nil}), "ping", nil); !isLocal(err, false) || !errors.Is(err, ProtocolError) {
		t.Errorf("bad annotation id: got %v (%[1]T)", err)
	}
	if p.mux.Load() == nil || len(p.open) != 1 {
		t.Errorf("%d connections, want 1: mistakes found here do not cost a connection", len(p.open))
	}
	bad := proxyFor(t, d.URI("account"), ProxyOptions{Serializer: "pickle"})
	if err := bad.Ping(ctx); !isLocal(err, false) || err.Error() != `core: unknown serializer "pickle"` {
		t.Errorf("got %v (%[1]T)", err)
	}
	mute := proxyFor(t, d.URI("account"), ProxyOptions{Handshake: make(chan int)})
	if err := mute.Ping(ctx); !isLocal(err, false) {
		t.Errorf("handshake that cannot be sent: got %v (%[1]T)", err)
	}
	if len(a.entered) != 0 {
		t.Error("something was run")
	}
}

// isLocal reports whether err is a LocalError, of a call that was executed or not.
func isLocal(err error, executed bool) bool {
	e, ok := err.(*LocalError)
	return ok && e.Executed == executed
}

// spec: C5
func TestMetadata(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	if s := p.state(); s.Methods != nil || s.Handshake != "hello" || s.URI != p.URI() {
		t.Errorf("state before the connect: got %+v", s)
	}
	meta, err := p.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantMethods := []string{"block", "deposit", "divmod", "echo", "fail", "fail_unsendable", "info", "panic", "ping", "sum", "unsendable"}
	if !slices.Equal(meta.Methods, wantMethods) || !slices.Equal(meta.Oneway, []string{"ping"}) || !slices.Equal(meta.Attrs, []string{"credit_limit", "owner"}) {
		t.Errorf("got %+v, want methods %v", meta, wantMethods)
	}
	if len(meta.Contracts) != 2 || meta.Contracts["echo"] != ContractReadOnly || meta.Contracts["ping"] != ContractIdempotent {
		t.Errorf("contracts: got %v", meta.Contracts)
	}
	meta.Methods[0], meta.Contracts["deposit"] = "changed", ContractReadOnly
	if again, err := p.Metadata(t.Context()); err != nil || again.Methods[0] != "block" || len(again.Contracts) != 2 {
		t.Errorf("the caller's copy is not a copy: got %+v, %v", again, err)
	}
	if s := p.state(); !slices.Equal(s.Methods, wantMethods) || !slices.Equal(s.Oneway, []string{"ping"}) {
		t.Errorf("state: got %+v", s)
	}
}

// spec: S8 S9 S10 O17
func TestCallContext(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{Serializer: "json"})
	ctx := WithAnnotations(t.Context(), Annotations{"AAAA": []byte("1"), "BBBB": []byte("2")})
	ctx = WithCorrelationID(ctx, [16]byte{0xab})
	ctx = WithAnnotations(ctx, Annotations{"BBBB": []byte("3")})
	var info struct {
		Object, Method, Serializer, Correlation, Peer string
		Annotations                                   map[string]string
	}
	if err := p.Call(ctx, "info", &info); err != nil {
		t.Fatal(err)
	}
	if info.Object != "account" || info.Method != "info" || info.Serializer != "json" || info.Correlation != fmt.Sprintf("%x", [16]byte{0xab}) ||
		len(info.Annotations) != 2 || info.Annotations["AAAA"] != "1" || info.Annotations["BBBB"] != "3" || !strings.HasPrefix(info.Peer, "127.0.0.1:") {
		t.Errorf("got %+v", info)
	}
	var reply Annotations
	if err := p.Call(WithReplyAnnotations(ctx, &reply), "info", nil); err != nil || len(reply) != 1 || string(reply["TEST"]) != "back" {
		t.Errorf("annotations of the reply: got %v, %v, want TEST", reply, err)
	}
	if err := p.Call(WithReplyAnnotations(ctx, &reply), "fail", nil, "ValueError", "x"); !errors.Is(err, ValueError) || len(reply) != 0 {
		t.Errorf("annotations of a reply without any: got %v, %v", reply, err)
	}
	if CallInfoFrom(t.Context()) != nil {
		t.Error("a call outside of a call")
	}
	AnnotateReply(t.Context(), "TEST", nil)
}

// spec: S9
func TestReplyAnnotations(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	c := connectRaw(t, d, "account")
	c.send(header{typ: msgInvoke, serializer: 4, seq: 1}, nil, c.request(Request{Object: "account", Method: "info", Args: []any{}, Kwargs: noKwargs}))
	if data, ok := c.receive().annotation("TEST"); !ok || string(data) != "back" {
		t.Errorf("got %q, %v, want back", data, ok)
	}
	call := &servedCall{Context: t.Context()}
	for _, id := range []string{"", "ABC", "ÄÄ", annotationStream, annotationContracts, annotationNotExecuted} {
		AnnotateReply(call, id, nil)
	}
	AnnotateReply(call, "GOOD", []byte("x"))
	if a := call.takeReply(); len(a) != 1 || string(a["GOOD"]) != "x" {
		t.Errorf("got %v, want GOOD alone", a)
	}
	AnnotateReply(call, "LATE", nil)
	if a := call.takeReply(); len(a) != 1 {
		t.Errorf("got %v after the reply", a)
	}
}

// streamServer answers "m" with a stream of the numbers 1 to 3 and notes what is called.
func streamServer(t testing.TB, called chan<- string) URI {
	return fakeServer(t, func(c *rawClient) {
		if !c.welcome() {
			return
		}
		next := 0
		for {
			m, err := c.readMessage()
			if err != nil {
				return
			}
			s, ok := SerializerByID(m.serializer)
			if !ok {
				return // PING
			}
			r, err := s.ParseRequest(m.payload)
			if err != nil {
				t.Error(err)
				return
			}
			called <- r.Object + "." + r.Method
			next++
			h := header{typ: msgResult, serializer: m.serializer, seq: m.seq}
			switch {
			case r.Method == "close_stream":
				if m.flags&flagOneway == 0 || r.Args[0] != "id-1" {
					t.Errorf("close_stream: flags %x, %v", m.flags, r.Args)
				}
			case r.Method == "m":
				next = 0
				h.flags = flagItemStream | flagException
				c.send(h, Annotations{annotationStream: []byte("id-1")}, c.value(m.serializer, ProtocolError.New("result of call is an iterator")))
			case next <= 3:
				c.send(h, nil, c.value(m.serializer, next))
			default:
				h.flags = flagException
				c.send(h, nil, c.value(m.serializer, &RemoteError{Class: StopIteration}))
			}
		}
	})
}

// spec: S1
func TestStream(t *testing.T) {
	t.Parallel()
	called := make(chan string, 100)
	p := proxyFor(t, streamServer(t, called), ProxyOptions{})
	ctx := t.Context()
	var s *Stream
	if err := p.Call(ctx, "m", &s); err != nil {
		t.Fatal(err)
	}
	var got []any
	for item, err := range s.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item)
	}
	if !slices.Equal(got, []any{int64(1), int64(2), int64(3)}) {
		t.Errorf("got %v, want 1 2 3", got)
	}
	if err := s.Next(ctx, nil); err != io.EOF {
		t.Errorf("after the end: got %v, want %v", err, io.EOF)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}

	// Into *any and *Stream, and closed before the end.
	var value any
	if err := p.Call(ctx, "m", &value); err != nil {
		t.Fatal(err)
	}
	for _, err := range value.(*Stream).All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	var inPlace Stream
	if err := p.Call(ctx, "m", &inPlace); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := inPlace.Next(ctx, &n); err != nil || n != 1 {
		t.Errorf("got %d, %v, want 1", n, err)
	}
	var text string
	if err := inPlace.Next(ctx, &text); err == nil {
		t.Error("an int was stored as a string")
	}
	if err := inPlace.Next(ctx, &n); err != nil || n != 3 {
		t.Errorf("after an item that did not fit: got %d, %v, want 3", n, err)
	}
	if err := errors.Join(inPlace.Close(ctx), inPlace.Close(ctx)); err != nil {
		t.Error(err)
	}
	if err := inPlace.Next(ctx, &n); err != ErrClosed {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}

	// A result that is not wanted, or not expected to be a stream, is closed.
	if err := p.Call(ctx, "m", nil); err != nil {
		t.Error(err)
	}
	if err := p.Call(ctx, "m", &n); err == nil || !strings.Contains(err.Error(), "result of m is a stream") {
		t.Errorf("got %v", err)
	}
	if len(p.idle) != 1 || len(p.open) != 1 {
		t.Errorf("%d idle connections of %d, want the one that was given back each time", len(p.idle), len(p.open))
	}
	if err := p.Ping(ctx); err == nil { // the script does not know PING, but all before it has been read now
		t.Error("got a pong")
	}
	closes := 0
	for range len(called) {
		if <-called == "Pyro.Daemon.close_stream" {
			closes++
		}
	}
	if closes != 4 {
		t.Errorf("%d streams closed, want 4", closes)
	}
}

// TestDroppedStream has a result that nobody wants, of a call that ends together with its context.  That the stream cannot be closed any
// more does not say that the call was not executed.
func TestDroppedStream(t *testing.T) {
	t.Parallel()
	var n int
	for _, test := range []struct {
		name string
		out  any
		want func(err error) bool
	}{
		{"no result wanted", nil, func(err error) bool { return err == nil }},
		{"another result wanted", &n, func(err error) bool { return isLocal(err, true) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var afterRead func()
			dial := func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, address)
				return &hookConn{nc, &afterRead}, err
			}
			p := proxyFor(t, streamServer(t, make(chan string, 100)), ProxyOptions{Dial: dial})
			if _, err := p.Metadata(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			afterRead = cancel
			if err := p.Call(ctx, "m", test.out); !test.want(err) {
				t.Errorf("got %v (%[1]T)", err)
			}
			if len(p.idle) != 0 || len(p.open) != 0 {
				t.Errorf("%d idle connections of %d kept, and the stream with them", len(p.idle), len(p.open))
			}
		})
	}
}

// TestStreamOfStreams has a server whose stream has a stream as its item: two of them would share a connection.
func TestStreamOfStreams(t *testing.T) {
	t.Parallel()
	uri := fakeServer(t, func(c *rawClient) {
		for ok := c.welcome(); ok; {
			m, err := c.readMessage()
			if ok = err == nil; ok {
				c.send(header{typ: msgResult, serializer: 4, seq: m.seq, flags: flagItemStream}, Annotations{annotationStream: []byte("id")}, c.value(4, nil))
			}
		}
	})
	p := proxyFor(t, uri, ProxyOptions{})
	var s *Stream
	if err := p.Call(t.Context(), "m", &s); err != nil {
		t.Fatal(err)
	}
	var item any
	if err := s.Next(t.Context(), &item); !errors.Is(err, ProtocolError) || item != nil {
		t.Errorf("got %v, %v, want a ProtocolError", item, err)
	}
	if len(p.open) != 0 {
		t.Error("the connection was kept")
	}
}

func TestStreamOfClosedProxy(t *testing.T) {
	t.Parallel()
	p := proxyFor(t, streamServer(t, make(chan string, 100)), ProxyOptions{})
	var s *Stream
	if err := p.Call(t.Context(), "m", &s); err != nil {
		t.Fatal(err)
	}
	p.Close()
	for range 2 {
		if err := s.Next(t.Context(), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
	}
}

// TestTLS has both ends of a connection encrypted, and a client that does not trust the server.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, pool := selfSigned(t)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDaemon(ln, DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, d)
	uri, err := d.Register("account", newAccount(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := proxyFor(t, uri, ProxyOptions{TLS: &tls.Config{RootCAs: pool}})
	for range 3 {
		var n int
		if err := p.Call(t.Context(), "sum", &n, 1, 2); err != nil || n != 3 {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if len(p.open) != 1 {
		t.Errorf("%d connections, want 1", len(p.open))
	}
	suspicious := proxyFor(t, uri, ProxyOptions{TLS: &tls.Config{}})
	err = suspicious.Ping(t.Context())
	if e, ok := errors.AsType[*TransportError](err); !ok || e.Written || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v, want a certificate error", err)
	}
	plain := proxyFor(t, uri, ProxyOptions{})
	err = plain.Ping(t.Context())
	if e, ok := errors.AsType[*TransportError](err); !ok || e.Written {
		t.Errorf("without TLS: got %v, want an error, nothing written", err)
	}
}

func selfSigned(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestAllSerializers makes a call and reads an attribute in each.
//
// spec: C17 Z1
func TestAllSerializers(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	for _, s := range serializers {
		t.Run(s.Name(), func(t *testing.T) {
			t.Parallel()
			p := proxyFor(t, d.URI("account"), ProxyOptions{Serializer: s.Name()})
			var n int
			if err := p.Call(t.Context(), "deposit", &n, s.Name(), Kwargs{"amount": 7}); err != nil || n != 7 {
				t.Errorf("deposit: got %d, %v", n, err)
			}
			var owner string
			if err := p.Attr(t.Context(), "owner", &owner); err != nil || owner != "irmen" {
				t.Errorf("owner: got %q, %v", owner, err)
			}
			err := p.Call(t.Context(), "divmod", nil, 1, 0)
			if e, ok := errors.AsType[*RemoteError](err); !ok || e.Class != "builtins.ZeroDivisionError" || len(e.Traceback) == 0 {
				t.Errorf("divmod: got %v", err)
			}
		})
	}
}

// TestProxyAsValue sends a proxy, which arrives as what it knew.
//
// spec: C11 Z6
func TestProxyAsValue(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	var fresh, known any
	if err := p.Call(t.Context(), "echo", &fresh, NewProxy(p.URI(), ProxyOptions{Serializer: "json"})); err != nil {
		t.Fatal(err)
	}
	if s, ok := fresh.(ProxyState); !ok || s.URI != p.URI() || s.Handshake != "hello" || s.Serializer != "json" || len(s.Methods) != 0 {
		t.Errorf("a proxy that was never used: got %+v", fresh)
	}
	if err := p.Call(t.Context(), "echo", &known, p); err != nil {
		t.Fatal(err)
	}
	if s, ok := known.(ProxyState); !ok || !slices.Contains(s.Methods, "echo") || !slices.Contains(s.Oneway, "ping") || len(s.Attrs) != 2 {
		t.Errorf("a proxy that is connected: got %+v", known)
	}
}
