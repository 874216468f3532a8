package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Slow makes bytes late in each direction.
func TestSlow(t *testing.T) {
	t.Parallel()
	arrived := make(chan time.Time, 1)
	p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			arrived <- time.Now()
			c.Write(b)
		}
	})})
	c := dial(t, p)
	oneWay := func() (up, down time.Duration) {
		begin := time.Now()
		send(t, c, []byte{1})
		there := receive(t, arrived)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return there.Sub(begin), time.Since(there)
	}
	late := func(least time.Duration) {
		t.Helper()
		if up, down := oneWay(); up < least || down < least {
			t.Errorf("a byte took %v there and %v back, want %v at least", up, down, least)
		}
	}
	late(0)
	heal := p.Slow(30 * time.Millisecond)
	healMore := p.Slow(20 * time.Millisecond)
	late(50 * time.Millisecond)
	late(50 * time.Millisecond)
	healMore()
	healMore()
	late(30 * time.Millisecond)
	heal()
	heal()
	p.Slow(-time.Hour) // as none
	if d := p.delay.Load(); d != 0 {
		t.Errorf("the delay is %v after healing", time.Duration(d))
	}
	late(0)
}

// Calls of many clients are late by the delay each.  That they wait side by side is what TestLineThroughput shows, in virtual time.
func TestSlowCallsOverlap(t *testing.T) {
	t.Parallel()
	const calls, delay = 64, 50 * time.Millisecond
	_, uri, p := serve(t)
	c := client(t, uri, p)
	p.Slow(delay)
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			called := time.Now()
			works(t, c)
			if took := time.Since(called); took < 2*delay {
				t.Errorf("a call took %v, want %v at least", took, 2*delay)
			}
		})
	}
	all.Wait()
}

// What comes while something else is under way comes late, and whole.
func TestSlowStream(t *testing.T) {
	t.Parallel()
	const delay = 50 * time.Millisecond
	address, got := collect(t)
	p := listen(t, Options{Backend: address})
	c := dial(t, p)
	p.Slow(delay)
	b := random(100*readBytes, 1)
	begin := time.Now()
	send(t, c, b)
	c.CloseWrite()
	if o := receive(t, got); o.err != nil || !bytes.Equal(o.data, b) {
		t.Errorf("%d bytes arrived, %v, want the %d that were sent", len(o.data), o.err, len(b))
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("it took %v, want %v at least", took, delay)
	}
}

// Delays that come and go neither lose bytes nor change their order.
func TestSlowComesAndGoes(t *testing.T) {
	t.Parallel()
	for _, frames := range []bool{false, true} {
		address, got := collect(t)
		p := listen(t, Options{Backend: address, Frames: frames})
		c := dial(t, p)
		b := random(8<<20, 1)
		sent := async(func() error {
			defer c.CloseWrite()
			rng := rand.New(rand.NewPCG(1, 1))
			for rest := b; len(rest) > 0; {
				n := min(len(rest), 1+rng.IntN(50_000))
				if _, err := c.Write(rest[:n]); err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		})
		for i := range 100 {
			heal := p.Slow(time.Duration(i%5) * time.Millisecond)
			<-time.After(time.Millisecond)
			heal()
		}
		if err := receive(t, sent); err != nil {
			t.Fatal(err)
		}
		if o := receive(t, got); o.err != nil || !bytes.Equal(o.data, b) {
			t.Errorf("%d bytes arrived, %v, want the %d that were sent", len(o.data), o.err, len(b))
		}
	}
}

// What is sent when a delay has been healed does not overtake what is late.
func TestSlowHealed(t *testing.T) {
	t.Parallel()
	address, got := collect(t)
	p := listen(t, Options{Backend: address})
	dst := dial(t, p)
	c := &conn{p: &Proxy{}}
	d := newDirection(c, nil, dst)
	c.p.delay.Store(int64(20 * time.Millisecond))
	d.send(t.Context(), []byte("late "), nil)
	c.p.delay.Store(0)
	d.send(t.Context(), []byte("at once "), nil)
	d.send(t.Context(), []byte("and the end"), func() { dst.CloseWrite() })
	c.pumps.Wait()
	if o := receive(t, got); string(o.data) != "late at once and the end" || o.err != nil {
		t.Errorf("%q arrived, %v", o.data, o.err)
	}
}

// A reset reaches both sides of all connections, and calls under way; later calls work.
func TestReset(t *testing.T) {
	t.Parallel()
	w, uri, p := serve(t)
	if err := p.Reset(); err == nil || !strings.Contains(err.Error(), "there is no connection") {
		t.Errorf("Reset without a connection = %v, want an error", err)
	}
	c := client(t, uri, p)
	call := async(func() error { return c.Call(t.Context(), "block", nil) })
	receive(t, w.entered)
	idle := dial(t, p)
	awaitConnections(t, p, 2)
	if err := p.Reset(); err != nil {
		t.Errorf("Reset = %v", err)
	}
	breaks(t, call)
	expectReset(t, idle)
	if n := p.Connections(); n != 0 {
		t.Errorf("%d connections after a reset", n)
	}
	works(t, c)
}

func TestResetReachesBackend(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
		io.CopyN(c, c, int64(len("hello")))
		_, err := io.ReadAll(c)
		result <- err
	})})
	c := dial(t, p)
	roundTrip(t, c, "hello")
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, result); !isReset(err) {
		t.Errorf("the backend got %v, want a reset", err)
	}
	expectReset(t, c)
}

