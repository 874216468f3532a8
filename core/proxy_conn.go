package core

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The steps of a call that a TransportError names.
const (
	opResolve   = "resolve"
	opConnect   = "connect"
	opHandshake = "handshake"
	opSend      = "send request"
	opRead      = "read reply"
)

// pingSerializer is what Pyro5 puts where PING has no use for a serializer.
const pingSerializer = 42

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// clientConn is one connection of a proxy, used by one call at a time.
type clientConn struct {
	*wire
	proxy      *Proxy
	endpoint   string
	object     string
	serializer Serializer
	members    *members
	ours       bool // the server is one of this project: it says itself what it did not run
	mux        bool // the server takes many calls at once
	seq        uint16
	quiet      func() bool // nil if that cannot be told
	asker      *asker      // nil if there can be none; looks itself whether the connection is good
	reused     bool        // a call gave it back before
	exact      bool        // a failed write tells exactly what was written
	bounded    bool        // a deadline is set
	broken     bool        // not to be used again
	generation int64       // of the proxy's when it was made
	streaming  bool        // a Stream has it
	cut        func()

	sent, received int         // bytes of the exchanges of a call
	opened         atomic.Bool // ready for calls, until Close
}

func newClientConn(p *Proxy, nc net.Conn, endpoint, object string, s Serializer) *clientConn {
	spareCollector()
	c := &clientConn{proxy: p, endpoint: endpoint, object: object, serializer: s, quiet: quietCheck(nc), asker: newAsker(nc)}
	c.wire = newWire(nc, p.opts.MaxMessageBytes)
	_, isTLS := nc.(*tls.Conn) // may have sent a part of a record
	c.exact = !isTLS
	c.cut = func() { nc.SetDeadline(longAgo) }
	return c
}

// Close closes the socket.
func (c *clientConn) Close() error {
	if c.opened.CompareAndSwap(true, false) {
		c.proxy.observeConn(ConnClosed)
	}
	return c.nc.Close()
}

// isGood reports whether an idle connection may be used; an asker finds that out itself.
func (c *clientConn) isGood() bool {
	c.reused = true
	return c.r.Buffered() == 0 && (c.asker != nil || c.isQuiet())
}

// isQuiet reports whether an idle connection can be used: nothing came since the last reply, not even the end.
func (c *clientConn) isQuiet() bool { return c.r.Buffered() == 0 && (c.quiet == nil || c.quiet()) }

// handshake sends CONNECT and takes the answer.  Whatever fails here, no method has run.
func (c *clientConn) handshake(ctx context.Context, data any, validate func(any) error) error {
	request := map[string]any{"handshake": data, "object": c.object}
	a := *outgoingFrom(ctx)
	if c.offersMux() {
		a.annotations = maps.Clone(a.annotations)
		if a.annotations == nil {
			a.annotations = make(Annotations, 1)
		}
		a.annotations[annotationAbilities] = muxAbilities
	}
	if err := c.encode(header{typ: msgConnect, seq: c.seq}, &a, func(dst []byte) ([]byte, error) {
		return c.serializer.AppendValue(dst, request)
	}); err != nil {
		return &LocalError{Err: fmt.Errorf("core: handshake: %w", err)}
	}
	m, err := c.exchange(ctx, true)
	if err == nil {
		err = c.connected(m, validate)
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*TransportError](err); ok {
		err = e.Err
	}
	return &TransportError{Endpoint: c.endpoint, Op: opHandshake, Err: err}
}

// offersMux reports whether the server is told that many calls at once would do.
func (c *clientConn) offersMux() bool {
	return c.serializer.ID() == msgpackID && !c.proxy.opts.Plain && c.pyro4 == nil
}

// connected takes the answer to CONNECT.
func (c *clientConn) connected(m message, validate func(any) error) error {
	if m.typ != msgConnectOK && m.typ != msgConnectFail {
		return errMessageType(m.typ, "2,3")
	}
	s, ok := SerializerByID(m.serializer) // a refusal may come in marshal
	if !ok {
		return protocolError("invalid serializer in response: %d", m.serializer)
	}
	v, err := s.ParseValue(m.payload)
	if err != nil {
		return err
	}
	if m.typ == msgConnectFail {
		return &refusedError{c.endpoint, fmt.Sprint(v)}
	}
	reply, ok := v.(map[string]any)
	if !ok {
		return protocolError("answer to CONNECT is %s, want dict", pythonType(v))
	}
	if c.members, err = newMembers(reply["meta"]); err != nil {
		return err
	}
	var contracts []byte
	if contracts, c.ours = m.annotation(annotationContracts); c.ours {
		c.members.Contracts = parseContracts(contracts)
	}
	c.mux = c.offersMux() && m.hasMux()
	if c.members.isEmpty() {
		return c.errNothingExposed()
	}
	if validate != nil {
		return validate(reply["handshake"])
	}
	return nil
}

