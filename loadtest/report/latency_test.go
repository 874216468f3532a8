package report

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"io"
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

// What the compressed bytes hold is damaged too, which a checksum would not tell.
func TestLatencyDecodeOfDamage(t *testing.T) {
	t.Parallel()
	good := LatencyOf(histogram(t, 5, 6, 700, 80_000), true)
	encoded, err := base64.StdEncoding.DecodeString(good.Histogram)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zlib.NewReader(bytes.NewReader(encoded[8:])) // behind a cookie and the length
	if err != nil {
		t.Fatal(err)
	}
	inner, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, at int, b []byte) (refused bool) {
		l := good
		l.Histogram = base64.StdEncoding.EncodeToString(b)
		h, err := l.Decode()
		if err == nil && h.TotalCount() != l.Count || err != nil && (h != nil || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%s %d: got %v, %v, want either a histogram of %d values or one line", what, at, h, err, l.Count)
		}
		return err != nil
	}
	if try("not damaged", 0, deflated(t, encoded[:4], inner)) {
		t.Fatal("what was not damaged is refused")
	}
	for i := range encoded {
		if !try("cut at", i, encoded[:i]) {
			t.Errorf("cut at %d of %d bytes, and taken", i, len(encoded))
		}
	}
	for i := range inner {
		for _, mask := range []byte{0x01, 0xff} {
			damaged := bytes.Clone(inner)
			damaged[i] ^= mask
			try("changed inside at", i, deflated(t, encoded[:4], damaged))
		}
		if !try("cut inside at", i, deflated(t, encoded[:4], inner[:i])) {
			t.Errorf("cut inside at %d of %d bytes, and taken", i, len(inner))
		}
	}
}

// deflated is the outer form of a histogram: cookie, length, compressed bytes.
func deflated(t *testing.T, cookie, inner []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(inner); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(bytes.Clone(cookie), uint32(b.Len())), b.Bytes()...) //nolint:gosec // some hundred bytes
}
