// Package metrics offers what daemons, proxies and group proxies do as Prometheus metrics, to any program that uses them:
//
//	reg := prometheus.NewRegistry()
//	served, err := metrics.NewServer(reg, metrics.Options{})
//	...
//	d, err := core.Listen(":7000", core.DaemonOptions{Observer: served})
//	http.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
//
// Nothing here is global: metrics go to the Registerer that is passed in, and no other.  One observer serves any number of daemons, or proxies;
// to tell those of one program apart give each its own, with prometheus.WrapRegistererWith and a label.
//
// All names begin with "pyro_".  docs/metrics.md lists them.
//
// Labels are bounded: objects and methods that come after the first Options.MaxMethods pairs are counted together as "other", and object ids
// that Pyro made up ("obj_" and 32 digits) as "obj_*".  Names that only a client knows never become labels.
package metrics
