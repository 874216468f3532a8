package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// directoryWith makes a data directory of a fresh node with a promise, and returns the node's id.
func directoryWith(t testing.TB, path string, change func(*identity)) string {
	t.Helper()
	d, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.update(func(id *identity) error { change(id); return nil }); err != nil {
		t.Fatal(err)
	}
	return d.identity().ID
}

func oneCluster(nodes ...*Node) error {
	id := nodes[0].dir.identity().Cluster
	for _, n := range nodes {
		if got := n.dir.identity().Cluster; id == "" || got != id {
			return fmt.Errorf("node %s is in cluster %q, node %s in %q", n.ID(), got, nodes[0].ID(), id)
		}
	}
	return nil
}

// Five fresh nodes of which any three may form a cluster, killed and started again all the time meanwhile: there is never more than one, and
// all come to be in it.
func TestOverlappingSetsFormOneCluster(t *testing.T) {
	t.Parallel()
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			addresses := freeAddresses(t, 5)
			nodes := make([]*Node, len(addresses))
			for i, a := range addresses {
				nodes[i] = open(t, testOptions(t, a, 3, addresses))
			}
			seen := map[string]bool{}
			for range 12 {
				sleep(t.Context(), time.Duration(1+rand.N(120))*time.Millisecond, nil)
				i := rand.N(len(nodes))
				nodes[i].Close()
				nodes[i] = reopen(t, nodes[i])
				for _, n := range nodes {
					if id := n.dir.identity().Cluster; id != "" {
						seen[id] = true
					}
				}
			}
			eventually(t, "all are in one cluster", func() error { return oneCluster(nodes...) })
			seen[nodes[0].dir.identity().Cluster] = true
			if len(seen) != 1 {
				t.Errorf("clusters seen: got %v, want one", seen)
			}
			eventually(t, "all have a vote", func() error {
				for _, n := range nodes {
					if err := isVoter(nodes[0], n.ID()); err != nil {
						return err
					}
				}
				return nil
			})
			register(t, nodes[4], "works")
			mustSee(t, nodes[1], "works")
		})
	}
}

// Two nodes have promised to a coordinator that never comes back.  They find that without them it has no majority, and form a cluster with
// another.
func TestCoordinatorIsGone(t *testing.T) {
	t.Parallel()
	addresses := freeAddresses(t, 4)
	options := make([]Options, 3)
	p := promise{Cluster: "c-gone", Coordinator: "n-gone", Members: []peer{{"n-gone", addresses[3]}}}
	for i := range options {
		options[i] = testOptions(t, addresses[i], 3, addresses[:3])
		if i < 2 {
			p.Members = append(p.Members, peer{directoryWith(t, options[i].DataDir, func(*identity) {}), addresses[i]})
		}
	}
	var nodes []*Node
	for i, o := range options {
		if i < 2 {
			directoryWith(t, o.DataDir, func(id *identity) { id.Promise = &p })
		}
		nodes = append(nodes, open(t, o))
	}
	waitServing(t, nodes...)
	if err := oneCluster(nodes...); err != nil {
		t.Error(err)
	}
	if got := nodes[0].dir.identity().Cluster; got == p.Cluster {
		t.Errorf("cluster: got %s, which was given up", got)
	}
}

// The coordinator is gone for good after one member was bound, and the other has given it up already: the cluster lives all the same.
func TestCoordinatorIsGoneButClusterLives(t *testing.T) {
	t.Parallel()
	addresses := freeAddresses(t, 3)
	p := promise{Cluster: "c-lives", Coordinator: "n-gone", Members: []peer{{"n-gone", addresses[2]}}}
	options := make([]Options, 2)
	for i := range options {
		options[i] = testOptions(t, addresses[i], 3, addresses)
		p.Members = append(p.Members, peer{directoryWith(t, options[i].DataDir, func(*identity) {}), addresses[i]})
	}
	var nodes []*Node
	for i, o := range options {
		p := p
		p.Bound, p.Abandoned = i == 0, i == 1
		directoryWith(t, o.DataDir, func(id *identity) { id.Promise = &p })
		nodes = append(nodes, open(t, o))
	}
	waitServing(t, nodes...)
	for _, n := range nodes {
		if got := n.dir.identity().Cluster; got != p.Cluster {
			t.Errorf("cluster of %s: got %s, want %s", n.ID(), got, p.Cluster)
		}
	}
	// The third's machine, with a new disk, takes its place.
	third := open(t, testOptions(t, addresses[2], 3, addresses))
	eventually(t, "the third has a vote", func() error { return isVoter(nodes[0], third.ID()) })
}