// A half-open connection answers nothing until it is healed, when it is reset; new ones work.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	w, uri, p := serve(t)
	if heal, err := p.HalfOpen(); err == nil || heal != nil {
		t.Errorf("HalfOpen without a connection = %v, want an error", err)
	}
	c := client(t, uri, p)
	works(t, c)
	other := client(t, uri, p)
	call := async(func() error { return other.Call(t.Context(), "block", nil) })
	receive(t, w.entered)
	idle := dial(t, p)
	awaitConnections(t, p, 3)
	heal, err := p.HalfOpen()
	if err != nil {
		t.Fatal(err)
	}
	close(w.release) // its reply vanishes
	timesOut(t, c)   // on the connection that it kept
	if n := w.calls.Load(); n != 2 {
		t.Errorf("%d calls arrived, want the 2 before the fault", n)
	}
	works(t, c)
	heal()
	breaks(t, call)
	expectReset(t, idle)
	works(t, c)
	works(t, other)
	heal()
}

// Healing resets half-open connections even if nothing was sent on them.
func TestHalfOpenIdle(t *testing.T) {
	t.Parallel()
	p := listen(t, Options{Backend: backend(t, echo)})
	c := dial(t, p)
	roundTrip(t, c, "hello")
	heal, err := p.HalfOpen()
	if err != nil {
		t.Fatal(err)
	}
	heal()
	expectReset(t, c)
	awaitConnections(t, p, 0)
}

// That a side closes or resets a silent connection stays unknown to the other side.
func TestSilentEnd(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(c *net.TCPConn)
	}{
		{"close", func(c *net.TCPConn) { c.Close() }},
		{"half close", func(c *net.TCPConn) { c.CloseWrite() }},
		{"reset", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := make(chan outcome, 1)
			p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
				io.CopyN(c, c, int64(len("hello")))
				b, err := io.ReadAll(c)
				got <- outcome{b, err}
			})})
			c := dial(t, p)
			roundTrip(t, c, "hello")
			heal := p.Partition("")
			tt.end(c)
			awaitLost(t, p, 1)
			select {
			case o := <-got:
				t.Errorf("the backend got %q, %v from a partition", o.data, o.err)
			default:
			}
			heal()
			if o := receive(t, got); len(o.data) != 0 || !isReset(o.err) {
				t.Errorf("the backend got %q, %v, want a reset", o.data, o.err)
			}
			awaitConnections(t, p, 0)
		})
	}
}

