package events

import "sync/atomic"

// dropReason is why an event did not reach a subscriber, or a node.
type dropReason uint8

const (
	dropFull    dropReason = iota // the subscriber's queue was full
	dropLate                      // it came after a later one of its publisher, or again
	dropGone                      // the subscriber ended, or stopped asking, before it took the event
	dropFailed                    // the callback could not be called, or did not answer
	dropLink                      // the queue toward another node was full, or that node was gone
	dropMoved                     // another node had taken over the callback
	dropReasons                   // how many there are
)

// DropReasons are the reasons in [Stats].Dropped, in their order.
var DropReasons = [dropReasons]string{"full", "late", "gone", "failed", "link", "moved"}

// Stats is what a [Broker] counted since it began, and what it has now.
type Stats struct {
	Published          uint64 // events that publishers gave to this node
	Forwarded          uint64 // events sent to other nodes, once for each node
	DeliveredStreams   uint64 // events that streams took
	DeliveredCallbacks uint64 // events that callbacks were called with
	Dropped            [dropReasons]uint64
	Streams            int // of this node
	Callbacks          int // that this node delivers to
	Queued             int // events that wait in the queues of both
	Peers              int // other nodes that answer
}

type counters struct {
	published, forwarded, streams, callbacks atomic.Uint64
	dropped                                  [dropReasons]atomic.Uint64
}

func (c *counters) drop(reason dropReason, n int) { c.dropped[reason].Add(uint64(n)) }
