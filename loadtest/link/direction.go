package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// readBytes is how much is read at a time.
const readBytes = 64 << 10

// direction is one of the two directions of a connection.  Only its own goroutine uses it.
type direction struct {
	c        *conn
	src, dst *net.TCPConn
	line     line
	failed   bool    // it ended otherwise than with the end of what was sent
	who      *caller // not known yet; nil if it is known or does not matter

	frames *frames // nil without Options.Frames
	held   []byte  // the beginning of a header, kept back since the message might have to be cut
	cut    *cut    // of the message that passes; nil mostly
	left   int64   // bytes of it before the cut
}

func newDirection(c *conn, src, dst *net.TCPConn) *direction {
	d := &direction{c: c, src: src, dst: dst, line: line{c: c, dst: dst, room: make(chan struct{}, 1)}}
	if c.p.opts.Frames {
		d.frames = &frames{}
	}
	return d
}

// run forwards until the end of what is sent.
func (d *direction) run(ctx context.Context) {
	buf := make([]byte, readBytes)
	for {
		n, err := d.src.Read(buf)
		if n > 0 && !d.pass(ctx, buf[:n]) {
			d.failed = true
			return
		}
		if err != nil {
			d.finish(ctx, err)
			return
		}
	}
}

// finish passes on the end of what was sent: FIN as FIN, RST as RST.
func (d *direction) finish(ctx context.Context, err error) {
	if d.c.vanish(ctx) {
		return
	}
	if !errors.Is(err, io.EOF) {
		d.failed = true
		d.send(ctx, nil, d.c.reset)
		return
	}
	d.failed = !d.send(ctx, d.held, func() { d.dst.CloseWrite() })
}

// pass sends b on, but for what faults take from it.  It reports whether there can be more.
func (d *direction) pass(ctx context.Context, b []byte) bool {
	if d.who != nil {
		d.identify(b)
	}
	switch {
	case d.c.lose():
		return true
	case d.frames == nil:
		return d.send(ctx, b, nil)
	case d.cut != nil || len(d.held) > 0 || d.c.p.armed.Load() > 0:
		return d.passUntilCut(ctx, b)
	}
	d.frames.advance(b)
	return d.send(ctx, b, nil)
}

// passUntilCut sends b on message by message, and looks for one that is to be cut.
func (d *direction) passUntilCut(ctx context.Context, b []byte) bool {
	if len(d.held) > 0 {
		b = append(d.held, b...)
		d.held = nil
	}
	for len(b) > 0 {
		if d.cut == nil && d.frames.atStart() && !d.choose(b) {
			d.held = bytes.Clone(b)
			return true
		}
		n := d.frames.span(len(b))
		if d.cut != nil {
			n = int(min(d.left, int64(len(b))))
		}
		d.frames.advance(b[:n])
		if !d.send(ctx, b[:n], nil) {
			return false
		}
		b = b[n:]
		if d.cut == nil {
			continue
		}
		if d.left -= int64(n); d.left == 0 && d.c.p.perform(d.cut) {
			d.send(ctx, nil, d.c.reset)
			return false
		} else if d.left == 0 {
			d.cut = nil // nobody waits for it any more
		}
	}
	return true
}

// choose decides whether the message that begins with b is cut.  False means that too little of it is there to know.
func (d *direction) choose(b []byte) bool {
	size, ok := messageSize(b)
	if !ok {
		return true // the frames will find that it is no message
	}
	if size == 0 {
		return d.c.p.armed.Load() == 0
	}
	if d.cut = d.c.p.takeCut(); d.cut != nil {
		d.left = size / 2
	}
	return true
}

// settleCut says what became of a cut, when the connection has ended.
func (d *direction) settleCut() {
	if d.cut != nil {
		d.c.p.settle(d.cut)
	}
}

// send passes b on, later if bytes are to be late or others are under way, and then calls then, if that is not nil.  It reports whether
// there can be more.
func (d *direction) send(ctx context.Context, b []byte, then func()) bool {
	delay := time.Duration(d.c.p.delay.Load())
	if delay > 0 || d.line.busy.Load() {
		return d.line.put(ctx, parcel{due: time.Now().Add(delay), data: bytes.Clone(b), then: then})
	}
	if len(b) > 0 {
		if _, err := d.dst.Write(b); err != nil {
			return false // what the other side sent before it went is still on its way, and the end of that ends the connection
		}
	}
	if then != nil {
		then()
	}
	return true
}

// caller is who dialled, as far as it is known.
type caller struct{ first []byte }

// maxFirst is how many bytes Options.From gets at most, unless more came at once.
const maxFirst = 1 << 10

// identify asks who dialled.
func (d *direction) identify(b []byte) {
	d.who.first = append(d.who.first, b...)
	name := d.c.p.opts.From(d.who.first)
	if name == "" && len(d.who.first) < maxFirst {
		return
	}
	d.who = nil
	d.c.p.identified(d.c, name)
}
