package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	readWait    = time.Second // that a node may keep a question for events
	readTimeout = time.Second // beyond that, until the node is given up
	askLimit    = readWait + readTimeout
)

// SubscribeOptions say what to subscribe to.
type SubscribeOptions struct {
	Topics      []string // exact, or with wildcard tokens: "prices.*.eur", "prices.>"
	Expressions []string // regular expressions of Python, case-insensitive, matched at the beginning of a topic
	Policy      Policy   // empty means DropOldest
	Queue       int      // events; zero means DefaultQueue
}

// check finds mistakes before a node is asked.
func (o *SubscribeOptions) check() (map[string]any, error) {
	if len(o.Topics)+len(o.Expressions) == 0 {
		return nil, errors.New("events: nothing to subscribe to: give topics or expressions")
	}
	for _, s := range o.Topics {
		if _, err := ParsePattern(s); err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
	}
	for _, s := range o.Expressions {
		if _, err := ParseExpression(s); err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
	}
	policy, err := ParsePolicy(string(o.Policy))
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	queue, err := checkQueue(o.Queue)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	return map[string]any{"topics": texts(o.Topics), "expressions": texts(o.Expressions), "policy": string(policy), "queue": queue}, nil
}

// Subscription is a stream of events.  Next and All are for one goroutine at a time; Close may be called by any.
type Subscription struct {
	c       *Client
	options map[string]any
	ctx     context.Context // ends with the subscription
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when the reader has ended
	handed  chan handed

	// Of the goroutine that calls Next.
	current  handed
	newest   publisherSet
	terminal error
}

// handed is what the reader gives to Next: a batch, or why there is a gap, or the end.
type handed struct {
	batch batch
	lost  *LostError
	end   error
}

// Subscribe returns a subscription once a node has it: events published from then on, through any node of the cluster, are heard.  ctx bounds
// only that.
func (c *Client) Subscribe(ctx context.Context, opts SubscribeOptions) (*Subscription, error) {
	options, err := opts.check()
	if err != nil {
		return nil, &core.LocalError{Err: err}
	}
	s := &Subscription{c: c, options: options, done: make(chan struct{}), handed: make(chan handed)}
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	ctx, cancel := c.until(ctx, openLimit)
	defer cancel()
	var conn *streamConn
	for at := range c.rounds() {
		conn, err = s.open(ctx, at, true)
		break
	}
	if err == nil && !c.start(func() { s.read(conn) }) {
		conn.proxy.Close()
		err = core.ErrClosed
	}
	if err != nil {
		s.cancel(err)
		return nil, err
	}
	return s, nil
}

// streamConn is a stream at a node.
type streamConn struct {
	at    int
	proxy *core.Proxy
	id    string
}

// open makes a stream at the first node that answers, from one on.  A new subscription ends when no node lets us in; one that was heard already
// outlives a mistake with certificates or secrets.
func (s *Subscription) open(ctx context.Context, first int, anew bool) (*streamConn, error) {
	nodes := s.c.nodes
	var wait backoff
	barred := 0 // nodes of this round that will not let us in
	for i := 0; ; i++ {
		at := (first + i) % len(nodes)
		conn := &streamConn{at: at, proxy: core.NewProxy(nodes[at], s.c.opts.Proxy)}
		callCtx, cancel := context.WithTimeout(ctx, askLimit)
		err := conn.proxy.Call(callCtx, "open_stream", &conn.id, s.options)
		cancel()
		if err == nil {
			return conn, nil
		}
		conn.proxy.Close()
		// A stream that was opened without our knowing ends by itself.
		if ctx.Err() != nil || !elsewhere(err) && core.OutcomeOf(err) != core.CallUnknown {
			return nil, err
		}
		s.c.opts.Logger.Debug("events: subscribe", "node", nodes[at].String(), "error", err)
		if errors.Is(err, core.ErrNotAdmitted) {
			barred++
		}
		if (i+1)%len(nodes) > 0 {
			continue
		}
		if anew && barred == len(nodes) || !wait.pause(ctx) {
			return nil, err
		}
		barred = 0
	}
}

// read asks for events until the subscription ends, at one node after the other.
func (s *Subscription) read(conn *streamConn) {
	defer close(s.done)
	var wait backoff
	for {
		reason, end := s.follow(conn, &wait)
		if end != nil || s.ctx.Err() != nil {
			s.leave(conn)
			s.hand(handed{end: end})
			return
		}
		from := s.c.nodes[conn.at]
		s.leaveBehind(conn)
		if wait > 0 && !wait.pause(s.ctx) {
			return
		}
		next, err := s.open(s.ctx, (conn.at+1)%len(s.c.nodes), false)
		if err != nil {
			s.hand(handed{end: &EndedError{Reason: err.Error()}})
			return
		}
		conn = next
		to := s.c.nodes[conn.at]
		s.c.opts.Logger.Info("events: moved", "from", from.String(), "to", to.String(), "reason", reason)
		s.hand(handed{lost: &LostError{Reason: fmt.Sprintf("node %s: %v; now at %s", address(from), reason, address(to))}})
	}
}

