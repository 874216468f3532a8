package report

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Merge adds up the runs of several generators that were started together against one target, with the same work, serializer, contract and
// length, and the same phases in the same order.  What does not go together is an error that says why.  The reports are not changed.
//
// Calls, errors and ledgers are added, rates, callers, steps and CPU time too; histograms are merged, so that quantiles are those of all calls;
// the longest gap and the soonest first good call are those of any generator.  An interval is added to the one of the first report that
// has its middle, by the time since recording began; if the generators started further apart than an interval, that is noted as a
// problem.  Faults that several generators report are kept once.  Environment, command, seed and start are those of the first report.
// Baselines are left out, as they ran on the generators one by one.  The conditions of the SLO are judged anew for the sum.  The sum is OK
// if they hold and no generator had a problem that failed its run; one that is not OK and has problems counts as such.
func Merge(reports ...*Report) (*Report, error) {
	if len(reports) == 0 {
		return nil, errors.New("report: merge: there is no report")
	}
	for i, r := range reports {
		if err := mergeable(reports[0], r); err != nil {
			return nil, fmt.Errorf("report: merge: report %d: %w", i+1, err)
		}
		if slices.ContainsFunc(reports[:i], func(o *Report) bool { return r.Run != "" && o.Run == r.Run }) {
			return nil, fmt.Errorf("report: merge: report %d: it is given twice: run %s", i+1, r.Run)
		}
	}
	m := merger{reports: reports, sum: reports[0].complete()}
	if len(reports) == 1 {
		return m.sum, nil
	}
	m.load()
	m.ledgers()
	m.faults()
	m.problems()
	if err := m.counts(); err != nil {
		return nil, fmt.Errorf("report: merge: %w", err)
	}
	if err := m.judge(); err != nil {
		return nil, fmt.Errorf("report: merge: %w", err)
	}
	return m.sum, nil
}

