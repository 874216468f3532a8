package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// published are the calls that event servers took, as "first:messages".
type published struct {
	mu    sync.Mutex // guards what follows
	calls []string
	busy  bool
}

// take notes a call.  Calls come one at a time: that of a second one is noted as a mistake.
func (p *published) take(first int64, events []submission) (done func()) {
	call := fmt.Sprint(first) + ":"
	for _, e := range events {
		s, _ := core.SerializerByID(e.serializer)
		v, err := s.ParseValue(e.payload)
		if err != nil {
			v = err
		}
		call += fmt.Sprintf(" %v", v)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		call += ", while another call is under way"
	}
	p.busy = true
	p.calls = append(p.calls, call)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy = false
	}
}

func (p *published) want(t *testing.T, want ...string) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !reflect.DeepEqual(p.calls, want) {
		t.Errorf("calls: got %q\nwant %q", p.calls, want)
	}
}

// gated is an event server that answers when it is told to.
func gated(p *published) (m fakeMethods, answer chan error) {
	answer = make(chan error)
	return fakeMethods{publish: func(ctx context.Context, first int64, events []submission) error {
		defer p.take(first, events)()
		select {
		case err := <-answer:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, answer
}

func taking(p *published) fakeMethods {
	return fakeMethods{publish: func(_ context.Context, first int64, events []submission) error {
		p.take(first, events)()
		return nil
	}}
}

// async runs f and returns where its error comes.
func async(f func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	return result
}

func mustPublishAsync(t *testing.T, c *Client, messages ...any) {
	t.Helper()
	for _, m := range messages {
		if err := c.PublishAsync(t.Context(), "t", m); err != nil {
			t.Fatal(err)
		}
	}
}

// checkOutcome wants an error of that outcome that is, or wraps, another one unless that is nil.
func checkOutcome(t *testing.T, what string, err error, outcome core.CallOutcome, is error) {
	t.Helper()
	if core.OutcomeOf(err) != outcome || is != nil && !errors.Is(err, is) || strings.Contains(fmt.Sprint(err), "\n") {
		t.Errorf("%s: got %v (%v), want %v in one line, and that it is %v", what, err, core.OutcomeOf(err), outcome, is)
	}
}

// What comes while a call is under way goes into the next one, up to its bounds.
func TestPublishGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var sizes, firsts []int64
		gate := make(chan struct{})
		f.serve("a:9090", fakeMethods{publish: func(_ context.Context, first int64, events []submission) error {
			<-gate
			sizes, firsts = append(sizes, int64(len(events))), append(firsts, first)
			return nil
		}})
		c := f.client("a")
		mustPublishAsync(t, c, 0)
		synctest.Wait()
		const n = 2500
		for i := range n {
			mustPublishAsync(t, c, i)
		}
		flushed := async(func() error { return c.Flush(t.Context()) })
		close(gate)
		if err := <-flushed; err != nil {
			t.Fatal(err)
		}
		if want := []int64{1, 1000, 1000, 500}; !reflect.DeepEqual(sizes, want) {
			t.Errorf("events of the calls: got %d, want %d", sizes, want)
		}
		if want := []int64{1, 2, 1002, 2002}; !reflect.DeepEqual(firsts, want) {
			t.Errorf("first numbers of the calls: got %d, want %d", firsts, want)
		}
	})
}

// A publisher that is ahead of its node waits, so that what it has not sent stays bounded.
func TestPublishBuffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var p published
		m, answer := gated(&p)
		f.serve("a:9090", m)
		c := f.client("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent, err := 0, error(nil)
		for message := make([]byte, 1000); err == nil; sent++ {
			err = c.PublishAsync(ctx, "t", message)
		}
		checkOutcome(t, "no room", err, core.CallNotExecuted, context.DeadlineExceeded)
		if bytes, least := sent*1000, (maxWaitingBatches-1)*batchBytes; bytes < least || bytes > 2*least {
			t.Errorf("%d bytes were taken, want %d to %d", bytes, least, 2*least)
		}
		published := async(func() error { return c.PublishAsync(t.Context(), "t", 1) })
		answer <- nil
		if err := <-published; err != nil {
			t.Errorf("when there is room again: got %v", err)
		}
	})
}

