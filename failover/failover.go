package failover

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Options set up a [Proxy]; the zero value is useful.
type Options struct {
	// Contracts declares methods of the group by name, in addition to what the servers declare; the more permissive of the two counts.
	Contracts map[string]core.Contract
	// AttemptTimeout bounds one attempt at an idempotent or read-only call, so that a silent replica costs no more than this; zero or
	// less means 750 ms.  It doubles each time that all members failed, so that a slow method ends at last.  Calls that must not be
	// repeated wait for their context.
	AttemptTimeout time.Duration
	// ConnectTimeout bounds connecting to one replica, in place of Proxy.ConnectTimeout; zero or less means 500 ms.  It doubles
	// likewise, for members that take long to find out who is there.
	ConnectTimeout time.Duration
	// CallTimeout bounds a whole call whose context has no deadline; zero means 10 s, negative no bound.
	CallTimeout time.Duration
	// Refresh is how old the member list may get while calls are made; zero or less means 2 s.  It is also read again after a failure.
	Refresh time.Duration
	// Zone, if not empty, is preferred: members of other zones are called only when none of it answers.
	Zone string
	// Proxy are the options for the connection to each member.
	Proxy core.ProxyOptions
	// Logger gets members that were ejected and came back; nil discards them.
	Logger *slog.Logger
	// Observer is told of calls, attempts and members; nil costs nothing.
	Observer Observer
}

func (o Options) withDefaults() Options {
	orDefault := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orDefault(&o.AttemptTimeout, 750*time.Millisecond)
	orDefault(&o.ConnectTimeout, 500*time.Millisecond)
	orDefault(&o.Refresh, 2*time.Second)
	if o.CallTimeout == 0 {
		o.CallTimeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Proxy calls an object group.  It is safe for concurrent use.
//
// A call goes to one member, picked by power of two choices among the healthy ones; if it fails there it goes to the next, as
// the package comment says.  When all members failed it starts anew after a pause, until the context or CallTimeout ends: members
// may come back, unless none of them let the caller in ([core.ErrNotAdmitted]).  Members that fail are left out for a while, then probed.
//
// An error is a *[CallError] if no replica answered, a *core.RemoteError if the method raised it, core.ErrClosed after Close,
// and a *core.LocalError if it is a mistake of the caller.
type Proxy struct {
	group    string
	resolver Resolver
	opts     Options
	dial     func(core.URI) endpoint
	epoch    time.Time // times of replicas are nanoseconds since then
	budget   *budget
	observer GroupObserver // nil if nobody observes

	// life ends with Close.  It is kept because refreshing and probing serve all calls, so they belong to no call's context.
	life context.Context
	end  context.CancelCauseFunc
	work sync.WaitGroup // refreshing and probing

	view    atomic.Pointer[view] // nil before the first fetch and after Close; replaced under mu
	fetched atomic.Int64         // when the last fetch began

	mu      sync.Mutex // guards what follows
	closed  bool
	fetch   *fetch                // the one under way
	retired map[*replica]struct{} // left the group, calls still under way
}

var (
	_ core.Caller      = (*Proxy)(nil)
	_ core.Invoker     = (*Proxy)(nil)
	_ core.BatchSender = (*Proxy)(nil)
)

// New returns a proxy for the group of that name; it does no I/O.
func New(group string, r Resolver, opts Options) *Proxy {
	opts = opts.withDefaults()
	opts.Proxy.ConnectTimeout = opts.ConnectTimeout
	return newProxy(group, r, opts, func(uri core.URI) endpoint { return core.NewProxy(uri, opts.Proxy) })
}

func newProxy(group string, r Resolver, opts Options, dial func(core.URI) endpoint) *Proxy {
	p := &Proxy{
		group:    group,
		resolver: r,
		opts:     opts.withDefaults(),
		dial:     dial,
		epoch:    time.Now(),
		budget:   newBudget(),
		retired:  make(map[*replica]struct{}),
	}
	if opts.Observer != nil {
		p.observer = opts.Observer.Group(group)
	}
	p.life, p.end = context.WithCancelCause(context.Background())
	return p
}

// Call implements core.Caller.
func (p *Proxy) Call(ctx context.Context, method string, out any, args ...any) error {
	return p.do(ctx, request{kind: callMethod, name: method, out: out, args: args, contract: p.opts.Contracts[method]})
}

// CallOneway sends a call to one member and does not wait: nil says that it was written, no more.
func (p *Proxy) CallOneway(ctx context.Context, method string, args ...any) error {
	return p.do(ctx, request{kind: oneway, name: method, args: args, contract: p.opts.Contracts[method]})
}

// Invoke implements core.Invoker.
func (p *Proxy) Invoke(ctx context.Context, v *core.Invocation) error {
	return p.do(ctx, request{kind: invoke, name: v.Method(), encoded: v, contract: p.opts.Contracts[v.Method()]})
}

// Batch returns an empty batch of calls, all of which go to one member.  It may be sent again, when its outcome is unknown, if its methods are
// read-only, but for one at most that is idempotent.
func (p *Proxy) Batch() *core.Batch { return core.NewBatch(p) }

// SendBatch implements core.BatchSender.
func (p *Proxy) SendBatch(ctx context.Context, calls core.BatchCalls, results *any) error {
	return p.do(ctx, request{kind: batch, name: "__batch__", calls: &calls, out: results})
}

// Attr implements core.Caller: reading an attribute is a read-only call.
func (p *Proxy) Attr(ctx context.Context, name string, out any) error {
	return p.do(ctx, request{kind: readAttr, name: name, out: out, contract: core.ContractReadOnly})
}

// SetAttr implements core.Caller: setting an attribute is an idempotent call.
func (p *Proxy) SetAttr(ctx context.Context, name string, value any) error {
	return p.do(ctx, request{kind: writeAttr, name: name, value: value, contract: core.ContractIdempotent})
}

// Close implements core.Caller.  It returns when no goroutine of the proxy is left; the resolver stays open.
func (p *Proxy) Close() error {
	p.mu.Lock()
	var open []*replica
	if !p.closed {
		p.closed = true
		if v := p.view.Swap(nil); v != nil {
			for _, c := range v.candidates {
				open = append(open, c.replica)
			}
		}
		for r := range p.retired {
			open = append(open, r)
		}
	}
	p.mu.Unlock()

	p.end(core.ErrClosed)
	for _, r := range open {
		r.close()
	}
	p.work.Wait()
	return nil
}

// backgroundLocked runs fn on a goroutine that Close waits for, with a context that Close ends.  It reports whether
// the proxy is still open.
func (p *Proxy) backgroundLocked(timeout time.Duration, fn func(ctx context.Context)) bool {
	if p.closed {
		return false
	}
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(p.life, timeout)
		defer cancel()
		fn(ctx)
	})
	return true
}

// now is the time on the clock of the replicas' states.
func (p *Proxy) now() int64 { return int64(time.Since(p.epoch)) }
