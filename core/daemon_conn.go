package core

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// serverConn is one client of a daemon.
type serverConn struct {
	*wire
	d         *Daemon
	peer      net.Addr
	ctx       context.Context      // of all calls
	tls       *tls.ConnectionState // nil without TLS
	principal string               // see SetPrincipal
	session   session
	welcome   bool                      // the handshake is done
	gone      atomic.Bool               // it has ended
	wantsMux  bool                      // the client makes many calls at once
	mux       atomic.Pointer[muxServer] // nil until the handshake is done, and if the client makes one call after the other
}

// turn answers requests of a connection one after the other.
type turn struct {
	*serverConn
	out         []byte      // replies that are to be written; in place of that of the connection
	observation observation // of the call under way

	// For calls without boxing: the object that was looked up last, memory for the contexts of calls, and those of the call under way.
	known        *object
	knownID      string
	knownVersion uint64
	knownMethod  *Method // of known, the one that was called last; nil if it cannot be run that way
	knownTarget  []byte  // how the payload of its requests begins
	calls        []directCall
	slab         int // how many calls were made room for the last time
	ids          *rand.PCG
	args         Decoder
	result       Encoder
	memory       []byte // of the request, if a method may have it
	large        []byte // belongs into out at cut: a result that is not copied
	cut          int
}

// lend lets a method have the memory of its request, unless that is nil.
func (c *turn) lend(memory []byte) { c.memory, c.args.memory = memory, memory }

// given reports whether the method took it.
func (c *turn) given() bool { return c.memory != nil && c.args.memory == nil }

func newServerConn(d *Daemon, nc net.Conn) *serverConn {
	w := newWire(d.serverTLS(nc), d.opts.MaxMessageBytes)
	w.stepTimeout = messageTimeout
	return &serverConn{wire: w, d: d, peer: nc.RemoteAddr()}
}

// serve does the handshake and then one request after the other, until the connection ends or must not go on.
func (c *serverConn) serve(ctx context.Context) {
	c.ctx = ctx
	defer c.recoverBug(ctx)
	if !c.handshake(ctx) {
		c.d.observeConn(ConnFailed)
		return
	}
	c.welcome = true
	c.d.observeConn(ConnOpened)
	defer c.d.observeConn(ConnClosed)
	if c.wantsMux {
		s := newMuxServer(c)
		c.mux.Store(s)
		s.serve()
		return
	}
	c.answerAll()
}

// aloneCalls is how many calls it takes to find out whether others call, too.
const aloneCalls = 256

// answerAll answers requests until the connection ends or must not go on.
func (c *serverConn) answerAll() {
	t := &turn{serverConn: c}
	poller := newPoller(c.nc)
	alone := false // no other connection has made aloneCalls meanwhile
	for calls := 1; ; calls++ {
		if alone && !c.d.draining.Load() {
			c.r.poll(poller) // the next call may come soon, and nobody else waits
		}
		if c.r.Buffered() == 0 && c.wait() != nil || !t.answerNext() {
			return
		}
		if calls%aloneCalls == 0 {
			alone = c.isAlone()
		}
	}
}

// isOnly reports whether there is no other connection.
func (c *serverConn) isOnly() bool {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return len(c.d.conns) == 1
}

// isAlone reports whether no other connection has asked since this one did.
func (c *serverConn) isAlone() bool {
	alone := c.d.latest.Load() == c
	if !alone {
		c.d.latest.Store(c)
	}
	return alone
}

// answerNext answers a request of which at least the first byte was read; false means that the connection is to be closed.
func (c *turn) answerNext() (goesOn bool) {
	m, err := c.readStarted()
	if err != nil {
		c.logBad(err)
		return false
	}
	c.lend(c.memoryOf(m.payload))
	goesOn = c.answer(c.ctx, m)
	if c.given() {
		c.body = nil
	}
	if len(c.out) > 0 && (!goesOn || c.large != nil || !c.hasRequest() || len(c.out) >= flushBytes) {
		if c.writeLarge(c.out, c.large, c.cut) != nil {
			return false
		}
		c.out, c.large = keepLarge(c.out), nil
	}
	c.trim()
	return goesOn
}

