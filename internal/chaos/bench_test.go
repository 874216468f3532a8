package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// BenchmarkDevReady is the time from the start of `pyro-cluster dev` until calls work through each of its nodes.
func BenchmarkDevReady(b *testing.B) {
	program := build(b, "../../cmd/pyro-cluster")
	port := 30_000 + rand.IntN(2000)
	for b.Loop() {
		p, err := spawn.Start("dev", exec.Command(program, "dev", "--port", fmt.Sprint(port)))
		if err != nil {
			b.Fatal(err)
		}
		_, err = p.Line(b.Context(), "ready")
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		if err := p.End(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkRegister is the rate of registrations of new names, each on a majority's disks, with clients that wait for each. The nodes are
// processes on one machine and share its disk and its cores.
func BenchmarkRegister(b *testing.B) {
	c := startCluster(b)
	var names atomic.Int64
	each(b, c, func(ctx context.Context, ns *naming.Client) error {
		name := fmt.Sprintf("bench.%09d", names.Add(1))
		return ns.Register(ctx, name, core.URI{Protocol: "PYRO", Object: name, Host: "localhost", Port: 1}, naming.RegisterOptions{})
	})
}

// BenchmarkLookup is the rate of linearizable lookups.
func BenchmarkLookup(b *testing.B) {
	c := startCluster(b)
	ns := connect(b, c.Addresses())
	defer ns.Close()
	if err := ns.Register(b.Context(), "bench", core.URI{Protocol: "PYRO", Object: "x", Host: "localhost", Port: 1}, naming.RegisterOptions{}); err != nil {
		b.Fatal(err)
	}
	each(b, c, func(ctx context.Context, ns *naming.Client) error {
		_, err := ns.Lookup(ctx, "bench")
		return err
	})
}

// each measures op with 1 and with 64 clients, which share a connection pool per node.
func each(b *testing.B, c *spawn.Cluster, op func(context.Context, *naming.Client) error) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			ns := connect(b, c.Addresses())
			defer ns.Close()
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error)
			b.ResetTimer()
			for range clients {
				go func() {
					var err error
					for err == nil && left.Add(-1) >= 0 {
						err = op(b.Context(), ns)
					}
					done <- err
				}()
			}
			for range clients {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}