func (c *clientConn) errNothingExposed() error {
	return &wireError{PyroError, fmt.Sprintf(
		"remote object '%s' doesn't expose any methods or attributes. Did you forget setting @expose on them?", c.proxy.uri)}
}

// ping sends PING and waits for its echo.
func (c *clientConn) ping(ctx context.Context) error {
	h := header{typ: msgPing, serializer: pingSerializer, seq: c.seq}
	err := c.encode(h, &nothing, func(dst []byte) ([]byte, error) { return append(dst, "ping"...), nil })
	if err != nil {
		return err
	}
	m, err := c.exchange(ctx, true)
	if err != nil {
		return err
	}
	if m.typ != msgPing || m.seq != c.seq {
		return c.badReply(protocolError("answer to PING has type %d and number %d, want %d and %d", m.typ, m.seq, msgPing, c.seq))
	}
	return nil
}

// invoke sends a request and stores its result.
func (c *clientConn) invoke(ctx context.Context, r Request, flags uint16, out any) error {
	if b, _ := blobOf(r); b != nil {
		return c.invokeBlob(ctx, r, b, flags, out)
	}
	m, err := c.request(ctx, r, flags)
	switch {
	case err != nil:
		return err
	case flags&flagOneway != 0:
		return c.store(out, r.Method, nil)
	}
	return c.result(ctx, m, r.Method, out)
}

// request sends a request and returns the message of its reply; an empty one if there will be none.
func (c *clientConn) request(ctx context.Context, r Request, flags uint16) (message, error) {
	return c.requestWith(ctx, r.Method, flags, func(dst []byte) ([]byte, error) {
		return withDaemon(c.serializer, c.proxy.daemon(ctx)).AppendRequest(dst, r)
	})
}

// requestWith is request with a payload that somebody else encodes.
func (c *clientConn) requestWith(ctx context.Context, method string, flags uint16, payload func(dst []byte) ([]byte, error)) (message, error) {
	c.seq++
	h := header{typ: msgInvoke, serializer: c.serializer.ID(), flags: flags, seq: c.seq}
	o := outgoingFrom(ctx)
	err := c.encode(h, o, payload)
	if err != nil {
		return message{}, &LocalError{Err: fmt.Errorf("core: %s: %w", method, err)}
	}
	m, err := c.exchange(ctx, flags&flagOneway == 0)
	if err != nil || flags&flagOneway != 0 {
		return message{}, err
	}
	err = c.checkReply(m)
	if err == nil && o.reply != nil {
		*o.reply = m.annotationMap()
	}
	return m, err
}

// checkReply compares a reply with its request, as Pyro5's client does.
func (c *clientConn) checkReply(m message) error {
	switch {
	case m.typ != msgResult:
		return c.badReply(errMessageType(m.typ, "5"))
	case m.seq != c.seq:
		return c.badReply(protocolError("invoke: reply sequence out of sync, got %d expected %d", m.seq, c.seq))
	case m.serializer != c.serializer.ID():
		return c.badReply(&wireError{SerializeError, fmt.Sprintf("invalid serializer in response: %d", m.serializer)})
	}
	return nil
}

// encode puts a message into c.out.  An error means that nothing will be sent; the connection is as good as before.
func (c *clientConn) encode(h header, o *outgoing, payload func(dst []byte) ([]byte, error)) error {
	if h.serializer == 0 {
		h.serializer = c.serializer.ID()
	}
	if o.hasID {
		h.flags |= flagCorrelationID
		h.correlationID = o.correlationID
	}
	out, err := beginMessage(c.out[:0], o.annotations)
	if err != nil {
		return err
	}
	h.annotationsLen = uint32(annotationsBytes(o.annotations))
	if out, err = payload(out); err != nil {
		return err
	}
	c.out = out
	if err := finishMessage(out, &h); err != nil {
		return err
	}
	if c.proxy.opts.Compress {
		c.out = compressMessage(out, 0)
	}
	if c.pyro4 != nil {
		c.out, err = c.pyro4.translate(c.out, 0)
	}
	return err
}

