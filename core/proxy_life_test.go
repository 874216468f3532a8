package core

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// moving is a resolver whose name moves.
type moving struct {
	to    atomic.Pointer[URI]
	asked atomic.Int32
}

func (m *moving) Resolve(context.Context, URI) (URI, error) {
	m.asked.Add(1)
	if to := m.to.Load(); to != nil {
		return *to, nil
	}
	return URI{}, NamingError.New("unknown name: account")
}

// modes are the ways in which a proxy speaks with a daemon of this project.
var modes = map[string]ProxyOptions{"many calls at once": {}, "one call at a time": {Plain: true}}

// spec: C10 C11 A2
func TestBindAndRelease(t *testing.T) {
	t.Parallel()
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, _, p1 := serveAccount(t, DaemonOptions{}, ProxyOptions{})
			second, _, p2 := serveAccount(t, DaemonOptions{}, ProxyOptions{})
			first.Owner, second.Owner = "first", "second"
			uri1, uri2 := p1.URI(), p2.URI()
			name := URI{Protocol: "PYRONAME", Object: "account"}
			names := new(moving)
			opts.Resolver = names
			p := proxyFor(t, name, opts)
			owner := func(p *Proxy) string {
				t.Helper()
				var owner string
				if err := p.Attr(t.Context(), "owner", &owner); err != nil {
					t.Fatal(err)
				}
				return owner
			}
			if err := p.Bind(t.Context()); !errors.Is(err, NamingError) || p.URI() != name {
				t.Errorf("bind to nothing: got %v, %v", p.URI(), err)
			}
			gone := URI{Protocol: "PYRO", Object: "account", Host: "127.0.0.1", Port: 1}
			names.to.Store(&gone)
			if err := p.Bind(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) || p.URI() != name {
				t.Errorf("bind to nobody: got %v, %v", p.URI(), err)
			}
			names.to.Store(&uri1)
			if got := owner(p); got != "first" {
				t.Errorf("got %s", got)
			}
			names.to.Store(&uri2)
			if got := owner(p); got != "first" {
				t.Errorf("on the connection that there is: got %s", got)
			}
			p.Release()
			if got := owner(p); got != "second" {
				t.Errorf("after Release: got %s", got)
			}
			if err := p.Bind(t.Context()); err != nil || p.URI() != uri2 {
				t.Errorf("bind: got %v, %v", p.URI(), err)
			}
			names.to.Store(&uri1)
			asked := names.asked.Load()
			p.Release()
			if err := p.Bind(t.Context()); err != nil || p.URI() != uri2 || owner(p) != "second" || owner(p.Copy()) != "second" {
				t.Errorf("bound, bound again, copied: got %v, %v", p.URI(), err)
			}
			if again := names.asked.Load(); again != asked {
				t.Errorf("resolved %d times after it was bound", again-asked)
			}
			c := proxyFor(t, name, opts).Copy()
			defer c.Close()
			if c.URI() != name || owner(c) != "first" {
				t.Errorf("copy of one that is not bound: goes to %v", c.URI())
			}
			p.Close()
			p.Release()
			if err := p.Bind(t.Context()); !errors.Is(err, ErrClosed) || p.URI() != uri2 {
				t.Errorf("closed: got %v, %v", p.URI(), err)
			}
		})
	}
}

// TestReleaseDuringCall leaves a call under way alone, and does not keep its connection.
func TestReleaseDuringCall(t *testing.T) {
	t.Parallel()
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{}, 10)
			opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, address)
				return &noticedConn{Conn: nc, closed: closed}, err
			}
			a, _, p := serveAccount(t, DaemonOptions{}, opts)
			done := make(chan error, 1)
			go func() { done <- p.Call(t.Context(), "block", nil, "x") }()
			within(t, a.entered)
			p.Release()
			if err := p.Call(t.Context(), "echo", nil, 1); err != nil {
				t.Errorf("a call beside: %v", err)
			}
			close(a.release)
			if err := within(t, done); err != nil {
				t.Errorf("call under way: %v", err)
			}
			within(t, closed)
		})
	}
}

