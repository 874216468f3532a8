package failover

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// fakeGroup is a resolver and the replicas behind its URIs.
type fakeGroup struct {
	mu       sync.Mutex
	group    Group
	err      error
	fetches  int
	block    chan struct{} // when not nil, Group waits for it
	replicas map[core.URI]*fakeReplica
	log      []string // names of the replicas that were called, in order
}

// fakeReplica is an endpoint whose behaviour a test sets.
type fakeReplica struct {
	name  string
	group *fakeGroup
	uri   core.URI

	mu        sync.Mutex
	behave    func(ctx context.Context, method string) error
	contracts map[string]core.Contract
	calls     int
	ran       int
	pings     int
	connects  int
	closed    bool
	cancelled int // calls whose context ended
}

func uriOf(name string) core.URI {
	return core.URI{Protocol: "PYRO", Object: "obj", Host: name, Port: 9}
}

// newFakeGroup has a replica of each name.
func newFakeGroup(names ...string) *fakeGroup {
	g := &fakeGroup{replicas: make(map[core.URI]*fakeReplica)}
	for _, name := range names {
		g.add(name)
	}
	g.group.Version = 1
	return g
}

func (g *fakeGroup) add(name string) *fakeReplica {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &fakeReplica{name: name, group: g, uri: uriOf(name), behave: answer}
	g.replicas[r.uri] = r
	g.group.Version++
	members := append([]Member(nil), g.group.Members...)
	g.group.Members = append(members, Member{ID: name, URI: r.uri, Alive: true})
	return r
}

func (g *fakeGroup) remove(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var members []Member
	for _, m := range g.group.Members {
		if m.ID != name {
			members = append(members, m)
		}
	}
	g.group.Members = members
	g.group.Version++
}

func (g *fakeGroup) set(f func(g *fakeGroup)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(g)
}

func (g *fakeGroup) replica(name string) *fakeReplica {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.replicas[uriOf(name)]
}

func (g *fakeGroup) fetched() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fetches
}

func (g *fakeGroup) called() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.log...)
}

func (g *fakeGroup) Group(ctx context.Context, name string) (Group, error) {
	g.mu.Lock()
	g.fetches++
	block := g.block
	g.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return Group{}, context.Cause(ctx)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	group := g.group
	group.Name = name
	return group, g.err
}

// proxy returns a group proxy for g that the test closes at its end.
func (g *fakeGroup) proxy(t testing.TB, opts Options) *Proxy {
	t.Helper()
	p := newProxy("bank", g, opts, func(uri core.URI) endpoint {
		g.mu.Lock()
		defer g.mu.Unlock()
		r := g.replicas[uri]
		r.mu.Lock()
		r.closed = false
		r.mu.Unlock()
		return r
	})
	t.Cleanup(func() { p.Close() })
	return p
}

func (r *fakeReplica) set(behave func(ctx context.Context, method string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behave = behave
}

func (r *fakeReplica) declare(method string, c core.Contract) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contracts = map[string]core.Contract{method: c}
}

func (r *fakeReplica) count(what *int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *what
}

func (r *fakeReplica) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func (r *fakeReplica) do(ctx context.Context, method string) error {
	r.group.set(func(g *fakeGroup) { g.log = append(g.log, r.name) })
	r.mu.Lock()
	r.calls++
	behave, closed := r.behave, r.closed
	r.mu.Unlock()
	if closed {
		return core.ErrClosed
	}
	err := behave(ctx, method)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil {
		r.cancelled++
	}
	if err == nil {
		r.ran++
	}
	return err
}

func (r *fakeReplica) Call(ctx context.Context, method string, out any, args ...any) error {
	err := r.do(ctx, method)
	if s, ok := out.(*string); ok && err == nil {
		*s = r.name
	}
	return err
}

func (r *fakeReplica) Invoke(ctx context.Context, v *core.Invocation) error {
	return r.do(ctx, v.Method())
}

func (r *fakeReplica) CallOneway(ctx context.Context, method string, args ...any) error {
	return r.do(ctx, method)
}

func (r *fakeReplica) SendBatch(ctx context.Context, calls core.BatchCalls, out *any) error {
	err := r.do(ctx, strings.Join(calls.Methods(), " "))
	if err == nil && out != nil {
		results := make([]any, len(calls.Methods()))
		for i := range results {
			results[i] = r.name
		}
		*out = results
	}
	return err
}

func (r *fakeReplica) Attr(ctx context.Context, name string, out any) error {
	return r.Call(ctx, "get "+name, out)
}

func (r *fakeReplica) SetAttr(ctx context.Context, name string, value any) error {
	return r.Call(ctx, fmt.Sprintf("set %s %v", name, value), nil)
}

func (r *fakeReplica) Metadata(ctx context.Context) (core.Metadata, error) {
	r.mu.Lock()
	r.connects++
	behave := r.behave
	m := core.Metadata{Contracts: r.contracts}
	r.mu.Unlock()
	return m, connecting(behave(ctx, "connect"))
}

func (r *fakeReplica) Ping(ctx context.Context) error {
	r.mu.Lock()
	r.pings++
	behave := r.behave
	r.mu.Unlock()
	return connecting(behave(ctx, "ping"))
}

// connecting keeps the errors that a connect or a ping can have: those of the transport.
func connecting(err error) error {
	if _, ok := errors.AsType[*core.TransportError](err); ok {
		return err
	}
	return nil
}

func (r *fakeReplica) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

// Behaviours of replicas.

func answer(context.Context, string) error { return nil }

func refuse(context.Context, string) error {
	return &core.TransportError{Endpoint: "fake", Op: "connect", Err: syscall.ECONNREFUSED}
}

// notAdmitted is a connection on which a server was found that speaks no TLS.
var notAdmitted = &core.TransportError{Endpoint: "fake", Op: "handshake", Err: tls.RecordHeaderError{Msg: "no TLS"}}

// cutOff loses the connection after the request was written.
func cutOff(_ context.Context, method string) error {
	if method == "connect" || method == "ping" {
		return nil
	}
	return &core.TransportError{Endpoint: "fake", Op: "read reply", Written: true, Err: syscall.ECONNRESET}
}

// hang is a stopped process: connections work at first, nothing answers.
func hang(ctx context.Context, method string) error {
	if method == "connect" {
		return nil
	}
	<-ctx.Done()
	return &core.TransportError{Endpoint: "fake", Op: "read reply", Written: true, Err: context.Cause(ctx)}
}

// halfOpen accepts connections and does not answer the handshake.
func halfOpen(ctx context.Context, _ string) error {
	<-ctx.Done()
	return &core.TransportError{Endpoint: "fake", Op: "handshake", Err: context.Cause(ctx)}
}

func raise(err error) func(context.Context, string) error {
	return func(context.Context, string) error { return err }
}

// takes answers after d.
func takes(d time.Duration) func(context.Context, string) error {
	return func(ctx context.Context, method string) error {
		if method == "connect" || method == "ping" {
			return nil
		}
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return hang(ctx, method)
		}
	}
}
