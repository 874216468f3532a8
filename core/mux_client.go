package core

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxSlots is how many calls a connection has under way at most; more go over other connections.
const maxSlots = 4096

// muxConn is a connection on which a proxy makes many calls at once.
//
// There is no goroutine that writes: callers append their requests to one buffer, and the first of them writes for all.  Nor is there one that
// reads while calls come one at a time: the caller reads its own reply.  Only when others wait as well does a goroutine of the connection read.
type muxConn struct {
	c *clientConn // its wire is read by who leads

	mu      sync.Mutex // guards what follows
	out     []byte     // requests that are to be written
	spare   []byte
	free    []*slot
	queued  uint64 // bytes that were ever put into out
	handed  uint64 // of those, bytes that were given to a write, which may have sent them though it has not returned
	written uint64 // of those, bytes that were surely written
	retired bool   // takes no more calls
	err     error  // ended everything
	reading bool   // the reading goroutine was started
	room    sync.Cond

	flushing atomic.Bool             // somebody writes; changes under mu
	slots    atomic.Pointer[[]*slot] // by sequence number; replaced as a whole when one is added
	inflight atomic.Int32            // calls without an answer
	given    atomic.Int32            // of those, calls whose callers gave up
	heard    atomic.Uint64           // messages
	leading  atomic.Bool             // somebody reads
	lead     chan struct{}           // hands reading to the goroutine
	closed   chan struct{}
	end      sync.Once

	checking sync.Mutex // held by who looks whether the connection can be used

	poller    *poller // of who leads
	scatters  bool    // what is written may be in several pieces of memory, and writing may be interrupted
	large     *slot   // whose reply is being read straight into its memory
	largeHead header
}

// slot is a place for a call and its reply, and the call's sequence number.
type slot struct {
	seq   uint16
	state atomic.Int32
	done  chan struct{} // has room for the one signal that the call has ended
	own   bool          // it ended, as its caller saw itself, which read
	start uint64        // of the request, in the bytes ever queued
	reply []byte        // annotations and payload
	head  header
	err   error // in place of a reply
}

// The states of a slot.
const (
	slotFree int32 = iota
	slotWaiting
	slotEnded     // the caller has yet to look
	slotAbandoned // the caller gave up; free once the reply has come
)

func newMuxConn(c *clientConn) *muxConn {
	m := &muxConn{c: c, lead: make(chan struct{}, 1), closed: make(chan struct{}), poller: newPoller(c.nc)}
	m.scatters = scatters(c.nc)
	m.room.L = &m.mu
	m.slots.Store(new([]*slot))
	return m
}

// errRetired says that nothing was sent, since the connection takes no more calls.
var errRetired = errors.New("core: the connection takes no more calls")

// errFull says that nothing was sent, since too many calls are under way.
var errFull = errors.New("core: too many calls under way on the connection")

// closeTimeout is how long a peer may take for what was sent without waiting when a proxy is closed.
const closeTimeout = time.Second

// Close ends the connection, and with it the calls under way.
func (m *muxConn) Close() error {
	late := time.AfterFunc(closeTimeout, func() { m.fail(ErrClosed) })
	defer late.Stop()
	m.flush()
	m.fail(ErrClosed)
	return nil
}

// fail ends everything; later calls of it do nothing.
func (m *muxConn) fail(err error) {
	m.end.Do(func() {
		m.mu.Lock()
		m.err, m.retired = err, true
		slots := *m.slots.Load()
		sent := m.handed
		if _, ok := errors.AsType[writeError](err); ok {
			sent = m.written // no other write is under way
		}
		m.room.Broadcast()
		m.mu.Unlock()
		close(m.closed)
		m.c.proxy.leave(m)
		m.c.Close()
		for _, s := range slots {
			s.fail(m.c.fault(opRead, s.start < sent || !m.c.exact, err))
		}
	})
}

func (s *slot) fail(err error) {
	if s.state.CompareAndSwap(slotWaiting, slotEnded) {
		s.err = err
		s.done <- struct{}{}
	}
}

// retire takes the connection out of use for new calls.
func (m *muxConn) retire() {
	m.mu.Lock()
	m.retired = true
	m.mu.Unlock()
	m.c.proxy.mux.CompareAndSwap(m, nil)
	m.endIfIdle()
}

