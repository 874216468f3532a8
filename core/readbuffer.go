package core

import (
	"io"
	"sync"
)

const (
	minReadBuffer = 512      // of a connection with little to read
	maxReadBuffer = 64 << 10 // of a busy one
	calmReads     = 64       // so many small reads in a row make a connection calm again
)

// readBuffer is a bufio.Reader whose buffer is large while a connection is busy and small when it is not: a server has thousands of
// connections of which most are idle.
type readBuffer struct {
	src  io.Reader
	b    []byte
	r, w int // b[r:w] was read ahead
	calm int // reads since one that needed a large buffer
}

func newReadBuffer(src io.Reader) *readBuffer {
	return &readBuffer{src: src, b: make([]byte, minReadBuffer)}
}

// Buffered is how many bytes can be read without waiting.
func (rb *readBuffer) Buffered() int { return rb.w - rb.r }

// Peek returns the next n bytes, at most maxReadBuffer, without taking them.  They are valid until the next Peek or Read.  If there are fewer,
// the error says why.
func (rb *readBuffer) Peek(n int) ([]byte, error) {
	for rb.w-rb.r < n {
		if err := rb.fill(n); err != nil {
			return rb.b[rb.r:rb.w], err
		}
	}
	return rb.b[rb.r : rb.r+n], nil
}

// Discard takes n bytes that were peeked at.
func (rb *readBuffer) Discard(n int) { rb.r += n }

// Read implements io.Reader.
func (rb *readBuffer) Read(p []byte) (int, error) {
	if rb.r == rb.w && len(p) >= len(rb.b) {
		return rb.src.Read(p)
	}
	if rb.r == rb.w {
		if err := rb.fill(1); err != nil {
			return 0, err
		}
	}
	n := copy(p, rb.b[rb.r:rb.w])
	rb.r += n
	return n, nil
}

// fill reads once, into a buffer with room for n bytes.
func (rb *readBuffer) fill(n int) error {
	rb.makeRoom(n)
	for range 100 {
		read, err := rb.src.Read(rb.b[rb.w:])
		rb.w += read
		switch {
		case read > 0:
			rb.adapt()
			return nil
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

// poll reads what comes soon, if nothing was read ahead.
func (rb *readBuffer) poll(p *poller) {
	if p == nil || rb.Buffered() > 0 {
		return
	}
	rb.add(p.wait(rb.room()))
}

// room is where bytes can be read to, by others who then add them.
func (rb *readBuffer) room() []byte {
	rb.makeRoom(headerBytes)
	return rb.b[rb.w:]
}

func (rb *readBuffer) add(n int) {
	if n > 0 {
		rb.w += n
		rb.adapt()
	}
}

func (rb *readBuffer) makeRoom(n int) {
	size := len(rb.b)
	for size < n {
		size *= 4
	}
	switch {
	case size > len(rb.b):
		rb.resize(size)
	case rb.calm >= calmReads && size > minReadBuffer && rb.Buffered() == 0 && n <= minReadBuffer:
		rb.resize(minReadBuffer)
	case rb.r > 0:
		rb.w = copy(rb.b, rb.b[rb.r:rb.w])
		rb.r = 0
	}
}

func (rb *readBuffer) resize(size int) {
	b := make([]byte, size)
	rb.w = copy(b, rb.b[rb.r:rb.w])
	rb.b, rb.r, rb.calm = b, 0, 0
}

// adapt looks at what was read.
func (rb *readBuffer) adapt() {
	switch {
	case rb.w == len(rb.b) && len(rb.b) < maxReadBuffer:
		rb.resize(4 * len(rb.b)) // there is more than fits
	case rb.Buffered() > minReadBuffer:
		rb.calm = 0
	default:
		rb.calm++
	}
}

// largeBuffers keeps buffers of large messages for the next ones.
var largeBuffers sync.Pool

// maxLargeBuffer is the size above which a buffer is left to the garbage collector.
const maxLargeBuffer = 16 << 20

// getLarge returns an empty buffer with room for n bytes if one is kept, else nil.
func getLarge(n int) []byte {
	p, _ := largeBuffers.Get().(*[]byte)
	switch {
	case p == nil:
		return nil
	case cap(*p) < n:
		largeBuffers.Put(p)
		return nil
	}
	return (*p)[:0]
}

// keepLarge keeps a large buffer that nobody uses any more, and returns what its owner has instead.
func keepLarge(b []byte) []byte {
	if cap(b) <= keepBufferBytes {
		return b[:0]
	}
	putLarge(b)
	return nil
}

// putLarge is a function of its own, so that the memory for its pointer is not allocated for small buffers.
//
//go:noinline
func putLarge(b []byte) {
	if cap(b) <= maxLargeBuffer {
		largeBuffers.Put(&b)
	}
}

// grown returns b with room for n bytes more.
func grown(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	need := len(b) + n
	if need > keepBufferBytes {
		if large := getLarge(need); large != nil {
			return append(large, b...)
		}
	}
	return append(make([]byte, 0, max(need, 2*cap(b))), b...)
}
