package core

import (
	"context"
	"errors"
	"iter"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// closable is an object whose methods see whether it was closed.
type closable struct {
	closed  atomic.Bool
	entered chan struct{}
	release chan struct{}
	was     chan bool
}

func newClosable() *closable {
	return &closable{entered: make(chan struct{}, 1), release: make(chan struct{}), was: make(chan bool, 1)}
}

func (c *closable) Work()        { c.entered <- struct{}{}; <-c.release; c.was <- c.closed.Load() }
func (c *closable) Touch()       {}
func (c *closable) Close() error { c.closed.Store(true); return nil }

// Items says whether it was closed.
func (c *closable) Items() iter.Seq[bool] {
	return func(yield func(bool) bool) {
		for yield(c.closed.Load()) {
		}
	}
}

// register registers a factory of c alone.
func (c *closable) register(t *testing.T, d *Daemon, mode InstanceMode, oneway ...string) URI {
	t.Helper()
	uri, err := d.Register("o", &Factory{Like: c, Mode: mode, New: factoryOf(c)}, ObjectOptions{Names: map[string]string{"Close": "-"}, Oneway: oneway})
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// An instance is not closed while it serves, whoever gives it up.
//
// spec: O6
func TestInstanceClosesAfterCalls(t *testing.T) {
	t.Parallel()
	t.Run("oneway call of a session that has ended", func(t *testing.T) {
		t.Parallel()
		gone := make(chan struct{}, 1)
		d := serve(t, DaemonOptions{ClientGone: func(ClientInfo) { gone <- struct{}{} }})
		c := newClosable()
		p := NewProxy(c.register(t, d, InstanceSession, "work"), ProxyOptions{})
		if err := p.Call(t.Context(), "work", nil); err != nil {
			t.Fatal(err)
		}
		within(t, c.entered)
		p.Close()
		within(t, gone)
		close(c.release)
		if within(t, c.was) {
			t.Error("closed while a call ran")
		}
		eventually(t, c.closed.Load)
	})
	t.Run("call of the single one, unregistered", func(t *testing.T) {
		t.Parallel()
		d := serve(t, DaemonOptions{})
		c := newClosable()
		p := NewProxy(c.register(t, d, InstanceSingle), ProxyOptions{})
		defer p.Close()
		done := start(func() error { return p.Call(context.Background(), "work", nil) })
		within(t, c.entered)
		d.Unregister("o")
		close(c.release)
		if within(t, c.was) {
			t.Error("closed while a call ran")
		}
		if err := within(t, done); err != nil {
			t.Error(err)
		}
		eventually(t, c.closed.Load)
	})
	for _, mode := range []InstanceMode{InstanceSession, InstancePerCall} {
		t.Run("stream that lingers", func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{}, 2)
			d := serve(t, DaemonOptions{ClientGone: func(ClientInfo) { gone <- struct{}{} }})
			c := newClosable()
			p := NewProxy(c.register(t, d, mode), ProxyOptions{Plain: true})
			s := rawStream(t, p, "items")
			id := s.id
			s.c.nc.Close()
			within(t, gone)
			q := NewProxy(d.URI(daemonID), ProxyOptions{})
			defer q.Close()
			var closed bool
			if err := q.Call(t.Context(), "get_next_stream_item", &closed, id); err != nil || closed {
				t.Errorf("got %t, %v, want an item of an instance that is not closed", closed, err)
			}
			d.streams.close(id)
			eventually(t, c.closed.Load)
			p.Close()
		})
	}
	t.Run("daemon that served connections alone", func(t *testing.T) {
		t.Parallel()
		d, err := Listen("127.0.0.1:0", DaemonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c := newClosable()
		c.register(t, d, InstanceSingle)
		client, server := net.Pipe()
		done := start(func() error { return d.ServeConn(context.Background(), server) })
		p := NewProxyOnConn(client, "o", ProxyOptions{})
		if err := p.Call(t.Context(), "touch", nil); err != nil {
			t.Fatal(err)
		}
		d.Close()
		within(t, done)
		client.Close()
		eventually(t, c.closed.Load)
	})
}

func TestFactoryOfFactories(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	inner := &Factory{Like: &node{name: "like"}, New: factoryOf(&node{name: "made"})}
	uri, err := d.Register("o", &Factory{Like: &node{}, New: factoryOf(inner)}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if err := p.Call(t.Context(), "name", nil); !errors.Is(err, TypeError) {
		t.Errorf("got %v, want a TypeError", err)
	}
}

// An object with two ids is a proxy as long as it has one of them.
func TestAutoproxyTwoIDs(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	n := &node{name: "n"}
	n.next = n
	for _, id := range []string{"one", "two"} {
		if _, err := d.Register(id, n, ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	d.Unregister("one")
	p := NewProxy(d.URI("two"), ProxyOptions{})
	defer p.Close()
	var next any
	if err := p.Call(t.Context(), "next", &next); err != nil || nameOf(t, next) != "n" {
		t.Errorf("got %v, %v", next, err)
	}
}

// Objects are proxies wherever they are in a result, or in an exception.
//
// spec: O23
func TestAutoproxyNested(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{AcceptXML: true})
	n := &node{name: "n"}
	if _, err := d.Register("n", n, ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	var methods []Method
	add := func(name string, v any, err error) {
		methods = append(methods,
			Method{Name: name, Func: func(context.Context, []any) (any, error) { return v, err }},
			Method{Name: name + "_direct", Direct: func(_ context.Context, _ *Decoder, e *Encoder) error { e.Value(v); return err }})
	}
	for name, v := range map[string]any{
		"slice": []*node{n}, "map": map[string]*node{"a": n}, "struct": struct{ Node *node }{n}, "tuple": Tuple{n}, "dict": Dict{{"a", n}}, "array": [1]*node{n},
		"deep": []any{[]any{map[string]any{"a": n}}}, "pointer": &n, "interface": []interface{ Name() string }{n},
		"class": ClassDict{Class: "x.Y", Attrs: map[string]any{"a": n}},
	} {
		add(name, v, nil)
	}
	add("fails", nil, &RemoteError{Class: ValueError, Args: []any{n}})
	uri, err := d.Register("o", &Servant{Methods: methods}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, serializer := range []string{"msgpack", "serpent", "json", "xml"} {
		p := NewProxy(uri, ProxyOptions{Serializer: serializer})
		for _, m := range methods {
			err := p.Call(t.Context(), m.Name, new(any)) // without the daemon it cannot be sent: it has no exported fields
			if e, ok := errors.AsType[*RemoteError](err); ok && e.Class == ValueError && len(e.Args) == 1 {
				nameOf(t, e.Args[0])
			} else if err != nil {
				t.Errorf("%s, %s: %v", serializer, m.Name, err)
			}
		}
		p.Close()
	}
}

// CallFailed hears of calls in batches and of iterators, and not of the ends of streams.
//
// spec: O21
func TestCallFailed(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 10)
	d := serve(t, DaemonOptions{CallFailed: func(_ context.Context, err error) { failed <- err }})
	uri, err := d.Register("o", &Servant{Methods: []Method{
		{Name: "bad", Func: func(context.Context, []any) (any, error) { return nil, ValueError.New("bad") }},
		{Name: "items", Func: func(context.Context, []any) (any, error) { return newStreamer().Numbers(1), nil }},
		{Name: "failing", Func: func(context.Context, []any) (any, error) { return newStreamer().Failing(0), nil }},
	}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	for _, err := range p.Batch().Call("bad").Do(t.Context()) {
		if !errors.Is(err, ValueError) {
			t.Errorf("batch: got %v", err)
		}
	}
	if err := within(t, failed); !errors.Is(err, ValueError) {
		t.Errorf("batch: the hook got %v", err)
	}
	if _, err := read(t, rawStream(t, p, "items")); err != nil || len(failed) > 0 {
		t.Errorf("a stream that ends: got %v, and the hook was called %d times", err, len(failed))
	}
	if _, err := read(t, rawStream(t, p, "failing")); !errors.Is(err, ValueError) {
		t.Errorf("a stream that fails: got %v", err)
	}
	if err := within(t, failed); !errors.Is(err, ValueError) {
		t.Errorf("a stream that fails: the hook got %v", err)
	}
}

// A method that gives up with its caller is no exception, also with annotations.
func TestDeadlineWithAnnotations(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{ReplyAnnotations: func(context.Context) Annotations { return Annotations{"ABCD": []byte("x")} }})
	uri, err := d.Register("o", &Servant{Methods: []Method{
		{Name: "slow", Func: func(ctx context.Context, _ []any) (any, error) { <-ctx.Done(); return nil, ctx.Err() }},
	}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = p.Call(ctx, "slow", nil)
	if _, remote := errors.AsType[*RemoteError](err); remote || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}
