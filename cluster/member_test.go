package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// ended waits until a node has stopped by itself.
func ended(t testing.TB, n *Node) error {
	t.Helper()
	select {
	case <-n.Done():
		return n.Err()
	case <-time.After(limit):
		t.Fatalf("node %s still runs after %v", n.ID(), limit)
		return nil
	}
}

// openAndEnd opens a node and returns why it cannot run, whether Open says so or it stops by itself.
func openAndEnd(t testing.TB, o Options) error {
	t.Helper()
	n, err := Open(t.Context(), o)
	if err != nil {
		return err
	}
	defer n.Close()
	return ended(t, n)
}

func isVoter(n *Node, id string) error {
	members, err := n.Members(context.Background())
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID == id && m.Voter {
			return nil
		}
	}
	return fmt.Errorf("%s is no voter: %+v", id, members)
}

func TestJoin(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	for i := range 20 {
		register(t, nodes[0], fmt.Sprint("before", i))
	}
	address := freeAddresses(t, 1)[0]
	follower := others(nodes, leaderOf(t, nodes...))[0]
	fourth := open(t, testOptions(t, address, 3, []string{address, follower.Address()})) // its expect must not matter
	if err := fourth.Ready(t.Context()); err == nil {
		t.Error("ready before it has a vote: got nil, want an error")
	}
	eventually(t, "the fourth has a vote", func() error { return isVoter(follower, fourth.ID()) })
	waitServing(t, fourth)
	register(t, fourth, "by the fourth")
	mustSee(t, nodes[0], "by the fourth")
	mustSee(t, fourth, "before19")
	if got, want := fourth.LocalView().ClusterID(), nodes[0].LocalView().ClusterID(); got != want {
		t.Errorf("cluster of the fourth: got %s, want %s", got, want)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name         string
		leader, down bool
	}{
		{"follower", false, false},
		{"leader", true, false},
		{"node that is down", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			nodes := newCluster(t, 3)
			gone := leaderOf(t, nodes...)
			if !test.leader {
				gone = others(nodes, gone)[0]
			}
			rest := others(nodes, gone)
			if test.down {
				gone.Close()
			}
			if err := rest[0].RemoveMember(t.Context(), gone.ID()); err != nil {
				t.Fatalf("remove %s: %v", gone.ID(), err)
			}
			if err := ended(t, gone); !test.down && !errors.Is(err, ErrRemoved) {
				t.Errorf("removed node ended with %v, want %v", err, ErrRemoved)
			}
			eventually(t, "two members", func() error {
				members, err := rest[1].Members(t.Context())
				if len(members) != 2 {
					return fmt.Errorf("got %+v, %v", members, err)
				}
				return err
			})
			register(t, rest[1], "after")
			o := gone.opts
			o.Listen = gone.Address()
			if err := openAndEnd(t, o); !errors.Is(err, ErrRemoved) {
				t.Errorf("removed node on its old data ended with %v, want %v", err, ErrRemoved)
			}
			if err := rest[0].RemoveMember(t.Context(), gone.ID()); err != nil {
				t.Errorf("removed again: got %v, want nil", err)
			}
			// With an empty directory the machine may come back.
			o.DataDir = t.TempDir()
			back := open(t, o)
			eventually(t, "the new node has a vote", func() error { return isVoter(rest[0], back.ID()) })
		})
	}
}

// A removed node that missed its removal keeps the connections that it had, and is told on these.
func TestRemovedNodeIsToldOnOldConnection(t *testing.T) {
	t.Parallel()
	leader := newCluster(t, 1)[0]
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := leader.Apply(ctx, fsm.Command{Kind: fsm.KindRemoveNode, Node: fsm.Node{ID: "n-other"}}); err != nil {
		t.Fatal(err)
	}
	from := &preamble{cluster: leader.LocalView().ClusterID(), id: "n-other"}
	if _, err := leader.handle(ctx, from, requestAnnounce, (&peer{"n-other", "h:1"}).append(nil)); !errors.Is(err, ErrRemoved) {
		t.Errorf("request of a removed node on its old connection: got %v, want %v", err, ErrRemoved)
	}
}

func TestRemoveRefuses(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	rest := others(nodes, leader)
	if err := rest[0].RemoveMember(t.Context(), "n-nobody"); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("remove an unknown node: got %v, want %v", err, ErrUnknownNode)
	}
	rest[0].Close()
	err := leader.RemoveMember(t.Context(), rest[1].ID())
	if err == nil || !strings.Contains(err.Error(), "only 1 of 2 voters answer") {
		t.Errorf("remove without a majority left: got %v, want a refusal", err)
	}
	if err := rest[1].RemoveMember(t.Context(), rest[0].ID()); err != nil {
		t.Errorf("remove the dead one: %v", err)
	}
	register(t, leader, "after")

	alone := newCluster(t, 1)[0]
	if err := alone.RemoveMember(t.Context(), alone.ID()); err == nil || !strings.Contains(err.Error(), "last voter") {
		t.Errorf("remove the last voter: got %v, want a refusal", err)
	}
}

