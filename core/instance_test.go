package core

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// counted is an object that knows its number.
type counted struct {
	number int64
	closed chan<- int64
	Calls  int
}

func (c *counted) Number() int64 { c.Calls++; return c.number }

func (c *counted) Close() error {
	c.closed <- c.number
	return nil
}

// countedFactory makes counted objects, of which it closes to the channel those that were closed.
func countedFactory(mode InstanceMode) (*Factory, <-chan int64) {
	closed := make(chan int64, 1000)
	var made atomic.Int64
	return &Factory{Like: (*counted)(nil), Mode: mode, New: func(context.Context) (any, error) {
		return &counted{number: made.Add(1), closed: closed}, nil
	}}, closed
}

var countedOptions = ObjectOptions{Names: map[string]string{"Close": "-"}}

// spec: O6
func TestInstanceModes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		mode   InstanceMode
		first  []int64 // of three calls of a proxy
		second []int64 // of three calls of another one, after the first was closed
		closed []int64 // when the daemon has stopped, sorted
	}{
		{"session", InstanceSession, []int64{1, 1, 1}, []int64{2, 2, 2}, []int64{1, 2}},
		{"single", InstanceSingle, []int64{1, 1, 1}, []int64{1, 1, 1}, []int64{1}},
		{"per call", InstancePerCall, []int64{1, 2, 3}, []int64{4, 5, 6}, []int64{1, 2, 3, 4, 5, 6}},
	} {
		for _, opts := range []ProxyOptions{{}, {Plain: true}} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				d, err := Listen("127.0.0.1:0", DaemonOptions{})
				if err != nil {
					t.Fatal(err)
				}
				served := start(func() error { return d.Serve(context.Background()) })
				factory, closed := countedFactory(tc.mode)
				uri, err := d.Register("counted", factory, countedOptions)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range [][]int64{tc.first, tc.second} {
					p := NewProxy(uri, opts)
					var got []int64
					for range 3 {
						var n int64
						if err := p.Call(t.Context(), "number", &n); err != nil {
							t.Fatal(err)
						}
						got = append(got, n)
					}
					if !slices.Equal(got, want) {
						t.Errorf("got %v, want %v", got, want)
					}
					p.Close()
				}
				d.Close()
				if err := <-served; err != nil {
					t.Error(err)
				}
				var got []int64
				for len(closed) > 0 {
					got = append(got, <-closed)
				}
				slices.Sort(got)
				if !slices.Equal(got, tc.closed) {
					t.Errorf("closed %v, want %v", got, tc.closed)
				}
			})
		}
	}
}

// Of many first calls at the same time one makes the object.
func TestInstancesAtOnce(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	factory, _ := countedFactory(InstanceSession)
	uri, err := d.Register("counted", factory, countedOptions)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			var n int64
			if err := p.Call(context.Background(), "number", &n); err != nil || n != 1 {
				t.Errorf("got %d, %v, want 1", n, err)
			}
		})
	}
	wg.Wait()
}

