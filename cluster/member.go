package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Member is a node of the raft configuration.
type Member struct {
	fsm.Node
	Voter  bool
	Leader bool
}

// Members returns the nodes of the cluster.  Errors are those of [Node.View].
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	v, err := n.View(ctx)
	if err != nil {
		return nil, err
	}
	leader := n.currentLeader()
	var members []Member
	for _, s := range n.servers() {
		m := Member{Voter: s.Suffrage == raft.Voter, Leader: string(s.ID) == leader.ID}
		m.Node, _ = v.Node(string(s.ID)) // one that has just joined has not yet told its addresses
		m.ID, m.RaftAddress = string(s.ID), string(s.Address)
		members = append(members, m)
	}
	return members, nil
}

// servers returns raft's configuration as this node knows it.
func (n *Node) servers() []raft.Server {
	return n.raft.GetConfiguration().Configuration().Servers
}

func (n *Node) server(id string) (raft.Server, bool) {
	for _, s := range n.servers() {
		if string(s.ID) == id {
			return s, true
		}
	}
	return raft.Server{}, false
}

func (n *Node) addressOf(id raft.ServerID) string {
	s, _ := n.server(string(id))
	return string(s.Address)
}

// currentAddress is where a node is now: as it has told since the configuration was written, or as that says, or else as known.
func (n *Node) currentAddress(id raft.ServerID, known raft.ServerAddress) raft.ServerAddress {
	<-n.rafting
	configured := cmp.Or(raft.ServerAddress(n.addressOf(id)), known)
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.addresses[string(id)]; ok && a.configured == string(configured) {
		return raft.ServerAddress(a.told)
	}
	return configured
}

// learn takes the word of a node of this cluster for where it is.
func (n *Node) learn(p peer) {
	s, ok := n.server(p.ID)
	if _, err := checkAddress(p.Address); !ok || err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.Address == string(s.Address) {
		delete(n.addresses, p.ID)
	} else {
		n.addresses[p.ID] = address{p.Address, string(s.Address)}
	}
}

// leaderRequest runs a request on the leader until it works or ctx ends.
func (n *Node) leaderRequest(ctx context.Context, kind requestKind, body []byte, local func(context.Context, *term) error) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	return n.retry(ctx, func(ctx context.Context) error {
		_, err := n.onLeader(ctx, kind, body, func(ctx context.Context, t *term) ([]byte, error) { return nil, local(ctx, t) })
		return err
	})
}

// TransferLeadership hands leadership to the node of that id, or to the most up-to-date voter if id is empty, and returns when this
// node knows the new leader.  It does nothing if that node leads already.  The error is [ErrUnknownNode], or one of [Node.Apply].
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	// A node that lags believes in a leader that has gone, and would take the next one for the result.  A linearizable read goes to the
	// leader that is.
	if _, err := n.View(ctx); err != nil {
		return err
	}
	before := n.currentLeader().ID
	handedOver := func() bool {
		now := n.currentLeader().ID
		before = cmp.Or(before, now)
		return now != "" && (now == id || id == "" && now != before)
	}
	err := n.retry(ctx, func(ctx context.Context) error {
		// The change of leaders ends the request for it as it ends all others.  Sent again it would ask the new leader to go as well.
		if handedOver() {
			return nil
		}
		_, err := n.onLeader(ctx, requestTransfer, appendString(nil, id), func(ctx context.Context, t *term) ([]byte, error) {
			return nil, t.transfer(ctx, id)
		})
		return err
	})
	if err != nil {
		return err
	}
	for {
		changed := n.changes.channel()
		if handedOver() {
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond, changed) {
			return n.gaveUp(ctx, false, nil)
		}
	}
}

// errAlone is a transfer that has nowhere to go.
var errAlone = errors.New("cluster: no other voter answers")

