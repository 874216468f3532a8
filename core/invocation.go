package core

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Invocation is a call whose arguments are encoded when it is made and whose result is decoded when it is read, both without reflection.  It is
// what generated proxies use:
//
//	call := core.NewInvocation("add")
//	defer call.Free()
//	call.Args.Int(a)
//	call.Args.Int(b)
//	if err := invoker.Invoke(ctx, call); err != nil {
//		return 0, err
//	}
//	sum := call.Result.Int()
//	return sum, call.Result.Err()
//
// It belongs to one goroutine at a time.
type Invocation struct {
	Args   Encoder // positional ones
	Result Decoder // after Invoke has returned nil; there is none of a oneway call

	object string // in place of the proxy's
	method string
	kwargs Kwargs
	oneway bool
	// noKwargs sends None for them, as for attributes.
	noKwargs bool
	reply    []byte // holds the result
	large    bool   // reply may have been given to who reads the result
}

// Invoker makes calls that are encoded already.  [Proxy] is one, and so is the proxy of an object group.
type Invoker interface {
	// Invoke makes the call.  Its errors are those of Call ([Caller]).  After an error it may be made again, also with another Invoker.
	Invoke(ctx context.Context, v *Invocation) error
}

var invocations = sync.Pool{New: func() any { return new(Invocation) }}

// NewInvocation returns a call of a method without arguments so far.  Free should follow.
func NewInvocation(method string) *Invocation {
	v := invocations.Get().(*Invocation)
	v.method = method
	return v
}

// Kwargs sets keyword arguments.
func (v *Invocation) Kwargs(k Kwargs) { v.kwargs = k }

// Oneway makes it a call whose caller does not wait for an answer.
func (v *Invocation) Oneway() { v.oneway = true }

// Method returns the name of the method.
func (v *Invocation) Method() string { return v.method }

// Free gives the memory back for other calls.  Nothing of v may be used afterwards.  A stream that nobody took out of the result is closed.
func (v *Invocation) Free() {
	if s, ok := v.Result.value.(*Stream); ok && (v.Result.left > 0 || v.Result.err != nil) {
		s.drop()
	}
	if v.large && v.Result.memory == nil {
		v.reply = nil // it was given away
	}
	args, reply := keepLarge(v.Args.b), keepLarge(v.reply)
	*v = Invocation{}
	v.Args.b, v.reply = args, reply
	invocations.Put(v)
}

// appendPayload appends the payload of the request: object id, method, arguments, keyword arguments.
func (v *Invocation) appendPayload(dst []byte, s Serializer, object string) ([]byte, error) {
	if err := v.Args.err; err != nil {
		return dst, err
	}
	if s != Serializer(msgpackSerializer{}) {
		return v.appendBoxed(dst, s, object)
	}
	start := len(dst)
	dst, cut, err := v.appendParts(grown(dst, len(v.Args.b)+len(v.Args.large)+len(object)+len(v.method)+32), object)
	if err != nil {
		return dst[:start], err
	}
	if v.Args.large != nil {
		dst = slices.Insert(dst, cut, v.Args.large...)
	}
	return dst, nil
}

// appendParts is appendPayload without the large bytes of an argument, which belong at cut.
func (v *Invocation) appendParts(dst []byte, object string) (_ []byte, cut int, err error) {
	dst = append(dst, 0x94)
	dst = appendMsgpackText(dst, object)
	dst = appendMsgpackText(dst, v.method)
	dst = appendMsgpackArrayHeader(dst, v.Args.n)
	cut = len(dst) + v.Args.cut
	dst = append(dst, v.Args.b...)
	switch {
	case v.noKwargs:
		return append(dst, 0xc0), cut, nil
	case len(v.kwargs) == 0:
		return append(dst, 0x80), cut, nil
	}
	dst, err = msgpackSerializer{target{daemon: v.Args.daemon}}.AppendValue(dst, map[string]any(v.kwargs))
	return dst, cut, err
}

// appendMessage appends the request to a program that takes many calls at once, whose caller waits so many milliseconds; 0 is without end.  The
// large bytes of an argument, which belong at cut, are left out.
func (v *Invocation) appendMessage(dst []byte, object string, h *header, a Annotations, patience int64) (_ []byte, cut int, err error) {
	start := len(dst)
	if dst, err = beginMessage(dst, a); err != nil {
		return dst[:start], 0, err
	}
	if patience > 0 {
		dst = appendDeadline(dst, patience)
	}
	h.annotationsLen = uint32(len(dst) - start - headerBytes)
	if err = v.Args.err; err == nil {
		dst, cut, err = v.appendParts(grown(dst, len(v.Args.b)+len(object)+len(v.method)+32), object)
	}
	if err == nil {
		err = finishMessageParts(dst[start:], len(v.Args.large), h)
	}
	if err != nil {
		return dst[:start], 0, fmt.Errorf("core: %s: %w", v.method, err)
	}
	return dst, cut, nil
}

