package metrics

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Options set up observers; the zero value is useful.
type Options struct {
	// MaxMethods is how many pairs of object and method (of groups, for [NewFailover]) have series of their own; further ones share those
	// with the labels "other".  Zero or less means 200.  A pair has about 22 series.
	MaxMethods int
	// Buckets are the upper bounds of the histograms of durations, in seconds.  Nil means 100 µs to 10 s, in 16 steps.
	Buckets []float64
}

const defaultMaxMethods = 200

var defaultBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// complete returns o with its defaults, and finds buckets of which Prometheus would only complain, by a panic, at the first call.
func (o Options) complete() (Options, error) {
	if o.MaxMethods <= 0 {
		o.MaxMethods = defaultMaxMethods
	}
	if o.Buckets == nil {
		o.Buckets = defaultBuckets
	}
	for i, b := range o.Buckets {
		if math.IsNaN(b) || i > 0 && b <= o.Buckets[i-1] {
			return o, fmt.Errorf("metrics: buckets %v: want rising numbers", o.Buckets)
		}
	}
	return o, nil
}

// maxHandles bounds the memory for methods that were never called, in a daemon with very many objects.
const maxHandles = 10_000

// The labels of what is not counted by its own name.
const (
	other     = "other"   // beyond MaxMethods
	unknown   = "unknown" // a method, or an object, that the daemon does not have
	generated = "obj_*"   // ids that Pyro made up
)

// Calls observes calls and connections, of daemons or of proxies: it is a [core.Observer].  It is safe for concurrent use.
type Calls struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	sent     *prometheus.CounterVec
	received *prometheus.CounterVec
	conns    [4]prometheus.Counter // by core.ConnEvent

	methods bounded[[2]string, *series]      // of those that were called
	handles bounded[[2]string, *methodCalls] // of those that may be
}

var _ core.Observer = (*Calls)(nil)

// NewServer returns the observer for [core.DaemonOptions].  The error is one of opts, or that of reg: it takes one such observer.
func NewServer(reg prometheus.Registerer, opts Options) (*Calls, error) {
	return newCalls(reg, opts, side{
		name:   "server",
		calls:  "Calls that daemons answered, by outcome: ok, exception, not_executed (draining, or no such object).",
		took:   "Time from a request having been read to its reply being ready to be sent.",
		sent:   "Bytes of replies.",
		got:    "Bytes of requests.",
		opened: "Connections of clients after a successful handshake.",
		failed: "Connections of clients that ended before or with a failed handshake.",
	})
}

// NewClient returns the observer for [core.ProxyOptions].  The error is one of opts, or that of reg: it takes one such observer.
func NewClient(reg prometheus.Registerer, opts Options) (*Calls, error) {
	return newCalls(reg, opts, side{
		name:   "client",
		calls:  "Calls that proxies made, by outcome: ok, exception, not_executed (surely), unknown (sent, and no answer came).",
		took:   "Time from a call to its result, connecting included.",
		sent:   "Bytes of requests.",
		got:    "Bytes of replies.",
		opened: "Connections to servers after a successful handshake.",
		failed: "Connections to servers that could not be made, or whose handshake failed.",
	})
}

// side is what differs between the metrics of servers and of clients.
type side struct{ name, calls, took, sent, got, opened, failed string }

