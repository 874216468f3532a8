package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// promise binds a fresh node to one cluster that is about to be formed, or that it joins.  It is on disk before it is told, since two
// clusters must never come out of one set of nodes.  DESIGN.md has the argument.
type promise struct {
	Cluster     string `json:"cluster"`     // the id that the cluster will have
	Coordinator string `json:"coordinator"` // id of the node that forms it; empty if this node joins an existing one
	Members     []peer `json:"members,omitempty"`

	// Bound: this node has let raft's messages of that cluster in, or, as coordinator, has all promises.  There is no way back.  A
	// bound node that is a member has the configuration in its log before raft hears anything, so that it needs nobody for that.
	Bound bool `json:"bound,omitempty"`
	// Abandoned: the coordinator is gone; this node lets no message of raft in.  There is a way back only if the cluster lives for certain.
	Abandoned bool `json:"abandoned,omitempty"`
}

func newClusterID() string { return "c-" + randomHex(8) }

func (p *promise) majority() int { return len(p.Members)/2 + 1 }

func (p *promise) member(id string) (peer, bool) {
	i := slices.IndexFunc(p.Members, func(m peer) bool { return m.ID == id })
	if i < 0 {
		return peer{}, false
	}
	return p.Members[i], true
}

// stance is what a node says when it is asked to refuse a promise.
type stance byte

const (
	stanceHolds   stance = 0 // it is promised, and may yet be bound
	stanceBound   stance = 1 // for good
	stanceRefuses stance = 2 // for good
)

// errStale is a promise that is not to be had any more.
var errStale = errors.New("cluster: promised otherwise")

// free reports whether this node may promise, or has promised but is not bound.
func (n *Node) free(id *identity) bool {
	return n.empty && id.Cluster == "" && (id.Promise == nil || !id.Promise.Bound)
}

// bind lets raft's messages of a cluster in, or says why not.
func (n *Node) bind(cluster string) error {
	var p *promise
	err := n.dir.updateIf(func(id *identity) (bool, error) {
		p = id.Promise
		if cluster == "" || id.Cluster != "" && id.Cluster != cluster || id.Cluster == "" && (p == nil || p.Cluster != cluster || p.Abandoned) {
			return false, fmt.Errorf("not a member of cluster %q", cluster)
		}
		if id.Cluster != "" || p.Bound {
			return false, nil
		}
		bound := *p
		bound.Bound = true
		id.Promise = &bound
		return true, nil
	})
	if err != nil || p == nil || len(p.Members) == 0 {
		return err
	}
	return n.bootstrap(p)
}

// release gives a promise up, as long as this node is not bound.
func (n *Node) release(cluster string) error {
	return n.dir.update(func(id *identity) error {
		if id.Promise == nil || id.Promise.Cluster != cluster || id.Promise.Bound {
			return errStale
		}
		id.Promise = nil
		id.Round++
		return nil
	})
}

// see remembers a fresh node that asked.
func (n *Node) see(p peer) {
	if _, err := checkAddress(p.Address); err != nil || p.ID == "" || p.ID == n.id {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.seen) < maxExpect {
		n.seen[p.ID] = p.Address
	}
}

// former makes a fresh node a member of a cluster: it joins one that a node knows, or forms one with others that are fresh.
type former struct {
	*Node
	heard time.Time // when the coordinator of the promise was last heard
}

func (n *Node) form() {
	f := &former{n, time.Now()}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if n.dir.identity().Cluster != "" {
			return
		}
		if err := f.step(); err != nil && n.ctx.Err() == nil {
			n.opts.Logger.Info("cluster: forming or joining", "err", err)
		}
		if !sleep(n.ctx, pause, nil) {
			return
		}
	}
}

// step does one thing towards membership.
func (f *former) step() error {
	ctx, cancel := context.WithTimeout(f.ctx, f.opts.timing.request)
	defer cancel()
	others := f.discover(ctx)
	id := f.dir.identity()
	p := id.Promise
	for _, o := range others {
		if o.cluster != "" {
			return f.joinBy(ctx, o)
		}
	}
	switch {
	case p == nil:
		return f.coordinate(ctx, others, id.Round)
	case p.Bound, p.Coordinator == "":
		return f.bootstrap(p) // if a crash came between; else raft's messages come, or a node that knows the cluster
	case p.Coordinator == f.id:
		return f.release(p.Cluster) // a crash interrupted it; nothing was formed
	default:
		return f.watch(ctx, p)
	}
}