// noticedConn tells when it is closed.
type noticedConn struct {
	net.Conn
	closed chan<- struct{}
}

func (c *noticedConn) Close() error {
	c.closed <- struct{}{}
	return c.Conn.Close()
}

// spec: C9
func TestReconnect(t *testing.T) {
	t.Parallel()
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				refusals := 0
				d, err := NewDaemon(newPipeListener(), DaemonOptions{Advertise: "pipe"})
				if err != nil {
					t.Fatal(err)
				}
				uri, err := d.Register("account", newAccount(), accountOptions())
				if err != nil {
					t.Fatal(err)
				}
				run(t, d)
				opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
					if refusals--; refusals >= 0 {
						return nil, syscall.ECONNREFUSED
					}
					return d.ln.(*pipeListener).dial(ctx, network, address)
				}
				p := NewProxy(uri, opts)
				defer p.Close()
				if err := p.Call(t.Context(), "echo", nil, 1); err != nil {
					t.Fatal(err)
				}
				refusals = 10
				start := time.Now()
				if err := p.Reconnect(t.Context()); err != nil || refusals != -1 {
					t.Errorf("got %v, %d refusals left", err, refusals)
				}
				want := 50 + 100 + 200 + 400 + 800 + 1600 + 4*2000 // pauses
				if took := time.Since(start); took != time.Duration(want)*time.Millisecond {
					t.Errorf("took %v, want %d ms", took, want)
				}
				refusals = 1000
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := p.Reconnect(ctx); !errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() == nil {
					t.Errorf("nobody there: got %v", err)
				}
				refusals = 0
				p.Close()
				if err := p.Reconnect(t.Context()); !errors.Is(err, ErrClosed) {
					t.Errorf("closed: got %v", err)
				}
				wrong := NewProxy(uri, ProxyOptions{Serializer: "pickle"})
				defer wrong.Close()
				if _, ok := errors.AsType[*LocalError](wrong.Reconnect(t.Context())); !ok {
					t.Error("unknown serializer: tried again")
				}
			})
		})
	}
}