// logBad tells of what ended a connection, if it was no message.
func (c *serverConn) logBad(err error) {
	if errors.Is(err, ProtocolError) || errors.Is(err, SecurityError) {
		c.d.opts.Logger.LogAttrs(c.ctx, slog.LevelInfo, "bad message", slog.Any("peer", c.peer), slog.Any("error", err))
	}
}

// recoverBug keeps a panic outside of methods, which is a bug here, from ending the process.
func (c *serverConn) recoverBug(ctx context.Context) {
	if r := recover(); r != nil {
		c.d.opts.Logger.LogAttrs(ctx, slog.LevelError, "panic while serving a connection",
			slog.Any("peer", c.peer), slog.Any("panic", r), slog.Any("stack", stackLines(2)))
	}
}

// wait returns when there is something to read.  A deadline holds if the daemon has an idle timeout or is draining.  Shutdown sets draining, and then a read deadline on every connection: one that is
// set here before is replaced by that, and one that is set after sees draining.
func (c *serverConn) wait() error {
	if idle := c.d.opts.IdleTimeout; idle > 0 {
		c.readBounded = true
		if err := c.nc.SetReadDeadline(time.Now().Add(idle)); err != nil {
			return err
		}
	}
	if c.d.draining.Load() {
		c.readBounded = true
		if err := c.nc.SetReadDeadline(time.Now().Add(c.d.opts.DrainTimeout)); err != nil {
			return err
		}
	}
	_, err := c.r.Peek(1)
	return err
}

// handshake answers CONNECT; false means that the connection is to be closed.
func (c *serverConn) handshake(ctx context.Context) bool {
	if c.nc.SetDeadline(time.Now().Add(c.d.opts.HandshakeTimeout)) != nil {
		return false
	}
	if err := c.handshakeTLS(ctx); err != nil {
		c.logRefused(ctx, "", err)
		return false
	}
	m, err := c.readConnect()
	if err != nil {
		c.refuseMessage(0, marshalID, err)
		return false
	}
	s, ok := c.serializer(m.serializer)
	if !ok {
		switch {
		case c.pyro4 != nil:
			c.refuseMessage(m.seq, marshalID, errSerializer48(m.serializer))
		case m.serializer == xmlID:
			c.refuseMessage(m.seq, marshalID, errNoXML)
		}
		return false // as Pyro5: there is no way to say why
	}
	ctx, cancel := context.WithTimeout(ctx, c.d.opts.HandshakeTimeout)
	defer cancel()
	t := turn{serverConn: c}
	call := t.newCall(ctx, m, s)
	call.handshake = true
	reply, annotations, err := c.connectReply(call, m, s)
	if err != nil {
		c.logRefused(call, call.info.Object, err)
		c.refuseMessage(m.seq, m.serializer, err)
		return false
	}
	h := call.replyHeader(m)
	h.typ = msgConnectOK
	if err := t.prepare(h, annotations, s, reply); err != nil {
		c.refuseMessage(m.seq, m.serializer, err)
		return false
	}
	if _, err := c.write(t.out); err != nil {
		return false
	}
	return c.endHandshake()
}

// logRefused reports a client that is not let in: what it was told it may not say to anybody.
func (c *serverConn) logRefused(ctx context.Context, object string, err error) {
	c.d.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "client refused",
		slog.Any("peer", c.peer), slog.String("object", object), slog.Any("error", err))
}

var errNoXML = errors.New("serializer 'xml' is not accepted by this server")

// serializer returns that of a message.
func (c *serverConn) serializer(id uint8) (Serializer, bool) {
	formats := c.d.formats
	if c.pyro4 != nil {
		formats = c.d.formats4
	}
	s, ok := formats[id]
	return s, ok
}