// endIfIdle ends a connection that is retired once nobody waits for a reply on it and all is written.
func (m *muxConn) endIfIdle() {
	m.mu.Lock()
	idle := m.retired && m.inflight.Load() == m.given.Load() && len(m.out) == 0 && !m.flushing.Load()
	m.mu.Unlock()
	if idle {
		m.fail(ErrClosed)
	}
}

// request is a message that is to be sent.
type request struct {
	reply bool   // one is waited for
	ready []byte // the whole message, but for its number; nil if it is made of what follows
	sent  int    // its length, once it was appended

	v           *Invocation
	object      string
	h           header
	annotations Annotations
	patience    int64 // milliseconds
}

// large are the bytes that append leaves out.
func (r *request) large() []byte {
	if r.ready != nil {
		return nil
	}
	return r.v.Args.large
}

// append appends the message without its large bytes, which belong at cut.
func (r *request) append(b []byte, seq uint16) (_ []byte, cut int, err error) {
	start := len(b)
	if r.ready != nil {
		b = append(b, r.ready...)
		binary.BigEndian.PutUint16(b[start+10:], seq)
	} else {
		r.h.seq = seq
		b, cut, err = r.v.appendMessage(b, r.object, &r.h, r.annotations, r.patience)
	}
	r.sent = len(b) - start + len(r.large())
	return b, cut, err
}

// compress makes the message ready, compressed: where many callers share a connection doing that later would keep others waiting.
func (r *request) compress() error {
	r.v.Args.join()
	b, _, err := r.append(nil, 0)
	if err == nil {
		r.ready = compressMessage(b, 0)
	}
	return err
}

// send puts a message into the buffer and has it written.  The slot is nil of a message without a reply.
func (m *muxConn) send(ctx context.Context, r *request) (*slot, error) {
	large := r.large()
	m.mu.Lock()
	defer m.mu.Unlock()
	if large != nil && m.flushing.Load() {
		m.awaitTurnLocked(ctx)
		if ctx.Err() != nil {
			return nil, m.c.fault(opSend, false, contextError(ctx))
		}
	}
	if m.retired {
		return nil, errRetired
	}
	var s *slot
	seq := uint16(0)
	if r.reply {
		if s = m.takeSlot(); s == nil {
			return nil, errFull
		}
		seq = s.seq
	}
	before := len(m.out)
	out, cut, err := r.append(m.out, seq)
	if err != nil {
		if s != nil {
			m.free = append(m.free, s)
		}
		return nil, &LocalError{Err: err}
	}
	m.out = out
	others := false
	if s != nil {
		s.start = m.queued
		s.err, s.own = nil, false
		s.state.Store(slotWaiting)
		others = m.inflight.Add(1) > 1
	}
	m.queued += uint64(len(out) - before + len(large))
	switch {
	case large != nil && m.flushing.Load():
		m.out = slices.Insert(m.out, cut, large...)
	case large != nil:
		m.writeLargeLocked(ctx, large, cut)
	case s == nil:
		return nil, m.postLocked()
	default:
		m.flushLocked(ctx, others)
	}
	return s, nil
}

// awaitTurnLocked waits for those who write, but not for all of many, nor longer than ctx.
func (m *muxConn) awaitTurnLocked(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.room.Broadcast()
	})
	defer stop()
	for waits := 0; waits < largeWaits && m.flushing.Load() && m.err == nil && ctx.Err() == nil; waits++ {
		m.room.Wait()
	}
}

// writeLargeLocked writes the buffer, with the caller's bytes in it at cut, and then what others put there meanwhile.  When ctx ends before the peer
// has taken all, somebody else goes on with a copy, since the bytes are the caller's again then.
func (m *muxConn) writeLargeLocked(ctx context.Context, large []byte, cut int) {
	out := m.out
	m.out, m.handed = m.spare[:0], m.queued
	m.flushing.Store(true)
	m.mu.Unlock()
	parts := net.Buffers{out[:cut], large, out[cut:]}
	n, err := m.writeParts(ctx, &parts)
	m.mu.Lock()
	m.written += uint64(n)
	if err != nil && ctx.Err() != nil && isTimeout(err) {
		m.out = append(slices.Concat(parts...), m.out...)
		m.handed = m.written
		go m.writeRest()
		return
	}
	m.wroteLocked(out, err)
	m.writeLocked()
}

