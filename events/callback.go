package events

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

const (
	callbackTimeout  = 10 * time.Second       // for one call
	callbackConnect  = 2 * time.Second        // for a connection
	callbackPatience = 30 * time.Second       // of failing until a callback's subscription ends
	callbackRetry    = 100 * time.Millisecond // between two attempts; grows to a second
	viewTimeout      = 2 * time.Second
	handOverTimeout  = 2 * time.Second

	// ownerLease is how long a node may call a callback after it has made sure, with a read that a majority confirmed, that it is the one to do so.
	// Whoever takes over waits longer than that before it begins, so that two nodes never call at the same time (a lease as in
	// the Raft thesis, section 6.4.1; clocks only have to run at about the same speed).
	ownerLease = 500 * time.Millisecond
	ownerHold  = 650 * time.Millisecond
	// deadAfter is how long a node may not answer the leader until others take over its callbacks.
	deadAfter      = 500 * time.Millisecond
	reassignPeriod = 100 * time.Millisecond
	maxAssignments = 1000 // of one command
)

// callback is a callback subscriber of the cluster, as this node knows it; guarded by Broker.mu.
type callback struct {
	sub      fsm.Subscriber
	patterns []Pattern
	worker   *worker // nil unless this node delivers
}

// worker calls a callback, one event at a time.
type worker struct {
	b        *Broker
	uri      core.URI
	queue    *queue
	proxy    *core.Proxy
	begin    time.Time                 // not before
	ownUntil atomic.Pointer[time.Time] // the lease; nil if there was none yet
	calling  atomic.Bool               // an event has left the queue, and may not have been delivered
	fence    atomic.Bool               // nothing may be written without the lease
	modified uint64                    // sign of life of the subscriber that is known
	success  time.Time                 // of the last call, or a sign of life
	retired  bool                      // another node calls now
}

// followCallbacks keeps Broker.callbacks as the replicated state has it, and links to the nodes that are in it.
func (b *Broker) followCallbacks() {
	// A node that was restarted reads its log first: what it finds in it is no news.
	for {
		ctx, cancel := context.WithTimeout(b.ctx, viewTimeout)
		_, err := b.cluster.View(ctx)
		cancel()
		b.followNodes()
		if err == nil {
			break
		}
		if !pause(b.ctx, callbackRetry) {
			return
		}
	}
	b.refreshCallbacks(true)
	close(b.started)
	for {
		b.followNodes()
		b.refreshCallbacks(false)
		select {
		case <-b.refresh:
		case <-b.ctx.Done():
			b.stopWorkers()
			return
		}
	}
}

func (b *Broker) stopWorkers() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, cb := range b.callbacks {
		if cb.worker != nil {
			cb.worker.queue.end("")
		}
	}
}

// refreshCallbacks takes over changes of the replicated state.  First says that the node has just started.
func (b *Broker) refreshCallbacks(first bool) {
	view := b.cluster.LocalView()
	b.mu.Lock()
	defer b.mu.Unlock()
	version := view.SubscribersVersion()
	if version == b.refreshed {
		return
	}
	seen := make(map[string]bool, len(b.callbacks))
	for sub := range view.Subscribers() {
		seen[sub.URI] = true
		b.update(sub, first)
	}
	for uri, cb := range b.callbacks {
		if !seen[uri] {
			b.leave(cb)
			b.called.removeValue(cb)
			delete(b.callbacks, uri)
		}
	}
	b.refreshed = version
	b.announce()
}

// update takes over one subscriber.
func (b *Broker) update(sub fsm.Subscriber, first bool) {
	cb := b.callbacks[sub.URI]
	if cb == nil {
		cb = &callback{}
		b.callbacks[sub.URI] = cb
	}
	if cb.sub.Modified == sub.Modified && cb.sub.Assigned == sub.Assigned && slices.Equal(cb.sub.Patterns, sub.Patterns) {
		return
	}
	moved := cb.sub.Assigned != sub.Assigned
	cb.sub = sub
	b.called.removeValue(cb)
	cb.patterns = cb.patterns[:0:0]
	for _, text := range sub.Patterns {
		p, err := patternFromString(text)
		if err != nil { // written by a newer version, or by hand
			b.opts.Logger.Error("events: pattern in the state", "subscriber", sub.URI, "error", err)
			continue
		}
		cb.patterns = append(cb.patterns, p)
		b.called.add(p, cb)
	}
	if moved {
		b.leave(cb)
	}
	switch {
	case sub.Owner != b.self:
	case cb.worker == nil:
		b.takeOver(cb, moved, first)
	default:
		cb.worker.queue.configure(policyOf(sub), sub.Queue)
	}
}

