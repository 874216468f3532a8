package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

var titles = map[string]string{
	"W1": "add of two integers, 1 caller",
	"W2": "add of two integers, 64 callers",
	"W3": "echo of a text of 1 KiB, 64 callers",
	"W4": "echo of 1 MiB of bytes, 1 caller",
	"W5": "one-way messages, 1 client",
	"W6": "64 callers as in W2, and 1,000 connections with a call a second each",
}

// noisy is the part of the machine that others may use before a reader is warned.
const noisy = 0.08

// printTables prints a table for each work: medians over the rounds, and the least and greatest rate.
func printTables(w io.Writer, s settings, c comparison) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s.  %s a run after %s of warm-up, rounds: %d.  Medians, and the rate's least and greatest.\n",
		c.Machine, c.Duration, c.Warmup, s.rounds)
	for _, work := range s.works {
		printTable(&out, s, work, c.Cells)
	}
	out.WriteByte('\n')
	for _, sys := range s.systems {
		fmt.Fprintf(&out, "%s: %s\n", sys.name, sys.note)
	}
	if n := countNoisy(c.Cells); n > 0 {
		fmt.Fprintf(&out, "In %d of %d runs other processes used more than %.0f %% of the machine: measure again when it is quiet.\n", n, len(c.Cells), 100*noisy)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func countNoisy(cells []cell) (n int) {
	for _, c := range cells {
		if c.Result != nil && c.Result.OthersCPU > noisy {
			n++
		}
	}
	return n
}

// figure is a column of the tables.
type figure struct {
	head  string
	works string // that have it; empty: all
	of    func(*peer.Result) float64
}

var figures = []figure{
	{"p50 µs", "W1 W2 W3 W4 W6", func(r *peer.Result) float64 { return r.P50 }},
	{"p99 µs", "W1 W2 W3 W4 W6", func(r *peer.Result) float64 { return r.P99 }},
	{"p99.9 µs", "W1 W2 W3 W4 W6", func(r *peer.Result) float64 { return r.P999 }},
	{"CPU µs: client", "", func(r *peer.Result) float64 { return r.ClientCPU }},
	{"server", "", func(r *peer.Result) float64 { return r.ServerCPU }},
	{"allocs: client", "", func(r *peer.Result) float64 { return r.ClientAllocs }},
	{"server", "", func(r *peer.Result) float64 { return r.ServerAllocs }},
	{"conns", "", func(r *peer.Result) float64 { return float64(r.Conns) }},
	{"MB/s", "W4", func(r *peer.Result) float64 { return r.MBPerSecond }},
	{"lost", "W5", func(r *peer.Result) float64 { return float64(r.Lost) }},
	{"server MB", "W6", func(r *peer.Result) float64 { return r.ServerRSS }},
	{"idle calls/s", "W6", func(r *peer.Result) float64 { return r.IdleRate }},
	{"idle p99 µs", "W6", func(r *peer.Result) float64 { return r.IdleP99 }},
}

func rate(r *peer.Result) float64 { return r.Rate }

func printTable(w io.Writer, s settings, work string, cells []cell) {
	columns := slices.DeleteFunc(slices.Clone(figures), func(f figure) bool { return f.works != "" && !strings.Contains(f.works, work) })
	fmt.Fprintf(w, "\n%s  %s\n", work, titles[work])
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "  \trate/s\tmin\tmax\t"+ours+" is\t")
	for _, f := range columns {
		fmt.Fprint(t, f.head+"\t")
	}
	fmt.Fprintln(t)
	our := median(valuesOf(cells, work, ours, rate))
	for _, sys := range s.systems {
		fmt.Fprintf(t, "%s\t", sys.name)
		rates := valuesOf(cells, work, sys.name, rate)
		if len(rates) == 0 {
			fmt.Fprintln(t, "failed\t")
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t", number(median(rates)), number(slices.Min(rates)), number(slices.Max(rates)), ratio(our/median(rates)))
		for _, f := range columns {
			fmt.Fprintf(t, "%s\t", number(median(valuesOf(cells, work, sys.name, f.of))))
		}
		fmt.Fprintln(t)
	}
	t.Flush() // to a strings.Builder, which takes everything
}

// valuesOf collects a figure over the rounds that went well.
func valuesOf(cells []cell, work, name string, of func(*peer.Result) float64) (values []float64) {
	for _, c := range cells {
		if c.Work == work && c.Peer == name && c.Result != nil {
			values = append(values, of(c.Result))
		}
	}
	return values
}

// median is NaN of nothing.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[middle-1] + sorted[middle]) / 2
	}
	return sorted[middle]
}

// ratio is how many times as fast we are.
func ratio(x float64) string {
	if math.IsNaN(x) {
		return "-" // we were not measured
	}
	return fmt.Sprintf("%.2fx", x)
}

// number has three digits at least.
func number(x float64) string {
	switch {
	case x == math.Trunc(x) || x >= 100:
		return thousands(int64(math.Round(x)))
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}

func thousands(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
