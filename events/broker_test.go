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
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// testCluster is brokers that share one state and reach each other by function calls, which a test can cut.
type testCluster struct {
	t     *testing.T
	state *fsm.State

	mu    sync.Mutex // guards what follows
	index uint64
	nodes map[string]*testNode
}

type testNode struct {
	c      *testCluster
	id     string
	broker *Broker
	stop   func()

	mu     sync.Mutex // guards what follows
	silent bool       // does not answer, and reaches nobody
	leads  bool
}

func newTestCluster(t *testing.T, ids ...string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, state: fsm.New(), nodes: map[string]*testNode{}}
	c.state.Observe(func(changes []fsm.Change) {
		for _, n := range c.nodes { // Apply holds c.mu
			n.broker.Changes(changes)
		}
	})
	for _, id := range ids {
		c.start(id)
	}
	c.lead(ids[0])
	for _, id := range ids {
		c.await("links of "+id, func() bool { return c.node(id).broker.Stats().Peers == len(ids)-1 })
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.stop()
		}
	})
	return c
}

// start runs a node, in place of the one of that id if there is one.
func (c *testCluster) start(id string) *testNode {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	n := &testNode{c: c, id: id, broker: NewBroker(BrokerOptions{})}
	done := make(chan struct{})
	n.stop = func() { cancel(); <-done }
	c.mu.Lock()
	c.nodes[id] = n
	c.mu.Unlock()
	if _, err := n.Apply(ctx, fsm.Command{Kind: fsm.KindPutNode, Node: fsm.Node{ID: id}}); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(done)
		n.broker.Run(ctx, n)
	}()
	<-n.broker.started
	return n
}

func (c *testCluster) node(id string) *testNode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

func (c *testCluster) lead(id string) {
	for other, n := range c.nodes {
		n.mu.Lock()
		n.leads = other == id
		n.mu.Unlock()
	}
}

// awaitRefreshed waits until all nodes know who is to call which callback.
func (c *testCluster) awaitRefreshed() {
	c.t.Helper()
	c.await("knowledge of the subscribers", func() bool {
		version := c.state.View().SubscribersVersion()
		for _, n := range c.nodes {
			n.broker.mu.Lock()
			ok := n.broker.refreshed == version
			n.broker.mu.Unlock()
			if !ok {
				return false
			}
		}
		return true
	})
}

// await waits until cond holds.
func (c *testCluster) await(what string, cond func() bool) {
	c.t.Helper()
	awaitThat(c.t, what, cond)
}

func awaitThat(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(time.Millisecond); !cond(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func (n *testNode) setSilent(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
}

func (n *testNode) isSilent() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.silent
}

func (n *testNode) ID() string { return n.id }

func (n *testNode) IsLeader() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leads
}

func (n *testNode) LocalView() *fsm.View { return n.c.state.View() }

var errSilent = errors.New("no way to the other nodes")

func (n *testNode) View(context.Context) (*fsm.View, error) {
	if n.isSilent() {
		return nil, errSilent
	}
	return n.c.state.View(), nil
}

