package chaos

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

const (
	chaosTopic    = "chaos.events"
	chaosPatience = 30 * time.Second // for what takes a few seconds at most
	publishPause  = 5 * time.Millisecond
)

// subscriberScript is a stock Python program with a callback.
var subscriberScript = filepath.Join("testdata", "events_subscriber.py")

// eventWorld is a cluster with publishers and subscribers.
type eventWorld struct {
	*spawn.Cluster
	publications
	subscribers []*eventSubscriber // those that are held to account
	publishers  []string
	running     sync.WaitGroup
	stop        context.CancelFunc // of the publishers
	follow      context.CancelFunc // of the subscribers

	mu   sync.Mutex // guards what subscribers saw
	more sync.Cond
}

// startEventWorld starts a cluster; all that is started in the world ends with the test.
func startEventWorld(t *testing.T) (w *eventWorld, publishing, following context.Context) {
	t.Helper()
	w = &eventWorld{Cluster: startCluster(t)}
	w.more.L = &w.mu
	publishing, w.stop = context.WithCancel(t.Context())
	following, w.follow = context.WithCancel(t.Context())
	t.Cleanup(func() {
		w.stop()
		w.follow()
		w.running.Wait()
	})
	return w, publishing, following
}

// client connects to some nodes, of which it chooses one.
func (w *eventWorld) client(t *testing.T, addresses ...string) *events.Client {
	t.Helper()
	c, err := events.NewClient(addresses, events.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.stop()
		w.follow()
		w.running.Wait()
		c.Close()
	})
	return c
}

// eventSubscriber notes what a subscriber sees; guarded by eventWorld.mu.
type eventSubscriber struct {
	name    string
	seen    []sighting
	count   int64                // number of the event that came last
	latest  map[string]time.Time // by publisher, when the latest event was published
	last    time.Time            // when the last event came
	longest time.Duration        // between two events of this round
	moved   bool                 // a notice came in this round
	took    []time.Duration      // from publishing to the subscriber, of this round
}

func (w *eventWorld) newSubscriber(name string) *eventSubscriber {
	s := &eventSubscriber{name: name, latest: map[string]time.Time{}}
	w.subscribers = append(w.subscribers, s)
	return s
}

// note notes what a subscriber saw.
func (w *eventWorld) note(s *eventSubscriber, what sighting) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.seen = append(s.seen, what)
	if what.notice {
		s.moved = true
		return
	}
	if !s.last.IsZero() {
		s.longest = max(s.longest, now.Sub(s.last))
	}
	at := time.Unix(0, what.At)
	publisher, _, _ := strings.Cut(what.From, "@")
	s.last, s.latest[publisher], s.count = now, at, what.N
	s.took = append(s.took, now.Sub(at))
	w.more.Broadcast()
}

// next ends a round and adds the longest pauses in it to those of its kind: of streams and callbacks that were told of a loss, and of the others.
func (w *eventWorld) next(pauses map[string][]time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.subscribers {
		kind := "others"
		if s.moved {
			kind, _, _ = strings.Cut(s.name, " ")
		}
		pauses[kind] = append(pauses[kind], s.longest)
		s.moved, s.longest, s.took = false, 0, nil
	}
}

// await returns when all subscribers have seen, of each publisher, an event that was published after now.
func (w *eventWorld) await(t *testing.T) {
	t.Helper()
	since := time.Now()
	w.awaitEach(t, w.subscribers, func(s *eventSubscriber) (behind string) {
		for _, p := range w.publishers {
			if !s.latest[p].After(since) {
				return "has heard nothing new of " + p
			}
		}
		return ""
	})
}

// awaitEach returns when behind, which is called with w.mu held, returns nothing for each of the subscribers.
func (w *eventWorld) awaitEach(t *testing.T, subscribers []*eventSubscriber, behind func(*eventSubscriber) string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), chaosPatience)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.more.Broadcast()
	})()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range subscribers {
		for behind(s) != "" {
			if ctx.Err() != nil {
				t.Fatalf("after %v %s %s", chaosPatience, s.name, behind(s)) // the deferred functions run
			}
			w.more.Wait()
		}
	}
}

// judge ends publishers and subscribers, and judges what these saw of the events published until a time.  It returns the verdicts by name.
func (w *eventWorld) judge(t *testing.T, until time.Time) map[string]verdict {
	t.Helper()
	w.stop()
	w.follow()
	w.running.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	verdicts := map[string]verdict{}
	for _, s := range w.subscribers {
		v := w.publications.judge(s.seen, until)
		verdicts[s.name] = v
		if v.events < 20 {
			t.Errorf("%s: %d events: that judges nothing", s.name, v.events)
		}
		for _, p := range v.problems {
			t.Errorf("%s: %s", s.name, p)
		}
		if !strings.Contains(s.name, "#") { // one of many
			t.Logf("%s: %d events, %d missing, %d notices that tell of %d", s.name, v.events, v.missing, v.notices, v.lost)
		}
	}
	return verdicts
}

// message is an event's message, for whoever publishes it.
func (s stamp) message() map[string]any { return map[string]any{"from": s.From, "n": s.N, "at": s.At} }

// publishWithClient publishes with an events.Client, which goes on with another node by itself.
func (w *eventWorld) publishWithClient(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	c := w.client(t, w.Addresses()...)
	w.publish(ctx, t, name, func(ctx context.Context, s stamp) error { return c.Publish(ctx, chaosTopic, s.message()) })
}