// transfer hands leadership over.  Raft takes no commands meanwhile, and goes on leading if it fails.
func (t *term) transfer(ctx context.Context, id string) error {
	n := t.node
	if id == n.id {
		return nil
	}
	if id == "" {
		if id = t.mostUpToDate(ctx); id == "" {
			return errAlone
		}
	}
	s, ok := n.server(id)
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownNode, id)
	}
	if s.Suffrage != raft.Voter {
		return fmt.Errorf("cluster: node %s has no vote yet", id)
	}
	err := n.await(func() error {
		return n.raft.LeadershipTransferToServer(s.ID, n.currentAddress(s.ID, s.Address)).Error()
	})
	if err != nil {
		return fmt.Errorf("%w: transfer to %s: %w", errNotRun, id, err)
	}
	// Raft says so when this node has given its vote away.  Now the other must win, which it does at once, or somebody else does later.
	for {
		changed := n.changes.channel()
		if now := n.currentLeader().ID; now != "" && now != n.id {
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond, changed) {
			return fmt.Errorf("%w: %w", errNotRun, context.Cause(ctx))
		}
	}
}

// mostUpToDate asks the other voters how long their logs are.
func (t *term) mostUpToDate(ctx context.Context) (id string) {
	ctx, cancel := context.WithTimeout(ctx, t.node.opts.timing.election)
	defer cancel()
	var longest uint64
	for _, st := range t.node.ask(ctx, t.otherVoters("")) {
		if id == "" || st.lastIndex > longest {
			id, longest = st.ID, st.lastIndex
		}
	}
	return id
}

func (t *term) otherVoters(but string) []peer {
	var peers []peer
	for _, s := range t.node.servers() {
		if id := string(s.ID); s.Suffrage == raft.Voter && id != t.node.id && id != but {
			peers = append(peers, peer{id, string(s.Address)})
		}
	}
	return peers
}

// RemoveMember takes a node out of the cluster for good: it stops with [ErrRemoved], and its id is refused from then on.  It refuses
// to remove the last voter, and one without which no majority of the others would answer.  Other errors are [ErrUnknownNode] and those
// of [Node.Apply].
func (n *Node) RemoveMember(ctx context.Context, id string) error {
	return n.leaderRequest(ctx, requestRemove, appendString(nil, id), func(ctx context.Context, t *term) error { return t.remove(ctx, id) })
}

func (t *term) remove(ctx context.Context, id string) error {
	n := t.node
	s, ok := n.server(id)
	if !ok {
		if v, known := n.LocalView().Node(id); known && v.Removed {
			return nil // done before
		}
		return fmt.Errorf("%w: %s", ErrUnknownNode, id)
	}
	if s.Suffrage == raft.Voter {
		if err := t.checkQuorumWithout(ctx, id); err != nil {
			return err
		}
	}
	if id == n.id {
		if err := t.transfer(ctx, ""); err != nil {
			return err
		}
		return errNotRun // the next leader does it
	}
	// First the id is refused, so that the node learns it while it still gets entries; maintain finishes what is interrupted in between.
	if _, err := t.apply(ctx, fsm.Command{Kind: fsm.KindRemoveNode, Node: fsm.Node{ID: id}}); err != nil {
		return err
	}
	return t.change(func() raft.IndexFuture { return n.raft.RemoveServer(s.ID, 0, enqueueTimeout) })
}

func (t *term) checkQuorumWithout(ctx context.Context, id string) error {
	others := t.otherVoters(id)
	voters, answer := len(others), 0
	if id != t.node.id {
		voters, answer = voters+1, 1
	}
	if voters == 0 {
		return fmt.Errorf("cluster: node %s is the last voter", id)
	}
	ctx, cancel := context.WithTimeout(ctx, t.node.opts.timing.election)
	defer cancel()
	if answer += len(t.node.ask(ctx, others)); answer <= voters/2 {
		return fmt.Errorf("cluster: without node %s only %d of %d voters answer: no majority", id, answer, voters)
	}
	return nil
}

