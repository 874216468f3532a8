package peer

import (
	"context"
	"fmt"
	"time"
)

const (
	onewayBurst = 64                // messages between two looks at the clock
	onewayPoll  = time.Millisecond  // between two questions what has arrived
	onewayQuiet = 2000 * onewayPoll // after which what has not arrived counts as lost
)

// oneway measures messages without an answer, until the server has counted the last.
func (c *client) oneway(ctx context.Context) (*Result, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Received(context.WithoutCancel(ctx)); err != nil {
		return nil, fmt.Errorf("first call at %s: %v", c.addr, err)
	}
	if _, err := c.sendOneway(ctx, conn, c.warmup); err != nil {
		return nil, err
	}
	before, err := c.meter.sample()
	if err != nil {
		return nil, err
	}
	sent, err := c.sendOneway(ctx, conn, c.duration)
	if err != nil {
		return nil, err
	}
	after, err := c.meter.sample()
	if err != nil {
		return nil, err
	}
	if sent.received == 0 {
		return nil, fmt.Errorf("none of %d one-way messages arrived", sent.messages)
	}
	after.at = sent.last
	r := &Result{Work: c.work.name, Conns: c.pool.size(), Lost: sent.messages - sent.received}
	r.between(before, after, sent.received)
	r.Rate = float64(sent.received) / r.Secs
	return r, nil
}

// sent is what became of one-way messages.
type sent struct {
	messages, received int64
	last               time.Time // when the last one that arrived was seen to have done so
}

// sendOneway sends messages for some time and waits until they have been received.
func (c *client) sendOneway(ctx context.Context, conn Conn, d time.Duration) (sent, error) {
	patient := context.Background()
	already, err := conn.Received(patient)
	if err != nil {
		return sent{}, fmt.Errorf("ask for the count: %v", err)
	}
	var s sent
	for end := time.Now().Add(d); time.Now().Before(end) && ctx.Err() == nil; {
		for range onewayBurst {
			if err := conn.Oneway(patient, firstNumber+s.messages); err != nil {
				return s, fmt.Errorf("message %d: %v", s.messages, err)
			}
			s.messages++
		}
	}
	if err := conn.Flush(patient); err != nil {
		return s, fmt.Errorf("flush: %v", err)
	}
	return c.awaitOneway(ctx, conn, s, already)
}

// awaitOneway asks the server for its count until all has arrived, or nothing has for a while.
func (c *client) awaitOneway(ctx context.Context, conn Conn, s sent, already int64) (sent, error) {
	s.last = time.Now()
	for {
		total, err := conn.Received(context.WithoutCancel(ctx))
		if err != nil {
			return s, fmt.Errorf("ask for the count: %v", err)
		}
		now := time.Now()
		if received := total - already; received != s.received {
			s.received, s.last = received, now
		}
		switch {
		case s.received > s.messages:
			return s, fmt.Errorf("wrong answer: of %d one-way messages %d were received", s.messages, s.received)
		case s.received == s.messages || now.Sub(s.last) > onewayQuiet:
			return s, nil
		}
		if !sleepUntil(ctx, now.Add(onewayPoll)) {
			return s, context.Cause(ctx)
		}
	}
}