func (n *testNode) Apply(_ context.Context, cmd fsm.Command) (fsm.Result, error) {
	if n.isSilent() {
		return fsm.Result{}, errSilent
	}
	entry, err := fsm.EncodeEntry([]fsm.Command{cmd})
	if err != nil {
		return fsm.Result{}, err
	}
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.index++
	results, err := n.c.state.Apply(n.c.index, entry)
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

func (n *testNode) Send(ctx context.Context, node string, body []byte) ([]byte, error) {
	other := n.c.node(node)
	if other == nil || n.isSilent() || other.isSilent() {
		return nil, errSilent
	}
	return other.broker.Message(ctx, n.id, slices.Clone(body))
}

// call calls a method of the node's servant, as a client does.
func (n *testNode) call(method string, args ...any) (any, error) {
	for _, m := range n.broker.Servant().Methods {
		if m.Name == method {
			for len(args) < len(m.Params) {
				args = append(args, m.Params[len(args)].Default)
			}
			return m.Func(context.Background(), args)
		}
	}
	return nil, fmt.Errorf("no method %s", method)
}

func (n *testNode) mustCall(method string, args ...any) any {
	n.c.t.Helper()
	v, err := n.call(method, args...)
	if err != nil {
		n.c.t.Fatalf("%s%v at %s: %v", method, args, n.id, err)
	}
	return v
}

// listen opens a stream.
func (n *testNode) listen(options map[string]any) string {
	n.c.t.Helper()
	return n.mustCall("open_stream", options).(string)
}

// read reads events of a stream until there are so many, and returns their messages with the losses between them.
func (n *testNode) read(stream string, want int) []any {
	n.c.t.Helper()
	var got []any
	events := 0
	awaitThat(n.c.t, fmt.Sprintf("%d events at %s", want, n.id), func() bool {
		raw := n.mustCall("read_stream", stream, 0.05).(core.BytesAppender).AppendBytes(nil)
		b, err := parseBatch(raw)
		if err != nil {
			n.c.t.Fatal(err)
		}
		if b.lost > 0 || b.reason != "" {
			got = append(got, fmt.Sprintf("lost %d %s", b.lost, b.reason))
		}
		for !b.isEmpty() {
			e, nextErr := b.next()
			v, err := e.Message()
			if err := errors.Join(err, nextErr); err != nil {
				n.c.t.Fatal(err)
			}
			got = append(got, v)
			events++
		}
		return events >= want || b.status != streamOpen
	})
	return got
}

// listener is a callback object.
type listener struct {
	uri core.URI

	mu   sync.Mutex // guards what follows
	got  []any      // messages, with the losses before them
	hold chan struct{}
}

// newListener serves a callback object until the test ends.
func newListener(t *testing.T) *listener {
	t.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{DrainTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{}
	l.uri, err = d.Register("", &core.Servant{Class: "Listener", Methods: []core.Method{{
		Name: "event", Oneway: true, Params: []core.Param{{Name: "event"}},
		Func: func(ctx context.Context, args []any) (any, error) { return nil, l.event(ctx, args[0]) },
	}}}, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(context.WithoutCancel(t.Context()))
	}()
	t.Cleanup(func() { d.Close(); <-done })
	return l
}

func (l *listener) event(ctx context.Context, v any) error {
	l.mu.Lock()
	hold := l.hold
	l.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e := v.(map[string]any)
	l.mu.Lock()
	defer l.mu.Unlock()
	if e["lost"] != nil {
		l.got = append(l.got, fmt.Sprintf("lost %v", e["lost"]))
	}
	l.got = append(l.got, e["msg"])
	return nil
}

func (l *listener) proxy() core.ProxyState { return core.ProxyState{URI: l.uri, Serializer: "serpent"} }

func (l *listener) heard() []any {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

func (l *listener) await(t *testing.T, want ...any) {
	t.Helper()
	awaitThat(t, fmt.Sprintf("want %v", want), func() bool {
		return len(l.heard()) >= len(want)
	})
	if got := l.heard(); !reflect.DeepEqual(got, want) {
		t.Fatalf("callback heard %v, want %v", got, want)
	}
}

func numbers(from, to int) []any {
	var list []any
	for i := from; i <= to; i++ {
		list = append(list, int64(i))
	}
	return list
}

// spec: E1 E2 E3 E4 E5 E6
func TestAcrossNodes(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b", "c")
	streams := map[string]string{}
	for id, n := range c.nodes {
		streams[id] = n.listen(map[string]any{"topics": []any{"News", "new*"}, "expressions": []any{"n.*"}})
	}
	l := newListener(t)
	c.node("b").mustCall("subscribe", []any{"news", "NEWS"}, l.proxy())
	c.node("c").mustCall("subscribeMatch", "ne", l.proxy())
	for i := 1; i <= 10; i++ {
		c.node("a").mustCall("publish", "NEWS", int64(i))
	}
	l.await(t, numbers(1, 10)...)
	for id, n := range c.nodes {
		if got := n.read(streams[id], 10); !reflect.DeepEqual(got, numbers(1, 10)) {
			t.Errorf("stream at %s: got %v, want 1 to 10, each once", id, got)
		}
	}
	c.node("a").mustCall("unsubscribe", []any{"news", "ne", "never subscribed"}, l.proxy())
	c.node("a").mustCall("publish", []any{"news", "other"}, int64(11))
	c.node("a").read(streams["a"], 1)
	if _, ok := c.state.View().Subscriber(l.uri.String()); ok || len(l.heard()) != 10 {
		t.Errorf("after unsubscribe: still there %v, heard %v", ok, l.heard())
	}
}

// Values arrive as what they are, whatever serializer the publisher has.
//
// spec: E2
func TestMessageKinds(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	l := newListener(t)
	c.node("b").mustCall("subscribe", "t", l.proxy())
	for _, v := range []any{nil, "text", []byte("bytes"), 1.5, []any{int64(1)}, map[string]any{"k": "v"}} {
		c.node("a").mustCall("publish", "t", v)
		awaitThat(t, fmt.Sprintf("message %v", v), func() bool { return len(l.heard()) == 1 })
		got := l.heard()[0]
		if b, ok := v.([]byte); ok { // serpent's form of bytes
			v = b
		}
		if err := core.Convert(new(any), got); err != nil || v != nil && got == nil {
			t.Errorf("published %v: got %v, %v", v, got, err)
		}
		l.mu.Lock()
		l.got = nil
		l.mu.Unlock()
	}
}

// spec: E7
func TestPolicies(t *testing.T) {
	t.Parallel()
	tests := []struct {
		policy Policy
		want   []any
	}{
		{DropOldest, append([]any{"lost 5 "}, numbers(6, 8)...)},
		{DropNew, append(numbers(1, 3), "lost 5 ")},
		{Disconnect, []any{"lost 4 queue full"}},
	}
	for _, tc := range tests {
		t.Run(string(tc.policy), func(t *testing.T) {
			t.Parallel()
			q := newQueue(tc.policy, 3, func(dropReason, int) {})
			for i := 1; i <= 8; i++ {
				q.put(testEvent(i))
			}
			if got := contents(q); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("8 events into a queue of 3: got %v, want %v", got, tc.want)
			}
		})
	}
}

func testEvent(i int) *routed {
	id, s, _ := serializerID("msgpack")
	payload, _ := s.AppendValue(nil, int64(i))
	return newRouted(Event{Topic: "t", Time: time.Unix(1, 0), sequence: uint64(i), serializer: id, payload: payload})
}

func contents(q *queue) []any {
	var got []any
	for {
		t := q.take(nil, 100, 1<<20)
		if t.lost > 0 {
			got = append(got, fmt.Sprintf("lost %d %s", t.lost, t.reason))
		}
		for _, e := range t.events {
			v, _ := e.message()
			got = append(got, v)
		}
		if len(t.events) == 0 {
			return got
		}
	}
}

// A queue is bounded by bytes, too.
//
// spec: E7
func TestQueueBytes(t *testing.T) {
	t.Parallel()
	q := newQueue(DropOldest, MaxQueue, func(dropReason, int) {})
	big := newRouted(Event{Topic: "t", payload: make([]byte, MaxEventBytes)})
	for range 3 * maxQueueBytes / MaxEventBytes {
		q.put(big)
	}
	if q.bytes > maxQueueBytes || q.waiting() == 0 {
		t.Errorf("queue holds %d bytes in %d events, want at most %d", q.bytes, q.waiting(), maxQueueBytes)
	}
}

// Publishers wait for a subscriber with the policy Block, whatever node it is at, and for nobody else.
//
// spec: E7
func TestBlock(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"a", "b"} {
		t.Run("subscriber at "+at, func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t, "a", "b")
			stream := c.node(at).listen(map[string]any{"topics": []any{"t"}, "policy": "block", "queue": int64(2)})
			published := make(chan int, 10)
			go func() {
				defer close(published)
				for i := 1; i <= 6; i++ {
					if _, err := c.node("a").call("publish", "t", int64(i)); err != nil {
						return
					}
					published <- i
				}
			}()
			c.await("one that fits", func() bool { return len(published) == 1 })
			// The second fills the queue: its publisher waits, those of other topics do not.
			c.await("a full queue", func() bool { return c.node(at).broker.Stats().Queued == 2 })
			c.node("a").mustCall("publish", "other", nil)
			if n := len(published); n != 1 {
				t.Errorf("%d calls of publish returned, want 1: the queue of 2 is full", n)
			}
			if got := c.node(at).read(stream, 6); !reflect.DeepEqual(got, numbers(1, 6)) {
				t.Errorf("got %v, want all of 1 to 6", got)
			}
			for range published {
			}
		})
	}
}

