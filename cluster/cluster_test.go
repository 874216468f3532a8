package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long anything in these tests may take on a busy machine.
const limit = 30 * time.Second

// quick are time-outs for tests: short, but not so short that a busy machine elects all the time.
var quick = timing{election: 250 * time.Millisecond, lease: 200 * time.Millisecond, request: time.Second, patience: time.Second}

// freeAddresses returns loopback addresses whose ports were free a moment ago.  Each has a host of its own where all of 127/8 is loopback,
// so that nobody takes the port while a node restarts.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.N(250), rand.N(250), 1+rand.N(250)))
		if err != nil {
			l, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

// testOptions describes a node for tests.
func testOptions(t testing.TB, address string, expect int, join []string) Options {
	t.Helper()
	return Options{DataDir: t.TempDir(), Listen: address, Expect: expect, Join: join, PyroAddress: "pyro-of-" + address, Version: "test",
		timing: &quick, Logger: testLogger(t)}
}

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("CLUSTER_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("test", t.Name())
}

// newCluster opens n nodes that form a cluster, and waits until it serves.
func newCluster(t testing.TB, n int, change ...func(i int, o *Options)) []*Node {
	t.Helper()
	addresses := freeAddresses(t, n)
	nodes := make([]*Node, n)
	for i, a := range addresses {
		o := testOptions(t, a, n, addresses)
		for _, c := range change {
			c(i, &o)
		}
		nodes[i] = open(t, o)
	}
	waitServing(t, nodes...)
	return nodes
}

func open(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open %s: %v", o.DataDir, err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// reopen starts a stopped node again on its data.
func reopen(t testing.TB, n *Node) *Node {
	t.Helper()
	o := n.opts
	o.Listen, o.Advertise = n.Address(), ""
	return open(t, o)
}

// waitServing returns when every node answers a linearizable read.
func waitServing(t testing.TB, nodes ...*Node) {
	t.Helper()
	eventually(t, "all nodes serve", func() error {
		for _, n := range nodes {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := n.Ready(ctx)
			cancel()
			if err != nil {
				return fmt.Errorf("node %s: %w", n.ID(), err)
			}
		}
		return nil
	})
}

// eventually polls until check returns nil.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-tick.C
	}
}

func leaderOf(t testing.TB, nodes ...*Node) *Node {
	t.Helper()
	var leader *Node
	eventually(t, "a leader", func() error {
		i := slices.IndexFunc(nodes, func(n *Node) bool { return n.IsLeader() })
		if i < 0 {
			return errors.New("no node leads")
		}
		leader = nodes[i]
		return nil
	})
	return leader
}

func others(nodes []*Node, but ...*Node) []*Node {
	return slices.DeleteFunc(slices.Clone(nodes), func(n *Node) bool { return slices.Contains(but, n) })
}

func register(t testing.TB, n *Node, name string) fsm.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := n.Apply(ctx, fsm.Command{Kind: fsm.KindRegister, Name: name, URI: "PYRO:" + name + "@h:1"})
	if err != nil {
		t.Fatalf("register %q at %s: %v", name, n.ID(), err)
	}
	return r
}

func mustSee(t testing.TB, n *Node, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	v, err := n.View(ctx)
	if err != nil {
		t.Fatalf("view at %s: %v", n.ID(), err)
	}
	if _, ok := v.Entry(name); !ok {
		t.Fatalf("view at %s: got no %q, want it; index %d", n.ID(), name, v.Index())
	}
}

func TestThreeNodesServe(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	for i, n := range nodes {
		register(t, n, fmt.Sprint("name", i))
		for _, reader := range nodes {
			mustSee(t, reader, fmt.Sprint("name", i))
		}
	}
	id := nodes[0].LocalView().ClusterID()
	if id == "" || id != nodes[1].LocalView().ClusterID() || id != nodes[2].LocalView().ClusterID() {
		t.Errorf("cluster ids: got %q, %q, %q, want one", id, nodes[1].LocalView().ClusterID(), nodes[2].LocalView().ClusterID())
	}
	eventually(t, "members know each other's addresses", func() error {
		members, err := nodes[0].Members(t.Context())
		if err != nil {
			return err
		}
		if len(members) != 3 {
			return fmt.Errorf("got %d members, want 3", len(members))
		}
		for _, m := range members {
			if !m.Voter || m.PyroAddress != "pyro-of-"+m.RaftAddress || m.Version != "test" {
				return fmt.Errorf("member %+v", m)
			}
		}
		return nil
	})
}

// spec: H1
func TestRestartOfAll(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	register(t, nodes[0], "kept")
	id := nodes[0].LocalView().ClusterID()
	for _, n := range nodes {
		n.Close()
	}
	for i, n := range nodes {
		nodes[i] = reopen(t, n)
		if nodes[i].ID() != n.ID() {
			t.Errorf("node id after restart: got %s, want %s", nodes[i].ID(), n.ID())
		}
	}
	waitServing(t, nodes...)
	for _, n := range nodes {
		mustSee(t, n, "kept")
		if got := n.LocalView().ClusterID(); got != id {
			t.Errorf("cluster id after restart: got %s, want %s", got, id)
		}
	}
}