// discover asks all nodes that can be found what they are.
func (n *Node) discover(ctx context.Context) []status {
	targets := map[peer]bool{}
	for _, a := range n.opts.Join {
		for _, each := range resolve(ctx, a) {
			targets[peer{"", each}] = true
		}
	}
	n.mu.Lock()
	for id, a := range n.seen {
		targets[peer{id, a}] = true
	}
	n.mu.Unlock()
	if p := n.dir.identity().Promise; p != nil {
		for _, m := range p.Members {
			targets[m] = true
		}
	}
	var peers []peer
	for p := range targets {
		if p.Address != n.stream.advertise {
			peers = append(peers, p)
		}
	}
	byID := map[string]status{}
	for _, st := range n.ask(ctx, peers) {
		if st.ID != n.id {
			byID[st.ID] = st
		}
	}
	var others []status
	for _, st := range byID {
		others = append(others, st)
	}
	slices.SortFunc(others, func(a, b status) int { return cmp.Compare(a.ID, b.ID) })
	return others
}

// resolve returns an address for each node that a name stands for: the name of a headless service stands for all of them.
func resolve(ctx context.Context, address string) []string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil || len(ips) < 2 {
		return []string{address} // dialling tells what is wrong
	}
	all := make([]string, len(ips))
	for i, ip := range ips {
		all[i] = net.JoinHostPort(ip, port)
	}
	return all
}

// joinBy asks a member of a cluster to be let in.
func (f *former) joinBy(ctx context.Context, via status) error {
	err := f.dir.updateIf(func(id *identity) (bool, error) {
		p := id.Promise
		switch {
		case p == nil || p.Cluster != via.cluster && !p.Bound:
			// Leaving a promise for a cluster that exists is safe: it only makes the promised one less likely.
			id.Promise = &promise{Cluster: via.cluster}
			id.Round++
			return true, nil
		case p.Cluster != via.cluster:
			return false, fmt.Errorf("%w: node %s is in %s, this node is bound to %s", ErrWrongCluster, via.ID, via.cluster, p.Cluster)
		case p.Abandoned:
			alive := *p
			alive.Abandoned = false // the cluster lives, so nobody can have counted on it being dead
			id.Promise = &alive
			return true, nil
		}
		return false, nil
	})
	if errors.Is(err, ErrWrongCluster) {
		f.fail(err)
	}
	if err != nil {
		return err
	}
	self := peer{f.id, f.stream.advertise}
	_, err = f.links.call(ctx, via.Address, via.ID, requestJoin, self.append(nil), nil)
	if errors.Is(err, ErrRemoved) {
		f.fail(err)
	}
	return err
}

// coordinate forms a cluster if enough fresh nodes are there, of which this has the smallest id.
func (f *former) coordinate(ctx context.Context, others []status, round uint64) error {
	members := []peer{{f.id, f.stream.advertise}}
	rounds := map[string]uint64{}
	for _, o := range others {
		if o.fresh && o.promise == "" && o.expect == uint64(f.opts.Expect) && len(members) < f.opts.Expect {
			members = append(members, o.peer)
			rounds[o.ID] = o.round
		}
	}
	if f.opts.Expect == 0 || len(members) < f.opts.Expect || slices.MinFunc(members, byID).ID != f.id {
		return nil
	}
	p := promise{Cluster: newClusterID(), Coordinator: f.id, Members: members}
	if err := f.promise(p, round); err != nil {
		return err
	}
	for _, m := range members[1:] {
		req := promiseRequest{promise: p, expect: uint64(f.opts.Expect), round: rounds[m.ID]}
		if _, err := f.links.call(ctx, m.Address, m.ID, requestPromise, req.append(nil), nil); err != nil {
			return errors.Join(fmt.Errorf("node %s: %w", m.ID, err), f.release(p.Cluster))
		}
	}
	// From here on the cluster may come to be.
	return f.bind(p.Cluster)
}

func byID(a, b peer) int { return cmp.Compare(a.ID, b.ID) }

// promise makes a promise, if this node is free and in that round.
func (n *Node) promise(p promise, round uint64) error {
	return n.dir.updateIf(func(id *identity) (bool, error) {
		switch {
		case id.Promise != nil && id.Promise.Cluster == p.Cluster && !id.Promise.Abandoned:
			return false, nil // asked twice
		case !n.free(id) || id.Promise != nil || id.Round != round:
			return false, errStale
		}
		id.Promise = &p
		return true, nil
	})
}