// policyOf returns the policy of a subscriber; one that a newer version wrote counts as the default.
func policyOf(sub fsm.Subscriber) Policy {
	p, err := ParsePolicy(sub.Policy)
	if err != nil {
		return DropOldest
	}
	return p
}

// leave lets the worker of a callback deliver what it has, while its lease lasts, and take nothing more.
func (b *Broker) leave(cb *callback) {
	if cb.worker != nil {
		cb.worker.queue.end("")
		cb.worker = nil
	}
}

// takeOver begins to deliver to a callback.
func (b *Broker) takeOver(cb *callback, moved, first bool) {
	uri, err := core.ParseURI(cb.sub.URI)
	if err != nil {
		b.opts.Logger.Error("events: subscriber in the state", "uri", cb.sub.URI, "error", err)
		return
	}
	opts := b.opts.Proxy
	opts.Serializer, opts.AwaitOneway, opts.ConnectTimeout, opts.MaxConns, opts.MaxIdle = cb.sub.Serializer, true, callbackConnect, 0, 1
	now := time.Now()
	w := &worker{b: b, uri: uri, queue: newQueue(policyOf(cb.sub), cb.sub.Queue, b.drop), begin: now, modified: cb.sub.Modified, success: now}
	opts.Dial, opts.Plain = w.fenced(opts.Dial), true // what is fenced is a call with its connection
	w.proxy = core.NewProxy(uri, opts)
	switch {
	case first:
		w.queue.miss("its node was restarted")
	case moved && cb.sub.Previous != "":
		w.begin = now.Add(ownerHold)
		w.queue.miss("its node " + cb.sub.Previous + " was lost")
	}
	cb.worker = w
	b.wg.Go(w.run)
}

// run calls the callback with one event after the other until the queue has ended.
func (w *worker) run() {
	defer w.calling.Store(false)
	defer w.queue.discard(dropGone)
	defer w.proxy.Close()
	if !pause(w.b.ctx, time.Until(w.begin)) {
		return
	}
	var one [1]*routed
	var missed loss
	for w.b.ctx.Err() == nil {
		w.calling.Store(true)
		t := w.queue.take(one[:0], 1, batchBytes)
		w.calling.Store(len(t.events) > 0)
		missed.add(t.loss)
		switch {
		case len(t.events) == 1:
			if w.deliver(t.events[0], missed) {
				missed = loss{}
			} else {
				missed.lost++
			}
			if w.retired {
				w.queue.discard(dropMoved)
				return
			}
		case t.ended:
			if t.reason != "" { // by its policy
				w.end(t.reason)
			}
			return
		default:
			w.queue.wait(w.b.ctx, heartbeat)
		}
	}
}

// pause waits; false means that ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// deliver calls the callback with an event, trying again while it surely did not get it; false if it may not have.
func (w *worker) deliver(e *routed, missed loss) bool {
	message, err := e.message()
	if err != nil {
		w.b.opts.Logger.Warn("events: event cannot be decoded", "error", err)
		w.b.drop(dropFailed, 1)
		return false
	}
	event := map[string]any{"msg": message, "subject": e.Topic, "time": float64(e.Time.UnixNano()) / 1e9}
	switch {
	case missed.gap != "":
		event["lost"] = -1
	case missed.lost > 0:
		event["lost"] = missed.lost
	}
	for wait := callbackRetry; ; wait = min(2*wait, time.Second) {
		ctx, cancel := context.WithTimeout(w.b.ctx, callbackTimeout)
		if again := wait > callbackRetry; again {
			_ = w.proxy.Ping(ctx) // connects, for which the lease may be too short; the call tells if it did not
		}
		if !w.confirm() {
			cancel()
			w.b.drop(dropMoved, 1)
			return false
		}
		w.fence.Store(true)
		err := w.proxy.Call(ctx, "event", nil, event)
		w.fence.Store(false)
		cancel()
		again, delivered := w.judge(err)
		if !again {
			return delivered
		}
		if !pause(w.b.ctx, wait) {
			return false
		}
	}
}

