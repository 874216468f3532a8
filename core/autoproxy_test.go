package core

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
)

// node is an object that knows others, which are on the same daemon.
type node struct {
	name  string
	next  *node
	heard atomic.Int64
}

func (n *node) Name() string          { return n.name }
func (n *node) Next() *node           { return n.next }
func (n *node) All() map[string][]any { return map[string][]any{"nodes": {n, n.next, "text"}} }
func (n *node) Pair() (*node, *node)  { return n, n.next }
func (n *node) Heard()                { n.heard.Add(1) }
func (n *node) CallBack(ctx context.Context, p ProxyState) error {
	q := p.Proxy(ProxyOptions{})
	defer q.Close()
	return q.Call(ctx, "heard", nil)
}

// Introduce passes this node itself to another one, which calls it back.
func (n *node) Introduce(ctx context.Context, to ProxyState) error {
	q := to.Proxy(ProxyOptions{})
	defer q.Close()
	return q.Call(ctx, "call_back", nil, n)
}

func nodesOn(t *testing.T, names ...string) (*Daemon, []*node) {
	t.Helper()
	d := serve(t, DaemonOptions{AcceptXML: true})
	nodes := make([]*node, len(names))
	for i := range nodes {
		nodes[i] = &node{name: names[i]}
	}
	for i, n := range nodes {
		n.next = nodes[(i+1)%len(nodes)]
		if _, err := d.Register(n.name, n, ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return d, nodes
}

// nameOf calls a proxy that came as a value.
func nameOf(t *testing.T, v any) string {
	t.Helper()
	state, ok := v.(ProxyState)
	if !ok {
		t.Fatalf("got %T, want a proxy", v)
	}
	p := state.Proxy(ProxyOptions{})
	defer p.Close()
	var name string
	if err := p.Call(t.Context(), "name", &name); err != nil {
		t.Fatal(err)
	}
	return name
}

// spec: O23
func TestAutoproxyResults(t *testing.T) {
	t.Parallel()
	d, _ := nodesOn(t, "a", "b")
	for _, serializer := range []string{"msgpack", "serpent", "json", "xml"} {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			p := NewProxy(d.URI("a"), ProxyOptions{Serializer: serializer})
			defer p.Close()
			var next any
			if err := p.Call(t.Context(), "next", &next); err != nil {
				t.Fatal(err)
			}
			if got := nameOf(t, next); got != "b" {
				t.Errorf("next is %q, want b", got)
			}
			var all map[string][]any
			if err := p.Call(t.Context(), "all", &all); err != nil {
				t.Fatal(err)
			}
			if got := nameOf(t, all["nodes"][0]) + nameOf(t, all["nodes"][1]); got != "ab" || all["nodes"][2] != "text" {
				t.Errorf("got %q", got)
			}
			var pair []any
			if err := p.Call(t.Context(), "pair", &pair); err != nil {
				t.Fatal(err)
			}
			if got := nameOf(t, pair[0]) + nameOf(t, pair[1]); got != "ab" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestAutoproxyUnregistered(t *testing.T) {
	t.Parallel()
	d, _ := nodesOn(t, "a", "b")
	d.Unregister("b")
	p := NewProxy(d.URI("a"), ProxyOptions{})
	defer p.Close()
	if err := p.Call(t.Context(), "next", nil); !errors.Is(err, TypeError) {
		t.Errorf("an object that is registered no more: got %v, want a TypeError, as it cannot be sent", err)
	}
}

// A method's own daemon, or that of the options, makes proxies of arguments; the callee calls back, in a circle if need be.
//
// spec: S6 S7
func TestAutoproxyArguments(t *testing.T) {
	t.Parallel()

	there, _ := nodesOn(t, "far")
	d, mine := nodesOn(t, "mine")
	for _, opts := range []ProxyOptions{{Daemon: d}, {Daemon: d, Plain: true}, {Daemon: d, Serializer: "serpent"}} {
		p := NewProxy(there.URI("far"), opts)
		before := mine[0].heard.Load()
		if err := p.Call(t.Context(), "call_back", nil, mine[0]); err != nil {
			t.Fatal(err)
		}
		if err := p.Call(t.Context(), "call_back", nil, Kwargs{}, mine[0]); err == nil {
			t.Error("keyword arguments in the middle: no error")
		}
		if got := mine[0].heard.Load() - before; got != 1 {
			t.Errorf("called back %d times, want once", got)
		}
		p.Close()
	}
	p := NewProxy(d.URI("mine"), ProxyOptions{})
	defer p.Close()
	far := there.URI("far")
	before := mine[0].heard.Load()
	if err := p.Call(t.Context(), "introduce", nil, ProxyState{URI: far, Methods: []string{"call_back"}}); err != nil {
		t.Fatal(err)
	}
	if got := mine[0].heard.Load() - before; got != 1 {
		t.Errorf("introduced: called back %d times, want once", got)
	}
	without := NewProxy(far, ProxyOptions{})
	defer without.Close()
	if err := without.Call(t.Context(), "call_back", nil, mine[0]); err == nil {
		t.Error("without a daemon: no error, want that the object cannot be sent")
	}
}

// Objects that Go cannot tell from others are no proxies.
func TestAutoproxyIdentity(t *testing.T) {
	t.Parallel()
	type empty struct{}
	for _, v := range []any{&empty{}, 5, "x", &Factory{}, empty{}} {
		if got := identity(v); got != nil {
			t.Errorf("identity(%T) = %v, want nil", v, got)
		}
	}
	if v := new(counted); identity(v) != any(v) {
		t.Error("a pointer is not known by itself")
	}
}