// writeParts writes until ctx ends; what is left then is in parts.
func (m *muxConn) writeParts(ctx context.Context, parts *net.Buffers) (int64, error) {
	if ctx.Done() != nil {
		cut := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			m.c.nc.SetWriteDeadline(longAgo)
			close(cut)
		})
		defer func() {
			if !stop() {
				<-cut
				m.c.nc.SetWriteDeadline(time.Time{})
			}
		}()
	}
	return parts.WriteTo(m.c.nc)
}

// writeRest writes the buffer for callers who do not; m.flushing is set.
func (m *muxConn) writeRest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeLocked()
}

// takeSlot returns a slot that is free, or nil.
func (m *muxConn) takeSlot() *slot {
	if n := len(m.free); n > 0 {
		s := m.free[n-1]
		m.free = m.free[:n-1]
		return s
	}
	old := *m.slots.Load()
	if len(old) == maxSlots {
		return nil
	}
	s := &slot{seq: uint16(len(old)), done: make(chan struct{}, 1)}
	slots := make([]*slot, len(old)+1, max(8, 2*len(old)))
	if cap(old) > len(old) {
		slots = old[:len(old)+1] // readers of the shorter one do not see it
	} else {
		copy(slots, old)
	}
	slots[len(old)] = s
	m.slots.Store(&slots)
	return s
}

func (m *muxConn) giveBack(s *slot) {
	s.reply = keepLarge(s.reply)
	s.state.Store(slotFree)
	m.mu.Lock()
	m.free = append(m.free, s)
	m.mu.Unlock()
}

// keepSharedBytes is the size of the largest buffer for requests that a connection keeps: it is the one of many callers.
const keepSharedBytes = 1 << 20

// postBytes is how much is left to somebody else to write before the one who posts does it.
const postBytes = 32 << 10

// postLocked has what is in the buffer written soon: by another goroutine, so that many messages that are not waited for share a system call.
func (m *muxConn) postLocked() error {
	for m.flushing.Load() && len(m.out) >= maxCombined && m.err == nil {
		m.room.Wait()
	}
	switch {
	case m.flushing.Load():
	case len(m.out) >= postBytes:
		m.flushLocked(context.Background(), false)
	default:
		m.flushing.Store(true)
		go m.writeRest()
	}
	if m.err != nil && m.written < m.queued {
		return m.c.fault(opSend, true, m.err)
	}
	return nil
}

// flush writes what is in the buffer and waits for those who write.
func (m *muxConn) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.flushing.Load() && m.err == nil {
		m.room.Wait()
	}
	m.flushLocked(context.Background(), false)
}

// patientBytes is how much a caller whose time is bounded writes itself: more may have to wait for the peer.
const patientBytes = 16 << 10

// flushLocked writes the buffer, or has it written, unless another goroutine does.
func (m *muxConn) flushLocked(ctx context.Context, others bool) {
	if m.flushing.Load() || m.err != nil {
		return
	}
	m.flushing.Store(true)
	if len(m.out) > patientBytes && ctx.Done() != nil {
		go m.writeRest()
		return
	}
	if others { // let those who can run append first
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
	}
	m.writeLocked()
}

// writeLocked writes until the buffer is empty; m.flushing is set.
func (m *muxConn) writeLocked() {
	for len(m.out) > 0 && m.err == nil {
		out := m.out
		m.out, m.handed = m.spare[:0], m.queued
		m.mu.Unlock()
		n, err := m.c.write(out)
		m.mu.Lock()
		m.written += uint64(n)
		m.wroteLocked(out, err)
	}
	m.flushing.Store(false)
	m.room.Broadcast()
	if m.retired && m.err == nil {
		m.mu.Unlock()
		m.endIfIdle()
		m.mu.Lock()
	}
}

