package events

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	heartbeat      = 250 * time.Millisecond
	roomPoll       = 10 * time.Millisecond // instead, while the other node has publishers wait
	sendTimeout    = 750 * time.Millisecond
	retryPause     = 50 * time.Millisecond
	suspectAfter   = 300 * time.Millisecond // of failing: subscribing does not wait for the node
	silentAfter    = time.Second            // of failing: what waits for the node is dropped, and its interest forgotten
	maxPeerEvents  = 32_768                 // that wait for another node
	maxPeerBytes   = 16 << 20
	maxBatchBytes  = 256 << 10 // and one event more
	maxInterest    = 4096      // patterns that a node tells, beyond which it wants everything
	maxInterestLen = 128 << 10 // bytes of them
	maxBlocked     = 64        // patterns
	maxTargets     = 500       // of an item; an event for more has several
	maxURIBytes    = 512
)

// interest is what the streams of this node want to hear, as the other nodes are told.
type interest struct {
	patterns map[string]interested
	version  uint64 // grows with each change
}

type interested struct{ all, blocking int }

func (i *interest) add(p Pattern, blocking bool)    { i.change(p, blocking, 1) }
func (i *interest) remove(p Pattern, blocking bool) { i.change(p, blocking, -1) }

func (i *interest) change(p Pattern, blocking bool, by int) {
	if i.patterns == nil {
		i.patterns = map[string]interested{}
	}
	key := p.String()
	n := i.patterns[key]
	n.all += by
	if blocking {
		n.blocking += by
	}
	if i.patterns[key] = n; n.all == 0 {
		delete(i.patterns, key)
	}
	i.version++
}

// peer is another node.  All of it is guarded by Broker.mu, but for what only its link's goroutine uses.
type peer struct {
	node string
	wake chan struct{} // has a token when there is something to send
	stop context.CancelFunc

	// Toward the other node.
	queue   []queuedItem
	bytes   int
	queued  uint64 // number of the item queued last
	acked   uint64 // of the last one that the other node has
	lost    uint64 // events dropped since the last batch
	answers bool
	failing time.Time // since when it does not answer; zero if it does, or was never asked
	suspect bool      // it does not answer for a moment: nobody waits for it
	told    uint64    // version of our interest that it holds
	blocked []Pattern // its subscriptions for which publishers have to wait

	ignorant bool // events were published there, perhaps, that somebody here wanted without its knowing

	refreshed uint64 // version of the subscribers that it knows

	// From the other node.
	run   publisherID // its incarnation
	batch uint64      // last number
	fresh bool        // its last event was newer than those before of the same publisher
	holds uint64      // version of its interest in Broker.remote
	waits []Pattern   // those of its interest whose policy is Block

	// Scratch of Broker.route.
	touched, wanted, await bool
	targets                []string
}

type queuedItem struct {
	event     *routed
	streams   bool
	continued bool // more targets of the event before
	targets   []string
}

func (i *queuedItem) bytes() int {
	n := len(i.event.wire) + 8
	for _, t := range i.targets {
		n += len(t) + 2
	}
	return n
}

// peerOf returns the peer of that node, which may be one that the state does not tell of yet.
func (b *Broker) peerOf(node string) *peer {
	p := b.peers[node]
	if p == nil {
		p = &peer{node: node, wake: make(chan struct{}, 1)}
		b.peers[node] = p
	}
	return p
}

