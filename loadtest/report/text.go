package report

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// WriteText writes what people read at the end of a run: what was asked, phases as a table, works, faults, errors, ledger, baselines, SLO
// and problems; a part of which there is nothing to say is left out.  Lines have 120 columns at most, but for words that are longer.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	r.textHead(&b)
	r.textPhases(&b)
	r.textWorks(&b)
	r.textFaults(&b)
	r.textErrors(&b)
	r.textLedger(&b)
	r.textBaselines(&b)
	r.textSLO(&b)
	for _, p := range r.Problems {
		writeWrapped(&b, "problem    ", plain(p))
	}
	writeWrapped(&b, "result     ", r.headline())
	_, err := io.WriteString(w, b.String())
	return err
}

// headline is the outcome in a few words.
func (r *Report) headline() string {
	missed := 0
	for _, c := range r.SLO {
		if !c.OK {
			missed++
		}
	}
	switch {
	case missed > 0:
		return fmt.Sprintf("MISSED: %d of %d conditions of the SLO do not hold", missed, len(r.SLO))
	case !r.OK:
		return "FAILED: the run has a problem that spoils it"
	case len(r.SLO) == 1:
		return "ok: the condition of the SLO holds"
	case len(r.SLO) > 0:
		return fmt.Sprintf("ok: all %d conditions of the SLO hold", len(r.SLO))
	}
	return "done: no SLO was given"
}

func (r *Report) textHead(b *strings.Builder) {
	if r.Name != "" {
		writeWrapped(b, "name       ", plain(r.Name))
	}
	writeWrapped(b, "target     ", plain(r.Target.describe()))
	writeWrapped(b, "load       ", plain(r.Load.describe()))
	writeWrapped(b, "generator  ", r.Generator.describe(r.Load.Mode))
	writeWrapped(b, "started    ", fmt.Sprintf("%s, seed %d", r.Started.Format(time.RFC3339), r.Load.Seed))
}

func (t Target) describe() string {
	text := fmt.Sprintf("%s %s", t.Kind, t.Name)
	switch n := len(t.Members); {
	case n == 1 && t.Members[0] != t.Name:
		text += ": " + t.Members[0]
	case n > 1:
		text += fmt.Sprintf(": %d members", n)
	}
	if t.Proxied {
		text += ", behind a proxy that can break links and costs time"
	}
	return text
}

func (l Load) describe() string {
	parts := []string{"closed loop"}
	if l.Mode == "open" {
		var steps []string
		for _, s := range l.Steps {
			steps = append(steps, fmt.Sprintf("%s/s for %s", formatRate(s.Rate), seconds(s.ForS)))
		}
		parts = []string{"open loop, " + strings.Join(steps, ", then ")}
	} else {
		parts[0] += " for " + seconds(l.DurationS)
	}
	if l.WarmupS > 0 {
		parts[0] += " after " + seconds(l.WarmupS) + " of warm-up"
	}
	parts = append(parts, count(l.Callers, "caller"))
	if l.Connections > 0 {
		parts = append(parts, count(l.Connections, "connection")+" to each member")
	}
	if len(l.Works) > 0 {
		parts = append(parts, "works "+strings.Join(l.Works, ","))
	}
	if l.Contract != "" {
		parts = append(parts, "contract "+l.Contract)
	}
	if l.Serializer != "" {
		parts = append(parts, "serializer "+l.Serializer)
	}
	if l.Generators > 1 {
		parts = append(parts, count(l.Generators, "generator"))
	}
	return strings.Join(parts, "; ")
}

func (g Generator) describe(mode string) string {
	var text string
	if mode == "open" {
		kept := "rate kept"
		if !g.Kept {
			kept = "RATE NOT KEPT"
		}
		text = fmt.Sprintf("%s: %s of %s calls begun in time, %s never; calls began late by p99 %s, max %s; ", kept,
			formatInt(g.Begun), formatInt(g.Due), formatInt(g.Unsent), formatMicros(g.Lag.P99), formatMicros(g.Lag.Max))
	} else {
		text = fmt.Sprintf("%s calls; ", formatInt(g.Begun))
	}
	return text + fmt.Sprintf("%.1f s of CPU, %s of the machine", g.CPUS, formatShare(g.CPUFrac))
}

// seconds writes a length that somebody asked for: "1m30s".
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return formatInt(int64(n)) + " " + noun + "s"
}

