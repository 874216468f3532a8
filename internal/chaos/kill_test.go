package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

const rounds = 20

func TestMain(m *testing.M) {
	if os.Getenv(subscriberNode) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := runSubscriber(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// build builds a program of the module.
func build(t testing.TB, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// startCluster starts three nodes, which end with the test.
func startCluster(t testing.TB) *spawn.Cluster {
	t.Helper()
	c := &spawn.Cluster{Program: build(t, "../../cmd/pyro-cluster"), Dir: t.TempDir()}
	t.Cleanup(func() {
		for i := range c.Size() {
			if t.Failed() {
				t.Logf("node%d:\n%s", i+1, c.Tail(i))
			}
		}
		if err := c.Stop(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	if err := c.Start(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	return c
}

func connect(t testing.TB, addresses []string) *naming.Client {
	t.Helper()
	ns, err := naming.NewClient(addresses, naming.ClientOptions{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// leaderIndex asks until a node leads that is not the one of that index.
func leaderIndex(t *testing.T, c *spawn.Cluster, ns *naming.Client, not int) int {
	t.Helper()
	for {
		nodes, err := ns.Nodes(t.Context())
		if err != nil {
			t.Fatalf("ask for the leader: %v", err)
		}
		for _, n := range nodes {
			if i := c.Index(n.PyroAddress); n.Role == "leader" && i != not {
				return i
			}
		}
	}
}

// gaps measures how long a client had to wait for a good answer, per round.
type gaps struct {
	mu      sync.Mutex // guards the following
	last    time.Time
	longest time.Duration
	rounds  []time.Duration
	answers int       // good ones
	more    sync.Cond // tells that answers has grown
}

func newGaps() *gaps {
	g := &gaps{}
	g.more.L = &g.mu
	return g
}

// good notes a good answer.
func (g *gaps) good() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.last.IsZero() {
		g.longest = max(g.longest, now.Sub(g.last))
	}
	g.last = now
	g.answers++
	g.more.Broadcast()
}

// await returns when there are n good answers more.
func (g *gaps) await(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for until := g.answers + n; g.answers < until; {
		g.more.Wait()
	}
}

// next ends a round.
func (g *gaps) next() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rounds, g.longest = append(g.rounds, g.longest), 0
}

func (g *gaps) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	sorted := slices.SortedFunc(slices.Values(g.rounds), cmp.Compare)
	return fmt.Sprintf("longest gap per round: median %v, worst %v of %d",
		sorted[len(sorted)/2].Round(10*time.Microsecond), sorted[len(sorted)-1].Round(10*time.Microsecond), len(sorted))
}

// ledger holds the registrations that were acknowledged.
type ledger struct {
	*gaps
	mu    sync.Mutex // guards names
	names map[string]core.URI
}

// run registers one new name after the other until ctx ends.
func (l *ledger) run(ctx context.Context, t *testing.T, client int, addresses []string) {
	ns := connect(t, addresses)
	defer ns.Close()
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("ledger.%d.%06d", client, i)
		uri := core.URI{Protocol: "PYRO", Object: name, Host: "localhost", Port: 1}
		err := ns.Register(context.WithoutCancel(ctx), name, uri, naming.RegisterOptions{Safe: true})
		if errors.Is(err, core.NamingError) {
			t.Errorf("register of the new name %s: %v: it ran twice", name, err)
		}
		if err == nil {
			l.good()
			l.mu.Lock()
			l.names[name] = uri
			l.mu.Unlock()
		}
	}
}

// audit compares the ledger with what each node answers by itself.
func (l *ledger) audit(t *testing.T, c *spawn.Cluster) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("ledger: %d registrations acknowledged", len(l.names))
	if len(l.names) < 100 {
		t.Errorf("only %d registrations were acknowledged: that judges nothing", len(l.names))
	}
	for _, address := range c.Addresses() {
		ns := connect(t, []string{address})
		entries, err := ns.List(t.Context(), naming.Query{Prefix: "ledger."})
		if err != nil {
			t.Fatalf("list at %s: %v", address, err)
		}
		there := map[string]core.URI{}
		for name, e := range entries {
			there[name] = e.URI
		}
		missing := 0
		for name, uri := range l.names {
			if there[name] != uri {
				missing++
			}
		}
		if missing > 0 {
			t.Errorf("%s misses %d of %d acknowledged registrations", address, missing, len(l.names))
		}
		ns.Close()
	}
}

// trial is a cluster with clients that register, look up and remove, and a judge of what they saw.
type trial struct {
	*spawn.Cluster
	ns      *naming.Client
	history history
	ledger  ledger
	clients sync.WaitGroup
	cancel  context.CancelFunc
}

// startTrial starts the cluster and the clients, which end with the test.
func startTrial(t *testing.T) *trial {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	tr := &trial{Cluster: startCluster(t), history: history{start: time.Now()}, ledger: ledger{gaps: newGaps(), names: map[string]core.URI{}}}
	tr.ns = connect(t, tr.Addresses())
	ctx, cancel := context.WithCancel(t.Context())
	tr.cancel = cancel
	for i := range 4 {
		tr.clients.Go(func() { tr.history.run(ctx, t, i+1, tr.Addresses(), rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	tr.clients.Go(func() { tr.ledger.run(ctx, t, 1, tr.Addresses()) })
	t.Cleanup(func() {
		cancel()
		tr.clients.Wait()
		tr.ns.Close()
	})
	return tr
}

// restart starts nodes that are down, and waits until they are ready.
func (tr *trial) restart(t *testing.T, nodes ...int) {
	t.Helper()
	for _, i := range nodes {
		if err := tr.Launch(i); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range nodes {
		if err := tr.AwaitReady(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
}

// judge ends the clients, after one more acknowledged write so that all went on after the last fault, and judges.
func (tr *trial) judge(t *testing.T) {
	t.Helper()
	uri := core.URI{Protocol: "PYRO", Object: "last", Host: "localhost", Port: 1}
	if err := tr.ns.Register(t.Context(), "last", uri, naming.RegisterOptions{}); err != nil {
		t.Fatalf("register after the last fault: %v", err)
	}
	tr.cancel()
	tr.clients.Wait()
	tr.ledger.audit(t, tr.Cluster)
	tr.history.judge(t)
}

// TestLeaderKilled kills the leader again and again; then all three nodes at once.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	tr := startTrial(t)
	startReplicas(t, tr.Cluster)
	calls := callJokes(t, tr.ns)
	leader := leaderIndex(t, tr.Cluster, tr.ns, -1)
	for range rounds {
		if err := tr.Kill(leader); err != nil {
			t.Fatal(err)
		}
		next := leaderIndex(t, tr.Cluster, tr.ns, leader)
		tr.restart(t, leader)
		leader = next
		tr.ledger.await(5)
		tr.ledger.next()
		calls.next()
	}
	t.Log("writes, kill -9 of the leader: ", tr.ledger.gaps)
	t.Log("read-only calls of an object group, kill -9 of the leader: ", calls)

	if err := tr.Stop(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tr.restart(t, 0, 1, 2)
	tr.judge(t)
}

// TestLeaderPaused stops the leader with SIGSTOP until another leads, and lets it go on: it must not answer with what it knew.
func TestLeaderPaused(t *testing.T) {
	t.Parallel()
	tr := startTrial(t)
	leader := leaderIndex(t, tr.Cluster, tr.ns, -1)
	for range rounds {
		tr.Signal(leader, syscall.SIGSTOP)
		next := leaderIndex(t, tr.Cluster, tr.ns, leader)
		tr.Signal(leader, syscall.SIGCONT)
		leader = next
		tr.ledger.await(5)
		tr.ledger.next()
	}
	t.Log("writes, SIGSTOP of the leader: ", tr.ledger.gaps)
	tr.judge(t)
}

// TestReplicaKilled kills replicas of an object while a client calls.
func TestReplicaKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	ns := connect(t, c.Addresses())
	defer ns.Close()
	replicas := startReplicas(t, c)
	g := callJokes(t, ns)
	for i := range rounds {
		victim := i % len(replicas.processes)
		if err := replicas.processes[victim].End(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		replicas.start(t, victim)
		g.await(1000) // calls that the replica has a part in, so that the next one to die is in use
		g.next()
	}
	t.Log("read-only calls, kill -9 of a replica: ", g)
}

// replicas are three object servers in processes of their own.
type replicas struct {
	program   string
	nodes     string
	processes []*spawn.Process
}

// startReplicas starts them; they end with the test.
func startReplicas(t *testing.T, c *spawn.Cluster) *replicas {
	t.Helper()
	r := &replicas{program: build(t, "../../examples/demo"), nodes: strings.Join(c.Addresses(), ","), processes: make([]*spawn.Process, 3)}
	t.Cleanup(func() { spawn.EndAll(syscall.SIGKILL, r.processes...) })
	for i := range r.processes {
		r.start(t, i)
	}
	return r
}

func (r *replicas) start(t *testing.T, i int) {
	t.Helper()
	name := fmt.Sprintf("replica%d", i)
	p, err := spawn.Start(name, exec.Command(r.program, "replica", name, r.nodes))
	if err != nil {
		t.Fatal(err)
	}
	r.processes[i] = p
	if _, err := p.Line(t.Context(), "serving"); err != nil {
		t.Fatal(err)
	}
}

// callJokes calls the replicas all the time, until the test ends, and fails it when a call fails.
func callJokes(t *testing.T, ns *naming.Client) *gaps {
	p := failover.New("jokegen", ns, failover.Options{})
	g := newGaps()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			var joke string
			if err := p.Call(context.WithoutCancel(ctx), "joke", &joke, "Irmen"); err != nil {
				t.Errorf("call %d failed: %v", n, err)
				continue
			}
			g.good()
		}
	}()
	t.Cleanup(func() { cancel(); <-done; p.Close() })
	return g
}
