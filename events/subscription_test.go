package events

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// numbered is a batch of events of one publisher, whose messages are their numbers.
func numbered(status batchStatus, lost uint64, reason string, sequences ...int) []byte {
	b := appendBatchHeader(nil, status, lost, reason)
	for _, n := range sequences {
		e := testEvent(n).Event
		e.publisher = publisherID{7}
		b = appendRuns(b, []*routed{newRouted(e)})
	}
	return b
}

// scripted is an event server that answers with these batches, and then with none until it is cut off.
func scripted(batches ...[]byte) fakeMethods {
	at := 0 // reads come one at a time
	return fakeMethods{read: func(ctx context.Context, _ string) []byte {
		if at == len(batches) {
			pause(ctx, readWait)
			return numbered(streamOpen, 0, "")
		}
		at++
		return batches[at-1]
	}}
}

// messages is what a subscriber gets until something it got contains the last text, or the subscription ends.
func messages(t *testing.T, s *Subscription, last string) (got []string) {
	t.Helper()
	for e, err := range s.All(t.Context()) {
		text := ""
		if err == nil {
			var v any
			if v, err = e.Message(); err == nil {
				text = fmt.Sprint(v)
			}
		}
		if err != nil {
			text = err.Error()
		}
		got = append(got, text)
		if strings.Contains(text, last) {
			break
		}
	}
	return got
}

func checkHeard(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

var anything = SubscribeOptions{Topics: []string{"t"}}

// A subscriber that is slow leaves its events at the node, but for one batch.
func TestSubscriptionReadsAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		reads := 0
		f.serve("a:9090", fakeMethods{read: func(context.Context, string) []byte {
			reads++
			return numbered(streamOpen, 0, "", 2*reads, 2*reads+1)
		}})
		s := mustSubscribe(t, f.client("a"), anything)
		for i := range 20 {
			synctest.Wait()
			if want := 1 + (i+1)/2; reads != want {
				t.Fatalf("%d batches were read after %d events, want %d", reads, i, want)
			}
			if _, err := s.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What a node says about the events and what becomes of it, when it goes and another one is there.
func TestSubscriptionMoves(t *testing.T) {
	t.Parallel()
	late := func(ctx context.Context) []byte {
		pause(context.WithoutCancel(ctx), readWait+2*readTimeout)
		return nil
	}
	for _, row := range []struct {
		name  string
		first fakeMethods // of the node that is asked first
		want  []string    // before the events of the other one
		gap   string
	}{
		{"it stops", scripted(numbered(streamOpen, 0, "", 1, 2), numbered(streamGone, 0, "node is stopping", 3)), []string{"1", "2", "3"}, "node is stopping"},
		{"it was started anew", scripted(numbered(streamOpen, 2, "", 1), numbered(streamGone, 0, "unknown stream")),
			[]string{"events: 2 lost: queue full", "1"}, "unknown stream"},
		{"it hangs", fakeMethods{read: func(ctx context.Context, _ string) []byte { return late(ctx) }}, nil, "no answer"},
		{"it is cut off", fakeMethods{}, nil, "EOF"},
		{"it sends rubbish", scripted([]byte("rubbish")), nil, "malformed"},
		{"it is of another version", scripted([]byte{9, 0, 0, 0}), nil, "version 9"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFakeNet(t)
				other := scripted(numbered(streamOpen, 0, "", 1, 2), numbered(streamOpen, 0, "", 3, 4, 5))
				var mu sync.Mutex
				var asked []string
				nodes := map[string]*fakeNode{}
				for _, address := range []string{"a:9090", "b:9090"} {
					methods := fakeMethods{read: func(ctx context.Context, id string) []byte { // the one that is asked first is the first
						mu.Lock()
						if len(asked) == 0 {
							asked = append(asked, address)
						}
						first := asked[0] == address
						mu.Unlock()
						switch {
						case !first:
							return other.read(ctx, id)
						case row.first.read == nil:
							nodes[address].cut()
							return nil
						}
						return row.first.read(ctx, id)
					}}
					nodes[address] = f.serve(address, methods)
				}
				s := mustSubscribe(t, f.client("a", "b"), anything)
				got := messages(t, s, "5")
				next := map[string]string{"a:9090": "b:9090", "b:9090": "a:9090"}[asked[0]]
				n := len(row.want)
				if len(got) <= n || !strings.HasPrefix(got[n], "events: some may be lost: node "+asked[0]+": ") ||
					!strings.Contains(got[n], row.gap) || !strings.HasSuffix(got[n], "; now at "+next) {
					t.Fatalf("got %q, want a gap because of %q at %d", got, row.gap, n)
				}
				want := append(row.want[:n:n], got[n])
				for i := 1; i <= 5; i++ { // those that came already do not come again
					if text := fmt.Sprint(i); !slices.Contains(row.want, text) {
						want = append(want, text)
					}
				}
				checkHeard(t, got, want...)
			})
		})
	}
}

