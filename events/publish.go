package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	maxWaitingBatches = 4                             // that publishers may be ahead of the node
	publishTimeout    = BlockTimeout + 10*time.Second // for the answer to one batch
	publishPatience   = 30 * time.Second              // of trying, while nodes surely do not get a batch
	pulseInterval     = time.Second                   // between two looks at a node that has not answered yet
	pulseTimeout      = time.Second                   // for its pulse
)

// publisher gathers events while a call is under way, and sends them with the next: one call at a time, so that they stay in order.
type publisher struct {
	id       publisherID
	encoder  core.Serializer
	sequence uint64        // of the last event sent; only the sender's
	work     chan struct{} // has a token when there is something to send

	mu      sync.Mutex       // guards what follows, and the batches
	filling *outgoingBatch   // nil if there is none
	waiting []*outgoingBatch // full ones, to be sent first
	spare   []byte           // memory for the events of the next batch
	room    chan struct{}    // closed when a batch is taken; nil if nobody waits
	running bool             // there is a sender
	ended   bool             // there is none any more
	last    *outgoingBatch   // the one that an event was added to last
	failure error            // the first since the last Flush
}

// outgoingBatch is events that one call publishes.
type outgoingBatch struct {
	events  []byte
	count   int
	removed []span        // of events, which are not to be sent
	sent    bool          // a node may have it, or be getting it: it is too late to remove events
	refused error         // why the last node that was asked does not have it
	done    chan struct{} // closed when it was answered, or failed
	err     error         // once done is closed
}

// span is where an event is in the events of a batch.
type span struct{ from, to int }

func (p *publisher) init() {
	p.encoder, _ = core.SerializerByName(defaultMessage)
	p.work = make(chan struct{}, 1)
}

// Publish publishes a message, any value that [core.Proxy.Call] takes as an argument, and waits until a node has it.  Calls of several goroutines
// share messages to the node.  The order of a program's events is that in which it calls Publish.
//
// On error the event may have been published, unless [core.OutcomeOf] says that it was not.  It is never sent twice: what a node surely did not
// get goes to another one, until ctx ends or for half a minute.  Who gives up takes the event back, unless a node may have it by then.
func (c *Client) Publish(ctx context.Context, topic string, message any) error {
	batch, event, err := c.add(ctx, topic, message)
	if err != nil {
		return err
	}
	select {
	case <-batch.done:
		return batch.err
	case <-ctx.Done():
		return c.publisher.remove(batch, event, context.Cause(ctx))
	}
}

// PublishAsync is Publish without the wait; it waits only for room in the client's buffer.  Flush tells the first error.
func (c *Client) PublishAsync(ctx context.Context, topic string, message any) error {
	_, _, err := c.add(ctx, topic, message)
	return err
}

