package core

import (
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// directCall is the context of a method that is run without boxing.  Methods may keep theirs, so the memory of one serves no other call: it is
// small, and what few methods ask for is made when they do.
type directCall struct {
	conn          *serverConn
	method        *Method
	full          atomic.Pointer[servedCall]
	correlationID [16]byte // not set of a call with callUnnamed
	timing        uint64   // ms from the start of the program to the deadline, 0 if the caller has none, then callUnnamed, and the sequence number in the low 16 bits
}

const (
	callUnnamed  = 1 << 16 // a oneway call whose caller gave no correlation id: it gets one when somebody asks
	callDeadline = 17      // where the deadline begins
)

// bounded reports whether the caller waits until a deadline.
func (c *directCall) bounded() bool { return c.timing>>callDeadline != 0 }

func (c *directCall) deadline() time.Time {
	return programStart.Add(time.Duration(c.timing>>callDeadline) * time.Millisecond)
}

func (c *directCall) setDeadline(t time.Time) {
	ms := max(t.Sub(programStart).Milliseconds()+1, 1)
	c.timing = uint64(ms)<<callDeadline | c.timing&(1<<callDeadline-1)
}

// instant is a time since the start of the program, which takes less room than a time.Time.
type instant time.Duration

var programStart = time.Now()

func now() instant { return instant(time.Since(programStart)) }

// endedCall is in place of a servedCall when a bounded call's method has returned and nobody had asked for it: its context has ended then, too.
var endedCall servedCall

// served returns the call as other code knows it.
func (c *directCall) served() *servedCall {
	for {
		known := c.full.Load()
		if known != nil && known != &endedCall {
			return known
		}
		s := &servedCall{Context: c.conn.ctx, conn: c.conn, answered: known == &endedCall, info: CallInfo{Object: c.method.object, Method: c.method.Name,
			Peer: c.conn.peer, TLS: c.conn.tls, Principal: c.conn.principal, Serializer: "msgpack", Sequence: uint16(c.timing), CorrelationID: c.correlationID}}
		if c.bounded() {
			s.deadline = c.deadline()
		}
		if c.timing&callUnnamed != 0 {
			s.info.CorrelationID = newCorrelationID()
		}
		if c.full.CompareAndSwap(known, s) {
			return s
		}
	}
}

// end is called when the method has returned.  It returns the annotations of the reply.
func (c *directCall) end() Annotations {
	if c.conn.d.opts.ReplyAnnotations != nil {
		return c.served().takeReply()
	}
	if c.bounded() && c.full.CompareAndSwap(nil, &endedCall) {
		return nil
	}
	if s := c.full.Load(); s != nil {
		return s.takeReply()
	}
	return nil
}

// Deadline implements context.Context, as the methods below do.
func (c *directCall) Deadline() (time.Time, bool) {
	if !c.bounded() {
		return c.conn.ctx.Deadline()
	}
	return c.served().Deadline()
}

func (c *directCall) Done() <-chan struct{} {
	if !c.bounded() {
		return c.conn.ctx.Done()
	}
	return c.served().Done()
}

func (c *directCall) Err() error {
	if !c.bounded() {
		return c.conn.ctx.Err()
	}
	return c.served().Err()
}

func (c *directCall) Value(key any) any {
	switch key.(type) {
	case servedCallKey:
		return c.served()
	case outgoingKey:
		s := c.full.Load() // is there if the request has annotations
		if c.timing&callUnnamed != 0 {
			s = c.served()
		}
		if s != nil && s != &endedCall {
			return outgoingFrom(c.conn.ctx).serving(&s.info)
		}
		return outgoingFrom(c.conn.ctx).withID(c.correlationID)
	}
	return c.conn.ctx.Value(key)
}

// late returns an error if nobody waits for the call any more.
func (c *directCall) late() error {
	if c.bounded() && !time.Now().Before(c.deadline()) {
		return errLate
	}
	return nil
}

// maxSlab is how many calls of a busy connection share an allocation.
const maxSlab = 16

// nextCall makes the context of a method, as newCall does.
func (c *turn) nextCall(m *message, method *Method) *directCall {
	if len(c.calls) == 0 {
		c.slab = min(max(2*c.slab, 1), maxSlab)
		c.calls = make([]directCall, c.slab)
	}
	call := &c.calls[0]
	c.calls = c.calls[1:]
	call.conn, call.method, call.timing = c.serverConn, method, uint64(m.seq)
	switch {
	case m.flags&flagCorrelationID != 0:
		call.correlationID = m.correlationID
	case m.flags&flagOneway != 0:
		call.timing |= callUnnamed
	default: // the reply carries it
		if c.ids == nil {
			c.ids = rand.NewPCG(rand.Uint64(), rand.Uint64())
		}
		putCorrelationID(&call.correlationID, c.ids.Uint64(), c.ids.Uint64())
	}
	if len(m.annotations) > 0 {
		call.annotate(m)
	}
	return call
}

// annotate takes the annotations of a request.
func (c *directCall) annotate(m *message) {
	if isDeadlineAlone(m.annotations) { // all that most requests have
		c.setDeadline(time.Now().Add(time.Duration(binary.BigEndian.Uint32(m.annotations[8:])) * time.Millisecond))
		return
	}
	s := c.served()
	s.info.Annotations = m.annotationMap()
	if s.setDeadline(m); !s.deadline.IsZero() {
		c.setDeadline(s.deadline)
	}
}