// Who gives up takes the event back, unless it may have been sent.
func TestPublishGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var p published
		m, answer := gated(&p)
		f.serve("a:9090", m)
		c := f.client("a")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sent := async(func() error { return c.Publish(short, "t", "sent") })
		synctest.Wait()
		var waiting []<-chan error
		for _, message := range []string{"x", "stays", "y", "z", "stays, too", "ä"} {
			ctx := short
			if strings.HasPrefix(message, "stays") {
				ctx = t.Context()
			}
			waiting = append(waiting, async(func() error { return c.Publish(ctx, "t", message) }))
			synctest.Wait()
		}
		checkOutcome(t, "sent", <-sent, core.CallUnknown, context.DeadlineExceeded)
		for _, i := range []int{0, 2, 3, 5} {
			checkOutcome(t, "waiting", <-waiting[i], core.CallNotExecuted, context.DeadlineExceeded)
		}
		answer <- nil
		answer <- nil
		for _, i := range []int{1, 4} {
			if err := <-waiting[i]; err != nil {
				t.Errorf("the one that stays: got %v", err)
			}
		}
		p.want(t, "1: sent", "2: stays stays, too")
	})
}

// When all of a batch gave up, nothing is sent; neither is it after a message that cannot be.
func TestPublishNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var p published
		m, answer := gated(&p)
		f.serve("a:9090", m)
		c := f.client("a")
		mustPublishAsync(t, c, "first")
		synctest.Wait()
		checkOutcome(t, "a channel", c.PublishAsync(t.Context(), "t", make(chan int)), core.CallNotExecuted, nil)
		answer <- nil
		mustPublishAsync(t, c, "second")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		checkOutcome(t, "given up", c.Publish(ctx, "t", "x"), core.CallNotExecuted, context.DeadlineExceeded)
		answer <- nil
		synctest.Wait()
		mustPublishAsync(t, c, "third")
		answer <- nil
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		p.want(t, "1: first", "2: second", "4: third")
	})
}

// What a node surely did not publish goes to the next one, once.
func TestPublishGoesOn(t *testing.T) {
	t.Parallel()
	refuses := fakeMethods{publish: func(context.Context, int64, []submission) error { return errNotRunning() }}
	for _, row := range []struct {
		name  string
		nodes []string // a takes events
		serve func(f *fakeNet)
	}{
		{"nobody listens", []string{"a", "b"}, func(*fakeNet) {}},
		{"it stops", []string{"b", "a"}, func(f *fakeNet) { f.serve("b:9090", refuses) }},
		{"both", []string{"b", "c:1", "a"}, func(f *fakeNet) { f.serve("b:9090", refuses) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for range 10 { // it starts anywhere
				synctest.Test(t, func(t *testing.T) {
					f := newFakeNet(t)
					var p published
					f.serve("a:9090", taking(&p))
					row.serve(f)
					c := f.client(row.nodes...)
					for _, m := range []string{"x", "y"} {
						if err := c.Publish(t.Context(), "t", m); err != nil {
							t.Fatal(err)
						}
					}
					p.want(t, "1: x", "2: y")
				})
			}
		})
	}
}

// What may have been published is not sent again, and what comes after goes elsewhere.
func TestPublishUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var p published
		nodes := map[string]*fakeNode{}
		for _, address := range []string{"a:9090", "b:9090"} {
			nodes[address] = f.serve(address, fakeMethods{publish: func(ctx context.Context, first int64, events []submission) error {
				p.take(first, events)()
				if first == 1 {
					nodes[address].cut() // before the answer
					<-ctx.Done()
				}
				return nil
			}})
		}
		c := f.client("a", "b")
		checkOutcome(t, "cut off", c.Publish(t.Context(), "t", "x"), core.CallUnknown, io.EOF)
		if err := c.Publish(t.Context(), "t", "y"); err != nil {
			t.Error(err)
		}
		p.want(t, "1: x", "2: y")
		checkOutcome(t, "Flush", c.Flush(t.Context()), core.CallUnknown, io.EOF)
		if err := c.Flush(t.Context()); err != nil {
			t.Errorf("second Flush: got %v, want it to tell an error once", err)
		}
	})
}

// What a node refuses is refused by all.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		var p published
		for _, address := range []string{"a:9090", "b:9090"} {
			f.serve(address, fakeMethods{publish: func(_ context.Context, first int64, events []submission) error {
				p.take(first, events)()
				return core.ValueError.New("no")
			}})
		}
		c := f.client("a", "b")
		checkOutcome(t, "refused", c.Publish(t.Context(), "t", "x"), core.CallException, core.ValueError)
		p.want(t, "1: x")
	})
}

// While no node takes events they wait, for half a minute or until who published gives up: then no node gets them.
func TestPublishWithoutNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(t)
		c := f.client("a", "b")
		start := time.Now()
		err := c.Publish(t.Context(), "t", "x")
		if took := time.Since(start); core.OutcomeOf(err) != core.CallNotExecuted || took < publishPatience || took > publishPatience+2*maxPause {
			t.Errorf("got %v (%v) after %v, want an error after %v", err, core.OutcomeOf(err), took, publishPatience)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		err = c.Publish(ctx, "t", "y")
		checkOutcome(t, "given up", err, core.CallNotExecuted, context.DeadlineExceeded)
		if !strings.Contains(fmt.Sprint(err), "connection refused") {
			t.Errorf("got %v, want it to tell why", err)
		}
		waiting := async(func() error { return c.Publish(t.Context(), "t", "z") })
		synctest.Wait()
		var p published
		f.serve("b:9090", taking(&p))
		if err := <-waiting; err != nil {
			t.Error(err)
		}
		p.want(t, "3: z")
	})
}