// A node that takes subscriptions but does not answer is not asked again and again without a pause; one that answered is, at once.
func TestSubscriptionBacksOff(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name     string
		answers  int // of a stream, before it is gone
		min, max time.Duration
	}{
		{"no answers", 0, 20 * maxPause, 60 * maxPause},
		{"answers", 1, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFakeNet(t)
				opened, answered := 0, 0
				f.serve("a:9090", fakeMethods{
					open: func(context.Context) (string, error) { opened++; return "id", nil },
					read: func(context.Context, string) []byte {
						if answered == opened*row.answers {
							return numbered(streamGone, 0, "unknown stream")
						}
						answered++
						return numbered(streamOpen, 0, "")
					},
				})
				s := mustSubscribe(t, f.client("a"), anything)
				start := time.Now()
				for range 60 {
					if _, err := s.Next(t.Context()); !strings.Contains(err.Error(), "unknown stream; now at a:9090") {
						t.Fatal(err)
					}
				}
				if took := time.Since(start); took < row.min || took > row.max {
					t.Errorf("60 moves, with %d answers each, took %v, want %v to %v", row.answers, took, row.min, row.max)
				}
			})
		})
	}
}

// While no node is there Next waits, and tells of the gap once.
func TestSubscriptionWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		a := f.serve("a:9090", scripted(numbered(streamOpen, 0, "", 1)))
		s := mustSubscribe(t, f.client("a", "b"), anything)
		checkHeard(t, messages(t, s, "1"), "1")
		a.cut()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if e, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, %v, want to wait", e, err)
		}
		f.serve("b:9090", scripted(numbered(streamOpen, 0, "", 2)))
		start := time.Now()
		if got := messages(t, s, "2"); len(got) != 2 || !strings.HasSuffix(got[0], "; now at b:9090") || time.Since(start) > 2*maxPause {
			t.Errorf("got %q after %v, want the gap and the event soon", got, time.Since(start))
		}
	})
}

// A stream ends at its node when its subscription ends, and when that goes elsewhere though the node is there.
func TestSubscriptionLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var mu sync.Mutex
		var left []string
		opened := 0
		f.serve("a:9090", fakeMethods{
			open: func(context.Context) (string, error) { opened++; return fmt.Sprint(opened), nil },
			read: func(ctx context.Context, id string) []byte {
				if id == "1" {
					return []byte("rubbish")
				}
				pause(ctx, readWait)
				return numbered(streamOpen, 0, "")
			},
			close: func(id string) { mu.Lock(); left = append(left, id); mu.Unlock() },
		})
		c := f.client("a")
		s := mustSubscribe(t, c, anything)
		messages(t, s, "malformed")
		pause(t.Context(), time.Minute)
		s.Close()
		c.Close()
		mu.Lock()
		defer mu.Unlock()
		checkHeard(t, left, "1", "2")
	})
}