func (r *Report) textPhases(b *strings.Builder) {
	t := table{}
	t.add("phase", "length", "good/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "gap", "first good", "failed")
	phases := r.Phases
	if len(phases) != 1 {
		phases = append(slices.Clip(phases), r.sum())
	}
	for _, p := range phases {
		row := append([]string{plain(p.Name), formatSeconds(p.To - p.From), formatRate(p.Rate)}, p.Latency.cells()...)
		t.add(append(row, p.gapCell(), p.firstGoodCell(), formatInt(p.Failed()))...)
	}
	b.WriteByte('\n')
	t.write(b, "")
	b.WriteByte('\n')
}

// sum is Total under a name for tables.
func (r *Report) sum() Phase {
	p := r.Total
	p.Name = "total"
	return p
}

// cells are the quantiles for a table.
func (l Latency) cells() []string {
	if l.Count == 0 {
		return []string{"-", "-", "-", "-", "-", "-"}
	}
	return []string{
		formatMicros(l.P50), formatMicros(l.P90), formatMicros(l.P99), formatMicros(l.P999), formatMicros(l.P9999), formatMicros(l.Max),
	}
}

func (c Counts) gapCell() string {
	if c.Good == 0 {
		return "-"
	}
	return formatMillis(c.GapMS)
}

func (p Phase) firstGoodCell() string {
	if p.FirstGoodMS < 0 {
		return "never"
	}
	return formatMillis(p.FirstGoodMS)
}

func (r *Report) textWorks(b *strings.Builder) {
	if len(r.Works) < 2 {
		return
	}
	t := table{}
	t.add("work", "good/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "gap", "failed")
	for _, w := range r.Works {
		row := append([]string{plain(w.Name), formatRate(w.Rate)}, w.Latency.cells()...)
		t.add(append(row, w.gapCell(), formatInt(w.Failed()))...)
	}
	t.write(b, "")
	b.WriteByte('\n')
}

func (r *Report) textFaults(b *strings.Builder) {
	if len(r.Faults) == 0 {
		return
	}
	t := table{left: 2}
	t.add("fault", "on", "at", "took", "undone at", "took")
	for _, f := range r.Faults {
		row := []string{plain(f.label()), shorten(plain(strings.Join(f.Targets, ", ")), 40), formatSeconds(f.At), formatMillis(f.TookMS)}
		if f.Healed >= 0 {
			row = append(row, formatSeconds(f.Healed), formatMillis(f.HealedMS))
		} else {
			row = append(row, "-", "-")
		}
		t.add(row...)
	}
	t.write(b, "")
	b.WriteByte('\n')
}

func (f Fault) label() string {
	if f.Round > 1 {
		return fmt.Sprintf("%s (round %d)", f.Spec, f.Round)
	}
	return f.Spec
}

// errorKinds are the kinds of failed calls, the most frequent first.
func errorKinds(c Counts) []string {
	return slices.SortedFunc(maps.Keys(c.Errors), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.Errors[b], c.Errors[a]), cmp.Compare(a, b))
	})
}

func (r *Report) textErrors(b *strings.Builder) {
	for _, kind := range errorKinds(r.Total.Counts) {
		var where []string
		for _, p := range r.Phases {
			if n := p.Errors[kind]; n > 0 && len(r.Phases) > 1 {
				where = append(where, fmt.Sprintf("%s in %s", formatInt(n), p.Name))
			}
		}
		text := fmt.Sprintf("%s: %s", kind, formatInt(r.Total.Errors[kind]))
		if len(where) > 0 {
			text += " (" + strings.Join(where, ", ") + ")"
		}
		writeWrapped(b, "failed     ", plain(text))
	}
}

func (r *Report) textLedger(b *strings.Builder) {
	if r.Ledger == nil {
		return
	}
	writeWrapped(b, "ledger     ", r.Ledger.describe())
	for _, e := range r.Ledger.Examples {
		writeWrapped(b, "           ", plain(e))
	}
}

func (l *Ledger) describe() string {
	text := fmt.Sprintf("%s calls, %s ran, %s twice, %s lost, %s ran though reported as not executed; %s with an unknown outcome, of which %s ran",
		formatInt(l.Calls), formatInt(l.Ran), formatInt(l.Twice), formatInt(l.Lost), formatInt(l.Phantom), formatInt(l.Unknown), formatInt(l.UnknownRan))
	if l.OnewayLost > 0 {
		text += fmt.Sprintf("; %s oneway calls never ran", formatInt(l.OnewayLost))
	}
	if l.Strangers > 0 {
		text += fmt.Sprintf("; %s ids that no caller used", formatInt(l.Strangers))
	}
	if !l.Complete {
		text += "; NOT COMPLETE: a ledger could not be read to its end, so lost says too much and twice too little"
	}
	return text
}

func (r *Report) textBaselines(b *strings.Builder) {
	if len(r.Baselines) == 0 {
		return
	}
	b.WriteByte('\n')
	t := table{}
	t.add("baseline", "good/s", "p50", "p90", "p99", "p99.9", "p99.99", "max", "failed", "× rate", "× p50", "× p99")
	for _, v := range r.Baselines {
		row := append([]string{plain(v.Name), formatRate(v.Rate)}, v.Latency.cells()...)
		t.add(append(row, formatInt(v.Failed()), formatRatio(v.RateRatio), formatRatio(v.P50Ratio), formatRatio(v.P99Ratio))...)
	}
	t.write(b, "")
	b.WriteString("(×: how many times that of the baseline the run's first phase had)\n\n")
}

func (r *Report) textSLO(b *strings.Builder) {
	for _, c := range r.SLO {
		verdict := "ok"
		if !c.OK {
			verdict = "MISSED"
		}
		writeWrapped(b, fmt.Sprintf("SLO        %-6s ", verdict), plain(c.Want+": "+c.Got))
	}
}