// makeFormats makes the serializers of the daemon.
func (d *Daemon) makeFormats() {
	d.formats, d.formats4 = make(map[uint8]Serializer), make(map[uint8]Serializer)
	for _, s := range serializers {
		d.formats[s.ID()] = withDaemon(s, d)
	}
	if d.opts.AcceptXML {
		d.formats[xmlID] = withDaemon(xmlSerializer{}, d)
	}
	for _, s := range pyro4Serializers {
		d.formats4[s.ID()] = withDaemon(s, d)
	}
}

// readConnect reads the first message under the deadline of the handshake alone.
func (c *serverConn) readConnect() (message, error) {
	c.stepTimeout = 0
	c.limit = min(c.limit, maxConnectBytes)
	c.detectVersion()
	m, err := c.readMessage()
	c.limit = c.d.opts.MaxMessageBytes
	if err == nil && m.typ != msgConnect {
		err = errMessageType(m.typ, "1")
	}
	return m, err
}

// endHandshake lifts the deadline, unless Shutdown has set one of its own.
func (c *serverConn) endHandshake() bool {
	c.stepTimeout = messageTimeout
	if c.nc.SetDeadline(time.Time{}) != nil {
		return false
	}
	c.trim()
	return true
}

// connectReply validates a handshake.  Its errors are answered with their text, which is Python's where Pyro5 lets Python speak.
func (c *serverConn) connectReply(call *servedCall, m message, s Serializer) (reply any, a Annotations, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError(r)
			c.d.logPanic(call, err)
		}
	}()
	if c.d.draining.Load() {
		return nil, nil, errors.New("server is shutting down")
	}
	v, err := s.ParseValue(m.payload)
	if err != nil {
		return nil, nil, err
	}
	withMeta := c.pyro4 == nil || c.pyro4.meta
	handshake, objectID, err := connectRequest(v, withMeta)
	if err != nil {
		return nil, nil, err
	}
	call.info.Object, _ = objectID.(string)
	response := any("hello")
	if validate := c.d.opts.ValidateHandshake; validate != nil {
		if response, err = validate(call, handshake); err != nil {
			return nil, nil, err
		}
	}
	if !withMeta {
		return response, call.takeReply(), nil
	}
	o := c.d.object(call.info.Object)
	if o == nil {
		return nil, nil, errors.New("unknown object")
	}
	a = call.takeReply()
	if c.pyro4 != nil {
		return Dict{{"handshake", response}, {"meta", o.wireMetadata4()}}, a, nil
	}
	if a == nil {
		a = make(Annotations, 1)
	}
	a[annotationContracts] = o.contracts
	if m.hasMux() && m.serializer == msgpackID {
		a[annotationAbilities] = muxAbilities
		c.wantsMux = true
	}
	return Dict{{"handshake", response}, {"meta", o.wireMetadata()}}, a, nil
}

// connectRequest takes the payload of CONNECT apart.
func connectRequest(v any, withObject bool) (handshake, object any, err error) {
	var dict map[string]any
	switch v := v.(type) {
	case map[string]any:
		dict = v
	case []any:
		return nil, nil, errors.New("list indices must be integers or slices, not str")
	case Tuple:
		return nil, nil, errors.New("tuple indices must be integers or slices, not str")
	case string:
		return nil, nil, errors.New("string indices must be integers, not 'str'")
	default:
		return nil, nil, fmt.Errorf("'%s' object is not subscriptable", pythonType(v))
	}
	for _, key := range []string{"handshake", "object"} {
		if _, ok := dict[key]; !ok && (withObject || key != "object") {
			return nil, nil, fmt.Errorf("'%s'", key) // the text of KeyError
		}
	}
	return dict["handshake"], dict["object"], nil
}

