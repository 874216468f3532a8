package traffic

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// In real time the waiter is one by timerfd, and in virtual time one by a timer.
func TestNewWaiter(t *testing.T) {
	t.Parallel()
	w := newWaiter(t.Context())
	defer w.close()
	if _, ok := w.(*fdWaiter); !ok {
		t.Errorf("real time: waiter %T, want one by timerfd", w)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWaiter(t.Context())
		defer w.close()
		if _, ok := w.(*timerWaiter); !ok {
			t.Errorf("virtual time: waiter %T, want one by a timer", w)
		}
	})
}

func TestFDWaiter(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := newFDWaiter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, d := range []time.Duration{-time.Second, 0, time.Nanosecond, time.Microsecond, 3 * time.Millisecond, 100 * time.Microsecond} {
		start := time.Now()
		w.sleep(d)
		if got := time.Since(start); got < d {
			t.Errorf("sleep(%v) returned after %v", d, got)
		}
	}
	slept := make(chan struct{})
	go func() {
		defer close(slept)
		w.sleep(time.Hour)
	}()
	cancel()
	<-slept
	w.sleep(time.Hour) // after the end of ctx none waits
}
