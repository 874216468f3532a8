package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// RegisterProcess registers what the process as a whole does, Go's runtime included, and pyro_build_info with the version of the program.
// Several registries of one process show the same figures.
func RegisterProcess(reg prometheus.Registerer, version string) error {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "pyro_build_info", Help: "Always 1; the labels tell the version of the program and of Go.",
		ConstLabels: prometheus.Labels{"version": label(version), "goversion": runtime.Version()},
	})
	info.Set(1)
	return register(reg, info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
}
