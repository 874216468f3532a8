package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	// fetchTimeout bounds one question to the resolver.  Callers that wait for it have their own, mostly shorter bounds.
	fetchTimeout = 10 * time.Second
	// refetchDelay is the least time between two fetches that failed calls ask for.
	refetchDelay = 100 * time.Millisecond
	// staleLimit is how long answers older than the list in use are taken for those of a stale node.  If nobody knows the newer
	// version for so long, the registry was restored from a backup.
	staleLimit = 30 * time.Second
)

// ErrNoMembers is wrapped by the [CallError] of a call to a group that has no members.
var ErrNoMembers = errors.New("the group has no members")

// Member is one replica of a group.
type Member struct {
	ID     string
	URI    core.URI // a PYRO URI
	Zone   string
	Weight int  // of the calls it gets, relative to the others; 0 means 1
	Alive  bool // as the name server sees it; others are tried last
}

// Group is a group reference: the members at one version.
type Group struct {
	Name    string
	Version uint64 // grows with every change
	Members []Member
}

// Resolver finds the members of a group.
type Resolver interface {
	// Group returns the members; it must end soon after ctx does.  The caller does not change what it returns.
	Group(ctx context.Context, name string) (Group, error)
}

// Static returns a resolver whose group always has these members, whatever its name.
func Static(uris ...core.URI) Resolver {
	members := make(static, len(uris))
	for i, uri := range uris {
		members[i] = Member{ID: uri.String(), URI: uri, Alive: true}
	}
	return members
}

type static []Member

func (s static) Group(_ context.Context, name string) (Group, error) {
	return Group{Name: name, Members: s}, nil
}

// view is a group with the state of its members.  It is never changed.
type view struct {
	version    uint64
	installed  int64
	candidates []candidate
}

type candidate struct {
	*replica
	tier   int // 0 is called first, see pick
	weight int
}

// fetch is a question to the resolver; any number of callers wait for the answer.
type fetch struct {
	done chan struct{}
	err  error // set before done is closed
}

// refresh renews the list in the background when it is old.
func (p *Proxy) refresh(now int64) {
	if now-p.fetched.Load() >= int64(p.opts.Refresh) {
		p.startFetch()
	}
}

// firstMembers waits until there is a list of members.
func (p *Proxy) firstMembers(ctx context.Context) error {
	f := p.startFetch()
	if f == nil {
		return core.ErrClosed
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return fmt.Errorf("find members: %w", endOf(ctx))
	}
	switch {
	case p.view.Load() != nil:
		return nil
	case p.life.Err() != nil:
		return core.ErrClosed
	}
	return fmt.Errorf("find members: %w", cmp.Or(f.err, ErrNoMembers))
}

// refetch renews the list after a failure, unless that was just done.
func (p *Proxy) refetch(now int64) {
	if now-p.fetched.Load() >= int64(min(refetchDelay, p.opts.Refresh)) {
		p.startFetch()
	}
}

// startFetch returns the fetch under way, which it starts if there is none; nil if the proxy is closed.
func (p *Proxy) startFetch() *fetch {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fetch != nil {
		return p.fetch
	}
	f := &fetch{done: make(chan struct{})}
	p.fetched.Store(p.now())
	started := p.backgroundLocked(fetchTimeout, func(ctx context.Context) {
		g, err := p.resolver.Group(ctx, p.group)
		if f.err = err; err != nil && p.life.Err() == nil {
			p.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "members not renewed", slog.String("group", p.group), slog.Any("error", err))
		}
		p.finishFetch(f, g)
	})
	if !started {
		return nil
	}
	p.fetch = f
	return f
}

func (p *Proxy) finishFetch(f *fetch, g Group) {
	p.mu.Lock()
	p.fetch = nil
	var gone []*replica
	if f.err == nil && !p.closed {
		gone = p.installLocked(g)
	}
	p.mu.Unlock()
	for _, r := range gone {
		r.close()
	}
	close(f.done)
}

// installLocked makes g the list in use and returns the replicas to close: those that left and have no calls under way.
//
// Two answers are ignored.  One is older than what is known, from a node that lags behind.  The other is empty: calls to
// members that are gone fail as surely as calls to none, and members that were only taken for dead still serve.
func (p *Proxy) installLocked(g Group) (gone []*replica) {
	now, old := p.now(), p.view.Load()
	if len(g.Members) == 0 {
		return nil
	}
	if old != nil && g.Version < old.version && now-old.installed < int64(staleLimit) {
		return nil
	}
	known := make(map[core.URI]*replica)
	if old != nil {
		for _, c := range old.candidates {
			known[c.uri] = c.replica
		}
	}
	next := &view{version: g.Version, installed: now}
	listed := make(map[core.URI]bool, len(g.Members))
	for _, m := range g.Members {
		if listed[m.URI] {
			continue
		}
		listed[m.URI] = true
		r := known[m.URI]
		if r == nil {
			r = newReplica(m.URI, p.dial(m.URI))
		}
		next.candidates = append(next.candidates, candidate{replica: r, tier: tierOf(m, p.opts.Zone), weight: max(m.Weight, 1)})
	}
	p.view.Store(next)
	for uri, r := range known {
		if !listed[uri] && p.retireLocked(r) {
			gone = append(gone, r)
		}
	}
	return gone
}

// retireLocked takes a replica out of service and reports whether it can be closed now; otherwise the last call does it.
func (p *Proxy) retireLocked(r *replica) bool {
	r.retired.Store(true)
	if r.underWay.Load() == 0 {
		return true
	}
	p.retired[r] = struct{}{}
	return false
}

// leave ends a call's use of r.
func (p *Proxy) leave(r *replica) {
	if r.underWay.Add(-1) > 0 || !r.retired.Load() {
		return
	}
	p.mu.Lock()
	delete(p.retired, r)
	p.mu.Unlock()
	r.close()
}
