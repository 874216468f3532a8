package fsm

import "time"

// Bounds of what sessions keep; they are part of the state machine, so changing one changes what a log means.
const (
	sessionIdle       = int64(time.Hour)
	sessionRenew      = int64(time.Minute) // how late the queue may learn of a use: most commands need not touch it
	maxSessions       = 100_000
	maxSessionResults = 1024
	maxResults        = 1 << 20 // of all sessions
	sweepPerCommand   = 4       // sessions ended by one command: more than one can begin, few enough not to be felt
)

// session remembers the results of the commands of one client.  It is immutable.
type session struct {
	floor   uint64 // commands below are forgotten
	queued  uint64 // key in sessions.queue
	used    int64  // time when it got that key; at most sessionRenew before its last use
	results tree[uint64, Result]
}

// sessions is immutable, as the trees in it are.
type sessions struct {
	byID    tree[string, *session]
	queue   tree[uint64, string] // ids, least recently used first
	tickets uint64               // last key given in queue
	results int                  // of all sessions
}

// lookup returns the session of that id, a new one if there is none.
func (s *sessions) lookup(id string) session {
	if p, ok := s.byID.get(id); ok {
		return *p
	}
	return session{}
}

// put stores a session after a use at the time now, and makes room if it has to.
func (s *sessions) put(id string, p session, now int64) {
	old, known := s.byID.get(id)
	if known {
		s.results -= old.results.len()
	}
	if !known || now-p.used >= sessionRenew {
		s.queue = s.queue.remove(p.queued) // key 0 is never given
		s.tickets++
		p.queued, p.used = s.tickets, now
		s.queue = s.queue.put(p.queued, id)
	}
	s.byID = s.byID.put(id, &p)
	s.results += p.results.len()
	for s.byID.len() > maxSessions || s.results > maxResults && s.byID.len() > 1 {
		s.dropFirst()
	}
}

// sweep ends sessions that nobody used for long, a few at a time.
func (s *sessions) sweep(now int64) {
	for range sweepPerCommand {
		if s.queue.len() == 0 {
			return
		}
		_, id := s.queue.first()
		if now-s.lookup(id).used < sessionIdle {
			return
		}
		s.dropFirst()
	}
}

func (s *sessions) dropFirst() {
	ticket, id := s.queue.first()
	s.results -= s.lookup(id).results.len()
	s.queue = s.queue.remove(ticket)
	s.byID = s.byID.remove(id)
}

// remember adds a result, and forgets the oldest if there are too many.
func (p *session) remember(sequence uint64, r Result) {
	p.results = p.results.put(sequence, r)
	if p.results.len() > maxSessionResults {
		oldest, _ := p.results.first()
		p.raise(oldest + 1)
	}
}

// raise forgets the results below floor.
func (p *session) raise(floor uint64) {
	p.floor = max(p.floor, floor)
	for p.results.len() > 0 {
		oldest, _ := p.results.first()
		if oldest >= p.floor {
			return
		}
		p.results = p.results.remove(oldest)
	}
}