// exchange writes c.out and reads a message, if one is expected, while ctx lasts.
func (c *clientConn) exchange(ctx context.Context, expectReply bool) (message, error) {
	if ctx.Err() != nil {
		return message{}, c.fault(opSend, false, contextError(ctx))
	}
	if err := c.bound(ctx); err != nil {
		c.broken = true
		return message{}, c.fault(opSend, false, err)
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, c.cut)
		defer func() {
			if !stop() {
				c.broken = true // its deadline has passed, or is about to
			}
		}()
	}
	n, err := c.send(expectReply)
	c.sent += n
	if err != nil {
		c.broken = true
		return message{}, c.fault(opSend, n > 0 || !c.exact, c.cause(ctx, err))
	}
	if !expectReply {
		return message{}, nil
	}
	m, err := c.readMessage()
	if err != nil {
		c.broken = true
		return message{}, c.fault(opRead, true, c.cause(ctx, err))
	}
	c.received += m.size
	return m, nil
}

// errStale is why a call is made with another connection.
var errStale = errors.New("the server has closed the connection")

// send writes c.out.  It may have read the answer then.
func (c *clientConn) send(expectReply bool) (n int, err error) {
	switch {
	case c.asker == nil || c.r.Buffered() > 0:
	case !expectReply || len(c.out) > maxAsk:
		if c.reused && !c.isQuiet() {
			return 0, errStale
		}
	default:
		sent, got, stale := c.asker.ask(c.out, c.r.room())
		if stale && c.reused {
			return 0, errStale
		}
		c.r.add(got)
		n = sent
	}
	if n < len(c.out) {
		var more int
		more, err = c.write(c.out[n:])
		n += more
	}
	return n, err
}

// bound sets the connection's deadline to that of ctx, or lifts the one of the call before.
func (c *clientConn) bound(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	if !ok && !c.bounded {
		return nil
	}
	c.bounded = ok
	return c.nc.SetDeadline(deadline)
}

func (c *clientConn) fault(op string, written bool, err error) error {
	return &TransportError{Endpoint: c.endpoint, Op: op, Written: written, Err: err}
}

// badReply gives up a connection whose peer does not keep to the protocol.
func (c *clientConn) badReply(err error) error {
	c.broken = true
	return c.fault(opRead, true, err)
}

// cause finds out why the connection failed: ctx ended, the proxy was closed, or err itself.
func (c *clientConn) cause(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return contextError(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded) && c.proxy.isClosed():
		return ErrClosed // of a connection that is not its own
	case c.bounded && errors.Is(err, os.ErrDeadlineExceeded):
		return context.DeadlineExceeded // the connection's timer was faster than that of ctx
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	}
	return err
}

// contextError is the error of a ctx that has ended, and its cause where that says more.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case errors.Is(cause, ErrClosed):
		return ErrClosed
	case errors.Is(cause, err):
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// result stores the result in a reply, or returns the exception in it.
func (c *clientConn) result(ctx context.Context, m message, method string, out any) error {
	if m.flags&flagItemStream != 0 {
		return c.stream(ctx, m, method, out)
	}
	if out == nil && m.flags&flagException == 0 {
		return nil
	}
	if m.flags&flagException == 0 {
		if storeRaw(out, c.serializer, m.payload) {
			return nil
		}
		v, err := c.serializer.ParseValue(m.payload)
		if err != nil {
			return c.badReply(err)
		}
		return c.store(out, method, v)
	}
	e, err := c.exceptionIn(m)
	if err != nil {
		return c.badReply(err)
	}
	if e.Is(CommunicationError) || e.Is(SecurityError) {
		c.broken = true // the server is about to close it
	}
	return e
}

// exceptionIn returns the exception in a reply; an error if there is none.
func (c *clientConn) exceptionIn(m message) (*RemoteError, error) {
	v, err := c.serializer.ParseValue(m.payload)
	if err != nil {
		return nil, err
	}
	e, ok := v.(*RemoteError)
	if !ok {
		return nil, protocolError("exception is %s", pythonType(v))
	}
	_, declared := m.annotation(annotationNotExecuted)
	e.NotExecuted = declared || !c.ours && isUnknownObject(e)
	return e, nil
}

// isUnknownObject reports whether a stock server says that it does not have the object.  The same exception of a call that the method made
// itself passed through Pyro5's client there, as its traceback tells; without a traceback nothing is known.
func isUnknownObject(e *RemoteError) bool {
	return e.Class == DaemonError && e.Text() == "unknown object" && len(e.Traceback) > 0 &&
		!slices.ContainsFunc(e.Traceback, func(line string) bool { return strings.Contains(line, "_pyroInvoke") })
}

