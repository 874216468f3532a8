// Package fault breaks things on a schedule.  It knows when and what; an [Injector] knows how.
package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Injector applies faults.  Its methods are called by several goroutines at once.
type Injector interface {
	// Resolve returns the names of the targets that a word stands for now.  There is at least one, or an error says why not.  rng decides
	// where one of several is meant.
	Resolve(ctx context.Context, s Spec, rng *rand.Rand) ([]string, error)
	// Inject applies a fault to a target, by its name, and returns when it is in effect.  Undo, nil if there is nothing to undo, ends it
	// and returns when it has ended: a process that is started again serves again.
	Inject(ctx context.Context, s Spec, target string) (undo func(context.Context) error, err error)
}

// Stage is how far a fault has come.
type Stage uint8

// The stages of a fault.  Applying one takes a moment in which callers may feel it already.
const (
	Begins  Stage = iota // it will be applied now
	Applied              // it is in effect
	Undone
)

// Event is something that the schedule does, or did.
type Event struct {
	Spec    Spec
	Round   int // 1, 2, …: which repetition
	Stage   Stage
	Targets []string      // the names
	Took    time.Duration // to apply or to undo it
	Err     error         // it could not be applied, or undone
}

// onset is one application of a fault.
type onset struct {
	at    time.Duration
	spec  Spec
	round int
}

// maxOnsets keeps a slip of the finger (every=1ns) from making a schedule without end.
const maxOnsets = 100_000

// onsets returns the applications of all faults in the order of their times, those of one instant in that of the specs.
func onsets(specs []Spec, length time.Duration) ([]onset, error) {
	var all []onset
	for _, s := range specs {
		if s.At >= length {
			return nil, fmt.Errorf("fault %s: it would come after the end of a run of %v", s, length)
		}
		if s.At+s.Duration > length {
			return nil, fmt.Errorf("fault %s: it would not be over at the end of a run of %v", s, length)
		}
		all = append(all, onset{s.At, s, 1})
		if s.Every == 0 {
			continue
		}
		for round, at := 2, s.At+s.Every; at < length && at+s.Duration <= length; round, at = round+1, at+s.Every {
			if all = append(all, onset{at, s, round}); len(all) > maxOnsets {
				return nil, fmt.Errorf("fault %s: more than %d times in a run of %v", s, maxOnsets, length)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b onset) int { return int(a.at - b.at) })
	return all, nil
}

// Plan returns the times at which faults will be applied in a run of that length, in order, and what is wrong with the schedule for it: a
// fault that would come after the end, or could not be undone before it.  A repeated one ends with the last round that fits.
func Plan(specs []Spec, length time.Duration) ([]time.Duration, error) {
	all, err := onsets(specs, length)
	if err != nil {
		return nil, err
	}
	times := make([]time.Duration, len(all))
	for i, o := range all {
		times[i] = o.at
	}
	return times, nil
}

// undoTimeout bounds the undoing of one fault.
const undoTimeout = 30 * time.Second

// Run applies the faults, the first instant being now, and returns when ctx has ended and everything that can be undone has been
// undone (even then), or when a fault could not be applied or undone: a run with a fault that did not happen proves nothing.  Several faults
// can be in effect at the same time.  on gets every event in order, one at a time.  The same seed chooses the same targets, as far as they
// are there.
func Run(ctx context.Context, specs []Spec, length time.Duration, seed uint64, in Injector, on func(Event)) error {
	all, err := onsets(specs, length)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &runner{in: in, on: on, fail: cancel}
	var lives sync.WaitGroup
	start := time.Now()
	for i, o := range all {
		if !wait(ctx, time.Until(start.Add(o.at))) {
			break
		}
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		targets, err := in.Resolve(ctx, o.spec, rng)
		if err != nil {
			r.report(Event{Spec: o.spec, Round: o.round, Err: fmt.Errorf("fault %s: %w", o.spec, err)})
			break
		}
		lives.Go(func() { r.live(ctx, o, targets) })
	}
	lives.Wait()
	return r.failure
}

// runner is a schedule under way.
type runner struct {
	in   Injector
	fail context.CancelCauseFunc

	mu      sync.Mutex // protects what follows, and orders the calls of on
	on      func(Event)
	failure error // the first
}

// report hands an event on.  The first one that failed ends the run.
func (r *runner) report(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Err != nil && r.failure == nil {
		r.failure = e.Err
		r.fail(e.Err)
	}
	r.on(e)
}

// live applies a fault, waits until it is over, and undoes it.
func (r *runner) live(ctx context.Context, o onset, targets []string) {
	r.report(Event{Spec: o.spec, Round: o.round, Targets: targets})
	began := time.Now()
	undos, err := r.inject(ctx, o.spec, targets)
	r.report(Event{Spec: o.spec, Round: o.round, Stage: Applied, Targets: targets, Took: time.Since(began), Err: wrap(o.spec, targets, err)})
	if len(undos) == 0 {
		return
	}
	if err == nil {
		wait(ctx, o.spec.Duration-time.Since(began))
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	ended := time.Now()
	err = each(undos, func(undo func(context.Context) error) error { return undo(bounded) })
	r.report(Event{Spec: o.spec, Round: o.round, Stage: Undone, Targets: targets, Took: time.Since(ended), Err: wrap(o.spec, targets, err)})
}

// inject applies a fault to all targets at the same time.  What could be applied can be undone, also after an error.
func (r *runner) inject(ctx context.Context, s Spec, targets []string) ([]func(context.Context) error, error) {
	var mu sync.Mutex
	var undos []func(context.Context) error
	err := each(targets, func(target string) error {
		undo, err := r.in.Inject(ctx, s, target)
		mu.Lock()
		defer mu.Unlock()
		if undo != nil {
			undos = append(undos, undo)
		}
		return err
	})
	return undos, err
}

// each calls f for all at the same time.
func each[T any](all []T, f func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, v := range all {
		wg.Go(func() { errs[i] = f(v) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func wrap(s Spec, targets []string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("fault %s of %s: %w", s, strings.Join(targets, ", "), err)
}

// wait reports whether the time passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
