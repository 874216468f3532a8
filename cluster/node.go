package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Node is a running node.  Its methods are safe for concurrent use.
type Node struct {
	opts      Options
	id        string
	dir       *directory
	store     *logStore
	snapshots *snapshotStore
	machine   *machine
	stream    *stream
	transport *namedTransport
	links     *links
	messages  *links // for Send
	raft      *raft.Raft
	rafting   chan struct{} // closed when raft is set: it dials from the beginning
	empty     bool          // raft had no data when the node was opened
	sessions  sessions
	reads     *rounds // of a follower
	opened    time.Time

	ctx    context.Context // ends when the node stops; its cause is why
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // of all goroutines that end with ctx
	done   chan struct{}
	err    error // once done is closed

	term    atomic.Pointer[term] // while this node leads and has applied an entry of its term
	changes broadcast            // of the leader and of term

	leaderChanges atomic.Uint64

	mu        sync.Mutex // guards what follows
	leader    peer
	addresses map[string]address // that nodes told
	seen      map[string]string  // addresses of fresh nodes that asked, by id
	refused   map[string]bool    // promises that were refused, so that refusing again needs no write
}

// address is where a node said that it is, while the configuration said something else.
type address struct{ told, configured string }

// errClosed is the cause when the node was told to stop.
var errClosed = errors.New("closed")

// Open starts a node and returns when it listens; it may not have a leader yet.  When ctx ends later, the node runs on.
func Open(ctx context.Context, opts Options) (*Node, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	n := &Node{
		opts: opts, done: make(chan struct{}), rafting: make(chan struct{}), changes: broadcast{c: make(chan struct{})},
		addresses: map[string]address{}, seen: map[string]string{}, refused: map[string]bool{}, opened: time.Now(),
	}
	n.ctx, n.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if err := n.open(ctx); err != nil {
		n.cancel(err)
		n.releaseAll()
		return nil, err
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) (err error) {
	if n.dir, err = openDirectory(n.opts.DataDir); err != nil {
		return err
	}
	n.id = n.dir.identity().ID
	n.sessions.node = n.id
	n.opts.Logger = n.opts.Logger.With("node", n.id)
	if n.store, err = openLogStore(n.dir, &n.opts); err != nil {
		return err
	}
	if n.snapshots, err = openSnapshots(n.dir, &n.opts); err != nil {
		return err
	}
	if err := n.checkLog(n.snapshots.end()); err != nil {
		return err
	}
	if n.stream, err = listen(ctx, &n.opts); err != nil {
		return err
	}
	n.stream.admit, n.stream.own, n.stream.refused = n.admit, n.preamble, n.raftRefused
	n.stream.serve = n.serve
	n.links = newLinks(n.stream, n.opts.timing.request)
	n.messages = newLinks(n.stream, n.opts.timing.request)
	n.reads = &rounds{ctx: n.ctx, run: n.askReadIndex}
	n.machine = newMachine(n.fail, n.applied)
	if n.opts.Changes != nil {
		n.machine.state.Observe(n.opts.Changes)
	}
	if err := n.startRaft(n.snapshots); err != nil {
		return err
	}
	n.start()
	return nil
}

func (n *Node) checkLog(s snapshotEnd) error {
	repaired, err := n.store.repair(s)
	if err != nil {
		return err
	}
	if repaired {
		n.opts.Logger.Warn("cluster: log deleted, since its end contradicted the snapshot; the leader sends it anew", "snapshot", s.index)
	}
	return n.store.verify(s.index)
}

// startRaft makes raft run.  It answers some errors of the disk with a panic, here too.
func (n *Node) startRaft(snapshots *snapshotStore) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cluster: start raft: %v", r)
		}
	}()
	cache, err := raft.NewLogCache(512, n.store)
	if err != nil {
		return fmt.Errorf("cluster: start raft: %w", err)
	}
	had, err := raft.HasExistingState(n.store, n.store, snapshots)
	if err != nil {
		return fmt.Errorf("cluster: start raft: %w", err)
	}
	n.empty = !had
	n.transport = &namedTransport{NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.stream, MaxPool: 3, Timeout: n.opts.timing.request, Logger: newRaftLogger(n.opts.Logger), MsgpackUseNewTimeFormat: true,
	}), current: n.currentAddress, patient: n.leads, wait: n.redialPause, snapshot: snapshots.end, rpcs: make(chan raft.RPC)}
	n.stream.wg.Go(func() { n.transport.pump(n.stream.ctx) })
	snapshots.logs = cache
	led := make(chan bool, 16) // raft waits for room in it
	n.raft, err = raft.NewRaft(n.opts.newRaftConfig(n.id, led), n.machine, cache, n.store, snapshots, n.transport)
	if err == nil {
		err = n.machine.failed
	}
	if err != nil {
		return fmt.Errorf("cluster: start raft: %w", err)
	}
	close(n.rafting)
	fail := n.fail
	n.store.fail.Store(&fail)
	n.wg.Go(func() { n.lead(led) })
	n.wg.Go(n.watchLeader)
	return nil
}

