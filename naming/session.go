package naming

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// maxUnderWay is how far the sequence numbers of a session may run ahead of the oldest call under way.  The server remembers the
// results of 1,024; the rest is for calls that failed here but arrive there.
const maxUnderWay = 512

// sessions numbers the writes of a client, so that the server knows a repetition.  It is safe for concurrent use.
type sessions struct {
	mu      sync.Mutex
	current *session
}

// session is one numbering.  Its fields belong to sessions.mu.
type session struct {
	id       [sessionIDBytes]byte
	last     uint64          // number given last
	floor    uint64          // all numbers below are of calls that ended
	underWay map[uint64]bool // calls that did not end
}

// write is one call with its number.
type write struct {
	session  *session
	sequence uint64
}

func newSession() *session {
	s := &session{floor: 1, underWay: map[uint64]bool{}}
	// It never fails: the program would end instead.
	_, _ = rand.Read(s.id[:])
	return s
}

// begin numbers a call; end must follow.  A new session begins when one call holds up the floor for too long.
func (s *sessions) begin() write {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || s.current.last+1-s.current.floor >= maxUnderWay {
		s.current = newSession()
	}
	c := s.current
	c.last++
	c.underWay[c.last] = true
	return write{c, c.last}
}

// end tells that nobody will repeat the call.
func (s *sessions) end(w write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := w.session
	delete(c.underWay, w.sequence)
	for c.floor <= c.last && !c.underWay[c.floor] {
		c.floor++
	}
}

// annotation is what travels with the call.
func (s *sessions) annotation(w write) []byte {
	s.mu.Lock()
	floor := w.session.floor
	s.mu.Unlock()
	b := make([]byte, 0, sessionBytes)
	b = append(b, w.session.id[:]...)
	b = binary.BigEndian.AppendUint64(b, w.sequence)
	return binary.BigEndian.AppendUint64(b, floor)
}
