package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// streamer has methods that return iterators.
type streamer struct {
	Squares iter.Seq[int] // an attribute
	Nothing iter.Seq[int]

	running atomic.Int32         // iterators that have begun and not returned
	ctx     chan context.Context // of forever
}

func newStreamer() *streamer {
	return &streamer{Squares: slices.Values([]int{0, 1, 4}), ctx: make(chan context.Context, 100)}
}

func (s *streamer) Numbers(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		s.running.Add(1)
		defer s.running.Add(-1)
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func (s *streamer) Words(words []string) iter.Seq2[int, string] { return slices.All(words) }

func (s *streamer) Failing(n int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s.running.Add(1)
		defer s.running.Add(-1)
		for i := range n {
			if !yield(fmt.Sprint(i), nil) {
				return
			}
		}
		yield("", ValueError.New("after %d", n))
	}
}

func (s *streamer) Refused() (iter.Seq[int], error) { return nil, ValueError.New("no items") }

func (s *streamer) Panicking() (iter.Seq[any], error) {
	return func(yield func(any) bool) {
		yield(1)
		panic("in the middle")
	}, nil
}

// Stubborn goes on after the end of the loop, which Go makes a panic.
func (s *streamer) Stubborn() iter.Seq[int] {
	return func(yield func(int) bool) {
		for {
			yield(1)
		}
	}
}

// Forever yields until its context ends, and then waits for it.
func (s *streamer) Forever(ctx context.Context) iter.Seq[int] {
	return func(yield func(int) bool) {
		s.running.Add(1)
		defer s.running.Add(-1)
		s.ctx <- ctx
		for i := 0; yield(i); i++ {
			if i == 2 {
				<-ctx.Done()
			}
		}
	}
}

func (s *streamer) Plain() int { return 1 }

// read collects the items of a stream.
func read(t *testing.T, s *Stream) (items []any, err error) {
	t.Helper()
	for item, err := range s.All(t.Context()) {
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}

// spec: S1
func TestItemStreams(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts ProxyOptions
	}{{"shared", ProxyOptions{}}, {"plain", ProxyOptions{Plain: true}}, {"serpent", ProxyOptions{Serializer: "serpent"}}, {"marshal", ProxyOptions{Serializer: "marshal"}},
		{"json", ProxyOptions{Serializer: "json"}}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := newStreamer()
			d := serve(t, DaemonOptions{})
			uri, err := d.Register("streamer", o, ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p := NewProxy(uri, tc.opts)
			defer p.Close()
			open := func(method string, args ...any) *Stream {
				t.Helper()
				var s *Stream
				if err := p.Call(t.Context(), method, &s, args...); err != nil {
					t.Fatalf("%s: %v", method, err)
				}
				return s
			}
			check := func(s *Stream, want string) {
				t.Helper()
				items, err := read(t, s)
				if got := fmt.Sprint(items, " ", err); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				if err := s.Next(t.Context(), nil); err == nil {
					t.Error("an item after the end")
				}
			}
			check(open("numbers", 3), "[0 1 2] <nil>")
			check(open("numbers", 0), "[] <nil>")
			check(open("failing", 2), "[0 1] ValueError: after 2")
			check(open("panicking"), "[1] RuntimeError: panic: in the middle")
			items, err := read(t, open("words", []string{"a", "b"}))
			if err != nil || len(items) != 2 || !slices.Equal(argsOf(items[1]), []any{int64(1), "b"}) {
				t.Errorf("pairs: got %v, %v", items, err)
			}
			var s *Stream
			if err := p.Attr(t.Context(), "squares", &s); err != nil {
				t.Fatal(err)
			}
			check(s, "[0 1 4] <nil>")
			if err := p.SetAttr(t.Context(), "squares", []int{1}); !errors.Is(err, AttributeError) {
				t.Errorf("setting an iterator: got %v, want an AttributeError", err)
			}
			if err := p.Attr(t.Context(), "nothing", &s); err != nil {
				t.Fatal(err)
			}
			if _, err := read(t, s); err == nil {
				t.Error("an iterator that is nil has items")
			}
			if err := p.Call(t.Context(), "refused", &s); !errors.Is(err, ValueError) {
				t.Errorf("no iterator: got %v, want a ValueError", err)
			}
			var n int
			if err := p.Call(t.Context(), "plain", &n); err != nil || n != 1 {
				t.Errorf("a method without a stream: got %d, %v", n, err)
			}
			eventually(t, func() bool { return o.running.Load() == 0 })
		})
	}
}

