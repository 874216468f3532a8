package core

import (
	"errors"
	"io"
	"net"
	"time"
)

const (
	keepBufferBytes = 64 << 10 // a buffer that grew past this is not kept by its connection
	firstStepBytes  = 64 << 10 // of a long body: memory grows as bytes arrive, whatever the header claims
	growthFactor    = 16       // of that memory
	writeStepBytes  = 1 << 20  // a write deadline holds for so many bytes
	flushBytes      = 48 << 10 // replies are written when there are so many, even if more requests wait; one more fits into a buffer that is kept
)

// wire is a connection that speaks messages.  One goroutine at a time may read, one may write.
type wire struct {
	nc    net.Conn
	r     *readBuffer
	limit int      // of a message
	body  []byte   // of a message that is larger than the read buffer; kept for the next
	out   []byte   // kept for the next message to write
	pyro4 *proto48 // nil if it speaks protocol 502

	// A peer gets stepTimeout for each step of a message it began to send or does not take; zero means no bound.  The ends
	// of calls that clients make bound their reads and writes by the call's context instead.
	stepTimeout  time.Duration
	readBounded  bool // a read deadline is set
	writeBounded time.Time
}

func newWire(nc net.Conn, limit int) *wire {
	return &wire{nc: nc, r: newReadBuffer(nc), limit: limit}
}

// readMessage reads the next message, which is valid until the next read.  The error is io.EOF if the connection ended between two
// messages, io.ErrUnexpectedEOF if it ended inside of one, and a ProtocolError if the bytes are no message.
func (w *wire) readMessage() (message, error) {
	if _, err := w.r.Peek(1); err != nil {
		return message{}, err
	}
	return w.readStarted()
}

// readStarted is readMessage once the first byte is there.
func (w *wire) readStarted() (message, error) {
	if w.pyro4 != nil {
		return w.readStarted48()
	}
	h, err := w.readHeader()
	if err != nil {
		return message{}, torn(err)
	}
	body, err := w.readBody(int(h.bodyLen()))
	if err != nil {
		return message{}, torn(err)
	}
	if w.readBounded {
		w.readBounded = false
		if err := w.nc.SetReadDeadline(time.Time{}); err != nil {
			return message{}, err
		}
	}
	m, err := parseBody(h, body, w.limit)
	m.size = headerBytes + len(body)
	return m, err
}

// readHeader judges the first bytes alone, so that a client of another protocol gets its answer without sending 40 bytes.
func (w *wire) readHeader() (header, error) {
	if w.r.Buffered() < headerBytes {
		if err := w.boundStep(); err != nil {
			return header{}, err
		}
	}
	prefix, err := w.r.Peek(prefixBytes)
	if err != nil {
		return header{}, err
	}
	if err := checkPrefix(prefix); err != nil {
		return header{}, err
	}
	b, err := w.r.Peek(headerBytes)
	if err != nil {
		return header{}, err
	}
	h, err := parseHeader(b, w.limit)
	if err == nil {
		w.r.Discard(headerBytes)
	}
	return h, err
}

// readBody returns the next n bytes, which are valid until the next read.
func (w *wire) readBody(n int) ([]byte, error) {
	if n > len(w.r.b) {
		return w.readLarge(n)
	}
	if w.r.Buffered() < n {
		if err := w.boundStep(); err != nil {
			return nil, err
		}
	}
	b, err := w.r.Peek(n)
	if err != nil {
		return nil, err
	}
	w.r.Discard(n)
	return b, nil
}

// holds reports whether a payload is the end of w.body, rather than of the read buffer, or inflated.
func (w *wire) holds(payload []byte) bool {
	return len(payload) > 0 && len(payload) <= len(w.body) && &payload[len(payload)-1] == &w.body[len(w.body)-1]
}

// readLarge reads n bytes into w.body.
func (w *wire) readLarge(n int) ([]byte, error) {
	w.body = w.body[:0]
	if cap(w.body) < n {
		if kept := getLarge(n); kept != nil {
			w.body = kept
		}
	}
	for len(w.body) < n {
		if w.r.Buffered() < n-len(w.body) {
			if err := w.boundStep(); err != nil {
				return nil, err
			}
		}
		if free := cap(w.body) - len(w.body); free == 0 {
			w.body = append(make([]byte, 0, min(n, max(growthFactor*cap(w.body), firstStepBytes))), w.body...)
		}
		step := min(n-len(w.body), cap(w.body)-len(w.body), writeStepBytes)
		start := len(w.body)
		w.body = w.body[:start+step]
		if _, err := io.ReadFull(w.r, w.body[start:]); err != nil {
			return nil, err
		}
	}
	return w.body, nil
}

// boundStep gives the peer stepTimeout for what is read next.
func (w *wire) boundStep() error {
	if w.stepTimeout <= 0 {
		return nil
	}
	w.readBounded = true
	return w.nc.SetReadDeadline(time.Now().Add(w.stepTimeout))
}

// torn makes the end of a connection inside a message recognizable.
func torn(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// write sends b, with one write unless it is long, and says how many bytes of it went out.
func (w *wire) write(b []byte) (n int, err error) {
	for {
		if err := w.boundWrite(); err != nil {
			return n, err
		}
		step, err := w.nc.Write(b[n:min(len(b), n+writeStepBytes)])
		n += step
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// boundWrite gives the peer between one and two times stepTimeout: a deadline is not set anew for every message, which would cost
// as much as the rest of writing it.
func (w *wire) boundWrite() error {
	if w.stepTimeout <= 0 {
		return nil
	}
	now := time.Now()
	if w.writeBounded.Sub(now) >= w.stepTimeout {
		return nil
	}
	w.writeBounded = now.Add(2 * w.stepTimeout)
	return w.nc.SetWriteDeadline(w.writeBounded)
}

// hasRequest reports whether a whole message was read ahead, so that reading it does not wait.
func (w *wire) hasRequest() bool {
	if w.pyro4 != nil {
		return w.hasRequest48()
	}
	if w.r.Buffered() < headerBytes {
		return false
	}
	b, err := w.r.Peek(headerBytes)
	if err != nil {
		return false
	}
	h, err := parseHeader(b, w.limit)
	return err == nil && h.bodyLen() <= int64(w.r.Buffered()-headerBytes)
}

// trim gives large buffers away, which an idle connection should not keep.
func (w *wire) trim() { w.body, w.out = keepLarge(w.body), keepLarge(w.out) }
