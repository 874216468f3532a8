package failover_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

// ledger counts how often each call ran, at all replicas together.
type ledger struct {
	mu   sync.Mutex
	runs map[int]int
}

func (l *ledger) enter(id int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[id]++
}

// bank is the replicated object: its methods differ in what they promise.
type bank struct {
	name    string
	ledger  *ledger
	block   chan struct{} // wait returns when it is closed
	waiting chan struct{} // gets one for each wait that began, as long as there is room
}

func (b *bank) Deposit(id int) string { b.ledger.enter(id); return b.name }
func (b *bank) Balance(id int) string { b.ledger.enter(id); return b.name }
func (b *bank) Wait(ctx context.Context) (string, error) {
	select {
	case b.waiting <- struct{}{}:
	default:
	}
	select {
	case <-b.block:
		return b.name, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// listener remembers its connections, to cut them as the kernel does for a process that is killed with unread input.
type listener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *listener) kill() {
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

type server struct {
	*core.Daemon
	listener *listener
	bank     *bank
	uri      core.URI
}

// start serves a bank until the test ends.
func start(t testing.TB, name string, l *ledger) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: &listener{Listener: ln}, bank: &bank{
		name: name, ledger: l, block: make(chan struct{}), waiting: make(chan struct{}, 1),
	}}
	if s.Daemon, err = core.NewDaemon(s.listener, core.DaemonOptions{}); err != nil {
		t.Fatal(err)
	}
	s.uri, err = s.Register("bank", s.bank, core.ObjectOptions{Contracts: map[string]core.Contract{
		"balance": core.ContractReadOnly,
		"wait":    core.ContractReadOnly,
	}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(context.Background())
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return s
}

func startThree(t testing.TB) (*ledger, []*server) {
	l := &ledger{runs: make(map[int]int)}
	return l, []*server{start(t, "a", l), start(t, "b", l), start(t, "c", l)}
}

func newProxy(t testing.TB, opts failover.Options, servers ...*server) *failover.Proxy {
	var uris []core.URI
	for _, s := range servers {
		uris = append(uris, s.uri)
	}
	p := failover.New("bank", failover.Static(uris...), opts)
	t.Cleanup(func() { p.Close() })
	return p
}

// load calls a method with a new id each time from several goroutines until stop is called, which returns the errors by id and the
// number of calls.
func load(t *testing.T, p *failover.Proxy, method string, callers int) (calls *atomic.Int64, stop func() map[int]error) {
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex
		errs   = make(map[int]error)
		ending atomic.Bool
	)
	calls = new(atomic.Int64)
	for range callers {
		wg.Go(func() {
			for !ending.Load() {
				id := int(calls.Add(1))
				if err := p.Call(t.Context(), method, nil, id); err != nil {
					mu.Lock()
					errs[id] = err
					mu.Unlock()
				}
			}
		})
	}
	return calls, func() map[int]error {
		ending.Store(true)
		wg.Wait()
		return errs
	}
}

// await waits until n more calls were made.
func await(t *testing.T, calls *atomic.Int64, n int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit, until := time.After(30*time.Second), calls.Load()+n; calls.Load() < until; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no %d calls in 30 s", n)
		}
	}
}

func TestKilledReplicaReadOnlyCalls(t *testing.T) {
	t.Parallel()
	l, servers := startThree(t)
	p := newProxy(t, failover.Options{}, servers...)
	calls, stop := load(t, p, "balance", 16)
	for _, s := range servers[:2] {
		await(t, calls, 500)
		s.listener.kill()
	}
	await(t, calls, 500)
	for id, err := range stop() {
		t.Errorf("call %d: %v", id, err)
	}
	for id := 1; id <= int(calls.Load()); id++ {
		if l.runs[id] == 0 {
			t.Errorf("call %d succeeded and did not run", id)
		}
	}
}

