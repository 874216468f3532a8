package metrics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

// Failover observes group proxies: it is a [failover.Observer].  It is safe for concurrent use.
type Failover struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	events   [5]*prometheus.CounterVec // by failover.Event

	groups bounded[string, *group]
}

var _ failover.Observer = (*Failover)(nil)

// NewFailover returns the observer for [failover.Options].  The connections to the members are observed by a [NewClient] in
// Options.Proxy.  The error is one of opts, or that of reg: it takes one such observer.
func NewFailover(reg prometheus.Registerer, opts Options) (*Failover, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	labels := []string{"group"}
	vec := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	f := &Failover{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pyro_failover_calls_total",
			Help: "Calls to object groups, with all their attempts, by outcome: ok, exception, not_executed (surely), unknown.",
		}, append(labels, "outcome")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pyro_failover_call_duration_seconds", Help: "Time of a call to an object group, with all its attempts and pauses.",
			Buckets: opts.Buckets,
		}, labels),
		events: [5]*prometheus.CounterVec{
			failover.EventAttempt:     vec("pyro_failover_attempts_total", "Attempts at members, first ones and retries."),
			failover.EventRetry:       vec("pyro_failover_retries_total", "Attempts that were not the first of their call."),
			failover.EventBudgetEmpty: vec("pyro_failover_budget_exhausted_total", "Times that a retry had to wait because there were too many."),
			failover.EventEjected:     vec("pyro_failover_ejections_total", "Members that were left out after a failure."),
			failover.EventReturned:    vec("pyro_failover_returns_total", "Ejected members that answered a call again."),
		},
	}
	f.groups = bounded[string, *group]{limit: opts.MaxMethods, other: other, make: f.newGroup}
	all := []prometheus.Collector{f.calls, f.duration}
	for _, v := range f.events {
		all = append(all, v)
	}
	if err := register(reg, all...); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return f, nil
}

// Group implements failover.Observer.
func (f *Failover) Group(name string) failover.GroupObserver { return f.groups.get(label(name)) }

// group observes the proxies of one group.
type group struct {
	outcomes [4]prometheus.Counter
	duration prometheus.Observer
	events   [5]prometheus.Counter
}

func (f *Failover) newGroup(name string) *group {
	g := &group{duration: f.duration.WithLabelValues(name)}
	for i, outcome := range outcomes {
		g.outcomes[i] = f.calls.WithLabelValues(name, outcome)
	}
	for i, v := range f.events {
		g.events[i] = v.WithLabelValues(name)
	}
	return g
}

// ObserveCall implements core.CallObserver.
func (g *group) ObserveCall(o core.Observation) {
	g.outcomes[o.Outcome].Inc()
	g.duration.Observe(o.Took.Seconds())
}

// ObserveEvent implements failover.GroupObserver.
func (g *group) ObserveEvent(e failover.Event) { g.events[e].Inc() }