// publishWithProxy publishes as any Pyro program does: it calls a node, and another one when that fails.  It begins a new name then, since the
// nodes cannot know that it is the same program.
func (w *eventWorld) publishWithProxy(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	addresses := w.Addresses()
	session := 0
	var proxy *core.Proxy
	connect := func() {
		proxy = core.NewProxy(mustParse(t, addresses[session%len(addresses)]), core.ProxyOptions{ConnectTimeout: time.Second})
	}
	connect()
	w.publishAs(ctx, t, name, func() string { return name + "@" + strconv.Itoa(session) }, func(ctx context.Context, s stamp) error {
		callCtx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		err := proxy.Call(callCtx, "publish", nil, chaosTopic, s.message())
		if err != nil {
			proxy.Close()
			session++
			connect()
		}
		return err
	}, func() { proxy.Close() })
}

func mustParse(t *testing.T, address string) core.URI {
	t.Helper()
	uri, err := core.ParseURI("PYRO:" + events.ObjectID + "@" + address)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

func (w *eventWorld) publish(ctx context.Context, t *testing.T, name string, publish func(context.Context, stamp) error) {
	w.publishAs(ctx, t, name, func() string { return name }, publish, func() {})
}

// publishAs publishes an event after the other until ctx ends.
func (w *eventWorld) publishAs(ctx context.Context, t *testing.T, name string, from func() string, publish func(context.Context, stamp) error, end func()) {
	w.publishers = append(w.publishers, name)
	w.running.Go(func() {
		defer end()
		pace := time.NewTicker(publishPause)
		defer pace.Stop()
		failed := 0
		for {
			select {
			case <-ctx.Done():
				t.Logf("publisher %s: %d publications failed", name, failed)
				return
			case <-pace.C:
			}
			s := w.begin(from())
			patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), chaosPatience)
			err := publish(patient, s)
			cancel()
			if err != nil {
				w.fail(s)
				failed++
			}
		}
	})
}

// subscribeWithClient subscribes with an events.Client.
func (w *eventWorld) subscribeWithClient(ctx context.Context, t *testing.T, s *eventSubscriber, c *events.Client, opts events.SubscribeOptions) {
	t.Helper()
	opts.Topics = []string{chaosTopic}
	sub, err := c.Subscribe(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	w.running.Go(func() {
		defer sub.Close()
		for e, err := range sub.All(ctx) {
			what, err := sightingOf(e, err)
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
				return
			}
			w.note(s, what)
		}
	})
}

// sightingOf takes what a subscription yields.
func sightingOf(e events.Event, err error) (s sighting, _ error) {
	if lost, ok := errors.AsType[*events.LostError](err); ok {
		s.notice, s.lost = true, int64(lost.Count)
		if lost.Count == 0 {
			s.lost = -1
		}
		return s, nil
	}
	if err == nil {
		err = e.Decode(&s.stamp)
	}
	return s, err
}

// subscribeWithPython starts a stock Python program that subscribes at a node.
func (w *eventWorld) subscribeWithPython(t *testing.T, s *eventSubscriber, node int, queue int) *spawn.Process {
	t.Helper()
	return w.startSubscriber(t, s, pythonCommand(t, subscriberScript, w.Addresses()[node], chaosTopic, "drop-oldest", strconv.Itoa(queue)))
}

// pythonCommand runs a script with the Python that has stock Pyro5.
func pythonCommand(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	python := cmp.Or(os.Getenv("PCLUSTER_PYTHON"), filepath.Join("..", "..", ".venv", "bin", "python"))
	if _, err := os.Stat(python); err != nil {
		t.Fatalf("no Python with Pyro5: %v: run make venv (scripts/venv.sh)", err)
	}
	cmd := exec.Command(python, args...)
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "PYRO") && !strings.HasPrefix(setting, "PYTHON") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	cmd.Env = append(cmd.Env, "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// startSubscriber starts a program that prints "subscribed" and then writes what it sees to file descriptor 3, a JSON object a line.
func (w *eventWorld) startSubscriber(t *testing.T, s *eventSubscriber, cmd *exec.Cmd) *spawn.Process {
	t.Helper()
	lines, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{out}
	p, err := spawn.Start(s.name, cmd)
	out.Close()
	if err != nil {
		lines.Close()
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer lines.Close()
		for scanner := bufio.NewScanner(lines); scanner.Scan(); {
			w.noteLine(t, s, scanner.Bytes())
		}
	})
	t.Cleanup(func() {
		p.End(syscall.SIGKILL)
		reading.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", s.name, p.Tail())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), chaosPatience)
	defer cancel()
	if _, err := p.Line(ctx, "subscribed"); err != nil {
		t.Fatal(err)
	}
	return p
}

// noteLine notes an event that a program told of.
func (w *eventWorld) noteLine(t *testing.T, s *eventSubscriber, line []byte) {
	var told struct {
		Lost int64
		stamp
	}
	if err := json.Unmarshal(line, &told); err != nil {
		t.Errorf("%s: %q: %v", s.name, line, err)
		return
	}
	if told.Lost != 0 {
		w.note(s, sighting{notice: true, lost: told.Lost})
	}
	if told.N != 0 {
		w.note(s, sighting{stamp: told.stamp})
	}
}
