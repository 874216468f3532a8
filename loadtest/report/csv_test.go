package report

import (
	"bytes"
	"encoding/csv"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func writtenCSV(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteCSV(&b); err != nil {
		t.Fatalf("WriteCSV: %v", err)
	}
	return b.String()
}

const csvHeader = "from_s,to_s,phase,rate,good,failed,p50_us,p90_us,p99_us,p999_us,p9999_us,max_us,gap_ms\n"

func TestWriteCSVGolden(t *testing.T) {
	t.Parallel()
	r := &Report{
		Phases: []Phase{{Name: "before"}, {Name: "during reset:a,b \"c\"\nd"}},
		Intervals: []Interval{
			{To: 0.25, Phase: 0, Rate: 1e7, Counts: Counts{
				Good: 2_500_000, Errors: map[string]int64{"a": 1, "b": 2}, GapMS: 0.5,
				Latency: Latency{Count: 2_500_000, P50: 0.1, P90: 20, P99: 300.5, P999: 4000, P9999: 5e6, Max: 6e7},
			}},
			{From: 0.25, To: 0.5, Phase: 1, Counts: Counts{Errors: map[string]int64{"a": 4}}},
		},
	}
	want := csvHeader +
		"0,0.25,before,10000000,2500000,3,0.1,20,300.5,4000,5000000,60000000,0.5\n" +
		"0.25,0.5,\"during reset:a,b \"\"c\"\"\nd\",0,0,4,,,,,,,0\n"
	if got := writtenCSV(t, r); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := writtenCSV(t, new(Report)); got != csvHeader {
		t.Errorf("no interval: got %q, want only the header", got)
	}
}

func TestWriteCSVHasEveryInterval(t *testing.T) {
	t.Parallel()
	for name, r := range samples(t) {
		rows, err := csv.NewReader(strings.NewReader(writtenCSV(t, r))).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(rows) != len(r.Intervals)+1 {
			t.Fatalf("%s: got %d lines, want a header and %d intervals", name, len(rows), len(r.Intervals))
		}
		for i, v := range r.Intervals {
			row := rows[i+1]
			var got []float64
			for j, cell := range row {
				if j == 2 || cell == "" {
					continue
				}
				f, err := strconv.ParseFloat(cell, 64)
				if err != nil {
					t.Fatalf("%s: line %d, column %d: %v", name, i+2, j, err)
				}
				got = append(got, f)
			}
			want := []float64{v.From, v.To, v.Rate, float64(v.Good), float64(v.Failed())}
			if l := v.Latency; l.Count > 0 {
				want = append(want, l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max)
			}
			if want = append(want, v.GapMS); row[2] != r.Phases[v.Phase].Name || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: interval %d: got %q, want %v in phase %q", name, i, row, want, r.Phases[v.Phase].Name)
			}
		}
	}
}