// Close tells what may have been published from what was not.
func TestCloseWhilePublishing(t *testing.T) {
	t.Parallel()
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeNet(t)
			var p published
			m, _ := gated(&p)
			f.serve("a:9090", m)
			c := f.client("a")
			var results []<-chan error
			for _, m := range []string{"sent", "waiting"} {
				results = append(results, async(func() error { return c.Publish(t.Context(), "t", m) }))
				synctest.Wait()
			}
			for range maxPublishEvents * (maxWaitingBatches + 1) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if c.PublishAsync(ctx, "t", "filled up") != nil {
					cancel()
					break
				}
				cancel()
			}
			blocked := async(func() error { return c.PublishAsync(t.Context(), "t", "no room") })
			flushed := async(func() error { return c.Flush(t.Context()) })
			synctest.Wait()
			c.Close()
			checkOutcome(t, "sent", <-results[0], core.CallUnknown, core.ErrClosed)
			checkOutcome(t, "waiting", <-results[1], core.CallNotExecuted, core.ErrClosed)
			checkOutcome(t, "no room", <-blocked, core.CallNotExecuted, core.ErrClosed)
			checkOutcome(t, "Flush", <-flushed, core.CallUnknown, core.ErrClosed)
			checkOutcome(t, "after Close", c.Publish(t.Context(), "t", "x"), core.CallNotExecuted, core.ErrClosed)
			p.want(t, "1: sent")
		})
	}
}

// A message arrives as it is, whatever its length.
func TestSubmissionLengths(t *testing.T) {
	t.Parallel()
	s, _ := core.SerializerByName(defaultMessage)
	for _, n := range []int{0, 1, 31, 32, 100, 125, 126, 127, 128, 250, 255, 256, 257, 16_380, 16_384, 65_530, 65_536, MaxEventBytes - 5, MaxEventBytes - 4, MaxEventBytes} {
		for _, message := range []any{strings.Repeat("x", n), make([]byte, n)} {
			before := []byte("before")
			b, err := appendSubmission(before, "topic", s, message)
			if tooLong := n > MaxEventBytes-5; tooLong != (err != nil) || !strings.HasPrefix(string(b), "before") {
				t.Errorf("%T of %d: got %d bytes, %v", message, n, len(b), err)
				continue
			} else if tooLong {
				if len(b) != len(before) {
					t.Errorf("%T of %d: %d bytes of it were left", message, n, len(b)-len(before))
				}
				continue
			}
			events, err := parseSubmissions(b[len(before):])
			if err != nil || len(events) != 1 || events[0].topic != "topic" {
				t.Errorf("%T of %d: got %d events, %v", message, n, len(events), err)
				continue
			}
			if v, err := s.ParseValue(events[0].payload); err != nil || !reflect.DeepEqual(v, message) {
				t.Errorf("%T of %d: comes back as %.80v, %v", message, n, v, err)
			}
		}
	}
}

// benchmarkNode is a client of an event server that answers at once, over a real connection.
func benchmarkNode(b *testing.B) *Client {
	b.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{DrainTimeout: time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := d.Register(ObjectID, fakeMethods{}.servant(), core.ObjectOptions{}); err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { d.Serve(context.WithoutCancel(b.Context())) })
	b.Cleanup(func() { d.Close(); serving.Wait() })
	c, err := NewClient([]string{d.Addr().String()}, ClientOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkPublish is events of 128 bytes to a node that answers at once.
func BenchmarkPublish(b *testing.B) {
	payload := make([]byte, 128)
	for name, message := range map[string]any{"bytes": payload, "dict": map[string]any{"symbol": "ABC", "price": 12.5}} {
		b.Run("async/"+name, func(b *testing.B) {
			c := benchmarkNode(b)
			b.ReportAllocs()
			for b.Loop() {
				if err := c.PublishAsync(b.Context(), "prices.stock.eur", message); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	b.Run("wait", func(b *testing.B) {
		c := benchmarkNode(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := c.Publish(b.Context(), "prices.stock.eur", payload); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("wait, 64 at once", func(b *testing.B) {
		c := benchmarkNode(b)
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := c.Publish(b.Context(), "prices.stock.eur", payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
