package traffic

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// newWaiter returns a waiter by timerfd.  In virtual time, and if the system has no file descriptor left, it is one by a timer: what that
// costs shows in the lag.
func newWaiter(ctx context.Context) waiter {
	if virtualTime() {
		return newTimerWaiter(ctx)
	}
	w, err := newFDWaiter(ctx)
	if err != nil {
		return newTimerWaiter(ctx)
	}
	return w
}

// virtualTime reports whether the clock of package time is not that of the system, as in a bubble of testing/synctest, where only the
// runtime's own timers make time go by.
func virtualTime() bool {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return false
	}
	return time.Since(time.Unix(now.Unix())).Abs() > time.Minute
}

// fdWaiter waits by a timerfd, whose expiry wakes the runtime's poller at once (see [timerWaiter] for what it is better than).
type fdWaiter struct {
	fd    int // owned by timer
	timer *os.File
	stop  func() bool
	count [8]byte // what a read returns: how often it expired
}

func newFDWaiter(ctx context.Context) (*fdWaiter, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	w := &fdWaiter{fd: fd, timer: os.NewFile(uintptr(fd), "timerfd")}
	if err := w.timer.SetReadDeadline(time.Time{}); err != nil { // not in the poller: a read would not wait
		w.timer.Close()
		return nil, err
	}
	w.stop = context.AfterFunc(ctx, func() { w.timer.SetReadDeadline(time.Unix(1, 0)) })
	return w, nil
}

func (w *fdWaiter) sleep(d time.Duration) {
	in := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(d), 1))} // 0 would disarm it
	if unix.TimerfdSettime(w.fd, 0, &in, nil) == nil {
		w.timer.Read(w.count[:]) // fails when ctx has ended
	}
}

// close is called when nobody sleeps.
func (w *fdWaiter) close() {
	w.stop()
	w.timer.Close()
}
