package core

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Many callers share one connection, and each gets its own answers: of methods that the reading goroutine runs, and of those with one of their own.
func TestMuxManyCallers(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow ", slow), func(t *testing.T) {
			t.Parallel()
			d := serve(t, DaemonOptions{})
			uri, err := d.Register("typed", typedServant(), ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if slow {
				d.object("typed").methods["add"].pace.calls.Store(math.MinInt32)
			}
			p := NewProxy(uri, ProxyOptions{})
			defer p.Close()
			manyCallers(t, p)
		})
	}
}

func manyCallers(t *testing.T, p *Proxy) {
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			for i := range 2000 {
				call := NewInvocation("add")
				call.Args.Int(caller * 1000)
				call.Args.Int(i * 100)
				if err := p.Invoke(context.Background(), call); err != nil {
					t.Errorf("caller %d, call %d: %v", caller, i, err)
					return
				}
				if sum := call.Result.Int(); sum != caller*1000+i*100 {
					t.Errorf("caller %d, call %d: got %d", caller, i, sum)
				}
				call.Free()
			}
		})
	}
	wg.Wait()
}

// add makes a call of the typed servant.
func add(ctx context.Context, p *Proxy, a, b int) (int, error) {
	call := NewInvocation("add")
	defer call.Free()
	call.Args.Int(a)
	call.Args.Int(b)
	if err := p.Invoke(ctx, call); err != nil {
		return 0, err
	}
	sum := call.Result.Int()
	return sum, call.Result.Err()
}

// A method that takes long holds up neither the calls after it nor their answers, although the goroutine that reads requests runs it.
func TestMuxLongCall(t *testing.T) {
	t.Parallel()
	a, d, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	pace := d.object("account").methods["block"].pace
	for round := range 3 {
		if got := pace.isShort(); got != (round == 0) {
			t.Errorf("round %d: the method counts as short: %t", round, got)
		}
		blocked := make(chan error, 1)
		go func() {
			var name string
			err := p.Call(context.Background(), "block", &name, "one")
			if err == nil && name != "one" {
				err = fmt.Errorf("got %q", name)
			}
			blocked <- err
		}()
		within(t, a.entered)
		for i := range 10 {
			var n int
			if err := p.Call(t.Context(), "echo", &n, i); err != nil || n != i {
				t.Fatalf("while another call runs: got %d, %v, want %d", n, err, i)
			}
		}
		a.release <- struct{}{}
		if err := within(t, blocked); err != nil {
			t.Errorf("the call that took long: %v", err)
		}
	}
	if n := len(p.open); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// A method that is not long any more is run by the goroutine that reads requests again.
func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	p.tookLong()
	for n := 1; !p.isShort(); n++ {
		if n > calmCalls {
			t.Fatalf("not short after %d short calls", n)
		}
		p.took(shortCall)
	}
	p.took(shortCall + 1)
	if p.isShort() {
		t.Error("short after a call that took long")
	}
}

// The end of one call's context ends that call alone.
func TestMuxContextEnds(t *testing.T) {
	t.Parallel()
	for _, others := range []bool{false, true} { // whether another goroutine reads
		t.Run(fmt.Sprint("others ", others), func(t *testing.T) {
			t.Parallel()
			a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
			defer close(a.release)
			if others {
				go p.Call(context.Background(), "block", nil, "other")
				within(t, a.entered)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- p.Call(ctx, "block", nil, "mine") }()
			within(t, a.entered)
			cancel()
			err := within(t, ended)
			if e, ok := errors.AsType[*TransportError](err); !ok || !e.Written || !errors.Is(err, context.Canceled) || OutcomeOf(err) != CallUnknown {
				t.Errorf("got %v, want that it was written, and canceled", err)
			}
			m := p.mux.Load()
			for i := range 10 {
				var n int
				if err := p.Call(t.Context(), "echo", &n, i); err != nil || n != i {
					t.Errorf("a call afterwards: got %d, %v, want %d", n, err, i)
				}
			}
			if m == nil || p.mux.Load() != m {
				t.Error("the connection was given up")
			}
			if err := p.Call(ctx, "echo", nil, 1); !errors.Is(err, context.Canceled) || OutcomeOf(err) != CallNotExecuted {
				t.Errorf("a call with a context that has ended: got %v", err)
			}
		})
	}
}