// leads reports whether this node leads, and has that one in its configuration.
func (n *Node) leads(id raft.ServerID) bool {
	if !n.IsLeader() {
		return false
	}
	return slices.ContainsFunc(n.raft.GetConfiguration().Configuration().Servers, func(s raft.Server) bool { return s.ID == id })
}

// redialPause is the time between two attempts at a node that is down; false means that this one stops.
func (n *Node) redialPause() bool {
	pause := time.NewTimer(50 * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// start starts what needs the node as a whole.
func (n *Node) start() {
	n.stream.start()
	id := n.dir.identity()
	if id.Cluster != "" || !n.empty {
		if n.opts.Expect > 0 {
			n.opts.Logger.Info("cluster: expect is ignored, since the data directory belongs to a cluster already", "cluster", id.Cluster)
		}
	} else {
		n.wg.Go(n.form)
	}
	n.wg.Go(n.stayKnown)
	n.wg.Go(n.publish)
	go n.supervise() // Close waits for it
}

// fail stops the node because of err.  It does not wait.
func (n *Node) fail(err error) {
	if n.ctx.Err() == nil {
		n.opts.Logger.Error("cluster: node stops", "err", err)
	}
	n.cancel(err)
}

func (n *Node) supervise() {
	<-n.ctx.Done()
	n.releaseAll()
	if err := context.Cause(n.ctx); err != errClosed {
		n.err = err
	}
	close(n.done)
}

// releaseAll ends all that was started, in the order in which one needs the other; the context has ended.
func (n *Node) releaseAll() {
	// What was proposed must be answered while raft still runs: it forgets entries that it has committed but not applied when it shuts down.
	// At the latest that is when the leader, cut off, gives up leading.
	n.wg.Wait()
	if n.reads != nil {
		n.reads.wait()
	}
	if n.stream != nil {
		n.stream.Close()
		n.links.close()
		n.messages.close()
		n.stream.wait()
	}
	if n.raft != nil {
		if err := n.raft.Shutdown().Error(); err != nil {
			n.opts.Logger.Warn("cluster: stop raft", "err", err)
		}
	}
	if n.transport != nil {
		n.transport.CloseStreams()
		n.transport.Close()
	}
	if n.store != nil {
		if err := n.store.Close(); err != nil {
			n.opts.Logger.Warn("cluster: close log", "err", err)
		}
	}
	if n.dir != nil {
		n.dir.close()
	}
}

// ID is the node's id, minted when the data directory was made.
func (n *Node) ID() string { return n.id }

// Address is where other nodes reach this one.
func (n *Node) Address() string { return n.stream.advertise }

// LocalView returns what this node has applied so far, which may be old.
func (n *Node) LocalView() *fsm.View { return n.machine.state.View() }

// IsLeader reports whether this node leads and has applied all that earlier leaders committed.  Another node may have taken over
// since: only what goes through the log is safe.
func (n *Node) IsLeader() bool {
	t := n.term.Load()
	return t != nil && t.leads()
}

// Done is closed when the node stopped, by itself or because it was told; Err then says why, nil after Shutdown or Close.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns nil until Done is closed, and then why: [ErrDamaged], [ErrRemoved], [ErrWrongCluster], [ErrDiverged], an error of the
// disk, or nil if the node was told to stop.
func (n *Node) Err() error {
	select {
	case <-n.done:
		return n.err
	default:
		return nil
	}
}

// Close stops at once and returns when everything has stopped.
func (n *Node) Close() error {
	n.cancel(errClosed)
	<-n.done
	return nil
}

// Shutdown hands leadership over if this node has it, then stops.  When ctx ends it stops at once.
func (n *Node) Shutdown(ctx context.Context) error {
	if t := n.term.Load(); t != nil {
		ctx, cancel := context.WithTimeout(ctx, 4*n.opts.timing.election)
		if err := t.transfer(ctx, ""); err != nil && !errors.Is(err, errAlone) {
			n.opts.Logger.Warn("cluster: leadership was not handed over", "err", err)
		}
		cancel()
	}
	return n.Close()
}

// applied is told of each new state by the state machine.
func (n *Node) applied(v *fsm.View) {
	if id := v.ClusterID(); id != "" && n.dir.identity().Cluster == "" {
		if err := n.dir.update(func(i *identity) error {
			i.Cluster, i.Promise = id, nil
			return nil
		}); err != nil {
			n.fail(err)
		}
		n.opts.Logger.Info("cluster: member", "cluster", id)
	}
	if self, ok := v.Node(n.id); ok && self.Removed {
		n.fail(ErrRemoved)
	}
}

// watchLeader follows who leads.
func (n *Node) watchLeader() {
	c := make(chan raft.Observation, 16) // may overflow: what is in it is enough to look
	o := raft.NewObserver(c, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(o)
	defer n.raft.DeregisterObserver(o)
	for {
		address, id := n.raft.LeaderWithID()
		n.mu.Lock()
		leader := peer{string(id), string(address)}
		changed := leader != n.leader
		n.leader = leader
		n.mu.Unlock()
		if changed {
			if leader.ID != "" {
				n.leaderChanges.Add(1)
			}
			n.changes.wake()
		}
		select {
		case <-c:
		case <-n.ctx.Done():
			return
		}
	}
}

// await calls f, which waits for raft, and no longer than the node runs: raft answers neither of the requests that need this when the disk
// failed it just then.  Shutting raft down ends f.
func (n *Node) await(f func() error) error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	select {
	case err := <-c:
		return err
	case <-n.ctx.Done():
		return ErrStopped
	}
}

func (n *Node) currentLeader() peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader
}

// broadcast wakes all who wait for a change.
type broadcast struct {
	mu sync.Mutex
	c  chan struct{}
}

func (b *broadcast) wake() {
	b.mu.Lock()
	close(b.c)
	b.c = make(chan struct{})
	b.mu.Unlock()
}

// channel returns a channel that is closed at the next change.
func (b *broadcast) channel() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.c
}