// fenced makes connections that do not take a call any more when the lease has ended: the process may have been stopped between confirm and the call,
// and another node calls by now.
func (w *worker) fenced(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &fencedConn{conn, w}, nil
	}
}

type fencedConn struct {
	net.Conn
	w *worker
}

// SyscallConn lets the proxy look whether the other end has closed the connection.
func (c *fencedConn) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := c.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

var errFenced = errors.New("events: the node may not be the callback's any more")

// Write looks as late as possible; what is left is the time between two instructions.
func (c *fencedConn) Write(b []byte) (int, error) {
	if c.w.fence.Load() && !c.w.leased() {
		return 0, errFenced
	}
	return c.Conn.Write(b)
}

// judge says what the outcome of a call means.
func (w *worker) judge(err error) (again, delivered bool) {
	switch core.OutcomeOf(err) {
	case core.CallOK:
		w.success = time.Now()
		w.b.counters.callbacks.Add(1)
		return false, true
	case core.CallException: // it got the event; what it makes of it is its own affair
		w.success = time.Now()
		w.b.counters.callbacks.Add(1)
		w.b.opts.Logger.Warn("events: callback raised an exception", "uri", w.uri.String(), "error", err)
		return false, true
	case core.CallUnknown:
		w.b.drop(dropFailed, 1)
		w.giveUp(err)
		return false, false
	}
	if local, ok := errors.AsType[*core.LocalError](err); ok { // it has no such method, or the message cannot be sent to it
		w.b.opts.Logger.Warn("events: callback cannot be called", "uri", w.uri.String(), "error", local)
		w.b.drop(dropFailed, 1)
		w.giveUp(err)
		return false, false
	}
	return !w.giveUp(err), false
}

// confirm makes sure that this node is still the one to call; it waits while no majority answers.
func (w *worker) confirm() bool {
	for !w.leased() {
		start := time.Now()
		ctx, cancel := context.WithTimeout(w.b.ctx, viewTimeout)
		view, err := w.b.cluster.View(ctx)
		cancel()
		if err != nil {
			if !pause(w.b.ctx, callbackRetry) {
				return false
			}
			continue
		}
		sub, ok := view.Subscriber(w.uri.String())
		if !ok || sub.Owner != w.b.self {
			w.retired = true
			return false
		}
		if sub.Modified != w.modified { // it has subscribed again
			w.modified, w.success = sub.Modified, time.Now()
		}
		w.lease(start)
	}
	return w.b.ctx.Err() == nil
}

// leased reports whether this node can still rely on the last time it made sure.
func (w *worker) leased() bool {
	until := w.ownUntil.Load()
	return until != nil && time.Now().Before(*until)
}

// lease notes that at that time this node was the one to call.
func (w *worker) lease(at time.Time) {
	until := at.Add(ownerLease)
	w.ownUntil.Store(&until)
}

// drained returns when nothing is left to deliver, or ctx ends.
func (w *worker) drained(ctx context.Context) {
	for w.queue.waiting() > 0 || w.calling.Load() {
		if !pause(ctx, 5*time.Millisecond) {
			return
		}
	}
}

// giveUp ends the subscription if the callback has failed for too long, and reports whether it did.
func (w *worker) giveUp(cause error) bool {
	if time.Since(w.success) < callbackPatience {
		return false
	}
	return w.end("callback fails: " + cause.Error())
}

