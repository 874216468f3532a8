package traffic

import (
	"sync/atomic"
	"time"
)

// gap measures how long good replies stay away.  In a closed loop each caller has one: it waits, and calls again, until a good reply comes.
// In an open loop all callers share one.  There a caller is just a hand that is free for whatever call is due next: if one whose call failed
// waited for its own next good reply, that would mostly be time in which nothing was due for it.
type gap struct {
	since atomic.Int64 // 1 + when the first of the calls was due that failed since the last good reply; 0 if none did
}

// failed notes a call that was due at due, at least 0, and got no good reply.
func (g *gap) failed(due time.Duration) {
	for since := int64(due) + 1; ; {
		old := g.since.Load()
		if old != 0 && old <= since || g.since.CompareAndSwap(old, since) {
			return
		}
	}
}

// good returns how long it was until a good reply at end to a call that was due at due.
func (g *gap) good(due, end time.Duration) time.Duration {
	if g.since.Load() == 0 { // the usual case writes nothing that callers share
		return end - due
	}
	if since := g.since.Swap(0); since != 0 {
		due = min(due, time.Duration(since-1))
	}
	return end - due
}

// open returns how long at end it has been without a good reply; 0 if no call failed since the last one.
func (g *gap) open(end time.Duration) time.Duration {
	since := g.since.Load()
	if since == 0 {
		return 0
	}
	return max(0, end-time.Duration(since-1))
}
