package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pyro-cluster/pyro-cluster/events"
)

// Events are the metrics of a node's event server.
type Events struct{ broker *events.Broker }

// NewEvents registers the metrics of an event server with reg, of which a node needs one of its own.
func NewEvents(reg prometheus.Registerer, b *events.Broker) (*Events, error) {
	e := &Events{b}
	return e, reg.Register(e)
}

var (
	published = desc("pyro_events_published_total", "Events that publishers gave to this node.")
	forwarded = desc("pyro_events_forwarded_total", "Events sent to other nodes, counted once for each of them.")
	delivered = desc("pyro_events_delivered_total", "Events that subscribers of this node got, by their kind: stream or callback.", "subscriber")
	dropped   = desc("pyro_events_dropped_total", "Events that a subscriber, or another node, did not get.", "reason")
	listening = desc("pyro_events_subscribers", "Subscribers that this node delivers to, by their kind: stream or callback.", "subscriber")
	queued    = desc("pyro_events_queued", "Events that wait in the queues of this node's subscribers.")
	peers     = desc("pyro_events_peers", "Other nodes that this one exchanges events with.")
)

// Describe implements prometheus.Collector.
func (e *Events) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{published, forwarded, delivered, dropped, listening, queued, peers} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (e *Events) Collect(c chan<- prometheus.Metric) {
	s := e.broker.Stats()
	total := func(d *prometheus.Desc, n uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	total(published, s.Published)
	total(forwarded, s.Forwarded)
	total(delivered, s.DeliveredStreams, "stream")
	total(delivered, s.DeliveredCallbacks, "callback")
	for i, reason := range events.DropReasons {
		total(dropped, s.Dropped[i], reason)
	}
	gauge(c, listening, float64(s.Streams), "stream")
	gauge(c, listening, float64(s.Callbacks), "callback")
	gauge(c, queued, float64(s.Queued))
	gauge(c, peers, float64(s.Peers))
}
