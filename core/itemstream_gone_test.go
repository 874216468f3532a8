package core

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
)

// waiter has iterators whose items take long.
type waiter struct {
	waiting chan context.Context // has that of Events while an item is waited for
	ended   chan error           // why the iterator did
}

func newWaiter() *waiter {
	return &waiter{waiting: make(chan context.Context, 10), ended: make(chan error, 10)}
}

// Events has none.
func (w *waiter) Events(ctx context.Context) iter.Seq[int] {
	return func(yield func(int) bool) {
		w.waiting <- ctx
		<-ctx.Done()
		w.ended <- ctx.Err()
	}
}

// Slow has an item each minute.
func (w *waiter) Slow() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 0; ; i++ {
			<-time.After(time.Minute) // virtual
			if !yield(i) {
				return
			}
		}
	}
}

func (w *waiter) Quick() int { return 1 }

// waiterBubble runs f in virtual time with a waiter, called "account", and what makes connections to it.
func waiterBubble(t *testing.T, opts DaemonOptions, withTLS bool, f func(t *testing.T, d *Daemon, w *waiter, connect func() *rawClient)) {
	if withTLS {
		opts.TLS = tlsFiles(t, testcert.New(t, "ca"), nil, "server", "localhost").Server()
	}
	streamBubble(t, opts, func(t *testing.T, ln *pipeListener, d *Daemon, _ *streamer) {
		w := newWaiter()
		if _, err := d.Register("account", w, ObjectOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		f(t, d, w, func() *rawClient {
			nc, err := ln.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			if withTLS {
				nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the year is 2000
			}
			return greet(t, nc)
		})
	})
}

// ask asks for an item without waiting for it.
func (c *rawClient) ask(id string, seq, flags uint16) {
	c.t.Helper()
	payload, err := msgpackSerializer{}.AppendRequest(nil, Request{Object: daemonID, Method: "get_next_stream_item", Args: []any{id}, Kwargs: noKwargs})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(header{typ: msgInvoke, serializer: msgpackID, seq: seq, flags: flags}, nil, payload)
}

func (c *rawClient) open(method string) string {
	c.t.Helper()
	m := c.invokeRaw("account", method)
	id, ok := m.annotation(annotationStream)
	if !ok {
		c.t.Fatalf("%s is no stream", method)
	}
	return string(id)
}

// A stream ends when its client has gone, though an item is waited for and with it the goroutine that would see the end of the connection.
//
// spec: S2
func TestItemStreamClientGone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts DaemonOptions
		tls  bool
		want time.Duration
	}{
		{"lingers", DaemonOptions{}, false, noticeAfter + defaultStreamLinger},
		{"does not linger", DaemonOptions{StreamLinger: -1}, false, noticeAfter},
		{"TLS", DaemonOptions{StreamLinger: -1}, true, noticeAfter},
		{"lifetime", DaemonOptions{StreamLifetime: 10 * time.Second}, false, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			waiterBubble(t, tc.opts, tc.tls, func(t *testing.T, d *Daemon, w *waiter, connect func() *rawClient) {
				c := connect()
				began := time.Now()
				c.ask(c.open("events"), 8, 0)
				<-w.waiting
				c.nc.Close()
				<-w.ended
				if got := time.Since(began); got != tc.want {
					t.Errorf("the iterator ended after %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// A client that waits for items which take long gets them, and what it sent meanwhile is answered.
func TestItemStreamSlow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts DaemonOptions
		tls  bool
	}{{"plain", DaemonOptions{}, false}, {"TLS", DaemonOptions{}, true}, {"idle timeout", DaemonOptions{IdleTimeout: 10 * time.Second}, false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			waiterBubble(t, tc.opts, tc.tls, func(t *testing.T, d *Daemon, w *waiter, connect func() *rawClient) {
				c := connect()
				defer c.nc.Close()
				id := c.open("slow")
				for range 2 {
					c.ask(id, 8, 0)
					c.ask(id, 9, 0)
					for _, seq := range []uint16{8, 9} {
						if m := c.receive(); m.seq != seq || m.flags&flagException != 0 {
							t.Errorf("reply %d, flags %#x; want the item %d", m.seq, m.flags, seq)
						}
					}
				}
				if m := c.invokeRaw("account", "quick"); m.flags&flagException != 0 {
					t.Error("a call after it: an exception")
				}
			})
		})
	}
}

// The connection is read from while a oneway call asks for an item, which is lost.
func TestItemStreamOneway(t *testing.T) {
	t.Parallel()
	waiterBubble(t, DaemonOptions{}, false, func(t *testing.T, d *Daemon, w *waiter, connect func() *rawClient) {
		c := connect()
		id := c.open("slow")
		c.ask(id, 8, flagOneway)
		for range 3 {
			<-time.After(noticeAfter) // virtual
			if m := c.invokeRaw("account", "quick"); m.flags&flagException != 0 {
				t.Error("another call: an exception")
			}
		}
		c.nc.Close()
		<-time.After(2 * time.Minute) // virtual
		if n := d.streams.count(); n != 0 {
			t.Errorf("%d streams left", n)
		}
	})
}

// Shutdown waits for an item as it does for any call.
func TestItemStreamShutdown(t *testing.T) {
	t.Parallel()
	waiterBubble(t, DaemonOptions{}, false, func(t *testing.T, d *Daemon, w *waiter, connect func() *rawClient) {
		c := connect()
		defer c.nc.Close()
		c.ask(c.open("slow"), 8, 0)
		<-time.After(2 * noticeAfter) // virtual
		down := start(func() error { return d.Shutdown(t.Context()) })
		if m := c.receive(); m.flags&flagException != 0 {
			t.Error("an exception in place of the item")
		}
		c.expectClosed()
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

// serveWaiter serves a waiter whose streams do not linger, unless opts says so.
func serveWaiter(t *testing.T, opts DaemonOptions, proxy ProxyOptions) (*waiter, *Daemon, *Proxy) {
	t.Helper()
	w := newWaiter()
	d := serve(t, opts)
	uri, err := d.Register("waiter", w, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return w, d, proxyFor(t, uri, proxy)
}

// spec: S2
func TestItemStreamSharedClientGone(t *testing.T) {
	t.Parallel()
	w, _, p := serveWaiter(t, DaemonOptions{StreamLinger: -1}, ProxyOptions{})
	s := rawStream(t, p, "events")
	next := start(func() error { return s.Next(context.Background(), nil) })
	within(t, w.waiting)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, w.ended)
	if err := within(t, next); err == nil {
		t.Error("an item of a proxy that is closed")
	}
}

// Who gives up waiting for an item gives up the stream, and the server hears of it, though the connection stays.
func TestStreamNextGivenUp(t *testing.T) {
	t.Parallel()
	w, d, p := serveWaiter(t, DaemonOptions{}, ProxyOptions{})
	s := rawStream(t, p, "events")
	ctx, cancel := context.WithCancel(t.Context())
	next := start(func() error { return s.Next(ctx, nil) })
	within(t, w.waiting)
	cancel()
	if err := within(t, next); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	within(t, w.ended)
	eventually(t, func() bool { return d.streams.count() == 0 })
	if err := s.Next(t.Context(), nil); err == nil {
		t.Error("an item after that")
	}
}

func (s *itemStreams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// opener has a method that takes its time until it returns an iterator.
type opener struct {
	begun chan context.Context
	goOn  chan struct{}
}

func (o *opener) Open(ctx context.Context) iter.Seq[int] {
	o.begun <- ctx
	<-o.goOn
	return func(func(int) bool) {}
}

// A stream that comes when its caller has given up is closed.
func TestStreamAfterCallerGaveUp(t *testing.T) {
	t.Parallel()
	o := &opener{make(chan context.Context), make(chan struct{})}
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("opener", o, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := proxyFor(t, uri, ProxyOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	var s *Stream
	called := start(func() error { return p.Call(ctx, "open", &s) })
	stream := within(t, o.begun)
	cancel()
	if err := within(t, called); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	close(o.goOn)
	within(t, stream.Done()) // which lasts as long as the stream; the connection stays
}

// A call whose caller expects no stream does not leave one behind, nor does it keep the connection.
func TestStreamNotTaken(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]ProxyOptions{"shared": {}, "plain": {Plain: true, MaxConns: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, d, p := serveWaiter(t, DaemonOptions{}, opts)
			for range 3 {
				v := NewInvocation("slow")
				if err := p.Invoke(t.Context(), v); err != nil {
					t.Fatal(err)
				}
				if v.Result.Int(); v.Result.Err() == nil {
					t.Error("a stream was read as an int")
				}
				v.Free()
			}
			v := NewInvocation("slow")
			if err := p.Invoke(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			v.Free()
			eventually(t, func() bool { return d.streams.count() == 0 })
			v = NewInvocation("events")
			if err := p.Invoke(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			var s *Stream
			v.Result.Value(&s)
			if err := v.Result.Err(); err != nil {
				t.Fatal(err)
			}
			v.Free()
			if n := d.streams.count(); n != 1 {
				t.Errorf("%d streams, want the one that was taken", n)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// serialStreamer notes whether its lock is held while its code runs.
type serialStreamer struct {
	lock *sync.Mutex
	free int // how often it was not
}

func (s *serialStreamer) check() {
	if s.lock.TryLock() {
		s.free++
		s.lock.Unlock()
	}
}

func (s *serialStreamer) Free() int { return s.free }

func (s *serialStreamer) Items() iter.Seq[int] {
	return func(yield func(int) bool) {
		defer s.check()
		for i := range 3 {
			s.check()
			if !yield(i) {
				return
			}
		}
	}
}

// The iterators of a Serial object run one at a time with its methods.
func TestItemStreamSerial(t *testing.T) {
	t.Parallel()
	o := new(serialStreamer)
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("s", o, ObjectOptions{Serial: true})
	if err != nil {
		t.Fatal(err)
	}
	o.lock = d.object("s").serial
	p := proxyFor(t, uri, ProxyOptions{})
	if items, err := read(t, rawStream(t, p, "items")); len(items) != 3 || err != nil {
		t.Errorf("got %v, %v", items, err)
	}
	s := rawStream(t, p, "items")
	if err := s.Next(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.closeBy(t.Context(), p); err != nil { // and awaits it
		t.Fatal(err)
	}
	var free int
	if err := p.Call(t.Context(), "free", &free); err != nil || free != 0 {
		t.Errorf("%d times another call could have run meanwhile, %v", free, err)
	}
}
