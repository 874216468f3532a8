package events

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// publisherMoved is why subscribers may have lost events when one came by another node than those before.
const publisherMoved = "a publisher left a node, which may have lost some"

const (
	maxPublishEvents = 1000
	maxPublishBytes  = 256 << 10
	maxPublishers    = 16_384 // whose last number a node remembers
	maxTopicCounts   = 1_000
	maxStreams       = 20_000 // of a node
	maxPatterns      = 1_000  // of a subscription
	toldTimeout      = time.Second
)

// Cluster is what a [Broker] needs of the node that it belongs to; *cluster.Node has it.
type Cluster interface {
	ID() string
	IsLeader() bool
	// LocalView is the state as this node knows it, View one that has all that was acknowledged before.
	LocalView() *fsm.View
	View(ctx context.Context) (*fsm.View, error)
	Apply(ctx context.Context, c fsm.Command) (fsm.Result, error)
	// Send has a message handled by the [Broker.Message] of another node.
	Send(ctx context.Context, node string, body []byte) ([]byte, error)
}

// BrokerOptions set up a [Broker]; the zero value is useful.
type BrokerOptions struct {
	// Proxy is for the calls of callbacks; Serializer, Resolver and the bounds of connections are not used.
	Proxy core.ProxyOptions
	// Logger gets changes of subscriptions, and what goes wrong with callbacks; nil discards them.
	Logger *slog.Logger
}

// Broker is the event server of one node.  Its methods are safe for concurrent use.
type Broker struct {
	opts    BrokerOptions
	id      publisherID // of this run of the node
	system  chan []fsm.Change
	refresh chan struct{} // has a token when the callbacks may have changed
	started chan struct{} // closed by Run when the callbacks are known; it sets the next three before
	cluster Cluster
	self    string // id of the node
	ctx     context.Context
	wg      sync.WaitGroup // of what ends with ctx
	counters

	mu         sync.Mutex // guards what follows
	sequence   uint64     // of events whose publishers do not number them
	streams    map[string]*stream
	local      index[*stream]
	callbacks  map[string]*callback
	called     index[*callback]
	refreshed  uint64 // version of the subscribers in callbacks
	peers      map[string]*peer
	remote     index[*peer]
	touched    []*peer // scratch of route
	publishers publisherSet
	topics     map[string]uint64 // events published, by folded topic
	interest   interest
	moved      chan struct{} // closed and replaced when another node learned, or refreshed changed
	draining   bool
}

// NewBroker returns a broker whose servant refuses calls until [Broker.Run] is called.
func NewBroker(opts BrokerOptions) *Broker {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		opts: opts, system: make(chan []fsm.Change, 1024), refresh: make(chan struct{}, 1), started: make(chan struct{}),
		streams: map[string]*stream{}, callbacks: map[string]*callback{}, peers: map[string]*peer{},
		topics: map[string]uint64{}, moved: make(chan struct{}),
	}
	rand.Read(b.id[:])
	return b
}

// Run connects the broker with its cluster and works until ctx ends; then it returns ctx's cause, and no goroutine of it is left.  It can be
// called once.
func (b *Broker) Run(ctx context.Context, c Cluster) error {
	inner, cancel := context.WithCancelCause(ctx)
	b.ctx, b.cluster, b.self = inner, c, c.ID()
	b.wg.Go(b.followCallbacks)
	b.wg.Go(b.followChanges)
	b.wg.Go(b.reapStreams)
	b.wg.Go(b.reassign)
	<-ctx.Done()
	b.endStreams("")
	cancel(context.Cause(ctx))
	b.wg.Wait()
	return context.Cause(ctx)
}

// Running reports whether the broker does what it is asked for: it knows all subscribers, and has not ended.
func (b *Broker) Running() bool {
	select {
	case <-b.started:
		return b.ctx.Err() == nil
	default:
		return false
	}
}

// errNotRunning makes a client try another node.
func errNotRunning() error {
	return core.ConnectionClosedError.New("the event server of this node does not run")
}

// Drain prepares the end of the node: streams are told to go elsewhere once they have what waits for them, and other nodes take over the
// callbacks.  It returns when that is done or ctx ends.
func (b *Broker) Drain(ctx context.Context) {
	if !b.Running() {
		return
	}
	b.mu.Lock()
	b.draining = true
	b.mu.Unlock()
	b.endStreams("")
	b.handOver(ctx)
}

