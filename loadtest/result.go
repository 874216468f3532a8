package loadtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

// report makes the report of what was measured; judge completes it.
func (r *run) report(ctx context.Context, m *measurement, members []failover.Member) *report.Report {
	c := r.cfg
	rep := &report.Report{
		Schema:      report.Schema,
		Run:         fmt.Sprintf("%016x", r.id),
		Name:        c.Name,
		Started:     r.started.UTC(),
		Command:     c.Command,
		Environment: environment(ctx, c),
		Target:      report.Target{Kind: r.target.kind, Name: r.target.name, Proxied: c.linkFaults()},
		Load:        r.load(),
		Generator:   generator(m),
		Total:       phase(m.record.Total),
		Faults:      r.faults,
		Problems:    []string{},
	}
	for _, member := range members {
		rep.Target.Members = append(rep.Target.Members, member.URI.String())
	}
	for _, p := range m.record.Phases {
		rep.Phases = append(rep.Phases, phase(p))
	}
	for _, i := range m.record.Intervals {
		rep.Intervals = append(rep.Intervals, interval(i))
	}
	length := m.record.Total.To - m.record.Total.From
	for _, w := range c.works {
		counts := m.record.Works[w.String()]
		rep.Works = append(rep.Works, report.Work{Name: w.String(), Rate: rate(counts.Good, length), Counts: countsOf(counts)})
	}
	r.doubts(m)
	return rep
}

// doubts notes what was wrong with the load itself.
func (r *run) doubts(m *measurement) {
	if m.short != nil {
		r.problem(true, "cut short after %v: %v", (m.record.Total.To - m.record.Total.From).Round(10*time.Millisecond), m.short)
		return
	}
	total := m.record.Total
	if n := total.Errors[errorNoLedger]; n > 0 {
		r.problem(true, "the servants did not run %d calls because they could not write their ledgers: make room on their disks", n)
	}
	if last := m.record.Phases[len(m.record.Phases)-1]; last.Good == 0 {
		r.problem(true, "no call was good in the last %v", (last.To - last.From).Round(10*time.Millisecond))
	}
	if s := m.summary; !s.Kept() {
		why := "ask for less, or give more --callers"
		if len(total.Errors) > 0 {
			why = "calls failed, and callers waited for them"
		}
		r.problem(true, "the asked rate was not kept: %d of %d calls had begun when the load ended, and %d never did: %s", s.Begun, s.Due, s.Unsent, why)
	}
}

func (r *run) load() report.Load {
	c := r.cfg
	l := report.Load{
		Mode: "closed", Callers: c.Callers, Connections: c.Connections, DurationS: c.Length().Seconds(), WarmupS: c.Warmup.Seconds(),
		Seed: c.Seed, Contract: c.Contract, Serializer: c.Serializer, Generators: 1,
	}
	for _, s := range c.steps {
		l.Mode = "open"
		l.Steps = append(l.Steps, report.Step{Rate: s.Rate, ForS: s.For.Seconds()})
	}
	for _, w := range c.works {
		text := w.String()
		if w.Kind == workCall {
			text = c.Call
		}
		if len(c.works) > 1 {
			text += fmt.Sprintf("=%d", w.Weight)
		}
		l.Works = append(l.Works, text)
	}
	return l
}

func generator(m *measurement) report.Generator {
	s := m.summary
	g := report.Generator{Due: s.Due, Begun: s.Begun, Unsent: s.Unsent, Kept: s.Kept(), Lag: report.LatencyOf(s.Lag, false), CPUS: m.cpu.Seconds()}
	if length := m.record.Total.To - m.record.Total.From; length > 0 {
		g.CPUFrac = m.cpu.Seconds() / length.Seconds() / float64(runtime.GOMAXPROCS(0))
	}
	return g
}

func phase(p traffic.Phase) report.Phase {
	first := -1.0
	if p.FirstGood >= 0 {
		first = millis(p.FirstGood)
	}
	if p.Good == 0 && len(p.Errors) > 0 {
		p.Gap = max(p.Gap, p.To-p.From) // a wait that went on after it
	}
	return report.Phase{
		Name: p.Name, From: p.From.Seconds(), To: p.To.Seconds(), Rate: rate(p.Good, p.To-p.From), Counts: countsOf(p.Counts), FirstGoodMS: first,
	}
}

func interval(i traffic.Interval) report.Interval {
	return report.Interval{From: i.From.Seconds(), To: i.To.Seconds(), Phase: i.Phase, Rate: rate(i.Good, i.To-i.From), Counts: countsOf(i.Counts)}
}

func countsOf(c traffic.Counts) report.Counts {
	errs := c.Errors
	if errs == nil {
		errs = map[string]int64{}
	}
	l := report.LatencyOf(c.Hist, true)
	// A histogram rounds up.
	return report.Counts{Good: c.Good, Errors: errs, Latency: l, GapMS: max(millis(c.Gap), l.Max/1000)}
}

func rate(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// compareBaselines sets the run's first phase, in which nothing was broken yet, against each baseline.
func compareBaselines(baselines []report.Baseline, phases []report.Phase) []report.Baseline {
	if len(phases) == 0 {
		return baselines
	}
	first := phases[0]
	for i := range baselines {
		b := &baselines[i]
		b.RateRatio = ratio(first.Rate, b.Rate)
		b.P50Ratio = ratio(first.Latency.P50, b.Latency.P50)
		b.P99Ratio = ratio(first.Latency.P99, b.Latency.P99)
	}
	return slices.Clip(baselines)
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
