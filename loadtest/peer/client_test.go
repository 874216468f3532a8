package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeConn is a connection to a service in the same process, with a hook for what may happen to a call.
type fakeConn struct {
	service *Service
	// before is called before each call, with its method.  An error is the call's.
	before func(method string, closed <-chan struct{}) error
	spoil  func(method string) bool // whether the answer is to be wrong
	text   string                   // of the latest EchoString
	once   *sync.Once
	closed chan struct{}
}

func (c *fakeConn) call(method string) (wrong bool, err error) {
	if c.before != nil {
		err = c.before(method, c.closed)
	}
	return c.spoil != nil && c.spoil(method), err
}

func (c *fakeConn) Add(_ context.Context, a, b int64) (int64, error) {
	wrong, err := c.call("add")
	if wrong {
		a++
	}
	return c.service.Add(a, b), err
}

func (c *fakeConn) EchoString(_ context.Context, s string) (string, error) {
	wrong, err := c.call("text")
	before := c.text
	c.text = s
	if wrong {
		return before, err // the answer to the call before
	}
	return s, err
}

func (c *fakeConn) EchoBytes(_ context.Context, p []byte) ([]byte, error) {
	wrong, err := c.call("bytes")
	if wrong {
		p = make([]byte, len(p))
	}
	return p, err
}

func (c *fakeConn) Oneway(context.Context, int64) error {
	wrong, err := c.call("note")
	if !wrong && err == nil {
		c.service.Note()
	}
	return err
}

func (c *fakeConn) Flush(context.Context) error { return nil }

func (c *fakeConn) Received(context.Context) (int64, error) {
	wrong, err := c.call("received")
	if wrong {
		return c.service.Received() * 2, err
	}
	return c.service.Received(), err
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// fakePeer connects to one service with copies of conn.
func fakePeer(mux bool, conn fakeConn) (Peer, *atomic.Int64) {
	dialed := new(atomic.Int64)
	conn.service = new(Service)
	return Peer{Mux: mux, Dial: func(context.Context, string) (Conn, error) {
		dialed.Add(1)
		c := conn
		c.once, c.closed = new(sync.Once), make(chan struct{})
		return &c, nil
	}}, dialed
}

// takes makes a call last.
func takes(d time.Duration) func(string, <-chan struct{}) error {
	return func(_ string, closed <-chan struct{}) error {
		select {
		case <-time.After(d):
			return nil
		case <-closed:
			return net.ErrClosed
		}
	}
}

func runFake(t *testing.T, p Peer, args ...string) (Result, error) {
	t.Helper()
	var out bytes.Buffer
	err := Main(t.Context(), p, append([]string{"client", "-addr", "there"}, args...), &out)
	var r Result
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &r)
	} else if out.Len() > 0 {
		t.Errorf("%v: printed %q beside the error %v", args, &out, err)
	}
	return r, err
}

// TestKnownServiceTime has calls that take known times, in virtual time, and checks what is said of them.
func TestKnownServiceTime(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		mux   bool
		args  []string
		want  Result
		conns int64
	}{
		{"one caller", false, []string{"-work", "W1"}, Result{Calls: 2000, Rate: 1000, Conns: 1}, 1},
		{"no warm-up", false, []string{"-work", "W1", "-warmup", "0s"}, Result{Calls: 2000, Rate: 1000, Conns: 1}, 1},
		{"many callers", false, []string{"-work", "W2"}, Result{Calls: 128_000, Rate: 64_000, Conns: 64}, 64},
		{"many callers share a connection", true, []string{"-work", "W2"}, Result{Calls: 128_000, Rate: 64_000, Conns: 1}, 1},
		{"texts", false, []string{"-work", "W3", "-concurrency", "2"}, Result{Calls: 4000, Rate: 2000, Conns: 2}, 2},
		{"bytes", false, []string{"-work", "W4"}, Result{Calls: 2000, Rate: 1000, Conns: 1, MBPerSecond: 1048.576}, 1},
		{"idle callers", true, []string{"-work", "W6", "-concurrency", "1", "-idle", "100"}, Result{Calls: 2200, Rate: 1000, Conns: 101, IdleRate: 100, IdleP99: 1000}, 101},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p, dialed := fakePeer(row.mux, fakeConn{before: takes(time.Millisecond)})
				got, err := runFake(t, p, append([]string{"-duration", "2s", "-warmup", "500ms"}, row.args...)...)
				if err != nil {
					t.Fatal(err)
				}
				if dialed.Load() != row.conns {
					t.Errorf("%d connections were opened, want %d", dialed.Load(), row.conns)
				}
				for _, f := range []struct {
					name      string
					got, want float64
				}{
					{"calls", float64(got.Calls), float64(row.want.Calls)},
					{"rate", got.Rate, row.want.Rate},
					{"conns", float64(got.Conns), float64(row.want.Conns)},
					{"seconds", got.Secs, 2},
					{"p50", got.P50, 1000},
					{"p99.9", got.P999, 1000},
					{"max", got.Max, 1000},
					{"MB/s", got.MBPerSecond, row.want.MBPerSecond},
					{"idle rate", got.IdleRate, row.want.IdleRate},
					{"idle p99", got.IdleP99, row.want.IdleP99},
				} {
					if f.got < 0.99*f.want || f.got > 1.01*f.want {
						t.Errorf("%s: got %v, want %v within 1 %%", f.name, f.got, f.want)
					}
				}
			})
		})
	}
}

