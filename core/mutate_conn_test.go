package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// recordedConn keeps what is written to a connection.
type recordedConn struct {
	net.Conn
	mu      *sync.Mutex // protects written
	written *[]byte
}

func (c *recordedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.written = append(*c.written, p...)
	return c.Conn.Write(p)
}

// recordCalls returns what a proxy sends for some calls, from the handshake on.
func recordCalls(t *testing.T, uri URI, opts ProxyOptions) []byte {
	t.Helper()
	var mu sync.Mutex
	var written []byte
	opts.MaxConns = 1
	opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return &recordedConn{c, &mu, &written}, err
	}
	p := proxyFor(t, uri, opts)
	for i, call := range []func() error{
		func() error { return p.Call(t.Context(), "deposit", nil, "name", Kwargs{"amount": 5}) },
		func() error { return p.Call(t.Context(), "echo", nil, []any{1, 2.5, "text", map[string]any{"a": nil}}) },
		func() error { return p.Call(t.Context(), "sum", nil, 1, 2, 3) },
		func() error { return p.SetAttr(t.Context(), "owner", "irmen") },
		func() error { return p.Attr(t.Context(), "owner", nil) },
		func() error {
			if err := p.Call(t.Context(), "echo", nil, NewBlob("info", []any{1})); !errors.Is(err, TypeError) {
				return fmt.Errorf("a blob as a result: got %w, want a TypeError", err)
			}
			return nil
		},
		func() error { return p.CallOneway(t.Context(), "ping") },
	} {
		if err := call(); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return written
}

// TestMutatedConnections sends a daemon what proxies sent, spoilt: some 14,000 messages.  It answers the next client as if nothing had
// been.
//
// spec: Z1
func TestMutatedConnections(t *testing.T) {
	t.Parallel()
	const connections = 2000
	_, d, p := serveAccount(t, DaemonOptions{MaxMessageBytes: 1 << 20, AcceptXML: true}, ProxyOptions{})
	var sources [][]byte
	for _, s := range []string{"", "serpent", "marshal", "json", "msgpack", "xml"} {
		for _, compress := range []bool{false, true} {
			sources = append(sources, recordCalls(t, d.URI("account"), ProxyOptions{Serializer: s, Compress: compress}))
		}
	}
	for _, s := range []string{"serpent", "marshal", "json", "msgpack"} {
		sources = append(sources, recordCalls(t, d.URI("account"), ProxyOptions{Serializer: s, Protocol: version48}))
	}
	var workers sync.WaitGroup
	for w := range uint64(4) {
		workers.Go(func() {
			m := mutator{rand.New(rand.NewPCG(w, 9)), sources}
			for range connections / 4 {
				if err := replay(d, m.next()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	var n int
	if err := p.Call(t.Context(), "sum", &n, 1, 2); err != nil || n != 3 {
		t.Errorf("the next client: got %d, %v", n, err)
	}
}

// replay sends data and reads until the daemon closes the connection.
func replay(d *Daemon, data []byte) error {
	nc, err := net.Dial("tcp", d.Addr().String())
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := nc.Write(data); err == nil { // or the daemon has closed already
		nc.(*net.TCPConn).CloseWrite()
	}
	if _, err := io.Copy(io.Discard, nc); err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() {
			return fmt.Errorf("the connection is open 20 s after %q", data)
		}
	}
	return nil
}