// wroteLocked keeps the memory of what was written, and ends the connection if that failed.
func (m *muxConn) wroteLocked(out []byte, err error) {
	if m.spare = out[:0]; cap(out) > keepSharedBytes {
		m.spare = keepLarge(out)
	}
	if err != nil {
		m.mu.Unlock()
		m.fail(writeError{err})
		m.mu.Lock()
	}
	m.room.Broadcast()
}

// writeError is why a connection ended whose requests could not be written.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// await waits for the reply of s, and reads it if nobody else reads.
func (m *muxConn) await(ctx context.Context, s *slot) error {
	heard := m.heard.Load()
	if m.leading.CompareAndSwap(false, true) {
		m.leadUntil(ctx, s)
		m.handOver()
	}
	if s.own {
		s.own = false
		return s.err
	}
	select {
	case <-s.done:
		return s.err
	default:
	}
	if ctx.Done() == nil {
		<-s.done
		return s.err
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return m.abandon(ctx, s, heard)
	}
}

// abandon gives a call up whose context has ended.
func (m *muxConn) abandon(ctx context.Context, s *slot, heard uint64) error {
	m.given.Add(1)
	if !s.state.CompareAndSwap(slotWaiting, slotAbandoned) {
		m.given.Add(-1)
		<-s.done // it came at the last moment
		return s.err
	}
	if m.heard.Load() == heard && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		m.retire() // nothing was heard since: the way may be dead, and a new connection finds out
	}
	m.endIfRetired()
	return &abandoned{m.c.fault(opRead, true, contextError(ctx))}
}

// abandoned is the error of a call whose slot is not the caller's any more.
type abandoned struct{ error }

func (e *abandoned) Unwrap() error { return e.error }