// A callback whose node dies is called by another one; events are delivered once, in order, and the gap is told.
//
// spec: E10
func TestTakeOver(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b", "c")
	l := newListener(t)
	c.node("b").mustCall("subscribe", "t", l.proxy())
	c.node("a").mustCall("publish", "t", int64(1))
	l.await(t, int64(1))
	c.node("b").setSilent(true)
	c.await("another owner", func() bool {
		sub, _ := c.state.View().Subscriber(l.uri.String())
		return sub.Owner != "b"
	})
	c.awaitRefreshed()
	c.node("a").mustCall("publish", "t", int64(2))
	c.node("c").mustCall("publish", "t", int64(3))
	awaitThat(t, "both events", func() bool { return len(l.heard()) >= 4 })
	if got := l.heard(); got[1] != "lost -1" || len(got) != 4 {
		t.Errorf("heard %v, want 1, a gap, and then 2 and 3", got)
	}
}

// A node that was away comes back and delivers nothing that others have taken over, though it has events in its queue.
func TestFence(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b", "c")
	l := newListener(t)
	l.hold = make(chan struct{})
	c.node("b").mustCall("subscribe", "t", l.proxy())
	for i := 1; i <= 3; i++ {
		c.node("b").mustCall("publish", "t", int64(i))
	}
	c.await("a call under way", func() bool { return c.node("b").broker.Stats().Queued == 2 })
	c.node("b").setSilent(true)
	c.await("another owner", func() bool {
		sub, _ := c.state.View().Subscriber(l.uri.String())
		return sub.Owner != "b"
	})
	c.awaitRefreshed()
	c.node("a").mustCall("publish", "t", int64(4))
	held := l.hold
	l.mu.Lock()
	l.hold = nil
	l.mu.Unlock()
	awaitThat(t, "event of the new owner", func() bool { return slices.Contains(l.heard(), any(int64(4))) })
	close(held)
	c.node("b").setSilent(false)
	c.await("old owner drops what it has", func() bool { return c.node("b").broker.Stats().Dropped[dropMoved] >= 2 })
	if got := l.heard(); slices.Contains(got, any(int64(2))) || slices.Contains(got, any(int64(3))) {
		t.Errorf("heard %v: want nothing of the old owner after the new one began", got)
	}
}

