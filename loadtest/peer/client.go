package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// grace is how long the calls, beyond the time they are made for, may take before the client gives up.
const grace = 30 * time.Second

// measure is the client command.
func measure(ctx context.Context, p Peer, o options) (*Result, error) {
	m, err := newMeter(ctx, o)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, o.warmup+o.duration+grace, fmt.Errorf("calls hang: no end %v after the time for calls", grace))
	defer cancel()
	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	c := &client{options: o, peer: p, meter: m, fail: stop, pool: &pool{}}
	defer c.pool.Close()
	defer context.AfterFunc(run, func() { c.pool.Close() })() // ends the calls under way
	var r *Result
	switch {
	case o.work.events:
		r, err = c.events(run)
	case o.work.newCaller == nil:
		r, err = c.oneway(run)
	default:
		r, err = c.closedLoop(run)
	}
	if err := context.Cause(run); err != nil {
		return nil, err // why calls failed, rather than that they did
	}
	return r, err
}

type client struct {
	options
	peer  Peer
	meter *meter
	fail  context.CancelCauseFunc // ends the run
	pool  *pool
}

// dial opens a connection that is closed at the end of the run.
func (c *client) dial(ctx context.Context) (Conn, error) {
	conn, err := c.peer.Dial(ctx, c.addr)
	if err == nil {
		err = c.pool.add(conn)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %v", c.addr, err)
	}
	return conn, nil
}

// newCaller makes a caller on conn, or on a connection of its own if that is nil, and a first call.
func (c *client) newCaller(ctx context.Context, conn Conn, id int) (caller, Conn, error) {
	if conn == nil {
		var err error
		if conn, err = c.dial(ctx); err != nil {
			return nil, nil, err
		}
	}
	call := c.work.newCaller(conn, id)
	if err := call(context.WithoutCancel(ctx), 0); err != nil {
		return nil, nil, fmt.Errorf("first call at %s: %v", c.addr, err)
	}
	return call, conn, nil
}

// makeCallers makes the busy callers and the idle ones.
func (c *client) makeCallers(ctx context.Context) (busy, idle []caller, err error) {
	var shared Conn
	for id := range c.callers {
		call, conn, err := c.newCaller(ctx, shared, id)
		if err != nil {
			return nil, nil, err
		}
		if c.peer.Mux {
			shared = conn
		}
		busy = append(busy, call)
	}
	for id := range c.idle {
		call, _, err := c.newCaller(ctx, nil, c.callers+id)
		if err != nil {
			return nil, nil, fmt.Errorf("idle connection %d: %w", id+1, err)
		}
		idle = append(idle, call)
	}
	return busy, idle, nil
}

// closedLoop measures callers that make a call when the one before has ended.
func (c *client) closedLoop(ctx context.Context) (*Result, error) {
	busy, idle, err := c.makeCallers(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now().Add(c.warmup)
	end := start.Add(c.duration)
	all, idles := &latencies{h: newHistogram()}, &latencies{h: newHistogram()}
	var wg sync.WaitGroup
	for _, call := range busy {
		wg.Go(func() { c.busyCaller(ctx, call, start, end, all) })
	}
	for i, call := range idle {
		offset := time.Second * time.Duration(i) / time.Duration(len(idle))
		wg.Go(func() { c.idleCaller(ctx, call, offset, start, end, idles) })
	}
	before, after, err := c.sampleAt(ctx, start, end)
	rss := c.meter.serverRSS()
	if err != nil {
		c.fail(err)
	}
	wg.Wait()
	if err != nil {
		return nil, err
	}
	return c.summary(all.h, idles.h, before, after, rss)
}

// summary makes the result.
func (c *client) summary(busy, idle *hdrhistogram.Histogram, before, after usageSample, rss float64) (*Result, error) {
	calls := busy.TotalCount()
	if calls == 0 {
		return nil, fmt.Errorf("no call ended within %v: measure longer, with -duration", c.duration)
	}
	r := &Result{Work: c.work.name, Conns: c.pool.size()}
	r.between(before, after, calls+idle.TotalCount())
	r.Rate = float64(calls) / r.Secs
	r.latencies(busy)
	r.MBPerSecond = r.Rate * float64(c.work.payload) / 1e6
	if len(c.serverPIDs) > 0 {
		r.ServerRSS = rss
	}
	if c.work.idle {
		r.IdleRate = float64(idle.TotalCount()) / r.Secs
		r.IdleP99 = float64(idle.ValueAtQuantile(99)) / 1e3
	}
	return r, nil
}

// busyCaller calls until end, and records the calls that end after start.
func (c *client) busyCaller(ctx context.Context, call caller, start, end time.Time, all *latencies) {
	h := newHistogram()
	defer all.merge(h)
	patient := context.Background() // a call that was begun is waited for
	began := time.Now()
	for n := int64(1); ; n++ {
		if err := call(patient, n); err != nil {
			c.fail(fmt.Errorf("call %d: %v", n, err))
			return
		}
		ended := time.Now()
		if !ended.Before(end) {
			return
		}
		if !ended.Before(start) {
			record(h, ended.Sub(began))
		}
		began = ended
	}
}

// idleCaller makes a call each second.
func (c *client) idleCaller(ctx context.Context, call caller, offset time.Duration, start, end time.Time, all *latencies) {
	patient := context.Background()
	next := time.Now().Add(offset)
	for n := int64(1); next.Before(end) && sleepUntil(ctx, next); n++ {
		began := time.Now()
		if err := call(patient, n); err != nil {
			c.fail(fmt.Errorf("call %d of an idle connection: %v", n, err))
			return
		}
		if ended := time.Now(); !ended.Before(start) && ended.Before(end) {
			all.record(ended.Sub(began))
		}
		next = next.Add(time.Second)
	}
}

// sampleAt reads the usage at two times.
func (c *client) sampleAt(ctx context.Context, start, end time.Time) (before, after usageSample, err error) {
	sleepUntil(ctx, start)
	if before, err = c.meter.sample(); err != nil {
		return before, after, err
	}
	sleepUntil(ctx, end)
	after, err = c.meter.sample()
	return before, after, err
}

// sleepUntil reports whether ctx lasted until t.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// latencies is a histogram that goroutines share.
type latencies struct {
	mu sync.Mutex // guards h
	h  *hdrhistogram.Histogram
}

func (l *latencies) record(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	record(l.h, d)
}

func (l *latencies) merge(h *hdrhistogram.Histogram) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h.Merge(h)
}

// newHistogram is one of nanoseconds, with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(100, int64(maxLatency), 3) }

// record cannot fail, since d is cut to what the histogram holds.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(int64(min(max(d, 0), maxLatency)))
}

var errPoolClosed = errors.New("the run has ended")

// pool holds the connections of a run, so that they can be closed while calls hang.
type pool struct {
	mu     sync.Mutex // guards the following
	conns  []io.Closer
	closed bool
}

func (p *pool) add(c io.Closer) error {
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.conns = append(p.conns, c)
	}
	p.mu.Unlock()
	if closed {
		c.Close()
		return errPoolClosed
	}
	return nil
}

func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Close closes the connections.  Their errors say nothing: what matters was answered before, or failed for another reason.
func (p *pool) Close() {
	p.mu.Lock()
	p.closed = true
	conns := p.conns
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}