// appendBoxed is appendPayload for a serializer other than that of the arguments.
func (v *Invocation) appendBoxed(dst []byte, s Serializer, object string) ([]byte, error) {
	v.Args.join()
	args, err := msgpackSerializer{}.ParseValue(append(appendMsgpackArrayHeader(nil, v.Args.n), v.Args.b...))
	if err != nil {
		return dst, err
	}
	list, _ := sequence(args)
	r := Request{Object: object, Method: v.method, Args: list, Kwargs: noKwargs}
	if len(v.kwargs) > 0 {
		r.Kwargs = v.kwargs
	}
	return s.AppendRequest(dst, r)
}

// setResult makes the payload of a reply the result; it is not copied.
func (v *Invocation) setResult(s Serializer, payload []byte) error {
	v.Result = Decoder{name: v.method, left: 1}
	if s.ID() != (msgpackSerializer{}).ID() {
		value, err := s.ParseValue(payload)
		v.Result.values, v.Result.boxed = []any{value}, true
		return err
	}
	check := msgpackCheck{data: payload, anyText: true}
	if err := check.values(1, 0); err != nil {
		return fmt.Errorf("core: msgpack: offset %d: %w", check.pos, err)
	}
	if check.pos != len(payload) {
		return fmt.Errorf("core: msgpack: offset %d: %w", check.pos, errTrailing)
	}
	v.Result.b = payload
	if v.large = len(payload) >= largeBytes; v.large {
		v.Result.memory = v.reply
	}
	return nil
}

// setStored makes a value the result.
func (v *Invocation) setStored(value any) {
	v.Result = Decoder{name: v.method, left: 1, value: value, isValue: true}
}

var _ Invoker = (*Proxy)(nil)

// Invoke implements [Invoker].
func (p *Proxy) Invoke(ctx context.Context, v *Invocation) error {
	if p.opts.Observer == nil {
		return p.sendInvocation(ctx, v, nil)
	}
	start := time.Now()
	var o Observation
	err := p.sendInvocation(ctx, v, &o)
	o.Took, o.Outcome = time.Since(start), OutcomeOf(err)
	p.observer(v.method).ObserveCall(o)
	return err
}

func (p *Proxy) sendInvocation(ctx context.Context, v *Invocation, o *Observation) error {
	for {
		m, err := p.muxed(ctx)
		if err != nil {
			return err
		}
		if m == nil {
			return p.sendPlain(ctx, v, o)
		}
		flags, err := p.flags(member{v.method, isMethod}, m.c.members)
		if err != nil {
			return err
		}
		err = m.invoke(ctx, v, flags|v.flags(), o)
		if err == errFull {
			return p.sendPlain(ctx, v, o)
		}
		if !m.again(ctx, err) {
			return err
		}
	}
}

func (v *Invocation) flags() uint16 {
	if v.oneway {
		return flagOneway
	}
	return 0
}

// flags returns those of the message of a call as far as the object says them, or that it has no such member.
func (p *Proxy) flags(x member, m *members) (uint16, error) {
	if x.kind == isMethod {
		switch oneway, ok := m.method(x.name); {
		case ok && oneway && !p.opts.AwaitOneway:
			return flagOneway, nil
		case ok:
			return 0, nil
		}
	}
	if err := m.check(x, &p.uri); err != nil {
		return 0, &LocalError{Err: err}
	}
	return 0, nil
}

// sendPlain makes a call on a connection of its own.
func (p *Proxy) sendPlain(ctx context.Context, v *Invocation, o *Observation) error {
	return p.with(ctx, func(c *clientConn) error {
		flags, err := p.flags(member{v.method, isMethod}, c.members)
		if err != nil {
			return err
		}
		c.sent, c.received = 0, 0
		err = c.invokeEncoded(ctx, v, flags|v.flags())
		if o != nil {
			o.Sent, o.Received = o.Sent+c.sent, o.Received+c.received
		}
		return err
	})
}

// invokeEncoded sends an invocation and takes its result.
func (c *clientConn) invokeEncoded(ctx context.Context, v *Invocation, flags uint16) error {
	m, err := c.requestWith(ctx, v.method, flags, func(dst []byte) ([]byte, error) { return v.appendPayload(dst, c.serializer, c.object) })
	switch {
	case err != nil:
		return err
	case flags&flagOneway != 0:
		v.setStored(nil)
		return nil
	case m.flags&flagItemStream != 0: // an exception for those who do not know streams
		var s *Stream
		if err := c.stream(ctx, m, v.method, &s); err != nil {
			return err
		}
		v.setStored(s)
		return nil
	case m.flags&flagException != 0:
		return c.result(ctx, m, v.method, nil)
	}
	payload := m.payload
	if c.holds(payload) {
		c.body, v.reply = nil, c.body // a large reply goes with the invocation
	} else {
		v.reply = append(v.reply[:0], payload...)
		payload = v.reply
	}
	if err := v.setResult(c.serializer, payload); err != nil {
		return c.badReply(err)
	}
	return nil
}