// A node that stops hands its callbacks over and ends its streams, and loses nothing of what it has.
func TestDrain(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	l := newListener(t)
	b := c.node("b")
	b.mustCall("subscribe", "t", l.proxy())
	stream := b.listen(map[string]any{"topics": []any{"t"}})
	b.mustCall("publish", "t", int64(1))
	b.broker.Drain(t.Context())
	if got := b.read(stream, 2); len(got) != 2 || got[0] == nil {
		t.Errorf("stream: got %v, want the event that waited and why it ended", got)
	}
	if _, err := b.call("open_stream", map[string]any{"topics": "t"}); err == nil {
		t.Error("a node that stops opened a stream")
	}
	sub, _ := c.state.View().Subscriber(l.uri.String())
	if sub.Owner != "a" {
		t.Errorf("owner is %s, want a", sub.Owner)
	}
	l.await(t, int64(1))
	b.stop()
	c.node("a").mustCall("publish", "t", int64(2))
	awaitThat(t, "the event after", func() bool { return slices.Contains(l.heard(), any(int64(2))) })
}

// A node that is started again knows nothing of what the others want, and learns it.
func TestRestartLearnsInterest(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	stream := c.node("a").listen(map[string]any{"topics": []any{"t"}})
	c.node("b").stop()
	b := c.start("b")
	c.await("interest", func() bool {
		b.broker.mu.Lock()
		defer b.broker.mu.Unlock()
		p := b.broker.peers["a"]
		return p != nil && p.holds > 0
	})
	b.mustCall("publish", "t", int64(1))
	got := c.node("a").read(stream, 1)
	if len(got) < 2 || !strings.HasPrefix(fmt.Sprint(got[0]), "lost 0 node b ") || !slices.Contains(got, any(int64(1))) {
		t.Errorf("got %v, want that events may be lost, and the event of the node that was restarted", got)
	}
}