// Flush waits until nodes have all that was published before, and returns the first error since the last Flush.
func (c *Client) Flush(ctx context.Context) error {
	p := &c.publisher
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	if last != nil {
		select {
		case <-last.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failure
	p.failure = nil
	return err
}

// add puts an event into the batch that is filling, once there is room.
func (c *Client) add(ctx context.Context, topic string, message any) (*outgoingBatch, span, error) {
	if err := CheckTopic(topic); err != nil {
		return nil, span{}, &core.LocalError{Err: fmt.Errorf("events: %w", err)}
	}
	for {
		batch, event, room, err := c.tryAdd(topic, message)
		if room == nil {
			return batch, event, err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return nil, span{}, notPublished(context.Cause(ctx), nil)
		}
	}
}

// tryAdd puts an event into the batch that is filling, or returns what to wait for before it is tried again.
func (c *Client) tryAdd(topic string, message any) (batch *outgoingBatch, event span, room <-chan struct{}, err error) {
	p := &c.publisher
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = p.running || c.start(c.send)
	if p.ended || !p.running {
		return nil, span{}, nil, core.ErrClosed
	}
	if len(p.waiting) < maxWaitingBatches {
		batch, event, err = p.put(topic, message)
		return batch, event, nil, err
	}
	if p.room == nil {
		p.room = make(chan struct{})
	}
	return nil, span{}, p.room, nil
}

// put encodes an event into the batch that is filling.  p.mu is held.
func (p *publisher) put(topic string, message any) (*outgoingBatch, span, error) {
	b := p.filling
	if b == nil {
		b = &outgoingBatch{events: p.spare, done: make(chan struct{})}
	}
	encoded, err := appendSubmission(b.events, topic, p.encoder, message)
	if err != nil {
		return nil, span{}, &core.LocalError{Err: err}
	}
	if p.filling == nil {
		p.filling, p.spare = b, nil
	}
	event := span{len(b.events), len(encoded)}
	b.events = encoded
	b.count++
	p.last = b
	if b.count == maxPublishEvents || len(b.events) >= batchBytes {
		p.waiting = append(p.waiting, b)
		p.filling = nil
	}
	select {
	case p.work <- struct{}{}:
	default:
	}
	return b, event, nil
}

// messageLengthBytes is how many bytes the length of a message has whose length is not known before it is encoded.  It is a uvarint, whose last
// bytes are zero if it has more than it needs.
const messageLengthBytes = 3

// appendSubmission encodes an event whose publisher, number and time the node fills in; nothing on error.
func appendSubmission(b []byte, topic string, s core.Serializer, message any) ([]byte, error) {
	e := Event{Topic: topic, serializer: s.ID(), Time: time.Unix(0, 0)}
	if payload, ok := message.([]byte); ok && len(payload)+5 <= MaxEventBytes { // by far the cheapest
		return appendBin(e.appendHead(b), payload), nil
	}
	head := e.appendHead(b)
	start := len(head) + messageLengthBytes
	encoded, err := s.AppendValue(append(head, make([]byte, messageLengthBytes)...), message)
	if err != nil {
		return b, fmt.Errorf("events: message for topic %q: %w", topic, err)
	}
	n := len(encoded) - start
	if n > MaxEventBytes {
		return b, fmt.Errorf("events: message of %d bytes for topic %q: want at most %d", n, topic, MaxEventBytes)
	}
	encoded[start-3], encoded[start-2], encoded[start-1] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)
	return encoded, nil
}

// remove takes an event back because its publisher gave up.  The error tells whether it may have been published nevertheless.
func (p *publisher) remove(b *outgoingBatch, event span, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.sent {
		return cause
	}
	b.removed = append(b.removed, event)
	return notPublished(cause, b.refused)
}

// notPublished is the error for an event that no node has got, and the reason of the last one that was asked, if one was.
func notPublished(cause, refused error) error {
	if refused != nil {
		cause = fmt.Errorf("%w: %w", cause, refused)
	}
	return &core.TransportError{Endpoint: ObjectID, Op: "publish", Err: cause}
}

// remaining is the events that were not removed.
func (b *outgoingBatch) remaining() []byte {
	if len(b.removed) == 0 {
		return b.events
	}
	slices.SortFunc(b.removed, func(x, y span) int { return x.from - y.from })
	var rest []byte
	at := 0
	for _, r := range b.removed {
		rest = append(rest, b.events[at:r.from]...)
		at = r.to
	}
	return append(rest, b.events[at:]...)
}

// send publishes batches until the client is closed.
func (c *Client) send() {
	p := &c.publisher
	sender := &sender{c: c, proxies: make([]*core.Proxy, len(c.nodes))}
	defer sender.close()
	defer p.end()
	for at := range c.rounds() {
		sender.at = at
		break
	}
	for c.ctx.Err() == nil {
		if batch := p.take(); batch != nil {
			p.finish(batch, sender.publish(batch))
			continue
		}
		select {
		case <-p.work:
		case <-c.ctx.Done():
		}
	}
}

// take returns the oldest batch; nil if there is nothing to send.
func (p *publisher) take() *outgoingBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b *outgoingBatch
	if len(p.waiting) > 0 {
		b = p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
	} else {
		b, p.filling = p.filling, nil
	}
	p.wake()
	return b
}

// wake lets those who wait for room try again; p.mu is held.
func (p *publisher) wake() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}

