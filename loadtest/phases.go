package loadtest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
)

// phases gives the spans of a run their names: the step of the load, and before, during or after which fault.
type phases struct {
	begin  func(name string)
	settle time.Duration // how long a fault that is over still counts as under way
	faulty bool          // there will be faults

	mu     sync.Mutex // protects what follows
	step   string     // empty if there is only one
	fault  string
	active int // faults in effect
	timer  *time.Timer
	ended  bool
}

// name is what the phase is called now.
func (p *phases) nameLocked() string {
	switch {
	case p.step != "" && p.fault != "":
		return p.step + ", " + p.fault
	case p.step == "" && p.fault == "":
		return "run"
	}
	return p.step + p.fault
}

// first is the name of the phase with which recording begins.
func (p *phases) first(step string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
	if p.faulty {
		p.fault = "before"
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

// onFault is called for what the schedule does.
func (p *phases) onFault(e fault.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.Stage == fault.Begins:
		p.active++
		p.stopTimerLocked()
		p.fault = "during " + label(e)
		p.beginLocked()
	case e.Stage == fault.Undone, e.Spec.Duration == 0: // a fault without a duration is over, or there to stay, when it was applied
		p.active--
		p.settleLocked(label(e))
	}
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
		p.begin(p.nameLocked())
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
func label(e fault.Event) string {
	text := string(e.Spec.Kind) + ":" + e.Spec.Target
	if e.Round > 1 {
		text += fmt.Sprintf(" #%d", e.Round)
	}
	return strings.TrimSpace(text)
}