// refuse reads the client's CONNECT, as it would not get the answer if its bytes were left unread, and says why it is refused.
func (c *serverConn) refuse(ctx context.Context, reason string) {
	if c.nc.SetDeadline(time.Now().Add(min(c.d.opts.HandshakeTimeout, time.Second))) != nil {
		return
	}
	if c.handshakeTLS(ctx) != nil {
		return
	}
	m, err := c.readConnect()
	if err != nil {
		c.refuseMessage(0, marshalID, err)
		return
	}
	c.refuseMessage(m.seq, marshalID, errors.New(reason))
}

// refuseMessage sends CONNECTFAIL with the text of err; nothing if the client is gone.
func (c *serverConn) refuseMessage(seq uint16, serializerID uint8, err error) {
	if isConnError(err) {
		return
	}
	payload, err := appendRefusal(nil, serializerID, refusalText(err))
	if err != nil {
		return
	}
	out, err := appendMessage(nil, header{typ: msgConnectFail, serializer: serializerID, seq: seq}, nil, payload)
	if err == nil && c.pyro4 != nil {
		out, err = c.pyro4.translate(out, 0)
	}
	if err != nil {
		return
	}
	if _, err := c.write(out); err != nil {
		return
	}
	hangUp(c.nc)
}

const (
	marshalID     = 2
	lingerTimeout = 500 * time.Millisecond
	lingerBytes   = 1 << 20
)

// refusalText is what Pyro5 sends: str(exception), without the class.
func refusalText(err error) string { return methodError(err).Text() }

// appendRefusal encodes the text for a client with that serializer.  Before the serializer is known it is marshal: a short ASCII
// string that is remembered, in the one form that Pyro5 sends.
func appendRefusal(dst []byte, serializerID uint8, text string) ([]byte, error) {
	if serializerID == marshalID && len(text) < 256 && isASCII(text) {
		return append(append(dst, 'z'|0x80, byte(len(text))), text...), nil
	}
	s, ok := SerializerByID(serializerID)
	if !ok {
		return dst, errors.New("unknown serializer")
	}
	return s.AppendValue(dst, text)
}

// isConnError reports whether the connection itself failed, so that nothing can be said on it.
func isConnError(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe)
}

// newCall makes the context of a method.
func (c *turn) newCall(ctx context.Context, m message, s Serializer) *servedCall {
	call := &servedCall{Context: ctx, conn: c.serverConn, info: CallInfo{
		Peer:          c.peer,
		TLS:           c.tls,
		Principal:     c.principal,
		Serializer:    s.Name(),
		Sequence:      m.seq,
		CorrelationID: m.correlationID,
		Annotations:   m.annotationMap(),
		Pyro4:         c.pyro4 != nil,
	}}
	if m.flags&flagCorrelationID == 0 {
		call.info.CorrelationID = newCorrelationID()
	}
	call.setDeadline(&m)
	return call
}

// newCorrelationID returns a random UUID (RFC 9562, version 4).  It names a call in logs; nothing depends on its being secret.
func newCorrelationID() [16]byte { return correlationID(rand.Uint64(), rand.Uint64()) }

func correlationID(random1, random2 uint64) (id [16]byte) {
	putCorrelationID(&id, random1, random2)
	return id
}

// putCorrelationID sets the bits of a version 4 before it writes, so that nothing has to be read again.
func putCorrelationID(id *[16]byte, random1, random2 uint64) {
	binary.LittleEndian.PutUint64(id[:8], random1&^(0xf0<<48)|0x40<<48)
	binary.LittleEndian.PutUint64(id[8:], random2&^0xc0|0x80)
}

