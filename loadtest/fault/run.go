package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// undoTimeout bounds how long undoing may take after the run has ended.
const undoTimeout = 15 * time.Second

var errUndoTimeout = fmt.Errorf("not done %v after the end of the run", undoTimeout)

// Run applies the faults, the first instant being now, and returns when all of them have come and have been undone, or ctx has ended, or a
// fault could not be applied or undone: a run with a fault that did not happen proves nothing.  Before it returns, everything in effect
// that can be undone is undone, within 15 s if ctx has ended.  A fault without a duration that can be undone stays until then.
//
// The error is nil if everything that came could be done, even if ctx ended before the rest came; otherwise it is about the first thing
// that could not, with the fault, the target and the reason.  That ctx ended before a fault was in effect is such a reason.
//
// Each fault lasts for its duration from when it is in effect on all its targets.  Faults of one instant are applied one after the other,
// in the order of specs; otherwise none waits for another.  on gets every event, one at a time: that a fault has been applied before
// that it has been undone.  The same seed chooses the same targets, if there are the same to choose from.
func Run(ctx context.Context, specs []Spec, length time.Duration, seed uint64, in Injector, on func(Event)) error {
	rounds, err := plan(specs, length)
	if err != nil {
		return err
	}
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	undoing, giveUp := context.WithCancelCause(context.WithoutCancel(ctx))
	defer giveUp(nil)
	r := &runner{in: in, on: on, seed: seed, end: end}
	done := make(chan struct{})
	r.active.Go(func() { r.follow(running, undoing, rounds) })
	go func() {
		r.active.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-running.Done():
		late := time.AfterFunc(undoTimeout, func() { giveUp(errUndoTimeout) })
		defer late.Stop()
		<-done
	}
	return r.err
}

// runner is a schedule under way.
type runner struct {
	in     Injector
	seed   uint64
	end    context.CancelCauseFunc // of the run
	active sync.WaitGroup          // faults, and what begins them

	mu  sync.Mutex // held while on is called, so that it gets one event at a time
	on  func(Event)
	err error // the first
}

// follow begins faults when they are due.
func (r *runner) follow(running, undoing context.Context, rounds []round) {
	start := time.Now()
	for len(rounds) > 0 {
		n := 1 // how many are due at the same instant
		for n < len(rounds) && rounds[n].at == rounds[0].at {
			n++
		}
		if !wait(running, time.Until(start.Add(rounds[0].at))) {
			return
		}
		due := rounds[:n]
		r.active.Go(func() { r.apply(running, undoing, due) })
		rounds = rounds[n:]
	}
}

// wait reports whether d has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// apply applies the faults of an instant.
func (r *runner) apply(running, undoing context.Context, due []round) {
	for _, f := range due {
		if running.Err() != nil {
			return
		}
		if l := r.inject(running, f); len(l.undos) > 0 {
			r.active.Go(func() { r.outlast(running, undoing, l) })
		}
	}
}

// life is a fault in effect.
type life struct {
	round
	targets []string
	undos   []func(context.Context) error // one for each target
}

// inject applies a fault to all its targets.
func (r *runner) inject(ctx context.Context, f round) life {
	start := time.Now()
	l := life{round: f}
	targets, err := r.in.Resolve(ctx, f.spec, r.rng(f))
	if err == nil && len(targets) == 0 {
		err = errors.New("there is no " + f.spec.Target)
	}
	if err != nil {
		r.tell(Event{Spec: f.spec, Round: f.n, Took: time.Since(start), Err: fmt.Errorf("fault %s: find the target: %w", f.spec, err)})
		return l
	}
	undos := make([]func(context.Context) error, len(targets))
	err = each(targets, func(i int, target string) (err error) {
		if undos[i], err = r.in.Inject(ctx, f.spec, target); err != nil {
			return fmt.Errorf("fault %s: apply to %s: %w", f.spec, target, err)
		}
		return nil
	})
	for i, undo := range undos {
		if undo != nil {
			l.targets, l.undos = append(l.targets, targets[i]), append(l.undos, undo)
		}
	}
	r.tell(Event{Spec: f.spec, Round: f.n, Targets: targets, Took: time.Since(start), Err: err})
	return l
}

// rng is the randomness of a round.  It does not depend on which fault comes to ask first.
func (r *runner) rng(f round) *rand.Rand {
	return rand.New(rand.NewPCG(r.seed, uint64(f.index)<<32|uint64(f.n)))
}

// outlast waits until a fault is over, and undoes it.
func (r *runner) outlast(running, undoing context.Context, l life) {
	if l.spec.Duration > 0 {
		wait(running, l.spec.Duration)
	} else {
		<-running.Done()
	}
	start := time.Now()
	err := each(l.targets, func(i int, target string) error {
		err := l.undos[i](undoing)
		if cause := context.Cause(undoing); err != nil && cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		if err != nil {
			return fmt.Errorf("fault %s: undo for %s: %w", l.spec, target, err)
		}
		return nil
	})
	r.tell(Event{Spec: l.spec, Round: l.n, Targets: l.targets, Healed: true, Took: time.Since(start), Err: err})
}

// each calls f for all targets at once, and returns the error of the first one that has one.
func each(targets []string, f func(i int, target string) error) error {
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, target := range targets {
		wg.Go(func() { errs[i] = f(i, target) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// tell passes an event on.  One with an error ends the run.
func (r *runner) tell(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on(e)
	if e.Err != nil && r.err == nil {
		r.err = e.Err
		r.end(e.Err)
	}
}
