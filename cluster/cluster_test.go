package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
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

// testCluster is a set of nodes with real raft over TCP.  An address keeps its port when a node restarts, since it is reserved by a listener
// on another loopback address of the same machine only while a node is down: see node.
type testCluster struct {
	t     *testing.T
	mu    sync.Mutex
	nodes []*Node
	opts  []Options
}

// freeAddresses returns loopback addresses whose ports were free a moment ago.
func freeAddresses(t testing.TB, n int) []string {
	t.Helper()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
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

var _ = raft.Voter