func TestRestartWithOtherAddresses(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	register(t, nodes[0], "kept")
	addresses := freeAddresses(t, 3)
	for _, n := range nodes {
		n.Close()
	}
	for i, n := range nodes {
		o := n.opts
		o.Listen, o.Advertise, o.Join = addresses[i], "", addresses
		nodes[i] = open(t, o)
	}
	waitServing(t, nodes...)
	for _, n := range nodes {
		mustSee(t, n, "kept")
	}
	eventually(t, "the configuration has the new addresses", func() error {
		for _, n := range nodes {
			for i, m := range nodes {
				if got := n.addressOf(raft.ServerID(m.ID())); got != addresses[i] {
					return fmt.Errorf("at %s: address of %s is %s, want %s", n.ID(), m.ID(), got, addresses[i])
				}
			}
		}
		return nil
	})
}

// spec: H2
func TestLeaderKilledUnderWrites(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	rest := others(nodes, leader)
	var mu sync.Mutex
	acknowledged := map[string]uint64{}
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				r, err := rest[w%2].Apply(t.Context(), fsm.Command{Kind: fsm.KindRegister, Name: name, URI: "PYRO:o@h:1", Safe: true})
				if err != nil || r.Code != fsm.OK {
					t.Errorf("register %s: got %+v, %v; a retry after a lost answer must find the first one's", name, r, err)
					return
				}
				mu.Lock()
				acknowledged[name] = r.Revision
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(acknowledged) }
	eventually(t, "writes before", func() error { return atLeast(count(), 50) })
	leader.Close()
	before := count()
	eventually(t, "writes after", func() error { return atLeast(count(), before+50) })
	stop()
	writers.Wait()
	nodes = append(rest, reopen(t, leader))
	waitServing(t, nodes...)
	for _, n := range nodes {
		v, err := n.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for name, revision := range acknowledged {
			if e, ok := v.Entry(name); !ok || e.Created != revision {
				t.Errorf("at %s: %s: got %+v, %v, want revision %d", n.ID(), name, e, ok, revision)
			}
		}
	}
}

func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("got %d, want at least %d", got, want)
	}
	return nil
}

// A command that is repeated with its session and number, because the leader died before it answered, runs once.
func TestRepeatedCommandRunsOnce(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	c := fsm.Command{Kind: fsm.KindRegister, Name: "once", URI: "PYRO:o@h:1", Safe: true, Session: "client", Sequence: 7}
	first, err := leader.Apply(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	leader.Close()
	for _, n := range others(nodes, leader) {
		again, err := n.Apply(t.Context(), c)
		if err != nil || again != first {
			t.Errorf("repeated at %s: got %+v, %v, want %+v", n.ID(), again, err, first)
		}
	}
}

func TestWaitingCommandsShareEntries(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	before := leader.raft.LastIndex()
	const callers, each = 64, 10
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				register(t, leader, fmt.Sprintf("c%d-%d", c, i))
			}
		})
	}
	wg.Wait()
	if entries := leader.raft.LastIndex() - before; entries >= callers*each/4 {
		t.Errorf("entries for %d commands of %d callers: got %d, want less than a quarter", callers*each, callers, entries)
	}
	for _, n := range nodes {
		v, err := n.View(t.Context())
		if err != nil || v.Count() != callers*each {
			t.Errorf("names at %s: got %d, %v, want %d", n.ID(), v.Count(), err, callers*each)
		}
	}
}

// What Prepare sees is what its command is applied to, while others write all the time.
func TestPrepareSeesExactState(t *testing.T) {
	t.Parallel()
	prepare := func(v *fsm.View, c fsm.Command) (fsm.Command, error) {
		if c.Name == "[" {
			return c, errors.New("bad expression")
		}
		c.Kind, c.Name = fsm.KindRemove, ""
		for e := range v.Entries("x-") {
			c.Names = append(c.Names, e.Name)
		}
		c.Reason = fmt.Sprint(v.Revision())
		return c, nil
	}
	nodes := newCluster(t, 3, func(_ int, o *Options) { o.Prepare = prepare })
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				register(t, nodes[w%3], fmt.Sprintf("x-%d-%d", w, i))
			}
		})
	}
	for i := range 30 {
		// All that is there at that moment goes: nothing that was registered before can be left, and no other removal interferes.
		register(t, nodes[i%3], "x-marker")
		r, err := nodes[(i+1)%3].Apply(t.Context(), fsm.Command{Kind: fsm.KindRemoveMatching, Name: "x-.*"})
		if err != nil || r.Count == 0 {
			t.Errorf("remove matching: got %+v, %v", r, err)
		}
		v, err := nodes[i%3].View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for e := range v.Entries("x-") {
			if e.Created < r.Revision {
				t.Errorf("%s of revision %d is left after a removal of all at %d", e.Name, e.Created, r.Revision)
			}
		}
	}
	stop()
	wg.Wait()
	for _, n := range nodes {
		if _, err := n.Apply(t.Context(), fsm.Command{Kind: fsm.KindRemoveMatching, Name: "["}); err == nil || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("remove matching with a bad expression at %s: got %v, want the error of Prepare", n.ID(), err)
		}
	}
}