// mergeable reports why two runs cannot be added.
func mergeable(a, b *Report) error {
	for _, r := range []*Report{a, b} {
		if r.Schema != Schema {
			return fmt.Errorf("schema is %q, want %q", r.Schema, Schema)
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	for _, c := range []struct{ what, a, b string }{
		{"target", a.Target.Kind + " " + a.Target.Name, b.Target.Kind + " " + b.Target.Name},
		{"mode", a.Load.Mode, b.Load.Mode},
		{"works", strings.Join(a.Load.Works, ","), strings.Join(b.Load.Works, ",")},
		{"contract", a.Load.Contract, b.Load.Contract},
		{"serializer", a.Load.Serializer, b.Load.Serializer},
		{"duration", seconds(a.Load.DurationS), seconds(b.Load.DurationS)},
		{"steps", stepLengths(a.Load.Steps), stepLengths(b.Load.Steps)},
		{"phases", names(a.Phases, func(p Phase) string { return p.Name }), names(b.Phases, func(p Phase) string { return p.Name })},
		{"works that ran", names(a.Works, func(w Work) string { return w.Name }), names(b.Works, func(w Work) string { return w.Name })},
		{"SLO", names(a.SLO, func(c Check) string { return c.Want }), names(b.SLO, func(c Check) string { return c.Want })},
	} {
		if c.a != c.b {
			return fmt.Errorf("%s is %q, that of the first is %q: merge runs of one command", c.what, c.b, c.a)
		}
	}
	apart := b.Started.Sub(a.Started).Abs()
	if length := time.Duration(a.Load.DurationS * float64(time.Second)); apart > length {
		return fmt.Errorf("it started %v apart from the first, and the run is %v long: they did not run at the same time", apart, length)
	}
	return nil
}

func stepLengths(steps []Step) string {
	return names(steps, func(s Step) string { return seconds(s.ForS) })
}

func names[T any](items []T, name func(T) string) string {
	var all []string
	for _, i := range items {
		all = append(all, name(i))
	}
	return strings.Join(all, ", ")
}

// merger adds all reports up in sum, which begins as a copy of the first.
type merger struct {
	reports []*Report
	sum     *Report
}

func (m *merger) load() {
	l, g := &m.sum.Load, &m.sum.Generator
	l.Steps = slices.Clone(l.Steps)
	l.Generators = max(l.Generators, 1)
	for _, r := range m.reports[1:] {
		l.Callers += r.Load.Callers
		l.Generators += max(r.Load.Generators, 1)
		for i, s := range r.Load.Steps {
			l.Steps[i].Rate += s.Rate
		}
		o := r.Generator
		g.Due += o.Due
		g.Begun += o.Begun
		g.Unsent += o.Unsent
		g.Kept = g.Kept && o.Kept
		g.CPUS += o.CPUS
		g.CPUFrac = max(g.CPUFrac, o.CPUFrac) // each has a machine of its own, and the busiest tells
	}
}

func (m *merger) ledgers() {
	first := m.sum.Ledger
	if first == nil {
		first = &Ledger{Complete: true}
	}
	all, known := *first, m.sum.Ledger != nil
	all.Examples = slices.Clone(all.Examples)
	for _, r := range m.reports[1:] {
		if r.Ledger == nil {
			known = false
			continue
		}
		o := r.Ledger
		all.Calls += o.Calls
		all.Ran += o.Ran
		all.Twice += o.Twice
		all.Lost += o.Lost
		all.Phantom += o.Phantom
		all.Unknown += o.Unknown
		all.UnknownRan += o.UnknownRan
		all.OnewayLost += o.OnewayLost
		all.Strangers += o.Strangers
		all.Examples = append(all.Examples, o.Examples...)
		all.Complete = all.Complete && o.Complete
	}
	if !known {
		m.sum.Ledger = nil
		return
	}
	m.sum.Ledger = &all
}

func (m *merger) faults() {
	for _, r := range m.reports[1:] {
		for _, f := range r.Faults {
			same := func(o Fault) bool {
				return o.Spec == f.Spec && o.Round == f.Round && slices.Equal(o.Targets, f.Targets)
			}
			if !slices.ContainsFunc(m.sum.Faults, same) {
				m.sum.Faults = append(m.sum.Faults, f)
			}
		}
	}
	slices.SortStableFunc(m.sum.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
}

func (m *merger) problems() {
	m.sum.Problems = []string{}
	note := func(i int, problem string) {
		m.sum.Problems = append(m.sum.Problems, fmt.Sprintf("generator %d: %s", i+1, problem))
	}
	baselines, unledgered := false, 0
	for i, r := range m.reports {
		for _, p := range r.Problems {
			note(i, p)
		}
		apart := r.Started.Sub(m.reports[0].Started)
		if interval := m.reports[0].usualInterval(); apart.Abs().Seconds() > interval {
			note(i, fmt.Sprintf("started %v apart from the first, so that intervals are not quite of the same time", apart.Round(time.Millisecond)))
		}
		baselines = baselines || len(r.Baselines) > 0
		if r.Ledger == nil {
			unledgered++
		}
	}
	if unledgered > 0 && unledgered < len(m.reports) {
		m.sum.Problems = append(m.sum.Problems, fmt.Sprintf("%d of %d generators have no ledger, so the sum has none", unledgered, len(m.reports)))
	}
	if baselines {
		m.sum.Problems = append(m.sum.Problems, "baselines are left out of a sum")
	}
	m.sum.Baselines = []Baseline{}
}

// counts adds what was measured.
func (m *merger) counts() error {
	s := m.sum
	var lags []Latency
	total := []Phase{s.Total}
	for _, r := range m.reports {
		lags = append(lags, r.Generator.Lag)
		if r != m.reports[0] {
			total = append(total, r.Total)
		}
	}
	s.Generator.Lag = sumLags(lags)
	var err error
	if s.Total, err = sumPhases(total); err != nil {
		return fmt.Errorf("total: %w", err)
	}
	for i := range s.Phases {
		parts := collect(m.reports, func(r *Report) Phase { return r.Phases[i] })
		if s.Phases[i], err = sumPhases(parts); err != nil {
			return fmt.Errorf("phase %q: %w", s.Phases[i].Name, err)
		}
	}
	for i := range s.Works {
		w := &s.Works[i]
		parts := collect(m.reports, func(r *Report) Counts { return r.Works[i].Counts })
		if w.Counts, err = sumCounts(parts); err != nil {
			return fmt.Errorf("work %q: %w", w.Name, err)
		}
		w.Rate = 0
		for _, r := range m.reports {
			w.Rate += r.Works[i].Rate
		}
	}
	return m.intervals()
}

func collect[T any](reports []*Report, of func(*Report) T) []T {
	parts := make([]T, len(reports))
	for i, r := range reports {
		parts[i] = of(r)
	}
	return parts
}

func (m *merger) intervals() error {
	s := m.sum
	parts := make([][]Counts, len(s.Intervals))
	for i, v := range s.Intervals {
		parts[i] = []Counts{v.Counts}
	}
	for _, r := range m.reports[1:] {
		for _, v := range r.Intervals {
			if len(s.Intervals) == 0 {
				return errors.New("the first report has no intervals, and others have")
			}
			i := s.intervalAt((v.From+v.To)/2, v.Phase)
			parts[i] = append(parts[i], v.Counts)
		}
	}
	for i := range s.Intervals {
		v := &s.Intervals[i]
		var err error
		if v.Counts, err = sumCounts(parts[i]); err != nil {
			return fmt.Errorf("interval %d: %w", i, err)
		}
		if length := v.To - v.From; length > 0 {
			v.Rate = min(float64(v.Good)/length, maxNumber)
		}
	}
	return nil
}

// intervalAt returns the interval that has a time or is nearest to it; of two the one of that phase.
func (r *Report) intervalAt(at float64, phase int) int {
	// Intervals are in order, so that it is beside the first one that begins later.
	end := len(r.Intervals)
	first, _ := slices.BinarySearchFunc(r.Intervals, at, func(v Interval, at float64) int { return cmp.Compare(v.From, at) })
	best, bestDistance := -1, math.Inf(1)
	for i := max(first-2, 0); i < min(first+2, end); i++ {
		distance := r.Intervals[i].distance(at)
		if r.Intervals[i].Phase != phase {
			distance += 1e-9 // of two that are as near, the one of the same phase
		}
		if distance < bestDistance {
			best, bestDistance = i, distance
		}
	}
	return best
}

// distance is how far a time is from an interval; 0 within it.
func (v Interval) distance(at float64) float64 { return max(v.From-at, at-v.To, 0) }

// sumPhases adds phases of one name; the span is that of the first.
func sumPhases(parts []Phase) (Phase, error) {
	sum := parts[0]
	counts := make([]Counts, len(parts))
	for i, p := range parts {
		counts[i] = p.Counts
		if i == 0 {
			continue
		}
		sum.Rate += p.Rate
		if p.FirstGoodMS >= 0 && (sum.FirstGoodMS < 0 || p.FirstGoodMS < sum.FirstGoodMS) {
			sum.FirstGoodMS = p.FirstGoodMS
		}
	}
	var err error
	sum.Counts, err = sumCounts(counts)
	return sum, err
}

func sumCounts(parts []Counts) (Counts, error) {
	sum := Counts{Errors: make(map[string]int64)}
	latencies := make([]Latency, len(parts))
	for i, c := range parts {
		sum.Good += c.Good
		sum.GapMS = max(sum.GapMS, c.GapMS)
		for kind, n := range c.Errors {
			sum.Errors[kind] += n
		}
		latencies[i] = c.Latency
	}
	var err error
	sum.Latency, err = sumLatencies(latencies)
	return sum, err
}

// sumLatencies merges histograms; those of all that have values have to be there.
func sumLatencies(parts []Latency) (Latency, error) {
	parts = slices.DeleteFunc(slices.Clone(parts), func(l Latency) bool { return l.Count == 0 })
	switch len(parts) {
	case 0:
		return Latency{}, nil
	case 1:
		return parts[0], nil
	}
	sum, err := parts[0].Decode()
	if err != nil {
		return Latency{}, err
	}
	for _, l := range parts[1:] {
		h, err := l.Decode()
		if err != nil {
			return Latency{}, err
		}
		if dropped := sum.Merge(h); dropped > 0 {
			return Latency{}, fmt.Errorf("%d values of a histogram are outside the range of another", dropped)
		}
	}
	return LatencyOf(sum, true), nil
}

// sumLags merges histograms where they are there; the generators' own lag is also reported without, and then the worst of each quantile
// has to do.
func sumLags(parts []Latency) Latency {
	if l, err := sumLatencies(parts); err == nil {
		return l
	}
	var worst Latency
	for _, l := range parts {
		worst.Count += l.Count
		worst.Mean = max(worst.Mean, l.Mean)
		worst.P50 = max(worst.P50, l.P50)
		worst.P90 = max(worst.P90, l.P90)
		worst.P99 = max(worst.P99, l.P99)
		worst.P999 = max(worst.P999, l.P999)
		worst.P9999 = max(worst.P9999, l.P9999)
		worst.Max = max(worst.Max, l.Max)
	}
	return worst
}

// judge judges the sum by the conditions that the runs were judged by.
func (m *merger) judge() error {
	ok := true
	for _, r := range m.reports {
		missed := slices.ContainsFunc(r.SLO, func(c Check) bool { return !c.OK })
		ok = ok && (r.OK || missed && len(r.Problems) == 0)
	}
	var slo SLO
	for _, c := range m.sum.SLO {
		parsed, err := ParseSLO(c.Want)
		if err != nil {
			return err
		}
		slo = append(slo, parsed...)
	}
	m.sum.SLO = slo.Judge(m.sum)
	for _, c := range m.sum.SLO {
		ok = ok && c.OK
	}
	m.sum.OK = ok
	return m.sum.check()
}
