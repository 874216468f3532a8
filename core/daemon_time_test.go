package core

import (
	"context"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener is a network in memory, for tests in virtual time.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	close(l.done)
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "tcp" }
func (pipeAddr) String() string  { return "memory:1" }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// inBubble runs f with a daemon that serves an account, in virtual time.
func inBubble(t *testing.T, opts DaemonOptions, f func(t *testing.T, ln *pipeListener, a *account, uri URI)) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		d, err := NewDaemon(ln, opts)
		if err != nil {
			t.Fatal(err)
		}
		a := newAccount()
		uri, err := d.Register("account", a, accountOptions())
		if err != nil {
			t.Fatal(err)
		}
		served := start(func() error { return d.Serve(t.Context()) })
		f(t, ln, a, uri)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// connect makes a raw connection that is past its handshake.
func (l *pipeListener) connect(t *testing.T) *rawClient {
	nc, err := l.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return greet(t, nc)
}

// greet does the handshake for the account.
func greet(t *testing.T, nc net.Conn) *rawClient {
	c := &rawClient{t: t, nc: nc, wire: newWire(nc, 1<<20)}
	c.send(header{typ: msgConnect, serializer: 4}, nil, c.value(4, map[string]any{"handshake": "hello", "object": "account"}))
	if m := c.receive(); m.typ != msgConnectOK {
		t.Fatalf("handshake: got type %d", m.typ)
	}
	return c
}

// closedAfter returns how long the daemon kept the connection.
func (c *rawClient) closedAfter() time.Duration {
	c.t.Helper()
	began := time.Now()
	c.expectClosed()
	return time.Since(began)
}

// TestTimeouts: those of idle connections and those within messages are separate.
//
// spec: X7
func TestTimeouts(t *testing.T) {
	t.Parallel()
	t.Run("handshake", func(t *testing.T) {
		t.Parallel()
		inBubble(t, DaemonOptions{}, func(t *testing.T, ln *pipeListener, _ *account, _ URI) {
			nc, err := ln.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			c := &rawClient{t: t, nc: nc, wire: newWire(nc, 1000)}
			if got := c.closedAfter(); got != defaultHandshakeTimeout {
				t.Errorf("closed after %v, want %v", got, defaultHandshakeTimeout)
			}
		})
	})
	t.Run("idle without a limit", func(t *testing.T) {
		t.Parallel()
		inBubble(t, DaemonOptions{}, func(t *testing.T, ln *pipeListener, _ *account, _ URI) {
			c := ln.connect(t)
			<-time.After(1000 * time.Hour) // virtual
			c.expectOpen()
			c.nc.Close()
		})
	})
	t.Run("idle with a limit", func(t *testing.T) {
		t.Parallel()
		inBubble(t, DaemonOptions{IdleTimeout: time.Minute}, func(t *testing.T, ln *pipeListener, _ *account, _ URI) {
			c := ln.connect(t)
			for range 5 {
				<-time.After(59 * time.Second) // virtual
				c.expectOpen()
			}
			if got := c.closedAfter(); got != time.Minute {
				t.Errorf("closed after %v, want %v", got, time.Minute)
			}
		})
	})
	for cut, name := range map[int]string{1: "one byte of a message", 20: "half a header", 45: "half a payload"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, DaemonOptions{}, func(t *testing.T, ln *pipeListener, _ *account, _ URI) {
				c := ln.connect(t)
				c.sendBytes(fromHex(t, golden[1].frame)[:cut])
				if got := c.closedAfter(); got != messageTimeout {
					t.Errorf("closed after %v, want %v", got, messageTimeout)
				}
			})
		})
	}
	t.Run("a client that does not read", func(t *testing.T) {
		t.Parallel()
		inBubble(t, DaemonOptions{}, func(t *testing.T, ln *pipeListener, _ *account, _ URI) {
			c := ln.connect(t)
			c.send(header{typ: msgPing}, nil, []byte("ping"))
			synctest.Wait()
			<-time.After(2 * messageTimeout) // virtual
			synctest.Wait()
			c.expectClosed()
		})
	})
}

// TestProxyInMemory makes calls where nobody can look at the sockets.
func TestProxyInMemory(t *testing.T) {
	t.Parallel()
	inBubble(t, DaemonOptions{}, func(t *testing.T, ln *pipeListener, a *account, uri URI) {
		p := NewProxy(uri, ProxyOptions{Dial: ln.dial})
		defer p.Close()
		var n int
		for range 3 {
			if err := p.Call(t.Context(), "sum", &n, 1, 2); err != nil || n != 3 {
				t.Errorf("got %d, %v", n, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		if err := p.Call(ctx, "block", nil, "x"); err == nil || time.Since(began) != time.Hour {
			t.Errorf("got %v after %v, want an error after an hour", err, time.Since(began))
		}
	})
}

// A client that waits for a call is not idle.
func TestIdleTimeoutWhileCallsRun(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprint("plain ", plain), func(t *testing.T) {
			t.Parallel()
			inBubble(t, DaemonOptions{IdleTimeout: time.Minute}, func(t *testing.T, ln *pipeListener, a *account, uri URI) {
				p := NewProxy(uri, ProxyOptions{Dial: ln.dial, Plain: plain})
				defer p.Close()
				for range 2 { // the second time the method is known to take long
					blocked := start(func() error { return p.Call(context.Background(), "block", nil, "x") })
					<-a.entered
					time.Sleep(time.Hour)
					if err := p.Call(t.Context(), "echo", nil, 1); err != nil {
						t.Errorf("another call after an hour: %v", err)
					}
					a.release <- struct{}{}
					if err := <-blocked; err != nil {
						t.Errorf("a call of an hour: %v", err)
					}
				}
			})
		})
	}
}