// What was late when the partition came does not arrive in it; nor does the connection end because its end has vanished.
func TestSilentLate(t *testing.T) {
	t.Parallel()
	for _, silences := range []int{0, 1} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := &conn{p: &Proxy{}, silences: silences}
		c.silent.Store(silences > 0)
		var arrived bytes.Buffer
		l := &line{c: c, dst: &arrived, room: make(chan struct{}, 1)}
		ended := make(chan struct{}, 1)
		due := time.Now()
		if !l.put(ctx, parcel{due: due, data: []byte("late")}) || !l.put(ctx, parcel{due: due, then: func() { ended <- struct{}{} }}) {
			t.Fatal("the line takes nothing")
		}
		want := "late"
		if silences == 0 {
			receive(t, ended)
		} else {
			want = ""
			await(t, "something has vanished", func() bool {
				c.p.mu.Lock()
				defer c.p.mu.Unlock()
				return c.lost
			})
			cancel() // as when the connection is reset
		}
		c.pumps.Wait()
		if arrived.String() != want || len(ended) > 0 {
			t.Errorf("with %d silences %q arrived, and %d ends, want %q and none", silences, &arrived, len(ended), want)
		}
		if want := silences > 0; l.dead != want {
			t.Errorf("with %d silences the line is dead: %v, want %v", silences, l.dead, want)
		}
	}
}

// Nothing passes a partition, and nothing is refused by it; after it calls work.
func TestPartition(t *testing.T) {
	t.Parallel()
	w, uri, p := serve(t)
	c := client(t, uri, p)
	works(t, c)
	heal := p.Partition("")
	timesOut(t, c)            // on the open connection
	timesOut(t, c)            // on a new one
	awaitConnections(t, p, 1) // the first one, whose end is not passed on
	fresh := dial(t, p)
	awaitConnections(t, p, 2)
	if n := w.calls.Load(); n != 1 {
		t.Errorf("%d calls arrived, want the one before the partition", n)
	}
	heal()
	expectReset(t, fresh)
	awaitConnections(t, p, 0)
	works(t, c)
	heal()
	works(t, c)
}

// A connection on which nothing was sent in the partition survives it.
func TestPartitionUnnoticed(t *testing.T) {
	t.Parallel()
	p := listen(t, Options{Backend: backend(t, echo)})
	c := dial(t, p)
	roundTrip(t, c, "before")
	p.Partition("")()
	roundTrip(t, c, "after")
	first, second := p.Partition(""), p.Partition("")
	first()
	send(t, c, []byte("lost"))
	awaitLost(t, p, 1)
	second()
	expectReset(t, c)
}

// A connection that came in a partition does not reach the backend, and its end is noticed.
func TestPartitionHidesNewConnections(t *testing.T) {
	t.Parallel()
	address, got := collect(t)
	p := listen(t, Options{Backend: address})
	heal := p.Partition("")
	c := dial(t, p)
	send(t, c, []byte("hidden"))
	awaitConnections(t, p, 1)
	c.Close()
	awaitConnections(t, p, 0)
	heal()
	after := dial(t, p)
	send(t, after, []byte("after"))
	after.CloseWrite()
	if o := receive(t, got); string(o.data) != "after" || o.err != nil || len(got) != 0 {
		t.Errorf("the backend got %q, %v and %d more, want only what was sent after the partition", o.data, o.err, len(got))
	}
}

// Partitions overlap, with each other and with half-open connections; each lasts until it is healed.
func TestPartitionsOverlap(t *testing.T) {
	t.Parallel()
	_, uri, p := serve(t)
	c := client(t, uri, p)
	works(t, c)
	first, second := p.Partition(""), p.Partition("")
	idle := dial(t, p)
	awaitConnections(t, p, 2)
	first()
	first() // is not the second one
	timesOut(t, c)
	timesOut(t, c)
	awaitConnections(t, p, 2)
	halfOpen, err := p.HalfOpen() // of idle and of the first one, whose end was not passed on
	if err != nil {
		t.Fatal(err)
	}
	second()
	works(t, c) // on a new connection
	if n := p.Connections(); n != 3 {
		t.Errorf("%d connections, want 3: the new one and those that are half-open", n)
	}
	halfOpen()
	expectReset(t, idle)
	awaitConnections(t, p, 1)
	works(t, c)
}

