package cluster

import "sync"

// sessionWindow bounds how far the numbers of a session's open commands are apart; fsm remembers twice as many results.
const sessionWindow = 512

// sessions names the commands that come without a session, so that a command that is tried again runs once.
type sessions struct {
	node string

	mu      sync.Mutex // guards current and what it points to
	current *session
}

type session struct {
	id   string
	next uint64
	open map[uint64]bool
	low  uint64 // all below are answered
}

// begin returns a name for a command, and what to call when its caller has the answer, or wants none any more.
func (s *sessions) begin() (id string, sequence, floor uint64, end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.current
	if c == nil || c.next-c.low >= sessionWindow {
		// The oldest command of the session is still open: a new session need not wait for it.
		c = &session{id: s.node + "/" + randomHex(8), next: 1, low: 1, open: map[uint64]bool{}}
		s.current = c
	}
	n := c.next
	c.next++
	c.open[n] = true
	return c.id, n, c.low, func() { s.end(c, n) }
}

func (s *sessions) end(c *session, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.open, n)
	for c.low < c.next && !c.open[c.low] {
		c.low++
	}
}
