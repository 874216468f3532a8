package loadtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
	"github.com/pyro-cluster/pyro-cluster/loadtest/link"
	"github.com/pyro-cluster/pyro-cluster/loadtest/servant"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// target is what is called.
type target struct {
	cfg    *Config
	kind   string
	name   string
	object core.Caller
	group  failover.Resolver
	names  *naming.Client // nil without a name server
	proxy  core.ProxyOptions

	mu    sync.Mutex             // protects what follows
	links map[string]*link.Proxy // by the address behind them; of a target that runs elsewhere, with faults of connections
	seen  map[string]core.URI    // the members met so far, by id
}

// The kinds of targets in reports.
const (
	kindObject  = "object"
	kindGroup   = "group"
	kindSpawned = "spawned"
)

// open makes a target of a reference; nodes are those of the name server.
func (c *Config) open(ref core.Reference, nodes []string) (*target, error) {
	t := &target{cfg: c, name: ref.String(), kind: kindGroup, seen: map[string]core.URI{}, links: map[string]*link.Proxy{}}
	t.proxy = c.object()
	t.proxy.MaxConns, t.proxy.MaxIdle = c.Connections, c.Callers
	if c.spawn == nil && c.linkFaults() {
		t.proxy.Dial = link.Dialer(t.linkTo)
	}
	if err := t.openNames(ref, nodes); err != nil {
		return nil, err
	}
	switch {
	case ref.Protocol == "PYRO":
		t.group = failover.Static(ref.URIs()...)
	case ref.Protocol == "PYRONAME":
		t.group = t.names
	default:
		t.group = resolveOnce{t.names, core.URI{Protocol: ref.Protocol, Object: ref.Object}}
	}
	if uris := ref.URIs(); ref.Protocol == "PYRO" && len(uris) == 1 {
		t.kind, t.object = kindObject, &bounded{core.NewProxy(uris[0], t.proxy), c.Timeout}
		return t, nil
	}
	t.object = failover.New(ref.Object, t.group, failover.Options{
		Contracts: c.contracts(), CallTimeout: c.Timeout, Proxy: t.proxy,
	})
	return t, nil
}

// contracts declares every method that is called as --contract says.
func (c *Config) contracts() map[string]core.Contract {
	contract := contracts[c.Contract]
	return map[string]core.Contract{workAdd: contract, workEcho: contract, workOneway: contract, c.method: contract}
}

func (t *target) openNames(ref core.Reference, nodes []string) error {
	needed := ref.Protocol != "PYRO" || slices.ContainsFunc(t.cfg.works, func(w Work) bool { return w.kind().names })
	if !needed {
		return nil
	}
	proxy := t.cfg.nodes
	proxy.MaxIdle = t.cfg.Callers
	var err error
	t.names, err = naming.NewClient(nodes, naming.ClientOptions{Timeout: t.cfg.Timeout, Proxy: proxy})
	return err
}

// bounded is a proxy of one object whose calls end after a while.
type bounded struct {
	*core.Proxy
	timeout time.Duration
}

var _ core.Caller = (*bounded)(nil)

// Call implements [core.Caller].
func (b *bounded) Call(ctx context.Context, method string, out any, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.Proxy.Call(ctx, method, out, args...)
}

// resolveOnce is a group of the one object that a PYROMETA URI stands for at the moment.
type resolveOnce struct {
	names *naming.Client
	uri   core.URI
}

func (r resolveOnce) Group(ctx context.Context, name string) (failover.Group, error) {
	uri, err := r.names.Resolve(ctx, r.uri)
	if err != nil {
		return failover.Group{}, err
	}
	return failover.Static(uri).Group(ctx, name)
}

// linkTo returns the proxy in front of an address, which it makes when there is none yet.
func (t *target) linkTo(address string) (*link.Proxy, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.links[address]; p != nil {
		return p, nil
	}
	p, err := link.Listen(link.Options{Listen: "127.0.0.1:0", Backend: address, Frames: true})
	if err == nil {
		t.links[address] = p
	}
	return p, err
}

// members asks for the members of the target, and remembers them.
func (t *target) members(ctx context.Context) ([]failover.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	g, err := t.group.Group(ctx, t.cfg.ref.Object)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range g.Members {
		t.seen[m.ID] = m.URI
	}
	return g.Members, nil
}

// metadata asks one member what it offers.
func (t *target) metadata(ctx context.Context, uri core.URI) (core.Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	p := core.NewProxy(uri, t.cfg.object())
	defer p.Close()
	return p.Metadata(ctx)
}

// hasLedger reports whether every member that answers keeps a ledger, or why not.
func (t *target) hasLedger(ctx context.Context, members []failover.Member) error {
	asked := 0
	for _, m := range members {
		meta, err := t.metadata(ctx, m.URI)
		if err != nil {
			continue // a member that is down now has to be there when its ledger is read
		}
		if asked++; !slices.Contains(meta.Methods, "ledger") {
			return fmt.Errorf("%s keeps no ledger; the servants of \"pyro-cluster loadtest serve --ledger FILE\" do", m.URI)
		}
	}
	if asked == 0 {
		return errors.New("no member answers")
	}
	return nil
}

// ledgers returns the ledgers of all members that were met.
func (t *target) ledgers(ctx context.Context) []iter.Seq2[ledger.ID, error] {
	var all []iter.Seq2[ledger.ID, error]
	for _, uri := range t.seen {
		all = append(all, func(yield func(ledger.ID, error) bool) {
			p := core.NewProxy(uri, t.cfg.object())
			defer p.Close()
			for id, err := range servant.ReadLedger(ctx, p) {
				if !yield(id, err) {
					return
				}
			}
		})
	}
	return all
}

func (t *target) close() {
	if t.object != nil {
		t.object.Close()
	}
	if t.names != nil {
		t.names.Close()
	}
	for _, p := range t.links {
		p.Close()
	}
}
