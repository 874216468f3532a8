package link

import (
	"encoding/binary"
	"strings"
)

// The header of a message of protocol 502, as far as it matters here; core/frame.go draws it.  Older protocols have the same tag and
// other headers: they are not told apart into messages.
const (
	headerBytes  = 40
	headerPrefix = "PYRO\x01\xf6" // tag and version
	headerMagic  = 0x4dc5         // at its end
)

// messageSize returns how long the message is that begins with b, or 0 if too little of it is there to know.  ok is false if it is no
// message of protocol 502.
func messageSize(b []byte) (size int64, ok bool) {
	n := min(len(b), len(headerPrefix))
	if !strings.HasPrefix(headerPrefix, string(b[:n])) {
		return 0, false
	}
	if len(b) < headerBytes {
		return 0, true
	}
	if binary.BigEndian.Uint16(b[headerBytes-2:]) != headerMagic {
		return 0, false
	}
	payload, annotations := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[16:])
	return headerBytes + int64(payload) + int64(annotations), true
}

// frames follows the messages in a stream of bytes.  The zero value is at the start.
type frames struct {
	head   [headerBytes]byte
	have   int   // bytes of head
	left   int64 // bytes of the message behind its header
	opaque bool  // these are no messages, and whatever follows cannot be known
}

// atStart reports whether the next byte is the first one of a message.
func (f *frames) atStart() bool { return !f.opaque && f.have == 0 && f.left == 0 }

// span is how many of the next n bytes are of the same message as far as it is known, and of the same part of it.
func (f *frames) span(n int) int {
	switch {
	case f.opaque:
		return n
	case f.left > 0:
		return int(min(f.left, int64(n)))
	}
	return min(headerBytes-f.have, n)
}

// advance notes that b has passed.
func (f *frames) advance(b []byte) {
	for len(b) > 0 && !f.opaque {
		n := f.span(len(b))
		if f.left > 0 {
			f.left -= int64(n)
		} else {
			f.header(b[:n])
		}
		b = b[n:]
	}
}

// header notes bytes of a header.
func (f *frames) header(b []byte) {
	f.have += copy(f.head[f.have:], b)
	size, ok := messageSize(f.head[:f.have])
	if !ok {
		f.opaque = true
		return
	}
	if size > 0 {
		f.have, f.left = 0, size-headerBytes
	}
}