// answer handles one message and appends the reply, if there is one, to c.out; false means that the connection is to be closed then.
func (c *turn) answer(ctx context.Context, m message) bool {
	switch m.typ {
	case msgPing:
		return c.answerPing(m) == nil
	case msgInvoke:
	default:
		return false
	}
	var r encodedRequest
	if method := c.directMethod(&m, &r); method != nil && m.flags&flagOneway == 0 {
		return c.callDirect(&m, &r, method)
	}
	s, ok := c.serializer(m.serializer)
	if !ok {
		return false
	}
	call := c.newCall(ctx, m, s)
	call.observation = c.begin(m.size)
	start := len(c.out)
	goesOn := c.invoke(call, m, s)
	if call.observation == &c.observation { // or else it goes on beside the connection, or nobody observes
		call.observation.report(len(c.out) - start)
	}
	return goesOn
}

// invoke runs the method of a request and appends the reply to c.out.
func (c *turn) invoke(call *servedCall, m message, s Serializer) bool {
	if c.d.draining.Load() {
		c.replyError(call, m, s, ConnectionClosedError.New("server is shutting down"), notExecuted)
		return false
	}
	r, err := c.parseRequest(m, s)
	if err != nil {
		return c.replyError(call, m, s, requestError(err), nil)
	}
	call.info.Object, call.info.Method = r.Object, r.Method
	o := c.d.object(r.Object)
	if o == nil {
		return c.replyError(call, m, s, errUnknownObject(), notExecuted)
	}
	call.observation.of(o.observed.unknown)
	if err := call.late(); err != nil {
		return c.replyError(call, m, s, err, notExecuted)
	}
	o, done, err := c.serving(call, o)
	if err != nil {
		return c.replyError(call, m, s, err, nil)
	}
	if m.flags&(flagOneway|flagBatch) == flagOneway && r.Method != "__setattr__" && r.Method != "__getattr__" {
		return c.startOneway(call, o, r, done)
	}
	defer func() { done() }()
	if err := o.enter(call); err != nil {
		return c.replyError(call, m, s, err, notExecuted)
	}
	defer o.leave() // when the result, which may be part of the object, has been encoded
	result, err := o.run(call, r, m.flags)
	if err != nil {
		if r.Object != daemonID { // of which an error is no method's of the program; streams tell of theirs
			c.d.callFailed(call, err)
		}
		return c.replyError(call, m, s, err, nil)
	}
	if isIterator(reflect.TypeOf(result)) {
		end := done // with the stream
		done = func() {}
		return c.replyStream(call, m, s, o, result, end)
	}
	return c.replyResult(call, m, s, result)
}

// parseRequest reads a request, or all of a blob but what is in it.
func (c *turn) parseRequest(m message, s Serializer) (Request, error) {
	if m.flags&flagKeepSerialized != 0 {
		return blobRequest(m, s)
	}
	return s.ParseRequest(m.payload)
}

// notExecuted are the annotations of a reply whose method did not run.
var notExecuted = Annotations{annotationNotExecuted: nil}

// requestError is what the client of an unreadable request gets: a ValueError, unless the serializer chose a class.
func requestError(err error) error {
	if _, ok := errors.AsType[*RemoteError](err); ok {
		return err
	}
	return ValueError.New("%v", err)
}

func (c *turn) answerPing(m message) error {
	h := header{typ: msgPing, serializer: m.serializer, seq: m.seq, flags: flagCorrelationID, correlationID: m.correlationID}
	if m.flags&flagCorrelationID == 0 {
		h.correlationID = newCorrelationID()
	}
	start := len(c.out)
	var err error
	c.out, err = appendMessage(c.out, h, nil, []byte("pong"))
	if err == nil && c.pyro4 != nil {
		c.out, err = c.pyro4.translate(c.out, start)
	}
	return err
}

