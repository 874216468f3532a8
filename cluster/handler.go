package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// preamble is what this node says of itself when it dials.
func (n *Node) preamble(kind connKind) preamble {
	id := n.dir.identity()
	p := preamble{kind: kind, group: registryGroup, cluster: id.Cluster, id: n.id, address: n.stream.advertise}
	if p.cluster == "" && id.Promise != nil && id.Promise.Bound {
		p.cluster = id.Promise.Cluster
	}
	return p
}

// admit judges the preamble of another node.
func (n *Node) admit(p *preamble) handshakeReply {
	id := n.dir.identity()
	reply := handshakeReply{cluster: id.Cluster, id: n.id}
	other, known := n.LocalView().Node(p.id)
	switch {
	case p.group != registryGroup || p.kind != kindRaft && p.kind != kindRequest:
		reply.status, reply.text = statusRefused, fmt.Sprintf("no group %q, or kind %d", p.group, p.kind)
	case p.target != "" && p.target != n.id:
		reply.status, reply.text = statusRefused, "not node "+p.target
	case p.cluster != "" && id.Cluster != "" && p.cluster != id.Cluster:
		reply.status, reply.text = statusWrongCluster, fmt.Sprintf("cluster %s, not %s", id.Cluster, p.cluster)
	case known && other.Removed:
		reply.status, reply.text = statusRemoved, "node "+p.id+" was removed"
	case p.kind == kindRaft:
		if err := n.bind(p.cluster); err != nil {
			reply.status, reply.text = statusRefused, err.Error()
		}
	case p.cluster == "" && id.Cluster == "":
		n.see(peer{p.id, p.address})
	}
	return reply
}

// raftRefused hears what a node says to a connection of raft.
func (n *Node) raftRefused(err error) {
	switch {
	case errors.Is(err, ErrRemoved):
		n.fail(err)
	case errors.Is(err, ErrWrongCluster):
		n.opts.Logger.Warn("cluster: another cluster at the address of a member", "err", err)
	}
}

// serve handles a connection for requests.
func (n *Node) serve(ctx context.Context, conn net.Conn, p *preamble) {
	serveRequests(ctx, conn, n.opts.timing.request, func(ctx context.Context, kind requestKind, body []byte) ([]byte, error) {
		return n.handle(ctx, p, kind, body)
	})
}

// handle answers a request of another node.  What is for the leader is not sent on: it has been, once.
func (n *Node) handle(ctx context.Context, from *preamble, kind requestKind, body []byte) ([]byte, error) {
	// The connection may be older than the removal.
	if v, ok := n.LocalView().Node(from.id); ok && v.Removed && kind != requestTerm {
		return nil, fmt.Errorf("%w: %s", ErrRemoved, from.id)
	}
	switch kind {
	case requestTerm:
		return binary.AppendUvarint(nil, n.raft.CurrentTerm()), nil
	case requestStatus:
		return n.status(), nil
	case requestApply:
		return n.handleApply(ctx, body)
	case requestMessage:
		return n.handleMessage(ctx, from, body)
	case requestReadIndex:
		return n.handleReadIndex(ctx)
	case requestAnnounce:
		p, err := parsePeer(body)
		if err == nil && from.cluster != "" && from.cluster == n.dir.identity().Cluster && p.ID == from.id {
			n.learn(p)
		}
		return n.status(), err
	case requestPromise:
		return nil, n.handlePromise(body)
	case requestRefuse:
		return n.handleRefuse(body)
	case requestJoin:
		p, err := parsePeer(body)
		if err != nil {
			return nil, err
		}
		// The one who joins asks any node: this is the one time that it is sent on.
		if from.id != p.ID {
			return nil, n.locally(ctx, func(t *term) error { return t.join(ctx, p) })
		}
		return nil, n.leaderRequest(ctx, requestJoin, body, func(ctx context.Context, t *term) error { return t.join(ctx, p) })
	case requestTransfer, requestRemove:
		id, err := parseString(body)
		if err != nil {
			return nil, err
		}
		return nil, n.locally(ctx, func(t *term) error {
			if kind == requestRemove {
				return t.remove(ctx, id)
			}
			return t.transfer(ctx, id)
		})
	}
	return nil, fmt.Errorf("cluster: request of unknown kind %d", kind)
}

func (n *Node) locally(ctx context.Context, f func(*term) error) error {
	t := n.term.Load()
	if t == nil {
		return errNotRun
	}
	return f(t)
}

func (n *Node) handleApply(ctx context.Context, entry []byte) ([]byte, error) {
	t := n.term.Load()
	if t == nil {
		return nil, errNotRun
	}
	commands, err := fsm.DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	if len(commands) != 1 {
		return nil, fmt.Errorf("cluster: %d commands in a request, want one", len(commands))
	}
	r, err := t.batcher.apply(ctx, commands[0], len(entry))
	if err != nil {
		return nil, err
	}
	return appendResult(nil, r), nil
}

func (n *Node) handleReadIndex(ctx context.Context) ([]byte, error) {
	t := n.term.Load()
	if t == nil {
		return nil, errNotRun
	}
	index, err := t.reads.do(ctx)
	return binary.AppendUvarint(nil, index), err
}

func appendResult(b []byte, r fsm.Result) []byte {
	b = append(b, byte(r.Code))
	b = binary.AppendVarint(b, int64(r.Count))
	b = binary.AppendUvarint(b, r.Revision)
	return append(b, r.Text...)
}

func parseResult(b []byte) (fsm.Result, error) {
	f := fields{b: b}
	r := fsm.Result{Code: fsm.Code(f.byte()), Count: int(f.int()), Revision: f.uint()}
	err := f.err
	r.Text = string(f.rest())
	return r, err
}

// status is what this node tells of itself.
func (n *Node) status() []byte {
	id := n.dir.identity()
	s := status{
		peer: peer{n.id, n.stream.advertise}, cluster: id.Cluster, fresh: n.free(&id), round: id.Round, expect: uint64(n.opts.Expect),
		term: n.raft.CurrentTerm(), lastIndex: n.raft.LastIndex(), applied: n.machine.index(), leader: n.currentLeader(),
	}
	if id.Promise != nil && !id.Promise.Abandoned {
		s.promise, s.bound = id.Promise.Cluster, id.Promise.Bound
	}
	return s.append(nil)
}

// statusOf asks a node, any node at the address if p has no id.
func (n *Node) statusOf(ctx context.Context, p peer) (status, error) {
	var st status
	body, err := n.links.call(ctx, p.Address, p.ID, requestStatus, nil, nil)
	if err == nil {
		err = st.parse(body)
	}
	return st, err
}

// ask asks several nodes at once, and returns what those say who answer before ctx ends.
func (n *Node) ask(ctx context.Context, peers []peer) []status {
	var mu sync.Mutex
	var answers []status
	set := map[peer]bool{}
	for _, p := range peers {
		set[p] = true
	}
	each(set, func(p peer) {
		if st, err := n.statusOf(ctx, p); err == nil {
			mu.Lock()
			answers = append(answers, st)
			mu.Unlock()
		}
	})
	return answers
}

// each calls f for all at once, and returns when all calls have.
func each(peers map[peer]bool, f func(peer)) {
	var wg sync.WaitGroup
	for p := range peers {
		wg.Go(func() { f(p) })
	}
	wg.Wait()
}
