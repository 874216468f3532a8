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

// View implements naming.Store with a linearizable read (Raft thesis, section 6.4): the state has every change acknowledged before the
// call, on any node.  It costs one round of messages, which all reads that wait at the time share.  The error is [ErrNoLeader] or
// [ErrStopped], with ctx's cause; without a deadline it waits 10 s.
func (n *Node) View(ctx context.Context) (*fsm.View, error) {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	err := n.retry(ctx, n.catchUp)
	if errors.Is(err, ErrUnknownOutcome) {
		return nil, fmt.Errorf("%w: %w", ErrNoLeader, context.Cause(ctx))
	}
	if err != nil {
		return nil, err
	}
	return n.LocalView(), nil
}

// catchUp waits until this node has applied all that was committed when it was called.
func (n *Node) catchUp(ctx context.Context) error {
	reads := n.reads
	if t := n.term.Load(); t != nil {
		reads = t.reads
	}
	index, err := reads.do(ctx)
	if err != nil {
		return err
	}
	if err := n.machine.wait(ctx, index); err != nil {
		return fmt.Errorf("%w: %w", errNotRun, err)
	}
	return nil
}

// Ready returns nil if a leader is known and this node, with a vote, has applied what the leader had committed when asked, else the
// reason.  It does not wait for a leader.
func (n *Node) Ready(ctx context.Context) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	ctx, cancelAttempt := context.WithTimeout(ctx, n.opts.timing.request)
	defer cancelAttempt()
	if n.currentLeader().ID == "" {
		return ErrNoLeader
	}
	if err := n.catchUp(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	for _, s := range n.servers() {
		if string(s.ID) == n.id && s.Suffrage == raft.Voter {
			return nil
		}
	}
	return errors.New("cluster: this node has no vote yet")
}

// askReadIndex asks the leader for its read index; a round of a follower.
func (n *Node) askReadIndex(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.timing.request)
	defer cancel()
	var index uint64
	body, err := n.onLeader(ctx, requestReadIndex, nil, func(ctx context.Context, t *term) (_ []byte, err error) {
		index, err = t.reads.do(ctx)
		return nil, err
	})
	if err != nil || body == nil {
		return index, err
	}
	return parseUint(body)
}

// confirmer makes sure that the leader still leads, with a message of its own to every voter.  Raft's VerifyLeader is not used: it counts any
// answer to a heartbeat that arrives after the question, also one to a heartbeat sent before it, so that a leader that slept (SIGSTOP, a
// swapped-out process) finds old answers in its sockets and believes that it still leads.
//
// A voter answers with its term.  If a majority has not gone beyond the leader's term at some time after the question came, nobody can have
// been elected with a higher one before the question: he would have needed the votes of a majority, and who votes is in that term.
type confirmer struct {
	term   *term
	signal chan struct{} // of size 1: something below has changed

	mu     sync.Mutex // guards what follows
	asked  uint64     // rounds so far
	voters map[raft.ServerID]*voter
	beyond bool // some voter has a higher term
}

type voter struct {
	wake  chan struct{} // of size 1
	known uint64        // the last round that it has confirmed
}

func (c *confirmer) init(t *term) {
	c.term, c.signal, c.voters = t, make(chan struct{}, 1), map[raft.ServerID]*voter{}
}

// round returns an index that every change acknowledged so far, and every state read so far, is at or below.
func (c *confirmer) round(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.term.node.opts.timing.request)
	defer cancel()
	index := c.term.node.raft.CommitIndex()
	servers := c.term.node.servers()
	number := c.ask(servers)
	for !c.confirmed(servers, number) {
		select {
		case <-c.signal:
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: no majority answers: %w", errNotRun, context.Cause(ctx))
		}
		if c.lost() {
			return 0, errNotRun
		}
	}
	if !c.term.leads() {
		return 0, errNotRun
	}
	return index, nil
}

// ask begins a round.
func (c *confirmer) ask(servers []raft.Server) (number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	for _, s := range servers {
		if s.Suffrage != raft.Voter || string(s.ID) == c.term.node.id {
			continue
		}
		v := c.voters[s.ID]
		if v == nil {
			v = &voter{wake: make(chan struct{}, 1)}
			c.voters[s.ID] = v
			c.term.wg.Go(func() { c.poll(s.ID, v) })
		}
		notify(v.wake)
	}
	return c.asked
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (c *confirmer) confirmed(servers []raft.Server, number uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	voters, agree := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if v := c.voters[s.ID]; string(s.ID) == c.term.node.id || v != nil && v.known >= number {
			agree++
		}
	}
	return agree > voters/2
}

func (c *confirmer) lost() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beyond
}

// poll asks one voter, once for all rounds that began before the question, until the term ends.
func (c *confirmer) poll(id raft.ServerID, v *voter) {
	for {
		select {
		case <-v.wake:
		case <-c.term.ctx.Done():
			return
		}
		for c.open(v) && !c.askVoter(id, v) {
			if !sleep(c.term.ctx, 10*time.Millisecond, nil) {
				return
			}
		}
	}
}

func (c *confirmer) open(v *voter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return v.known < c.asked
}

// askVoter reports whether the voter answered.
func (c *confirmer) askVoter(id raft.ServerID, v *voter) bool {
	c.mu.Lock()
	number := c.asked
	c.mu.Unlock()
	n := c.term.node
	ctx, cancel := context.WithTimeout(c.term.ctx, n.opts.timing.election)
	defer cancel()
	body, err := n.callPeer(ctx, peer{string(id), n.addressOf(id)}, requestTerm, nil, nil)
	if err != nil {
		return false
	}
	theirs, err := parseUint(body)
	if err != nil {
		return false
	}
	c.mu.Lock()
	if theirs > c.term.number {
		c.beyond = true
	} else {
		v.known = max(v.known, number)
	}
	c.mu.Unlock()
	notify(c.signal)
	return true
}
