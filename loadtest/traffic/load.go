package traffic

import (
	"fmt"
	"math"
	"time"
)

// Step is a rate, for a while.
type Step struct {
	Rate float64 // calls a second, above 0, at most 1e9
	For  time.Duration
}

// Load says how many calls are made, and when.
type Load struct {
	Callers int // how many calls can be under way at once; 1 to 100,000
	// Steps make an open loop; none mean a closed one that lasts For.
	Steps []Step
	For   time.Duration // not looked at if there are Steps
	// Warmup comes before, with the load of the first step; its calls are not recorded, but are in the journal.
	Warmup time.Duration
	// Drain is how long an open loop goes on at its end with calls that were due and had to wait.
	Drain time.Duration
	// Seed decides which work of several comes when: the same seed, the same order; in a closed loop for each caller, in an open one over all.
	Seed uint64
}

// Bounds of a Load.  They keep sums of durations and numbers of calls far from overflow, and a slip of the finger from taking all memory.
const (
	maxCallers = 100_000
	maxRate    = 1e9
	maxTime    = 366 * 24 * time.Hour
)

// Validate returns what is wrong with a load, as one line.
func (l Load) Validate() error {
	switch {
	case l.Callers < 1 || l.Callers > maxCallers:
		return fmt.Errorf("traffic: callers: got %d: give 1 to %d", l.Callers, maxCallers)
	case l.Warmup < 0 || l.Warmup > maxTime:
		return fmt.Errorf("traffic: warmup: got %v: give 0 to %v", l.Warmup, maxTime)
	case l.Drain < 0 || l.Drain > maxTime:
		return fmt.Errorf("traffic: drain: got %v: give 0 to %v", l.Drain, maxTime)
	}
	if len(l.Steps) == 0 {
		return validateTime("duration", l.For)
	}
	return l.validateSteps()
}

func (l Load) validateSteps() error {
	var sum time.Duration
	for i, s := range l.Steps {
		if !(s.Rate > 0 && s.Rate <= maxRate) { // not the other way round: NaN
			return fmt.Errorf("traffic: rate of step %d: got %v: give more than 0 and at most %v", i+1, s.Rate, maxRate)
		}
		if err := validateTime(fmt.Sprintf("time of step %d", i+1), s.For); err != nil {
			return err
		}
		if sum += s.For; sum > maxTime {
			return fmt.Errorf("traffic: steps: got more than %v: give less", maxTime)
		}
	}
	return nil
}

func validateTime(what string, d time.Duration) error {
	if d <= 0 || d > maxTime {
		return fmt.Errorf("traffic: %s: got %v: give more than 0 and at most %v", what, d, maxTime)
	}
	return nil
}

// Duration is how long calls are due for, without Warmup and Drain.
func (l Load) Duration() time.Duration {
	if len(l.Steps) == 0 {
		return l.For
	}
	var sum time.Duration
	for _, s := range l.Steps {
		sum += s.For
	}
	return sum
}

// schedule is when the calls of an open loop are due, since the start of recording: those of the warm-up have negative times.
type schedule []segment

// segment is a part of it with one rate: n calls, the k-th of which is due at from + k/rate.
type segment struct {
	from time.Duration
	rate float64
	n    int64
}

// schedule returns the warm-up, which may have no call, and the steps.
func (l Load) schedule() schedule {
	s := schedule{newSegment(-l.Warmup, l.Steps[0].Rate, l.Warmup)}
	var from time.Duration
	for _, step := range l.Steps {
		s = append(s, newSegment(from, step.Rate, step.For))
		from += step.For
	}
	return s
}

// newSegment has all calls that are due before from + length.
func newSegment(from time.Duration, rate float64, length time.Duration) segment {
	return segment{from, rate, int64(math.Ceil(float64(length) * rate / float64(time.Second)))}
}

func (s segment) due(k int64) time.Duration {
	return s.from + time.Duration(float64(k)*float64(time.Second)/s.rate)
}

// recorded is the number of recorded calls that were due at time t.
func (s schedule) recorded(t time.Duration) int64 {
	var n int64
	for _, seg := range s {
		if seg.from >= 0 && t >= seg.from {
			n += min(seg.n, int64(float64(t-seg.from)*seg.rate/float64(time.Second))+1)
		}
	}
	return n
}
