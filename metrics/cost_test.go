//go:build unix

package metrics

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// pair is a daemon and a proxy for an object of it.
type pair struct {
	proxy *core.Proxy
	used  time.Duration // processor time of its blocks
}

func newPair(tb testing.TB, server, client core.Observer) *pair {
	tb.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{Observer: server})
	if err != nil {
		tb.Fatal(err)
	}
	echo := core.Method{Name: "echo", Params: []core.Param{{Name: "v"}}, Func: func(_ context.Context, args []any) (any, error) { return args[0], nil }}
	uri, err := d.Register("echo", &core.Servant{Class: "Echo", Methods: []core.Method{echo}}, core.ObjectOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Serve(context.Background()) }()
	p := core.NewProxy(uri, core.ProxyOptions{Observer: client})
	tb.Cleanup(func() {
		p.Close()
		d.Close()
		<-done
	})
	return &pair{proxy: p}
}

func observedPair(tb testing.TB) *pair {
	tb.Helper()
	reg := prometheus.NewRegistry()
	server, err := NewServer(reg, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	client, err := NewClient(reg, Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return newPair(tb, server, client)
}

func (p *pair) call(tb testing.TB) {
	var out string
	if err := p.proxy.Call(context.Background(), "echo", &out, "a text of thirty-two characters."); err != nil {
		tb.Fatal(err)
	}
}

// block makes calls and returns the processor time of the process meanwhile.
func (p *pair) block(tb testing.TB, calls int) time.Duration {
	before := cpu(tb)
	for range calls {
		p.call(tb)
	}
	used := cpu(tb) - before
	p.used += used
	return used
}

func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCost compares the processor time of small calls over loopback, both ends together, with metrics on both ends and without.
// Blocks of calls alternate, so that what else the machine does is the same for both; the median of the blocks' ratios leaves out those
// that something fell into.  "control" compares two pairs without metrics, and shows what the figure is worth.
//
//	go test -run - -bench Cost -benchtime 200x ./metrics
func BenchmarkCost(b *testing.B) {
	b.Run("metrics", func(b *testing.B) { benchmarkCost(b, newPair(b, nil, nil), observedPair(b)) })
	b.Run("control", func(b *testing.B) { benchmarkCost(b, newPair(b, nil, nil), newPair(b, nil, nil)) })
}

func benchmarkCost(b *testing.B, without, with *pair) {
	const calls = 1000 // of a block
	without.block(b, calls)
	with.block(b, calls)
	without.used, with.used = 0, 0
	var ratios []float64
	for b.Loop() {
		var a, m time.Duration
		if len(ratios)%2 == 0 {
			a, m = without.block(b, calls), with.block(b, calls)
		} else {
			m, a = with.block(b, calls), without.block(b, calls)
		}
		ratios = append(ratios, float64(m)/float64(a))
	}
	slices.Sort(ratios)
	n := float64(len(ratios) * calls)
	b.ReportMetric(float64(without.used)/n, "cpu-ns/plain")
	b.ReportMetric(float64(with.used)/n, "cpu-ns/observed")
	b.ReportMetric(100*(ratios[len(ratios)/2]-1), "median-%")
	b.ReportMetric(100*(float64(with.used)/float64(without.used)-1), "total-%")
}

// BenchmarkObserve is what one observation takes.
func BenchmarkObserve(b *testing.B) {
	_, c := newServer(b, Options{})
	m := c.Method("bank", "get")
	b.ReportAllocs()
	for b.Loop() {
		m.ObserveCall(core.Observation{Took: 30 * time.Microsecond, Sent: 100, Received: 100})
	}
}

func TestAllocObserve(t *testing.T) {
	_, c := newServer(t, Options{})
	m := c.Method("bank", "get")
	m.ObserveCall(core.Observation{})
	if got := testing.AllocsPerRun(1000, func() { m.ObserveCall(core.Observation{Took: time.Millisecond}) }); got != 0 {
		t.Errorf("allocations per observation: got %v, want 0", got)
	}
}

func TestAllocCall(t *testing.T) {
	allocs := func(p *pair) float64 {
		p.call(t)
		return testing.AllocsPerRun(500, func() { p.call(t) })
	}
	// Average over many calls: the race detector makes pools lose things now and then.
	if without, with := allocs(newPair(t, nil, nil)), allocs(observedPair(t)); with > without+poolLoss {
		t.Errorf("allocations per call: got %v with metrics and %v without", with, without)
	}
}

// BenchmarkObserveParallel is the same with all cores at the same method.
func BenchmarkObserveParallel(b *testing.B) {
	_, c := newServer(b, Options{})
	m := c.Method("bank", "get")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.ObserveCall(core.Observation{Took: 30 * time.Microsecond, Sent: 100, Received: 100})
		}
	})
}
