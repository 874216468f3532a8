package core

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"
)

// msgpackID is the serializer that calls without boxing are made for.
const msgpackID = 4

// encodedRequest is what a request in msgpack without keyword arguments has, which are not decoded; it refers to the message.  It is handed on by
// pointer, since copying it costs more than reading it.
type encodedRequest struct {
	args  []byte // values one after the other, whose structure was checked
	count int
}

// scanTarget reads the object and the method of a request, which take n bytes; 0 if it is none.
func scanTarget(b []byte) (object, method []byte, n int) {
	if len(b) == 0 || b[0] != 0x94 {
		return nil, nil, 0
	}
	object, first := scanMsgpackText(b[1:])
	if first == 0 {
		return nil, nil, 0
	}
	method, second := scanMsgpackText(b[1+first:])
	if second == 0 {
		return nil, nil, 0
	}
	return object, method, 1 + first + second
}

// scanArguments reads what follows the method; false if it has keyword arguments, or is no request.
func scanArguments(b []byte, r *encodedRequest) (ok bool) {
	switch {
	case len(b) > 0 && b[0]&0xf0 == 0x90:
		r.count, b = int(b[0]&0x0f), b[1:]
	case len(b) > 2 && b[0] == 0xdc:
		r.count, b = int(binary.BigEndian.Uint16(b[1:])), b[3:]
	default:
		return false
	}
	check := msgpackCheck{data: b, anyText: true}
	if check.values(uint64(r.count), 2) != nil {
		return false
	}
	r.args = b[:check.pos]
	rest := b[check.pos:]
	return len(rest) == 1 && (rest[0] == 0x80 || rest[0] == 0xc0) // no keywords, or None
}

// lookup returns what is registered under an id, which is often that of the call before.
func (c *turn) lookup(id []byte) *object {
	if version := c.d.version.Load(); c.known == nil || version != c.knownVersion || string(id) != c.knownID {
		c.knownID, c.knownVersion = string(id), version
		c.known, c.knownMethod = c.d.object(c.knownID), nil
	}
	return c.known
}

// directMethod returns the method of a request if it can be run without boxing, and the rest of the request in r.
func (c *turn) directMethod(m *message, r *encodedRequest) *Method {
	if m.typ != msgInvoke || m.serializer != msgpackID || m.flags&^(flagCorrelationID|flagOneway) != 0 || c.d.draining.Load() || c.pyro4 != nil {
		return nil
	}
	if c.knownMethod == nil || c.knownVersion != c.d.version.Load() || !bytes.HasPrefix(m.payload, c.knownTarget) {
		if !c.findMethod(m) {
			return nil
		}
	}
	method := c.knownMethod
	if !scanArguments(m.payload[len(c.knownTarget):], r) || r.count != len(method.Params) && !(method.Variadic && r.count > len(method.Params)) {
		return nil
	}
	return method
}

// findMethod makes the method of a request the one that is known, if it can be run without boxing.
func (c *turn) findMethod(m *message) bool {
	c.knownMethod = nil
	object, name, n := scanTarget(m.payload)
	if n == 0 {
		return false
	}
	o := c.lookup(object)
	if o == nil || o.serial != nil || o.instances != nil || o.idle != nil {
		return false
	}
	method := o.methods[string(name)]
	if method == nil || method.Direct == nil || method.Streams {
		return false
	}
	c.knownMethod, c.knownTarget = method, append(c.knownTarget[:0], m.payload[:n]...)
	return true
}

