package events

import (
	"context"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// BlockTimeout is how long a publisher waits at most for a subscriber with the policy [Block].
const BlockTimeout = 5 * time.Second

// blockHeadroom is how many events beyond its capacity a queue takes that lets publishers wait: they wait after they have published, and a
// call has so many events.
const blockHeadroom = maxPublishEvents

// routed is an event on its way through a node.  It is shared by all queues and not changed.
type routed struct {
	Event
	folded string // the topic, as patterns see it
	wire   []byte // the event, encoded

	once  sync.Once // for what follows
	value any
	err   error
}

// newRouted encodes an event, and keeps nothing of the memory that its payload was in.
func newRouted(e Event) *routed {
	wire := e.append(make([]byte, 0, 56+len(e.Topic)+len(e.payload)))
	e.payload = wire[len(wire)-len(e.payload):]
	return &routed{Event: e, folded: foldTopic(e.Topic), wire: wire}
}

// message is the decoded message, which callbacks get.
func (r *routed) message() (any, error) {
	r.once.Do(func() { r.value, r.err = r.Message() })
	return r.value, r.err
}

func (r *routed) bytes() int { return len(r.wire) }

// loss is what a subscriber missed at one place.
type loss struct {
	lost uint64
	gap  string // why an unknown number was lost, too; empty if none was
}

func (l *loss) add(more loss) {
	l.lost += more.lost
	if more.gap != "" {
		l.gap = more.gap
	}
}

// queued is an event in a queue, and what was lost before it.
type queued struct {
	*routed
	before loss
}

// queue holds the events of one subscriber until it takes them.  Its methods are safe for concurrent use.
type queue struct {
	dropped func(reason dropReason, n int)
	wake    chan struct{} // has a token while there may be something to take

	mu       sync.Mutex // guards what follows
	policy   Policy
	capacity int
	events   []queued // those from head on are waiting
	head     int
	bytes    int           // of those waiting
	after    loss          // behind the last of them
	room     chan struct{} // closed when there is room again; nil if nobody waits
	ended    bool
	endedBy  string // why, empty if the subscriber is to go elsewhere
}

func newQueue(policy Policy, capacity int, dropped func(dropReason, int)) *queue {
	return &queue{capacity: max(capacity, 1), policy: policy, dropped: dropped, wake: make(chan struct{}, 1)}
}

// configure changes the bounds for events to come.
func (q *queue) configure(policy Policy, capacity int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.policy, q.capacity = policy, max(capacity, 1)
}

// blocks reports whether publishers wait for the queue.
func (q *queue) blocks() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.policy == Block
}

// put adds an event, or does what the policy says when the queue is full.  It returns what roomWait does after that.
func (q *queue) put(e *routed) (room <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return nil
	}
	if q.len() >= q.limit() || q.bytes+e.bytes() > maxQueueBytes {
		switch {
		case q.policy == Disconnect:
			q.loseAll(dropFull)
			q.lose(dropFull, 1)
			q.endLocked("queue full")
			return nil
		case q.policy != DropOldest || q.len() == 0:
			q.lose(dropFull, 1)
			return q.roomLocked()
		}
		for q.len() > 0 && (q.len() >= q.limit() || q.bytes+e.bytes() > maxQueueBytes) {
			q.dropOldest()
		}
	}
	q.events = append(q.events, queued{e, q.after})
	q.after = loss{}
	q.bytes += e.bytes()
	q.signal()
	return q.roomLocked()
}

// refuse drops an event that came too late to be delivered in order.
func (q *queue) refuse(*routed) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lose(dropLate, 1)
	return nil
}

// waiting is how many events wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len()
}

func (q *queue) limit() int {
	if q.policy == Block {
		return q.capacity + blockHeadroom
	}
	return q.capacity
}

func (q *queue) len() int { return len(q.events) - q.head }