// A partition by name is about connections from there alone, open ones and new ones.
func TestPartitionByName(t *testing.T) {
	t.Parallel()
	p := listen(t, Options{Backend: backend(t, echo), From: func(first []byte) string {
		name, _, whole := strings.Cut(string(first), "\n")
		if !whole {
			return ""
		}
		return name
	}})
	begin := func(name string) net.Conn {
		c := dial(t, p)
		roundTrip(t, c, name[:1]) // by which the name is not known yet
		send(t, c, []byte(name[1:]+"\n"))
		return c
	}
	from := func(name string) net.Conn {
		c := begin(name)
		if _, err := io.ReadFull(c, make([]byte, len(name))); err != nil {
			t.Fatal(err)
		}
		return c
	}
	alice, bob, unknown := from("alice"), from("bob"), dial(t, p)
	roundTrip(t, unknown, strings.Repeat("x", 2*maxFirst))
	heal, healBob := p.Partition("alice"), p.Partition("bob")
	healBob()
	send(t, alice, []byte("vanishes"))
	again := begin("alice")
	awaitLost(t, p, 2)
	roundTrip(t, bob, "hello")
	roundTrip(t, unknown, "hello")
	other := from("bob")
	roundTrip(t, other, "hello")
	heal()
	expectReset(t, alice)
	expectReset(t, again)
	for _, c := range []net.Conn{bob, other, unknown, from("alice")} {
		roundTrip(t, c, "hello")
	}
}

// Who does not say within 1 KiB who it is, is nobody, and From is not asked again.
func TestFromGivesUp(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	p := listen(t, Options{Backend: backend(t, echo), From: func(first []byte) string {
		asked.Store(int64(len(first)))
		return ""
	}})
	c := dial(t, p)
	const part = 100
	for range 3 * maxFirst / part {
		roundTrip(t, c, strings.Repeat("x", part))
	}
	if n := asked.Load(); n < maxFirst || n >= maxFirst+part {
		t.Errorf("From got up to %d bytes, want %d and not much more", n, maxFirst)
	}
}

// Faults of all kinds, with clients that go on calling: whatever happened, in the end calls work.
func TestFaultsTogether(t *testing.T) {
	t.Parallel()
	_, uri, p := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for range 4 {
		c := client(t, uri, p)
		clients.Go(func() {
			for ctx.Err() == nil {
				call, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				err := callEcho(call, c)
				cancel()
				if _, ok := errors.AsType[*core.TransportError](err); err != nil && !ok {
					t.Errorf("a call: %v, want a core.TransportError", err)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 1))
	var heals []func()
	for range 200 {
		switch rng.IntN(6) {
		case 0:
			heals = append(heals, p.Slow(time.Duration(rng.IntN(5))*time.Millisecond))
		case 1:
			heals = append(heals, p.Partition(""))
		case 2:
			if heal, err := p.HalfOpen(); err == nil {
				heals = append(heals, heal)
			}
		case 3:
			p.Reset() // an error without connections
		case 4:
			cut, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
			p.Cut(cut)
			cancel()
		case 5:
			<-time.After(time.Millisecond)
		}
		if len(heals) > 3 {
			heals[0]()
			heals = heals[1:]
		}
	}
	for _, heal := range heals {
		heal()
	}
	cancel()
	clients.Wait()
	for range 8 {
		works(t, client(t, uri, p))
	}
	if n, d := p.armed.Load(), p.delay.Load(); n != 0 || d != 0 || len(p.partitions) != 0 {
		t.Errorf("%d cuts, %d partitions and a delay of %v are left", n, len(p.partitions), time.Duration(d))
	}
}