// A server that is not heard of any more is left by the next call.
func TestMuxSilentServer(t *testing.T) {
	t.Parallel()
	uri := fakeServer(t, func(c *rawClient) {
		if c.welcomeMux() {
			io.Copy(io.Discard, c.nc)
		}
	})
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := p.mux.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Call(ctx, "m", nil); !errors.Is(err, context.DeadlineExceeded) || OutcomeOf(err) != CallUnknown {
		t.Errorf("silent server: got %v, want deadline exceeded, outcome unknown", err)
	}
	if p.mux.Load() != nil {
		t.Error("the connection is still in use")
	}
	<-m.closed // since nobody waits on it
}

// welcomeMux is welcome by a server that takes many calls at once.
func (c *rawClient) welcomeMux() bool {
	m, err := c.readMessage()
	if err != nil || m.typ != msgConnect || !m.hasMux() {
		return false
	}
	meta := map[string]any{"methods": Set{"m", "ow"}, "oneway": Set{"ow"}, "attrs": Set{"a"}}
	c.send(header{typ: msgConnectOK, serializer: m.serializer, seq: m.seq}, Annotations{annotationAbilities: muxAbilities, annotationContracts: nil},
		c.value(m.serializer, map[string]any{"handshake": "hello", "meta": meta}))
	return true
}

// What a server may send that it must not ends the connection, with an error for those who wait.
func TestMuxBadReplies(t *testing.T) {
	t.Parallel()
	result := header{typ: msgResult, serializer: msgpackID}
	tests := []struct {
		name   string
		answer func(c *rawClient, m message)
		want   string
	}{
		{"reply to no call", func(c *rawClient, m message) {
			c.send(header{typ: msgResult, serializer: msgpackID, seq: 77}, nil, []byte{0xc0})
		}, "reply 77 to no call"},
		{"rubbish", func(c *rawClient, _ message) { c.sendBytes(bytes.Repeat([]byte("x"), 100)) }, "invalid data"},
		{"another type", func(c *rawClient, m message) {
			c.send(header{typ: msgConnectOK, serializer: msgpackID, seq: m.seq}, nil, []byte{0xc0})
		}, "invalid msg type 2"},
		{"another serializer", func(c *rawClient, m message) {
			c.send(header{typ: msgResult, serializer: 1, seq: m.seq}, nil, []byte("1"))
		}, "invalid serializer in response: 1"},
		{"no value", func(c *rawClient, m message) { h := result; h.seq = m.seq; c.send(h, nil, []byte{0xc1}) }, "unknown code"},
		{"two values", func(c *rawClient, m message) { h := result; h.seq = m.seq; c.send(h, nil, []byte{1, 2}) }, "bytes after the value"},
		{"exception that is none", func(c *rawClient, m message) {
			c.send(header{typ: msgResult, serializer: msgpackID, seq: m.seq, flags: flagException}, nil, []byte{1})
		}, "exception is int"},
		{"stream without id", func(c *rawClient, m message) {
			c.send(header{typ: msgResult, serializer: msgpackID, seq: m.seq, flags: flagItemStream}, nil, []byte{0xc0})
		}, "not configured to allow streaming"},
		{"end", func(*rawClient, message) {}, "EOF"},
		{"end in the midst", func(c *rawClient, _ message) { c.sendBytes([]byte("PYRO")) }, "unexpected EOF"},
		{"end in the midst of a large one", func(c *rawClient, m message) {
			b, err := appendMessage(nil, header{typ: msgResult, serializer: msgpackID, seq: m.seq}, nil, make([]byte, 300_000))
			if err == nil {
				c.sendBytes(b[:200_000])
			}
		}, "unexpected EOF"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			uri := fakeServer(t, func(c *rawClient) {
				if !c.welcomeMux() {
					return
				}
				m, err := c.readMessage()
				if err == nil {
					tc.answer(c, m)
				}
			})
			p := NewProxy(uri, ProxyOptions{})
			defer p.Close()
			err := p.Call(t.Context(), "m", nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) || OutcomeOf(err) != CallUnknown {
				t.Errorf("got %v, want %q and that the outcome is not known", err, tc.want)
			}
			if p.mux.Load() != nil {
				t.Error("the connection is still in use")
			}
		})
	}
}

// heldConn is a connection whose third Write returns long after the bytes are gone.
type heldConn struct {
	net.Conn
	writes atomic.Int32
	hold   chan struct{}
}

func (c *heldConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if c.writes.Add(1) == 3 {
		<-c.hold
	}
	return n, err
}