// dropOldest loses the first event, in front of the next.
func (q *queue) dropOldest() {
	e := q.pop()
	e.before.lost++
	q.dropped(dropFull, 1)
	if q.len() > 0 {
		q.events[q.head].before.add(e.before)
	} else {
		e.before.add(q.after)
		q.after = e.before
	}
	q.signal()
}

func (q *queue) pop() queued {
	e := q.events[q.head]
	q.events[q.head] = queued{}
	q.head++
	q.bytes -= e.bytes()
	switch {
	case q.head == len(q.events):
		q.events, q.head = q.events[:0], 0
	case q.head >= 1024 && q.head > len(q.events)/2:
		n := copy(q.events, q.events[q.head:])
		clear(q.events[n:])
		q.events, q.head = q.events[:n], 0
	}
	return e
}

func (q *queue) lose(reason dropReason, n int) {
	q.after.lost += uint64(n)
	q.dropped(reason, n)
	q.signal() // a subscriber that hears nothing more is told nevertheless
}

func (q *queue) loseAll(reason dropReason) {
	for q.len() > 0 {
		e := q.pop()
		e.before.add(q.after)
		q.after = e.before
		q.lose(reason, 1)
	}
	q.events, q.head, q.bytes = nil, 0, 0
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// miss tells the subscriber that events may have been lost on their way here.
func (q *queue) miss(reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.after.gap = reason
	q.signal()
}

// taken is what a subscriber gets from its queue.
type taken struct {
	loss   // before the events
	events []*routed
	ended  bool
	reason string // why, when it ended
}

// take returns what waits up to the next loss, at most maxEvents and about maxBytes; nothing if there is nothing.
func (q *queue) take(into []*routed, maxEvents, maxBytes int) taken {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := taken{events: into[:0]}
	for bytes := 0; q.len() > 0 && len(t.events) < maxEvents && bytes < maxBytes; {
		if before := q.events[q.head].before; len(t.events) == 0 {
			t.loss = before
		} else if before != (loss{}) {
			break
		}
		e := q.pop()
		bytes += e.bytes()
		t.events = append(t.events, e.routed)
	}
	if q.len() == 0 && len(t.events) == 0 {
		t.loss, q.after = q.after, loss{}
	}
	t.ended = q.ended && q.len() == 0 && q.after == (loss{})
	t.reason = q.endedBy
	if q.len() > 0 || q.after != (loss{}) || t.ended {
		q.signal()
	}
	if q.room != nil && !q.fullLocked() {
		close(q.room)
		q.room = nil
	}
	return t
}

// wait returns when there may be something to take, after at most d, or when ctx ends.
func (q *queue) wait(ctx context.Context, d time.Duration) {
	select {
	case <-q.wake:
		return
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.wake:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// end makes the queue take nothing more; what waits can still be taken.
func (q *queue) end(reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.endLocked(reason)
}

func (q *queue) endLocked(reason string) {
	if q.ended {
		return
	}
	q.ended, q.endedBy = true, reason
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	q.signal()
}

// discard ends the queue and drops what waits.
func (q *queue) discard(reason dropReason) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.loseAll(reason)
	q.endLocked("")
}

func (q *queue) fullLocked() bool {
	return !q.ended && (q.len() >= q.capacity || q.bytes >= maxQueueBytes)
}

// roomWait returns a channel that is closed once the queue has room again; nil if it has room, or its policy lets nobody wait.
func (q *queue) roomWait() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.roomLocked()
}

func (q *queue) roomLocked() <-chan struct{} {
	if q.policy != Block || !q.fullLocked() {
		return nil
	}
	if q.room == nil {
		q.room = make(chan struct{})
	}
	return q.room
}

// serializerID returns the number of a serializer by its name.
func serializerID(name string) (uint8, core.Serializer, bool) {
	s, ok := core.SerializerByName(name)
	if !ok {
		return 0, nil, false
	}
	return s.ID(), s, true
}
