package core

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// serveDirect serves one method that is run without boxing, and returns proxies of both kinds for it.
func serveDirect(t *testing.T, run func(ctx context.Context, args *Decoder, result *Encoder) error) (*Daemon, map[string]*Proxy) {
	t.Helper()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("o", &Servant{Methods: []Method{{Name: "run", Direct: run}}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	proxies := map[string]*Proxy{"shared": NewProxy(uri, ProxyOptions{}), "plain": NewProxy(uri, ProxyOptions{Plain: true, Serializer: "msgpack"})}
	for _, p := range proxies {
		t.Cleanup(func() { p.Close() })
	}
	return d, proxies
}

// A connection that knows a method does not call it any more when the object has been replaced, or is gone.
func TestDirectMethodReplaced(t *testing.T) {
	t.Parallel()
	answer := func(text string) func(context.Context, *Decoder, *Encoder) error {
		return func(_ context.Context, _ *Decoder, result *Encoder) error { result.String(text); return nil }
	}
	d, proxies := serveDirect(t, answer("first"))
	check := func(want string) {
		t.Helper()
		for kind, p := range proxies {
			for range 2 {
				var got string
				if err := p.Call(t.Context(), "run", &got); err != nil || got != want {
					t.Errorf("%s: got %q, %v, want %q", kind, got, err, want)
				}
			}
		}
	}
	check("first")
	if _, err := d.Register("o", &Servant{Methods: []Method{{Name: "run", Direct: answer("second")}}}, ObjectOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	check("second")
	d.Unregister("o")
	for kind, p := range proxies {
		if err := p.Call(t.Context(), "run", nil); err == nil {
			t.Errorf("%s: an object that is gone answered", kind)
		}
	}
}

// The context that a method keeps has ended with its return if its caller's time was bounded, whether somebody asked before or not.
func TestKeptContext(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint("asked ", asked), func(t *testing.T) {
			t.Parallel()
			kept := make(chan context.Context, 1)
			_, proxies := serveDirect(t, func(ctx context.Context, _ *Decoder, result *Encoder) error {
				if asked && ctx.Err() != nil {
					t.Error("a context ended before its method")
				}
				kept <- ctx
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			p := proxies["shared"] // the deadline travels
			if err := p.Call(ctx, "run", nil); err != nil {
				t.Fatal(err)
			}
			got := <-kept
			if _, bounded := got.Deadline(); !bounded {
				t.Error("no deadline")
			}
			select {
			case <-got.Done():
			default:
				t.Error("it goes on")
			}
			if first, second := CallInfoFrom(got), CallInfoFrom(got); got.Err() == nil || first != second {
				t.Error("no error, or not the same call")
			}
		})
	}
}

// A oneway call without a correlation id gets one when somebody asks, always the same; one that its caller gave stays, whatever it is.
func TestCorrelationIDOfOneway(t *testing.T) {
	t.Parallel()
	type ids struct{ info, calls [16]byte }
	got := make(chan ids, 1)
	infoFirst := true
	_, proxies := serveDirect(t, func(ctx context.Context, _ *Decoder, _ *Encoder) error {
		var i ids
		if infoFirst {
			i.info = CallInfoFrom(ctx).CorrelationID
		}
		i.calls = outgoingFrom(ctx).correlationID
		i.info = CallInfoFrom(ctx).CorrelationID
		infoFirst = !infoFirst
		got <- i
		return nil
	})
	p := proxies["shared"]
	oneway := func(ctx context.Context) ids {
		t.Helper()
		call := NewInvocation("run")
		defer call.Free()
		call.Oneway()
		if err := p.Invoke(ctx, call); err != nil {
			t.Fatal(err)
		}
		return <-got
	}
	seen := make(map[[16]byte]bool)
	for range 4 {
		i := oneway(t.Context())
		if i.info != i.calls || i.info == [16]byte{} || seen[i.info] {
			t.Errorf("got %x, and %x for the calls of the method", i.info, i.calls)
		}
		seen[i.info] = true
	}
	for _, id := range [][16]byte{{}, {1, 2, 3}} {
		if i := oneway(WithCorrelationID(t.Context(), id)); i.info != id || i.calls != id {
			t.Errorf("got %x and %x, want %x", i.info, i.calls, id)
		}
	}
}