// startOneway runs a call beside the connection, as soon as the daemon has room for it; false means that it was closed.
func (c *turn) startOneway(call *servedCall, o *object, r Request, done func()) bool {
	select {
	case c.d.oneway <- struct{}{}:
	case <-call.Done():
		done()
		call.observation.ends(CallNotExecuted)
		return false
	}
	d := c.d // c may serve another call then
	call.beside = true
	call.observation = call.observation.detach()
	d.running.Go(func() {
		defer func() { <-d.oneway }()
		defer call.observation.report(0)
		defer done()
		defer call.end()
		if o.enter(call) != nil {
			call.takeCancel()()
			call.observation.ends(CallNotExecuted)
			return
		}
		defer o.leave()
		_, err := o.run(call, r, 0)
		call.takeCancel()()
		if err != nil {
			d.callFailed(call, err)
			call.observation.ends(CallException)
			d.logUnseen(call, err)
		}
	})
	return true
}

// logPanic reports an error that is a panic, with the stack.
func (d *Daemon) logPanic(call *servedCall, err error) (wasPanic bool) {
	p, wasPanic := errors.AsType[*panicked](err)
	if wasPanic {
		d.opts.Logger.LogAttrs(call, slog.LevelError, "panic in a method", slog.String("object", call.info.Object),
			slog.String("method", call.info.Method), slog.Any("error", err), call.traceID(), slog.Any("stack", p.Traceback))
	}
	return wasPanic
}

// logUnseen reports the error of a call whose caller does not get it.
func (d *Daemon) logUnseen(call *servedCall, err error) {
	if d.logPanic(call, err) {
		return
	}
	d.opts.Logger.LogAttrs(call, slog.LevelWarn, "oneway call failed", slog.String("object", call.info.Object),
		slog.String("method", call.info.Method), slog.Any("peer", call.info.Peer), call.traceID(), slog.Any("error", err))
}

// enter waits until no other call runs, if the object is serial.  Without an error leave has to follow.
func (o *object) enter(call *servedCall) error {
	if o.serial == nil {
		return nil
	}
	o.serial.Lock()
	if err := call.late(); err != nil {
		o.serial.Unlock()
		return err
	}
	return nil
}

func (o *object) leave() {
	if o.serial != nil {
		o.serial.Unlock()
	}
}

// run does what a request asks for.  A panic is an exception, too.
func (o *object) run(call *servedCall, r Request, flags uint16) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, panicError(p)
		}
	}()
	switch {
	case flags&flagBatch != 0:
		call.observation.of(o.observed.batch)
		return o.runBatch(call, r.Args)
	case r.Method == "__getattr__":
		call.observation.of(o.observed.read)
		return o.readAttribute(call, r.Args)
	case r.Method == "__setattr__":
		call.observation.of(o.observed.write)
		return nil, o.writeAttribute(call, r.Args)
	}
	m, err := o.method(r.Method)
	if err != nil {
		return nil, err
	}
	call.observation.of(m.observer)
	if m.Streams {
		call.beginStream()
		defer func() {
			if !isIterator(reflect.TypeOf(result)) {
				call.takeCancel()()
			}
		}()
	}
	return m.run(call, r.Args, r.Kwargs)
}

func (m *Method) run(call *servedCall, args []any, kwargs map[string]any) (any, error) {
	values, err := m.bind(args, kwargs)
	if err != nil {
		return nil, err
	}
	if m.Direct != nil {
		return m.runDirect(call, values)
	}
	return m.Func(call, values)
}

// runDirect runs Direct with values that were decoded already.
func (m *Method) runDirect(call *servedCall, args []any) (any, error) {
	var value boxing
	result := Encoder{s: &value}
	if err := m.Direct(call, &Decoder{values: args, boxed: true, left: len(args), method: m}, &result); err != nil {
		return nil, err
	}
	if result.n > 1 || result.n < 0 {
		return nil, errResultCount(m, result.n)
	}
	return value.value, nil
}

func (o *object) readAttribute(call *servedCall, args []any) (any, error) {
	name, err := attributeName(args, 1)
	if err != nil {
		return nil, err
	}
	a, err := o.attribute(name)
	if err != nil {
		return nil, err
	}
	return a.Read(call)
}