// sleep returns when the time has passed, spread by a half, or early when wake is closed; false if ctx ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
	case <-wake:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// defaultTimeout bounds operations whose context has no deadline.
const defaultTimeout = 10 * time.Second

// bounded returns a context that ends with ctx, or with the node, or after the default time.
func (n *Node) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	cancelTime := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancelTime = context.WithTimeout(ctx, defaultTimeout)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.ctx, func() { cancel(ErrStopped) })
	return ctx, func() { stop(); cancel(nil); cancelTime() }
}

// retry tries until it works, the error is final, or ctx ends.  What is tried must be such that doing it twice is doing it once.
func (n *Node) retry(ctx context.Context, try func(context.Context) error) error {
	var last error
	unknown := false
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if ctx.Err() != nil {
			return n.gaveUp(ctx, unknown, last)
		}
		changed := n.changes.channel()
		attempt, cancel := context.WithTimeout(ctx, n.opts.timing.request)
		err := try(attempt)
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNotRun):
		case errors.Is(err, ErrUnknownOutcome), errors.Is(err, errLost):
			unknown = true
		default:
			return err
		}
		last = err
		if !sleep(ctx, pause, changed) {
			return n.gaveUp(ctx, unknown, last)
		}
	}
}

func (n *Node) gaveUp(ctx context.Context, unknown bool, last error) error {
	cause := context.Cause(ctx)
	kind := ErrNoLeader
	switch {
	case unknown:
		kind = ErrUnknownOutcome
	case errors.Is(cause, ErrStopped):
		return ErrStopped
	}
	if last == nil {
		return fmt.Errorf("%w: %w", kind, cause)
	}
	return fmt.Errorf("%w: %w (last: %v)", kind, cause, last)
}

// onLeader runs a request on the leader: here by local, or there.
func (n *Node) onLeader(ctx context.Context, kind requestKind, body []byte, local func(context.Context, *term) ([]byte, error)) ([]byte, error) {
	if t := n.term.Load(); t != nil {
		return local(ctx, t)
	}
	leader := n.currentLeader()
	if leader.ID == "" || leader.ID == n.id {
		return nil, errNotRun
	}
	changed := n.changes.channel()
	if n.currentLeader() != leader {
		return nil, errNotRun
	}
	return n.callPeer(ctx, leader, kind, body, changed)
}

// callPeer sends a request to a node.  A leader that hangs is given up as soon as changed says that there is another.
func (n *Node) callPeer(ctx context.Context, p peer, kind requestKind, body []byte, changed <-chan struct{}) ([]byte, error) {
	address := n.currentAddress(raft.ServerID(p.ID), raft.ServerAddress(p.Address))
	return n.links.call(ctx, string(address), p.ID, kind, body, changed)
}

// Apply implements naming.Store: it runs a command and returns its result once it cannot be lost, wherever the leader is and
// even if it changes meanwhile, until ctx ends; without a deadline that is 10 s.  The command runs at most once, in a session of this node
// if it has none.
//
// The error is [ErrNoLeader] or [ErrStopped] if the command surely did not run, [ErrUnknownOutcome] if it may have run, each with ctx's cause;
// any other error comes from Prepare or says what is wrong with the command, which did not run.
func (n *Node) Apply(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	if c.Session == "" {
		var end func()
		c.Session, c.Sequence, c.Floor, end = n.sessions.begin()
		defer end()
	}
	entry, err := fsm.EncodeEntry([]fsm.Command{c})
	if err != nil {
		return fsm.Result{}, err
	}
	if len(entry) > maxCommandBytes {
		return fsm.Result{}, fmt.Errorf("cluster: command of %d bytes: want at most %d", len(entry), maxCommandBytes)
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	var result fsm.Result
	err = n.retry(ctx, func(ctx context.Context) error {
		body, err := n.onLeader(ctx, requestApply, entry, func(ctx context.Context, t *term) ([]byte, error) {
			var err error
			result, err = t.batcher.apply(ctx, c, len(entry))
			return nil, err
		})
		if err != nil || body == nil {
			return err
		}
		result, err = parseResult(body)
		return err
	})
	return result, err
}
