package failover

import (
	"sync"
	"sync/atomic"
	"time"
)

// A retry takes one token, and gives it back if the call gets its answer: then it was worth its load.  Retries that were not
// add a fifth to the load at most over time, since each call brings a fifth of a token, when a proxy has many callers and its
// group is down.  Time brings budgetRate tokens a second while there are fewer than budgetReserve: a few callers always have
// enough, and many find a reserve when a replica dies under them.
//
// Nothing is refused for lack of tokens: the retry waits.
const (
	budgetShare   = 5 // calls that bring one token
	budgetRate    = 10
	budgetReserve = 100
	budgetMax     = 1000
)

// budget counts in calls: a token is budgetShare of them.
type budget struct {
	calls atomic.Int64

	mu       sync.Mutex // guards refilled
	refilled int64      // time of the last refill, nanoseconds since the proxy's epoch
}

func newBudget() *budget {
	b := new(budget)
	b.calls.Store(budgetReserve * budgetShare)
	return b
}

// deposit counts a call.
func (b *budget) deposit() {
	// Callers that pass the test together overshoot the limit by their number, which does no harm.
	if b.calls.Load() < budgetMax*budgetShare {
		b.calls.Add(1)
	}
}

// withdraw takes a token, if there is one.
func (b *budget) withdraw(now int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refillLocked(now)
	if b.calls.Load() < budgetShare {
		return false
	}
	b.calls.Add(-budgetShare)
	return true
}

// refund gives tokens back.
func (b *budget) refund(tokens int) {
	b.calls.Add(int64(tokens) * budgetShare)
}

func (b *budget) refillLocked(now int64) {
	const step = int64(time.Second) / (budgetRate * budgetShare)
	steps := (now - b.refilled) / step
	if steps <= 0 {
		return
	}
	b.refilled += steps * step
	if room := budgetReserve*budgetShare - b.calls.Load(); room > 0 {
		b.calls.Add(min(steps, room))
	}
}
