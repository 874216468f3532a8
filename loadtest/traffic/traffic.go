// Package traffic makes calls at a given load and records how long they took.  It knows nothing of what is called: a [Work] is a
// function.  All times come from the time package, so that a test can run it in virtual time (testing/synctest).
//
// In a closed loop each caller makes its next call when the last one ended.  In an open loop calls are due at fixed times, whatever
// became of those before; the latency of a call counts from the time at which it was due, so that a stall of a second is seen by all calls
// that were due in that second, not by one (Gil Tene's coordinated omission).
//
// [Run] makes the load; a [Recorder] keeps what came of it: by interval, by phase, by work and in total.
package traffic

import (
	"context"
	"errors"
	"fmt"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// Result is how one call ended.
type Result struct {
	Fate  ledger.Fate
	Error string // the kind of failure, one of a few words; empty if the call was good
}

// noReply is the kind of a failure that gives none: neither a reply came nor was the call a oneway that was written.
const noReply = "no reply"

// failure is the kind of failure, and empty if the call was good.
func (r Result) failure() string {
	if r.Error == "" && r.Fate != ledger.Acked && r.Fate != ledger.Sent {
		return noReply
	}
	return r.Error
}

// Work is one kind of call.
type Work struct {
	Name   string
	Weight int // its share of the calls, relative to the others; 1 to 1,000,000
	// Call makes one call.  It ends soon after ctx does, and is called by many callers at once.  It has to limit its time by itself: a call
	// that never ends keeps its caller, and Run, for as long as ctx lasts.
	Call func(ctx context.Context, id ledger.ID) Result
}

const maxWeight = 1_000_000

func validateWorks(works []Work) error {
	if len(works) == 0 {
		return errors.New("traffic: works: got none: give at least one")
	}
	seen := make(map[string]bool)
	for i, w := range works {
		switch {
		case w.Name == "":
			return fmt.Errorf("traffic: work %d: got no name: give it one", i)
		case seen[w.Name]:
			return fmt.Errorf("traffic: work %q: got it twice: give each a name of its own", w.Name)
		case w.Weight < 1 || w.Weight > maxWeight:
			return fmt.Errorf("traffic: work %q: weight: got %d: give 1 to %d", w.Name, w.Weight, maxWeight)
		case w.Call == nil:
			return fmt.Errorf("traffic: work %q: got no function: give it a Call", w.Name)
		}
		seen[w.Name] = true
	}
	return nil
}