// The coordinator comes back after it had all promises, and finds that the others have given it up and formed another cluster.
func TestCoordinatorIsTooLate(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 1)
	address := freeAddresses(t, 1)[0]
	o := testOptions(t, address, 3, []string{nodes[0].Address()})
	id := directoryWith(t, o.DataDir, func(*identity) {})
	directoryWith(t, o.DataDir, func(i *identity) {
		i.Promise = &promise{Cluster: "c-late", Coordinator: id, Bound: true,
			Members: []peer{{id, address}, {nodes[0].ID(), nodes[0].Address()}, {"n-gone", freeAddresses(t, 1)[0]}}}
	})
	if err := openAndEnd(t, o); !errors.Is(err, ErrWrongCluster) {
		t.Errorf("coordinator ended with %v, want %v", err, ErrWrongCluster)
	}
}

// A promise is given once, and one that was refused or given up is not had again, however late the request for it comes.
func TestPromiseIsGivenOnce(t *testing.T) {
	t.Parallel()
	n := open(t, testOptions(t, "127.0.0.1:0", 3, nil))
	p := func(cluster string) promise {
		return promise{Cluster: cluster, Coordinator: "n-a", Members: []peer{{"n-a", "127.0.0.1:1"}, {n.ID(), n.Address()}, {"n-b", "127.0.0.1:2"}}}
	}
	request := func(cluster string, round uint64) error {
		r := promiseRequest{promise: p(cluster), expect: 3, round: round}
		return n.handlePromise(r.append(nil))
	}
	refuse := func(cluster string) stance {
		b, err := n.handleRefuse(appendString(nil, cluster))
		if err != nil {
			t.Fatal(err)
		}
		return stance(b[0])
	}
	if got := refuse("early"); got != stanceRefuses {
		t.Errorf("asked to refuse before any promise: got stance %d, want %d", got, stanceRefuses)
	}
	if err := request("early", 0); !errors.Is(err, errStale) {
		t.Errorf("promise that was refused before: got %v, want %v", err, errStale)
	}
	round := n.dir.identity().Round
	if err := errors.Join(request("one", round), request("one", round)); err != nil {
		t.Errorf("promise, and again: got %v, want nil", err)
	}
	if err := request("two", round); !errors.Is(err, errStale) {
		t.Errorf("second promise: got %v, want %v", err, errStale)
	}
	if got := refuse("one"); got != stanceHolds {
		t.Errorf("asked to refuse what is promised: got stance %d, want %d", got, stanceHolds)
	}
	if err := n.bind("two"); err == nil {
		t.Error("bound to another cluster than promised: got nil, want an error")
	}
	if err := n.release("one"); err != nil {
		t.Fatal(err)
	}
	if err := request("one", round); !errors.Is(err, errStale) {
		t.Errorf("promise that was given up: got %v, want %v", err, errStale)
	}
	if err := errors.Join(request("three", n.dir.identity().Round), n.bind("three")); err != nil {
		t.Fatal(err)
	}
	if err := n.release("three"); !errors.Is(err, errStale) {
		t.Errorf("release when bound: got %v, want %v", err, errStale)
	}
	if got := refuse("three"); got != stanceBound {
		t.Errorf("asked to refuse when bound: got stance %d, want %d", got, stanceBound)
	}
	bad := promiseRequest{promise: p("four"), expect: 4, round: 9}
	if err := n.handlePromise(bad.append(nil)); err == nil || errors.Is(err, errStale) {
		t.Errorf("promise for another number of nodes: got %v, want a refusal", err)
	}
}

func TestAlone(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1)[0]
	register(t, n, "x")
	n.Close()
	n = reopen(t, n)
	waitServing(t, n)
	mustSee(t, n, "x")
	if err := n.TransferLeadership(t.Context(), n.ID()); err != nil {
		t.Errorf("transfer to itself: %v", err)
	}
}

// Without an expected number of nodes a fresh node waits to be let in, and stops at once when it is told to.
func TestFreshNodeWaits(t *testing.T) {
	t.Parallel()
	n := open(t, testOptions(t, "127.0.0.1:0", 0, freeAddresses(t, 1)))
	if err := n.Ready(t.Context()); !errors.Is(err, ErrNoLeader) {
		t.Errorf("ready: got %v, want %v", err, ErrNoLeader)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}