// TestStallIsSeen has one call of many that takes long.
func TestStallIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		p, _ := fakePeer(false, fakeConn{before: func(_ string, closed <-chan struct{}) error {
			if calls.Add(1) == 1500 {
				return takes(300*time.Millisecond)("", closed)
			}
			return takes(time.Millisecond)("", closed)
		}})
		got, err := runFake(t, p, "-work", "W1", "-duration", "2s", "-warmup", "500ms")
		if err != nil || got.Max < 299_000 || got.P50 > 1100 || got.Calls > 1710 {
			t.Errorf("got %+v, %v, want a greatest latency of 300 ms, a median of 1 ms, and about 1,700 calls", got, err)
		}
	})
}

func TestWrongAnswers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		work, method string
		later        int64 // call that is in the midst of things
	}{
		{"W1", "add", 40}, {"W2", "add", 40}, {"W3", "text", 40}, {"W4", "bytes", 40}, {"W5", "received", 5}, {"W6", "add", 40},
	} {
		t.Run(row.work, func(t *testing.T) {
			t.Parallel()
			for _, first := range []int64{1, row.later} {
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int64
					p, _ := fakePeer(false, fakeConn{
						before: takes(time.Millisecond),
						spoil:  func(method string) bool { return method == row.method && calls.Add(1) >= first },
					})
					got, err := runFake(t, p, "-work", row.work, "-duration", "100ms", "-concurrency", "1", "-idle", "2")
					if err == nil || !strings.Contains(err.Error(), "wrong answer") {
						t.Errorf("wrong from call %d on: got %+v, %v, want an error", first, got, err)
					}
				})
			}
		})
	}
}

// TestLostOneway has a service that does not count each tenth message.
func TestLostOneway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		p, _ := fakePeer(false, fakeConn{
			before: takes(time.Millisecond),
			spoil:  func(method string) bool { return method == "note" && calls.Add(1)%10 == 0 },
		})
		r, err := runFake(t, p, "-work", "W5", "-duration", "1s", "-warmup", "100ms")
		if lost := float64(r.Lost) / float64(r.Calls+r.Lost); err != nil || lost < 0.095 || lost > 0.105 {
			t.Errorf("got %+v, %v, want a tenth lost", r, err)
		}
	})
}

func TestNoOnewayArrives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := fakePeer(false, fakeConn{before: takes(time.Millisecond), spoil: func(method string) bool { return method == "note" }})
		if r, err := runFake(t, p, "-work", "W5", "-duration", "1s"); err == nil || !strings.Contains(err.Error(), "arrived") {
			t.Errorf("got %+v, %v, want an error", r, err)
		}
	})
}

// TestCallsHang has calls that never end: Close ends them, and the client says what happened.
func TestCallsHang(t *testing.T) {
	t.Parallel()
	for _, work := range Works() {
		t.Run(work, func(t *testing.T) {
			t.Parallel()
			for _, first := range []int64{1, 2, 30} { // hanging calls
				synctest.Test(t, func(t *testing.T) {
					var calls atomic.Int64
					p, _ := fakePeer(false, fakeConn{before: func(_ string, closed <-chan struct{}) error {
						if calls.Add(1) < first {
							return takes(time.Millisecond)("", closed)
						}
						<-closed
						return net.ErrClosed
					}})
					began := time.Now()
					_, err := runFake(t, p, "-work", work, "-duration", "1s", "-warmup", "0s", "-concurrency", "1", "-idle", "2")
					if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "hang") || took != time.Second+grace {
						t.Errorf("calls hang from %d on: got %v after %v, want the reason after %v", first, err, took, time.Second+grace)
					}
				})
			}
		})
	}
}

var errOurs = errors.New("the test has seen enough")

// TestInterrupted ends a client that is at work.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, work := range Works() {
		t.Run(work, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				var calls atomic.Int64
				p, _ := fakePeer(false, fakeConn{before: func(_ string, closed <-chan struct{}) error {
					if calls.Add(1) == 200 {
						cancel(errOurs)
					}
					return takes(time.Millisecond)("", closed)
				}})
				var out bytes.Buffer
				err := Main(ctx, p, []string{"client", "-work", work, "-addr", "there", "-duration", "1h"}, &out)
				if !errors.Is(err, errOurs) || out.Len() > 0 {
					t.Errorf("got %v and %q, want %v and nothing", err, &out, errOurs)
				}
			})
		})
	}
}

// TestOneFails has a single call that fails: the run ends with that error, not with those of the connections closed for it.
func TestOneFails(t *testing.T) {
	t.Parallel()
	for _, work := range Works() {
		t.Run(work, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				p, _ := fakePeer(false, fakeConn{before: func(_ string, closed <-chan struct{}) error {
					if calls.Add(1) == 200 {
						return errOurs
					}
					return takes(time.Millisecond)("", closed)
				}})
				if _, err := runFake(t, p, "-work", work); err == nil || !strings.Contains(err.Error(), errOurs.Error()) {
					t.Errorf("got %v, want %v", err, errOurs)
				}
			})
		})
	}
}

func TestNoCallEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, _ := fakePeer(false, fakeConn{before: takes(time.Second)})
		if _, err := runFake(t, p, "-work", "W1", "-duration", "10ms", "-warmup", "0s"); err == nil || !strings.Contains(err.Error(), "no call ended within 10ms") {
			t.Errorf("got %v, want an error", err)
		}
	})
}
