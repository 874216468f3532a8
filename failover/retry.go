package failover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Pauses after all members failed: short enough that the end of an election is noticed soon.
const (
	pauseBase = 5 * time.Millisecond
	pauseMax  = 250 * time.Millisecond
)

// request is what one call sends, to as many replicas as it takes.
type request struct {
	kind     kind
	name     string
	out      any
	value    any // of writeAttr
	args     []any
	encoded  *core.Invocation // in place of out and args
	calls    *core.BatchCalls // in place of args; out is nil or a *any
	contract core.Contract    // as the caller declares it
}

type kind uint8

const (
	callMethod kind = iota
	readAttr
	writeAttr
	invoke
	batch
	oneway
)

func (r *request) send(ctx context.Context, e endpoint) error {
	switch r.kind {
	case readAttr:
		return e.Attr(ctx, r.name, r.out)
	case writeAttr:
		return e.SetAttr(ctx, r.name, r.value)
	case invoke:
		return e.Invoke(ctx, r.encoded)
	case batch:
		results, _ := r.out.(*any)
		return e.SendBatch(ctx, *r.calls, results)
	case oneway:
		return e.CallOneway(ctx, r.name, r.args...)
	}
	return e.Call(ctx, r.name, r.out, r.args...)
}

// call is one call on its way through the replicas.
type call struct {
	p        *Proxy
	req      request
	deadline time.Time // of the whole call; zero means none

	attempts int
	rounds   int        // how often all members failed
	tried    []*replica // in this round
	barred   int        // of them, those who will not let us in
	maybe    bool       // the outcome of an attempt is unknown
	last     error      // of the last attempt
	pause    time.Duration
}

// do makes a call, and tells the observer of it.
func (p *Proxy) do(ctx context.Context, req request) error {
	if p.observer == nil {
		return p.try(ctx, req)
	}
	start := p.now()
	err := p.try(ctx, req)
	p.observer.ObserveCall(core.Observation{Took: time.Duration(p.now() - start), Outcome: outcomeOf(err)})
	return err
}

// try makes a call: the one retry loop.
//
// A replica that failed is not tried again before all others were; then there is a pause, and the next round.  Retries beyond
// the budget wait likewise.  The loop ends with an answer, an error that another replica would give as well, a round in which no
// replica let us in, an unknown outcome of a call that must not be repeated, the end of the time, or Close.
func (p *Proxy) try(ctx context.Context, req request) error {
	c := call{p: p, req: req}
	now := p.now()
	if err := c.begin(ctx, now); err != nil {
		return err
	}
	for {
		v := p.view.Load()
		if v == nil {
			return c.fail(join(core.ErrClosed, c.last))
		}
		r := p.pick(v, c.tried, now)
		switch {
		case r == nil && c.barred > 0 && c.barred == len(c.tried):
			return c.fail(c.last)
		case r == nil:
			c.rounds++
			c.tried, c.barred = c.tried[:0], 0
			c.sleep(ctx)
		case c.attempts > 0 && !p.budget.withdraw(now):
			p.observe(EventBudgetEmpty)
			c.sleep(ctx)
		default:
			if done, err := c.attempt(ctx, r, now); done {
				return err
			}
		}
		if ended := c.ended(ctx); ended != nil {
			return c.fail(join(ended, c.last))
		}
		now = p.now()
	}
}

// begin sets the deadline and makes sure that members are known.
func (c *call) begin(ctx context.Context, now int64) error {
	p := c.p
	deadline, bounded := ctx.Deadline()
	if !bounded && p.opts.CallTimeout > 0 {
		deadline = p.epoch.Add(time.Duration(now) + p.opts.CallTimeout)
	}
	c.deadline = deadline
	p.budget.deposit()
	if p.view.Load() != nil {
		p.refresh(now)
		return nil
	}
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	err := p.firstMembers(ctx)
	switch {
	case err == nil:
		return nil
	case p.life.Err() != nil:
		return core.ErrClosed
	}
	return c.fail(err)
}

// attempt sends the request to r.  It reports whether that was the end of the call, and its result.
func (c *call) attempt(ctx context.Context, r *replica, start int64) (done bool, err error) {
	p := c.p
	p.observe(EventAttempt)
	if c.attempts > 0 {
		p.observe(EventRetry)
	}
	c.attempts++
	result, contract, err := c.send(ctx, r)
	if err == nil || result.answered {
		p.succeeded(ctx, r, start)
		p.budget.refund(c.attempts - 1) // each but the first took one
	}
	switch {
	case err == nil:
		return true, nil
	case !result.elsewhere && result.outcome == NotExecuted && c.maybe:
		return true, c.fail(err) // this replica did not run it, but one before may have
	case !result.elsewhere:
		return true, err
	}

	c.last = err
	c.tried = append(c.tried, r)
	c.maybe = c.maybe || result.outcome == Unknown
	if result.barred {
		c.barred++
	}
	if result.fault {
		c.blame(ctx, r, start)
	}
	if result.outcome == Unknown && contract == core.ContractPlain {
		return true, c.fail(join(c.ended(ctx), err))
	}
	p.refetch(p.now())
	return false, nil
}

