package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
)

// WriteCSV writes the intervals, one per line, with a header line (RFC 4180 but for line ends, which are those of Unix): from_s, to_s,
// phase (its name), rate (good calls a second), good, failed, p50_us to max_us, gap_ms.  Latencies are empty where there was no good call.
func (r *Report) WriteCSV(w io.Writer) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("report: write CSV: %w", err)
	}
	c := csv.NewWriter(w)
	rows := [][]string{{
		"from_s", "to_s", "phase", "rate", "good", "failed", "p50_us", "p90_us", "p99_us", "p999_us", "p9999_us", "max_us", "gap_ms",
	}}
	for _, v := range r.Intervals {
		rows = append(rows, v.csv(r.Phases[v.Phase].Name))
	}
	return c.WriteAll(rows)
}

func (v Interval) csv(phase string) []string {
	number := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	row := []string{
		number(v.From), number(v.To), phase, number(v.Rate), strconv.FormatInt(v.Good, 10), strconv.FormatInt(v.Failed(), 10),
	}
	l := v.Latency
	for _, us := range []float64{l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max} {
		if l.Count == 0 {
			row = append(row, "")
		} else {
			row = append(row, number(us))
		}
	}
	return append(row, number(v.GapMS))
}
