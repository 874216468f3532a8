package fault

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// maxRounds bounds how often the faults of a run come, all together: more is a mistake in a unit.
const maxRounds = 10_000

// Plan returns the times at which faults will be applied in a run of that length, in order, and what is wrong with the schedule for it:
// a fault that would come after the end, or could not be undone before it.  Repetitions for which this would be so are left out.
func Plan(specs []Spec, length time.Duration) ([]time.Duration, error) {
	rounds, err := plan(specs, length)
	if err != nil {
		return nil, err
	}
	times := make([]time.Duration, len(rounds))
	for i, r := range rounds {
		times[i] = r.at
	}
	return times, nil
}

// round is one time that a fault comes.
type round struct {
	spec  Spec
	index int // of spec in the schedule
	n     int // 1, 2, …
	at    time.Duration
}

// plan returns what has to be done, in the order of time and then of specs.
func plan(specs []Spec, length time.Duration) ([]round, error) {
	var rounds []round
	for i, s := range specs {
		if err := s.fits(length); err != nil {
			return nil, fmt.Errorf("fault %s: %w", s, err)
		}
		n := s.rounds(length)
		if n > maxRounds-int64(len(rounds)) {
			return nil, fmt.Errorf("fault %s: faults would come more than %d times within %v: choose a longer interval", s, maxRounds, length)
		}
		for k := range int(n) {
			rounds = append(rounds, round{s, i, k + 1, s.At + time.Duration(k)*s.Every})
		}
	}
	slices.SortStableFunc(rounds, func(a, b round) int { return cmp.Compare(a.at, b.at) })
	return rounds, nil
}

// fits says why a fault has no place in a run of that length.
func (s Spec) fits(length time.Duration) error {
	if err := s.check(); err != nil {
		return err
	}
	if s.At >= length {
		return fmt.Errorf("it would come after the end of the run, which takes %v: let it come earlier, or run for longer", length)
	}
	if s.Duration > length-s.At {
		return fmt.Errorf("it would not be over before the end of the run, which takes %v: let it come earlier, or run for longer", length)
	}
	return nil
}

// rounds is how often a fault comes.
func (s Spec) rounds(length time.Duration) int64 {
	if s.Every == 0 {
		return 1
	}
	last := length - s.Duration // when it has to come at the latest
	if s.Duration == 0 {
		last-- // not at the end itself
	}
	return 1 + int64((last-s.At)/s.Every)
}
