package report

import (
	"fmt"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency are the quantiles of a histogram, in microseconds; all 0 if there was no value.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P90   float64 `json:"p90_us"`
	P99   float64 `json:"p99_us"`
	P999  float64 `json:"p999_us"`
	P9999 float64 `json:"p9999_us"`
	Max   float64 `json:"max_us"`
	// Histogram is an HdrHistogram of nanoseconds in its V2 compressed base64 form, from which any quantile can be had.
	Histogram string `json:"histogram,omitempty"`
}

// LatencyOf returns the quantiles of h, which holds nanoseconds, and with encode the histogram itself.  A nil or empty h gives the
// zero Latency.  h is not kept.
func LatencyOf(h *hdrhistogram.PackedHistogram, encode bool) Latency {
	if h == nil || h.TotalCount() == 0 {
		return Latency{}
	}
	at := h.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9, 99.99})
	l := Latency{
		Count: h.TotalCount(),
		Mean:  math.Round(h.Mean()) / nanosPerMicro,
		P50:   micros(at[0]), P90: micros(at[1]), P99: micros(at[2]), P999: micros(at[3]), P9999: micros(at[4]),
		Max: micros(h.Max()),
	}
	if encode {
		b, err := h.Encode()
		if err != nil {
			panic("report: encode a histogram: " + err.Error()) // it writes to memory
		}
		l.Histogram = string(b)
	}
	return l
}

const nanosPerMicro = 1000

func micros(nanos int64) float64 { return float64(nanos) / nanosPerMicro }

// Decode returns the histogram, of nanoseconds.  It is nil, without an error, for a Latency without values.  Values whose histogram
// was not encoded, is damaged or holds another number of values are an error.
func (l Latency) Decode() (*hdrhistogram.PackedHistogram, error) {
	if l.Count == 0 && l.Histogram == "" {
		return nil, nil
	}
	if l.Histogram == "" {
		return nil, fmt.Errorf("histogram of %d values is not in the report", l.Count)
	}
	h, err := hdrhistogram.DecodePacked([]byte(l.Histogram))
	if err != nil {
		return nil, fmt.Errorf("histogram: %w", err)
	}
	if h.TotalCount() != l.Count {
		return nil, fmt.Errorf("histogram has %d values, want %d as its count says", h.TotalCount(), l.Count)
	}
	return h, nil
}
