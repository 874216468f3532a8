package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeHub is an event server in the same process, with hooks for what may happen to events.
type fakeHub struct {
	publish func(n int64) error                              // before event n is published; may last
	deliver func(subscriber int, n int64, p []byte) [][]byte // what becomes of event n at a subscriber; nil: nothing
	receive func(subscriber int, n int64) error              // before a subscriber gets event n; may last

	mu     sync.Mutex
	queues []chan []byte
	ahead  int // the most that waited for one subscriber
}

func number(p []byte) int64 { return int64(binary.LittleEndian.Uint64(p)) }

func (h *fakeHub) peer() Peer {
	return Peer{DialBroker: func(context.Context, string) (Broker, error) {
		return &fakeBroker{hub: h, closed: make(chan struct{}), once: new(sync.Once)}, nil
	}}
}

type fakeBroker struct {
	hub    *fakeHub
	id     int
	queue  chan []byte
	closed chan struct{}
	once   *sync.Once
}

func (b *fakeBroker) Publish(_ context.Context, p []byte) error {
	n := number(p)
	if b.hub.publish != nil {
		if err := b.hub.publish(n); err != nil {
			return err
		}
	}
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	for i, q := range b.hub.queues {
		events := [][]byte{bytes.Clone(p)}
		if b.hub.deliver != nil {
			events = b.hub.deliver(i, n, events[0])
		}
		for _, e := range events {
			q <- e
		}
		b.hub.ahead = max(b.hub.ahead, len(q))
	}
	return nil
}

func (b *fakeBroker) Flush(context.Context) error { return nil }

func (b *fakeBroker) Subscribe(context.Context) error {
	b.hub.mu.Lock()
	defer b.hub.mu.Unlock()
	b.id, b.queue = len(b.hub.queues), make(chan []byte, 10*eventWindow)
	b.hub.queues = append(b.hub.queues, b.queue)
	return nil
}

func (b *fakeBroker) Next(context.Context) ([]byte, error) {
	select {
	case p := <-b.queue:
		if b.hub.receive != nil && len(p) >= 8 {
			return p, b.hub.receive(b.id, number(p))
		}
		return p, nil
	case <-b.closed:
		return nil, net.ErrClosed
	}
}

func (b *fakeBroker) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// lasts makes something take that time.
func lasts(d time.Duration) func(int64) error {
	return func(int64) error { time.Sleep(d); return nil }
}

// TestEvents has events that take known times, in virtual time.
func TestEvents(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name       string
		hub        *fakeHub
		rate       float64 // of deliveries
		lost, most int64   // lost by all subscribers together
		ahead      int     // that the slowest may be behind
	}{
		{"a publisher that is slow", &fakeHub{publish: lasts(time.Millisecond)}, 10_000, 0, 0, 1},
		{"a subscriber that is slow", &fakeHub{receive: func(subscriber int, _ int64) error {
			if subscriber == 3 {
				time.Sleep(100 * time.Microsecond)
			}
			return nil
		}}, 100_000, 0, 0, eventWindow + eventBurst},
		{"each tenth is lost for one", &fakeHub{publish: lasts(time.Millisecond), deliver: func(subscriber int, n int64, p []byte) [][]byte {
			if subscriber == 3 && n%10 == 0 {
				return nil
			}
			return [][]byte{p}
		}}, 9_900, 240, 260, 1},
		{"all are lost after a time", &fakeHub{publish: lasts(time.Millisecond), deliver: func(_ int, n int64, p []byte) [][]byte {
			if n > 1500 {
				return nil
			}
			return [][]byte{p}
		}}, 5_000, 9_900, 10_700, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got, err := runFake(t, row.hub.peer(), "-work", "W7", "-duration", "2s", "-warmup", "500ms")
				if err != nil {
					t.Fatal(err)
				}
				if got.Rate < 0.98*row.rate || got.Rate > 1.02*row.rate || got.Secs != 2 || got.Conns != 11 || got.Work != "W7" {
					t.Errorf("got %+v, want %v deliveries/s in 2 s over 11 connections", got, row.rate)
				}
				if got.Lost < row.lost || got.Lost > row.most {
					t.Errorf("got %d lost, want %d to %d", got.Lost, row.lost, row.most)
				}
				if row.hub.ahead > row.ahead {
					t.Errorf("the slowest was %d events behind, want at most %d", row.hub.ahead, row.ahead)
				}
			})
		})
	}
}