func (o *object) writeAttribute(call *servedCall, args []any) error {
	name, err := attributeName(args, 2)
	if err != nil {
		return err
	}
	a, err := o.attribute(name)
	if err != nil {
		return err
	}
	if a.Write == nil {
		return errUnexposed(name)
	}
	return a.Write(call, args[1])
}

// attributeName returns the first of at least n arguments of a pseudo method.
func attributeName(args []any, n int) (string, error) {
	if len(args) < n {
		return "", ExceptionClass("builtins.IndexError").New("tuple index out of range")
	}
	name, ok := args[0].(string)
	if !ok {
		return "", TypeError.New("attribute name must be string, not '%s'", pythonType(args[0]))
	}
	return name, nil
}

// runBatch runs calls until one fails, whose exception is then the last result.  A name that is unknown fails the batch (Pyro5
// server.py, handleRequest).
func (o *object) runBatch(call *servedCall, calls []any) (any, error) {
	results := make([]any, 0, len(calls))
	for _, item := range calls {
		parts, _ := sequence(item)
		if len(parts) != 3 {
			return nil, ValueError.New("a call in a batch is (method, args, kwargs), got %s of %d", pythonType(item), len(parts))
		}
		name, ok := parts[0].(string)
		if !ok {
			return nil, TypeError.New("attribute name must be string, not '%s'", pythonType(parts[0]))
		}
		m, err := o.method(name)
		if err != nil {
			return nil, err
		}
		call.info.Method = name
		result, err := m.runUnpacked(call, parts[1], parts[2])
		if err != nil {
			if call.conn != nil {
				call.conn.d.callFailed(call, err)
			}
			wrapped := ClassDict{Class: batchClass, Attrs: map[string]any{"exception": exception(err, m.place()...)}}
			return append(results, wrapped), nil
		}
		if isIterator(reflect.TypeOf(result)) {
			return nil, TypeError.New("%s() returns an iterator: item streams are not supported in batches", name)
		}
		results = append(results, result)
	}
	return results, nil
}

// runUnpacked is run with the arguments of a call in a batch.
func (m *Method) runUnpacked(call *servedCall, args, kwargs any) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			result, err = nil, panicError(p)
		}
	}()
	positional, ok := sequence(args)
	if !ok {
		return nil, TypeError.New("%s() argument after * must be an iterable, not %s", m.Name, pythonType(args))
	}
	keywords, ok := kwargs.(map[string]any)
	if !ok && kwargs != nil {
		return nil, TypeError.New("%s() argument after ** must be a mapping, not %s", m.Name, pythonType(kwargs))
	}
	return m.run(call, positional, keywords)
}

// panicked is the error of a method that panicked.
type panicked struct {
	*RemoteError
}

func panicError(p any) error {
	e := RuntimeError.New("panic: %v", p)
	e.Traceback = traceback(e, stackLines(4))
	return &panicked{e}
}

// Unwrap makes it the exception that is sent.
func (p *panicked) Unwrap() error { return p.RemoteError }

// stackLines lists the callers, outermost first as in Python, without the innermost skip and without Go's runtime.
func stackLines(skip int) []string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(skip, pcs[:])])
	var lines []string
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			lines = append(lines, fmt.Sprintf("File %q, line %d, in %s", f.File, f.Line, f.Function))
		}
		if !more {
			break
		}
	}
	slices.Reverse(lines)
	return lines
}

// exception is what is sent for the error of a method: it always has a traceback, which begins where the method is defined.
func exception(err error, where ...string) *RemoteError {
	e := methodError(err)
	if e.Traceback == nil {
		e.Traceback = traceback(e, where)
	}
	return e
}

// place is where the code of the method begins, as a line of a traceback.  An error of Go does not know where it was made.
func (m *Method) place() []string {
	code := m.code
	switch {
	case code != 0:
	case m.Direct != nil:
		code = reflect.ValueOf(m.Direct).Pointer()
	default:
		code = reflect.ValueOf(m.Func).Pointer()
	}
	f := runtime.FuncForPC(code)
	if f == nil {
		return nil
	}
	file, line := f.FileLine(code)
	return []string{fmt.Sprintf("File %q, line %d, in %s", file, line, f.Name())}
}

