package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/link"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// worldInjector breaks what the run started.
type worldInjector struct {
	*world
	names *naming.Client
}

var _ fault.Injector = worldInjector{}

// Resolve implements [fault.Injector].
func (w worldInjector) Resolve(ctx context.Context, s fault.Spec, rng *rand.Rand) ([]string, error) {
	if s.Target == targetLeader || s.Target == targetFollower {
		return w.byRole(ctx, s.Target, rng)
	}
	var servers, nodes []string
	for _, srv := range w.servers {
		servers = append(servers, srv.name)
	}
	for i := range w.nodes.Size() {
		nodes = append(nodes, nodeName(i))
	}
	switch s.Target {
	case targetReplica:
		return oneOf(w.running(servers), rng, "no object server runs")
	case targetReplicas:
		return someOf(w.running(servers), "no object server runs")
	case targetNodes:
		return someOf(w.running(nodes), "no node runs")
	case targetAll:
		return someOf(w.running(append(servers, nodes...)), "nothing runs")
	}
	return someOf(w.running([]string{s.Target}), s.Target+" does not run")
}

func oneOf(names []string, rng *rand.Rand, none string) ([]string, error) {
	if len(names) == 0 {
		return nil, errors.New(none)
	}
	return []string{names[rng.IntN(len(names))]}, nil
}

func someOf(names []string, none string) ([]string, error) {
	if len(names) == 0 {
		return nil, errors.New(none)
	}
	return names, nil
}

// running returns those that are neither down nor paused.
func (w worldInjector) running(names []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return w.down[n] || w.paused[n] })
}

func (w worldInjector) byRole(ctx context.Context, role string, rng *rand.Rand) ([]string, error) {
	nodes, err := w.names.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the leader: %w", err)
	}
	var names []string
	for _, n := range nodes {
		i := w.nodes.Index(n.PyroAddress)
		if i >= 0 && (n.Role == naming.RoleLeader) == (role == targetLeader) {
			names = append(names, nodeName(i))
		}
	}
	return oneOf(w.running(names), rng, "no "+role+" runs")
}

// Inject implements [fault.Injector].
func (w worldInjector) Inject(ctx context.Context, s fault.Spec, name string) (func(context.Context) error, error) {
	switch s.Kind {
	case fault.Kill:
		return w.endAndStart(s, name, syscall.SIGKILL)
	case fault.Stop:
		return w.endAndStart(s, name, syscall.SIGTERM)
	case fault.Restart:
		start, err := w.endAndStart(s, name, syscall.SIGTERM)
		if err != nil {
			return nil, err
		}
		return nil, start(ctx)
	case fault.Pause:
		return w.pause(name)
	}
	return breakLinks(ctx, s, w.linksOf(name), w.outgoing(name))
}

// endAndStart ends a process and returns how it is started again.
func (w worldInjector) endAndStart(s fault.Spec, name string, sig syscall.Signal) (func(context.Context) error, error) {
	w.mark(w.down, name, true)
	if err := w.end(name, sig); err != nil {
		return nil, err
	}
	if s.Duration == 0 && s.Kind != fault.Restart {
		return nil, nil
	}
	return func(ctx context.Context) error {
		if err := w.start(ctx, name); err != nil {
			return err
		}
		w.mark(w.down, name, false)
		return nil
	}, nil
}

func (w worldInjector) end(name string, sig syscall.Signal) error {
	if i, ok := numbered(name, prefixNode); ok {
		return w.nodes.End(i-1, sig)
	}
	return w.server(name).process.End(sig)
}

func (w worldInjector) start(ctx context.Context, name string) error {
	if i, ok := numbered(name, prefixNode); ok {
		if err := w.nodes.Launch(i - 1); err != nil {
			return err
		}
		return w.nodes.AwaitReady(ctx, i-1)
	}
	return w.startServer(ctx, w.server(name))
}

func (w worldInjector) server(name string) *server {
	return w.servers[slices.IndexFunc(w.servers, func(s *server) bool { return s.name == name })]
}