func (c *clientConn) store(out any, method string, v any) error {
	if out == nil {
		return nil
	}
	if err := convertResult(out, method, v); err != nil {
		return &LocalError{Executed: true, Err: err}
	}
	return nil
}

// stream hands the connection to a Stream.
func (c *clientConn) stream(ctx context.Context, m message, method string, out any) error {
	id, _ := m.annotation(annotationStream)
	switch {
	case len(id) == 0:
		return c.badReply(protocolError("result of call is an iterator, but the server is not configured to allow streaming"))
	case c.streaming:
		return c.badReply(protocolError("item of a stream is an iterator")) // it would share the connection with its own stream
	}
	s := &Stream{c: c, id: string(id)}
	stored, err := s.storeIn(ctx, method, out)
	c.streaming = stored
	return err
}

// members is what an object offers, ready to be asked.
type members struct {
	Metadata
	methods map[string]bool
	oneway  map[string]bool
	attrs   map[string]bool

	called [16]atomic.Pointer[calledMethod] // some of methods, by calledIndex; what is there stays
}

// calledMethod spares calls the search in maps.
type calledMethod struct {
	name   string
	oneway bool
}

func calledIndex(method string) int {
	n := len(method)
	if n > 0 {
		n += int(method[n-1])
	}
	return n % len(members{}.called)
}

// method reports whether there is a method, and whether its calls are oneway.
func (m *members) method(name string) (oneway, ok bool) {
	place := &m.called[calledIndex(name)]
	c := place.Load()
	switch {
	case c != nil && c.name == name:
		return c.oneway, true
	case !m.methods[name]:
		return false, false
	}
	oneway = m.oneway[name]
	if c == nil {
		place.CompareAndSwap(nil, &calledMethod{strings.Clone(name), oneway})
	}
	return oneway, true
}

// newMembers reads the metadata in an answer to CONNECT.
func newMembers(v any) (*members, error) {
	meta, ok := v.(map[string]any)
	if !ok {
		return nil, protocolError("metadata is %s, want dict", pythonType(v))
	}
	m := &members{methods: make(map[string]bool), oneway: make(map[string]bool), attrs: make(map[string]bool)}
	for _, part := range []struct {
		key  string
		list *[]string
		set  map[string]bool
	}{
		{"methods", &m.Methods, m.methods},
		{"oneway", &m.Oneway, m.oneway},
		{"attrs", &m.Attrs, m.attrs},
	} {
		items, _ := sequence(meta[part.key])
		names, ok := texts(items)
		if _, given := meta[part.key]; !ok || !given {
			return nil, protocolError("metadata has no list of names as %q", part.key)
		}
		slices.Sort(names)
		*part.list = slices.Compact(names)
		for _, name := range names {
			part.set[name] = true
		}
	}
	return m, nil
}

// copied is what callers get, who may change it.
func (m *members) copied() Metadata {
	return Metadata{slices.Clone(m.Methods), slices.Clone(m.Oneway), slices.Clone(m.Attrs), maps.Clone(m.Contracts)}
}

func (m *members) isEmpty() bool { return len(m.Methods)+len(m.Attrs) == 0 }

// member is what a call is about.
type member struct {
	name string
	kind memberKind
}

type memberKind uint8

const (
	isMethod memberKind = iota
	isAttribute
	isBatch // the name is those of its methods, a line each
)

// check is what Pyro5's proxy checks before it sends anything.
func (m *members) check(x member, uri *URI) error {
	switch {
	case x.kind == isMethod && m.methods[x.name], x.kind == isAttribute && m.attrs[x.name]:
		return nil
	case x.kind == isBatch:
		return m.checkBatch(x.name, uri)
	case x.kind == isAttribute:
		return AttributeError.New("remote object '%s' has no exposed attribute '%s'", uri, x.name)
	case m.attrs[x.name]:
		return AttributeError.New("'%s' of remote object '%s' is an attribute, not a method", x.name, uri)
	}
	return AttributeError.New("remote object '%s' has no exposed attribute or method '%s'", uri, x.name)
}

// checkBatch checks the methods of a batch.
func (m *members) checkBatch(names string, uri *URI) error {
	for name := range strings.SplitSeq(names, "\n") {
		if err := m.check(member{name, isMethod}, uri); err != nil && names != "" {
			return err
		}
	}
	return nil
}