// place is that of the method of a call; nil if there is none.
func (d *Daemon) place(call *servedCall) []string {
	if o := d.object(call.info.Object); o != nil {
		if m, err := o.method(call.info.Method); err == nil {
			return m.place()
		}
	}
	return nil
}

// replyResult answers with a value, or with an exception if the serializer does not take it.
func (c *turn) replyResult(call *servedCall, m message, s Serializer, result any) bool {
	if m.flags&flagOneway != 0 {
		return true
	}
	h := call.replyHeader(m)
	h.flags |= m.flags & flagBatch
	err := c.prepare(h, call.takeReply(), s, result)
	if err == nil {
		return true
	}
	return c.replyError(call, m, s, TypeError.New("result of %s() cannot be sent: %v", call.info.Method, err), nil)
}

// replyHeader is that of a result; every one carries the correlation id.
func (c *servedCall) replyHeader(m message) header { return replyHeader(&m, c.info.CorrelationID) }

func replyHeader(m *message, correlationID [16]byte) header {
	return header{
		typ:           msgResult,
		serializer:    m.serializer,
		seq:           m.seq,
		flags:         flagCorrelationID,
		correlationID: correlationID,
	}
}

// replyError answers with an exception and reports whether the connection goes on.  It does not after an exception that
// concerns the connection: stock clients drop theirs then, and stock servers, too.  (A stock server even sends nothing if the
// class is CommunicationError; here the client learns the reason.)
func (c *turn) replyError(call *servedCall, m message, s Serializer, err error, a Annotations) bool {
	e := exception(err, c.d.place(call)...)
	call.observation.ends(CallException)
	if _, rejected := a[annotationNotExecuted]; rejected {
		call.observation.ends(CallNotExecuted)
	}
	if m.flags&flagOneway == 0 {
		c.d.logPanic(call, err)
	}
	goesOn := !e.Is(CommunicationError) && !e.Is(SecurityError)
	if m.flags&flagOneway != 0 {
		c.d.logUnseen(call, err)
		return goesOn
	}
	if own := call.takeReply(); a == nil {
		a = own
	}
	if call.timedOut(err) {
		if a = maps.Clone(a); a == nil {
			a = make(Annotations, 1)
		}
		a[annotationDeadline] = nil // the method gave up because its caller's time was over
	}
	h := call.replyHeader(m)
	h.flags |= flagException
	if encodeErr := c.prepare(h, a, s, e); encodeErr != nil {
		text := fmt.Sprintf("Error serializing exception: %v. Original exception: %s", encodeErr, e.Error())
		generic := PyroError.New("%s", text)
		generic.Traceback = append(slices.Clone(e.Traceback), generic.Error()+"\n")
		return c.prepare(h, nil, s, generic) == nil && goesOn
	}
	return goesOn
}

// prepare appends the message of a value to c.out; nothing if that fails.
func (c *turn) prepare(h header, a Annotations, s Serializer, value any) (err error) {
	start := len(c.out)
	defer func() {
		if p := recover(); p != nil { // a method of the value, asked for its text
			err = panicError(p)
		}
		if err != nil {
			c.out = c.out[:start]
		}
	}()
	if c.out, err = beginMessage(c.out, a); err != nil {
		return err
	}
	h.annotationsLen = uint32(annotationsBytes(a))
	if c.out, err = s.AppendValue(c.out, value); err != nil {
		return err
	}
	if err := finishMessage(c.out[start:], &h); err != nil {
		return err
	}
	if c.d.opts.Compress {
		c.out = compressMessage(c.out, start)
	}
	if c.pyro4 != nil {
		c.out, err = c.pyro4.translate(c.out, start)
	}
	return err
}