// A call whose bytes are on their way when the connection ends may have run, though the write of them has not returned: it is not made again.
func TestMuxLostWhileWriting(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	uri := fakeServer(t, func(c *rawClient) {
		conns.Add(1)
		if !c.welcomeMux() {
			return
		}
		for range 2 {
			if _, err := c.readMessage(); err != nil {
				return
			}
		}
	})
	hold := make(chan struct{})
	p := NewProxy(uri, ProxyOptions{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := new(net.Dialer).DialContext(ctx, network, address)
		return &heldConn{Conn: nc, hold: hold}, err
	}})
	defer p.Close()
	if err := p.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	reads, writes := make(chan error), make(chan error)
	go func() { reads <- p.Call(context.Background(), "m", nil) }()
	for p.mux.Load().inflight.Load() == 0 || !p.mux.Load().leading.Load() {
		runtime.Gosched()
	}
	go func() { writes <- p.Call(context.Background(), "m", nil) }()
	if err := within(t, reads); OutcomeOf(err) != CallUnknown {
		t.Errorf("the call that was sent: got %v, want that the outcome is not known", err)
	}
	close(hold)
	if err := within(t, writes); OutcomeOf(err) != CallUnknown {
		t.Errorf("the call that was being sent: got %v, want that the outcome is not known", err)
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections, want 1: the second is for a call that is made again", n)
	}
}

// Calls that wait when the connection ends are unknown; the next one goes to a new connection.
func TestMuxConnectionLost(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	uri := fakeServer(t, func(c *rawClient) {
		first := conns.Add(1) == 1
		if !c.welcomeMux() {
			return
		}
		for range 8 {
			m, err := c.readMessage()
			if err != nil {
				return
			}
			if !first {
				c.send(header{typ: msgResult, serializer: msgpackID, seq: m.seq}, nil, []byte{7})
			}
		}
	})
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for range 8 {
		go func() { errs <- p.Call(context.Background(), "m", nil) }()
	}
	for range 8 {
		if err := within(t, errs); OutcomeOf(err) != CallUnknown || !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want that the outcome is not known", err)
		}
	}
	var n int
	if err := p.Call(t.Context(), "m", &n); err != nil || n != 7 {
		t.Errorf("afterwards: got %d, %v, want 7", n, err)
	}
}

