package report

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Verdict says how B's value stands to A's.
type Verdict string

// The verdicts of a comparison.
const (
	Same     Verdict = "same"       // they differ by no more than their own spread
	Better   Verdict = "better"     // B is better
	Worse    Verdict = "worse"      // B is worse
	OnlyOne  Verdict = "only one"   // the other run has no such phase
	NotKnown Verdict = "not judged" // for the reason that is given
)

// Difference is one figure of two runs.
type Difference struct {
	Phase   string  `json:"phase"`    // empty for what is counted over the whole run
	Figure  string  `json:"figure"`   // "rate", "p50", "p99", "errors", "gap", "twice", "lost", "phantom"
	A       float64 `json:"a"`        // calls a second; microseconds; a share of calls; milliseconds (gap); calls
	B       float64 `json:"b"`        // likewise
	SpreadA float64 `json:"spread_a"` // of A, in the same unit; 0 where there is none
	SpreadB float64 `json:"spread_b"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // why it is not judged
}

// The rules of Compare.
const (
	minIntervals = 5    // in a phase, to know a spread
	minChange    = 0.02 // of a median
	errorSigmas  = 3    // standard deviations
	errorCalls   = 3    // calls
	errorFactor  = 1.5  // between the shares
	gapFactor    = 2
	gapMillis    = 100
)

// Compare compares two runs phase by phase, phases being matched by name (those of the same name in their order).  Runs that were not
// asked for the same are an error that says what differs: the kind of target, the load with its length and works, the contract, the
// serializer, the faults.  Seed, machine and versions may differ; mind that figures of two machines compare the machines, too.
//
// It is a question of what two single runs can tell, so a difference has to be larger than what each run does on its own:
//
//   - rate, p50 and p99 are medians of the intervals in a phase, without those that a phase cut to less than half, and for quantiles
//     without those in which no call was good.  The spread of a run is the distance between the quartiles of these values.  B differs if
//     the medians are further apart than the larger spread and than 2 % of A's.  It is deaf to small shifts in noisy runs, and in
//     return two runs of the same thing are told apart hardly ever.  With fewer than 5 such intervals on a side it is not judged.
//   - errors is the share of failed calls.  B differs if the shares are more than 3 standard deviations apart (of the difference of two
//     shares, were they the same, every call failing by itself), by more than a factor of 1.5, and if the side with more has at least 3
//     failed calls.  The factor is there because calls do not fail by themselves: a fault fails all that are under way.
//   - gap is one value, an extreme one: it differs by more than a factor of 2 and by more than 100 ms, or not at all.
//   - twice, lost and phantom are over the whole run and have no tolerance: one more is worse.  They are not judged if a side has no
//     ledger, or one that could not be read to its end.
//
// A phase in which no call ended on one side is worse there.
func Compare(a, b *Report) ([]Difference, error) {
	if err := sameKind(a, b); err != nil {
		return nil, fmt.Errorf("report: compare: %w", err)
	}
	var found []Difference
	taken := make([]bool, len(b.Phases))
	for i, p := range a.Phases {
		j := -1
		for k := range b.Phases {
			if !taken[k] && b.Phases[k].Name == p.Name {
				j = k
				break
			}
		}
		if j < 0 {
			found = append(found, Difference{Phase: p.Name, Figure: "rate", A: p.Rate, Verdict: OnlyOne})
			continue
		}
		taken[j] = true
		found = append(found, comparePhases(a, i, b, j)...)
	}
	for j, p := range b.Phases {
		if !taken[j] {
			found = append(found, Difference{Phase: p.Name, Figure: "rate", B: p.Rate, Verdict: OnlyOne})
		}
	}
	return append(found, compareLedgers(a.Ledger, b.Ledger)...), nil
}

// sameKind reports what two runs were asked differently.
func sameKind(a, b *Report) error {
	for _, r := range []*Report{a, b} {
		if r.Schema != Schema {
			return fmt.Errorf("schema is %q, want %q", r.Schema, Schema)
		}
	}
	for _, c := range []struct {
		what string
		a, b any
	}{
		{"kind of target", a.Target.Kind, b.Target.Kind},
		{"proxy in front of the target", a.Target.Proxied, b.Target.Proxied},
		{"load", a.Load.essence(), b.Load.essence()},
		{"faults", faultSpecs(a), faultSpecs(b)},
	} {
		if c.a != c.b {
			return fmt.Errorf("the runs are not of the same kind: %s is %q in A, %q in B: compare runs of the same command",
				c.what, fmt.Sprint(c.a), fmt.Sprint(c.b))
		}
	}
	return nil
}

// essence is what makes a load the same.
func (l Load) essence() string {
	l.WarmupS = 0
	return l.describe() + "; " + seconds(l.DurationS)
}

func faultSpecs(r *Report) string {
	var specs []string
	for _, f := range r.Faults {
		if !slices.Contains(specs, f.Spec) {
			specs = append(specs, f.Spec)
		}
	}
	slices.Sort(specs)
	return strings.Join(specs, " ")
}

func comparePhases(a *Report, i int, b *Report, j int) []Difference {
	pa, pb := a.Phases[i], b.Phases[j]
	found := []Difference{
		compareIntervals("rate", a.values(i, func(v Interval) (float64, bool) { return v.Rate, true }),
			b.values(j, func(v Interval) (float64, bool) { return v.Rate, true }), true),
	}
	if (pa.ended() == 0) != (pb.ended() == 0) {
		// Nothing ended on one side: that is a difference, however few intervals there are, and there is nothing else to compare.
		found[0] = Difference{Figure: "rate", A: pa.Rate, B: pb.Rate, Verdict: verdict(pa.Rate, pb.Rate, true)}
	} else {
		for _, q := range []struct {
			name string
			of   func(Latency) float64
		}{{"p50", func(l Latency) float64 { return l.P50 }}, {"p99", func(l Latency) float64 { return l.P99 }}} {
			value := func(v Interval) (float64, bool) { return q.of(v.Latency), v.Latency.Count > 0 }
			found = append(found, compareIntervals(q.name, a.values(i, value), b.values(j, value), false))
		}
		found = append(found, compareErrors(pa.Counts, pb.Counts), compareGaps(pa.Counts, pb.Counts))
	}
	for k := range found {
		found[k].Phase = pa.Name
	}
	return found
}

// values are those of the intervals of a phase, but for those that are too short to tell and those that have none.
func (r *Report) values(phase int, value func(Interval) (float64, bool)) []float64 {
	usual := r.usualInterval()
	var found []float64
	for _, v := range r.Intervals {
		if v.Phase != phase || v.To-v.From < usual/2 {
			continue
		}
		if f, ok := value(v); ok {
			found = append(found, f)
		}
	}
	slices.Sort(found)
	return found
}

// compareIntervals takes sorted values.
func compareIntervals(figure string, a, b []float64, higherIsBetter bool) Difference {
	d := Difference{Figure: figure, A: quantile(a, 0.5), B: quantile(b, 0.5), Verdict: NotKnown}
	d.SpreadA = quantile(a, 0.75) - quantile(a, 0.25)
	d.SpreadB = quantile(b, 0.75) - quantile(b, 0.25)
	for _, side := range []struct {
		name string
		n    int
	}{{"A", len(a)}, {"B", len(b)}} {
		if side.n < minIntervals {
			d.Reason = fmt.Sprintf("%s has %d of at least %d intervals", side.name, side.n, minIntervals)
			return d
		}
	}
	d.Verdict = Same
	if math.Abs(d.A-d.B) > max(d.SpreadA, d.SpreadB, minChange*d.A) {
		d.Verdict = verdict(d.A, d.B, higherIsBetter)
	}
	return d
}

// quantile interpolates between sorted values; 0 if there are none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (sorted[high]-sorted[low])*(at-float64(low))
}

func verdict(a, b float64, higherIsBetter bool) Verdict {
	switch {
	case a == b:
		return Same
	case (b > a) == higherIsBetter:
		return Better
	}
	return Worse
}

func compareErrors(a, b Counts) Difference {
	d := Difference{Figure: "errors", Verdict: Same}
	na, nb := float64(a.ended()), float64(b.ended())
	if na == 0 || nb == 0 {
		d.Verdict, d.Reason = NotKnown, "no call has ended in "+sideWithout(na > 0, nb > 0)
		return d
	}
	fa, fb := float64(a.Failed()), float64(b.Failed())
	d.A, d.B = fa/na, fb/nb
	d.SpreadA, d.SpreadB = math.Sqrt(d.A*(1-d.A)/na), math.Sqrt(d.B*(1-d.B)/nb)
	all := (fa + fb) / (na + nb)
	sigma := math.Sqrt(all * (1 - all) * (1/na + 1/nb))
	more := fa
	if d.B > d.A {
		more = fb
	}
	if math.Abs(d.A-d.B) > errorSigmas*sigma && max(d.A, d.B) > errorFactor*min(d.A, d.B) && more >= errorCalls {
		d.Verdict = verdict(d.A, d.B, false)
	}
	return d
}

func compareGaps(a, b Counts) Difference {
	d := Difference{Figure: "gap", A: a.GapMS, B: b.GapMS, Verdict: Same}
	if (a.Good == 0) != (b.Good == 0) {
		d.Verdict, d.Reason = NotKnown, "there is no good call in "+sideWithout(a.Good > 0, b.Good > 0)
	} else if max(d.A, d.B) > gapFactor*min(d.A, d.B) && math.Abs(d.A-d.B) > gapMillis {
		d.Verdict = verdict(d.A, d.B, false)
	}
	return d
}

func compareLedgers(a, b *Ledger) []Difference {
	if a == nil && b == nil {
		return nil
	}
	var found []Difference
	for _, f := range figures {
		if f.ledger == nil {
			continue
		}
		d := Difference{Figure: f.name, Verdict: NotKnown}
		if a != nil {
			d.A = float64(f.ledger(a))
		}
		if b != nil {
			d.B = float64(f.ledger(b))
		}
		switch {
		case a == nil || b == nil:
			d.Reason = "there is no ledger in " + sideWithout(a != nil, b != nil)
		case !a.Complete || !b.Complete:
			d.Reason = "the ledger was not read to its end in " + sideWithout(a.Complete, b.Complete)
		default:
			d.Verdict = verdict(d.A, d.B, false)
		}
		found = append(found, d)
	}
	return found
}

// sideWithout names the runs that do not have something.
func sideWithout(a, b bool) string {
	switch {
	case a:
		return "B"
	case b:
		return "A"
	}
	return "A and B"
}

// AnyWorse reports whether B is worse in something.
func AnyWorse(d []Difference) bool {
	return slices.ContainsFunc(d, func(d Difference) bool { return d.Verdict == Worse })
}

// WriteComparison writes what Compare found for people: a table, and what it comes to.
func WriteComparison(w io.Writer, a, b *Report, d []Difference) error {
	if a == nil || b == nil {
		return errors.New("report: write a comparison: a report is missing")
	}
	var text strings.Builder
	for _, side := range []struct {
		name string
		r    *Report
	}{{"A  ", a}, {"B  ", b}} {
		writeWrapped(&text, side.name, plain(fmt.Sprintf("%s, started %s, pyro-cluster %s, %s",
			side.r.title(), side.r.Started.Format("2006-01-02 15:04:05 MST"), side.r.Environment.Version, side.r.Environment.CPU)))
	}
	text.WriteByte('\n')
	t := table{left: 2}
	t.add("phase", "figure", "A", "± spread", "B", "± spread", "change", "verdict")
	numbers := make(map[Verdict]int)
	var reasons []string
	notJudged := make(map[string][]string) // figures by reason
	for _, v := range d {
		numbers[v.Verdict]++
		phase := v.Phase
		if phase == "" {
			phase = "(whole run)"
		}
		if v.Reason != "" {
			if len(notJudged[v.Reason]) == 0 {
				reasons = append(reasons, v.Reason)
			}
			notJudged[v.Reason] = append(notJudged[v.Reason], plain(phase)+" "+v.Figure)
		}
		t.add(plain(phase), v.Figure, v.format(v.A), v.format(v.SpreadA), v.format(v.B), v.format(v.SpreadB), v.change(), v.word())
	}
	t.write(&text, "")
	text.WriteByte('\n')
	for _, reason := range reasons {
		writeWrapped(&text, "", fmt.Sprintf("%s, as %s: %s.", NotKnown, reason, strings.Join(notJudged[reason], ", ")))
	}
	writeWrapped(&text, "", summary(numbers))
	_, err := io.WriteString(w, text.String())
	return err
}

// word is the verdict so that what matters catches the eye.
func (d Difference) word() string {
	if d.Verdict == Worse {
		return "WORSE"
	}
	return string(d.Verdict)
}

func (d Difference) format(v float64) string {
	switch d.Figure {
	case "rate":
		return formatRate(v) + "/s"
	case "errors":
		return formatShare(v)
	case "gap":
		return formatMillis(v)
	case "p50", "p99":
		return formatMicros(v)
	}
	return formatNumber(v)
}

func (d Difference) change() string {
	if d.A == 0 || d.Verdict == OnlyOne {
		return "-"
	}
	return fmt.Sprintf("%+.1f%%", (d.B-d.A)/d.A*100)
}

func summary(numbers map[Verdict]int) string {
	text := "B is not worse than A"
	switch {
	case numbers[Worse] > 0:
		text = fmt.Sprintf("B is WORSE than A in %d of %d figures", numbers[Worse], total(numbers))
	case numbers[Same]+numbers[Better] == 0:
		text = "nothing could be judged"
	}
	var parts []string
	for _, v := range []Verdict{Better, Same, NotKnown, OnlyOne} {
		if n := numbers[v]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, v))
		}
	}
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return text
}

func total(numbers map[Verdict]int) int {
	n := 0
	for _, v := range numbers {
		n += v
	}
	return n
}
