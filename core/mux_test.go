package core

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
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
