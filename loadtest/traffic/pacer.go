package traffic

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// pacer hands out the calls of an open loop in the order in which they are due.  One of the callers that are free waits until the next call is
// due, and makes it by itself; the others stand in line for the wait.  So one timer is enough for all, and no call has to be passed on
// from who waited for it to who makes it.
type pacer struct {
	now   func() time.Duration
	end   time.Duration // of the load
	last  time.Duration // when no call is begun any more
	whole schedule
	// gate holds one token.  Who has taken it owns what follows.  It is a channel since waiting for a mutex holds up virtual time.
	gate   chan struct{}
	waiter waiter
	rest   schedule // the first segment is the one of the next call
	k      int64    // number of the next call in its segment
	n      uint64   // number of the next call
	begun  int64    // recorded calls
	inTime int64    // of these, before the end of the load
	lag    *hdrhistogram.Histogram
}

func newPacer(ctx context.Context, g *generator) *pacer {
	p := &pacer{
		now:    g.now,
		end:    g.end,
		last:   g.end + g.load.Drain,
		whole:  g.load.schedule(),
		gate:   make(chan struct{}, 1),
		waiter: newWaiter(ctx),
		lag:    newDense(),
	}
	p.rest = p.whole
	p.gate <- struct{}{}
	return p
}

func (p *pacer) close() { p.waiter.close() }

// turn is a call to make.
type turn struct {
	n          uint64 // its number
	due, begin time.Duration
}

// next returns the next call, when it is due.  The caller has been free since the given time.  It returns false if there are no more: the
// schedule, the time for draining, or ctx has ended.
func (p *pacer) next(ctx context.Context, free time.Duration) (turn, bool) {
	<-p.gate // never for long: whoever holds the token returns it soon after ctx ends
	defer func() { p.gate <- struct{}{} }()
	due, ok := p.due()
	if !ok {
		return turn{}, false
	}
	begin := p.now()
	for begin < due && ctx.Err() == nil {
		p.waiter.sleep(due - begin)
		begin = p.now()
	}
	if ctx.Err() != nil || begin > p.last {
		return turn{}, false
	}
	return p.take(free, due, begin), true
}

// due returns when the next call is due, and false if there is none.
func (p *pacer) due() (time.Duration, bool) {
	for len(p.rest) > 0 && p.k == p.rest[0].n {
		p.rest, p.k = p.rest[1:], 0
	}
	if len(p.rest) == 0 {
		return 0, false
	}
	return p.rest[0].due(p.k), true
}

// take counts the next call, which was due at due and begins at begin.
func (p *pacer) take(free, due, begin time.Duration) turn {
	t := turn{n: p.n, due: due, begin: begin}
	p.k++
	p.n++
	if due < 0 {
		return t
	}
	p.begun++
	if begin <= p.end {
		p.inTime++
	}
	if free <= due {
		recordIn(p.lag, begin-due)
	}
	return t
}

// summary is called when all callers have ended.
func (p *pacer) summary(now time.Duration) Summary {
	s := Summary{Due: max(p.begun, p.whole.recorded(now)), Begun: p.inTime, Lag: newPacked()}
	s.Unsent = s.Due - p.begun
	s.Lag.MergeFrom(p.lag)
	return s
}