func TestKilledReplicaPlainCalls(t *testing.T) {
	t.Parallel()
	l, servers := startThree(t)
	p := newProxy(t, failover.Options{}, servers...)
	calls, stop := load(t, p, "deposit", 16)
	for _, s := range servers[:2] {
		await(t, calls, 500)
		s.listener.kill()
	}
	await(t, calls, 500)
	errs := stop()
	for _, s := range servers {
		s.Close() // waits for the methods of cut connections
	}
	if len(errs) > 2*16 {
		t.Errorf("failed calls: got %d, want at most those under way at two kills", len(errs))
	}
	for id, err := range errs {
		e, ok := errors.AsType[*failover.CallError](err)
		if !ok || e.Outcome != failover.Unknown {
			t.Errorf("call %d: got %v (%T), want a CallError of unknown outcome", id, err, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := 1; id <= int(calls.Load()); id++ {
		if runs := l.runs[id]; runs > 1 || runs == 0 && errs[id] == nil {
			t.Errorf("call %d ran %d times, its error is %v", id, runs, errs[id])
		}
	}
}

// registry is a resolver whose group changes.
type registry struct {
	mu    sync.Mutex
	group failover.Group
}

func (r *registry) Group(context.Context, string) (failover.Group, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.group, nil
}

func (r *registry) set(uris ...core.URI) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := failover.Group{Name: "bank", Version: r.group.Version + 1}
	for _, uri := range uris {
		g.Members = append(g.Members, failover.Member{ID: uri.String(), URI: uri, Alive: true})
	}
	r.group = g
}

// A rolling update: each server is drained and replaced, and no call fails, although none may be repeated.
func TestDrainedReplicasPlainCalls(t *testing.T) {
	t.Parallel()
	l, servers := startThree(t)
	var r registry
	uris := []core.URI{servers[0].uri, servers[1].uri, servers[2].uri}
	r.set(uris...)
	p := failover.New("bank", &r, failover.Options{Refresh: 50 * time.Millisecond})
	defer p.Close()
	calls, stop := load(t, p, "deposit", 16)
	for i, s := range servers {
		await(t, calls, 500)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		uris = append(slices.DeleteFunc(uris, func(u core.URI) bool { return u == s.uri }), start(t, fmt.Sprint("new", i), l).uri)
		r.set(uris...)
	}
	await(t, calls, 500)
	for id, err := range stop() {
		t.Errorf("call %d: %v", id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := 1; id <= int(calls.Load()); id++ {
		if l.runs[id] != 1 {
			t.Errorf("call %d ran %d times", id, l.runs[id])
		}
	}
}

func TestUnregisteredObject(t *testing.T) {
	t.Parallel()
	_, servers := startThree(t)
	p := newProxy(t, failover.Options{}, servers...)
	calls, stop := load(t, p, "deposit", 8)
	await(t, calls, 200)
	servers[0].Unregister("bank")
	await(t, calls, 500)
	for id, err := range stop() {
		t.Errorf("call %d: %v", id, err)
	}
}

func TestReplicasThatCannotBeReached(t *testing.T) {
	t.Parallel()
	listen := func(t *testing.T) net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	uriOf := func(ln net.Listener) core.URI {
		return core.URI{Protocol: "PYRO", Object: "bank", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port}
	}
	tests := []struct {
		name string
		bad  func(t *testing.T) core.URI
	}{
		{"refused", func(t *testing.T) core.URI {
			ln := listen(t)
			ln.Close()
			return uriOf(ln)
		}},
		// The kernel completes the connection, nobody answers.
		{"half open", func(t *testing.T) core.URI { return uriOf(listen(t)) }},
		{"hangs up", func(t *testing.T) core.URI {
			ln := listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					c.Close()
				}
			}()
			t.Cleanup(func() { ln.Close(); <-done })
			return uriOf(ln)
		}},
		{"no such host", func(*testing.T) core.URI {
			return core.URI{Protocol: "PYRO", Object: "bank", Host: "256.0.0.1", Port: 1}
		}},
		{"no such object", func(t *testing.T) core.URI {
			uri := start(t, "other", nil).uri
			uri.Object = "nothing"
			return uri
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := &ledger{runs: make(map[int]int)}
			good, bad := start(t, "good", l), tt.bad(t)
			// The bad one is in the caller's zone and so the first choice.
			zoned := resolver{{ID: "good", URI: good.uri, Alive: true}, {ID: "bad", URI: bad, Zone: "here", Alive: true}}
			p := failover.New("bank", zoned, failover.Options{Zone: "here", ConnectTimeout: 100 * time.Millisecond})
			defer p.Close()
			for id := range 50 {
				if err := p.Call(t.Context(), "deposit", nil, id); err != nil {
					t.Fatalf("call %d: %v", id, err)
				}
			}
			for id := range 50 {
				if l.runs[id] != 1 {
					t.Errorf("call %d ran %d times", id, l.runs[id])
				}
			}
			// Alone, it is an error that says that nothing ran.
			alone := failover.New("bank", failover.Static(bad), failover.Options{ConnectTimeout: 100 * time.Millisecond})
			defer alone.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := alone.Call(ctx, "deposit", nil, 1)
			e, ok := errors.AsType[*failover.CallError](err)
			if !ok || e.Outcome != failover.NotExecuted || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("alone: got %v, want a CallError, not executed, deadline exceeded", err)
			}
		})
	}
}

type resolver []failover.Member

func (r resolver) Group(_ context.Context, name string) (failover.Group, error) {
	return failover.Group{Name: name, Members: r}, nil
}

// A server that stops answering costs one attempt, and its method is told to stop.
func TestSilentReplica(t *testing.T) {
	t.Parallel()
	_, servers := startThree(t)
	close(servers[2].bank.block)
	p := newProxy(t, failover.Options{AttemptTimeout: 100 * time.Millisecond}, servers...)
	for range 20 {
		var from string
		if err := p.Call(t.Context(), "wait", &from); err != nil || from != "c" {
			t.Fatalf("got %q, %v, want c", from, err)
		}
	}
}

// ConnectTimeout bounds the connect, not the calls after it, on whichever connection.
func TestMethodsMayTakeLongerThanAConnect(t *testing.T) {
	t.Parallel()
	s := start(t, "a", nil)
	opts := failover.Options{ConnectTimeout: 200 * time.Millisecond, AttemptTimeout: time.Minute}
	p := newProxy(t, opts, s)
	time.AfterFunc(3*opts.ConnectTimeout, func() { close(s.bank.block) })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := p.Call(t.Context(), "wait", nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A process that is stopped after it was used: further connections are accepted by its kernel, and not answered.  Each of them,
// also those beyond the first, is given up after ConnectTimeout.
func TestHalfOpenLater(t *testing.T) {
	t.Parallel()
	var silent atomic.Bool
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil && silent.Load() {
			c = deaf{c}
		}
		return c, err
	}
	l := &ledger{runs: make(map[int]int)}
	s := start(t, "a", l)
	p := newProxy(t, failover.Options{
		ConnectTimeout: 100 * time.Millisecond, AttemptTimeout: time.Minute, Proxy: core.ProxyOptions{Dial: dial, Plain: true},
	}, s)
	waiting := make(chan error)
	go func() { waiting <- p.Call(t.Context(), "wait", nil) }() // keeps the only good connection busy
	<-s.bank.waiting
	silent.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := p.Call(ctx, "deposit", nil, 1)
	e, ok := errors.AsType[*failover.CallError](err)
	if !ok || e.Outcome != failover.NotExecuted || e.Attempts < 2 {
		t.Errorf("got %v, want a CallError, not executed, after several attempts", err)
	}
	close(s.bank.block)
	if err := <-waiting; err != nil {
		t.Errorf("the call on the good connection: %v", err)
	}
}

// deaf is a connection whose peer gets nothing.
type deaf struct{ net.Conn }

func (deaf) Write(b []byte) (int, error) { return len(b), nil }

func TestExceptionsAreReturnedAsTheyAre(t *testing.T) {
	t.Parallel()
	_, servers := startThree(t)
	p := newProxy(t, failover.Options{}, servers...)
	err := p.Call(t.Context(), "deposit", nil, "no number")
	if e, ok := err.(*core.RemoteError); !ok {
		t.Errorf("wrong argument: got %v (%T), want a RemoteError", e, err)
	}
	if err := p.Call(t.Context(), "steal", nil); !errors.Is(err, core.AttributeError) || failover.OutcomeOf(err) != failover.NotExecuted {
		t.Errorf("unknown method: got %v (%T), want an AttributeError, not executed", err, err)
	}
	var out int
	err = p.Call(t.Context(), "balance", &out, 1)
	if _, ok := err.(*core.LocalError); !ok || failover.OutcomeOf(err) != failover.Executed {
		t.Errorf("result that does not fit: got %v (%T), want a LocalError, executed", err, err)
	}
	if err := p.Call(t.Context(), "deposit", nil, make(chan int)); failover.OutcomeOf(err) != failover.NotExecuted {
		t.Errorf("argument that cannot be sent: got %v (%T), not executed", err, err)
	}
}

// TestRealBatch sends batches to servers, one of which is down.
//
// spec: C7
func TestRealBatch(t *testing.T) {
	t.Parallel()
	l := &ledger{runs: make(map[int]int)}
	down, up := start(t, "down", l), start(t, "up", l)
	down.listener.kill()
	p := newProxy(t, failover.Options{}, down, up)
	for range 10 {
		var got []any
		for result, err := range p.Batch().Call("deposit", 1).Call("deposit", 2).Do(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, result)
		}
		if len(got) != 2 {
			t.Errorf("got %v", got)
		}
	}
	if err := p.Batch().Call("deposit", 3).DoOneway(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.Batch().Call("nope").DoOneway(t.Context()); !errors.Is(err, core.AttributeError) {
		t.Errorf("unknown method: got %v", err)
	}
}