// Events for a node that cannot be reached are not kept for ever; its subscribers learn that they missed some.
func TestCutLink(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	a, b := c.node("a"), c.node("b")
	stream := b.listen(map[string]any{"topics": []any{"t"}})
	b.setSilent(true)
	for i := 1; i <= 3; i++ {
		a.mustCall("publish", "t", int64(i))
	}
	c.await("node given up", func() bool { return a.broker.Stats().Peers == 0 })
	b.setSilent(false)
	c.await("node is back", func() bool { return a.broker.Stats().Peers == 1 })
	c.await("interest", func() bool {
		a.broker.mu.Lock()
		defer a.broker.mu.Unlock()
		return a.broker.peers["b"].holds > 0
	})
	a.mustCall("publish", "t", int64(4))
	got := b.read(stream, 1)
	if len(got) != 2 || !strings.HasPrefix(fmt.Sprint(got[0]), "lost 0 node a") || got[1] != any(int64(4)) {
		t.Errorf("got %v, want that events were lost, and 4", got)
	}
}

// A node that does not know yet that a callback was taken over sends its events to the wrong one, which passes them on.
func TestPassedOn(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	l := newListener(t)
	c.node("b").mustCall("subscribe", "t", l.proxy())
	e := testEvent(1).Event
	e.publisher = publisherID{1}
	body := append([]byte{peerVersion}, make([]byte, 16)...)
	body = append(body, 1, 0, byte(interestSame), 1, 0, 1)
	if _, err := c.node("a").broker.Message(t.Context(), "late", e.append(appendString(body, l.uri.String()))); err != nil {
		t.Fatal(err)
	}
	l.await(t, int64(1))
}

// A callback that is too slow for the policy Disconnect loses its subscription, and can subscribe again.
//
// spec: E8
func TestCallbackDisconnected(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	l := newListener(t)
	l.hold = make(chan struct{})
	a := c.node("a")
	a.mustCall("subscribe", "t", l.proxy(), "disconnect", int64(1))
	a.mustCall("publish", "t", int64(1))
	c.await("a call under way", func() bool { s := a.broker.Stats(); return s.Callbacks == 1 && s.Queued == 0 })
	a.mustCall("publish", "t", int64(2))
	a.mustCall("publish", "t", int64(3))
	close(l.hold)
	c.await("end of the subscription", func() bool { return a.broker.Stats().Callbacks == 0 })
	if _, ok := c.state.View().Subscriber(l.uri.String()); ok {
		t.Error("the subscriber is still in the state")
	}
	a.mustCall("subscribe", "t", l.proxy())
	a.mustCall("publish", "t", int64(4))
	l.await(t, int64(1), int64(4))
}

// What a node passes on may come back to where it was published, after later events; it is not delivered then.
func TestPassedBack(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	l := newListener(t)
	a := c.node("a")
	a.mustCall("subscribe", "t", l.proxy())
	a.mustCall("publish", "t", int64(1))
	a.mustCall("publish", "t", int64(2))
	e := testEvent(1).Event
	e.publisher, e.sequence = a.broker.id, 1
	body := append([]byte{peerVersion}, make([]byte, 16)...)
	body = append(body, 1, 0, byte(interestSame), 1, 0, 1)
	if _, err := a.broker.Message(t.Context(), "other", e.append(appendString(body, l.uri.String()))); err != nil {
		t.Fatal(err)
	}
	a.mustCall("publish", "t", int64(3))
	l.await(t, int64(1), int64(2), "lost 1", int64(3))
}