// A server that went between two calls is noticed before anything is sent.
func TestMuxServerRestarted(t *testing.T) {
	t.Parallel()
	first := serve(t, DaemonOptions{})
	uri, err := first.Register("typed", typedServant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if sum, err := add(t.Context(), p, 1, 2); err != nil || sum != 3 {
		t.Fatalf("got %d, %v", sum, err)
	}
	address := first.Addr().String()
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewDaemon(ln, DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, second)
	if _, err := second.Register("typed", typedServant(), ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if sum, err := add(t.Context(), p, 3, 4); err != nil || sum != 7 {
		t.Errorf("after the restart: got %d, %v, want 7", sum, err)
	}
}

// Close ends the calls under way.
func TestMuxClose(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	defer close(a.release)
	errs := make(chan error)
	for i := range 4 {
		go func() { errs <- p.Call(context.Background(), "block", nil, fmt.Sprint(i)) }()
	}
	for range 4 {
		within(t, a.entered)
	}
	p.Close()
	for range 4 {
		if err := within(t, errs); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
	}
	if err := p.Call(t.Context(), "echo", nil, 1); !errors.Is(err, ErrClosed) {
		t.Errorf("a call afterwards: got %v, want %v", err, ErrClosed)
	}
}

// What was sent without waiting arrives, also if the proxy is closed at once.
func TestMuxOneway(t *testing.T) {
	t.Parallel()
	const messages = 5000
	var sum atomic.Int64
	done := make(chan struct{})
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("sink", &Servant{Class: "Sink", Methods: []Method{
		{Name: "put", Params: []Param{{Name: "n"}}, Oneway: true, Direct: func(_ context.Context, args *Decoder, _ *Encoder) error {
			if sum.Add(args.Int64()) == messages*(messages+1)/2 {
				close(done)
			}
			return args.Err()
		}},
	}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	for n := range messages {
		call := NewInvocation("put")
		call.Args.Int(n + 1)
		if err := p.Invoke(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		call.Free()
	}
	p.Close()
	within(t, done)
}

// Messages of all sizes on one connection, at once.
func TestMuxSizes(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for i := range 30 {
				want := bytes.Repeat([]byte{byte(caller + i)}, (caller*7919+i*104729)%400_000)
				var got []byte
				if err := p.Call(context.Background(), "echo", &got, want); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes: got %d, %v", len(want), len(got), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// More calls than a connection takes go over others.
func TestMuxFull(t *testing.T) {
	t.Parallel()
	a, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	if _, err := p.Metadata(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := p.mux.Load()
	m.mu.Lock()
	full := make([]*slot, maxSlots)
	for i := range full {
		full[i] = &slot{seq: uint16(i), done: make(chan struct{}, 1)}
	}
	m.slots.Store(&full)
	m.mu.Unlock()
	var n int
	if err := p.Call(t.Context(), "echo", &n, 5); err != nil || n != 5 {
		t.Errorf("got %d, %v, want 5", n, err)
	}
	if len(p.open) != 2 {
		t.Errorf("%d connections, want 2", len(p.open))
	}
	_ = a
}

// The caller's time travels with the call.
func TestDeadlineTravels(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	type seen struct {
		deadline time.Time
		ok       bool
	}
	got := make(chan seen, 1)
	uri, err := d.Register("clock", &Servant{Class: "Clock", Methods: []Method{
		{Name: "deadline", Func: func(ctx context.Context, _ []any) (any, error) {
			deadline, ok := ctx.Deadline()
			got <- seen{deadline, ok}
			return nil, ctx.Err()
		}},
		{Name: "wait", Func: func(ctx context.Context, _ []any) (any, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
	}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if err := p.Call(t.Context(), "deadline", nil); err != nil {
		t.Fatal(err)
	}
	if s := within(t, got); s.ok {
		t.Errorf("without a deadline the method has %v", s.deadline)
	}
	want := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(t.Context(), want)
	defer cancel()
	if err := p.Call(ctx, "deadline", nil); err != nil {
		t.Fatal(err)
	}
	if s := within(t, got); !s.ok || s.deadline.Before(want.Add(-time.Minute)) || s.deadline.After(want.Add(time.Minute)) {
		t.Errorf("the method has %v, %t, want about %v", s.deadline, s.ok, want)
	}
	// A method that waits for its context ends with the caller's time, which is the same to the caller as no answer.
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Call(ctx, "wait", nil); !errors.Is(err, context.DeadlineExceeded) || OutcomeOf(err) != CallUnknown {
		t.Errorf("got %v, want deadline exceeded, outcome unknown", err)
	}
}

// What comes too late is not run.
func TestLateCallIsNotRun(t *testing.T) {
	t.Parallel()
	call := servedCall{Context: t.Context(), deadline: time.Now().Add(-time.Millisecond)}
	if err := call.late(); err != errLate {
		t.Errorf("got %v, want %v", err, errLate)
	}
	call.deadline = time.Now().Add(time.Hour)
	if err := call.late(); err != nil {
		t.Errorf("in time: got %v", err)
	}
}

// A call of a serial object may come in time, and have its turn too late.
func TestLateCallOfSerialObject(t *testing.T) {
	t.Parallel()
	o := object{serial: new(sync.Mutex)}
	call := servedCall{Context: t.Context(), deadline: time.Now().Add(-time.Millisecond)}
	if err := o.enter(&call); err != errLate {
		t.Errorf("got %v, want %v", err, errLate)
	}
	call.deadline = time.Now().Add(time.Hour)
	if err := o.enter(&call); err != nil { // does not hang
		t.Errorf("in time: got %v", err)
	}
	o.leave()
}

// Many calls at once are for those who agree on it.
func TestMuxIsAgreedOn(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("typed", typedServant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		opts ProxyOptions
		want bool
	}{
		{"default", ProxyOptions{}, true},
		{"msgpack", ProxyOptions{Serializer: "msgpack"}, true},
		{"plain", ProxyOptions{Plain: true}, false},
		{"serpent", ProxyOptions{Serializer: "serpent"}, false},
	} {
		p := NewProxy(uri, tc.opts)
		if sum, err := add(t.Context(), p, 1, 2); err != nil || sum != 3 {
			t.Errorf("%s: got %d, %v", tc.name, sum, err)
		}
		if got := p.mux.Load() != nil; got != tc.want {
			t.Errorf("%s: many calls at once: got %t, want %t", tc.name, got, tc.want)
		}
		p.Close()
	}
}

// writeFunc is what a combiner writes to.
type writeFunc func(b []byte) error

func (f writeFunc) write(b []byte) (int, error) { return len(b), f(b) }
func (f writeFunc) writeLarge(b, large []byte, cut int) error {
	return f(slices.Insert(b, cut, large...))
}

// A client that does not read what it asked for does not take the daemon's memory: those who answer it wait.
func TestCombinerIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var written atomic.Int64
		const stale = maxCombined * 2 // where large bytes belong means nothing without them
		var c combiner
		c.init(writeFunc(func(b []byte) error { <-release; written.Add(int64(len(b))); return nil }))
		done := make(chan error, 3)
		for _, n := range []int{1, maxCombined, 1} {
			go func() { done <- c.send(make([]byte, n), nil, stale) }()
			synctest.Wait()
		}
		if n := len(done); n != 1 {
			t.Errorf("%d of three have left their bytes, want the second alone: the first writes, the third waits", n)
		}
		close(release)
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if got := written.Load(); got != maxCombined+2 {
			t.Errorf("%d bytes written, want %d", got, maxCombined+2)
		}
	})
}

// Who may gather lets others come first, and writes for all of them.
func TestCombinerGathers(t *testing.T) {
	t.Parallel()
	var c combiner
	var writes [][]byte
	c.init(writeFunc(func(b []byte) error { writes = append(writes, slices.Clone(b)); return nil }))
	for _, part := range []string{"a", "b"} {
		if err := c.sendWith([]byte(part), nil, 0, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.sendWith([]byte("cf"), []byte("de"), 1, true); err != nil { // large bytes are not gathered
		t.Fatal(err)
	}
	if got := string(slices.Concat(writes...)); got != "abcdef" {
		t.Errorf("wrote %q, want all of it in order", got)
	}
	var wg sync.WaitGroup
	var n int
	c.init(writeFunc(func(b []byte) error { n += len(b); return nil }))
	for range 100 {
		wg.Go(func() { c.sendWith([]byte("x"), nil, 0, true) })
	}
	wg.Wait()
	if n != 100 {
		t.Errorf("wrote %d bytes, want 100", n)
	}
}

// Who waits to write, or comes later, gets the error of the one who wrote.
func TestCombinerFails(t *testing.T) {
	t.Parallel()
	var c combiner
	c.init(writeFunc(func([]byte) error { return io.ErrClosedPipe }))
	for range 2 {
		if err := c.send([]byte("x"), nil, 0); err != io.ErrClosedPipe {
			t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
		}
	}
}

// Where others call, or could, polling for the next requests leaves them room.
func TestPollsAfter(t *testing.T) {
	t.Parallel()
	d := &Daemon{conns: make(map[*serverConn]struct{})}
	s := &muxServer{serverConn: &serverConn{d: d}}
	polls := func(replies int) (n int) {
		for range 18 {
			if s.pollsAfter(replies) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name          string
		alone, only   bool
		beside        int32
		single, burst int
	}{
		{"others call", false, false, 0, 18, 0},
		{"others are idle", true, false, 0, 18, 9},
		{"there are no others", true, true, 0, 18, 16},
		{"calls run beside", true, true, 1, 18, 0},
	} {
		s.next = pollNext{alone: c.alone, only: c.only}
		s.beside.Store(c.beside)
		if single, burst := polls(1), polls(20); single != c.single || burst != c.burst {
			t.Errorf("%s: polls %d times of 18 after one reply, %d after many, want %d, %d", c.name, single, burst, c.single, c.burst)
		}
	}
	other := &serverConn{d: d}
	d.conns[s.serverConn] = struct{}{}
	if s.isAlone() || !s.isAlone() || !s.isOnly() {
		t.Error("the only connection is not alone when it has called twice")
	}
	d.conns[other] = struct{}{}
	if other.isAlone() || s.isAlone() || s.isOnly() {
		t.Error("one of two connections is alone")
	}
}

// Of more calls of a connection than may run at once the others wait, and are run when there is room.
func TestCallsOfConnectionAreBounded(t *testing.T) {
	t.Parallel()
	const callers = maxCallsConn + 100
	var running, most atomic.Int32
	release := make(chan struct{})
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("o", &Servant{Methods: []Method{{Name: "block", Direct: func(context.Context, *Decoder, *Encoder) error {
		n := running.Add(1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		<-release
		running.Add(-1)
		return nil
	}}}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if err := p.Call(t.Context(), "block", nil); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, func() bool { return running.Load() == maxCallsConn })
	close(release)
	wg.Wait()
	if most.Load() > maxCallsConn {
		t.Errorf("%d calls ran at once, want at most %d", most.Load(), maxCallsConn)
	}
}

// Requests that wait for their methods together take no more memory than one may.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b budget
		b.take(70, 100)
		b.take(30, 100)
		var large atomic.Bool
		go func() { b.take(200, 100); large.Store(true) }() // alone it may
		synctest.Wait()
		b.give(30)
		synctest.Wait()
		if large.Load() {
			t.Error("200 of 100 bytes were taken beside 70")
		}
		b.give(70)
		synctest.Wait()
		if !large.Load() {
			t.Error("200 of 100 bytes were not taken although nothing else was")
		}
	})
}
