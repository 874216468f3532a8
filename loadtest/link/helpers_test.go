package link

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// patience is how long a test waits for what has to happen, before it fails.
const patience = 30 * time.Second

// listen starts a proxy.
func listen(t testing.TB, opts Options) *Proxy {
	t.Helper()
	opts.Listen = "127.0.0.1:0"
	p, err := Listen(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if n := p.Connections(); n != 0 {
			t.Errorf("%d connections after Close", n)
		}
	})
	return p
}

// backend serves each connection with handle, which has it closed, and returns the address.
func backend(t testing.TB, handle func(c *net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var active sync.WaitGroup
	active.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			active.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		active.Wait()
	})
	return ln.Addr().String()
}

func echo(c *net.TCPConn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := c.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// outcome is what a backend got on a connection until its end.
type outcome struct {
	data []byte
	err  error // nil for a clean end
}

// collect serves with a backend that answers nothing, and reports what it got.
func collect(t testing.TB) (string, <-chan outcome) {
	got := make(chan outcome, 100) // of at most so many connections
	return backend(t, func(c *net.TCPConn) {
		b, err := io.ReadAll(c)
		got <- outcome{b, err}
	}), got
}

func dial(t testing.TB, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience)) // what hangs fails
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func send(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// roundTrip sends a text to an echo and waits for it.
func roundTrip(t testing.TB, c net.Conn, text string) {
	t.Helper()
	send(t, c, []byte(text))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("sent %q, got %q, %v", text, got, err)
	}
}

// expectReset reads from a connection that has to be reset, with nothing to read before that.
func expectReset(t testing.TB, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); n != 0 || !isReset(err) {
		t.Errorf("read %d bytes, %v, want a reset", n, err)
	}
}

// receive receives, or fails the test.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

// async runs f, whose result can be received.
func async[T any](f func() T) <-chan T {
	c := make(chan T, 1)
	go func() { c <- f() }()
	return c
}

// await waits until something is so.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain until ", what)
		}
	}
}

func awaitConnections(t testing.TB, p *Proxy, n int) {
	t.Helper()
	await(t, "there are the connections", func() bool { return p.Connections() == n })
}

// awaitLost waits until bytes, or the end, of n connections have vanished.
func awaitLost(t testing.TB, p *Proxy, n int) {
	t.Helper()
	await(t, "something has vanished", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		lost := 0
		for c := range p.conns {
			if c.lost {
				lost++
			}
		}
		return lost == n
	})
}

func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// message is one of protocol 502 with that much behind the header.
func message(annotations, payload int) []byte {
	b := append([]byte(headerPrefix), make([]byte, headerBytes-len(headerPrefix))...)
	binary.BigEndian.PutUint32(b[12:], uint32(payload))
	binary.BigEndian.PutUint32(b[16:], uint32(annotations))
	binary.BigEndian.PutUint16(b[38:], headerMagic)
	return append(b, random(annotations+payload, 1)...)
}

// worker is a Pyro object.
type worker struct {
	calls   atomic.Int64
	entered chan struct{} // told when Block begins
	release chan struct{} // Block ends
}

func (w *worker) Echo(text string) string {
	w.calls.Add(1)
	return text
}

func (w *worker) Block(ctx context.Context) string {
	w.calls.Add(1)
	w.entered <- struct{}{}
	select {
	case <-w.release:
	case <-ctx.Done():
	}
	return "a reply"
}

// serve serves a worker and returns a proxy in front of it.
func serve(t testing.TB) (*worker, core.URI, *Proxy) {
	t.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{entered: make(chan struct{}, 100), release: make(chan struct{})}
	uri, err := d.Register("worker", w, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served := async(func() error { return d.Serve(context.Background()) })
	t.Cleanup(func() {
		d.Close()
		if err := receive(t, served); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return w, uri, listen(t, Options{Backend: d.Addr().String(), Frames: true})
}

// client returns a client of a worker through p.
func client(t testing.TB, uri core.URI, p *Proxy) *core.Proxy {
	t.Helper()
	c := core.NewProxy(uri, core.ProxyOptions{Dial: Dialer(func(string) (*Proxy, error) { return p, nil })})
	t.Cleanup(func() { c.Close() })
	return c
}

func callEcho(ctx context.Context, c *core.Proxy) error {
	var got string
	if err := c.Call(ctx, "echo", &got, "some text"); err != nil {
		return err
	}
	if got != "some text" {
		return errors.New("got " + got)
	}
	return nil
}

// works makes a call that has to succeed.
func works(t testing.TB, c *core.Proxy) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := callEcho(ctx, c); err != nil {
		t.Errorf("a call: %v", err)
	}
}

// timesOut makes a call that nobody may answer or refuse.
func timesOut(t testing.TB, c *core.Proxy) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := callEcho(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call: %v, want that its deadline has passed", err)
	}
}

// breaks receives the error of a call that was sent and whose connection broke.
func breaks(t testing.TB, call <-chan error) {
	t.Helper()
	err := receive(t, call)
	if e, ok := errors.AsType[*core.TransportError](err); !ok || !e.Written {
		t.Errorf("the call: %v, want a core.TransportError with Written", err)
	}
}
