package loadtest

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

// phases gives the spans of a run their names: the step of the load, what was said from outside, and before, during or after which fault.
type phases struct {
	begin  func(name string) (traffic.Phase, error)
	settle time.Duration // how long a fault that is over still counts as under way
	faulty bool          // there will be faults
	marked bool          // phases may be begun from outside

	mu     sync.Mutex // protects what follows
	step   string     // empty if there is only one
	mark   string
	marks  int
	fault  string
	active int // faults in effect
	timer  *time.Timer
	ended  bool
}

// nameLocked is what the phase is called now.
func (p *phases) nameLocked() string {
	parts := slices.DeleteFunc([]string{p.step, p.mark, p.fault}, func(part string) bool { return part == "" })
	return cmp.Or(strings.Join(parts, ", "), "run")
}

// first is the name of the phase with which recording begins.
func (p *phases) first(step string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
	switch {
	case p.faulty:
		p.fault = "before"
	case p.marked:
		p.mark = "before"
	}
	return p.nameLocked()
}

// nextStep is called when the load changes.
func (p *phases) nextStep(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
	p.beginLocked()
}

// begun is called when someone outside begins a phase.
func (p *phases) begun(mark string) (traffic.Phase, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.marks == maxMarks {
		return traffic.Phase{}, fmt.Errorf("loadtest: phase %q: there were %d already", mark, maxMarks)
	}
	before := p.mark
	p.mark = mark
	ended, err := p.begin(p.nameLocked())
	if err != nil {
		p.mark = before
		return traffic.Phase{}, err
	}
	p.marks++
	return ended, nil
}

// begins is called when a fault is about to be applied: callers may feel it before it is in effect everywhere.
func (p *phases) begins(label string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active++
	p.stopTimerLocked()
	p.fault = "during " + label
	p.beginLocked()
}

// onFault is called for what the schedule did.
func (p *phases) onFault(e fault.Event) {
	if e.Err != nil || !e.Healed && e.Spec.Duration > 0 {
		return
	}
	// It is over, or there to stay.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active--
	p.settleLocked(label(e.Spec, e.Round))
}

// settleLocked ends the phase of a fault a while after the last one in effect ended.
func (p *phases) settleLocked(label string) {
	if p.active > 0 {
		return
	}
	p.stopTimerLocked()
	p.timer = time.AfterFunc(p.settle, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.active == 0 {
			p.fault = "after " + label
			p.beginLocked()
		}
	})
}

func (p *phases) beginLocked() {
	if !p.ended {
		_, _ = p.begin(p.nameLocked()) // an error only says that recording is over
	}
}

// end stops the timer: no phase begins any more.
func (p *phases) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.stopTimerLocked()
}

func (p *phases) stopTimerLocked() {
	if p.timer != nil {
		p.timer.Stop()
	}
}

// label names a fault: the same in every run of the same schedule.
func label(s fault.Spec, round int) string {
	text := string(s.Kind) + ":" + s.Target
	if round > 1 {
		text += fmt.Sprintf(" #%d", round)
	}
	return text
}

// watched is an injector that tells when a fault is about to be applied.
type watched struct {
	fault.Injector
	begins func(s fault.Spec, round int, targets []string)

	mu     sync.Mutex         // protects what follows
	rounds map[fault.Spec]int // how often each came
}

// Resolve implements [fault.Injector]: it is called once for each round, right before.
func (w *watched) Resolve(ctx context.Context, s fault.Spec, rng *rand.Rand) ([]string, error) {
	targets, err := w.Injector.Resolve(ctx, s, rng)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.rounds[s]++
	round := w.rounds[s]
	w.mu.Unlock()
	w.begins(s, round, targets)
	return targets, nil
}
