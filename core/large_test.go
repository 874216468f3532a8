package core

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
)

// keeper is a servant whose methods keep the bytes they get and return.
type keeper struct {
	mu   sync.Mutex
	kept [][]byte
	got  chan []byte // of oneway calls
}

func (k *keeper) keep(p []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, p)
}

func (k *keeper) servant() *Servant {
	return &Servant{Methods: []Method{
		{Name: "echo", Params: []Param{{Name: "before"}, {Name: "p"}, {Name: "after"}}, Direct: func(_ context.Context, args *Decoder, result *Encoder) error {
			before, p, after := args.Bytes(), args.Bytes(), args.Bytes()
			if err := args.Err(); err != nil {
				return err
			}
			if len(before) != 1 || len(after) != 2 {
				return ValueError.New("%d bytes before, %d after", len(before), len(after))
			}
			k.keep(p)
			result.Bytes(p)
			return nil
		}},
		{Name: "fire", Oneway: true, Params: []Param{{Name: "p"}}, Direct: func(_ context.Context, args *Decoder, _ *Encoder) error {
			p := args.Bytes()
			k.got <- p
			return args.Err()
		}},
	}}
}

// pattern returns n bytes that differ from those of another seed.
func pattern(n, seed int) []byte {
	p := make([]byte, n)
	const period = 4099 // a prime: no multiple of it is the length of a buffer
	for i := range min(n, period) {
		p[i] = byte(i*7 + i>>8 + seed*13)
	}
	for done := period; done < n; done *= 2 {
		copy(p[done:], p[:done])
	}
	return p
}

func echo(p *Proxy, data []byte) ([]byte, error) {
	call := NewInvocation("echo")
	defer call.Free()
	call.Args.Bytes([]byte{1})
	call.Args.Bytes(data)
	call.Args.Bytes([]byte{2, 3})
	if err := p.Invoke(context.Background(), call); err != nil {
		return nil, err
	}
	result := call.Result.Bytes()
	return result, call.Result.Err()
}

// Many bytes are handed over rather than copied: what a method or a caller got is its own for ever.
func TestLargeBytesAreOwned(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	for _, tc := range []struct {
		name   string
		server DaemonOptions
		client ProxyOptions
	}{
		{"shared", DaemonOptions{}, ProxyOptions{}},
		{"plain", DaemonOptions{}, ProxyOptions{Plain: true}},
		{"another serializer", DaemonOptions{}, ProxyOptions{Serializer: "marshal"}},
		{"compressed", DaemonOptions{Compress: true}, ProxyOptions{Compress: true}},
		{"TLS", DaemonOptions{TLS: tlsFiles(t, ca, nil, "server", "127.0.0.1").Server()},
			ProxyOptions{TLS: tlsFiles(t, nil, ca, "").Config()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := &keeper{}
			d := serve(t, tc.server)
			uri, err := d.Register("keeper", k.servant(), ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			p := NewProxy(uri, tc.client)
			t.Cleanup(func() { p.Close() })
			sizes := []int{0, 1, largeBytes - 1, largeBytes, 2*largeBytes + 1, 100_000, 1 << 20, 1<<20 + 1, 3 << 20}
			var wg sync.WaitGroup
			for caller := range 4 {
				wg.Go(func() {
					var results [][]byte
					for i, n := range sizes {
						data := pattern(n, caller+i)
						got, err := echo(p, data)
						if err != nil {
							t.Errorf("%d bytes: %v", n, err)
							return
						}
						clear(data) // the caller's again
						results = append(results, got)
					}
					for i, n := range sizes {
						if !bytes.Equal(results[i], pattern(n, caller+i)) {
							t.Errorf("the result of %d bytes has changed, or was wrong", n)
						}
					}
				})
			}
			wg.Wait()
			want := make(map[string]int)
			for caller := range 4 {
				for i, n := range sizes {
					want[string(pattern(n, caller+i))]++
				}
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			for _, b := range k.kept {
				if want[string(b)]--; want[string(b)] < 0 {
					t.Errorf("the argument of %d bytes has changed, or was wrong", len(b))
				}
			}
		})
	}
}

func TestLargeOneway(t *testing.T) {
	t.Parallel()
	const n = 20
	k := &keeper{got: make(chan []byte, n)}
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("keeper", k.servant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	data := pattern(1<<20, 0)
	for i := range n {
		data[0] = byte(i)
		call := NewInvocation("fire")
		call.Oneway()
		call.Args.Bytes(data)
		if err := p.Invoke(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		call.Free()
	}
	seen := make(map[byte]bool)
	for range n {
		got := <-k.got // methods may overtake each other
		seen[got[0]] = true
		if data[0] = got[0]; !bytes.Equal(got, data) {
			t.Errorf("call %d: wrong bytes", got[0])
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d calls arrived, others twice", len(seen), n)
	}
}

// valve is a TCP proxy that can stop to take what clients send.
type valve struct {
	net.Listener
	mu     sync.Mutex
	open   sync.Cond
	closed bool
}

func newValve(t *testing.T, to string) *valve {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{Listener: ln}
	v.open.L = &v.mu
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			wg.Go(func() { defer server.Close(); io.Copy(server, v.passes(client)) })
			wg.Go(func() { defer client.Close(); io.Copy(client, server) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		v.set(false)
		wg.Wait()
	})
	return v
}

func (v *valve) set(closed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = closed
	v.open.Broadcast()
}

func (v *valve) passes(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		v.mu.Lock()
		for v.closed {
			v.open.Wait()
		}
		v.mu.Unlock()
		return r.Read(p)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A caller's deadline holds while the peer takes nothing.  What the caller has sent arrives all the same, as it was.
func TestLargeRequestOfImpatientCaller(t *testing.T) {
	t.Parallel()
	k := &keeper{got: make(chan []byte, 1)}
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("keeper", k.servant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v := newValve(t, uri.location())
	uri.Port = v.Addr().(*net.TCPAddr).Port
	p := NewProxy(uri, ProxyOptions{})
	t.Cleanup(func() { p.Close() })
	if err := p.Bind(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.set(true)

	const n = 40 << 20 // more than sockets take
	data := pattern(n, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	call := NewInvocation("fire") // though oneway, it is written before the call returns
	call.Oneway()
	call.Args.Bytes(data)
	if err := p.Invoke(ctx, call); err != nil {
		t.Fatalf("got %v, want nil: a oneway call that is being written counts as sent", err)
	}
	if ctx.Err() == nil {
		t.Error("the call was over before its time, and the peer takes nothing")
	}
	call.Free()
	clear(data) // the caller's again

	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	call = NewInvocation("echo")
	call.Args.Bytes([]byte{1})
	call.Args.Bytes(data)
	call.Args.Bytes([]byte{2, 3})
	if err := p.Invoke(ctx, call); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call behind it: got %v, want DeadlineExceeded", err)
	}
	call.Free()

	v.set(false)
	if got := <-k.got; !bytes.Equal(got, pattern(n, 1)) {
		t.Error("other bytes have arrived than were sent")
	}
	if got, err := echo(p, pattern(1<<20, 2)); err != nil || !bytes.Equal(got, pattern(1<<20, 2)) {
		t.Errorf("the next call: %d bytes, %v", len(got), err)
	}
}
