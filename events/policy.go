package events

import (
	"fmt"
	"strings"
)

// Policy is what becomes of an event when a subscriber's queue is full.  In none of them does a slow subscriber keep events from another one.
type Policy string

// The policies.
const (
	// DropOldest makes room by dropping the event that waited longest: the subscriber sees the present.  The default.
	DropOldest Policy = "drop-oldest"
	// DropNew drops the new event: the subscriber sees what came first.  Pyro3 with PYRO_ES_BLOCKQUEUE=0.
	DropNew Policy = "drop-new"
	// Block lets publishers wait until there is room, at most [BlockTimeout]; then the event is dropped for this subscriber.  Pyro3's default.
	Block Policy = "block"
	// Disconnect ends the subscription.
	Disconnect Policy = "disconnect"
)

// The bounds of a subscriber's queue.
const (
	DefaultQueue  = 1000    // events, as in Pyro3
	MaxQueue      = 100_000 // events
	maxQueueBytes = 16 << 20
)

// ParsePolicy returns the policy of that name; the empty one is [DropOldest].
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(strings.ToLower(s)); p {
	case "":
		return DropOldest, nil
	case DropOldest, DropNew, Block, Disconnect:
		return p, nil
	}
	return "", fmt.Errorf("policy %q: want drop-oldest, drop-new, block or disconnect", s)
}

// checkQueue returns the capacity to use; zero means DefaultQueue.
func checkQueue(n int) (int, error) {
	switch {
	case n == 0:
		return DefaultQueue, nil
	case n < 0 || n > MaxQueue:
		return 0, fmt.Errorf("queue of %d events: want 1 to %d", n, MaxQueue)
	}
	return n, nil
}