// send makes one attempt, connecting if r was not connected before.  It returns what its error means and what the method allows.
func (c *call) send(ctx context.Context, r *replica) (class, core.Contract, error) {
	r.underWay.Add(1)
	defer c.p.leave(r)
	if r.contracts.Load() == nil {
		if err := r.connect(ctx, c.bound(c.patience(c.p.opts.ConnectTimeout))); err != nil {
			return classifyConnect(err), core.ContractPlain, err
		}
	}
	contract := c.contract(r)
	limit := c.deadline
	if contract != core.ContractPlain {
		limit = time.Now().Add(c.bound(c.patience(c.p.opts.AttemptTimeout)))
	}
	if own, ok := ctx.Deadline(); !limit.IsZero() && (!ok || limit.Before(own)) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, limit)
		defer cancel()
	}
	err := c.req.send(ctx, r.endpoint)
	if err == nil {
		return class{}, contract, nil
	}
	return classify(err), contract, err
}

// contract is what may be done with the request at r.
func (c *call) contract(r *replica) core.Contract {
	if c.req.kind != batch {
		return max(c.req.contract, r.contract(c.req.name))
	}
	return c.batchContract(r)
}

// batchContract is that of all calls of a batch, one after the other.  Twice A and B is A, B, A, B: even if both are idempotent, B may depend on
// what A does to what B has changed.  With one of them among calls that change nothing there is no such thing.
func (c *call) batchContract(r *replica) core.Contract {
	all := core.ContractReadOnly
	for _, method := range c.req.calls.Methods() {
		switch max(c.p.opts.Contracts[method], r.contract(method)) {
		case core.ContractReadOnly:
			continue
		case core.ContractIdempotent:
			if all == core.ContractReadOnly {
				all = core.ContractIdempotent
				continue
			}
		}
		return core.ContractPlain
	}
	return all
}

// blame ejects r for an error, unless the caller ended the call before r could have been expected to answer.
func (c *call) blame(ctx context.Context, r *replica, start int64) {
	p := c.p
	now := p.now()
	waited := now - start
	r.slow(now, waited)
	if ended := c.ended(ctx); ended != nil {
		if !errors.Is(ended, context.DeadlineExceeded) || waited < int64(p.opts.AttemptTimeout) {
			return
		}
	}
	p.failed(ctx, r, c.last)
}

// ended returns why the call must not go on, or nil.
func (c *call) ended(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return endOf(ctx)
	case c.p.life.Err() != nil:
		return core.ErrClosed
	case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// fail is the result of a call without an answer.
func (c *call) fail(err error) error {
	outcome := NotExecuted
	if c.maybe {
		outcome = Unknown
	}
	return &CallError{Group: c.p.group, Method: c.req.name, Outcome: outcome, Attempts: c.attempts, Err: err}
}

// patience returns d, doubled with each round in which no replica answered: they may all be slow.  Past the fifth round nothing is gained by more
// patience.
func (c *call) patience(d time.Duration) time.Duration {
	return d << min(c.rounds, 5)
}

// bound returns d, or the time that the call has left if that is less.
func (c *call) bound(d time.Duration) time.Duration {
	if c.deadline.IsZero() {
		return d
	}
	return min(d, time.Until(c.deadline))
}

// sleep pauses with decorrelated jitter (M. Brooker, Exponential Backoff And Jitter) until the call ends at the latest.
func (c *call) sleep(ctx context.Context) {
	c.pause = min(pauseBase+rand.N(max(3*c.pause-pauseBase, pauseBase)), pauseMax)
	t := time.NewTimer(c.bound(c.pause))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-c.p.life.Done():
	}
}

// endOf returns why ctx ended: its error and its cause.
func endOf(ctx context.Context) error {
	return join(ctx.Err(), context.Cause(ctx))
}

// join returns an error that is both, the first being the reason that the call ended, if any, the second what happened last.
func join(ended, last error) error {
	switch {
	case ended == nil || errors.Is(last, ended):
		return last
	case last == nil:
		return ended
	}
	return fmt.Errorf("%w: %w", ended, last)
}