// TestWrongEvents has event servers that break their promises.
func TestWrongEvents(t *testing.T) {
	t.Parallel()
	at := func(n int64, events func(p []byte) [][]byte) func(int, int64, []byte) [][]byte {
		return func(subscriber int, m int64, p []byte) [][]byte {
			if subscriber == 7 && m == n {
				return events(p)
			}
			return [][]byte{p}
		}
	}
	late := func(p []byte) [][]byte {
		before := bytes.Clone(p)
		binary.LittleEndian.PutUint64(before, uint64(number(p)-1))
		return [][]byte{p, before}
	}
	fails := func(n int64) func(int64) error {
		return func(m int64) error {
			if m == n {
				return errOurs
			}
			time.Sleep(time.Millisecond)
			return nil
		}
	}
	for _, row := range []struct {
		name     string
		duration string
		hub      *fakeHub
		want     string
	}{
		{"twice", "1h", &fakeHub{deliver: at(40, func(p []byte) [][]byte { return [][]byte{p, p} })}, "after 40 came 40"},
		{"out of order", "1h", &fakeHub{deliver: at(40, late)}, "after 40 came 39"},
		{"cut", "1h", &fakeHub{deliver: at(40, func(p []byte) [][]byte { return [][]byte{p[:100]} })}, "100 bytes"},
		{"empty", "1h", &fakeHub{deliver: at(1, func(p []byte) [][]byte { return [][]byte{nil} })}, "0 bytes"},
		{"none at one subscriber", "1h", &fakeHub{deliver: at(1, func([]byte) [][]byte { return nil })}, "not all"},
		{"none", "1h", &fakeHub{deliver: func(int, int64, []byte) [][]byte { return nil }}, "not all"},
		{"none but the first", "1s", &fakeHub{publish: lasts(time.Millisecond), deliver: func(_ int, n int64, p []byte) [][]byte {
			if n > 1 {
				return nil
			}
			return [][]byte{p}
		}}, "no event was delivered within 1s"},
		{"a server that dies", "1h", &fakeHub{publish: func(n int64) error {
			if n == 40 {
				time.Sleep(time.Hour)
			}
			return nil
		}}, "no event was delivered for"},
		{"the first cannot be published", "1h", &fakeHub{publish: fails(1)}, errOurs.Error()},
		{"one cannot be published", "1h", &fakeHub{publish: fails(40)}, "event 40: " + errOurs.Error()},
		{"a subscription that ends", "1h", &fakeHub{receive: func(subscriber int, n int64) error {
			if subscriber == 7 && n == 40 {
				return errOurs
			}
			return nil
		}}, errOurs.Error()},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got, err := runFake(t, row.hub.peer(), "-work", "W7", "-duration", row.duration, "-warmup", "10ms")
				if err == nil || !strings.Contains(err.Error(), row.want) {
					t.Errorf("got %+v, %v, want an error with %q", got, err, row.want)
				}
			})
		})
	}
}

// TestEventsHang has a server that takes no event after some.
func TestEventsHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		hub := &fakeHub{receive: func(_ int, n int64) error {
			if n == 100 {
				cancel(errOurs)
			}
			return nil
		}}
		err := Main(ctx, hub.peer(), []string{"client", "-addr", "there", "-work", "W7"}, new(bytes.Buffer))
		if !strings.Contains(err.Error(), errOurs.Error()) || errors.Is(err, ErrUsage) {
			t.Errorf("got %v, want why it was interrupted", err)
		}
	})
}
