package failover

import (
	"context"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// instant is an endpoint that costs nothing.
type instant struct{ endpoint }

func (instant) Call(context.Context, string, any, ...any) error { return nil }
func (instant) Metadata(context.Context) (core.Metadata, error) { return core.Metadata{}, nil }
func (instant) Close() error                                    { return nil }

func instantProxy(tb testing.TB) *Proxy {
	p := newProxy("bank", Static(uriOf("a"), uriOf("b"), uriOf("c")), Options{Contracts: idempotent.Contracts},
		func(core.URI) endpoint { return instant{} })
	tb.Cleanup(func() { p.Close() })
	return p
}

func TestPlainCallsDoNotAllocate(t *testing.T) {
	p := instantProxy(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for range 10 {
		p.Call(ctx, "plain", nil)
	}
	// The list is renewed every two seconds, which takes some.
	if got := testing.AllocsPerRun(1000, func() { p.Call(ctx, "plain", nil) }); got >= 1 {
		t.Errorf("allocations per call: got %v, want 0", got)
	}
}

// BenchmarkOverhead is what picking, counting and classifying cost, without a network.
//
//	go test -run - -bench Overhead -benchmem ./failover
func BenchmarkOverhead(b *testing.B) {
	p := instantProxy(b)
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for _, method := range []string{"plain", "get"} {
		b.Run(method, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Call(ctx, method, nil)
			}
		})
		b.Run(method+"Parallel", func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p.Call(ctx, method, nil)
				}
			})
		})
	}
}