func (w worldInjector) signal(name string, sig syscall.Signal) error {
	if i, ok := numbered(name, prefixNode); ok {
		return w.nodes.Signal(i-1, sig)
	}
	return w.server(name).process.Signal(sig)
}

func (w worldInjector) pause(name string) (func(context.Context) error, error) {
	w.mark(w.paused, name, true)
	if err := w.signal(name, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	return func(context.Context) error {
		w.mark(w.paused, name, false)
		return w.signal(name, syscall.SIGCONT)
	}, nil
}

// linksOf are the proxies in front of a process: that of its clients first.
func (w worldInjector) linksOf(name string) []*link.Proxy {
	if i, ok := numbered(name, prefixNode); ok {
		return []*link.Proxy{w.nodeLink[i-1].clients, w.nodeLink[i-1].nodes}
	}
	return []*link.Proxy{w.server(name).link}
}

// outgoing cuts what a node sends to the other nodes.
func (w worldInjector) outgoing(name string) func() []func() {
	return func() (heals []func()) {
		if _, ok := numbered(name, prefixNode); !ok {
			return nil
		}
		for i, l := range w.nodeLink {
			if nodeName(i) != name {
				heals = append(heals, l.nodes.Partition(name))
			}
		}
		return heals
	}
}

// breakLinks applies a fault to the proxies in front of a target.
func breakLinks(ctx context.Context, s fault.Spec, links []*link.Proxy, outgoing func() []func()) (func(context.Context) error, error) {
	var heals []func()
	switch s.Kind {
	case fault.Slow:
		for _, l := range links {
			heals = append(heals, l.Slow(s.Delay))
		}
	case fault.Partition:
		heals = outgoing()
		for _, l := range links {
			heals = append(heals, l.Partition(""))
		}
	case fault.Cut:
		return nil, links[0].Cut(ctx)
	case fault.Reset:
		return nil, whenConnected(ctx, links, (*link.Proxy).Reset)
	case fault.HalfOpen:
		err := whenConnected(ctx, links, func(l *link.Proxy) error {
			heal, err := l.HalfOpen()
			if err == nil {
				heals = append(heals, heal)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%s is no fault of connections", s.Kind)
	}
	return func(context.Context) error {
		for _, heal := range heals {
			heal()
		}
		return nil
	}, nil
}

const (
	connectedTimeout = 5 * time.Second
	connectedPoll    = 2 * time.Millisecond
)

// whenConnected applies f to all links and is content if it worked for one: a node may have clients and no other nodes, or the reverse.  A
// target that nobody is connected to at the moment, because callers just lost their connections, gets some time.
func whenConnected(ctx context.Context, links []*link.Proxy, f func(*link.Proxy) error) error {
	ctx, cancel := context.WithTimeout(ctx, connectedTimeout)
	defer cancel()
	tick := time.NewTicker(connectedPoll)
	defer tick.Stop()
	for {
		var errs []error
		for _, l := range links {
			if err := f(l); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) < len(links) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(errs...)
		}
	}
}

// remoteInjector breaks the connections of this generator to a target that runs elsewhere.
type remoteInjector struct{ *target }

var _ fault.Injector = remoteInjector{}

// Resolve implements [fault.Injector].
func (t remoteInjector) Resolve(ctx context.Context, s fault.Spec, rng *rand.Rand) ([]string, error) {
	members, err := t.members(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range members {
		names = append(names, m.ID)
	}
	slices.Sort(names)
	if s.Target == targetReplica {
		return oneOf(names, rng, "the group has no members")
	}
	return someOf(names, "the group has no members")
}

// Inject implements [fault.Injector].
func (t remoteInjector) Inject(ctx context.Context, s fault.Spec, id string) (func(context.Context) error, error) {
	_, address := t.uri(id).Address()
	l, err := t.linkTo(address)
	if err != nil {
		return nil, err
	}
	return breakLinks(ctx, s, []*link.Proxy{l}, func() []func() { return nil })
}

func (t *target) uri(id string) core.URI {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen[id]
}
