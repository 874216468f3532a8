package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Bounds of what the leader takes.
const (
	maxCommandBytes = 512 << 10 // one command, encoded
	maxEntryBytes   = 512 << 10 // a log entry, but for one larger command alone in its entry
	maxQueued       = 4096      // commands that wait for the next entry
	maxInFlight     = 2         // entries; more only make each one smaller
	enqueueTimeout  = time.Second
)

// proposal is a command on its way into the log.
type proposal struct {
	command fsm.Command
	size    int
	state   atomic.Int32 // queued, then taken or given up
	done    chan outcome // gets one if taken
}

const (
	queued int32 = iota
	taken
	givenUp
)

type outcome struct {
	result fsm.Result
	err    error
}

// batcher packs the commands that wait into log entries (group commit): while entries are in flight the next one collects, and nothing
// ever waits for a timer.  It is the only one who writes commands to the log in a term.
type batcher struct {
	raft interface {
		ApplyLog(raft.Log, time.Duration) raft.ApplyFuture
	}
	view    func() *fsm.View
	prepare func(*fsm.View, fsm.Command) (fsm.Command, error)
	now     func() time.Time
	observe func(took time.Duration, commands int) // told of entries that landed; may be nil

	queue chan *proposal
	ended chan struct{} // closed when run has ended: what is queued then will not run

	last int64         // time of the latest command
	room chan struct{} // one for each entry in flight
	held *proposal     // taken from the queue for the next entry
}

func newBatcher(r *raft.Raft, view func() *fsm.View, prepare func(*fsm.View, fsm.Command) (fsm.Command, error)) *batcher {
	return &batcher{raft: r, view: view, prepare: prepare, now: time.Now, queue: make(chan *proposal, maxQueued),
		ended: make(chan struct{}), room: make(chan struct{}, maxInFlight)}
}

// apply runs a command.  The error is errNotRun or ErrUnknownOutcome, wrapped, or final.
func (b *batcher) apply(ctx context.Context, c fsm.Command, size int) (fsm.Result, error) {
	p := &proposal{command: c, size: size, done: make(chan outcome, 1)}
	select {
	case b.queue <- p:
	case <-b.ended:
		return fsm.Result{}, errNotRun
	case <-ctx.Done():
		return fsm.Result{}, fmt.Errorf("%w: %w", errNotRun, context.Cause(ctx))
	}
	select {
	case o := <-p.done:
		return o.result, o.err
	case <-b.ended:
		if p.state.CompareAndSwap(queued, givenUp) {
			return fsm.Result{}, errNotRun
		}
		o := <-p.done // there is one: what is taken is answered before run ends
		return o.result, o.err
	case <-ctx.Done():
		if p.state.CompareAndSwap(queued, givenUp) {
			return fsm.Result{}, fmt.Errorf("%w: %w", errNotRun, context.Cause(ctx))
		}
		return fsm.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	}
}

// run packs and proposes until ctx ends, and returns when all entries in flight are answered.
func (b *batcher) run(ctx context.Context) {
	defer close(b.ended)
	b.last = b.view().Time()
	var flights sync.WaitGroup
	defer flights.Wait()
	inOrder := make(chan flight, maxInFlight)
	defer close(inOrder)
	flights.Go(func() {
		for f := range inOrder {
			if f.land() && b.observe != nil {
				b.observe(time.Since(f.start), len(f.batch))
			}
			<-b.room
		}
	})
	for {
		first := b.next(ctx)
		if first == nil {
			return
		}
		if first.command.Kind == fsm.KindRemoveMatching && !b.prepared(first) {
			<-b.room
			continue
		}
		inOrder <- b.propose(b.pack(first))
	}
}

// next waits for a command and for room in flight, or returns nil when ctx has ended.
func (b *batcher) next(ctx context.Context) *proposal {
	select {
	case b.room <- struct{}{}:
	case <-ctx.Done():
		return b.release()
	}
	for {
		if p := b.held; p != nil {
			b.held = nil
			return p
		}
		select {
		case p := <-b.queue:
			if p.state.CompareAndSwap(queued, taken) {
				return p
			}
		case <-ctx.Done():
			return b.release()
		}
	}
}

func (b *batcher) release() *proposal {
	if b.held != nil {
		b.held.done <- outcome{err: errNotRun}
		b.held = nil
	}
	return nil
}

// prepared replaces a command that needs the state by what enters the log.  All entries in flight land first, and the command comes
// first in its entry, so the state is exactly the one that it will be applied to.
func (b *batcher) prepared(p *proposal) bool {
	for range maxInFlight - 1 {
		b.room <- struct{}{}
	}
	for range maxInFlight - 1 {
		<-b.room
	}
	if b.prepare == nil {
		p.done <- outcome{err: errors.New("cluster: a command needs preparation, and this node has none")}
		return false
	}
	c, err := b.prepare(b.view(), p.command)
	if err == nil {
		_, err = fsm.EncodeEntry([]fsm.Command{c})
	}
	if err != nil {
		p.done <- outcome{err: err}
		return false
	}
	p.command = c
	return true
}

// pack takes what else is queued.
func (b *batcher) pack(first *proposal) []*proposal {
	batch, size := []*proposal{first}, first.size
	for {
		select {
		case p := <-b.queue:
			switch {
			case !p.state.CompareAndSwap(queued, taken):
			case p.command.Kind == fsm.KindRemoveMatching || size+p.size > maxEntryBytes:
				b.held = p
				return batch
			default:
				batch, size = append(batch, p), size+p.size
			}
		default:
			return batch
		}
	}
}

// flight is an entry that was proposed.
type flight struct {
	batch  []*proposal
	start  time.Time
	future raft.ApplyFuture
	err    error
}

func (b *batcher) propose(batch []*proposal) flight {
	b.last = max(b.last, b.now().UnixNano())
	commands := make([]fsm.Command, len(batch))
	for i, p := range batch {
		commands[i] = p.command
		commands[i].Time = b.last
	}
	entry, err := fsm.EncodeEntry(commands)
	if err != nil {
		return flight{batch: batch, err: err}
	}
	return flight{batch: batch, start: time.Now(), future: b.raft.ApplyLog(raft.Log{Data: entry}, enqueueTimeout)}
}

// land waits for the entry and answers its commands.  It reports whether they ran.
func (f *flight) land() bool {
	results, err := f.wait()
	if err == nil && len(results) != len(f.batch) {
		err = fmt.Errorf("%w: %d results for %d commands", ErrUnknownOutcome, len(results), len(f.batch))
	}
	for i, p := range f.batch {
		o := outcome{err: err}
		if err == nil {
			o.result = results[i]
		}
		p.done <- o
	}
	return err == nil
}

func (f *flight) wait() ([]fsm.Result, error) {
	if f.err != nil {
		return nil, f.err
	}
	a, err := landed(f.future)
	return a.results, err
}

// landed says what is known of a proposed entry.  Refused before it was in the leader's own log, it cannot come to be committed.  After
// that it may, whatever raft answers: a disk that reported an error may have the entry, a new leader may have got it.
func landed(f raft.ApplyFuture) (applied, error) {
	err := f.Error()
	switch err {
	case nil:
		a, ok := f.Response().(applied)
		if !ok {
			return a, fmt.Errorf("%w: answer %T", ErrUnknownOutcome, f.Response())
		}
		if a.err != nil {
			return a, fmt.Errorf("%w: %w", ErrUnknownOutcome, a.err)
		}
		return a, nil
	case raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout:
		return applied{}, fmt.Errorf("%w: %w", errNotRun, err)
	default:
		return applied{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}
