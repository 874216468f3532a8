package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// benchmark runs do with a number of callers at once, at the leader and at a follower of three nodes in this process, each with its log on
// this machine's disk.
func benchmark(b *testing.B, do func(ctx context.Context, n *Node, i int64) error) {
	nodes := newCluster(b, 3)
	leader := leaderOf(b, nodes...)
	for _, at := range []struct {
		name string
		node *Node
	}{{"leader", leader}, {"follower", others(nodes, leader)[0]}} {
		for _, callers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/callers=%d", at.name, callers), func(b *testing.B) {
				var left atomic.Int64
				left.Store(int64(b.N))
				entries := leader.raft.LastIndex()
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for range callers {
					wg.Go(func() {
						for i := left.Add(-1); i >= 0; i = left.Add(-1) {
							if err := do(b.Context(), at.node, i); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				if n := leader.raft.LastIndex() - entries; n > 0 {
					b.ReportMetric(float64(b.N)/float64(n), "commands/entry")
				}
			})
		}
	}
}

func BenchmarkApply(b *testing.B) {
	benchmark(b, func(ctx context.Context, n *Node, i int64) error {
		_, err := n.Apply(ctx, fsm.Command{Kind: fsm.KindRegister, Name: fmt.Sprint("name", i%1000), URI: "PYRO:obj_0123456789@host.example:12345"})
		return err
	})
}

func BenchmarkView(b *testing.B) {
	benchmark(b, func(ctx context.Context, n *Node, _ int64) error {
		_, err := n.View(ctx)
		return err
	})
}