// leadUntil reads until the call of s has ended or ctx has.
func (m *muxConn) leadUntil(ctx context.Context, s *slot) {
	if ctx.Done() != nil {
		cut := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			m.c.nc.SetReadDeadline(longAgo)
			close(cut)
		})
		defer func() {
			if !stop() {
				<-cut
				m.c.nc.SetReadDeadline(time.Time{})
			}
		}()
	}
	for !s.own && s.state.Load() == slotWaiting {
		if _, err := m.step(s); err != nil {
			if ctx.Err() != nil && isTimeout(err) {
				return
			}
			m.fail(err)
			return
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// handOver gives reading to the goroutine if calls are under way, else nobody reads.
func (m *muxConn) handOver() {
	if m.inflight.Load() == 0 {
		m.leading.Store(false)
		if m.inflight.Load() == 0 || !m.leading.CompareAndSwap(false, true) {
			return
		}
	}
	m.mu.Lock()
	if !m.reading {
		m.reading = true
		go m.read()
	}
	m.mu.Unlock()
	m.lead <- struct{}{}
}

// lonelyReads is after how many replies that came alone the goroutine leaves reading to callers again.
const lonelyReads = 16

// read is the goroutine that reads while several calls are under way.
func (m *muxConn) read() {
	for {
		select {
		case <-m.lead:
		case <-m.closed:
			return
		}
		for lonely := 0; ; {
			n, err := m.step(nil)
			if err != nil {
				m.fail(err)
				return
			}
			if lonely++; n > 1 {
				lonely = 0
			}
			if m.inflight.Load() > 0 || lonely < lonelyReads && n > 0 && m.expectsMore() {
				continue
			}
			m.leading.Store(false)
			if m.inflight.Load() == 0 || !m.leading.CompareAndSwap(false, true) {
				break
			}
		}
	}
}

// expectsMore gives callers that were just woken the chance to make their next calls.
func (m *muxConn) expectsMore() bool {
	runtime.Gosched()
	return m.inflight.Load() > 0
}

// step reads once and delivers the replies that are complete then; it returns how many.
func (m *muxConn) step(me *slot) (n int, err error) {
	if m.large != nil {
		return m.stepLarge(me)
	}
	n, missing, err := m.deliverAll(me)
	if n > 0 || err != nil || m.large != nil {
		return n, err
	}
	w := m.c.wire
	if me != nil && m.inflight.Load() == 1 {
		w.r.poll(m.poller) // a lone caller
	}
	if w.r.Buffered() >= missing {
		n, _, err = m.deliverAll(me)
		return n, err
	}
	if err := w.r.fill(missing); err != nil {
		return 0, torn2(err, w.r.Buffered())
	}
	n, _, err = m.deliverAll(me)
	return n, err
}

// deliverAll delivers the replies that were read ahead.  It returns how many, and of how many bytes the next one is.
func (m *muxConn) deliverAll(me *slot) (n, missing int, err error) {
	w := m.c.wire
	for w.r.Buffered() >= headerBytes {
		b, err := w.r.Peek(headerBytes)
		if err != nil {
			return n, 0, err
		}
		h, err := parseHeader(b, w.limit)
		if err != nil {
			return n, 0, err
		}
		size := headerBytes + int(h.bodyLen())
		switch {
		case w.r.Buffered() >= size:
			if b, err = w.r.Peek(size); err == nil {
				err = m.deliver(me, h, b[headerBytes:])
			}
			if err != nil {
				return n, 0, err
			}
			w.r.Discard(size)
			n++
		case size > maxReadBuffer:
			w.r.Discard(headerBytes)
			return n, 0, m.beginLarge(h)
		default:
			return n, size, nil
		}
	}
	return n, headerBytes, nil
}

// torn2 tells the end between messages from one inside of a message.
func torn2(err error, buffered int) error {
	if buffered > 0 {
		return torn(err)
	}
	return err
}

// beginLarge makes the slot of a large reply the place that it is read into.
func (m *muxConn) beginLarge(h header) error {
	s, err := m.slotOf(h)
	if err != nil {
		return err
	}
	size := int(h.bodyLen())
	if cap(s.reply) < size {
		s.reply = getLarge(size)
	}
	if cap(s.reply) == 0 {
		s.reply = make([]byte, 0, nextStep(size, m.c.wire.r.Buffered()))
	}
	s.reply = s.reply[:0]
	m.large, m.largeHead = s, h
	return nil
}

// stepLarge reads more of a large reply.
func (m *muxConn) stepLarge(me *slot) (int, error) {
	s, size := m.large, int(m.largeHead.bodyLen())
	if len(s.reply) == cap(s.reply) {
		s.reply = append(make([]byte, 0, nextStep(size, cap(s.reply))), s.reply...)
	}
	n, err := m.c.wire.r.Read(s.reply[len(s.reply):min(cap(s.reply), size)])
	s.reply = s.reply[:len(s.reply)+n]
	if len(s.reply) == size {
		m.large = nil
		m.ended(me, s, m.largeHead)
		return 1, nil
	}
	if err != nil {
		return 0, torn(err)
	}
	return 0, nil
}

// slotOf returns the slot of a reply.
func (m *muxConn) slotOf(h header) (*slot, error) {
	if slots := *m.slots.Load(); int(h.seq) < len(slots) {
		if s := slots[h.seq]; s.state.Load() == slotWaiting || s.state.Load() == slotAbandoned {
			return s, nil
		}
	}
	return nil, protocolError("reply %d to no call", h.seq)
}

// deliver hands a message to whom it is for.
func (m *muxConn) deliver(me *slot, h header, body []byte) error {
	if h.typ == msgResult && h.seq == drainSeq {
		m.heard.Add(1)
		m.retire()
		return nil
	}
	s, err := m.slotOf(h)
	if err != nil {
		return err
	}
	s.reply = append(s.reply[:0], body...)
	m.ended(me, s, h)
	return nil
}

// ended tells the caller that its reply is there.
func (m *muxConn) ended(me, s *slot, h header) {
	m.heard.Add(1)
	s.head = h
	left := m.inflight.Add(-1)
	switch {
	case !s.state.CompareAndSwap(slotWaiting, slotEnded):
		if h.flags&flagItemStream != 0 {
			m.dropStream(s)
		}
		m.given.Add(-1)
		m.giveBack(s)
	case s == me:
		s.own = true
	default:
		s.done <- struct{}{}
	}
	if left == 0 {
		m.endIfRetired()
	}
}

// endIfRetired is endIfIdle for who reads and need not lock otherwise.
func (m *muxConn) endIfRetired() {
	m.mu.Lock()
	retired := m.retired && m.err == nil
	m.mu.Unlock()
	if retired {
		m.endIfIdle()
	}
}

// isQuiet reports whether a connection on which nothing is under way can be used.
func (m *muxConn) isQuiet() bool {
	if m.inflight.Load() != 0 {
		return true // who reads finds out
	}
	m.checking.Lock() // one looks, and the others wait for what it sees
	defer m.checking.Unlock()
	if m.stillOpen() != nil {
		return false
	}
	if m.inflight.Load() != 0 || !m.leading.CompareAndSwap(false, true) {
		return true
	}
	quiet := m.c.isQuiet() || m.inflight.Load() != 0 // what came may be for a call that was made meanwhile
	m.handOver()
	if !quiet {
		m.fail(io.EOF)
	}
	return quiet
}

// roundTrip makes a call and has take look at its reply, which is valid only then.
func (m *muxConn) roundTrip(ctx context.Context, r *request, take func(s *slot, reply message) error) error {
	if ctx.Err() != nil {
		return m.c.fault(opSend, false, contextError(ctx))
	}
	if !m.isQuiet() {
		return errRetired
	}
	s, err := m.send(ctx, r)
	if err != nil {
		return err
	}
	if err := m.await(ctx, s); err != nil {
		if e, ok := errors.AsType[*abandoned](err); ok {
			return e.error
		}
		return m.brokenBy(ctx, err)
	}
	reply, err := parseBody(s.head, s.reply, m.c.limit)
	if err != nil {
		m.fail(err)
		return m.c.fault(opRead, true, err)
	}
	reply.size = headerBytes + len(s.reply)
	err = take(s, reply)
	m.giveBack(s)
	return err
}

// brokenBy is the error of a call whose connection ended.
func (m *muxConn) brokenBy(ctx context.Context, err error) error {
	e, ok := errors.AsType[*TransportError](err)
	if !ok {
		return err
	}
	own := *e
	if _, writing := errors.AsType[writeError](own.Err); writing {
		own.Op = opSend
	}
	if ctx.Err() != nil {
		own.Err = contextError(ctx)
	} else if errors.Is(own.Err, net.ErrClosed) {
		own.Err = ErrClosed
	}
	return &own
}

// ping sends PING and waits for its echo.
func (m *muxConn) ping(ctx context.Context) error {
	b, err := appendMessage(nil, header{typ: msgPing, serializer: pingSerializer}, nil, []byte("ping"))
	if err != nil {
		return err
	}
	return m.roundTrip(ctx, &request{reply: true, ready: b}, func(_ *slot, reply message) error {
		if reply.typ != msgPing {
			return m.badReply(protocolError("answer to PING has type %d, want %d", reply.typ, msgPing))
		}
		return nil
	})
}

// badReply gives up a connection whose peer does not keep to the protocol.
func (m *muxConn) badReply(err error) error {
	m.fail(err)
	return m.c.fault(opRead, true, err)
}

// invoke makes a call.
func (m *muxConn) invoke(ctx context.Context, v *Invocation, flags uint16, o *Observation) error {
	if err := v.Args.err; err != nil {
		return &LocalError{Err: fmt.Errorf("core: %s: %w", v.method, err)}
	}
	out := outgoingFrom(ctx)
	var r request // not as a whole: that would be copied
	r.reply = flags&flagOneway == 0
	r.v, r.object, r.annotations = v, cmp.Or(v.object, m.c.object), out.annotations
	r.h.typ, r.h.serializer, r.h.flags = msgInvoke, msgpackID, flags
	if out.hasID {
		r.h.flags |= flagCorrelationID
		r.h.correlationID = out.correlationID
	}
	if deadline, ok := ctx.Deadline(); ok {
		r.patience = max(time.Until(deadline).Milliseconds(), 1)
	}
	switch {
	case m.c.proxy.opts.Compress:
		if err := r.compress(); err != nil {
			return &LocalError{Err: err}
		}
	case !m.scatters:
		v.Args.join()
	}
	if o != nil {
		defer func() { o.Sent += r.sent }()
	}
	if !r.reply {
		return m.post(ctx, v, &r)
	}
	return m.roundTrip(ctx, &r, func(s *slot, reply message) error {
		if o != nil {
			o.Received += reply.size
		}
		if out.reply != nil {
			*out.reply = reply.annotationMap()
		}
		return m.take(ctx, s, reply, v)
	})
}

// take makes the payload of a reply the result of v, or returns the exception in it.
func (m *muxConn) take(ctx context.Context, s *slot, reply message, v *Invocation) error {
	switch {
	case reply.typ != msgResult:
		return m.badReply(errMessageType(reply.typ, "5"))
	case reply.serializer != msgpackID:
		return m.badReply(&wireError{SerializeError, fmt.Sprintf("invalid serializer in response: %d", reply.serializer)})
	case reply.flags&flagItemStream != 0: // an exception for those who do not know streams
		return m.stream(ctx, reply, v)
	case reply.flags&flagException != 0:
		return m.exception(reply)
	}
	s.reply, v.reply = v.reply[:0], s.reply
	if err := v.setResult(m.c.serializer, reply.payload); err != nil {
		return m.badReply(err)
	}
	return nil
}

// exception is the exception in a reply.
func (m *muxConn) exception(reply message) error {
	if _, ok := reply.annotation(annotationDeadline); ok {
		return m.c.fault(opRead, true, context.DeadlineExceeded) // as this side is about to see itself
	}
	e, err := m.c.exceptionIn(reply)
	if err != nil {
		return m.badReply(err)
	}
	if e.NotExecuted && e.Is(CommunicationError) {
		m.retire() // the server shuts down
	}
	return e
}

// stream makes the stream in a reply the result of v.
func (m *muxConn) stream(ctx context.Context, reply message, v *Invocation) error {
	id, _ := reply.annotation(annotationStream)
	if len(id) == 0 {
		return m.badReply(protocolError("result of call is an iterator, but the server is not configured to allow streaming"))
	}
	v.setStored(&Stream{mux: m, id: string(id)})
	return nil
}

// dropStream closes a stream that came when its caller had given up.  Who reads must not wait until that can be written.
func (m *muxConn) dropStream(s *slot) {
	reply, err := parseBody(s.head, s.reply, m.c.limit)
	if err != nil {
		return
	}
	if id, ok := reply.annotation(annotationStream); ok {
		go (&Stream{mux: m, id: string(id)}).drop() // ends with the connection at the latest
	}
}

// post sends a call without a reply: it is written soon.
func (m *muxConn) post(ctx context.Context, v *Invocation, r *request) error {
	if ctx.Err() != nil {
		return m.c.fault(opSend, false, contextError(ctx))
	}
	if !m.flushing.Load() && !m.isQuiet() {
		return errRetired
	}
	_, err := m.send(ctx, r)
	if err == nil {
		v.setStored(nil)
	}
	return err
}

// again reports whether a call is to be made over another connection: nothing of it was sent on this one, which was there before the call.
func (m *muxConn) again(ctx context.Context, err error) bool {
	return err == errRetired || err != nil && isUnwritten(err) && ctx.Err() == nil && !errors.Is(err, ErrClosed)
}

// stillOpen returns why the connection has ended, if it has: by Close of the proxy, perhaps, which did not know it yet.
func (m *muxConn) stillOpen() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// callBoxed makes a call whose arguments and result are Go values of any kind.
func (m *muxConn) callBoxed(ctx context.Context, x member, r Request, flags uint16, out any, o *Observation) error {
	own, err := m.c.proxy.flags(x, m.c.members)
	if err != nil {
		return err
	}
	v := NewInvocation(r.Method)
	defer v.Free()
	v.Args.daemon = m.c.proxy.daemon(ctx)
	for _, a := range r.Args {
		v.Args.Value(a)
	}
	v.kwargs, v.noKwargs = r.Kwargs, r.Kwargs == nil
	if err := m.invoke(ctx, v, flags|own, o); err != nil {
		return err
	}
	if s, ok := v.Result.value.(*Stream); ok {
		v.Result = Decoder{}
		_, err := s.storeIn(ctx, r.Method, out)
		return err
	}
	if out == nil || storeRaw(out, m.c.serializer, v.Result.b) {
		return nil
	}
	v.Result.Value(out)
	return v.Result.Err()
}