// spec: H2
func TestMinorityRefuses(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	follower := others(nodes, leader)[0]
	for _, n := range others(nodes, follower) {
		n.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := follower.View(ctx); !errors.Is(err, ErrNoLeader) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("view without a majority: got %v, want %v", err, ErrNoLeader)
	}
	eventually(t, "the follower misses its leader", func() error {
		if l := follower.currentLeader(); l.ID != "" {
			return fmt.Errorf("leader %v", l)
		}
		return nil
	})
	ctx, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := follower.Apply(ctx, fsm.Command{Kind: fsm.KindNoop}); !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("apply without a majority: got %v, want %v", err, ErrNoLeader)
	}
	if err := follower.Ready(t.Context()); !errors.Is(err, ErrNoLeader) {
		t.Errorf("ready without a majority: got %v, want %v", err, ErrNoLeader)
	}
}

// wire cuts a node off from all others.
type wire struct{ down atomic.Bool }

func (w *wire) cut(n *Node) {
	w.down.Store(true)
	n.stream.mu.Lock()
	defer n.stream.mu.Unlock()
	for c := range n.stream.conns {
		c.(*trackedConn).Conn.Close()
	}
}

// A leader that is cut off neither acknowledges nor reads, though it does not know yet that it is deposed.
func TestLeaderCutOff(t *testing.T) {
	t.Parallel()
	wires := make([]wire, 3)
	nodes := newCluster(t, 3, func(i int, o *Options) { o.cut = wires[i].down.Load })
	old := leaderOf(t, nodes...)
	rest := others(nodes, old)
	w := &wires[slices.Index(nodes, old)]
	w.cut(old)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := old.View(ctx); !errors.Is(err, ErrNoLeader) {
			t.Errorf("view at a leader that is cut off: got %v, want %v", err, ErrNoLeader)
		}
	})
	wg.Go(func() {
		c := fsm.Command{Kind: fsm.KindRegister, Name: "cut off", URI: "PYRO:o@h:1"}
		if _, err := old.Apply(ctx, c); !errors.Is(err, ErrUnknownOutcome) && !errors.Is(err, ErrNoLeader) {
			t.Errorf("apply at a leader that is cut off: got %v, want an error", err)
		}
	})
	register(t, rest[0], "meanwhile")
	wg.Wait()
	w.down.Store(false)
	waitServing(t, nodes...)
	mustSee(t, old, "meanwhile")
}

func TestTransferLeadership(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	for range 3 {
		leader := leaderOf(t, nodes...)
		rest := others(nodes, leader)
		if err := rest[0].TransferLeadership(t.Context(), rest[1].ID()); err != nil {
			t.Fatalf("transfer by a follower to another: %v", err)
		}
		if got := leaderOf(t, nodes...); got != rest[1] {
			t.Errorf("leader after transfer: got %s, want %s", got.ID(), rest[1].ID())
		}
	}
	const rounds = 6
	first := leaderOf(t, nodes...).raft.CurrentTerm()
	for i := range rounds {
		asked := nodes[i%len(nodes)]
		if _, err := asked.View(t.Context()); err != nil { // now it knows who leads
			t.Fatal(err)
		}
		before := asked.currentLeader().ID
		if err := asked.TransferLeadership(t.Context(), ""); err != nil {
			t.Errorf("transfer to the best, asked of %s while %s leads: %v", asked.ID(), before, err)
		}
		if got := asked.currentLeader().ID; got == before {
			t.Errorf("leader after transfer: got the same, %s", got)
		}
	}
	// One or two elections of a busy machine are forgiven; transfers that are done twice make many.
	if got := leaderOf(t, nodes...).raft.CurrentTerm(); got > first+rounds+2 {
		t.Errorf("term after %d transfers: got %d, want %d: some were done more than once", rounds, got, first+rounds)
	}
	for _, n := range nodes {
		if err := n.TransferLeadership(t.Context(), "n-nobody"); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("transfer to an unknown node at %s: got %v, want %v", n.ID(), err, ErrUnknownNode)
		}
	}
}

func TestShutdownHandsOver(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	if err := leader.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	rest := others(nodes, leader)
	if rest[0].raft.State() != raft.Leader && rest[1].raft.State() != raft.Leader {
		t.Errorf("states after shutdown of the leader: got %v and %v, want one leader at once", rest[0].raft.State(), rest[1].raft.State())
	}
	if err := leader.Err(); err != nil {
		t.Errorf("err after shutdown: got %v, want nil", err)
	}
	if _, err := leader.Apply(t.Context(), fsm.Command{Kind: fsm.KindNoop}); !errors.Is(err, ErrStopped) {
		t.Errorf("apply after shutdown: got %v, want %v", err, ErrStopped)
	}
	if _, err := leader.View(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("view after shutdown: got %v, want %v", err, ErrStopped)
	}
	if err := errors.Join(leader.Close(), leader.Shutdown(t.Context())); err != nil {
		t.Errorf("close after shutdown: %v", err)
	}
	register(t, rest[0], "after")
}