// followNodes begins and ends links so that there is one to each other node.
func (b *Broker) followNodes() {
	known := map[string]bool{}
	for _, n := range b.cluster.LocalView().Nodes() {
		if n.ID != b.self {
			known[n.ID] = true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for node := range known {
		if p := b.peerOf(node); p.stop == nil {
			ctx, cancel := context.WithCancel(b.ctx)
			p.stop = cancel
			b.wg.Go(func() { b.link(ctx, p) })
		}
	}
	for node, p := range b.peers {
		if p.stop != nil && !known[node] {
			p.stop()
			b.forget(p)
			delete(b.peers, node)
		}
	}
}

// enqueue has an event sent to the node, with the targets and wishes noted in p, and reports whether there was room.
func (p *peer) enqueue(e *routed) bool {
	item := queuedItem{event: e, streams: p.wanted, targets: p.targets}
	if len(p.queue) >= maxPeerEvents || p.bytes+item.bytes() > maxPeerBytes || p.stop == nil {
		p.lost++
		return false
	}
	for {
		all := item.targets
		item.targets = all[:min(len(all), maxTargets)]
		p.queue = append(p.queue, item)
		p.queued++
		p.bytes += item.bytes()
		if len(all) <= maxTargets {
			break
		}
		item.targets, item.streams, item.continued = all[maxTargets:], false, true
	}
	p.signal()
	return true
}

func (p *peer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (b *Broker) wakePeers() {
	for _, p := range b.peers {
		p.signal()
	}
}

// waitsFor reports whether publishers to that topic wait for a stream of the node.
func (p *peer) waitsFor(topic string) bool {
	return slices.ContainsFunc(p.waits, func(x Pattern) bool { return x.Match(topic) })
}

func (p *peer) isBlocked(topic string) bool {
	return slices.ContainsFunc(p.blocked, func(x Pattern) bool { return x.Match(topic) })
}

// link sends a node what it is to have, batch by batch: the next one when the one before has been answered, or the same one again.
func (b *Broker) link(ctx context.Context, p *peer) {
	for number := uint64(1); ; number++ {
		if !b.waitToSend(ctx, p) {
			return
		}
		body, items, lost := b.pack(p, number)
		switch answer, err := b.transfer(ctx, p, body); err {
		case nil:
			b.acknowledged(p, answer, items)
		case errAbandoned:
			b.abandoned(p, items, lost)
		default:
			return
		}
	}
}

// errAbandoned is a batch that a node did not answer for so long that it is not worth sending any more.
var errAbandoned = errors.New("events: batch abandoned")

// abandoned counts the events of a batch as lost, though the node may have them.
func (b *Broker) abandoned(p *peer, items int, lost uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.lost += lost + uint64(items)
	p.acked += uint64(items)
	b.drop(dropLink, items)
}

// waitToSend returns when there is something to say, or for a sign of life; false if the link ends.
func (b *Broker) waitToSend(ctx context.Context, p *peer) bool {
	b.mu.Lock()
	idle := heartbeat
	if len(p.blocked) > 0 {
		idle = roomPoll
	}
	// The answer to the last batch may have told that there is more to say.
	due := len(p.queue) > 0 || p.told != b.interest.version || !p.answers
	b.mu.Unlock()
	if due && ctx.Err() == nil {
		return true
	}
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-p.wake:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// transfer sends a batch until it is answered or abandoned, or the link ends.  A batch may be sent again, since its number tells the other node
// that it has it.
func (b *Broker) transfer(ctx context.Context, p *peer, body []byte) (peerAnswer, error) {
	for {
		sendCtx, cancel := context.WithTimeout(ctx, sendTimeout)
		reply, err := b.cluster.Send(sendCtx, p.node, body)
		cancel()
		var answer peerAnswer
		if err == nil {
			answer, err = parsePeerAnswer(reply)
		}
		if err == nil {
			return answer, nil
		}
		abandoned := b.failed(p, err)
		if !pause(ctx, retryPause) {
			return peerAnswer{}, context.Cause(ctx)
		}
		if abandoned {
			return peerAnswer{}, errAbandoned
		}
	}
}

// failed notes that a node does not answer, and reports whether that is so for so long that nothing is kept for it.
func (b *Broker) failed(p *peer, err error) (lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.failing.IsZero() {
		p.failing = time.Now()
		b.opts.Logger.Debug("events: node does not answer", "node", p.node, "error", err)
	}
	since := time.Since(p.failing)
	if since > suspectAfter && !p.suspect {
		p.suspect = true
		b.announce()
	}
	lost = since > silentAfter
	if lost && p.answers {
		b.opts.Logger.Info("events: node lost", "node", p.node, "error", err)
		p.answers = false
		b.missAll(fmt.Sprintf("node %s was lost, perhaps with some", p.node))
	}
	if lost {
		b.forget(p)
	}
	return lost
}

// forget drops what waits for a node, and what it wants; b.mu is held.
func (b *Broker) forget(p *peer) {
	b.drop(dropLink, len(p.queue))
	p.lost += uint64(len(p.queue))
	p.acked += uint64(len(p.queue))
	p.queue, p.bytes, p.blocked = nil, 0, nil
	b.remote.removeValue(p)
	p.holds, p.waits = 0, nil
	b.announce()
}

// pack makes the next batch, of the events that fit into it:
//
//	1 byte   peerVersion
//	16 bytes incarnation of the sender
//	uvarint  number of the batch, which is handled once
//	uvarint  events lost before
//	1 byte   interestKind, and then uvarint version, uvarint count, and so many of: 1 byte 1 if publishers wait, string pattern
//	uvarint  count of events, and so many of: 1 byte itemFlags, uvarint count of targets, strings, event
func (b *Broker) pack(p *peer, number uint64) (body []byte, items int, lost uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body = append(body, peerVersion)
	body = append(body, b.id[:]...)
	body = binary.AppendUvarint(body, number)
	body = binary.AppendUvarint(body, p.lost)
	lost, p.lost = p.lost, 0
	body = b.interest.append(body, p.told)
	size := 0
	for items < len(p.queue) && size < maxBatchBytes {
		size += p.queue[items].bytes()
		items++
	}
	body = binary.AppendUvarint(slices.Grow(body, size+16), uint64(items))
	for _, item := range p.queue[:items] {
		body = append(body, item.flags())
		body = binary.AppendUvarint(body, uint64(len(item.targets)))
		for _, t := range item.targets {
			body = appendString(body, t)
		}
		body = append(body, item.event.wire...)
	}
	// They leave the queue now, so that forget counts only what was never sent.
	for _, item := range p.queue[:items] {
		p.bytes -= item.bytes()
	}
	rest := copy(p.queue, p.queue[items:])
	clear(p.queue[rest:])
	p.queue = p.queue[:rest]
	return body, items, lost
}

const peerVersion = 1

// The flags of an item.
const (
	itemStreams   = 1
	itemContinued = 2
)

func (i *queuedItem) flags() byte {
	return boolByte(i.streams)*itemStreams | boolByte(i.continued)*itemContinued
}

type interestKind uint8

const (
	interestSame interestKind = 0
	interestList interestKind = 1
	interestAll  interestKind = 2 // more than can be told
)

func (i *interest) append(b []byte, told uint64) []byte {
	if i.version == told {
		return append(b, byte(interestSame))
	}
	bytes := 0
	for key := range i.patterns {
		bytes += len(key) + 3
	}
	if len(i.patterns) > maxInterest || bytes > maxInterestLen {
		return binary.AppendUvarint(append(b, byte(interestAll)), i.version)
	}
	b = binary.AppendUvarint(append(b, byte(interestList)), i.version)
	b = binary.AppendUvarint(b, uint64(len(i.patterns)))
	for key, n := range i.patterns {
		b = appendString(append(b, boolByte(n.blocking > 0)), key)
	}
	return b
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// acknowledged notes the answer to a batch.
func (b *Broker) acknowledged(p *peer, a peerAnswer, items int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.answers, p.suspect, p.failing = true, false, time.Time{}
	p.acked += uint64(items)
	p.ignorant = p.ignorant || a.interest < p.told // since it was started anew
	p.told, p.refreshed, p.blocked = a.interest, a.subscribers, a.blocked
	if p.ignorant && p.told == b.interest.version && p.refreshed >= b.refreshed {
		p.ignorant = false
		b.missAll(p.ignorance())
	}
	b.forwarded.Add(uint64(items))
	b.announce()
}

// peerAnswer is the answer to a batch:
//
//	1 byte   peerVersion
//	uvarint  version of the sender's interest that is held
//	uvarint  version of the subscribers that is known
//	uvarint  count of patterns for which publishers have to wait, and so many strings
type peerAnswer struct {
	interest    uint64
	subscribers uint64
	blocked     []Pattern
}

func parsePeerAnswer(body []byte) (peerAnswer, error) {
	r := reader{b: body}
	if v := r.byte(); v != peerVersion {
		return peerAnswer{}, fmt.Errorf("%w: version %d", errMalformed, v)
	}
	a := peerAnswer{interest: r.uint(), subscribers: r.uint()}
	for range min(r.uint(), maxBlocked) {
		p, err := patternFromString(r.string(maxPatternBytes))
		if err != nil || r.err != nil {
			return peerAnswer{}, errors.Join(err, r.err)
		}
		a.blocked = append(a.blocked, p)
	}
	return a, r.end()
}

// Message handles what the broker of another node sends, and returns the answer to it.
func (b *Broker) Message(_ context.Context, from string, body []byte) ([]byte, error) {
	if !b.Running() {
		return nil, errors.New("events: not running yet")
	}
	in, err := parsePeerBatch(body)
	if err != nil {
		return nil, fmt.Errorf("events: batch of node %s: %w", from, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.peerOf(from)
	if p.run != in.run {
		if p.run != (publisherID{}) {
			b.missAll(fmt.Sprintf("node %s was started anew", p.node))
		}
		p.run, p.batch = in.run, 0
		b.remote.removeValue(p)
		p.holds, p.waits = 0, nil
	}
	if in.number > p.batch {
		p.batch = in.number
		b.handleBatch(p, in)
	}
	return b.answer(p), nil
}

func (b *Broker) handleBatch(p *peer, in *peerBatch) {
	if in.interest != interestSame {
		b.remote.removeValue(p)
		for _, x := range in.patterns {
			b.remote.add(x, p)
		}
		p.holds, p.waits = in.version, in.waits
	}
	if in.lost > 0 {
		b.missAll(fmt.Sprintf("node %s could not keep all events for this one", p.node))
	}
	if p.ignorant && len(in.items) > 0 {
		b.missAll(p.ignorance()) // before its events, even if it learned only now
	}
	for _, item := range in.items {
		if !item.continued {
			var gap bool
			if p.fresh, gap = b.publishers.advanceVia(item.event.publisher, item.event.sequence, p); gap {
				b.missAll(publisherMoved)
			}
		}
		b.deliver(item, p.fresh)
	}
}

func (p *peer) ignorance() string {
	return fmt.Sprintf("node %s did not know of all subscribers", p.node)
}

// missAll tells all subscribers of this node that events may be missing.
func (b *Broker) missAll(reason string) {
	for _, s := range b.streams {
		s.queue.miss(reason)
	}
	for _, cb := range b.callbacks {
		if cb.worker != nil {
			cb.worker.queue.miss(reason)
		}
	}
}

func (b *Broker) answer(p *peer) []byte {
	a := []byte{peerVersion}
	a = binary.AppendUvarint(a, p.holds)
	a = binary.AppendUvarint(a, b.refreshed)
	blocked := b.blocked()
	a = binary.AppendUvarint(a, uint64(len(blocked)))
	for _, x := range blocked {
		a = appendString(a, x.String())
	}
	return a
}

// blocked returns the patterns of subscribers of this node for which publishers have to wait, some of them if they are many.
func (b *Broker) blocked() (patterns []Pattern) {
	for q, of := range b.blocking() {
		if q.roomWait() == nil {
			continue
		}
		for _, p := range of {
			if len(patterns) == maxBlocked {
				return patterns
			}
			patterns = append(patterns, p)
		}
	}
	return patterns
}

// blocking goes through the queues of this node whose policy is Block.
func (b *Broker) blocking() func(yield func(*queue, []Pattern) bool) {
	return func(yield func(*queue, []Pattern) bool) {
		for _, s := range b.streams {
			if s.queue.blocks() && !yield(s.queue, s.patterns) {
				return
			}
		}
		for _, cb := range b.callbacks {
			if cb.worker != nil && cb.worker.queue.blocks() && !yield(cb.worker.queue, cb.patterns) {
				return
			}
		}
	}
}

// peerBatch is what pack made.
type peerBatch struct {
	run      publisherID
	number   uint64
	lost     uint64
	interest interestKind
	version  uint64
	patterns []Pattern
	waits    []Pattern // those of patterns for which publishers wait
	items    []queuedItem
}

func parsePeerBatch(body []byte) (*peerBatch, error) {
	r := reader{b: body}
	if v := r.byte(); v != peerVersion {
		return nil, fmt.Errorf("%w: version %d", errMalformed, v)
	}
	in := &peerBatch{run: r.publisher(), number: r.uint(), lost: r.uint(), interest: interestKind(r.byte())}
	if err := in.parseInterest(&r); err != nil {
		return nil, err
	}
	n := r.uint()
	for range n {
		flags := r.byte()
		item := queuedItem{streams: flags&itemStreams != 0, continued: flags&itemContinued != 0}
		targets := r.uint()
		if targets > maxTargets {
			r.fail()
		}
		for range targets {
			if r.err != nil {
				break
			}
			item.targets = append(item.targets, r.string(maxURIBytes))
		}
		e := r.event()
		if r.err != nil {
			return nil, r.err
		}
		item.event = newRouted(e)
		in.items = append(in.items, item)
	}
	return in, r.end()
}

func (in *peerBatch) parseInterest(r *reader) error {
	switch in.interest {
	case interestSame:
		return r.err
	case interestAll:
		in.version = r.uint()
		in.patterns = everything()
		return r.err
	case interestList:
	default:
		return fmt.Errorf("%w: interest of kind %d", errMalformed, in.interest)
	}
	in.version = r.uint()
	n := r.uint()
	if n > maxInterest {
		r.fail()
		return r.err
	}
	for range n {
		waits := r.byte() == 1
		p, err := patternFromString(r.string(maxPatternBytes))
		if err := errors.Join(r.err, err); err != nil {
			return err
		}
		in.patterns = append(in.patterns, p)
		if waits {
			in.waits = append(in.waits, p)
		}
	}
	return nil
}

// everything is the interest in all topics.  Those of the cluster itself are not sent between nodes.
func everything() []Pattern {
	all, err := ParsePattern(">")
	if err != nil {
		panic(err) // it is a constant
	}
	return []Pattern{all}
}
