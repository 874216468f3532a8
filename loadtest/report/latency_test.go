package report

import (
	"strings"
	"testing"

	"github.com/HdrHistogram/hdrhistogram-go"
)

func histogram(t testing.TB, nanos ...int64) *hdrhistogram.PackedHistogram {
	t.Helper()
	h := hdrhistogram.NewPacked(1, 600e9, 3)
	for _, n := range nanos {
		if err := h.RecordValue(n); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func TestLatencyOfNothing(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*hdrhistogram.PackedHistogram{"nil": nil, "empty": histogram(t)} {
		if got := LatencyOf(h, true); got != (Latency{}) {
			t.Errorf("%s: got %+v, want zeros", name, got)
		}
	}
	if h, err := (Latency{}).Decode(); h != nil || err != nil {
		t.Errorf("the zero Latency: got %v, %v, want nil, nil", h, err)
	}
}

func TestLatencyOfQuantiles(t *testing.T) {
	t.Parallel()
	h := hdrhistogram.NewPacked(1, 600e9, 3)
	for i := range int64(10_000) { // 1 µs, 2 µs, … 10 ms
		if err := h.RecordValue((i + 1) * 1000); err != nil {
			t.Fatal(err)
		}
	}
	l := LatencyOf(h, false)
	for _, q := range []struct {
		name      string
		got, want float64
	}{
		{"mean", l.Mean, 5000.5}, {"p50", l.P50, 5000}, {"p90", l.P90, 9000}, {"p99", l.P99, 9900}, {"p99.9", l.P999, 9990},
		{"p99.99", l.P9999, 9999}, {"max", l.Max, 10000},
	} {
		if q.got < q.want*0.999 || q.got > q.want*1.001 {
			t.Errorf("%s of 1 µs to 10 ms: got %v µs, want %v within 0.1 %%", q.name, q.got, q.want)
		}
	}
	if l.Count != 10_000 || l.Histogram != "" {
		t.Errorf("got a count of %d and a histogram of %d bytes, want 10000 and none", l.Count, len(l.Histogram))
	}
}

func TestLatencyDecodeGivesTheSame(t *testing.T) {
	t.Parallel()
	want := LatencyOf(histogram(t, 150, 1500, 1500, 2e9), true)
	h, err := want.Decode()
	if err != nil {
		t.Fatal(err)
	}
	if got := LatencyOf(h, true); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLatencyDecodeRefuses(t *testing.T) {
	t.Parallel()
	good := LatencyOf(histogram(t, 5, 6), true)
	other := good
	other.Count = 3
	for name, c := range map[string]struct {
		l    Latency
		want string
	}{
		"not encoded":   {Latency{Count: 2}, "histogram of 2 values is not in the report"},
		"no base64":     {Latency{Count: 2, Histogram: "???"}, "histogram: "},
		"cut":           {Latency{Count: 2, Histogram: good.Histogram[:16]}, "histogram: "},
		"another count": {other, "histogram has 2 values, want 3"},
	} {
		h, err := c.l.Decode()
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || h != nil {
			t.Errorf("%s: got %v, %v, want an error that begins with %q", name, h, err, c.want)
		}
	}
}
