package traffic

import (
	"sync"
	"time"
)

// never stands for the time of something that has not happened.
const never = time.Duration(-1)

// shard is what some of the callers record into.
type shard struct {
	mu      sync.Mutex
	tallies []tally       // by work
	spare   []tally       // empty; changes places with tallies
	from    time.Duration // start of the phase
	inPhase time.Duration // end of the first good call that began in the phase, or never
	first   time.Duration // end of the first good call, or never

	_ [64]byte // shards stand in a slice: keeps the next one off the cache line
}

func (s *shard) init(works int) {
	s.inPhase, s.first = never, never
	for range works {
		s.tallies = append(s.tallies, newTally())
		s.spare = append(s.spare, newTally())
	}
}

// good records a good call; gap is the time without a good reply that it ended.
func (s *shard) good(work int, begin, end, latency, gap time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tallies[work]
	t.good++
	recordIn(t.hist, latency)
	t.gap = max(t.gap, gap)
	s.first = earlier(s.first, end)
	if begin >= s.from {
		s.inPhase = earlier(s.inPhase, end)
	}
}

// failed records a failed call.
func (s *shard) failed(work int, kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tallies[work].errors[kind]++
}

// unanswered records a time without a good reply that no good reply has ended.
func (s *shard) unanswered(work int, gap time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tallies[work]
	t.gap = max(t.gap, gap)
}

// swapLocked makes the shard empty; what was in it is in spare.
func (s *shard) swapLocked() { s.tallies, s.spare = s.spare, s.tallies }

// earlier returns the earlier of two times, either of which may be never.
func earlier(a, b time.Duration) time.Duration {
	if a == never || b != never && b < a {
		return b
	}
	return a
}