// spec: O7
func TestFactoryErrors(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	fail := true
	uri, err := d.Register("counted", &Factory{Like: &counted{}, Mode: InstanceSingle, New: func(ctx context.Context) (any, error) {
		if fail {
			fail = false
			return nil, ValueError.New("not now, said %s", CallInfoFrom(ctx).Method)
		}
		return &counted{number: 5, closed: make(chan int64, 1)}, nil
	}}, countedOptions)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := d.Register("odd", &Factory{Like: &counted{}, New: func(context.Context) (any, error) { return 5, nil }}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	panics, err := d.Register("panics", &Factory{Like: &counted{}, New: func(context.Context) (any, error) { panic("no") }}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		uri  URI
		want ExceptionClass
		text string
	}{{uri, ValueError, "not now, said number"}, {odd, TypeError, "nothing to expose"}, {panics, RuntimeError, "panic: no"}} {
		p := NewProxy(tc.uri, ProxyOptions{})
		if err := p.Call(t.Context(), "number", nil); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: got %v, want a %s: %s", tc.uri.Object, err, tc.want, tc.text)
		}
		p.Close()
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	var n int64
	if err := p.Call(t.Context(), "number", &n); err != nil || n != 5 {
		t.Errorf("the next call: got %d, %v, want 5", n, err)
	}
	for _, tc := range []struct {
		factory *Factory
		want    string
	}{
		{nil, "nil factory"},
		{&Factory{Like: &counted{}}, "without New"},
		{&Factory{New: factoryOf(nil)}, "without Like"},
		{&Factory{Like: &Factory{}, New: factoryOf(nil)}, "factory of factories"},
		{&Factory{Like: &counted{}, Mode: 9, New: factoryOf(nil)}, "unknown instance mode 9"},
		{&Factory{Like: 5, New: factoryOf(nil)}, "nothing to expose"},
	} {
		if _, err := d.Register("", tc.factory, ObjectOptions{}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

func factoryOf(v any) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return v, nil }
}

// spec: O3
func TestForce(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	factory, closed := countedFactory(InstanceSingle)
	uri, err := d.Register("o", factory, countedOptions)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	if err := p.Call(t.Context(), "number", nil); err != nil {
		t.Fatal(err)
	}
	other := &counted{number: 77}
	if _, err := d.Register("o", other, countedOptions); !errors.Is(err, DaemonError) {
		t.Errorf("taken: got %v, want a DaemonError", err)
	}
	force := countedOptions
	force.Force = true
	if _, err := d.Register("o", other, force); err != nil {
		t.Fatal(err)
	}
	if n := within(t, closed); n != 1 {
		t.Errorf("closed %d, want the instance that was replaced", n)
	}
	var n int64
	if err := p.Call(t.Context(), "number", &n); err != nil || n != 77 {
		t.Errorf("got %d, %v, want 77", n, err)
	}
	if _, err := d.Register(daemonID, other, force); !errors.Is(err, DaemonError) {
		t.Errorf("the daemon's own object: got %v, want a DaemonError", err)
	}
}

// resource is something that has to be closed.
type resource struct{ closed chan struct{} }

func (r *resource) Close() error {
	close(r.closed)
	return nil
}

// spec: O22
func TestTrack(t *testing.T) {
	t.Parallel()
	kept, given := &resource{make(chan struct{})}, &resource{make(chan struct{})}
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("o", &Servant{Methods: []Method{{Name: "use", Func: func(ctx context.Context, _ []any) (any, error) {
		if err := errors.Join(Track(ctx, kept), Track(ctx, given)); err != nil {
			return nil, err
		}
		Untrack(ctx, given)
		return nil, nil
	}}}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	if err := p.Call(t.Context(), "use", nil); err != nil {
		t.Fatal(err)
	}
	p.Close()
	within(t, kept.closed)
	select {
	case <-given.closed:
		t.Error("what was given away was closed")
	default:
	}
	outside := &resource{make(chan struct{})}
	if err := Track(t.Context(), outside); err == nil {
		t.Error("outside of a call: no error")
	}
	within(t, outside.closed)
	Untrack(t.Context(), outside)
}

// spec: O9
func TestIdleObject(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		d, err := NewDaemon(ln, DaemonOptions{})
		if err != nil {
			t.Fatal(err)
		}
		served := start(func() error { return d.Serve(t.Context()) })
		idle := make(chan string, 2)
		opts := ObjectOptions{IdleTimeout: time.Minute, OnIdle: func(id string) { idle <- id }}
		release := make(chan struct{})
		if _, err := d.Register("account", &Servant{Methods: []Method{
			{Name: "quick", Func: func(context.Context, []any) (any, error) { return nil, nil }},
			{Name: "long", Func: func(context.Context, []any) (any, error) { <-release; return nil, nil }},
		}}, opts); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Register("replaced", &counted{}, opts); err != nil {
			t.Fatal(err)
		}
		d.Unregister("replaced")
		c := ln.connect(t)
		<-time.After(50 * time.Second) // virtual, as below
		c.invokeRaw("account", "quick")
		<-time.After(50 * time.Second)
		if m := c.invokeRaw("account", "quick"); m.flags&flagException != 0 {
			t.Error("the object is gone though it was called 50 s ago")
		}
		long := start(func() error { c.invokeRaw("account", "long"); return nil })
		<-time.After(time.Hour)
		close(release)
		<-long
		if m := c.invokeRaw("account", "quick"); m.flags&flagException != 0 {
			t.Error("the object is gone though a call of it ran")
		}
		<-time.After(61 * time.Second)
		if id := <-idle; id != "account" {
			t.Errorf("idle: %q", id)
		}
		if m := c.invokeRaw("account", "quick"); m.flags&flagException == 0 {
			t.Error("the object is there though nobody called it for a minute")
		}
		c.nc.Close()
		d.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// spec: O21
func TestHooks(t *testing.T) {
	t.Parallel()
	gone := make(chan ClientInfo, 1)
	failed := make(chan error, 10)
	house := make(chan struct{}, 1)
	d := serve(t, DaemonOptions{
		ValidateHandshake: func(ctx context.Context, _ any) (any, error) { SetPrincipal(ctx, "somebody"); return "hello", nil },
		ClientGone:        func(c ClientInfo) { gone <- c; panic("hooks may be wrong") },
		ReplyAnnotations: func(ctx context.Context) Annotations {
			return Annotations{"DDDD": []byte(CallInfoFrom(ctx).Method), "BACK": []byte("daemon"), annotationNotExecuted: nil, "long name": nil}
		},
		CallFailed: func(ctx context.Context, err error) { failed <- err; panic(CallInfoFrom(ctx).Method) },
		Housekeeping: func(context.Context) {
			select {
			case house <- struct{}{}:
			default:
			}
		},
		HousekeepingInterval: time.Millisecond,
	})
	fail := func(context.Context, []any) (any, error) { return nil, ValueError.New("boxed") }
	uri, err := d.Register("o", &Servant{Methods: []Method{
		{Name: "boxed", Func: fail},
		{Name: "later", Oneway: true, Func: fail},
		{Name: "direct", Direct: func(context.Context, *Decoder, *Encoder) error { return ValueError.New("direct") }},
		{Name: "fine", Direct: func(ctx context.Context, _ *Decoder, result *Encoder) error {
			AnnotateReply(ctx, "BACK", []byte("method"))
			result.Int(1)
			return nil
		}},
	}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	for _, method := range []string{"boxed", "direct"} {
		if err := p.Call(t.Context(), method, nil); !errors.Is(err, ValueError) {
			t.Errorf("%s: got %v", method, err)
		}
		if err := within(t, failed); !strings.Contains(err.Error(), method) {
			t.Errorf("%s: the hook got %v", method, err)
		}
	}
	if err := p.Call(t.Context(), "later", nil); err != nil {
		t.Error(err)
	}
	if err := within(t, failed); !errors.Is(err, ValueError) {
		t.Errorf("oneway: the hook got %v", err)
	}
	if err := p.Call(t.Context(), "nope", nil); err == nil || len(failed) > 0 {
		t.Errorf("no method: got %v; the hook was called %d times", err, len(failed))
	}
	var back Annotations
	if err := p.Call(WithReplyAnnotations(t.Context(), &back), "fine", nil); err != nil {
		t.Fatal(err)
	}
	if len(back) != 2 || string(back["DDDD"]) != "fine" || string(back["BACK"]) != "method" {
		t.Errorf("annotations: got %q", back)
	}
	within(t, house)
	p.Close()
	if c := within(t, gone); c.Principal != "somebody" || c.Peer == nil {
		t.Errorf("gone: got %+v", c)
	}
}

// spec: O19
func TestServeConn(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	if _, err := d.Register("account", newAccount(), accountOptions()); err != nil {
		t.Fatal(err)
	}
	pair := func() (client, server net.Conn) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		client, err = net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if server, err = ln.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close(); server.Close() })
		return client, server
	}
	client, server := pair()
	done := start(func() error { return d.ServeConn(context.Background(), server) })
	p := NewProxyOnConn(client, "account", ProxyOptions{})
	if err := p.Call(t.Context(), "deposit", nil, "x", 5); err != nil {
		t.Error(err)
	}
	client.Close()
	if err := within(t, done); err != nil {
		t.Errorf("after the end of the peer: got %v, want nil", err)
	}

	_, server = pair()
	ctx, cancel := context.WithCancel(t.Context())
	done = start(func() error { return d.ServeConn(ctx, server) })
	cancel()
	if err := within(t, done); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: got %v, want Canceled", err)
	}
	if err := server.SetDeadline(time.Time{}); err != nil {
		t.Errorf("the connection was closed: %v", err)
	}

	_, server = pair()
	done = start(func() error { return d.ServeConn(t.Context(), server) })
	eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.conns) == 1 })
	d.Close()
	within(t, done)
	if err := d.ServeConn(t.Context(), server); !errors.Is(err, ErrClosed) {
		t.Errorf("closed daemon: got %v, want ErrClosed", err)
	}
}
