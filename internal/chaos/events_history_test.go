package chaos

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// stamp is what a publisher writes into an event.
type stamp struct {
	From string // which publisher; what has the same name keeps its order
	N    int64  // of its events, from 1
	At   int64  // when it was published, in nanoseconds since 1970
}

// sighting is what a subscriber saw: an event, or a notice.
type sighting struct {
	notice bool  // that events were lost before the next one
	lost   int64 // how many; -1 if nobody knows, perhaps none
	stamp
}

// publications is what publishers did.  Its methods are safe for concurrent use.
type publications struct {
	mu  sync.Mutex // guards all
	all map[string][]publication
}

// publication is one event; that of number n has the index n-1.
type publication struct {
	at     time.Time
	failed bool // with an error: the event may be there or not
}

// begin notes that an event is going to be published.
func (p *publications) begin(from string) stamp {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[string][]publication{}
	}
	now := time.Now()
	p.all[from] = append(p.all[from], publication{at: now})
	return stamp{from, int64(len(p.all[from])), now.UnixNano()}
}

func (p *publications) fail(s stamp) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[s.From][s.N-1].failed = true
}

// verdict is what judging a subscriber's history found.
type verdict struct {
	events   int
	missing  int64 // events that were published, and did not come
	notices  int
	lost     int64 // the sum of the notices that tell a number
	vague    bool  // a notice tells none: a connection was lost
	problems []string
}

func (v *verdict) problem(format string, args ...any) {
	if len(v.problems) < 10 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

// place is how far a subscriber has come with one publisher.
type place struct {
	n       int64
	notices int // that it had seen by then
}

// judge holds what a subscriber saw against what was published until a time; events after that may still be on their way.  It demands: the
// events of a publisher come in their order and never twice; where some are missing, whose publication did not fail, there is a notice between the
// event before and the one after.
func (p *publications) judge(seen []sighting, until time.Time) (v verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	places := map[string]place{}
	for _, s := range seen {
		if s.notice {
			v.notices++
			v.lost += max(s.lost, 0)
			v.vague = v.vague || s.lost <= 0
			continue
		}
		v.events++
		at := places[s.From]
		switch {
		case s.N > int64(len(p.all[s.From])):
			v.problem("%s %d was never published", s.From, s.N)
			continue
		case s.N <= at.n:
			v.problem("%s %d came after %d", s.From, s.N, at.n)
			continue
		}
		p.explain(&v, s.From, at, s.N-1, time.Time{})
		places[s.From] = place{s.N, v.notices}
	}
	for from, all := range p.all {
		p.explain(&v, from, places[from], int64(len(all)), until)
	}
	return v
}

// explain judges that the events of a publisher after a place are missing, up to number last, and those published after until aside.
func (p *publications) explain(v *verdict, from string, at place, last int64, until time.Time) {
	missing := int64(0)
	for _, e := range p.all[from][at.n:last] {
		if !e.failed && (until.IsZero() || e.at.Before(until)) {
			missing++
		}
	}
	v.missing += missing
	if missing > 0 && v.notices == at.notices {
		v.problem("%s: %d events between %d and %d are missing, and no notice tells", from, missing, at.n, last+1)
	}
}

// TestEventsJudge holds the judge itself to histories that it must tell apart.
func TestEventsJudge(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	ev := func(from string, n int64) sighting { return sighting{stamp: stamp{From: from, N: n}} }
	notice := func(lost int64) sighting { return sighting{notice: true, lost: lost} }
	p := publications{all: map[string][]publication{
		"a": {{at: at(1)}, {at: at(2)}, {at: at(3), failed: true}, {at: at(4)}},
		"b": {{at: at(1)}, {at: at(9)}},
	}}
	for _, row := range []struct {
		name     string
		seen     []sighting
		missing  int64
		problems int
	}{
		{"all", []sighting{ev("a", 1), ev("b", 1), ev("a", 2), ev("a", 3), ev("a", 4), ev("b", 2)}, 0, 0},
		{"without what failed, and what may be on its way", []sighting{ev("a", 1), ev("a", 2), ev("a", 4), ev("b", 1)}, 0, 0},
		{"twice", []sighting{ev("a", 1), ev("a", 2), ev("a", 2), ev("a", 4), ev("b", 1)}, 0, 1},
		{"out of order", []sighting{ev("a", 2), ev("a", 1), ev("a", 4), ev("b", 1)}, 1, 2},
		{"missing", []sighting{ev("a", 1), ev("a", 4), ev("b", 1)}, 1, 1},
		{"missing and told", []sighting{ev("a", 1), notice(1), ev("a", 4), ev("b", 1)}, 1, 0},
		{"missing and told with an unknown number", []sighting{ev("a", 1), notice(-1), ev("a", 4), ev("b", 1)}, 1, 0},
		{"missing and told too early", []sighting{notice(1), ev("a", 1), ev("a", 4), ev("b", 1)}, 1, 1},
		{"missing and told too late", []sighting{ev("a", 1), ev("a", 4), notice(1), ev("b", 1)}, 1, 1},
		{"one notice for both", []sighting{notice(3), ev("a", 4), ev("b", 2)}, 3, 0},
		{"missing at the beginning", []sighting{ev("a", 2), ev("a", 4), ev("b", 1)}, 1, 1},
		{"missing at the end", []sighting{ev("a", 1), ev("a", 2), ev("b", 1)}, 1, 1},
		{"missing at the end and told", []sighting{ev("a", 1), ev("a", 2), ev("b", 1), notice(-1)}, 1, 0},
		{"a whole publisher is missing", []sighting{ev("a", 1), ev("a", 2), ev("a", 4)}, 1, 1},
		{"never published", []sighting{ev("a", 1), ev("a", 2), ev("a", 4), ev("b", 1), ev("b", 3)}, 0, 1},
		{"nothing", nil, 4, 2},
	} {
		if v := p.judge(row.seen, at(8)); v.missing != row.missing || len(v.problems) != row.problems {
			t.Errorf("%s: got %+v, want %d missing and %d problems", row.name, v, row.missing, row.problems)
		}
	}
}