func (n *Node) handlePromise(body []byte) error {
	var req promiseRequest
	if err := req.parse(body); err != nil {
		return err
	}
	if _, member := req.promise.member(n.id); !member || req.promise.Cluster == "" || req.expect != uint64(n.opts.Expect) || int(req.expect) != len(req.promise.Members) {
		return fmt.Errorf("cluster: asked to form one of %d nodes, expecting %d", len(req.promise.Members), n.opts.Expect)
	}
	return n.promise(req.promise, req.round)
}

// bootstrap writes the configuration into this node's log, if it is empty.  All members write the same.
func (n *Node) bootstrap(p *promise) error {
	if len(p.Members) == 0 || len(n.servers()) > 0 {
		return nil
	}
	var c raft.Configuration
	for _, m := range p.Members {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Address)})
	}
	err := n.await(func() error { return n.raft.BootstrapCluster(c).Error() })
	if err != nil && err != raft.ErrCantBootstrap {
		return fmt.Errorf("cluster: bootstrap: %w", err)
	}
	n.opts.Logger.Info("cluster: formed", "cluster", p.Cluster, "nodes", len(p.Members))
	return nil
}

// watch follows the coordinator of a promise: whether it has given up, or is gone.
func (f *former) watch(ctx context.Context, p *promise) error {
	coordinator, _ := p.member(p.Coordinator)
	if st, err := f.statusOf(ctx, coordinator); err == nil {
		f.heard = time.Now()
		if st.promise != p.Cluster && st.cluster != p.Cluster {
			// It promised to itself before it asked anybody, and only it can begin the cluster.
			return f.release(p.Cluster)
		}
		return nil
	}
	if !p.Abandoned {
		if time.Since(f.heard) < f.opts.timing.patience {
			return nil
		}
		return f.dir.update(func(id *identity) error {
			if id.Promise == nil || id.Promise.Cluster != p.Cluster || id.Promise.Bound {
				return errStale
			}
			abandoned := *id.Promise
			abandoned.Abandoned = true
			id.Promise = &abandoned
			return nil
		})
	}
	return f.poll(ctx, p)
}

// poll asks the other members whether the abandoned cluster is dead or alive.  It is dead when so many refuse that the rest is no
// majority, and alive when a majority is bound; both are for good, and they exclude each other.
func (f *former) poll(ctx context.Context, p *promise) error {
	refuse, bound := 1, 0
	for _, m := range p.Members {
		if m.ID == f.id {
			continue
		}
		body, err := f.links.call(ctx, m.Address, m.ID, requestRefuse, appendString(nil, p.Cluster), nil)
		if err != nil || len(body) != 1 {
			continue
		}
		switch stance(body[0]) {
		case stanceRefuses:
			refuse++
		case stanceBound:
			bound++
		}
	}
	if bound > 0 {
		bound++ // the coordinator, who was the first
	}
	switch {
	case refuse > len(p.Members)-p.majority():
		return f.release(p.Cluster)
	case bound >= p.majority():
		return f.dir.update(func(id *identity) error {
			if id.Promise == nil || id.Promise.Cluster != p.Cluster {
				return errStale
			}
			alive := *id.Promise
			alive.Abandoned = false
			id.Promise = &alive
			return nil
		})
	}
	return nil
}

// handleRefuse answers poll.  A node that refuses does so for good: it is not promised, and its round goes on, so that a request for that
// promise which is still under way comes too late.
func (n *Node) handleRefuse(body []byte) ([]byte, error) {
	cluster, err := parseString(body)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	before := n.refused[cluster]
	n.mu.Unlock()
	answer := stanceRefuses
	err = n.dir.updateIf(func(id *identity) (bool, error) {
		p := id.Promise
		switch {
		case id.Cluster == cluster || p != nil && p.Cluster == cluster && p.Bound:
			answer = stanceBound
		case p != nil && p.Cluster == cluster && !p.Abandoned:
			answer = stanceHolds
		case p == nil && id.Cluster == "" && !before:
			id.Round++
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	if answer == stanceRefuses {
		n.mu.Lock()
		if len(n.refused) < 1<<10 {
			n.refused[cluster] = true
		}
		n.mu.Unlock()
	}
	return []byte{byte(answer)}, nil
}
