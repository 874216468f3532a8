package failover_test

import (
	"context"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

// BenchmarkCall compares calls of a group proxy with those of core.Proxy on the same daemon.
//
//	go test -run - -bench Call -benchmem ./failover
func BenchmarkCall(b *testing.B) {
	l := &ledger{runs: make(map[int]int)}
	servers := []*server{start(b, "a", l), start(b, "b", l), start(b, "c", l)}
	direct := core.NewProxy(servers[0].uri, core.ProxyOptions{})
	defer direct.Close()
	group := newProxy(b, failover.Options{}, servers...)
	background := context.Background()
	bounded, cancel := context.WithTimeout(background, 1<<40)
	defer cancel()
	for _, bb := range []struct {
		name   string
		ctx    context.Context
		caller core.Caller
		method string
	}{
		{"core/noDeadline", background, direct, "deposit"},
		{"core/deadline", bounded, direct, "deposit"},
		{"failover/plain", bounded, group, "deposit"},
		{"failover/plainNoDeadline", background, group, "deposit"},
		{"failover/readOnly", bounded, group, "balance"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bb.caller.Call(bb.ctx, bb.method, nil, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
