package events

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// fakeNet is a network in memory, for tests in virtual time, with event servers whose answers the test makes.
type fakeNet struct {
	t testing.TB

	mu    sync.Mutex // guards nodes
	nodes map[string]*fakeNode
}

func newFakeNet(t testing.TB) *fakeNet { return &fakeNet{t: t, nodes: map[string]*fakeNode{}} }

// client returns one that reaches these nodes, whether they are there or not.
func (f *fakeNet) client(nodes ...string) *Client {
	f.t.Helper()
	c, err := NewClient(nodes, ClientOptions{Proxy: core.ProxyOptions{Dial: f.dial}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

func (f *fakeNet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	f.mu.Lock()
	n := f.nodes[address]
	f.mu.Unlock()
	if n == nil {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fakeMethods are what an event server does; those that are nil succeed and do nothing.
type fakeMethods struct {
	publish func(ctx context.Context, first int64, events []submission) error
	open    func(ctx context.Context) (id string, err error)
	read    func(ctx context.Context, id string) []byte
	close   func(id string)
	topics  func(ctx context.Context) (any, error)
}

// fakeNode listens to one address.
type fakeNode struct {
	address string
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
	cut     func() // ends it and its connections; methods that run go on until they see that
}

func (n *fakeNode) Accept() (net.Conn, error) {
	select {
	case conn := <-n.conns:
		return conn, nil
	case <-n.closed:
		return nil, io.EOF
	}
}

func (n *fakeNode) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *fakeNode) Addr() net.Addr { return n }

func (n *fakeNode) Network() string { return "tcp" }

func (n *fakeNode) String() string { return n.address }

// serve starts an event server at host:port.
func (f *fakeNet) serve(address string, m fakeMethods) *fakeNode {
	f.t.Helper()
	n := &fakeNode{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
	d, err := core.NewDaemon(n, core.DaemonOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := d.Register(ObjectID, m.servant(), core.ObjectOptions{}); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.nodes[address] = n
	f.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Serve(context.WithoutCancel(f.t.Context()))
	}()
	n.cut = func() { d.Close() }
	f.t.Cleanup(func() { d.Close(); <-done })
	return n
}

func (m fakeMethods) servant() *core.Servant {
	s := &core.Servant{Class: "Fake"}
	add := func(name string, params []string, f func(ctx context.Context, args []any) (any, error)) {
		method := core.Method{Name: name, Func: f}
		for _, p := range params {
			method.Params = append(method.Params, core.Param{Name: p})
		}
		s.Methods = append(s.Methods, method)
	}
	add("publish_events", []string{"publisher", "first", "events"}, func(ctx context.Context, args []any) (any, error) {
		if m.publish == nil {
			return nil, nil
		}
		events, err := parseSubmissions(slices.Clone(args[2].([]byte)))
		if err != nil {
			return nil, valueError(err)
		}
		return nil, m.publish(ctx, args[1].(int64), events)
	})
	add("open_stream", []string{"options"}, func(ctx context.Context, _ []any) (any, error) {
		if m.open == nil {
			return "id", nil
		}
		return m.open(ctx)
	})
	add("read_stream", []string{"stream", "wait"}, func(ctx context.Context, args []any) (any, error) {
		if m.read == nil {
			pause(ctx, readWait)
			return appendBatchHeader(nil, streamOpen, 0, ""), nil
		}
		return m.read(ctx, args[0].(string)), nil
	})
	add("close_stream", []string{"stream"}, func(_ context.Context, args []any) (any, error) {
		if m.close != nil {
			m.close(args[0].(string))
		}
		return nil, nil
	})
	add("topics", nil, func(ctx context.Context, _ []any) (any, error) {
		if m.topics == nil {
			return []any{}, nil
		}
		return m.topics(ctx)
	})
	return s
}
