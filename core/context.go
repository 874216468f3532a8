package core

import (
	"bytes"
	"context"
	"crypto/tls"
	"maps"
	"net"
	"sync"
	"time"
)

// Annotations are named byte strings that travel beside a payload, in both directions.  Ids have four ASCII characters;
// "STRM" and "BLBI" are Pyro's own, those of this project begin with "PC".
type Annotations map[string][]byte

// CallInfo tells a method about the call it serves, as Pyro5's current_context does.
type CallInfo struct {
	Object        string
	Method        string // empty in [DaemonOptions.ValidateHandshake]
	Peer          net.Addr
	TLS           *tls.ConnectionState // not to be changed; nil without TLS
	Principal     string               // who the client is, if [DaemonOptions.ValidateHandshake] said so by [SetPrincipal]
	Serializer    string
	Sequence      uint16
	CorrelationID [16]byte    // the caller's, or a new one
	Annotations   Annotations // of the request; the bytes are the call's own
	Pyro4         bool        // the client speaks protocol 48
}

// servedCall is the context of a method: it ends with its parent and knows the call.
type servedCall struct {
	context.Context
	info        CallInfo
	observation *observation // nil if nobody observes
	conn        *serverConn
	handshake   bool               // it is no call of a method
	beside      bool               // the connection reads on meanwhile
	cancel      context.CancelFunc // of Context, if that is the one of an item stream
	deadline    time.Time          // of the caller; zero if it has none, or did not tell

	mu       sync.Mutex // protects what follows; oneway calls and goroutines of a method may outlive the reply
	reply    Annotations
	answered bool
	timed    context.Context // ends with the deadline; made when somebody waits for it
	stop     context.CancelFunc
}

// Deadline is that of the caller, if it is before the one of the connection.
func (c *servedCall) Deadline() (time.Time, bool) {
	d, ok := c.Context.Deadline()
	if !c.deadline.IsZero() && (!ok || c.deadline.Before(d)) {
		return c.deadline, true
	}
	return d, ok
}

// Done ends with the connection's context or the caller's deadline.
func (c *servedCall) Done() <-chan struct{} {
	if c.deadline.IsZero() {
		return c.Context.Done()
	}
	return c.withDeadline().Done()
}

// Err says why Done is closed.
func (c *servedCall) Err() error {
	if c.deadline.IsZero() {
		return c.Context.Err()
	}
	return c.withDeadline().Err()
}

// withDeadline costs a timer, which most methods do without.
func (c *servedCall) withDeadline() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.stop = context.WithDeadline(c.Context, c.deadline)
		if c.answered {
			c.stop()
		}
	}
	return c.timed
}

// end is called when the method has returned.
func (c *servedCall) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered = true
	if c.stop != nil {
		c.stop()
	}
}

// holdsReading reports whether nothing is read from the connection until the method has returned.
func (c *servedCall) holdsReading() bool { return !c.beside && c.conn.mux.Load() == nil }

// beginStream makes the context last until the stream that the method returns has ended, rather than until the caller's deadline.
func (c *servedCall) beginStream() {
	c.Context, c.cancel = context.WithCancel(c.Context)
	c.deadline = time.Time{}
}

// takeCancel returns what ends the context of a stream; to be called when there is to be none as well.
func (c *servedCall) takeCancel() context.CancelFunc {
	cancel := c.cancel
	if c.cancel = nil; cancel == nil {
		return func() {}
	}
	return cancel
}

type servedCallKey struct{}

// Value makes the call known to [CallInfoFrom].
func (c *servedCall) Value(key any) any {
	switch key.(type) {
	case servedCallKey:
		return c
	case outgoingKey:
		return outgoingFrom(c.Context).serving(&c.info)
	}
	return c.Context.Value(key)
}

// takeReply returns the annotations of the reply; later ones are ignored.
func (c *servedCall) takeReply() Annotations {
	c.end()
	c.mu.Lock()
	reply := c.reply
	c.mu.Unlock()
	if c.conn == nil || c.conn.d.opts.ReplyAnnotations == nil {
		return reply
	}
	return c.conn.d.annotated(c, reply)
}