// endStreams ends the streams of this node.
func (b *Broker) endStreams(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.streams {
		s.queue.end(reason)
	}
}

// Stats returns what the broker counted, and has.
func (b *Broker) Stats() Stats {
	s := Stats{
		Published: b.published.Load(), Forwarded: b.forwarded.Load(),
		DeliveredStreams: b.counters.streams.Load(), DeliveredCallbacks: b.counters.callbacks.Load(),
	}
	for i := range s.Dropped {
		s.Dropped[i] = b.dropped[i].Load()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Streams = len(b.streams)
	for _, st := range b.streams {
		s.Queued += st.queue.waiting()
	}
	for _, cb := range b.callbacks {
		if cb.worker != nil {
			s.Callbacks++
			s.Queued += cb.worker.queue.waiting()
		}
	}
	for _, p := range b.peers {
		if p.answers {
			s.Peers++
		}
	}
	return s
}

// submission is an event as a publisher gives it.
type submission struct {
	topic      string
	serializer uint8
	payload    []byte
}

// publish gives events to all who subscribe, and waits for those with the policy Block.  A publisher that numbers its events gives its id and
// the number of the first; the zero id stands for one that does not.
func (b *Broker) publish(ctx context.Context, id publisherID, first uint64, events []submission) error {
	now := time.Now()
	b.mu.Lock()
	if !b.Running() {
		b.mu.Unlock()
		return errNotRunning()
	}
	if id == (publisherID{}) {
		id, first = b.id, b.sequence+1
		b.sequence += uint64(len(events))
	}
	var waits []roomWait
	for i, s := range events {
		sequence := first + uint64(i)
		// Those of the node's own numbers may come back, too: from a node that passes on what it got for a callback.
		fresh, gap := b.publishers.advanceVia(id, sequence, nil)
		if !fresh {
			b.drop(dropLate, 1)
			continue
		}
		if gap {
			b.missAll(publisherMoved)
		}
		e := newRouted(Event{Topic: s.topic, Time: now, publisher: id, sequence: sequence, serializer: s.serializer, payload: s.payload})
		b.count(e.folded)
		waits = b.route(e, waits)
	}
	b.mu.Unlock()
	b.published.Add(uint64(len(events)))
	if waits != nil {
		return b.waitRoom(ctx, waits)
	}
	return nil
}

// count counts an event for its topic.
func (b *Broker) count(topic string) {
	if _, known := b.topics[topic]; known || len(b.topics) < maxTopicCounts {
		b.topics[topic]++
	}
}

// route gives an event to the subscribers of this node and to the nodes that have others, and adds to waits what its publisher has to wait for.
func (b *Broker) route(e *routed, waits []roomWait) []roomWait {
	b.local.match(e.folded, func(s *stream) {
		waits = appendRoom(waits, s.queue.put(e))
	})
	b.called.match(e.folded, func(cb *callback) {
		switch p := b.peers[cb.sub.Owner]; {
		case cb.worker != nil:
			waits = appendRoom(waits, cb.worker.queue.put(e))
		case p != nil:
			b.touch(p)
			p.targets = append(p.targets, cb.sub.URI)
			p.await = p.await || cb.sub.Policy == string(Block)
		default:
			b.drop(dropLink, 1)
		}
	})
	b.remote.match(e.folded, func(p *peer) {
		b.touch(p)
		p.wanted = true
	})
	return b.send(e, waits)
}

// send queues an event for the nodes that were touched.
func (b *Broker) send(e *routed, waits []roomWait) []roomWait {
	for _, p := range b.touched {
		await := p.await || p.wanted && p.waitsFor(e.folded)
		if p.enqueue(e) && await {
			waits = append(waits, roomWait{peer: p, item: p.queued, topic: e.folded})
		}
		p.targets, p.wanted, p.await, p.touched = nil, false, false, false
	}
	b.touched = b.touched[:0]
	return waits
}

// touch notes that an event goes to p.
func (b *Broker) touch(p *peer) {
	if !p.touched {
		p.touched = true
		b.touched = append(b.touched, p)
	}
}

// deliver gives an event of another node to subscribers of this one.  Nodes send an event once, so one that is not fresh was overtaken by a
// later one of its publisher on another way: it is lost, and its subscribers learn that.
func (b *Broker) deliver(item queuedItem, fresh bool) {
	give := (*queue).put
	if !fresh {
		give = (*queue).refuse
	}
	if item.streams {
		b.local.match(item.event.folded, func(s *stream) { give(s.queue, item.event) })
	}
	for _, uri := range item.targets {
		cb := b.callbacks[uri]
		switch {
		case cb != nil && cb.worker != nil:
			give(cb.worker.queue, item.event)
		case cb != nil && fresh && b.peers[cb.sub.Owner] != nil: // the sender did not know yet that another node has taken over
			p := b.peers[cb.sub.Owner]
			b.touch(p)
			p.targets = append(p.targets, uri)
		default:
			b.drop(dropMoved, 1)
		}
	}
	b.send(item.event, nil)
}

// roomWait is something that a publisher waits for after it has published: a queue with room, or another node that has the event and has
// room.
type roomWait struct {
	room  <-chan struct{}
	peer  *peer
	item  uint64
	topic string
}

func appendRoom(waits []roomWait, room <-chan struct{}) []roomWait {
	if room != nil {
		return append(waits, roomWait{room: room})
	}
	return waits
}

// waitRoom waits for all of them, at most BlockTimeout.
func (b *Broker) waitRoom(ctx context.Context, waits []roomWait) error {
	ctx, cancel := context.WithTimeout(ctx, BlockTimeout)
	defer cancel()
	for _, w := range waits {
		if w.room == nil {
			b.waitUntil(ctx, func() bool { return !w.peer.answers || w.peer.acked >= w.item && !w.peer.isBlocked(w.topic) })
			continue
		}
		select {
		case <-w.room:
		case <-ctx.Done():
		case <-b.ctx.Done():
		}
	}
	return nil
}

// waitUntil returns when done reports true, which is called with b.mu held, or ctx ends.
func (b *Broker) waitUntil(ctx context.Context, done func() bool) {
	for {
		b.mu.Lock()
		ok, moved := done(), b.moved
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		case <-b.ctx.Done():
			return
		}
	}
}