// spec: C11 C14
func TestProxyOfState(t *testing.T) {
	t.Parallel()
	handshakes := make(chan any, 10)
	_, _, p := serveAccount(t, DaemonOptions{ValidateHandshake: func(_ context.Context, h any) (any, error) {
		handshakes <- h
		return h, nil
	}}, ProxyOptions{Handshake: "mine", Serializer: "json"})
	var got *Proxy
	if err := p.Call(t.Context(), "echo", &got, p); err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	if got == p || got.URI() != p.URI() || got.opts.Serializer != "json" {
		t.Errorf("got %v with %s", got.URI(), got.opts.Serializer)
	}
	if state := got.state(); !slices.Contains(state.Methods, "echo") || state.Handshake != "mine" {
		t.Errorf("passed on before it was used: got %+v", state)
	}
	if err := got.Call(t.Context(), "echo", nil, 1); err != nil {
		t.Error(err)
	}
	<-handshakes
	if h := <-handshakes; h != "mine" {
		t.Errorf("handshake: got %v", h)
	}

	for name, value := range map[string]any{"uri": p.URI(), "text": p.URI().String()} {
		var q *Proxy
		if err := Convert(&q, value); err != nil || q.URI() != p.URI() {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, out := range map[string]any{"a dict": new(*Proxy), "into no pointer": (*Proxy)(&Proxy{})} {
		var value any = map[string]any{"uri": "x"}
		if name != "a dict" {
			value = p.state()
		}
		if err := Convert(out, value); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	var q *Proxy
	if err := Convert(&q, "PYRO:nowhere"); !errors.Is(err, PyroError) || q != nil {
		t.Errorf("no uri: got %v, %v", q, err)
	}
	if err := Convert(&q, nil); err != nil || q != nil {
		t.Errorf("None: got %v, %v", q, err)
	}

	state := p.state()
	state.Serializer = "cloudpickle"
	own := state.Proxy(ProxyOptions{Handshake: "own"})
	defer own.Close()
	if own.opts.Serializer != "" || own.opts.Handshake != "own" {
		t.Errorf("got %+v", own.opts)
	}
}

// spec: C18
func TestRaw(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]ProxyOptions{"json": {Serializer: "json"}, "msgpack": {}, "plain": {Plain: true}} {
		_, _, p := serveAccount(t, DaemonOptions{}, opts)
		var raw Raw
		if err := p.Call(t.Context(), "echo", &raw, []any{1, "x"}); err != nil {
			t.Fatal(err)
		}
		s, ok := SerializerByName(raw.Serializer)
		if !ok || opts.Serializer != "" && raw.Serializer != opts.Serializer {
			t.Fatalf("%s: got %q", name, raw.Serializer)
		}
		if want, _ := s.AppendValue(nil, []any{1, "x"}); string(raw.Data) != string(want) {
			t.Errorf("%s: got %q, want %q", name, raw.Data, want)
		}
		kept := string(raw.Data)
		if err := p.Call(t.Context(), "echo", nil, "something else"); err != nil || string(raw.Data) != kept {
			t.Errorf("%s: %v, %q became %q", name, err, kept, raw.Data)
		}
		if err := p.Call(t.Context(), "fail", &raw, "ValueError", "x"); !errors.Is(err, ValueError) || string(raw.Data) != kept {
			t.Errorf("%s: exception: got %v, %q", name, err, raw.Data)
		}
	}
}

// spec: R6 C13
func TestTransportErrorClasses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		op   string
		err  error
		want ExceptionClass
	}{
		{opRead, io.EOF, ConnectionClosedError},
		{opSend, syscall.EPIPE, ConnectionClosedError},
		{opRead, context.DeadlineExceeded, TimeoutError},
		{opRead, fmt.Errorf("%w: %w", context.DeadlineExceeded, errors.New("cause")), TimeoutError},
		{opRead, context.Canceled, CommunicationError},
		{opRead, protocolError("x"), CommunicationError},
		{opConnect, syscall.ECONNREFUSED, CommunicationError},
		{opConnect, context.DeadlineExceeded, TimeoutError},
		{opHandshake, errConnectTimeout, TimeoutError},
		{opHandshake, io.EOF, CommunicationError},
	} {
		err := fmt.Errorf("wrapped: %w", &TransportError{Endpoint: "h:1", Op: test.op, Err: test.err})
		for _, class := range []ExceptionClass{CommunicationError, TimeoutError, ConnectionClosedError, NamingError, PyroError} {
			if got, want := errors.Is(err, class), test.want.Is(class); got != want {
				t.Errorf("%v: is %s: got %v, want %v", err, class, got, want)
			}
		}
	}
	unknown := &TransportError{Endpoint: "PYRONAME:x", Op: opResolve, Err: NamingError.New("unknown name: x")}
	if errors.Is(unknown, CommunicationError) || !errors.Is(unknown, NamingError) {
		t.Error("an unknown name is no failure of communication")
	}
}

// givenPair is a proxy on a connection and the other end, which a script answers.
func givenPair(t *testing.T, opts ProxyOptions, script func(c *rawClient)) (p *Proxy, own net.Conn) {
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		script(&rawClient{t: t, nc: b, wire: newWire(b, 1<<20)})
	}()
	p = NewProxyOnConn(a, "thing", opts)
	t.Cleanup(func() {
		p.Close()
		a.Close()
		b.Close()
		<-done
	})
	return p, a
}