// address is a node's host:port, as a person would give it.
func address(uri core.URI) string {
	_, address := uri.Address()
	return address
}

// follow hands out batches until the stream breaks, which has a reason, or the subscription is to end.  It leaves a pause to wait for before the next
// stream, unless it got an answer.
func (s *Subscription) follow(conn *streamConn, wait *backoff) (reason, end error) {
	*wait = max(*wait, backoff(nodePause))
	for {
		b, err := s.ask(conn)
		if err != nil {
			return err, nil
		}
		if b.status == streamOpen {
			*wait = 0
		}
		if !b.isEmpty() || b.lost > 0 || b.reason != "" && b.status == streamOpen {
			if !s.hand(handed{batch: b}) {
				return nil, nil
			}
		}
		switch b.status {
		case streamGone:
			conn.id = "" // there is nothing to close
			return errors.New(b.reason), nil
		case streamCut:
			return nil, &EndedError{Reason: b.reason}
		}
	}
}

// ask reads a batch.  The error does not name the node.
func (s *Subscription) ask(conn *streamConn) (batch, error) {
	ctx, cancel := context.WithTimeout(s.ctx, askLimit)
	defer cancel()
	var raw []byte
	err := conn.proxy.Call(ctx, "read_stream", &raw, conn.id, readWait.Seconds())
	if errors.Is(err, context.DeadlineExceeded) {
		return batch{}, fmt.Errorf("no answer in %v", askLimit)
	}
	if e, ok := errors.AsType[*core.TransportError](err); ok {
		return batch{}, e.Err
	}
	if err != nil {
		return batch{}, err
	}
	return parseBatch(raw)
}

// hand waits until Next takes something; false if the subscription has ended.
func (s *Subscription) hand(h handed) bool {
	select {
	case s.handed <- h:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// leave ends the stream, if there is one, and the connection.
func (s *Subscription) leave(conn *streamConn) {
	defer conn.proxy.Close()
	if conn.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	conn.proxy.Call(ctx, "close_stream", nil, conn.id) // or it ends by itself
}

// leaveBehind is leave without the wait for a node that did not answer as it should.  If it is there nevertheless, publishers would wait for the stream
// if that has the policy Block.
func (s *Subscription) leaveBehind(conn *streamConn) {
	if !s.c.start(func() { s.leave(conn) }) {
		conn.proxy.Close()
	}
}

// Next returns the next event.  A *[LostError] tells of events that were lost at this place, and is not the end.  Other errors are: ctx's when
// it ended (the subscription goes on), [core.ErrClosed] after Close, and a *[EndedError] when the policy Disconnect ended it.
// While no node answers, Next waits.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if s.ctx.Err() != nil {
			return Event{}, core.ErrClosed
		}
		if e, ok, err := s.fromBatch(); ok || err != nil {
			return e, err
		}
		if s.terminal != nil {
			return Event{}, s.terminal
		}
		select {
		case h := <-s.handed:
			h.batch.like.Topic = s.current.batch.like.Topic // the next run mostly has the same
			s.current, s.terminal = h, h.end
		case <-s.ctx.Done():
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// fromBatch returns the next event, or loss, of the batch that is at hand.
func (s *Subscription) fromBatch() (e Event, ok bool, err error) {
	h := &s.current
	if lost := h.lost; lost != nil {
		h.lost = nil
		return Event{}, false, lost
	}
	if b := &h.batch; b.lost > 0 || b.reason != "" && b.status == streamOpen {
		lost := &LostError{Count: b.lost, Reason: b.reason}
		if b.lost, b.reason = 0, ""; lost.Reason == "" {
			lost.Reason = "queue full"
		}
		return Event{}, false, lost
	}
	for !h.batch.isEmpty() {
		e, err := h.batch.next()
		if err != nil {
			return Event{}, false, &LostError{Reason: err.Error()}
		}
		// What comes late or twice, by a node from which the subscription moved or a publisher moved, is not delivered.
		if s.newest.advance(e.publisher, e.sequence) {
			return e, true, nil
		}
	}
	return Event{}, false, nil
}

// All returns the events until ctx ends, or the subscription; the last error is yielded if it is not that of ctx.  After a *[LostError] the
// loop can go on.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for ctx.Err() == nil {
			e, err := s.Next(ctx)
			_, lost := errors.AsType[*LostError](err)
			if err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
				return
			}
			if !yield(e, err) || err != nil && !lost {
				return
			}
		}
	}
}

// Close ends the subscription.
func (s *Subscription) Close() error {
	s.cancel(core.ErrClosed)
	<-s.done
	return nil
}

// LostError tells a subscriber that events are missing.
type LostError struct {
	Count  uint64 // zero if nobody knows how many, perhaps none
	Reason string // "queue full", "node n2:9090: connection refused; now at n3:9090"
}

func (e *LostError) Error() string {
	if e.Count == 0 {
		return "events: some may be lost: " + e.Reason
	}
	return fmt.Sprintf("events: %d lost: %s", e.Count, e.Reason)
}

// EndedError tells a subscriber that its node ended the subscription.
type EndedError struct{ Reason string }

func (e *EndedError) Error() string { return "events: subscription ended: " + e.Reason }
