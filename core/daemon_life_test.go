package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// start runs f beside the test and returns where its error will be.
func start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// spec: O20
func TestShutdown(t *testing.T) {
	t.Parallel()
	d, err := Listen("127.0.0.1:0", DaemonOptions{DrainTimeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	a := newAccount()
	uri, err := d.Register("account", a, accountOptions())
	if err != nil {
		t.Fatal(err)
	}
	served := start(func() error { return d.Serve(t.Context()) })
	idle := connectRaw(t, d, "account")
	late := connectRaw(t, d, "account")
	running := connectRaw(t, d, "account")
	invoke := header{typ: msgInvoke, serializer: 4, seq: 1}
	block := running.request(Request{Object: "account", Method: "block", Args: []any{"running"}, Kwargs: noKwargs})
	deposit := late.request(Request{Object: "account", Method: "deposit", Args: []any{"late", 1}, Kwargs: noKwargs})
	running.send(invoke, nil, block)
	within(t, a.entered)
	stopped := start(func() error { return d.Shutdown(t.Context()) })
	eventually(t, d.isLnClosed)

	// A request on its way is answered: the method did not run.
	refused := func(c *rawClient) {
		t.Helper()
		c.send(invoke, nil, deposit)
		m := c.receive()
		e, ok := c.parse(m).(*RemoteError)
		if _, notExecuted := m.annotation(annotationNotExecuted); !ok || e.Class != ConnectionClosedError || !notExecuted {
			t.Errorf("call while draining: got %v, PCNX %v, want ConnectionClosedError and PCNX", c.parse(m), notExecuted)
		}
		c.expectClosed()
	}
	refused(late)
	idle.expectClosed() // DrainTimeout is over
	if err := NewProxy(uri, ProxyOptions{}).Ping(t.Context()); err == nil {
		t.Error("a new client was let in")
	}
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned %v while a call was running", err)
	default:
	}
	close(a.release)
	if m := running.receive(); running.parse(m) != "running" {
		t.Errorf("the running call: got %v", running.parse(m))
	}
	refused(running) // its client has its own time to notice
	if err := within(t, stopped); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := within(t, served); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if a.balance["late"] != 0 {
		t.Error("the call answered as not executed was executed")
	}
}

// TestNotExecutedError is the client's side of draining.
func TestNotExecutedError(t *testing.T) {
	t.Parallel()
	_, d, p := serveAccount(t, DaemonOptions{DrainTimeout: time.Hour}, ProxyOptions{})
	if err := p.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.draining.Store(true)
	err := p.Call(t.Context(), "deposit", nil, "x", 1)
	e, ok := errors.AsType[*RemoteError](err)
	if !ok || !e.NotExecuted || !errors.Is(err, ConnectionClosedError) || !errors.Is(err, PyroError) {
		t.Errorf("got %v, want a ConnectionClosedError that says NotExecuted", err)
	}
	err = p.Call(t.Context(), "deposit", nil, "x", 1)
	if e, ok := errors.AsType[*TransportError](err); !ok || e.Written || !strings.HasSuffix(err.Error(), "rejected: server is shutting down") {
		t.Errorf("connect while draining: got %v, want a refusal, nothing written", err)
	}
}

func TestShutdownCutOff(t *testing.T) {
	t.Parallel()
	a, d, p := serveAccount(t, DaemonOptions{DrainTimeout: time.Millisecond}, ProxyOptions{})
	running := start(func() error { return p.Call(t.Context(), "block", nil, "x") })
	within(t, a.entered)
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := start(func() error { return d.Shutdown(ctx) })
	eventually(t, d.isLnClosed)
	cause := errors.New("enough")
	cancel(cause)
	if err := within(t, stopped); !errors.Is(err, cause) {
		t.Errorf("Shutdown: got %v, want %v", err, cause)
	}
	err := within(t, running)
	if e, ok := errors.AsType[*TransportError](err); !ok || !e.Written || e.Op != opRead {
		t.Errorf("the call that was cut off: got %v, want a TransportError with Written", err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Errorf("second Shutdown: %v", err)
	}
}

func TestCloseEndsMethods(t *testing.T) {
	t.Parallel()
	a, d, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	running := start(func() error { return p.Call(t.Context(), "block", nil, "x") })
	within(t, a.entered)
	if err := p.CallOneway(t.Context(), "block", "oneway"); err != nil {
		t.Fatal(err)
	}
	within(t, a.entered)
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	if err := within(t, running); err == nil {
		t.Error("the call went through")
	}
	within(t, d.served) // both methods have seen their contexts end
}

// spec: O18
func TestServe(t *testing.T) {
	t.Parallel()
	t.Run("ends with its context", func(t *testing.T) {
		t.Parallel()
		d, err := Listen("127.0.0.1:0", DaemonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		served := start(func() error { return d.Serve(ctx) })
		connectRaw(t, d, daemonID)
		cause := errors.New("signal")
		cancel(cause)
		if err := within(t, served); err != cause {
			t.Errorf("got %v, want %v", err, cause)
		}
		if err := d.Serve(t.Context()); err == nil {
			t.Error("a second Serve succeeded")
		}
	})
	t.Run("after Close", func(t *testing.T) {
		t.Parallel()
		d, err := Listen("127.0.0.1:0", DaemonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Shutdown(t.Context()), d.Close(), d.Serve(t.Context())); err != nil {
			t.Errorf("got %v, want nil", err)
		}
	})
	t.Run("listener breaks", func(t *testing.T) {
		t.Parallel()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewDaemon(ln, DaemonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		if err := d.Serve(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, net.ErrClosed)
		}
	})
}

// TestOnewayBound fills the daemon with oneway calls: the next one waits, and its connection with it.
func TestOnewayBound(t *testing.T) {
	t.Parallel()
	a, d, p := serveAccount(t, DaemonOptions{MaxOneway: 1}, ProxyOptions{})
	if err := p.CallOneway(t.Context(), "block", "first"); err != nil {
		t.Fatal(err)
	}
	within(t, a.entered)
	c := connectRaw(t, d, "account")
	c.send(header{typ: msgInvoke, serializer: 4, flags: flagOneway}, nil,
		c.request(Request{Object: "account", Method: "block", Args: []any{"second"}, Kwargs: noKwargs}))
	select {
	case name := <-a.entered:
		t.Fatalf("%s runs beside the first", name)
	default:
	}
	close(a.release)
	if name := within(t, a.entered); name != "second" {
		t.Errorf("got %s, want second", name)
	}
	c.expectOpen()
}

// meter notes how many calls run at once.
type meter struct{ now, most atomic.Int32 }

func (m *meter) Enter() {
	m.most.Store(max(m.most.Load(), m.now.Add(1)))
	for range 1000 {
		m.now.Load()
	}
	m.now.Add(-1)
}

// spec: O8
func TestSerial(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	m := new(meter)
	uri, err := d.Register("meter", m, ObjectOptions{Serial: true})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 50 {
				if err := p.Call(context.Background(), "enter", nil); err != nil {
					t.Error(err)
					return
				}
				if err := p.CallOneway(context.Background(), "enter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	calls.Wait()
	if n := m.most.Load(); n != 1 {
		t.Errorf("%d calls at once, want 1", n)
	}
}

// TestCircularCalls goes from A to B and back to A.
//
// spec: S7
func TestCircularCalls(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	var a, b *Proxy
	var ids []string
	hop := func(next **Proxy, method string) Method {
		return Method{Name: method, Func: func(ctx context.Context, _ []any) (any, error) {
			ids = append(ids, fmt.Sprintf("%x", CallInfoFrom(ctx).CorrelationID))
			if next == nil {
				return "end", nil
			}
			var v any
			err := (*next).Call(ctx, "second", &v)
			return v, err
		}}
	}
	for _, s := range []*Servant{
		{Class: "A", Methods: []Method{hop(&b, "first"), hop(nil, "third")}},
		{Class: "B", Methods: []Method{{Name: "second", Func: func(ctx context.Context, _ []any) (any, error) {
			ids = append(ids, fmt.Sprintf("%x", CallInfoFrom(ctx).CorrelationID))
			var v any
			err := a.Call(ctx, "third", &v)
			return v, err
		}}}},
	} {
		if _, err := d.Register(s.Class, s, ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	a, b = NewProxy(d.URI("A"), ProxyOptions{}), NewProxy(d.URI("B"), ProxyOptions{})
	defer a.Close()
	defer b.Close()
	var got string
	if err := a.Call(t.Context(), "first", &got); err != nil || got != "end" {
		t.Fatalf("got %q, %v", got, err)
	}
	if len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] {
		t.Errorf("correlation ids: got %v, want three equal ones", ids)
	}
	// The error of a call that a method made travels on, but that method has run.
	a.Call(WithCorrelationID(t.Context(), [16]byte{9}), "first", nil)
	if want := fmt.Sprintf("%x", [16]byte{9}); ids[3] != want || ids[5] != want {
		t.Errorf("correlation ids: got %v, want %s", ids[3:], want)
	}
	d.Unregister("A")
	err := b.Call(t.Context(), "second", nil)
	if e, ok := errors.AsType[*RemoteError](err); !ok || e.Class != DaemonError || e.NotExecuted {
		t.Errorf("got %#v, want a DaemonError without NotExecuted", err)
	}
	err = a.Call(t.Context(), "third", nil)
	if e, ok := errors.AsType[*RemoteError](err); !ok || e.Class != DaemonError || !e.NotExecuted {
		t.Errorf("got %#v, want a DaemonError with NotExecuted", err)
	}
}

// TestDaemonObject calls what every daemon offers, as proxies do.
//
// spec: A6 O11
func TestDaemonObject(t *testing.T) {
	t.Parallel()
	_, d, _ := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	p := NewProxy(d.URI(daemonID), ProxyOptions{})
	defer p.Close()
	ctx := t.Context()
	meta, err := p.Metadata(ctx)
	if want := []string{"close_stream", "get_metadata", "get_next_stream_item", "info", "ping", "registered"}; err != nil || !slices.Equal(meta.Methods, want) ||
		len(meta.Attrs) != 0 || len(meta.Oneway) != 0 {
		t.Errorf("metadata: got %+v, %v, want methods %v", meta, err, want)
	}
	var ids []string
	if err := p.Call(ctx, "registered", &ids); err != nil || !slices.Equal(ids, []string{daemonID, "account"}) {
		t.Errorf("registered: got %q, %v", ids, err)
	}
	var info string
	if err := p.Call(ctx, "info", &info); err != nil || !strings.HasPrefix(info, "Pyro.Daemon bound on 127.0.0.1:") || strings.Contains(info, "\n") {
		t.Errorf("info: got %q, %v", info, err)
	}
	var object map[string][]string
	if err := p.Call(ctx, "get_metadata", &object, "account"); err != nil || !slices.Equal(object["attrs"], []string{"credit_limit", "owner"}) ||
		!slices.Equal(object["oneway"], []string{"ping"}) {
		t.Errorf("get_metadata: got %v, %v", object, err)
	}
	if err := p.Call(ctx, "get_metadata", nil, "nobody"); !errors.Is(err, DaemonError) {
		t.Errorf("get_metadata of an unknown object: got %v", err)
	}
	err = p.Call(ctx, "get_next_stream_item", nil, "x")
	if e, ok := errors.AsType[*RemoteError](err); !ok || e.Class != PyroError || e.Text() != "item stream terminated" {
		t.Errorf("get_next_stream_item: got %v", err)
	}
	if err := errors.Join(p.Call(ctx, "close_stream", nil, Kwargs{"streamId": "x"}), p.Call(ctx, "ping", nil)); err != nil {
		t.Error(err)
	}
	d.Unregister(daemonID)
	if err := p.Call(ctx, "ping", nil); err != nil {
		t.Errorf("after Unregister of Pyro.Daemon: %v", err)
	}
}

// spec: A5 A6 O3 O5
func TestRegister(t *testing.T) {
	t.Parallel()
	d, err := Listen("127.0.0.1:0", DaemonOptions{Advertise: "bank.example:7"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	uri, err := d.Register("", newAccount(), ObjectOptions{})
	if err != nil || len(uri.Object) != 36 || !strings.HasPrefix(uri.String(), "PYRO:obj_") || uri.Host != "bank.example" || uri.Port != 7 {
		t.Errorf("got %v, %v", uri, err)
	}
	for _, id := range []string{daemonID, uri.Object, "a b", "a@b"} {
		if _, err := d.Register(id, newAccount(), ObjectOptions{}); !errors.Is(err, DaemonError) {
			t.Errorf("id %q: got %v, want a DaemonError", id, err)
		}
	}
	d.Unregister(uri.Object)
	d.Unregister("nobody")
	if _, err := d.Register(uri.Object, newAccount(), ObjectOptions{}); err != nil {
		t.Errorf("the id of an object that was unregistered: %v", err)
	}
}

// spec: O12 O14 X5
func TestAdvertise(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		listen, advertise string
		want              string // "PORT" is the listener's; empty: an error
	}{
		{"127.0.0.1:0", "", "PYRO:o@127.0.0.1:PORT"},
		{"127.0.0.1:0", "bank", "PYRO:o@bank:PORT"},
		{"127.0.0.1:0", "bank:0", "PYRO:o@bank:PORT"},
		{"127.0.0.1:0", "bank:7000", "PYRO:o@bank:7000"},
		{"127.0.0.1:0", "::1", "PYRO:o@[::1]:PORT"},
		{"127.0.0.1:0", "[::1]:7000", "PYRO:o@[::1]:7000"},
		{"0.0.0.0:0", "bank", "PYRO:o@bank:PORT"},
		{listen: "0.0.0.0:0"},
		{listen: ":0"},
		{listen: "127.0.0.1:0", advertise: "0.0.0.0:7000"},
		{listen: "127.0.0.1:0", advertise: "[::]:7000"},
		{listen: "127.0.0.1:0", advertise: ":7000"},
		{listen: "127.0.0.1:0", advertise: "bank:x"},
		{listen: "127.0.0.1:0", advertise: "bank:70000"},
		{listen: "127.0.0.1:0", advertise: "o@bank"},
	} {
		d, err := Listen(test.listen, DaemonOptions{Advertise: test.advertise})
		if test.want == "" {
			if err == nil {
				d.Close()
				t.Errorf("%+v: got %v, want an error", test, d.URI("o"))
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		_, port, _ := net.SplitHostPort(d.Addr().String())
		if want := strings.Replace(test.want, "PORT", port, 1); d.URI("o").String() != want {
			t.Errorf("%+v: got %v, want %v", test, d.URI("o"), want)
		}
		d.Close()
	}
	if _, err := Listen("127.0.0.1:nonsense", DaemonOptions{}); err == nil {
		t.Error("bad listen address: no error")
	}
}

// spec: O13
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDaemon(ln, DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, d)
	uri, err := d.Register("account", newAccount(), ObjectOptions{})
	if err != nil || uri.String() != "PYRO:account@./u:"+path {
		t.Fatalf("got %v, %v", uri, err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	for range 2 {
		var n int
		if err := p.Call(t.Context(), "sum", &n, 1, 2); err != nil || n != 3 {
			t.Errorf("got %d, %v", n, err)
		}
	}
}

// TestLogger gets what no caller sees.
func TestLogger(t *testing.T) {
	t.Parallel()
	records := make(logRecords, 100)
	_, d, p := serveAccount(t, DaemonOptions{Logger: slog.New(records)}, ProxyOptions{})
	if err := p.CallOneway(t.Context(), "fail", "", "lost"); err != nil {
		t.Fatal(err)
	}
	if got := within(t, records); got != "oneway call failed" {
		t.Errorf("got %q", got)
	}
	p.Call(t.Context(), "panic", nil, "oops")
	if got := within(t, records); got != "panic in a method" {
		t.Errorf("got %q", got)
	}
	p.CallOneway(t.Context(), "panic", "oops")
	if got := within(t, records); got != "panic in a method" {
		t.Errorf("oneway: got %q", got)
	}
	c := connectRaw(t, d, "account")
	c.sendBytes([]byte("GET / "))
	if got := within(t, records); got != "bad message" {
		t.Errorf("got %q", got)
	}
}

type logRecords chan string

func (r logRecords) Enabled(context.Context, slog.Level) bool { return true }
func (r logRecords) Handle(_ context.Context, rec slog.Record) error {
	r <- rec.Message
	return nil
}
func (r logRecords) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r logRecords) WithGroup(string) slog.Handler      { return r }

// TestPanicTraceback shows where a method panicked.
//
// spec: R3
func TestPanicTraceback(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	err := p.Call(t.Context(), "panic", nil, "oops")
	e, ok := errors.AsType[*RemoteError](err)
	if !ok {
		t.Fatalf("got %v", err)
	}
	text := strings.Join(e.Traceback, "")
	if !strings.HasPrefix(text, "Traceback (most recent call last):\n") || !strings.HasSuffix(text, "RuntimeError: panic: oops\n") ||
		!strings.Contains(text, "daemon_test.go") || !strings.Contains(text, "(*account).Panic\n") {
		t.Errorf("got\n%s", text)
	}
}

// A client that is the only one to call is polled for its next call; others are served all the same, and its end is noticed.
func TestClientAlone(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{}, 2)
	d := serve(t, DaemonOptions{ClientGone: func(ClientInfo) { gone <- struct{}{} }})
	uri, err := d.Register("o", &account{}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	call := func(p *Proxy, n int) {
		t.Helper()
		for i := range n {
			var got int
			if err := p.Call(t.Context(), "echo", &got, i); err != nil || got != i {
				t.Fatalf("call %d: got %d, %v", i, got, err)
			}
		}
	}
	p, q := NewProxy(uri, ProxyOptions{Plain: true}), NewProxy(uri, ProxyOptions{Plain: true})
	defer p.Close()
	call(p, 3*aloneCalls)
	if d.latest.Load() == nil {
		t.Error("the only client is not known as such")
	}
	call(q, aloneCalls)
	call(p, 1)
	q.Close()
	within(t, gone)
	call(p, aloneCalls)
	p.Close()
	within(t, gone)
	eventually(t, func() bool { return d.latest.Load() == nil })
}
