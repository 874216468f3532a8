package peer

import "github.com/HdrHistogram/hdrhistogram-go"

// Result is the JSON object that a client prints.  Figures that a work or a system does not have are left out.
type Result struct {
	Work  string  `json:"work"`
	Calls int64   `json:"calls"` // in the time measured, with those of idle connections; of one-way messages and events, those received
	Secs  float64 `json:"secs"`  // measured
	Rate  float64 `json:"rate"`  // calls, messages or deliveries per second, without those of idle connections

	P50  float64 `json:"p50_us,omitempty"` // latency of the callers, in microseconds
	P99  float64 `json:"p99_us,omitempty"`
	P999 float64 `json:"p999_us,omitempty"`
	Max  float64 `json:"max_us,omitempty"`

	ClientCPU    float64 `json:"cli_cpu_us"` // microseconds of CPU a call
	ServerCPU    float64 `json:"srv_cpu_us"`
	ClientAllocs float64 `json:"cli_allocs"` // heap objects a call
	ServerAllocs float64 `json:"srv_allocs,omitempty"`

	Conns       int     `json:"conns"`
	MBPerSecond float64 `json:"mb_s,omitempty"`        // payload, counted once, in 1e6 bytes
	Lost        int64   `json:"lost,omitempty"`        // one-way messages and deliveries that did not arrive
	ServerRSS   float64 `json:"srv_rss_mb,omitempty"`  // resident memory, in 2^20 bytes
	IdleRate    float64 `json:"idle_rate,omitempty"`   // calls per second of the idle connections together
	IdleP99     float64 `json:"idle_p99_us,omitempty"` // their latency, in microseconds
	OthersCPU   float64 `json:"foreign_cpu,omitempty"` // part of the machine, 0 to 1, that neither client nor server used, but others
}

// between fills in what follows from the usage before and after calls.
func (r *Result) between(before, after usageSample, calls int64) {
	each := func(d float64) float64 { return max(d, 0) / float64(max(calls, 1)) }
	r.Calls = calls
	r.Secs = after.at.Sub(before.at).Seconds()
	r.ClientCPU = each(float64((after.client - before.client).Nanoseconds()) / 1e3)
	r.ServerCPU = each(float64((after.server - before.server).Nanoseconds()) / 1e3)
	r.ClientAllocs = each(float64(after.clientObjects) - float64(before.clientObjects))
	r.ServerAllocs = each(float64(after.serverObjects) - float64(before.serverObjects))
	r.OthersCPU = othersCPU(before, after)
}

func (r *Result) latencies(h *hdrhistogram.Histogram) {
	r.P50 = float64(h.ValueAtQuantile(50)) / 1e3
	r.P99 = float64(h.ValueAtQuantile(99)) / 1e3
	r.P999 = float64(h.ValueAtQuantile(99.9)) / 1e3
	r.Max = float64(h.Max()) / 1e3
}