// end ends the subscription, unless its program has subscribed again.
func (w *worker) end(reason string) bool {
	w.b.opts.Logger.Warn("events: subscription ended", "uri", w.uri.String(), "reason", reason)
	ctx, cancel := context.WithTimeout(w.b.ctx, viewTimeout)
	defer cancel()
	_, err := w.b.cluster.Apply(ctx, fsm.Command{Kind: fsm.KindUnsubscribe, Name: w.uri.String(), IfModified: w.modified,
		Actor: w.b.self, Reason: reason})
	if err != nil {
		w.b.opts.Logger.Warn("events: end a subscription", "uri", w.uri.String(), "error", err)
	}
	return err == nil
}

// reassign gives the callbacks of nodes that do not answer to others, while this node leads.
func (b *Broker) reassign() {
	ticker := time.NewTicker(reassignPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.ctx.Done():
			return
		}
		if b.cluster.IsLeader() {
			b.assign(b.ctx, b.orphans(time.Now()), "its node does not answer")
		}
	}
}

// orphans returns the callbacks whose nodes are dead or gone.
func (b *Broker) orphans(now time.Time) (subs []fsm.Subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, cb := range b.callbacks {
		p := b.peers[cb.sub.Owner]
		alive := cb.sub.Owner == b.self || p != nil && p.stop != nil && (p.failing.IsZero() || now.Sub(p.failing) < deadAfter)
		if !alive {
			subs = append(subs, cb.sub)
		}
	}
	return subs
}

// assign gives callbacks to the nodes that have the fewest.
func (b *Broker) assign(ctx context.Context, subs []fsm.Subscriber, reason string) {
	load := b.load()
	if len(subs) == 0 || len(load) == 0 {
		return
	}
	slices.SortFunc(subs, func(a, c fsm.Subscriber) int { return compareStrings(a.URI, c.URI) })
	nodes := slices.Sorted(maps.Keys(load))
	for part := range slices.Chunk(subs, maxAssignments) {
		assignments := make([]fsm.Assignment, len(part))
		for i, sub := range part {
			to := slices.MinFunc(nodes, func(a, c string) int { return load[a] - load[c] })
			load[to]++
			assignments[i] = fsm.Assignment{Subscriber: sub.URI, Assigned: sub.Assigned, Owner: to}
		}
		applyCtx, cancel := context.WithTimeout(ctx, viewTimeout)
		_, err := b.cluster.Apply(applyCtx, fsm.Command{Kind: fsm.KindAssign, Assignments: assignments, Actor: b.self, Reason: reason})
		cancel()
		if err != nil {
			b.opts.Logger.Warn("events: move callbacks", "count", len(assignments), "error", err)
			return
		}
		b.opts.Logger.Info("events: callbacks moved", "count", len(assignments), "reason", reason)
	}
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// load returns how many callbacks each node has that could take more.
func (b *Broker) load() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	load := map[string]int{}
	if !b.draining {
		load[b.self] = 0
	}
	for node, p := range b.peers {
		if p.answers && p.failing.IsZero() {
			load[node] = 0
		}
	}
	for _, cb := range b.callbacks {
		if _, ok := load[cb.sub.Owner]; ok {
			load[cb.sub.Owner]++
		}
	}
	return load
}

// handOver gives the callbacks of this node to others, and waits until what it still has for them is delivered, or its lease has ended.
func (b *Broker) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	var subs []fsm.Subscriber
	var workers []*worker
	b.mu.Lock()
	for _, cb := range b.callbacks {
		if cb.sub.Owner == b.self {
			subs = append(subs, cb.sub)
		}
		if cb.worker != nil {
			workers = append(workers, cb.worker)
		}
	}
	b.mu.Unlock()
	if len(subs) == 0 {
		return
	}
	// What is still in the queues can be delivered after the others have taken over, as long as the lease lasts that is renewed here.
	start := time.Now()
	if view, err := b.cluster.View(ctx); err == nil {
		for _, w := range workers {
			if sub, ok := view.Subscriber(w.uri.String()); ok && sub.Owner == b.self {
				w.lease(start)
			}
		}
	}
	b.assign(ctx, subs, "its node stops")
	for _, w := range workers {
		w.drained(ctx)
	}
}
