package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// plots is what page.js draws.  Times are in seconds, latencies in microseconds; null is no value.
type plots struct {
	Series timeSeries  `json:"series"`
	Faults []faultMark `json:"faults"`
	Nines  []float64   `json:"nines"`  // x of the curves: -log10(1-q)
	Curves []curve     `json:"curves"` // in order: phases, then baselines
	Length float64     `json:"length"`
}

// timeSeries has an element for each interval, in the middle of which it is drawn.
type timeSeries struct {
	At     []float64  `json:"at"`
	Rate   []float64  `json:"rate"`
	Failed []float64  `json:"failed"` // calls a second
	Asked  []*float64 `json:"asked"`
	P50    []*float64 `json:"p50"`
	P99    []*float64 `json:"p99"`
	P999   []*float64 `json:"p999"`
	Max    []*float64 `json:"max"`
}

type faultMark struct {
	At     float64  `json:"at"`
	Healed *float64 `json:"healed"`
	Label  string   `json:"label"`
}

type curve struct {
	Name     string     `json:"name"`
	Baseline bool       `json:"baseline"`
	Y        []*float64 `json:"y"`
}

func (r *Report) plots() (plots, error) {
	p := plots{Series: r.timeSeries(), Faults: []faultMark{}, Curves: []curve{}, Length: r.Total.To}
	for _, f := range r.Faults {
		what, _, _ := strings.Cut(f.Spec, "@") // when it was can be seen
		m := faultMark{At: f.At, Label: what}
		if f.Healed >= 0 {
			m.Healed = new(f.Healed)
		}
		p.Faults = append(p.Faults, m)
	}
	var most int64
	for _, phase := range r.Phases {
		most = max(most, phase.Latency.Count)
	}
	for _, b := range r.Baselines {
		most = max(most, b.Latency.Count)
	}
	p.Nines = ninesGrid(most)
	for _, phase := range r.Phases {
		if err := p.addCurve(phase.Name, phase.Latency, false); err != nil {
			return p, fmt.Errorf("phase %q: %w", phase.Name, err)
		}
	}
	for _, b := range r.Baselines {
		if err := p.addCurve(b.Name, b.Latency, true); err != nil {
			return p, fmt.Errorf("baseline %q: %w", b.Name, err)
		}
	}
	return p, nil
}

func (r *Report) timeSeries() timeSeries {
	s := timeSeries{
		At: []float64{}, Rate: []float64{}, Failed: []float64{}, Asked: []*float64{},
		P50: []*float64{}, P99: []*float64{}, P999: []*float64{}, Max: []*float64{},
	}
	usual := r.usualInterval()
	for i, v := range r.Intervals {
		at := (v.From + v.To) / 2
		good, failed, length := r.smoothed(i, usual)
		s.At = append(s.At, at)
		s.Rate = append(s.Rate, perSecond(good, length))
		s.Failed = append(s.Failed, perSecond(failed, length))
		s.Asked = append(s.Asked, r.Load.asked(at))
		s.P50 = append(s.P50, v.Latency.value(v.Latency.P50))
		s.P99 = append(s.P99, v.Latency.value(v.Latency.P99))
		s.P999 = append(s.P999, v.Latency.value(v.Latency.P999))
		s.Max = append(s.Max, v.Latency.value(v.Latency.Max))
	}
	return s
}

// smoothed returns the calls of an interval and its length; those of one that a phase cut to less than half are taken together with the
// one beside it in the phase, as a rate over a moment is noise.
func (r *Report) smoothed(i int, usual float64) (good, failed int64, length float64) {
	v := r.Intervals[i]
	good, failed, length = v.Good, v.Failed(), v.To-v.From
	if length >= usual/2 {
		return good, failed, length
	}
	for _, j := range []int{i - 1, i + 1} {
		if j >= 0 && j < len(r.Intervals) && r.Intervals[j].Phase == v.Phase {
			n := r.Intervals[j]
			return good + n.Good, failed + n.Failed(), length + n.To - n.From
		}
	}
	return good, failed, length
}

// usualInterval is the length of those intervals that no phase cut short, in seconds.
func (r *Report) usualInterval() float64 {
	if len(r.Intervals) == 0 {
		return 0
	}
	lengths := make([]float64, len(r.Intervals))
	for i, v := range r.Intervals {
		lengths[i] = v.To - v.From
	}
	slices.Sort(lengths)
	return lengths[len(lengths)/2]
}

// perSecond is 0 for a span that no clock can tell from none: a division by it is not always finite.
func perSecond(n int64, seconds float64) float64 {
	if seconds < 1e-9 {
		return 0
	}
	return math.Round(float64(n)/seconds*10) / 10
}

// asked is the rate that was asked for at a time; nil in a closed loop.
func (l Load) asked(at float64) *float64 {
	var end float64
	for _, s := range l.Steps {
		if end += s.ForS; at < end {
			return new(s.Rate)
		}
	}
	return nil
}

// value is nil if there was no call.
func (l Latency) value(us float64) *float64 {
	if l.Count == 0 || us <= 0 {
		return nil // a logarithm has no place for 0 either
	}
	return new(us)
}

// maxNines is as far as the curves go: 99.99999 %.
const maxNines = 7

// ninesGrid are the points at which curves of at most that many values are drawn: 20 for each nine, and the median.
func ninesGrid(values int64) []float64 {
	grid := []float64{}
	if values == 0 {
		return grid
	}
	end := min(math.Log10(float64(values)), maxNines)
	for i := 0; float64(i)/20 <= end; i++ {
		grid = append(grid, float64(i)/20)
	}
	if median := nines(50); median <= end {
		grid = append(grid, median)
	}
	slices.Sort(grid)
	return slices.Compact(append(grid, end))
}

// nines is where a percentile is drawn.
func nines(percentile float64) float64 { return -math.Log10(1 - percentile/100) }

// addCurve adds the values at the points of the grid; of a Latency without its histogram those quantiles that it has.
func (p *plots) addCurve(name string, l Latency, baseline bool) error {
	if l.Count == 0 {
		return nil
	}
	c := curve{Name: name, Baseline: baseline, Y: make([]*float64, len(p.Nines))}
	if l.Histogram == "" {
		for i, n := range p.Nines {
			c.Y[i] = l.quantileAt(n)
		}
	} else {
		h, err := l.Decode()
		if err != nil {
			return err
		}
		c.fill(p.Nines, h)
	}
	p.Curves = append(p.Curves, c)
	return nil
}

// fill goes as far as there are values: with 1,000 of them nothing is known beyond 99.9 %.
func (c *curve) fill(grid []float64, h *hdrhistogram.PackedHistogram) {
	end := math.Log10(float64(h.TotalCount()))
	for i, n := range grid {
		if n > end+1e-9 {
			return
		}
		if v := h.ValueAtPercentile(100 * (1 - math.Pow(10, -n))); v > 0 {
			c.Y[i] = new(micros(v))
		}
	}
}

func (l Latency) quantileAt(nine float64) *float64 {
	for _, q := range []struct{ percentile, us float64 }{{50, l.P50}, {90, l.P90}, {99, l.P99}, {99.9, l.P999}, {99.99, l.P9999}} {
		if math.Abs(nines(q.percentile)-nine) < 1e-9 && nine <= math.Log10(float64(l.Count)) {
			return l.value(q.us)
		}
	}
	return nil
}