// join lets a node in, without a vote at first, or gives it its new address.
func (t *term) join(ctx context.Context, p peer) error {
	n := t.node
	if v, ok := n.LocalView().Node(p.ID); ok && v.Removed {
		return fmt.Errorf("%w: %s", ErrRemoved, p.ID)
	}
	if _, err := checkAddress(p.Address); err != nil || p.ID == "" {
		return fmt.Errorf("cluster: join of node %q: %w", p.ID, err)
	}
	t.changes.Lock()
	defer t.changes.Unlock()
	for _, s := range n.servers() {
		switch {
		case string(s.ID) == p.ID && string(s.Address) == p.Address:
			return nil
		case string(s.ID) == p.ID:
			return t.put(s.ID, raft.ServerAddress(p.Address), s.Suffrage)
		case string(s.Address) == p.Address:
			if err := t.replace(ctx, s, p); err != nil {
				return err
			}
		}
	}
	n.opts.Logger.Info("cluster: node joins", "member", p.ID, "address", p.Address)
	return t.put(raft.ServerID(p.ID), raft.ServerAddress(p.Address), raft.Nonvoter)
}

// replace removes the member whose address another node has now, if it is that other node which answers there.
func (t *term) replace(ctx context.Context, old raft.Server, p peer) error {
	ask, cancel := context.WithTimeout(ctx, t.node.opts.timing.election)
	defer cancel()
	st, err := t.node.statusOf(ask, peer{"", p.Address})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s has the address of %s, and does not answer there: %w", errNotRun, p.ID, old.ID, err)
	case st.ID != p.ID:
		return fmt.Errorf("cluster: node %s has the address %s of node %s, which is alive", p.ID, p.Address, old.ID)
	}
	return t.remove(ctx, string(old.ID))
}

// stayKnown tells the others where this node is while they may not know, until the node stops: after a restart with another
// address, also if all were restarted so.
func (n *Node) stayKnown() {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		changed := n.changes.channel()
		self, member := n.server(n.id)
		known := n.currentLeader().ID != ""
		switch {
		case member && known && string(self.Address) == n.stream.advertise, !member && n.dir.identity().Cluster == "":
			pause = time.Second
		default: // also if it is no member any more, and will be told so
			n.announce(known)
		}
		if !sleep(n.ctx, pause, changed) {
			return
		}
	}
}

// announce tells all nodes that can be found.
func (n *Node) announce(leaderKnown bool) {
	ctx, cancel := context.WithTimeout(n.ctx, n.opts.timing.request)
	defer cancel()
	self := peer{n.id, n.stream.advertise}
	body := self.append(nil)
	targets := map[peer]bool{}
	for _, a := range n.opts.Join {
		targets[peer{"", a}] = true
	}
	for _, s := range n.servers() {
		if string(s.ID) != n.id {
			targets[peer{string(s.ID), string(s.Address)}] = true
		}
	}
	each(targets, func(p peer) {
		answer, err := n.callPeer(ctx, p, requestAnnounce, body, nil)
		var st status
		switch {
		case errors.Is(err, ErrRemoved), errors.Is(err, ErrWrongCluster) && p.ID == "" && !leaderKnown:
			// A node told to join another cluster with its old data must not try for ever.
			n.fail(err)
		case err == nil && st.parse(answer) == nil:
			n.learn(st.peer)
		}
	})
}

// publish tells the clients and other nodes this node's addresses, when they have changed.
func (n *Node) publish() {
	self := fsm.Node{ID: n.id, PyroAddress: n.opts.PyroAddress, RaftAddress: n.stream.advertise, HTTPAddress: n.opts.HTTPAddress, Version: n.opts.Version}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		changed := n.changes.channel()
		if _, member := n.server(n.id); member && n.currentLeader().ID != "" && n.publishOnce(self) {
			return
		}
		if !sleep(n.ctx, pause, changed) {
			return
		}
	}
}

func (n *Node) publishOnce(self fsm.Node) bool {
	v, err := n.View(n.ctx)
	if err != nil {
		return false
	}
	if known, ok := v.Node(n.id); ok && known == self {
		return true
	}
	r, err := n.Apply(n.ctx, fsm.Command{Kind: fsm.KindPutNode, Node: self, Actor: n.id})
	if r.Code == fsm.NodeRemoved {
		n.fail(ErrRemoved)
	}
	return err == nil
}