// After Close there is nothing more, whatever came before; and All ends with its context, not with the events at hand.
func TestSubscriptionEnds(t *testing.T) {
	t.Parallel()
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeNet(t)
			n := 0
			f.serve("a:9090", fakeMethods{read: func(context.Context, string) []byte { n += 2; return numbered(streamOpen, 0, "", n, n+1) }})
			c := f.client("a")
			s := mustSubscribe(t, c, anything)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			got := 0
			for _, err := range s.All(ctx) {
				if got++; err != nil || got > 1 {
					t.Fatalf("event %d, %v, after the end of the context", got, err)
				}
				cancel()
			}
			s.Close()
			for range 3 {
				if e, err := s.Next(t.Context()); !errors.Is(err, core.ErrClosed) {
					t.Fatalf("Next after Close: got %v, %v", e, err)
				}
			}
			s = mustSubscribe(t, c, anything)
			waits := async(func() error {
				for {
					if _, err := s.Next(t.Context()); err != nil {
						return err
					}
				}
			})
			c.Close()
			if err := <-waits; !errors.Is(err, core.ErrClosed) {
				t.Errorf("Next while the client is closed: got %v", err)
			}
			if _, err := c.Subscribe(t.Context(), anything); !errors.Is(err, core.ErrClosed) {
				t.Errorf("Subscribe after Close: got %v", err)
			}
			if _, err := c.Topics(t.Context()); !errors.Is(err, core.ErrClosed) {
				t.Errorf("Topics after Close: got %v", err)
			}
		})
	}
}

// Subscribing goes on to other nodes unless a node says that it cannot be done.
//
// spec: E3 E4
func TestSubscribe(t *testing.T) {
	t.Parallel()
	closing := func(context.Context) (string, error) { return "", errNotRunning() }
	refusing := func(context.Context) (string, error) { return "", core.ValueError.New("no") }
	hanging := func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	for _, row := range []struct {
		name  string
		open  func(context.Context) (string, error) // of the node a
		other bool                                  // there are others, of which one does it
		limit time.Duration
		want  error
	}{
		{"a node that stops", closing, true, nodePause, nil},
		{"a node that hangs", hanging, true, askLimit + nodePause, nil},
		{"a node that refuses", refusing, false, 0, core.ValueError},
		{"nodes that stop", closing, false, openLimit, core.ConnectionClosedError},
		{"nodes that hang", hanging, false, openLimit, context.DeadlineExceeded},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for range 5 { // it starts anywhere
				synctest.Test(t, func(t *testing.T) {
					f := newFakeNet(t)
					f.serve("a:9090", fakeMethods{open: row.open})
					nodes := []string{"a"}
					if row.other {
						f.serve("c:9090", fakeMethods{})
						nodes = append(nodes, "nobody", "c")
					}
					start := time.Now()
					s, err := f.client(nodes...).Subscribe(t.Context(), anything)
					if !errors.Is(err, row.want) || (s == nil) != (err != nil) {
						t.Errorf("got %v, %v, want error %v", s, err, row.want)
					}
					if took := time.Since(start); took > row.limit {
						t.Errorf("it took %v, want at most %v", took, row.limit)
					}
				})
			}
		})
	}
}

// The list comes from the first node that answers.
func TestTopics(t *testing.T) {
	t.Parallel()
	for range 5 { // it starts anywhere
		synctest.Test(t, func(t *testing.T) {
			f := newFakeNet(t)
			f.serve("a:9090", fakeMethods{topics: func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() }})
			var b *fakeNode
			b = f.serve("b:9090", fakeMethods{topics: func(ctx context.Context) (any, error) { b.cut(); <-ctx.Done(); return nil, nil }})
			f.serve("c:9090", fakeMethods{topics: func(context.Context) (any, error) {
				return []any{map[string]any{"pattern": "news", "kind": "topic", "streams": 1, "published": 3}}, nil
			}})
			start := time.Now()
			got, err := f.client("a", "b", "c", "nobody").Topics(t.Context())
			if took := time.Since(start); took > askLimit {
				t.Errorf("it took %v, want at most %v", took, askLimit)
			}
			if want := []TopicInfo{{Pattern: "news", Kind: "topic", Streams: 1, Published: 3}}; err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
}
