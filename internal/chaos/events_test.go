package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// TestEventsNodesFail has publishers and subscribers on all nodes while one node after the other fails and comes back: what subscribers saw is
// judged, and how long they saw nothing is printed.
func TestEventsNodesFail(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		rounds int
		fail   func(t *testing.T, w *eventWorld, node int)
	}{
		{"killed", 6, func(t *testing.T, w *eventWorld, node int) {
			if err := w.Kill(node); err != nil {
				t.Fatal(err)
			}
			w.await(t)
			w.restart(t, node)
		}},
		{"stopped", 6, func(t *testing.T, w *eventWorld, node int) {
			if err := w.End(node, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			w.await(t)
			w.restart(t, node)
		}},
		{"paused", 3, func(t *testing.T, w *eventWorld, node int) {
			if err := w.Signal(node, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			w.await(t)
			if err := w.Signal(node, syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w, publishing, following := startEventWorld(t)
			for node := range w.Size() {
				s := w.newSubscriber(fmt.Sprintf("stream %d", node+1))
				w.subscribeWithClient(following, t, s, w.client(t, w.Addresses()...), events.SubscribeOptions{})
				w.subscribeWithPython(t, w.newSubscriber(fmt.Sprintf("callback %d", node+1)), node, events.DefaultQueue)
			}
			w.publishWithClient(publishing, t, "client1")
			w.publishWithClient(publishing, t, "client2")
			w.publishWithProxy(publishing, t, "proxy")
			w.await(t)
			pauses := map[string][]time.Duration{}
			for round := range row.rounds {
				w.next(map[string][]time.Duration{})
				row.fail(t, w, round%w.Size())
				w.await(t)
				w.next(pauses)
			}
			for kind, d := range pauses {
				t.Logf("a node is %s: longest time without an event, by round and subscriber: %s: %s", row.name, kind, spread(d))
			}
			if len(pauses["stream"]) == 0 || len(pauses["callback"]) == 0 {
				t.Error("no stream or no callback had to go elsewhere: that judges nothing")
			}
			until := time.Now()
			w.await(t)
			w.judge(t, until)
		})
	}
}

// restart starts a node that is down, and waits until it is ready.
func (w *eventWorld) restart(t *testing.T, node int) {
	t.Helper()
	if err := w.Launch(node); err != nil {
		t.Fatal(err)
	}
	if err := w.AwaitReady(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// spread tells the median and the greatest.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "none"
	}
	slices.Sort(d)
	return fmt.Sprintf("median %v, worst %v of %d", d[len(d)/2].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond), len(d))
}

// The test's own program is the subscriber that is paused; these say so in its environment: a node, and the size of its queue.
const (
	subscriberNode  = "CHAOS_EVENTS_NODE"
	subscriberQueue = "CHAOS_EVENTS_QUEUE"
)

// runSubscriber is a program that subscribes with events.Client and tells of what it sees as startSubscriber reads it.
func runSubscriber(ctx context.Context) error {
	queue, err := strconv.Atoi(os.Getenv(subscriberQueue))
	if err != nil {
		return err
	}
	c, err := events.NewClient([]string{os.Getenv(subscriberNode)}, events.ClientOptions{})
	if err != nil {
		return err
	}
	defer c.Close()
	sub, err := c.Subscribe(ctx, events.SubscribeOptions{Topics: []string{chaosTopic}, Queue: queue})
	if err != nil {
		return err
	}
	fmt.Println("subscribed")
	out := json.NewEncoder(os.NewFile(3, "events"))
	for e, err := range sub.All(ctx) {
		s, err := sightingOf(e, err)
		if err != nil {
			return err
		}
		if err := out.Encode(map[string]any{"Lost": s.lost, "From": s.From, "N": s.N, "At": s.At}); err != nil {
			return err
		}
	}
	return nil
}

// TestEventsSubscriberPaused stops the processes of a stream and of a callback, with SIGSTOP, while 99 others listen.
func TestEventsSubscriberPaused(t *testing.T) {
	t.Parallel()
	const (
		others = 99
		queue  = 50 // of those that are paused
	)
	w, publishing, following := startEventWorld(t)
	client := w.client(t, w.Addresses()[0])
	for i := range others {
		w.subscribeWithClient(following, t, w.newSubscriber(fmt.Sprintf("#%d", i)), client, events.SubscribeOptions{})
	}
	crowd := slices.Clone(w.subscribers)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), subscriberNode+"="+w.Addresses()[0], subscriberQueue+"="+strconv.Itoa(queue), "GORACE=atexit_sleep_ms=0")
	paused := []*spawn.Process{
		w.startSubscriber(t, w.newSubscriber("paused stream"), child),
		w.subscribeWithPython(t, w.newSubscriber("paused callback"), 0, queue),
	}
	signal := func(s syscall.Signal) {
		for _, p := range paused {
			if err := p.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	publisher := w.client(t, w.Addresses()[1])
	phase := func(who []*eventSubscriber) string {
		last := w.publishBursts(publishing, t, publisher)
		w.awaitEach(t, who, func(s *eventSubscriber) string {
			if s.count < last {
				return fmt.Sprintf("has heard event %d last, not %d", s.count, last)
			}
			return ""
		})
		return w.latencies(crowd)
	}
	before := phase(w.subscribers)
	signal(syscall.SIGSTOP)
	during := phase(crowd)
	if got := queuedAt(t, w.Addresses()[0]); got < queue || got > queue*len(paused) {
		t.Errorf("%d events wait at the node, want %d to %d: as many as the queues of those that are paused hold", got, queue, queue*len(paused))
	}
	signal(syscall.SIGCONT)
	after := phase(w.subscribers)
	t.Logf("latency of the %d others: before %s; while 2 are paused %s; after that %s", others, before, during, after)
	verdicts := w.judge(t, time.Now())
	for _, s := range w.subscribers { // on a busy machine a pause may last until its connection is given up, which is told without a number
		v, mustLose := verdicts[s.name], !slices.Contains(crowd, s)
		switch {
		case mustLose != (v.missing > 0), mustLose != (v.notices > 0), v.lost != v.missing && !(mustLose && v.vague):
			t.Errorf("%s: %d events are missing, and it was told of %d: want the same, and none missing unless it was paused", s.name, v.missing, v.lost)
		}
	}
}

// publishBursts publishes some events at once again and again, and returns the number of the last one.
func (w *eventWorld) publishBursts(ctx context.Context, t *testing.T, c *events.Client) (last int64) {
	t.Helper()
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for range 30 {
		<-pace.C
		for range 10 {
			s := w.begin("p")
			if err := c.PublishAsync(ctx, chaosTopic, s.message()); err != nil {
				t.Fatal(err)
			}
			last = s.N
		}
		if err := c.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return last
}

// latencies tells how long events took to subscribers, and begins anew.
func (w *eventWorld) latencies(subscribers []*eventSubscriber) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []time.Duration
	for _, s := range subscribers {
		all = append(all, s.took...)
		s.took = nil
	}
	slices.Sort(all)
	at := func(part float64) time.Duration {
		return all[int(part*float64(len(all)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, worst %v of %d", at(0.5), at(0.99), at(1), len(all))
}

// queuedAt asks a node how many events wait in its queues.
func queuedAt(t *testing.T, address string) int {
	t.Helper()
	const metric = "pyro_events_queued "
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: chaosPatience}
	reply, err := client.Get("http://" + net.JoinHostPort(host, strconv.Itoa(n+3)) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, metric); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no metric %s", address, metric)
	return 0
}