// answerRequests answers requests on a connection without a handshake, as many as there are, with their methods.
func answerRequests(t *testing.T, c *rawClient) {
	for {
		m, err := c.readMessage()
		if err != nil {
			return
		}
		s, _ := SerializerByID(m.serializer)
		r, err := s.ParseRequest(m.payload)
		if err != nil || m.typ != msgInvoke {
			t.Errorf("got type %d, %v", m.typ, err)
			return
		}
		var answer any = r.Object + " " + r.Method
		if r.Method == "get_metadata" {
			if r.Object != daemonID || r.Args[0] != "thing" {
				t.Errorf("got %v, want Pyro.Daemon's metadata of thing", r)
			}
			answer = map[string]any{"methods": Set{"m", "bye"}, "oneway": Set{}, "attrs": Set{"a"}}
		}
		if r.Method == "bye" {
			c.nc.Close()
			return
		}
		c.send(header{typ: msgResult, serializer: m.serializer, seq: m.seq}, nil, c.value(m.serializer, answer))
	}
}

// spec: O19
func TestProxyOnConn(t *testing.T) {
	t.Parallel()
	for _, serializer := range []string{"", "msgpack", "json"} {
		p, _ := givenPair(t, ProxyOptions{Serializer: serializer}, func(c *rawClient) { answerRequests(t, c) })
		if got := p.URI().String(); got != "PYRO:thing@<<connected-socket>>:0" {
			t.Errorf("got %s", got)
		}
		var got string
		for range 3 {
			if err := p.Call(t.Context(), "m", &got); err != nil || got != "thing m" {
				t.Errorf("%s: got %q, %v", serializer, got, err)
			}
		}
		if err := p.Call(t.Context(), "nope", nil); !errors.Is(err, AttributeError) {
			t.Errorf("got %v", err)
		}
		if err := p.Attr(t.Context(), "a", &got); err != nil || got != "thing __getattr__" {
			t.Errorf("got %q, %v", got, err)
		}
		if results, err := collected(t.Context(), p.Batch()); len(results) != 0 || err == nil {
			t.Errorf("batch: got %v, %v, want an error about the script's answer", results, err)
		}
		if err := p.Call(t.Context(), "bye", nil); !errors.Is(err, ConnectionClosedError) {
			t.Errorf("got %v", err)
		}
		if err := p.Call(t.Context(), "m", nil); !errors.Is(err, errUsedUp) || OutcomeOf(err) != CallNotExecuted {
			t.Errorf("afterwards: got %v", err)
		}
		if err := p.Reconnect(t.Context()); !errors.Is(err, errUsedUp) {
			t.Errorf("reconnect: got %v", err)
		}
	}
}

// TestProxyOnConnFails is what goes wrong before the first call.
func TestProxyOnConnFails(t *testing.T) {
	t.Parallel()
	reply := func(flags uint16, v any) func(c *rawClient) {
		return func(c *rawClient) {
			for m, err := c.readMessage(); err == nil; m, err = c.readMessage() {
				c.send(header{typ: msgResult, serializer: m.serializer, seq: m.seq, flags: flags}, nil, c.value(m.serializer, v))
			}
		}
	}
	for _, test := range []struct {
		name   string
		script func(c *rawClient)
		want   error
		text   string
	}{
		{"unknown object", reply(flagException, DaemonError.New("unknown object")), DaemonError, "unknown object"},
		{"no metadata", reply(0, 5), ProtocolError, "metadata is int"},
		{"nothing exposed", reply(0, map[string]any{"methods": Set{}, "oneway": Set{}, "attrs": Set{}}), PyroError, "doesn't expose any methods"},
		{"hangs up", func(c *rawClient) { c.readMessage(); c.nc.Close() }, io.EOF, ""},
	} {
		p, _ := givenPair(t, ProxyOptions{}, test.script)
		err := p.Call(t.Context(), "m", nil)
		e, ok := errors.AsType[*TransportError](err)
		if !ok || e.Written || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	p, _ := givenPair(t, ProxyOptions{Serializer: "pickle"}, func(*rawClient) {})
	if _, ok := errors.AsType[*LocalError](p.Call(t.Context(), "m", nil)); !ok {
		t.Error("unknown serializer: no LocalError")
	}
}

// TestProxyOnConnClose closes while a call waits: for the metadata, or for its own reply.
func TestProxyOnConnClose(t *testing.T) {
	t.Parallel()
	for name, answered := range map[string]int{"metadata": 0, "reply": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan struct{})
			p, own := givenPair(t, ProxyOptions{}, func(c *rawClient) {
				for range answered {
					m := c.receive()
					meta := map[string]any{"methods": Set{"m"}, "oneway": Set{}, "attrs": Set{}}
					c.send(header{typ: msgResult, serializer: m.serializer, seq: m.seq}, nil, c.value(m.serializer, meta))
				}
				c.receive()
				close(arrived)
			})
			done := make(chan error, 1)
			go func() { done <- p.Call(t.Context(), "m", nil) }()
			within(t, arrived)
			p.Close()
			if err := within(t, done); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
			if err := p.Call(t.Context(), "m", nil); !errors.Is(err, ErrClosed) {
				t.Errorf("closed: got %v", err)
			}
			if err := own.SetDeadline(time.Time{}); err != nil {
				t.Errorf("the connection was closed: %v", err)
			}
		})
	}
}

