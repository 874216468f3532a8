package events

import (
	"context"
	"errors"
	"fmt"
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
	id      publisherID
	encoder core.Serializer

	mu       sync.Mutex       // guards what follows
	filling  *outgoingBatch   // nil if there is none
	waiting  []*outgoingBatch // full ones, to be sent first
	room     chan struct{}    // closed when a batch is taken; nil if nobody waits
	work     chan struct{}    // has a token when there is something to send
	running  bool
	last     *outgoingBatch // the one that an event was added to last
	failure  error          // the first since the last Flush
	sequence uint64         // of the last event sent; only the sender's
}

// outgoingBatch is events that one call publishes.
type outgoingBatch struct {
	events []byte
	count  int
	done   chan struct{} // closed when it was answered, or failed
	err    error         // once done is closed
}

func (p *publisher) init() {
	p.encoder, _ = core.SerializerByName(defaultMessage)
	p.work = make(chan struct{}, 1)
}

// Publish publishes a message, any value that [core.Proxy.Call] takes as an argument, and waits until a node has it.  Calls of several goroutines
// share messages to the node.  The order of a program's events is that in which it calls Publish.
//
// On error the event may have been published, unless [core.OutcomeOf] says that it was not.  It is never sent twice: what a node surely did not
// get goes to another one, for half a minute.  A ctx that ends ends the wait only.
func (c *Client) Publish(ctx context.Context, topic string, message any) error {
	batch, err := c.add(ctx, topic, message)
	if err != nil {
		return err
	}
	return c.await(ctx, batch)
}

// PublishAsync is Publish without the wait; it waits only for room in the client's buffer.  Flush tells the first error.
func (c *Client) PublishAsync(ctx context.Context, topic string, message any) error {
	_, err := c.add(ctx, topic, message)
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
		case <-c.ctx.Done():
			return core.ErrClosed
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failure
	p.failure = nil
	return err
}

func (c *Client) await(ctx context.Context, batch *outgoingBatch) error {
	select {
	case <-batch.done:
		return batch.err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.ctx.Done():
		return core.ErrClosed
	}
}

// add puts an event into the batch that is filling, once there is room.
func (c *Client) add(ctx context.Context, topic string, message any) (*outgoingBatch, error) {
	if err := CheckTopic(topic); err != nil {
		return nil, &core.LocalError{Err: fmt.Errorf("events: %w", err)}
	}
	p := &c.publisher
	for {
		p.mu.Lock()
		if !p.running {
			if !c.start(c.send) {
				p.mu.Unlock()
				return nil, core.ErrClosed
			}
			p.running = true
		}
		if len(p.waiting) < maxWaitingBatches {
			batch, err := p.put(topic, message)
			p.mu.Unlock()
			return batch, err
		}
		if p.room == nil {
			p.room = make(chan struct{})
		}
		room := p.room
		p.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-c.ctx.Done():
			return nil, core.ErrClosed
		}
	}
}

// put encodes an event into the batch that is filling.
func (p *publisher) put(topic string, message any) (*outgoingBatch, error) {
	if p.filling == nil {
		p.filling = &outgoingBatch{done: make(chan struct{})}
	}
	b := p.filling
	encoded, err := appendSubmission(b.events, topic, p.encoder, message)
	if err != nil {
		return nil, &core.LocalError{Err: err}
	}
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
	return b, nil
}

// appendSubmission encodes an event whose publisher, number and time the node fills in; nothing on error.
func appendSubmission(b []byte, topic string, s core.Serializer, message any) ([]byte, error) {
	payload, ok := message.([]byte)
	start := len(b)
	e := Event{Topic: topic, serializer: s.ID(), Time: time.Unix(0, 0)}
	if ok && len(payload)+5 <= MaxEventBytes { // by far the cheapest
		return appendBin(e.appendHead(b), payload), nil
	}
	encoded, err := s.AppendValue(nil, message)
	switch {
	case err != nil:
		return b[:start], fmt.Errorf("events: message for topic %q: %w", topic, err)
	case len(encoded) > MaxEventBytes:
		return b[:start], fmt.Errorf("events: message of %d bytes for topic %q: want at most %d", len(encoded), topic, MaxEventBytes)
	}
	e.payload = encoded
	return e.append(b), nil
}

// send publishes batches until the client is closed.
func (c *Client) send() {
	p := &c.publisher
	sender := &sender{c: c, proxies: make([]*core.Proxy, len(c.nodes))}
	defer sender.close()
	for at := range c.rounds() {
		sender.at = at
		break
	}
	for {
		batch := p.take()
		if batch == nil {
			select {
			case <-p.work:
				continue
			case <-c.ctx.Done():
				return
			}
		}
		batch.err = sender.publish(batch)
		p.mu.Lock()
		if p.failure == nil {
			p.failure = batch.err
		}
		p.mu.Unlock()
		close(batch.done)
	}
}

// take returns the oldest batch; nil if there is nothing to send.
func (p *publisher) take() *outgoingBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b *outgoingBatch
	if len(p.waiting) > 0 {
		b = p.waiting[0]
		p.waiting = append(p.waiting[:0], p.waiting[1:]...)
	} else {
		b, p.filling = p.filling, nil
	}
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
	return b
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
	wait := nodePause
	for tries := 1; ; tries++ {
		err := s.try(first, b.events)
		if err == nil || s.c.ctx.Err() != nil {
			return err
		}
		if core.OutcomeOf(err) == core.CallUnknown {
			s.at = (s.at + 1) % len(s.proxies) // the next batch has better chances there
			return err
		}
		if !elsewhere(err) || time.Now().After(until) {
			return err
		}
		s.c.opts.Logger.Debug("events: publish", "node", s.c.nodes[s.at].String(), "error", err)
		s.at = (s.at + 1) % len(s.proxies)
		if tries%len(s.proxies) == 0 {
			if !pause(s.c.ctx, wait) {
				return core.ErrClosed
			}
			wait = min(2*wait, maxPause)
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
