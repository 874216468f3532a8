package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is an observer that keeps all it is told.
type recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each event
	asked   map[string]int
	calls   []observed
	conns   map[ConnEvent]int
}

type observed struct {
	object, method string
	Observation
}

func newRecorder() *recorder {
	return &recorder{changed: make(chan struct{}), asked: map[string]int{}, conns: map[ConnEvent]int{}}
}

type recordedMethod struct {
	r              *recorder
	object, method string
}

func (r *recorder) Method(object, method string) CallObserver {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[object+"."+method]++
	return recordedMethod{r, object, method}
}

func (m recordedMethod) ObserveCall(o Observation) {
	m.r.change(func() { m.r.calls = append(m.r.calls, observed{m.object, m.method, o}) })
}

func (r *recorder) ObserveConn(e ConnEvent) { r.change(func() { r.conns[e]++ }) }

func (r *recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

// await returns when is reports true of the recorder, which is locked meanwhile.
func (r *recorder) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		ok, changed := is(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("%s: calls %+v, connections %v", what, r.calls, r.conns)
		}
	}
}

// call waits for the call of that number, counted from 1, and returns it.
func (r *recorder) call(t *testing.T, n int) observed {
	t.Helper()
	r.await(t, fmt.Sprintf("call %d", n), func() bool { return len(r.calls) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[n-1]
}

func observedServant() *Servant {
	none := func(context.Context, []any) (any, error) { return nil, nil }
	return &Servant{Class: "Bank", Methods: []Method{
		{Name: "get", Func: none},
		{Name: "fail", Func: func(context.Context, []any) (any, error) { return nil, ValueError.New("no") }},
		{Name: "panic", Func: func(context.Context, []any) (any, error) { panic("bug") }},
		{Name: "later", Oneway: true, Func: none},
		{Name: "later_fails", Oneway: true, Func: func(context.Context, []any) (any, error) { return nil, errors.New("no") }},
	}, Attributes: []Attribute{{
		Name: "rate", Read: func(context.Context) (any, error) { return 1, nil },
		Write: func(context.Context, any) error { return nil },
	}}}
}

func TestCallsAreObserved(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tests := []struct {
		name           string
		call           func(p *Proxy) error
		method         string // as the server is told
		server, client CallOutcome
	}{
		{"result", func(p *Proxy) error { return p.Call(ctx, "get", nil) }, "get", CallOK, CallOK},
		{"exception", func(p *Proxy) error { return p.Call(ctx, "fail", nil) }, "fail", CallException, CallException},
		{"panic", func(p *Proxy) error { return p.Call(ctx, "panic", nil) }, "panic", CallException, CallException},
		{"arguments", func(p *Proxy) error { return p.Call(ctx, "get", nil, 1, 2) }, "get", CallException, CallException},
		{"oneway", func(p *Proxy) error { return p.Call(ctx, "later", nil) }, "later", CallOK, CallOK},
		{"oneway that fails", func(p *Proxy) error { return p.Call(ctx, "later_fails", nil) }, "later_fails", CallException, CallOK},
		{"read", func(p *Proxy) error { var v int; return p.Attr(ctx, "rate", &v) }, "__getattr__", CallOK, CallOK},
		{"write", func(p *Proxy) error { return p.SetAttr(ctx, "rate", 2) }, "__setattr__", CallOK, CallOK},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, client := newRecorder(), newRecorder()
			d := serve(t, DaemonOptions{Observer: server})
			uri, err := d.Register("bank", observedServant(), ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p := NewProxy(uri, ProxyOptions{Observer: client})
			defer p.Close()
			for range 2 { // the second on a connection that is there already
				if err := tt.call(p); err != nil && tt.client == CallOK {
					t.Fatal(err)
				}
			}
			for _, side := range []struct {
				name string
				*recorder
				want CallOutcome
			}{{"server", server, tt.server}, {"client", client, tt.client}} {
				for n := 1; n <= 2; n++ {
					got := side.call(t, n)
					if got.object != "bank" || got.method != tt.method || got.Outcome != side.want || got.Took <= 0 {
						t.Errorf("%s, call %d: got %+v, want bank.%s with outcome %d and a time", side.name, n, got, tt.method, side.want)
					}
				}
			}
			s, c := server.call(t, 2), client.call(t, 2)
			if s.Received != c.Sent || s.Sent != c.Received || c.Sent < headerBytes {
				t.Errorf("bytes: server received %d and sent %d, client sent %d and received %d", s.Received, s.Sent, c.Sent, c.Received)
			}
			if client.asked["bank."+tt.method] != 1 || server.asked["bank."+tt.method] != 1 {
				t.Errorf("Method was asked %v by the client and %v by the server, want once", client.asked, server.asked)
			}
		})
	}
}

// TestUnknownNamesAreNotPassedOn sends names that only a client knows: they must not become labels.
func TestUnknownNamesAreNotPassedOn(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	d := serve(t, DaemonOptions{Observer: r})
	if _, err := d.Register("bank", observedServant(), ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	c := connectRaw(t, d, "bank")
	for i, req := range []struct {
		object, method string
		flags          uint16
		want           observed
	}{
		{"bank", "nonsense", 0, observed{"bank", "", Observation{Outcome: CallException}}},
		{"bank", "nonsense", flagOneway, observed{"bank", "", Observation{Outcome: CallException}}},
		{"nowhere", "nonsense", 0, observed{"", "", Observation{Outcome: CallNotExecuted}}},
		{"bank", "", flagBatch, observed{"bank", "__batch__", Observation{Outcome: CallOK}}},
	} {
		args := []any{}
		if req.flags == flagBatch {
			args = []any{[]any{"get", []any{}, map[string]any{}}, []any{"fail", []any{}, map[string]any{}}}
		}
		c.send(header{typ: msgInvoke, serializer: 4, flags: req.flags}, nil,
			c.request(Request{Object: req.object, Method: req.method, Args: args, Kwargs: noKwargs}))
		if req.flags != flagOneway {
			c.receive()
		}
		got := r.call(t, i+1)
		if got.object != req.want.object || got.method != req.want.method || got.Outcome != req.want.Outcome {
			t.Errorf("%s.%s: got %s.%s with outcome %d, want %s.%s with %d", req.object, req.method,
				got.object, got.method, got.Outcome, req.want.object, req.want.method, req.want.Outcome)
		}
	}
	for name := range r.asked {
		if strings.Contains(name, "nonsense") || strings.Contains(name, "nowhere") {
			t.Errorf("a name of the client reached the observer: %v", slices.Sorted(maps.Keys(r.asked)))
		}
	}
}

func TestConnectionsAreObserved(t *testing.T) {
	t.Parallel()
	server, client := newRecorder(), newRecorder()
	d := serve(t, DaemonOptions{Observer: server, MaxConnections: 1})
	uri, err := d.Register("bank", observedServant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{Observer: client})
	if err := p.Call(t.Context(), "get", nil); err != nil {
		t.Fatal(err)
	}
	second := NewProxy(uri, ProxyOptions{Observer: client, Serializer: "msgpack"})
	defer second.Close()
	if err := second.Call(t.Context(), "get", nil); err == nil {
		t.Fatal("a second connection beyond MaxConnections 1")
	}
	p.Close()
	p.Close()
	server.await(t, "one opened, closed and refused", func() bool {
		return server.conns[ConnOpened] == 1 && server.conns[ConnClosed] == 1 && server.conns[ConnRefused] == 1 && server.conns[ConnFailed] == 0
	})
	client.await(t, "one opened and closed, one failed", func() bool {
		return client.conns[ConnOpened] == 1 && client.conns[ConnClosed] == 1 && client.conns[ConnFailed] == 1
	})
	if got := client.call(t, 2); got.Outcome != CallNotExecuted || got.Sent != 0 || got.Received != 0 {
		t.Errorf("call without a connection: got %+v, want not executed and no bytes", got)
	}
}

func TestFailedHandshakesAreObserved(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	d := serve(t, DaemonOptions{Observer: r})
	dialRaw(t, d).nc.Close()
	r.await(t, "a client that hung up", func() bool { return r.conns[ConnFailed] == 1 })
	c := dialRaw(t, d)
	c.send(header{typ: msgConnect, serializer: 4}, nil, c.value(4, map[string]any{"handshake": "hello", "object": "nowhere"}))
	r.await(t, "a refused client", func() bool { return r.conns[ConnFailed] == 2 })
	if len(r.conns) != 1 {
		t.Errorf("connections: got %v, want two that failed and no others", r.conns)
	}
}

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want CallOutcome
	}{
		{"none", nil, CallOK},
		{"exception", ValueError.New("x"), CallException},
		{"rejected", &RemoteError{NotExecuted: true}, CallNotExecuted},
		{"not written", &TransportError{Op: opSend, Err: net.ErrClosed}, CallNotExecuted},
		{"written", &TransportError{Op: opRead, Written: true, Err: net.ErrClosed}, CallUnknown},
		{"name server raised", &TransportError{Op: "resolve", Err: NamingError.New("x")}, CallNotExecuted},
		{"unknown method", &LocalError{Err: AttributeError.New("x")}, CallNotExecuted},
		{"result not stored", &LocalError{Executed: true, Err: errors.New("x")}, CallException},
		{"closed", ErrClosed, CallNotExecuted},
		{"wrapped", fmt.Errorf("call: %w", &TransportError{Written: true}), CallUnknown},
		{"of another origin", errors.New("x"), CallUnknown},
	}
	for _, tt := range tests {
		if got := OutcomeOf(tt.err); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

// TestManyMethodsOfAProxy keeps a program that takes method names from others from filling the proxy's memory.
func TestManyMethodsOfAProxy(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	p := NewProxy(URI{Protocol: protocolObject, Object: "bank", Host: "127.0.0.1", Port: 1}, ProxyOptions{Observer: r})
	for i := range 2 * maxObserved {
		p.observer(fmt.Sprint("method", i))
	}
	if got := len(*p.observers.Load()); got != maxObserved {
		t.Errorf("remembered: got %d, want %d", got, maxObserved)
	}
	if got := p.observer("method0"); got.(recordedMethod).method != "method0" || r.asked["bank.method0"] != 1 {
		t.Errorf("first method: got %v, asked %d times", got, r.asked["bank.method0"])
	}
}

// spec: G2
func TestLogHandlerAddsTheCallID(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := slog.New(NewLogHandler(slog.NewTextHandler(&out, nil))).With("node", 1)
	call := &servedCall{Context: t.Context(), info: CallInfo{CorrelationID: [16]byte{0xab, 15: 0xcd}}}
	log.InfoContext(call, "inside")
	log.InfoContext(t.Context(), "outside")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := "msg=inside node=1 call_id=ab0000000000000000000000000000cd"; !strings.HasSuffix(lines[0], want) {
		t.Errorf("in a call: got %q, want ... %q", lines[0], want)
	}
	if strings.Contains(lines[1], "call_id") {
		t.Errorf("outside of a call: got %q", lines[1])
	}
}

// nullObserver costs what calling it costs.
type nullObserver struct{}

func (nullObserver) Method(string, string) CallObserver { return nullObserver{} }
func (nullObserver) ObserveCall(Observation)            {}
func (nullObserver) ObserveConn(ConnEvent)              {}

// TestAllocObserver compares calls with and without an observer, both ends together.
func TestAllocObserver(t *testing.T) {
	allocs := func(o Observer) float64 {
		d := serve(t, DaemonOptions{Observer: o})
		uri, err := d.Register("bank", observedServant(), ObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := NewProxy(uri, ProxyOptions{Observer: o})
		defer p.Close()
		call := func() {
			if err := p.Call(context.Background(), "get", nil); err != nil {
				t.Error(err)
			}
		}
		call()
		return testing.AllocsPerRun(500, call)
	}
	without, with := allocs(nil), allocs(nullObserver{})
	if with > without+poolLoss {
		t.Errorf("allocations per call: got %v with an observer and %v without", with, without)
	}
}

// TestConnectionClosedUnderACall is closed by Close, and again by the call that had it.
func TestConnectionClosedUnderACall(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("slow", &Servant{Class: "Slow", Methods: []Method{{Name: "run", Func: func(context.Context, []any) (any, error) {
		close(entered)
		<-leave
		return nil, nil
	}}}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer close(leave)
	r := newRecorder()
	p := NewProxy(uri, ProxyOptions{Observer: r})
	done := make(chan error, 1)
	go func() { done <- p.Call(context.Background(), "run", nil) }()
	within(t, entered)
	p.Close()
	if err := within(t, done); err == nil {
		t.Error("a call whose proxy was closed: got no error")
	}
	if got := r.call(t, 1); got.Outcome != CallUnknown || r.conns[ConnClosed] != 1 {
		t.Errorf("got %+v and connections %v, want an unknown outcome and one closed", got, r.conns)
	}
}