// callDirect runs a method without boxing and appends the reply to c.out, if there is to be one.
func (c *turn) callDirect(m *message, r *encodedRequest, method *Method) (goesOn bool) {
	call := c.nextCall(m, method)
	observed := c.begin(m.size)
	observed.of(method.observer)
	start := len(c.out)
	a := &c.args // of which nothing else was ever set
	a.b, a.left, a.pos, a.method, a.memory, a.err = r.args, r.count, 0, method, c.memory, nil
	e := &c.result
	e.b, e.n, e.large, e.err, e.daemon = c.out, 0, nil, nil, c.d
	if m.flags&flagOneway == 0 {
		e.b = append(e.b, emptyHeader[:]...)
	}
	err := c.runDirect(call, method)
	goesOn = true
	switch {
	case m.flags&flagOneway != 0:
		c.out = c.result.b[:start]
		if err != nil {
			observed.ends(CallException)
			c.d.callFailed(call, err)
			c.d.logUnseen(call.served(), err)
		}
		call.end()
	case err == nil:
		goesOn = c.finishDirect(call, m, method, start)
	case err == errLate:
		c.out = c.result.b[:start]
		goesOn = c.failDirect(call, m, err, notExecuted)
	default:
		c.out = c.result.b[:start]
		c.d.callFailed(call, err)
		goesOn = c.failDirect(call, m, err, nil)
	}
	observed.report(len(c.out) - start + len(c.large))
	return goesOn
}

// failDirect answers with an exception.
func (c *turn) failDirect(call *directCall, m *message, err error, a Annotations) (goesOn bool) {
	s := call.served()
	if c.d.unknown != nil {
		s.observation = &c.observation
	}
	return c.replyError(s, *m, c.d.formats[msgpackID], err, a)
}

var emptyHeader [headerBytes]byte

// runDirect turns a panic into an exception.
func (c *turn) runDirect(call *directCall, method *Method) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	if err := call.late(); err != nil {
		return err
	}
	return method.Direct(call, &c.args, &c.result)
}

// finishDirect makes the message of a result that c.result has written behind the room for a header at start.
func (c *turn) finishDirect(call *directCall, m *message, method *Method, start int) bool {
	e := &c.result
	switch {
	case e.err != nil:
		c.out = e.b[:start]
		return c.failDirect(call, m, TypeError.New("result of %s() cannot be sent: %v", method.Name, e.err), nil)
	case e.n > 1 || e.n < 0:
		c.out = e.b[:start]
		return c.failDirect(call, m, errResultCount(method, e.n), nil)
	case e.n == 0:
		e.Nil()
	}
	h := replyHeader(m, call.correlationID)
	a := call.end()
	if a != nil || c.d.opts.Compress {
		e.join()
	}
	if a != nil {
		payload := append([]byte(nil), e.b[start+headerBytes:]...)
		var err error
		if c.out, err = appendMessage(e.b[:start], h, a, payload); err != nil {
			return c.failDirect(call, m, err, nil)
		}
	} else {
		c.out = e.b
		if err := finishMessageParts(c.out[start:], len(e.large), &h); err != nil {
			c.out = c.out[:start]
			return c.failDirect(call, m, err, nil)
		}
		c.large, c.cut = e.large, e.cut
	}
	if c.d.opts.Compress {
		c.out = compressMessage(c.out, start)
	}
	return true
}

// timedOut reports whether an error is that the caller's time is over.
func (c *servedCall) timedOut(err error) bool {
	return !c.deadline.IsZero() && errors.Is(err, context.DeadlineExceeded) && !time.Now().Before(c.deadline)
}

// setDeadline gives a call the time that its caller has left.
func (c *servedCall) setDeadline(m *message) {
	if data, ok := m.annotation(annotationDeadline); ok && len(data) == 4 {
		c.deadline = time.Now().Add(time.Duration(binary.BigEndian.Uint32(data)) * time.Millisecond)
	}
}

// late returns an error if nobody waits for the call any more.
func (c *servedCall) late() error {
	if c.deadline.IsZero() || time.Until(c.deadline) > 0 {
		return nil
	}
	return errLate
}

// errLate is the answer to a call that was not run because it came too late.
var errLate = ExceptionClass("builtins.TimeoutError").New("the caller does not wait any more: the call was not run")
