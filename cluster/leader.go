package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// term is the time during which this node leads: from when it has applied an entry of its own, so that it knows all that was committed before
// (Raft thesis, section 6.4), until leadership is lost.
type term struct {
	node    *Node
	number  uint64 // raft's term
	ctx     context.Context
	batcher *batcher
	confirm confirmer
	reads   *rounds
	wg      sync.WaitGroup
	changes sync.Mutex // held while the configuration is changed
}

// lead follows whether raft leads, and has a term while it does.
func (n *Node) lead(led <-chan bool) {
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case leads := <-led:
			stop()
			stop = func() {}
			if leads {
				stop = n.startTerm()
			}
		case <-n.ctx.Done():
			return
		}
	}
}

// startTerm runs a term until the function that it returns is called, which returns when all of it has ended.
func (n *Node) startTerm() (stop func()) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { n.runTerm(ctx) })
	return func() {
		cancel(errNotRun)
		wg.Wait()
	}
}

func (n *Node) runTerm(ctx context.Context) {
	number, err := n.firstEntry(ctx)
	if err != nil {
		return // leadership was lost meanwhile
	}
	t := &term{node: n, number: number, ctx: ctx, batcher: newBatcher(n.raft, n.machine.state.View, n.opts.Prepare)}
	t.batcher.observe = n.opts.Observer.Committed
	t.confirm.init(t)
	t.reads = &rounds{ctx: ctx, run: t.confirm.round}
	t.wg.Go(func() { t.batcher.run(ctx) })
	n.term.Store(t)
	n.changes.wake()
	n.opts.Logger.Info("cluster: leading", "term", number)
	t.maintain()
	n.term.Store(nil)
	n.changes.wake()
	t.reads.wait()
	t.wg.Wait()
}

// firstEntry commits an entry of this term, in which a new cluster gets its id, and returns the term when it is applied.
func (n *Node) firstEntry(ctx context.Context) (uint64, error) {
	c := fsm.Command{Kind: fsm.KindNoop, Time: time.Now().UnixNano()}
	if id := n.dir.identity(); id.Cluster == "" {
		c.Kind = fsm.KindInit
		if c.ClusterID = newClusterID(); id.Promise != nil {
			c.ClusterID = id.Promise.Cluster
		}
	}
	entry, err := fsm.EncodeEntry([]fsm.Command{c})
	if err != nil {
		return 0, err
	}
	for ctx.Err() == nil {
		a, err := landed(n.raft.ApplyLog(raft.Log{Data: entry}, enqueueTimeout))
		if err == nil {
			return a.term, nil
		}
		if !errors.Is(err, errNotRun) || n.raft.State() != raft.Leader {
			return 0, err
		}
		sleep(ctx, 10*time.Millisecond, nil) // a transfer of leadership is under way
	}
	return 0, context.Cause(ctx)
}

func (t *term) leads() bool {
	return t.ctx.Err() == nil && t.node.raft.State() == raft.Leader && t.node.raft.CurrentTerm() == t.number
}

// apply runs a command of the leader itself.
func (t *term) apply(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	return t.batcher.apply(ctx, c, 1<<10)
}

// maintain keeps the configuration in order until the term ends.
func (t *term) maintain() {
	ready := map[string]int{}
	for sleep(t.ctx, t.node.opts.timing.election/2, nil) {
		servers := t.node.servers()
		for _, s := range servers {
			if err := t.tend(s, ready); err != nil && t.ctx.Err() == nil {
				t.node.opts.Logger.Warn("cluster: change of members", "member", s.ID, "err", err)
			}
		}
	}
}

// A nonvoter gets its vote when it was seen this close to the leader so many times in a row.
const (
	promoteWithin = 100
	promoteAfter  = 2
)

// tend finishes a removal that was interrupted, follows a change of address, and promotes.
func (t *term) tend(s raft.Server, ready map[string]int) error {
	id := string(s.ID)
	if v, ok := t.node.LocalView().Node(id); ok && v.Removed {
		if id == t.node.id {
			return nil // it stops
		}
		return t.change(func() raft.IndexFuture { return t.node.raft.RemoveServer(s.ID, 0, enqueueTimeout) })
	}
	if address := t.node.currentAddress(s.ID, s.Address); address != s.Address {
		return t.move(s, address)
	}
	if s.Suffrage == raft.Voter || id == t.node.id {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.node.opts.timing.election)
	defer cancel()
	st, err := t.node.statusOf(ctx, peer{id, string(s.Address)})
	if err != nil || st.applied+promoteWithin < t.node.raft.CommitIndex() {
		ready[id] = 0
		return nil
	}
	if ready[id]++; ready[id] < promoteAfter {
		return nil
	}
	t.node.opts.Logger.Info("cluster: member has caught up and gets a vote", "member", id)
	return t.change(func() raft.IndexFuture { return t.node.raft.AddVoter(s.ID, s.Address, 0, enqueueTimeout) })
}

// move writes a member's new address into the configuration, once the member was reached there.
func (t *term) move(s raft.Server, to raft.ServerAddress) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.node.opts.timing.election)
	defer cancel()
	if string(s.ID) != t.node.id {
		if _, err := t.node.statusOf(ctx, peer{string(s.ID), string(to)}); err != nil {
			return err
		}
	}
	t.node.opts.Logger.Info("cluster: member has a new address", "member", s.ID, "from", s.Address, "to", to)
	return t.put(s.ID, to, s.Suffrage)
}

func (t *term) put(id raft.ServerID, a raft.ServerAddress, s raft.ServerSuffrage) error {
	return t.change(func() raft.IndexFuture {
		if s == raft.Voter {
			return t.node.raft.AddVoter(id, a, 0, enqueueTimeout)
		}
		return t.node.raft.AddNonvoter(id, a, 0, enqueueTimeout)
	})
}

// change makes one change of the configuration.  All are such that doing one twice is doing it once.
func (t *term) change(f func() raft.IndexFuture) error {
	switch err := f().Error(); err {
	case nil:
		return nil
	case raft.ErrNotLeader, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout, raft.ErrRaftShutdown:
		return fmt.Errorf("%w: %w", errNotRun, err)
	default:
		return fmt.Errorf("cluster: change of members: %w", err)
	}
}

// rounds runs something that many wait for: those who ask while it runs share the next run, which begins after they asked.
type rounds struct {
	ctx context.Context
	run func(context.Context) (uint64, error)
	wg  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	next    *round
	running bool
	ended   bool
}

type round struct {
	done  chan struct{}
	index uint64
	err   error
}

// do returns the result of a run that began after the call.
func (r *rounds) do(ctx context.Context) (uint64, error) {
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return 0, errNotRun
	}
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	if !r.running {
		r.running = true
		r.wg.Go(r.loop)
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.index, mine.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", errNotRun, context.Cause(ctx))
	}
}

func (r *rounds) loop() {
	for {
		r.mu.Lock()
		current := r.next
		if current == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.next = nil
		r.mu.Unlock()
		current.index, current.err = r.run(r.ctx)
		close(current.done)
	}
}

// wait ends it when its context has.
func (r *rounds) wait() {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.wg.Wait()
}
