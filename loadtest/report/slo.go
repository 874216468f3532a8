package report

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Check is one condition of the SLO.
type Check struct {
	Want string `json:"want"` // "p99<5ms"
	Got  string `json:"got"`  // "6.1 ms"
	OK   bool   `json:"ok"`
}

// SLO are conditions on a run.  All of them have to hold.
type SLO []Condition

// Condition is one of them; [ParseSLO] makes it.
type Condition struct {
	text   string
	figure *figure
	phase  string // the beginning of the names of the phases it is about
	all    bool   // it is about the whole run
	op     string
	limit  float64 // in the unit of the figure
	share  bool    // of errors: limit is a part of all calls, not a number
}

// String returns the text that the condition was parsed from.
func (c Condition) String() string { return c.text }

// figure is something that a condition can be on.
type figure struct {
	name   string
	unit   unit
	ledger func(*Ledger) int64 // of figures that a ledger tells; the others have phase
	// phase returns the value for a phase, in microseconds, calls or calls a second; without ok it is not known.
	phase func(Phase) (v float64, ok bool)
}

type unit int

const (
	unitTime unit = iota
	unitCalls
	unitRate
)

var figures = []figure{
	latencyFigure("p50", func(l Latency) float64 { return l.P50 }),
	latencyFigure("p90", func(l Latency) float64 { return l.P90 }),
	latencyFigure("p99", func(l Latency) float64 { return l.P99 }),
	latencyFigure("p99.9", func(l Latency) float64 { return l.P999 }),
	latencyFigure("p99.99", func(l Latency) float64 { return l.P9999 }),
	latencyFigure("max", func(l Latency) float64 { return l.Max }),
	{name: "gap", unit: unitTime, phase: func(p Phase) (float64, bool) { return gapMicros(p), p.Good > 0 }},
	{name: "errors", unit: unitCalls, phase: func(p Phase) (float64, bool) { return float64(p.Failed()), p.ended() > 0 }},
	{name: "rate", unit: unitRate, phase: func(p Phase) (float64, bool) { return p.Rate, true }},
	{name: "twice", unit: unitCalls, ledger: func(l *Ledger) int64 { return l.Twice }},
	{name: "lost", unit: unitCalls, ledger: func(l *Ledger) int64 { return l.Lost }},
	{name: "phantom", unit: unitCalls, ledger: func(l *Ledger) int64 { return l.Phantom }},
}

// gapMicros is exact to the nanosecond, as limits are: 1.005 ms times 1,000 would be a little less than 1,005 µs.
func gapMicros(p Phase) float64 { return math.Round(p.GapMS*nanosPerMilli) / nanosPerMicro }

const nanosPerMilli = 1e6

func latencyFigure(name string, quantile func(Latency) float64) figure {
	return figure{name: name, unit: unitTime, phase: func(p Phase) (float64, bool) { return quantile(p.Latency), p.Latency.Count > 0 }}
}

func findFigure(name string) (*figure, error) {
	var names []string
	for i := range figures {
		if figures[i].name == name {
			return &figures[i], nil
		}
		names = append(names, figures[i].name)
	}
	return nil, fmt.Errorf("there is no %q: there are %s", name, strings.Join(names, ", "))
}

// ParseSLO parses "p99<5ms,errors<0.01%,twice=0,lost=0": conditions on p50, p90, p99, p99.9, p99.99, max, gap (times), errors (a number of
// calls, or with % a share of all calls that ended), rate (good calls a second), twice, lost, phantom (numbers of calls), each with <, <=,
// =, >= or >.  A name can be limited to the phases whose name begins with a text: "p99[before]<1ms", "gap[during]<1s"; the condition
// then has to hold in each of these phases.  Without that it is on the whole run.
//
// The error is one line that says what can be written instead.
func ParseSLO(s string) (SLO, error) {
	var slo SLO
	for _, part := range splitConditions(s) {
		c, err := parseCondition(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("SLO has %q: %w", part, err)
		}
		slo = append(slo, c)
	}
	return slo, nil
}

// splitConditions splits at commas, but not within brackets: the name of a phase may have some.
func splitConditions(s string) []string {
	var parts []string
	start, inside := 0, false
	for i, c := range s {
		switch c {
		case '[':
			inside = true
		case ']':
			inside = false
		case ',':
			if !inside {
				parts = append(parts, s[start:i])
				start = i + 1
			}
		}
	}
	return append(parts, s[start:])
}

func parseCondition(text string) (Condition, error) {
	c := Condition{text: text, all: true}
	name, rest := text, ""
	if i := strings.IndexAny(text, "[<>="); i >= 0 {
		name, rest = strings.TrimSpace(text[:i]), text[i:]
	}
	var err error
	if c.figure, err = findFigure(name); err != nil {
		return c, err
	}
	if phase, found := strings.CutPrefix(rest, "["); found {
		c.all = false
		var closed bool
		if c.phase, rest, closed = strings.Cut(phase, "]"); !closed || c.phase == "" {
			return c, errors.New("write the beginning of a phase's name in brackets, such as p99[before]<1ms")
		}
		if c.figure.ledger != nil {
			return c, fmt.Errorf("%s is counted over the whole run: leave out %q", name, "["+c.phase+"]")
		}
	}
	rest = strings.TrimSpace(rest)
	for _, op := range []string{"<=", ">=", "<", ">", "="} {
		if value, found := strings.CutPrefix(rest, op); found {
			c.op = op
			return c, c.parseLimit(strings.TrimSpace(value))
		}
	}
	return c, errors.New("there is no comparison: write <, <=, =, >= or > and a value, such as p99<5ms")
}

