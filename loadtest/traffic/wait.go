package traffic

import (
	"context"
	"time"
)

// waiter waits until a call is due.  It is used by one goroutine at a time.
type waiter interface {
	// sleep returns when d is over, or when the context of the waiter ends.  It may return early; who calls it looks at the clock.
	sleep(d time.Duration)
	close()
}

// timerWaiter waits by a timer of the runtime.  On Linux that can be a millisecond late in a process that has nothing else to do, since the
// runtime's poller waits in whole milliseconds.
type timerWaiter struct {
	timer *time.Timer
	done  <-chan struct{}
}

func newTimerWaiter(ctx context.Context) *timerWaiter {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &timerWaiter{timer: t, done: ctx.Done()}
}

func (w *timerWaiter) sleep(d time.Duration) {
	w.timer.Reset(d)
	select {
	case <-w.timer.C:
	case <-w.done:
	}
}

func (w *timerWaiter) close() { w.timer.Stop() }