// finish tells what became of a batch.
func (p *publisher) finish(b *outgoingBatch, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finishLocked(b, err)
	if cap(b.events) <= 2*batchBytes {
		p.spare = b.events[:0]
	}
	b.events = nil // Flush holds the last batch
}

func (p *publisher) finishLocked(b *outgoingBatch, err error) {
	if p.failure == nil {
		p.failure = err
	}
	b.sent, b.err = true, err
	close(b.done)
}

// end fails what was not sent, and what comes later.
func (p *publisher) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.filling != nil {
		p.waiting = append(p.waiting, p.filling)
	}
	for _, b := range p.waiting {
		p.finishLocked(b, core.ErrClosed)
	}
	p.waiting, p.filling, p.spare = nil, nil, nil
	p.wake()
}

// begin returns the events of a batch that are to be sent, if there are any, from when on it is too late to remove one.
func (p *publisher) begin(b *outgoingBatch) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.sent = true
	return b.remaining()
}

// refuse notes that a node surely did not get a batch.
func (p *publisher) refuse(b *outgoingBatch, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.sent, b.refused = false, err
}

// sender has the connections of the publisher.
type sender struct {
	c       *Client
	proxies []*core.Proxy // by node, nil until needed
	at      int           // the node in use
}

func (s *sender) close() {
	for _, p := range s.proxies {
		if p != nil {
			p.Close()
		}
	}
}

// publish sends a batch to one node after the other until one may have it.
func (s *sender) publish(b *outgoingBatch) error {
	p := &s.c.publisher
	first := p.sequence + 1
	p.sequence += uint64(b.count)
	until := time.Now().Add(publishPatience)
	var wait backoff
	barred := 0 // nodes of this round that will not let us in
	for tries := 1; ; tries++ {
		events := p.begin(b)
		if len(events) == 0 {
			return nil // all who waited gave up
		}
		err := s.try(first, events)
		if err == nil || s.c.ctx.Err() != nil {
			return err
		}
		again := elsewhere(err)
		if again || core.OutcomeOf(err) == core.CallUnknown {
			s.at = (s.at + 1) % len(s.proxies) // the next call has better chances there
		}
		if errors.Is(err, core.ErrNotAdmitted) {
			barred++
		}
		if !again || barred == len(s.proxies) || time.Now().After(until) {
			return err
		}
		p.refuse(b, err)
		s.c.opts.Logger.Debug("events: publish", "error", err)
		if tries%len(s.proxies) > 0 {
			continue
		}
		barred = 0
		if !wait.pause(s.c.ctx) {
			return core.ErrClosed
		}
	}
}

func (s *sender) try(first uint64, events []byte) error {
	if s.proxies[s.at] == nil {
		s.proxies[s.at] = core.NewProxy(s.c.nodes[s.at], s.c.opts.Proxy)
	}
	ctx, cancel := context.WithTimeoutCause(s.c.ctx, publishTimeout, errors.New("events: no answer from the node"))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer s.watch(ctx, giveUp)()
	return s.proxies[s.at].Call(ctx, "publish_events", nil, s.c.publisher.id[:], int64(first), events)
}

// watch gives a call up when its node has no pulse: a call may take long, since publishers wait for subscribers, but not at a node that hangs.  What
// it returns ends that.
func (s *sender) watch(ctx context.Context, giveUp context.CancelCauseFunc) (stop func()) {
	done := make(chan struct{})
	timer := time.AfterFunc(pulseInterval, func() {
		defer close(done)
		proxy := core.NewProxy(s.c.nodes[s.at], s.c.opts.Proxy)
		defer proxy.Close()
		for ctx.Err() == nil {
			pulseCtx, cancel := context.WithTimeout(ctx, pulseTimeout)
			err := proxy.Ping(pulseCtx)
			cancel()
			if err != nil {
				giveUp(fmt.Errorf("events: the node hangs: %w", err))
				return
			}
			pause(ctx, pulseInterval)
		}
	})
	return func() {
		giveUp(nil)
		if !timer.Stop() {
			<-done
		}
	}
}