func (c *Condition) parseLimit(value string) error {
	switch c.figure.unit {
	case unitTime:
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return fmt.Errorf("%s is a time: write it like 5ms or 1.5s", c.figure.name)
		}
		c.limit = float64(d) / nanosPerMicro
		return nil
	case unitRate:
		value = strings.TrimSuffix(value, "/s")
	}
	number, percent := strings.CutSuffix(value, "%")
	f, err := strconv.ParseFloat(number, 64)
	bad := err != nil || math.IsNaN(f) || math.IsInf(f, 0) || f < 0
	switch {
	case c.figure.name == "errors":
		if bad || percent && f > 100 || !percent && f != math.Trunc(f) {
			return errors.New("errors is a number of calls or a share of them: write it like 10 or 0.01%")
		}
	case c.figure.unit == unitRate:
		if bad || percent {
			return errors.New("rate is in calls per second: write it like 5000")
		}
	case bad || percent || f != math.Trunc(f):
		return fmt.Errorf("%s is a number of calls: write it like 0", c.figure.name)
	}
	c.limit, c.share = f, percent
	if percent {
		c.limit = ofHundred(f)
	}
	return nil
}

// ofHundred returns the float64 nearest to a hundredth of what was written, to which 7 of 10,000 is equal if 0.07% was; 0.07/100 is not.
func ofHundred(percent float64) float64 {
	written, _ := new(big.Rat).SetString(strconv.FormatFloat(percent, 'f', -1, 64))
	share, _ := written.Quo(written, big.NewRat(100, 1)).Float64()
	return share
}

// NeedsLedger reports whether a condition is on twice, lost or phantom, and names the first.
func (s SLO) NeedsLedger() (name string, needs bool) {
	for _, c := range s {
		if c.figure.ledger != nil {
			return c.figure.name, true
		}
	}
	return "", false
}

// Judge checks a report.  A condition on something that is not known, such as the latency of a phase without calls, does not hold; nor
// does one on a phase that there was none of, or on a ledger that could not be read to its end.  Where several phases are meant, the
// value is that of the worst one, which it names.
func (s SLO) Judge(r *Report) []Check {
	checks := make([]Check, 0, len(s))
	for _, c := range s {
		got, ok := c.judge(r)
		checks = append(checks, Check{Want: c.text, Got: got, OK: ok})
	}
	return checks
}

func (c Condition) judge(r *Report) (got string, ok bool) {
	switch {
	case c.figure.ledger != nil:
		return c.judgeLedger(r.Ledger)
	case c.all:
		got, _, ok := c.judgePhase(r.Total)
		return got, ok
	}
	var worst float64
	for _, p := range r.Phases {
		if !strings.HasPrefix(p.Name, c.phase) {
			continue
		}
		text, excess, holds := c.judgePhase(p)
		if got == "" || excess > worst {
			got, worst, ok = text+" in "+p.Name, excess, holds
		}
	}
	if got == "" {
		return "no phase has a name that begins so: there are " + phaseNames(r), false
	}
	return got, ok
}

func phaseNames(r *Report) string {
	var names []string
	for _, p := range r.Phases {
		names = append(names, strconv.Quote(p.Name))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// judgePhase also returns how bad the value is: the higher, the worse, and above 0 only if the condition does not hold.
func (c Condition) judgePhase(p Phase) (got string, excess float64, ok bool) {
	v, known := c.figure.phase(p)
	switch {
	case !known && p.ended() == 0:
		return "no call ended", math.Inf(1), false
	case !known:
		return "no good call", math.Inf(1), false
	}
	if c.share {
		v /= float64(p.ended())
	}
	switch c.op {
	case "<", "<=":
		excess = v - c.limit
	case ">", ">=":
		excess = c.limit - v
	default:
		excess = math.Abs(v - c.limit)
	}
	return c.format(v), excess, c.holds(v)
}

func (c Condition) judgeLedger(l *Ledger) (got string, ok bool) {
	if l == nil {
		return "no ledger", false
	}
	n := c.figure.ledger(l)
	if !l.Complete {
		return formatInt(n) + ", but not every ledger could be read to its end", false
	}
	return formatInt(n), c.holds(float64(n))
}

func (c Condition) holds(v float64) bool {
	switch c.op {
	case "<":
		return v < c.limit
	case "<=":
		return v <= c.limit
	case ">":
		return v > c.limit
	case ">=":
		return v >= c.limit
	}
	return v == c.limit
}

func (c Condition) format(v float64) string {
	switch {
	case c.share:
		return formatShare(v)
	case c.figure.unit == unitTime:
		return formatMicros(v)
	case c.figure.unit == unitRate:
		return formatRate(v) + "/s"
	}
	return formatInt(int64(v))
}
