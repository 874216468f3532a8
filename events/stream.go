package events

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	maxSilence    = 30 * time.Second // until a stream that nobody reads ends
	maxReadWait   = 10 * time.Second
	maxReadEvents = 4096
	reapInterval  = time.Second
)

// stream is a subscriber that asks for its events.
type stream struct {
	id       string
	patterns []Pattern
	queue    *queue

	reading  int       // calls under way; guarded by Broker.mu, as is what follows
	lastRead time.Time // when one ended
}

// openStream returns the id of a new stream once the other nodes know what it wants.
func (b *Broker) openStream(ctx context.Context, patterns []Pattern, policy Policy, capacity int) (string, error) {
	var random [16]byte
	rand.Read(random[:])
	s := &stream{id: hex.EncodeToString(random[:]), patterns: patterns, queue: newQueue(policy, capacity, b.drop), lastRead: time.Now()}
	b.mu.Lock()
	switch {
	case !b.Running() || b.draining:
		b.mu.Unlock()
		return "", errNotRunning()
	case len(b.streams) >= maxStreams:
		b.mu.Unlock()
		return "", core.PyroError.New("this node has %d event streams already, which is the most: use another node", maxStreams)
	}
	b.streams[s.id] = s
	for _, p := range patterns {
		b.local.add(p, s)
		b.interest.add(p, policy == Block)
	}
	version := b.interest.version
	b.wakePeers()
	b.mu.Unlock()
	b.waitTold(ctx, version, 0)
	return s.id, nil
}

// readStream returns a batch of the stream's events, after at most wait.
func (b *Broker) readStream(ctx context.Context, id string, wait time.Duration) *outgoing {
	b.mu.Lock()
	s := b.streams[id]
	if s == nil {
		b.mu.Unlock()
		return &outgoing{status: streamGone, reason: "unknown stream"}
	}
	s.reading++
	b.mu.Unlock()
	reply, ended := s.read(ctx, min(max(wait, 0), maxReadWait), &b.counters)
	b.mu.Lock()
	s.reading--
	s.lastRead = time.Now()
	b.mu.Unlock()
	if ended {
		b.closeStream(id)
	}
	return reply
}

// outgoing is a batch that is encoded when the answer to the client is written.
type outgoing struct {
	status  batchStatus
	lost    uint64
	reason  string
	events  []*routed
	scratch *[]*routed // where events are
}

// takenEvents are slices for events on their way from a queue into a batch.
var takenEvents = sync.Pool{New: func() any { return new([]*routed) }}

// AppendBytes implements [core.BytesAppender].
func (o *outgoing) AppendBytes(dst []byte) []byte {
	n := maxEndReason + 16
	for _, e := range o.events {
		n += len(e.wire) + 1
	}
	dst = appendRuns(appendBatchHeader(slices.Grow(dst, n), o.status, o.lost, o.reason), o.events)
	if o.scratch != nil {
		clear(o.events)
		*o.scratch = o.events
		takenEvents.Put(o.scratch)
		o.events, o.scratch = nil, nil
	}
	return dst
}

func (s *stream) read(ctx context.Context, wait time.Duration, counted *counters) (o *outgoing, ended bool) {
	deadline := time.Now().Add(wait)
	scratch := takenEvents.Get().(*[]*routed)
	t := s.queue.take(*scratch, maxReadEvents, batchBytes)
	for len(t.events) == 0 && t.loss == (loss{}) && !t.ended && ctx.Err() == nil {
		left := time.Until(deadline)
		if left <= 0 {
			break
		}
		s.queue.wait(ctx, left)
		t = s.queue.take(*scratch, maxReadEvents, batchBytes)
	}
	o = &outgoing{status: streamOpen, lost: t.lost, reason: t.gap, events: t.events, scratch: scratch}
	switch {
	case t.ended && t.reason != "":
		o.status, o.reason = streamCut, t.reason
	case t.ended:
		o.status, o.reason = streamGone, errDraining.Error()
	}
	counted.streams.Add(uint64(len(t.events)))
	return o, t.ended
}

// closeStream forgets a stream; an unknown one is no error.
func (b *Broker) closeStream(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.streams[id]
	if s == nil {
		return
	}
	delete(b.streams, id)
	b.local.removeValue(s)
	for _, p := range s.patterns {
		b.interest.remove(p, s.queue.blocks())
	}
	b.wakePeers()
	s.queue.discard(dropGone)
}

// reapStreams ends streams that nobody reads any more.
func (b *Broker) reapStreams() {
	ticker := time.NewTicker(reapInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.ctx.Done():
			return
		}
		for _, id := range b.silentStreams(time.Now()) {
			b.closeStream(id)
		}
	}
}

func (b *Broker) silentStreams(now time.Time) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, s := range b.streams {
		if s.reading == 0 && now.Sub(s.lastRead) > maxSilence {
			ids = append(ids, id)
		}
	}
	return ids
}
