package main

import (
	"log/slog"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/metrics"
	metricsnode "github.com/pyro-cluster/pyro-cluster/metrics/node"
)

// watch is what a node tells about itself.  Each node has its own, so that those of one process are not mixed up; what concerns the process
// is in each of them.
type watch struct {
	registry *prometheus.Registry
	served   *metrics.Calls
	node     *metricsnode.Metrics
}

func newWatch(ready func() bool, broker *events.Broker) (*watch, error) {
	w := &watch{registry: prometheus.NewRegistry()}
	var err error
	if w.served, err = metrics.NewServer(w.registry, metrics.Options{}); err != nil {
		return nil, err
	}
	if w.node, err = metricsnode.New(w.registry, ready); err != nil {
		return nil, err
	}
	if _, err := metricsnode.NewEvents(w.registry, broker); err != nil {
		return nil, err
	}
	return w, metrics.RegisterProcess(w.registry, programVersion())
}

// maxScrapes is how many scrapes are answered at once; more get 503.
const maxScrapes = 4

// handler answers scrapes.  What can be read is told even if something else cannot.
func (w *watch) handler(log *slog.Logger) http.Handler {
	return promhttp.InstrumentMetricHandler(w.registry, promhttp.HandlerFor(w.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            w.registry,
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	}))
}

// handlePprof serves profiles.  Whoever gets them learns about the program and costs it time, so that is off by default.
func handlePprof(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