func newCalls(reg prometheus.Registerer, opts Options, s side) (*Calls, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	labels := []string{"object", "method"}
	opened := counter("pyro_"+s.name+"_connections_opened_total", s.opened)
	closed := counter("pyro_"+s.name+"_connections_closed_total", "Those of pyro_"+s.name+"_connections_opened_total that have ended.")
	failed := counter("pyro_"+s.name+"_connections_failed_total", s.failed)
	refused := counter("pyro_"+s.name+"_connections_refused_total", "Connections of clients beyond the daemon's limit.")
	c := &Calls{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pyro_" + s.name + "_calls_total", Help: s.calls},
			append(labels, "outcome")),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "pyro_" + s.name + "_call_duration_seconds", Help: s.took, Buckets: opts.Buckets,
		}, labels),
		sent:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pyro_" + s.name + "_sent_bytes_total", Help: s.sent}, labels),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pyro_" + s.name + "_received_bytes_total", Help: s.got}, labels),
		conns: [4]prometheus.Counter{
			core.ConnOpened: opened, core.ConnClosed: closed, core.ConnFailed: failed, core.ConnRefused: refused,
		},
	}
	others := [2]string{other, other}
	c.methods = bounded[[2]string, *series]{limit: opts.MaxMethods, other: others, make: c.newSeries}
	c.handles = bounded[[2]string, *methodCalls]{limit: maxHandles, other: others, make: func(key [2]string) *methodCalls {
		return &methodCalls{calls: c, key: key}
	}}
	all := []prometheus.Collector{c.calls, c.duration, c.sent, c.received, opened, closed, failed}
	if s.name == "server" { // a client refuses nobody
		all = append(all, refused)
	}
	if err := register(reg, all...); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return c, nil
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

// register registers all or, on an error, none.
func register(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for i, c := range all {
		if err := reg.Register(c); err != nil {
			for _, done := range all[:i] {
				reg.Unregister(done)
			}
			return err
		}
	}
	return nil
}

// ObserveConn implements core.Observer.
func (c *Calls) ObserveConn(e core.ConnEvent) { c.conns[e].Inc() }

// Method implements core.Observer.  A method takes one of the MaxMethods places with its first call.
func (c *Calls) Method(object, method string) core.CallObserver {
	switch {
	case object == "":
		object = unknown
	case isGenerated(object):
		object = generated
	}
	if method == "" {
		method = unknown
	}
	return c.handles.get([2]string{label(object), label(method)})
}

// isGenerated reports whether an object id is one that Pyro made up, here or in Python.
func isGenerated(object string) bool {
	digits, ok := strings.CutPrefix(object, "obj_")
	return ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}

// label makes a name that can be the value of a label, which must be UTF-8.
func label(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

// methodCalls observes the calls of one method.
type methodCalls struct {
	calls  *Calls
	key    [2]string              // object and method
	series atomic.Pointer[series] // nil before the first call
}

// ObserveCall implements core.CallObserver.
func (m *methodCalls) ObserveCall(o core.Observation) {
	s := m.series.Load()
	if s == nil {
		s = m.calls.methods.get(m.key)
		m.series.Store(s)
	}
	s.outcomes[o.Outcome].Inc()
	s.duration.Observe(o.Took.Seconds())
	s.sent.Add(float64(o.Sent))
	s.received.Add(float64(o.Received))
}

// outcomes are the values of the label outcome, by core.CallOutcome.
var outcomes = [4]string{
	core.CallOK: "ok", core.CallException: "exception", core.CallNotExecuted: "not_executed", core.CallUnknown: "unknown",
}

// series are those of one pair of object and method.
type series struct {
	outcomes       [4]prometheus.Counter
	duration       prometheus.Observer
	sent, received prometheus.Counter
}

func (c *Calls) newSeries(key [2]string) *series {
	object, method := key[0], key[1]
	s := &series{
		duration: c.duration.WithLabelValues(object, method),
		sent:     c.sent.WithLabelValues(object, method),
		received: c.received.WithLabelValues(object, method),
	}
	for i, outcome := range outcomes { // all from the beginning, so that the first failure is an increase
		s.outcomes[i] = c.calls.WithLabelValues(object, method, outcome)
	}
	return s
}

// bounded makes a value for each of the first keys, and one for all others.
type bounded[K comparable, V any] struct {
	limit int
	other K
	make  func(K) V

	mu     sync.Mutex // guards values
	values map[K]V
}

func (b *bounded[K, V]) get(key K) V {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.values == nil {
		b.values = make(map[K]V)
	}
	if _, known := b.values[key]; !known && len(b.values) >= b.limit {
		key = b.other
	}
	v, known := b.values[key]
	if !known {
		v = b.make(key)
		b.values[key] = v
	}
	return v
}