// A node whose disk was lost comes back at its old address with a new id: the old id goes.
func TestReplacedNode(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	lost := others(nodes, leaderOf(t, nodes...))[0]
	rest := others(nodes, lost)
	lost.Close()
	o := lost.opts
	o.Listen, o.DataDir = lost.Address(), t.TempDir()
	fresh := open(t, o)
	eventually(t, "the new node has a vote", func() error { return isVoter(rest[0], fresh.ID()) })
	members, err := rest[0].Members(t.Context())
	if err != nil || len(members) != 3 {
		t.Errorf("members: got %+v, %v, want three", members, err)
	}
	if v, err := rest[0].View(t.Context()); err != nil {
		t.Error(err)
	} else if old, ok := v.Node(lost.ID()); !ok || !old.Removed {
		t.Errorf("old id %s: got %+v, %v, want it removed", lost.ID(), old, ok)
	}
}

func TestAddressOfLivingNodeIsNotTaken(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	leader := leaderOf(t, nodes...)
	err := leader.term.Load().join(t.Context(), peer{"n-thief", others(nodes, leader)[0].Address()})
	if err == nil || !strings.Contains(err.Error(), "alive") {
		t.Errorf("join with the address of a living node: got %v, want a refusal", err)
	}
}

func TestWrongCluster(t *testing.T) {
	t.Parallel()
	one := newCluster(t, 3)
	other := newCluster(t, 1)
	one[0].Close()
	one[1].Close()
	one[2].Close()
	o := one[0].opts
	o.Listen, o.Join = one[0].Address(), []string{other[0].Address()}
	if err := openAndEnd(t, o); !errors.Is(err, ErrWrongCluster) {
		t.Errorf("old data, join of another cluster: got %v, want %v", err, ErrWrongCluster)
	}
	register(t, other[0], "still fine")
}

func TestInUse(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1)[0]
	o := n.opts
	o.Listen, o.Advertise = "127.0.0.1:0", ""
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrInUse) {
		t.Errorf("open a directory twice: got %v, want %v", err, ErrInUse)
	}
}

// small makes snapshots necessary to catch up after a few entries.
func small(_ int, o *Options) {
	o.raftConfig = smallLogs
}

// spec: H1
func TestSnapshotAndRestart(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3, small)
	for i := range 50 {
		register(t, nodes[i%3], fmt.Sprint("name", i))
	}
	for i, n := range nodes {
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatalf("snapshot at %s: %v", n.ID(), err)
		}
		first, err := n.store.FirstIndex()
		if err != nil || first < 20 {
			t.Errorf("log of %s begins at %d, %v, want it truncated", n.ID(), first, err)
		}
		n.Close()
		nodes[i] = reopen(t, n)
	}
	waitServing(t, nodes...)
	for i := range 50 {
		mustSee(t, nodes[(i+1)%3], fmt.Sprint("name", i))
	}
}

func TestCatchUpBySnapshot(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3, small)
	late := others(nodes, leaderOf(t, nodes...))[0]
	late.Close()
	rest := others(nodes, late)
	for i := range 50 {
		register(t, rest[i%2], fmt.Sprint("name", i))
	}
	for _, n := range rest {
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatalf("snapshot at %s: %v", n.ID(), err)
		}
	}
	late = reopen(t, late)
	waitServing(t, late)
	for i := range 50 {
		mustSee(t, late, fmt.Sprint("name", i))
	}
	late.machine.mu.Lock()
	restored := len(late.machine.restored)
	late.machine.mu.Unlock()
	if restored == 0 {
		t.Error("caught up without a snapshot: the test proves nothing")
	}
	register(t, late, "after")
	late.Close()
	late = reopen(t, late)
	waitServing(t, late)
	mustSee(t, late, "after")
}

// A reader never sees less than what anybody saw before, on whatever node: a read index from the leader's commit index, not from what it applied.
func TestReadsNeverGoBack(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; ctx.Err() == nil; i++ {
			nodes[i%3].Apply(ctx, fsm.Command{Kind: fsm.KindNoop})
		}
	}()
	var seen uint64
	for i := range 300 {
		v, err := nodes[i%3].View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v.Revision() < seen {
			t.Fatalf("read %d at %s: revision %d, after %d was seen elsewhere", i, nodes[i%3].ID(), v.Revision(), seen)
		}
		seen = v.Revision()
	}
	stop()
	<-written
}
