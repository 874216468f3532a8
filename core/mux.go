package core

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
)

// Many calls at once on one connection, between two programs of this project.
//
// A client asks for it with annotation PCAB in CONNECT, a server agrees with the same in CONNECTOK; its first byte has the abilities, of which
// those hold that both have.  Without it everything is plain Pyro.  With it
//
//   - requests need not wait for replies, which come in any order and are told apart by the sequence number;
//   - requests carry the time that their callers wait, in annotation PCDL, 4 bytes with milliseconds: what comes too late is not run, and a
//     method's context ends with it; a RESULT with PCDL, without data, has the exception of a method that gave up for that reason;
//   - a server that shuts down says so, in a RESULT of number 65,535 with annotation PCDR, so that clients go elsewhere with the next call.
//
// Python's programs ignore annotations that they do not know (Pyro5 docs, "Annotations").
const (
	annotationAbilities = "PCAB"
	annotationDrain     = "PCDR"
	annotationDeadline  = "PCDL"

	abilityMux = 1 << 0 // all of the above

	drainSeq = 0xffff
)

// muxAbilities is annotation PCAB of this program.
var muxAbilities = []byte{abilityMux}

// hasMux reads annotation PCAB.
func (m message) hasMux() bool {
	data, ok := m.annotation(annotationAbilities)
	return ok && len(data) > 0 && data[0]&abilityMux != 0
}

// appendDeadline appends annotation PCDL.
func appendDeadline(b []byte, milliseconds int64) []byte {
	b = append(b, annotationDeadline...)
	b = append(b, 0, 0, 0, 4)
	return binary.BigEndian.AppendUint32(b, uint32(min(max(milliseconds, 1), 1<<32-1)))
}

// isDeadlineAlone reports whether annotations are PCDL alone.
func isDeadlineAlone(b []byte) bool {
	return len(b) == 12 && string(b[:8]) == annotationDeadline+"\x00\x00\x00\x04"
}

// combiner lets many goroutines write to one connection with few system calls: who comes while another one writes leaves its bytes with that one.
type combiner struct {
	to messageWriter // one at a time

	mu      sync.Mutex
	room    sync.Cond // wakes those who wait for waiting to be written
	waiting []byte
	spare   []byte
	busy    bool
	err     error // ends everything
}

// maxCombined is how many bytes wait at most, so that a peer that does not read bounds those who write.
const maxCombined = 4 << 20

// largeWaits is how many times who sends large bytes waits for others to have written, before he leaves a copy of them.
const largeWaits = 2

// messageWriter is what a [wire] does.  It is no function, whose wrapper would need stack.
type messageWriter interface {
	write(b []byte) (n int, err error)
	writeLarge(b, large []byte, cut int) error // with large in b at cut
}

func (c *combiner) init(to messageWriter) {
	c.to = to
	c.room.L = &c.mu
}

// send writes b, or has it written, with large in it at cut unless that is nil.
func (c *combiner) send(b, large []byte, cut int) error { return c.sendWith(b, large, cut, false) }

// sendWith is send that may let others who are about to send come first, so that it writes for all.
func (c *combiner) sendWith(b, large []byte, cut int, gather bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for waits := 0; c.busy && (len(c.waiting) >= maxCombined || large != nil && waits < largeWaits) && c.err == nil; waits++ {
		c.room.Wait()
	}
	if c.err != nil {
		return c.err
	}
	switch {
	case c.busy && large == nil:
		c.waiting = append(c.waiting, b...)
		return nil
	case c.busy:
		c.copyLarge(b, large, cut)
		return nil
	}
	c.busy = true
	if gather && large == nil {
		c.waiting = append(c.waiting, b...)
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	} else {
		c.writeLocked(b, large, cut)
	}
	for len(c.waiting) > 0 && c.err == nil {
		b := c.waiting
		c.waiting = c.spare[:0]
		c.writeLocked(b, nil, 0)
		c.spare = keepLarge(b)
		c.room.Broadcast()
	}
	c.busy = false
	c.room.Signal() // who has large bytes
	return c.err
}

// copyLarge is a function of its own for the sake of small stacks.
//
//go:noinline
func (c *combiner) copyLarge(b, large []byte, cut int) {
	c.waiting = slices.Concat(c.waiting, b[:cut], large, b[cut:])
}

func (c *combiner) writeLocked(b, large []byte, cut int) {
	c.mu.Unlock()
	var err error
	if large == nil {
		_, err = c.to.write(b)
	} else {
		err = c.to.writeLarge(b, large, cut)
	}
	c.mu.Lock()
	if err != nil && c.err == nil {
		c.err = err
		c.room.Broadcast()
	}
}