// A subscriber that subscribes again can change its policy; what waits for it stays in order.
func TestReconfigure(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	l := newListener(t)
	l.hold = make(chan struct{})
	a := c.node("a")
	a.mustCall("subscribe", "t", l.proxy(), "drop-new", int64(10))
	a.mustCall("publish", "t", int64(1))
	c.await("a call under way", func() bool { s := a.broker.Stats(); return s.Callbacks == 1 && s.Queued == 0 })
	a.mustCall("publish", "t", int64(2))
	a.mustCall("subscribe", "u", l.proxy(), "drop-new", int64(2))
	for i := 3; i <= 5; i++ {
		a.mustCall("publish", []any{"t", "u"}[i%2], int64(i))
	}
	close(l.hold)
	l.await(t, int64(1), int64(2), int64(3))
	a.mustCall("publish", "t", int64(6))
	l.await(t, int64(1), int64(2), int64(3), "lost 2", int64(6))
}

// An event that another one of its publisher has overtaken is not delivered, and its subscriber is told.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	n := c.node("a")
	stream := n.listen(map[string]any{"topics": []any{"t"}})
	event := func(sequence int) Event {
		e := testEvent(sequence).Event
		e.publisher = publisherID{1}
		return e
	}
	deliver := func(run byte, sequence int) {
		e := event(sequence)
		body := append([]byte{peerVersion}, make([]byte, 16)...)
		body[1] = run
		body = append(body, 1, 0, byte(interestSame), 1, itemStreams, 0)
		if _, err := n.broker.Message(t.Context(), fmt.Sprint("node", run), e.append(body)); err != nil {
			t.Fatal(err)
		}
	}
	deliver(1, 2)
	deliver(2, 1) // by another way, and late
	deliver(3, 3)
	if got, want := n.read(stream, 2), []any{int64(2), "lost 1 ", int64(3)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An event that comes by another node than those before of its publisher tells of a loss if it is not the next one.
func TestPublisherMoved(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	n := c.node("a")
	stream := n.listen(map[string]any{"topics": []any{"t"}})
	batches := map[string]byte{}
	from := func(node string, sequence int) {
		batches[node]++
		e := testEvent(sequence).Event
		e.publisher = publisherID{1}
		body := append([]byte{peerVersion}, make([]byte, 16)...)
		copy(body[1:], node)
		body = append(body, batches[node], 0, byte(interestSame), 1, itemStreams, 0)
		if _, err := n.broker.Message(t.Context(), node, e.append(body)); err != nil {
			t.Fatal(err)
		}
	}
	from("x", 3)
	from("x", 5) // others may have heard 4
	from("y", 6)
	from("x", 8)
	if err := n.broker.publish(t.Context(), publisherID{1}, 9, []submission{{"t", msgpackID, []byte{9}}}); err != nil {
		t.Fatal(err)
	}
	if err := n.broker.publish(t.Context(), publisherID{1}, 12, []submission{{"t", msgpackID, []byte{12}}}); err != nil {
		t.Fatal(err)
	}
	from("y", 20)
	if err := n.broker.publish(t.Context(), publisherID{1}, 30, []submission{{"t", msgpackID, []byte{30}}}); err != nil {
		t.Fatal(err)
	}
	lost := "lost 0 " + publisherMoved
	want := []any{int64(3), int64(5), int64(6), lost, int64(8), int64(9), int64(12), lost, int64(20), lost, int64(30)}
	if got := n.read(stream, 8); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestClusterTopics(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a", "b")
	stream := c.node("b").listen(map[string]any{"topics": []any{TopicName, TopicMember}})
	everything := c.node("b").listen(map[string]any{"topics": []any{">"}, "expressions": []any{".*"}})
	a := c.node("a")
	for _, cmd := range []fsm.Command{
		{Kind: fsm.KindRegister, Name: "bank", URI: "PYRO:x@h:1"},
		{Kind: fsm.KindJoin, Name: "group", Member: fsm.Member{ID: "m", URI: "PYRO:m@h:1"}},
		{Kind: fsm.KindRemove, Names: []string{"bank"}},
		{Kind: fsm.KindPutNode, Node: fsm.Node{ID: "z"}},
		{Kind: fsm.KindRemoveNode, Node: fsm.Node{ID: "z"}},
	} {
		if _, err := a.Apply(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	var actions []string
	for _, v := range c.node("b").read(stream, 5) {
		e, _ := v.(map[string]any)
		actions = append(actions, fmt.Sprint(e["action"]))
	}
	if want := []string{"registered", "joined", "removed", "node joined", "node removed"}; !slices.Equal(actions, want) {
		t.Errorf("actions %v, want %v", actions, want)
	}
	a.mustCall("publish", "t", int64(1))
	if got := c.node("b").read(everything, 1); !reflect.DeepEqual(got, numbers(1, 1)) {
		t.Errorf("a subscriber to everything got %v, want only what programs publish", got)
	}
}

func TestBadCalls(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, "a")
	l := newListener(t)
	tests := []struct {
		name, method string
		args         []any
		want         string
	}{
		{"no topic", "publish", []any{"", nil}, "topic"},
		{"wildcard", "publish", []any{"a.*", nil}, "a.*"},
		{"cluster's topic", "publish", []any{TopicName, nil}, "$cluster"},
		{"number as topic", "publish", []any{int64(3), nil}, "string"},
		{"list with a number", "publish", []any{[]any{"a", int64(3)}, nil}, "string"},
		{"too large", "publish", []any{"a", strings.Repeat("x", MaxEventBytes)}, "want at most"},
		{"no callback", "subscribe", []any{"a", int64(3)}, "proxy"},
		{"callback by name", "subscribe", []any{"a", "PYRONAME:x"}, "PYRO:object@host:port"},
		{"callback at a socket", "subscribe", []any{"a", "PYRO:x@./u:/tmp/s"}, "PYRO:object@host:port"},
		{"bad URI", "subscribe", []any{"a", "nonsense"}, "uri"},
		{"bad wildcard", "subscribe", []any{"a.>.b", l.proxy()}, ">"},
		{"bad expression", "subscribeMatch", []any{"a(", l.proxy()}, "a("},
		{"bad policy", "subscribe", []any{"a", l.proxy(), "perhaps"}, "drop-oldest"},
		{"bad queue", "subscribe", []any{"a", l.proxy(), "", int64(-1)}, "queue"},
		{"huge queue", "subscribe", []any{"a", l.proxy(), "", int64(1) << 40}, "queue"},
		{"no options", "open_stream", []any{nil}, "dict"},
		{"no topics", "open_stream", []any{map[string]any{}}, "want 1"},
		{"wait as text", "read_stream", []any{"x", "y"}, "seconds"},
		{"short publisher", "publish_events", []any{[]byte("x"), int64(1), []byte{}}, "16 bytes"},
		{"zero publisher", "publish_events", []any{make([]byte, 16), int64(1), []byte{}}, "publisher"},
		{"torn events", "publish_events", []any{[]byte("0123456789abcdef"), int64(1), []byte{1, 2, 3}}, "malformed"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, err := c.node("a").call(tc.method, tc.args...)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(tc.want)) {
				t.Errorf("%s%v: got error %v, want one about %q", tc.method, tc.args, err, tc.want)
			}
			if _, ok := errors.AsType[*core.RemoteError](err); !ok {
				t.Errorf("%s%v: error %T has no class that a Python caller gets", tc.method, tc.args, err)
			}
		})
	}
}

// FuzzPeerBatch takes apart what another node might send.
func FuzzPeerBatch(f *testing.F) {
	b := NewBroker(BrokerOptions{})
	p := &peer{stop: func() {}, wake: make(chan struct{}, 1), targets: []string{"PYRO:x@h:1"}}
	p.enqueue(testEvent(1))
	pattern, err := ParsePattern("a.*")
	if err != nil {
		f.Fatal(err)
	}
	b.interest.add(pattern, true)
	body, _, _ := b.pack(p, 1)
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := parsePeerBatch(body)
		if err == nil && len(in.items)*20 > len(body) {
			t.Errorf("%d items out of %d bytes", len(in.items), len(body))
		}
		parsePeerAnswer(body)
		parseBatch(body)
		parseSubmissions(body)
	})
}