// TestCloseAfterRelease ends calls that were under way when their connection was released.
func TestCloseAfterRelease(t *testing.T) {
	t.Parallel()
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, _, p := serveAccount(t, DaemonOptions{}, opts)
			done := make(chan error, 1)
			go func() { done <- p.Call(t.Context(), "block", nil, "x") }()
			within(t, a.entered)
			p.Release()
			p.Close()
			if err := within(t, done); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
	}
}

// TestReleaseAfterOneway loses no call that is not waited for, and closes all connections.
func TestReleaseAfterOneway(t *testing.T) {
	t.Parallel()
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan struct{}, 100)
			opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, address)
				return &noticedConn{Conn: nc, closed: closed}, err
			}
			a, _, p := serveAccount(t, DaemonOptions{}, opts)
			for range 50 {
				if err := p.CallOneway(t.Context(), "block", "x"); err != nil {
					t.Fatal(err)
				}
				p.Release()
			}
			for range 50 {
				within(t, a.entered)
				within(t, closed)
			}
			close(a.release)
		})
	}
}

// TestReleaseOfStuckConnection does not wait for a peer that does not read.
func TestReleaseOfStuckConnection(t *testing.T) {
	t.Parallel()
	for name, opts := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
			stuck := make(chan struct{})
			first := true
			opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				nc, err := new(net.Dialer).DialContext(ctx, network, address)
				if err == nil && first {
					first = false
					return &stuckConn{Conn: nc, stuck: stuck, closed: make(chan struct{})}, nil
				}
				return nc, err
			}
			q := proxyFor(t, p.URI(), opts)
			done := make(chan error, 1)
			go func() { done <- q.CallOneway(t.Context(), "echo", strings.Repeat("x", 1<<20)) }()
			within(t, stuck)
			if err := q.Reconnect(t.Context()); err != nil {
				t.Error(err)
			}
			if err := q.Call(t.Context(), "echo", nil, 1); err != nil {
				t.Error(err)
			}
			q.Close()
			if err := within(t, done); err == nil {
				t.Error("the call that was stuck: no error")
			}
		})
	}
}

// stuckConn takes the handshake, and nothing more.
type stuckConn struct {
	net.Conn
	writes int
	stuck  chan<- struct{}
	closed chan struct{}
	once   sync.Once
}

func (c *stuckConn) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 1 {
		return c.Conn.Write(b)
	}
	if c.writes == 2 {
		close(c.stuck)
	}
	<-c.closed
	return 0, net.ErrClosed
}

func (c *stuckConn) SetWriteDeadline(d time.Time) error {
	if !d.IsZero() {
		c.once.Do(func() { close(c.closed) })
	}
	return c.Conn.SetWriteDeadline(d)
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