// announce wakes those in waitUntil; b.mu is held.
func (b *Broker) announce() {
	close(b.moved)
	b.moved = make(chan struct{})
}

// waitTold returns when all other nodes know the interest of that version and the subscribers of that one, but for those that have not answered for
// a moment, or after a second.  Of what the others publish until they know, subscribers are told that it is lost.
func (b *Broker) waitTold(ctx context.Context, interest, subscribers uint64) {
	ctx, cancel := context.WithTimeout(ctx, toldTimeout)
	defer cancel()
	knows := func(p *peer) bool { return p.stop == nil || p.told >= interest && p.refreshed >= subscribers }
	b.waitUntil(ctx, func() bool {
		if b.refreshed < subscribers {
			return false
		}
		for _, p := range b.peers {
			if !p.suspect && !knows(p) {
				return false
			}
		}
		return true
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.peers {
		p.ignorant = p.ignorant || !knows(p)
	}
}

// publisherSet remembers the last number of each publisher, of a bounded number of them.  The zero value is ready.
type publisherSet struct {
	current, previous map[publisherID]*heard // a publisher not heard of for a whole generation is forgotten

	latest publisherID // most events are of the same publisher as the one before
	of     *heard      // what was heard of latest; nil if there is none
}

type heard struct {
	last uint64
	via  *peer // nil: here
}

// advance reports whether n is higher than the numbers seen before, and remembers it then.
func (p *publisherSet) advance(id publisherID, n uint64) bool {
	fresh, _ := p.advanceVia(id, n, nil)
	return fresh
}

// advanceVia is advance for an event that came by another node, or nil.  Gap says that the one before came another way, and that there may have been
// some between them, which were lost with a node that the publisher has left.
func (p *publisherSet) advanceVia(id publisherID, n uint64, via *peer) (fresh, gap bool) {
	if p.of == nil || id != p.latest {
		p.latest, p.of = id, p.lookup(id)
	}
	h := p.of
	if n <= h.last {
		return false, false
	}
	gap = h.last != 0 && h.via != via && n != h.last+1
	h.last, h.via = n, via
	return true, gap
}

func (p *publisherSet) lookup(id publisherID) *heard {
	if h := p.current[id]; h != nil {
		return h
	}
	h := p.previous[id]
	if h == nil {
		h = new(heard)
	}
	if p.current == nil || len(p.current) >= maxPublishers/2 {
		p.previous, p.current = p.current, make(map[publisherID]*heard)
	}
	p.current[id] = h
	return h
}

var errDraining = errors.New("node is stopping")
