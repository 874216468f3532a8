package fsm

import (
	"fmt"
	"testing"
)

// noop is a command of a session that changes nothing, so that its revision tells whether it ran.
func noop(session string, sequence, floor uint64, now int64) Command {
	return Command{Kind: KindNoop, Session: session, Sequence: sequence, Floor: floor, Time: now}
}

// A session remembers maxSessionResults results; then the oldest go, and do not run again.
func TestSessionResultsBounded(t *testing.T) {
	t.Parallel()
	s := New()
	for sequence := range uint64(maxSessionResults + 3) {
		apply(t, s, noop("s", sequence, 0, 0))
	}
	checkInvariants(t, s.View())
	for _, row := range []struct {
		sequence uint64
		want     Result
	}{
		{0, Result{Code: Forgotten}},
		{2, Result{Code: Forgotten}},
		{3, Result{Revision: 4}},
		{maxSessionResults + 2, Result{Revision: maxSessionResults + 3}},
		{maxSessionResults + 3, Result{Revision: maxSessionResults + 4}}, // a new one
		{3, Result{Code: Forgotten}},
	} {
		if got := apply(t, s, noop("s", row.sequence, 0, 0))[0]; got != row.want {
			t.Errorf("sequence %d: got %+v, want %+v", row.sequence, got, row.want)
		}
	}
	if n := s.View().sessions.results; n != maxSessionResults {
		t.Errorf("%d results, want %d", n, maxSessionResults)
	}
}

// The least recently used sessions go when there are too many.
func TestSessionsBounded(t *testing.T) {
	t.Parallel()
	s := New()
	begin := func(from, to int, now int64) {
		for from < to {
			var commands []Command
			for range min(10_000, to-from) {
				commands = append(commands, noop(fmt.Sprint("s", from), 1, 0, now))
				from++
			}
			apply(t, s, commands...)
		}
	}
	begin(0, maxSessions, 0)
	apply(t, s, noop("s0", 2, 0, sessionRenew)) // moves to the end of the queue
	begin(maxSessions, maxSessions+2, sessionRenew)
	checkInvariants(t, s.View())
	if n := s.View().sessions.byID.len(); n != maxSessions {
		t.Errorf("%d sessions, want %d", n, maxSessions)
	}
	for id, want := range map[string]bool{"s0": true, "s1": false, "s2": false, "s3": true, fmt.Sprint("s", maxSessions+1): true} {
		if _, got := s.View().sessions.byID.get(id); got != want {
			t.Errorf("session %s is there: %t, want %t", id, got, want)
		}
	}
}

// All sessions together remember maxResults results.
func TestSessionsResultsBounded(t *testing.T) {
	t.Parallel()
	// A session with as many results as may be, shared by all but the last sessions: building them one by one takes long.
	full := session{}
	for sequence := range uint64(maxSessionResults) {
		full.results = full.results.put(sequence, Result{})
	}
	var s sessions
	const fit = maxResults / maxSessionResults
	for i := range fit {
		s.put(fmt.Sprint(i), full, 0)
	}
	if s.byID.len() != fit || s.results != maxResults {
		t.Fatalf("%d sessions with %d results, want %d with %d", s.byID.len(), s.results, fit, maxResults)
	}
	one := session{results: treeOf([]pair[uint64, Result]{{1, Result{}}})}
	s.put("last", one, 0)
	if _, there := s.byID.get("0"); there || s.byID.len() != fit || s.results != maxResults-maxSessionResults+1 {
		t.Errorf("first is there: %t; %d sessions with %d results", there, s.byID.len(), s.results)
	}
}

// Sessions that nobody uses end by the time of the log, a few with each command.
func TestSessionsExpire(t *testing.T) {
	t.Parallel()
	s := New()
	for i := range 10 {
		apply(t, s, noop(fmt.Sprint("s", i), 1, 0, int64(i)))
	}
	apply(t, s, noop("s0", 2, 0, sessionIdle-1))
	for _, row := range []struct {
		now  int64
		want int
	}{
		{sessionIdle, 10},                     // s0 was used
		{sessionIdle + 1, 9},                  // s1 ends
		{sessionIdle + 100, 9 - 4},            // four of the others
		{0, 5 - 4},                            // four more: the time does not go back
		{2*sessionIdle - 2, 1},                // s0 is not idle long enough
		{2*sessionIdle - 1, 0},                // now it is
		{2*sessionIdle + 5*sessionIdle/10, 0}, // nothing to end
	} {
		apply(t, s, Command{Kind: KindNoop, Time: row.now})
		checkInvariants(t, s.View())
		if got := s.View().sessions.byID.len(); got != row.want {
			t.Errorf("at %d: %d sessions, want %d", row.now, got, row.want)
		}
	}
}
