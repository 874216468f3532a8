package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	subscriberCount = 10
	eventBytes      = 128
	eventWindow     = 4096                  // events published that the slowest subscriber has not received
	eventBurst      = 64                    // between two looks at the window and the clock
	eventPoll       = 20 * time.Microsecond // between two looks at a window that is full
	eventQuiet      = 2 * time.Second       // after the last was published, until what has not arrived counts as lost
	eventStall      = 5 * time.Second       // without a delivery, until the server counts as dead: its clients may wait for it for ever
)

// events measures deliveries of one publisher's events to all subscribers.  The publisher waits for the slowest of them, so that no system has to
// lose any.
func (c *client) events(ctx context.Context) (*Result, error) {
	f, err := c.newFanOut(ctx)
	if err != nil {
		return nil, err
	}
	receiving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.pool.Close()
	defer stop()
	for i := range f.subscribers {
		wg.Go(func() { c.receive(receiving, &f.subscribers[i]) })
	}
	if err := f.firstEvent(ctx); err != nil {
		return nil, fmt.Errorf("first event at %s: %v", c.addr, err)
	}
	start := time.Now().Add(c.warmup)
	end := start.Add(c.duration)
	wg.Go(func() { c.publishUntil(ctx, f, end) })
	wg.Go(func() { c.watch(receiving, f) })
	r, err := c.sampleDeliveries(ctx, f, start, end)
	if err != nil {
		c.fail(err)
		return nil, err
	}
	<-f.published
	f.settle(ctx)
	r.Lost = subscriberCount*f.sent - f.received()
	return r, context.Cause(ctx)
}

// sampleDeliveries makes the result of what is delivered between two times.
func (c *client) sampleDeliveries(ctx context.Context, f *fanOut, start, end time.Time) (*Result, error) {
	sleepUntil(ctx, start)
	before, err := c.meter.sample()
	if err != nil {
		return nil, err
	}
	already := f.received()
	sleepUntil(ctx, end)
	after, err := c.meter.sample()
	if err != nil {
		return nil, err
	}
	deliveries := f.received() - already
	if deliveries == 0 {
		return nil, fmt.Errorf("no event was delivered within %v: measure longer, with -duration", c.duration)
	}
	r := &Result{Work: c.work.name, Conns: c.pool.size()}
	r.between(before, after, deliveries)
	r.Rate = float64(deliveries) / r.Secs
	return r, nil
}

// fanOut is a publisher and those who hear it.
type fanOut struct {
	publisher   Broker
	event       []byte
	sent        int64         // by the publisher; not read by others until published is closed
	published   chan struct{} // closed when nothing more is published
	subscribers []subscriber
}

// subscriber counts what it has received.  Its counters are written by its own goroutine alone.
type subscriber struct {
	Broker
	last   atomic.Int64 // number of the event that came last; they begin at 1
	missed atomic.Int64 // numbers that were left out before it
	_      [64]byte     // so that subscribers do not share a cache line
}

func (s *subscriber) received() int64 { return s.last.Load() - s.missed.Load() }

// newFanOut connects all.
func (c *client) newFanOut(ctx context.Context) (*fanOut, error) {
	f := &fanOut{event: make([]byte, eventBytes), published: make(chan struct{}), subscribers: make([]subscriber, subscriberCount)}
	for i := range f.subscribers {
		b, err := c.dialBroker(ctx)
		if err == nil {
			err = b.Subscribe(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("subscriber %d at %s: %v", i+1, c.addr, err)
		}
		f.subscribers[i].Broker = b
	}
	var err error
	f.publisher, err = c.dialBroker(ctx)
	return f, err
}

// dialBroker opens a connection that is closed at the end of the run.
func (c *client) dialBroker(ctx context.Context) (Broker, error) {
	b, err := c.peer.DialBroker(ctx, c.addr)
	if err == nil {
		err = c.pool.add(b)
	}
	return b, err
}

// receive checks that events come whole, in order and once, until ctx ends.
func (c *client) receive(ctx context.Context, s *subscriber) {
	patient := context.WithoutCancel(ctx)
	for {
		p, err := s.Next(patient)
		if ctx.Err() != nil {
			return
		}
		last := s.last.Load()
		switch {
		case err != nil:
			c.fail(fmt.Errorf("event after %d: %v", last, err))
			return
		case len(p) != eventBytes:
			c.fail(fmt.Errorf("wrong event: after %d came one of %d bytes, want %d", last, len(p), eventBytes))
			return
		}
		n := int64(binary.LittleEndian.Uint64(p))
		if n <= last {
			c.fail(fmt.Errorf("wrong event: after %d came %d", last, n))
			return
		}
		if n != last+1 {
			s.missed.Add(n - last - 1)
		}
		s.last.Store(n)
	}
}

// watch fails the run if no event is delivered for long while some are published.
func (c *client) watch(ctx context.Context, f *fanOut) {
	for before := int64(-1); sleepUntil(ctx, time.Now().Add(eventStall)); {
		now := f.received()
		select {
		case <-f.published:
			return
		default:
		}
		if now == before {
			c.fail(fmt.Errorf("no event was delivered for %v", eventStall))
			return
		}
		before = now
	}
}

// publishUntil publishes as fast as the subscribers can follow.
func (c *client) publishUntil(ctx context.Context, f *fanOut, end time.Time) {
	defer close(f.published)
	patient := context.WithoutCancel(ctx)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for time.Now().Before(end) && ctx.Err() == nil {
		if f.sent-f.slowest() <= eventWindow {
			if err := f.publishSome(patient, eventBurst); err != nil {
				c.fail(err)
				return
			}
			continue
		}
		if err := f.publisher.Flush(patient); err != nil {
			c.fail(fmt.Errorf("flush: %v", err))
			return
		}
		for f.sent-f.slowest() > eventWindow && time.Now().Before(end) {
			pause.Reset(eventPoll)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return
			}
		}
	}
	if err := f.publisher.Flush(patient); err != nil {
		c.fail(fmt.Errorf("flush: %v", err))
	}
}

func (f *fanOut) publishSome(ctx context.Context, n int) error {
	for range n {
		f.sent++
		binary.LittleEndian.PutUint64(f.event, uint64(f.sent))
		if err := f.publisher.Publish(ctx, f.event); err != nil {
			return fmt.Errorf("event %d: %v", f.sent, err)
		}
	}
	return nil
}

// firstEvent has all subscribers receive an event, before time is measured.
func (f *fanOut) firstEvent(ctx context.Context) error {
	err := f.publishSome(ctx, 1)
	if err == nil {
		err = f.publisher.Flush(ctx)
	}
	if err != nil {
		return err
	}
	if f.settle(ctx); f.slowest() == 0 {
		return errors.New("not all subscribers received it")
	}
	return nil
}

// slowest is the last event that all subscribers have received, or missed.
func (f *fanOut) slowest() int64 {
	n := f.subscribers[0].last.Load()
	for i := range f.subscribers {
		n = min(n, f.subscribers[i].last.Load())
	}
	return n
}

// received is how many events the subscribers have received together.
func (f *fanOut) received() (n int64) {
	for i := range f.subscribers {
		n += f.subscribers[i].received()
	}
	return n
}

// settle waits until the subscribers have received all, or nothing for a while.
func (f *fanOut) settle(ctx context.Context) {
	count, since := f.received(), time.Now()
	for f.slowest() < f.sent && time.Since(since) < eventQuiet && sleepUntil(ctx, time.Now().Add(time.Millisecond)) {
		if n := f.received(); n != count {
			count, since = n, time.Now()
		}
	}
}