// An attribute, and a Servant's method that does not say so beforehand, may be an iterator, too.
//
// spec: S1
func TestItemStreamOfServant(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	numbers := newStreamer().Numbers(3)
	uri, err := d.Register("s", &Servant{
		Methods:    []Method{{Name: "m", Func: func(context.Context, []any) (any, error) { return numbers, nil }}},
		Attributes: []Attribute{{Name: "a", Read: func(context.Context) (any, error) { return numbers, nil }}},
	}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	var a *Stream
	if err := p.Attr(t.Context(), "a", &a); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Stream{a, rawStream(t, p, "m")} {
		if items, err := read(t, s); fmt.Sprint(items) != "[0 1 2]" || err != nil {
			t.Errorf("got %v, %v", items, err)
		}
	}
}

// rawStream opens a stream and returns its id.
func rawStream(t *testing.T, p *Proxy, method string, args ...any) *Stream {
	t.Helper()
	var s *Stream
	if err := p.Call(t.Context(), method, &s, args...); err != nil {
		t.Fatal(err)
	}
	return s
}

// A stream that is closed, by whichever connection, stops its iterator, and its context ends, though a call runs it.
//
// spec: S1
func TestItemStreamClose(t *testing.T) {
	t.Parallel()
	o := newStreamer()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("streamer", o, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	other := NewProxy(uri, ProxyOptions{Plain: true})
	defer other.Close()

	s := rawStream(t, p, "numbers", 10)
	if err := s.Next(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return o.running.Load() == 0 })

	s = rawStream(t, p, "stubborn") // its panic must not end the daemon
	if err := s.Next(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	s = rawStream(t, p, "forever")
	for range 3 {
		if err := s.Next(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx := <-o.ctx
	blocked := start(func() error { return s.Next(context.Background(), nil) })
	if err := s.closeBy(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := within(t, blocked); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "item stream terminated") {
		t.Errorf("an item that was waited for: got %v", err)
	}
	within(t, ctx.Done())
	eventually(t, func() bool { return o.running.Load() == 0 })
	if err := p.Call(t.Context(), "plain", nil); err != nil {
		t.Error(err)
	}
}

// closeBy closes the stream over another proxy of the daemon.
func (s *Stream) closeBy(ctx context.Context, p *Proxy) error {
	daemon := p.uri
	daemon.Object = daemonID
	q := NewProxy(daemon, ProxyOptions{AwaitOneway: true})
	defer q.Close()
	return q.Call(ctx, "close_stream", nil, s.id)
}

// Clients that ask for items at the same time get each item once.
func TestItemStreamConcurrent(t *testing.T) {
	t.Parallel()
	o := newStreamer()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("streamer", o, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	const n = 500
	s := rawStream(t, p, "numbers", n)
	daemon := uri
	daemon.Object = daemonID
	q := NewProxy(daemon, ProxyOptions{})
	defer q.Close()
	var mu sync.Mutex
	got := make(map[int]int)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				var i int
				err := q.Call(context.Background(), "get_next_stream_item", &i, s.id)
				switch {
				case errors.Is(err, StopIteration), errors.Is(err, PyroError) && strings.Contains(err.Error(), "item stream terminated"):
					return
				case err != nil:
					t.Error(err)
					return
				}
				mu.Lock()
				got[i]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(got) != n || slices.Max(slices.Collect(maps.Values(got))) != 1 {
		t.Errorf("got %d items, want each of %d once", len(got), n)
	}
}

// spec: S2
func TestItemStreamLimits(t *testing.T) {
	t.Parallel()
	register := func(opts DaemonOptions) (*streamer, *Proxy) {
		o := newStreamer()
		d := serve(t, opts)
		uri, err := d.Register("streamer", o, ObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := NewProxy(uri, ProxyOptions{})
		t.Cleanup(func() { p.Close() })
		return o, p
	}
	t.Run("none", func(t *testing.T) {
		_, p := register(DaemonOptions{NoStreams: true})
		var s *Stream
		err := p.Call(t.Context(), "numbers", &s, 3)
		if want := "result of call is an iterator, but the server is not configured to allow streaming"; !errors.Is(err, ProtocolError) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a ProtocolError: %s", err, want)
		}
	})
	t.Run("two", func(t *testing.T) {
		o, p := register(DaemonOptions{MaxStreams: 2})
		first := rawStream(t, p, "numbers", 3)
		rawStream(t, p, "numbers", 3)
		if err := p.Call(t.Context(), "numbers", nil, 3); err == nil || !strings.Contains(err.Error(), "too many item streams (max=2)") {
			t.Errorf("the third: got %v", err)
		}
		if err := first.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			var s *Stream
			return p.Call(t.Context(), "numbers", &s, 3) == nil
		})
		if n := o.running.Load(); n != 0 {
			t.Errorf("%d iterators run, and none was asked for an item", n)
		}
	})
}

// spec: S4
func TestItemStreamInBatch(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("streamer", newStreamer(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	b := p.Batch()
	b.Call("plain")
	b.Call("numbers", 3)
	var last error
	for _, err := range b.Do(t.Context()) {
		last = err
	}
	if err := last; !errors.Is(err, TypeError) || !strings.Contains(err.Error(), "item streams are not supported in batches") {
		t.Errorf("got %v, want a TypeError about streams", err)
	}
}

// streamBubble runs f with a streamer, in virtual time.  next asks for an item of the stream over c.
func streamBubble(t *testing.T, opts DaemonOptions, f func(t *testing.T, ln *pipeListener, d *Daemon, o *streamer)) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		d, err := NewDaemon(ln, opts)
		if err != nil {
			t.Fatal(err)
		}
		o := newStreamer()
		if _, err := d.Register("account", o, ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		served := start(func() error { return d.Serve(t.Context()) })
		f(t, ln, d, o)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if n := o.running.Load(); n != 0 {
			t.Errorf("%d iterators are left", n)
		}
	})
}

// invokeRaw makes a call and returns the reply.
func (c *rawClient) invokeRaw(object, method string, args ...any) message {
	c.t.Helper()
	payload, err := msgpackSerializer{}.AppendRequest(nil, Request{Object: object, Method: method, Args: args, Kwargs: noKwargs})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(header{typ: msgInvoke, serializer: msgpackID, seq: 7}, nil, payload)
	return c.receive()
}

func (c *rawClient) openStream() string {
	c.t.Helper()
	m := c.invokeRaw("account", "numbers", 1000)
	id, ok := m.annotation(annotationStream)
	if !ok || m.flags&(flagItemStream|flagException) != flagItemStream|flagException {
		c.t.Fatalf("flags %#x, stream %q", m.flags, id)
	}
	return string(id)
}

// hasItem asks for the next item.
func (c *rawClient) hasItem(id string) bool {
	c.t.Helper()
	return c.invokeRaw(daemonID, "get_next_stream_item", id).flags&flagException == 0
}

// Streams end after their lifetime, and after they have lingered; another connection can go on with one that lingers.
//
// spec: S2
func TestItemStreamTimes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts DaemonOptions
		wait time.Duration // after the connection has ended; 0 if it stays
		idle time.Duration // before the item is asked for
		want bool
	}{
		{"no bound", DaemonOptions{}, 0, 1000 * time.Hour, true},
		{"lifetime", DaemonOptions{StreamLifetime: time.Minute}, 0, time.Minute - time.Second, true},
		{"after its lifetime", DaemonOptions{StreamLifetime: time.Minute}, 0, time.Minute + time.Second, false},
		{"lingers", DaemonOptions{}, 29 * time.Second, 0, true},
		{"has lingered", DaemonOptions{}, 31 * time.Second, 0, false},
		{"lingers shortly", DaemonOptions{StreamLinger: time.Second}, 2 * time.Second, 0, false},
		{"does not linger", DaemonOptions{StreamLinger: -1}, time.Nanosecond, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			streamBubble(t, tc.opts, func(t *testing.T, ln *pipeListener, _ *Daemon, o *streamer) {
				c := ln.connect(t)
				id := c.openStream()
				if !c.hasItem(id) {
					t.Fatal("no first item")
				}
				if tc.wait > 0 {
					c.nc.Close()
					<-time.After(tc.wait) // virtual
					c = ln.connect(t)
				}
				<-time.After(tc.idle) // virtual
				if got := c.hasItem(id); got != tc.want {
					t.Errorf("another item: %t, want %t", got, tc.want)
				}
				if !tc.want && o.running.Load() != 0 {
					t.Error("the iterator was not stopped")
				}
				if tc.wait > 0 && tc.want { // it is the new connection's now, and lingers no more
					<-time.After(time.Hour) // virtual
					if !c.hasItem(id) {
						t.Error("the stream ended though its new client was there")
					}
				}
				c.nc.Close()
			})
		})
	}
}

// The deadline of the call that begins a stream does not end the context of its iterator.
func TestItemStreamOutlivesDeadline(t *testing.T) {
	t.Parallel()
	o := newStreamer()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("streamer", o, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	var s *Stream
	err = p.Call(ctx, "forever", &s)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Next(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	stream := <-o.ctx
	if deadline, ok := stream.Deadline(); ok || stream.Err() != nil {
		t.Errorf("the iterator's context ends at %v, %v; want no deadline", deadline, stream.Err())
	}
	if info := CallInfoFrom(stream); info == nil || info.Method != "forever" {
		t.Errorf("the iterator's call is %+v", info)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, stream.Done())
}
