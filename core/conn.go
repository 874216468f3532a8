package core

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
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
	readBounded  bool    // a read deadline is set
	writeBounded instant // the write deadline; 0 if none was set
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
	var m message
	if w.takeAhead(&m) {
		return m, nil
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
	m, err = parseBody(h, body, w.limit)
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

// memoryOf returns w.body if a payload is in it; nil of small ones.
func (w *wire) memoryOf(payload []byte) []byte {
	if len(payload) < largeBytes || !w.holds(payload) {
		return nil
	}
	return w.body
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
			w.body = append(make([]byte, 0, nextStep(n, cap(w.body))), w.body...)
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

// nextStep is how much memory there should be for n bytes of which have arrived.
func nextStep(n, have int) int {
	if step := max(growthFactor*have, firstStepBytes); n > 2*step {
		return step
	}
	return n
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

// scatters reports whether a connection takes several pieces of memory with one system call, and can go on writing after a deadline: TLS cannot.
func scatters(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// writeLarge sends b with large in it at cut, if that is not nil.
func (w *wire) writeLarge(b, large []byte, cut int) error {
	if large == nil || !scatters(w.nc) {
		if large != nil {
			b = slices.Insert(b, cut, large...)
		}
		_, err := w.write(b)
		return err
	}
	for {
		if err := w.boundWrite(); err != nil {
			return err
		}
		step := min(len(large), writeStepBytes)
		parts := net.Buffers{b[:cut], large[:step]}
		large, b, cut = large[step:], b[cut:], 0
		if len(large) == 0 {
			parts = append(parts, b)
		}
		if _, err := parts.WriteTo(w.nc); err != nil || len(large) == 0 {
			return err
		}
	}
}

// boundWrite gives the peer between one and two times stepTimeout: a deadline is not set anew for every message, which would cost
// as much as the rest of writing it.
func (w *wire) boundWrite() error {
	if w.stepTimeout <= 0 {
		return nil
	}
	now := now()
	if w.writeBounded != 0 && w.writeBounded-now >= instant(w.stepTimeout) {
		return nil
	}
	w.writeBounded = now + instant(2*w.stepTimeout)
	return w.nc.SetWriteDeadline(programStart.Add(time.Duration(w.writeBounded)))
}

// hasRequest reports whether a whole message was read ahead, so that reading it does not wait.
func (w *wire) hasRequest() bool {
	if w.pyro4 != nil {
		return w.hasRequest48()
	}
	b := w.r.b[w.r.r:w.r.w]
	return len(b) >= headerBytes && lengths(b) <= uint64(len(b)-headerBytes)
}

// lengths is how many bytes are behind a header.
func lengths(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(b[12:])) + uint64(binary.BigEndian.Uint32(b[16:]))
}

// takeAhead makes m the next message if all of it was read ahead and there is nothing special about it: what readMessage would do, in a fraction of
// the time.
func (w *wire) takeAhead(m *message) bool {
	b := w.r.b[w.r.r:w.r.w]
	if len(b) < headerBytes || w.readBounded {
		return false
	}
	size := lengths(b)
	flags := binary.BigEndian.Uint16(b[8:])
	annotations := binary.BigEndian.Uint32(b[16:])
	switch {
	case size > uint64(min(len(b)-headerBytes, w.limit)) || flags&flagCompressed != 0:
		return false
	case string(b[:4]) != headerTag || binary.BigEndian.Uint16(b[4:]) != protocolVersion || binary.BigEndian.Uint16(b[38:]) != headerMagic:
		return false
	case annotations != 0 && !isDeadlineAlone(b[headerBytes:headerBytes+annotations]):
		return false
	}
	m.typ, m.serializer, m.flags, m.seq = b[6], b[7], flags, binary.BigEndian.Uint16(b[10:])
	m.payloadLen, m.annotationsLen, m.correlationID = uint32(size)-annotations, annotations, [16]byte(b[20:36])
	m.size = headerBytes + int(size)
	b = b[headerBytes:m.size:m.size]
	m.annotations, m.payload = b[:annotations:annotations], b[annotations:]
	w.r.Discard(m.size)
	return true
}

// trim gives large buffers away, which an idle connection should not keep.
func (w *wire) trim() { w.body, w.out = keepLarge(w.body), keepLarge(w.out) }