// CallInfoFrom returns the call that ctx belongs to; nil outside of a served call.
func CallInfoFrom(ctx context.Context) *CallInfo {
	if call, ok := ctx.Value(servedCallKey{}).(*servedCall); ok {
		return &call.info
	}
	return nil
}

// SetPrincipal says who the client is, within [DaemonOptions.ValidateHandshake]: the calls of its connection have it in their
// [CallInfo].  Elsewhere it does nothing.
func SetPrincipal(ctx context.Context, name string) {
	call, ok := ctx.Value(servedCallKey{}).(*servedCall)
	if !ok || !call.handshake {
		return
	}
	call.mu.Lock()
	defer call.mu.Unlock()
	if !call.answered {
		call.conn.principal, call.info.Principal = name, name
	}
}

// isReserved reports whether an annotation is one that core itself sends.
func isReserved(id string) bool {
	switch id {
	case annotationStream, annotationContracts, annotationNotExecuted, annotationAbilities, annotationDrain, annotationDeadline,
		annotationTraceParent, annotationTraceState:
		return true
	}
	return false
}

// AnnotateReply adds an annotation to the reply of the call that ctx belongs to, a copy of data.  It is ignored once the method
// returned, outside of a served call, and if id is not four ASCII characters or is one that core itself sends.
func AnnotateReply(ctx context.Context, id string, data []byte) {
	call, ok := ctx.Value(servedCallKey{}).(*servedCall)
	if !ok || len(id) != 4 || !isASCII(id) || isReserved(id) {
		return
	}
	call.mu.Lock()
	defer call.mu.Unlock()
	if call.answered {
		return
	}
	if call.reply == nil {
		call.reply = make(Annotations)
	}
	call.reply[id] = bytes.Clone(data)
}

// outgoing is what a context adds to the calls made with it; it is not changed.
type outgoing struct {
	annotations   Annotations
	correlationID [16]byte
	hasID         bool
	reply         *Annotations // where those of the reply go; nil if nobody asks
}

type outgoingKey struct{}

// outgoingFrom returns what calls with ctx carry.
func outgoingFrom(ctx context.Context) *outgoing {
	if out, ok := ctx.Value(outgoingKey{}).(*outgoing); ok {
		return out
	}
	return &nothing
}

var nothing outgoing

// withID returns what calls carry whose method serves the call of that correlation id.
func (o *outgoing) withID(id [16]byte) *outgoing {
	out := *o
	out.correlationID, out.hasID = id, true
	return &out
}

// WithAnnotations returns a context whose calls carry the annotations in addition to those it had.  They are not copied.
func WithAnnotations(ctx context.Context, a Annotations) context.Context {
	out := *outgoingFrom(ctx)
	merged := maps.Clone(out.annotations)
	if merged == nil {
		merged = make(Annotations, len(a))
	}
	maps.Copy(merged, a)
	out.annotations = merged
	return context.WithValue(ctx, outgoingKey{}, &out)
}

// WithReplyAnnotations returns a context whose calls store the annotations of their replies in a: one call after the other, as each
// overwrites what the one before left.  A call without a reply leaves a as it was.
func WithReplyAnnotations(ctx context.Context, a *Annotations) context.Context {
	out := *outgoingFrom(ctx)
	out.reply = a
	return context.WithValue(ctx, outgoingKey{}, &out)
}

type connectTimeoutKey struct{}

// WithConnectTimeout returns a context whose calls wait for a new connection as long as d, in place of [ProxyOptions].ConnectTimeout;
// zero or less means no bound but the context's own.
func WithConnectTimeout(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, connectTimeoutKey{}, d)
}

// WithCorrelationID returns a context whose calls carry id.  Calls made by a method inherit the id of the call it serves.
func WithCorrelationID(ctx context.Context, id [16]byte) context.Context {
	return context.WithValue(ctx, outgoingKey{}, outgoingFrom(ctx).withID(id))
}
