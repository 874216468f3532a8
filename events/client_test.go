package events

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve lets clients reach a node, and returns its address and what cuts them off.
func (n *testNode) serve() (address string, cut func()) {
	n.c.t.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{DrainTimeout: time.Millisecond})
	if err != nil {
		n.c.t.Fatal(err)
	}
	if _, err := d.Register(ObjectID, n.broker.Servant(), core.ObjectOptions{}); err != nil {
		n.c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(context.WithoutCancel(n.c.t.Context()))
	}()
	var once sync.Once
	cut = func() { once.Do(func() { d.Close(); <-done }) }
	n.c.t.Cleanup(cut)
	return d.Addr().String(), cut
}

func newTestClient(t *testing.T, nodes ...string) *Client {
	t.Helper()
	c, err := NewClient(nodes, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustSubscribe(t *testing.T, c *Client, opts SubscribeOptions) *Subscription {
	t.Helper()
	s, err := c.Subscribe(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// next returns the message of the next event, and counts losses on the way to it.
func next(t *testing.T, s *Subscription, losses *int) any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		e, err := s.Next(ctx)
		if _, lost := errors.AsType[*LostError](err); lost {
			*losses++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		v, err := e.Message()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// spec: E9
func TestClient(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	a, _ := c.node("a").serve()
	b, _ := c.node("b").serve()
	subscriber := mustSubscribe(t, newTestClient(t, b), SubscribeOptions{Topics: []string{"prices.*"}, Expressions: []string{"news"}})
	publisher := newTestClient(t, a)
	values := []any{"text", []byte("bytes"), int64(3), []any{int64(1), nil}, map[string]any{"k": 1.5}}
	for _, v := range values {
		if err := publisher.Publish(t.Context(), "Prices.EUR", v); err != nil {
			t.Fatal(err)
		}
	}
	losses := 0
	for _, want := range values {
		if got := next(t, subscriber, &losses); !reflect.DeepEqual(got, want) || losses > 0 {
			t.Errorf("got %#v after %d losses, want %#v", got, losses, want)
		}
	}
	if err := publisher.Publish(t.Context(), "news", []byte("abc")); err != nil {
		t.Fatal(err)
	}
	e, err := subscriber.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	if err := e.Decode(&raw); err != nil || string(raw) != "abc" || e.Topic != "news" || time.Since(e.Time).Abs() > time.Hour {
		t.Errorf("event %+v decodes to %q, %v", e, raw, err)
	}
	var n int
	if err := e.Decode(&n); err == nil {
		t.Errorf("bytes decode to the number %d", n)
	}
	topics, err := publisher.Topics(t.Context())
	if err != nil || len(topics) != 4 { // a counts two topics, and knows of two patterns at b, one of which is a topic's name
		t.Errorf("topics: got %+v, %v", topics, err)
	}
}

// Events that are published without waiting arrive all, once and in order, mixed with those of callers who wait.
func TestPublishOrder(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	a, _ := c.node("a").serve()
	s := mustSubscribe(t, newTestClient(t, a), SubscribeOptions{Topics: []string{"t"}, Queue: MaxQueue})
	publisher := newTestClient(t, a)
	const n = 5000
	for i := range n {
		publish := publisher.PublishAsync
		if i%1000 == 999 {
			publish = publisher.Publish
		}
		if err := publish(t.Context(), "t", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := publisher.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	losses := 0
	for i := range n {
		if got := next(t, s, &losses); got != any(int64(i)) || losses > 0 {
			t.Fatalf("event %d: got %v after %d losses", i, got, losses)
		}
	}
}

// A node that goes away costs a subscriber a reported gap, a publisher at most the events under way.
func TestClientsMove(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	a, cutA := c.node("a").serve()
	b, cutB := c.node("b").serve()
	client := newTestClient(t, a, b)
	s := mustSubscribe(t, client, SubscribeOptions{Topics: []string{"t"}})
	publish := func(i int) {
		t.Helper()
		for core.OutcomeOf(client.Publish(t.Context(), "t", i)) != core.CallOK {
			i++ // this one may have been published: it must not come twice
		}
	}
	publish(1)
	losses := 0
	if got := next(t, s, &losses); got != any(int64(1)) || losses > 0 {
		t.Fatalf("got %v after %d losses, want the first event", got, losses)
	}
	cut := cutA
	if c.node("b").broker.Stats().Streams == 1 {
		cut = cutB
	}
	cut()
	awaitThat(t, "stream at the other node", func() bool {
		return c.node("a").broker.Stats().Streams+c.node("b").broker.Stats().Streams == 2 // the one that was cut off is not gone yet
	})
	publish(10)
	if got := next(t, s, &losses).(int64); got < 10 || losses != 1 {
		t.Errorf("got %v after %d losses, want an event published later, and that the gap is told", got, losses)
	}
}

// What a subscriber has seen does not come again, whatever a node sends.
func TestNoRepetition(t *testing.T) {
	t.Parallel()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{DrainTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	batches := make(chan []byte, 10)
	event := func(sequence int) []*routed {
		e := testEvent(sequence).Event
		e.publisher = publisherID{7}
		return []*routed{newRouted(e)}
	}
	send := func(lost uint64, sequences ...int) {
		b := appendBatchHeader(nil, streamOpen, lost, "")
		for _, n := range sequences {
			b = appendRuns(b, event(n))
		}
		batches <- b
	}
	servant := &core.Servant{Class: "Fake", Methods: []core.Method{
		{Name: "open_stream", Params: []core.Param{{Name: "o"}}, Func: func(context.Context, []any) (any, error) { return "id", nil }},
		{Name: "close_stream", Params: []core.Param{{Name: "s"}}, Func: func(context.Context, []any) (any, error) { return nil, nil }},
		{Name: "read_stream", Params: []core.Param{{Name: "s"}, {Name: "w"}}, Func: func(context.Context, []any) (any, error) {
			if b, ok := <-batches; ok {
				return b, nil
			}
			return appendBatchHeader(nil, streamCut, 0, "over"), nil
		}},
	}}
	if _, err := d.Register(ObjectID, servant, core.ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.Serve(context.WithoutCancel(t.Context()))
	}()
	t.Cleanup(func() { d.Close(); <-served })
	send(0, 1, 2, 2)
	send(3, 1, 4, 3, 5)
	send(0)
	close(batches)
	s := mustSubscribe(t, newTestClient(t, d.Addr().String()), SubscribeOptions{Topics: []string{"t"}})
	var got []string
	for e, err := range s.All(t.Context()) {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		v, _ := e.Message()
		got = append(got, fmt.Sprint(v))
	}
	want := []string{"1", "2", "events: 3 lost: queue full", "4", "5", "events: subscription ended: over"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := s.Next(t.Context()); err == nil {
		t.Error("Next after the end: got no error")
	}
}

func TestClientMistakes(t *testing.T) {
	t.Parallel()
	if _, err := NewClient(nil, ClientOptions{}); err == nil {
		t.Error("no nodes: got no error")
	}
	if _, err := NewClient([]string{"bad host:x"}, ClientOptions{}); err == nil {
		t.Error("bad node: got no error")
	}
	client := newTestClient(t, "127.0.0.1:1")
	for name, opts := range map[string]SubscribeOptions{
		"nothing":        {},
		"bad wildcard":   {Topics: []string{"a.>.b"}},
		"bad expression": {Expressions: []string{"("}},
		"bad policy":     {Topics: []string{"a"}, Policy: "maybe"},
		"bad queue":      {Topics: []string{"a"}, Queue: -1},
	} {
		if _, err := client.Subscribe(t.Context(), opts); core.OutcomeOf(err) != core.CallNotExecuted || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line", name, err)
		}
	}
	for name, row := range map[string]struct {
		topic   string
		message any
	}{
		"no topic":      {"", 1},
		"wildcard":      {"a.*", 1},
		"cluster":       {"$cluster.name", 1},
		"channel":       {"a", make(chan int)},
		"large":         {"a", strings.Repeat("x", MaxEventBytes)},
		"large (bytes)": {"a", make([]byte, MaxEventBytes)},
	} {
		if err := client.Publish(t.Context(), row.topic, row.message); core.OutcomeOf(err) != core.CallNotExecuted || strings.Contains(err.Error(), "\n") {
			t.Errorf("publish %s: got %v, want one line", name, err)
		}
	}
}

// Close ends what waits for nodes that do not answer.
func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, "127.0.0.1:1")
	ended := make(chan error, 3)
	go func() { ended <- client.Publish(context.Background(), "t", 1) }()
	go func() { ended <- client.Flush(context.Background()) }()
	go func() {
		_, err := client.Subscribe(context.Background(), SubscribeOptions{Topics: []string{"t"}})
		ended <- err
	}()
	client.Close()
	for range cap(ended) {
		<-ended
	}
	if err := client.PublishAsync(t.Context(), "t", 1); !errors.Is(err, core.ErrClosed) {
		t.Errorf("publish after Close: got %v, want ErrClosed", err)
	}
}

// A subscription outlives its reader's context, and ends with its own Close.
func TestSubscriptionContext(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	a, _ := c.node("a").serve()
	client := newTestClient(t, a)
	s := mustSubscribe(t, client, SubscribeOptions{Topics: []string{"t"}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: got %v, want that of the context", err)
	}
	for range s.All(ctx) {
		t.Error("All yielded after the context's end")
	}
	if err := client.Publish(t.Context(), "t", 1); err != nil {
		t.Fatal(err)
	}
	losses := 0
	next(t, s, &losses)
	s.Close()
	if _, err := s.Next(t.Context()); !errors.Is(err, core.ErrClosed) {
		t.Errorf("Next after Close: got %v, want ErrClosed", err)
	}
	c.await("stream closed at the node", func() bool { return c.node("a").broker.Stats().Streams == 0 })
}
