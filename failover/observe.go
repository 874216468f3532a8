package failover

import (
	"errors"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Observer is told what group proxies do, for metrics (package metrics has one for Prometheus).  One may serve any number of proxies.  What
// the connections to the members do is told to the observer in Options.Proxy.
type Observer interface {
	// Group returns who observes a group; each proxy asks once.
	Group(name string) GroupObserver
}

// GroupObserver observes the proxies of one group.  Its methods are called by many goroutines at once, on the way of every call: they must
// be quick, wait for nothing, and not panic.
type GroupObserver interface {
	// ObserveCall is told of each call with all of its attempts; no bytes are counted.
	core.CallObserver
	ObserveEvent(e Event)
}

// Event is something that happened on the way of a call, or to a member.
type Event uint8

// The events.
const (
	EventAttempt     Event = iota // a member is tried, the first one of a call or another
	EventRetry                    // it is not the first of its call; told in addition to EventAttempt
	EventBudgetEmpty              // a retry has to wait, because there were too many
	EventEjected                  // a member is left out after a failure
	EventReturned                 // a member that had been ejected answered a call again
)

// observe tells the observer, if there is one.
func (p *Proxy) observe(e Event) {
	if p.observer != nil {
		p.observer.ObserveEvent(e)
	}
}

// outcomeOf is core.OutcomeOf for the errors of a [Proxy].
func outcomeOf(err error) core.CallOutcome {
	e, ok := errors.AsType[*CallError](err)
	switch {
	case !ok:
		return core.OutcomeOf(err)
	case e.Outcome == NotExecuted:
		return core.CallNotExecuted
	}
	return core.CallUnknown
}
