// Package dashboards holds the files for Prometheus and Grafana, and the list of metrics in the documents, against the metrics that exist.
package dashboards

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/fsm"
	"github.com/pyro-cluster/pyro-cluster/metrics"
	"github.com/pyro-cluster/pyro-cluster/metrics/node"
)

// metric is one that exists.
type metric struct {
	name, kind, help string
	labels           map[string]map[string]bool // their values in the catalog
}

// closed are the labels whose values are all in the catalog.
var closed = map[string]bool{"outcome": true, "state": true, "suffrage": true, "health": true, "subscriber": true, "reason": true}

type source struct{}

func (source) Stats() cluster.Stats { return cluster.Stats{SnapshotTime: time.Unix(1, 0)} }
func (source) LocalView() *fsm.View { return fsm.New().View() }

// catalog returns all metrics of a node and of programs that use the library, by name.
var catalog = sync.OnceValues(func() (map[string]*metric, error) {
	reg := prometheus.NewPedanticRegistry()
	n, err := node.New(reg, func() bool { return true })
	if err != nil {
		return nil, err
	}
	n.Follow(source{})
	if _, err := node.NewEvents(reg, events.NewBroker(events.BrokerOptions{})); err != nil {
		return nil, err
	}
	server, err := metrics.NewServer(reg, metrics.Options{})
	if err != nil {
		return nil, err
	}
	client, err := metrics.NewClient(reg, metrics.Options{})
	if err != nil {
		return nil, err
	}
	group, err := metrics.NewFailover(reg, metrics.Options{})
	if err != nil {
		return nil, err
	}
	if err := metrics.RegisterProcess(reg, "v0"); err != nil {
		return nil, err
	}
	server.Method("bank", "get").ObserveCall(core.Observation{})
	client.Method("bank", "get").ObserveCall(core.Observation{})
	group.Group("bank").ObserveCall(core.Observation{})
	families, err := reg.Gather()
	if err != nil {
		return nil, err
	}
	all := map[string]*metric{}
	for _, f := range families {
		all[f.GetName()] = newMetric(f)
	}
	return all, nil
})

func newMetric(f *dto.MetricFamily) *metric {
	kinds := map[dto.MetricType]string{dto.MetricType_COUNTER: "counter", dto.MetricType_GAUGE: "gauge",
		dto.MetricType_HISTOGRAM: "histogram", dto.MetricType_SUMMARY: "summary"}
	m := &metric{name: f.GetName(), kind: kinds[f.GetType()], help: f.GetHelp(), labels: map[string]map[string]bool{}}
	for _, one := range f.GetMetric() {
		for _, l := range one.GetLabel() {
			if m.labels[l.GetName()] == nil {
				m.labels[l.GetName()] = map[string]bool{}
			}
			m.labels[l.GetName()][l.GetValue()] = true
		}
	}
	return m
}

func mustCatalog(t testing.TB) map[string]*metric {
	t.Helper()
	all, err := catalog()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (m *metric) labelNames() []string { return slices.Sorted(maps.Keys(m.labels)) }
