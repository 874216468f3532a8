package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestListenError(t *testing.T) {
	t.Parallel()
	if p, err := Listen(Options{Listen: "127.0.0.1:99999"}); err == nil || !strings.HasPrefix(err.Error(), "link: ") {
		t.Errorf("Listen on port 99999 = %v, %v, want an error", p, err)
	}
}

// Bytes arrive as they were sent, in both directions at once, on many connections at once; and the end of one direction arrives, too.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	for _, frames := range []bool{false, true} {
		t.Run(fmt.Sprintf("frames=%v", frames), func(t *testing.T) {
			t.Parallel()
			p := listen(t, Options{Backend: backend(t, echo), Frames: frames})
			var active sync.WaitGroup
			for i := range 8 {
				c, b := dial(t, p), random(1<<20, uint64(i))
				if frames && i%2 == 0 { // messages rather than any bytes
					b = nil
					for n := range 400 {
						b = append(b, message(n%3, n*n%5000)...)
					}
				}
				active.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(i), 1))
					for rest := b; len(rest) > 0; {
						n := min(len(rest), 1+rng.IntN(1<<rng.IntN(18)))
						if _, err := c.Write(rest[:n]); err != nil {
							t.Errorf("connection %d: %v", i, err)
						}
						rest = rest[n:]
					}
					c.CloseWrite()
				})
				active.Go(func() {
					if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, b) {
						t.Errorf("connection %d: %d bytes came back, %v, want the same %d", i, len(got), err, len(b))
					}
				})
			}
			active.Wait()
			awaitConnections(t, p, 0)
		})
	}
}

// Either side may end what it sends and go on reading.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	for _, slow := range []time.Duration{0, 5 * time.Millisecond} {
		t.Run(fmt.Sprintf("slow=%v", slow), func(t *testing.T) {
			t.Parallel()
			got := make(chan outcome, 1)
			p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
				c.Write([]byte("all I have to say"))
				c.CloseWrite()
				b, err := io.ReadAll(c)
				got <- outcome{b, err}
			})})
			p.Slow(slow)
			c := dial(t, p)
			if b, err := io.ReadAll(c); string(b) != "all I have to say" || err != nil {
				t.Errorf("the client got %q, %v", b, err)
			}
			send(t, c, []byte("an answer"))
			c.CloseWrite()
			if o := receive(t, got); string(o.data) != "an answer" || o.err != nil {
				t.Errorf("the server got %q, %v", o.data, o.err)
			}
			awaitConnections(t, p, 0)
		})
	}
}

// A reset of either side arrives as one.
func TestResetPassesOn(t *testing.T) {
	t.Parallel()
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		result := make(chan error, 1)
		p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
			io.ReadFull(c, make([]byte, 1))
			c.Write([]byte("1"))
			_, err := io.ReadAll(c)
			result <- err
		})})
		c := dial(t, p)
		roundTrip(t, c, "1")
		c.SetLinger(0)
		c.Close()
		if err := receive(t, result); !isReset(err) {
			t.Errorf("the server got %v, want a reset", err)
		}
		awaitConnections(t, p, 0)
	})
	t.Run("backend", func(t *testing.T) {
		t.Parallel()
		p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
			io.ReadFull(c, make([]byte, 1))
			c.SetLinger(0)
		})})
		c := dial(t, p)
		send(t, c, []byte("1"))
		expectReset(t, c)
		awaitConnections(t, p, 0)
	})
}

// A slow reader slows its writer: little is under way, and none of it is lost.
func TestBackpressure(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		slow time.Duration
	}{
		{"at once", 0},
		{"slow", 5 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			begin, got := make(chan struct{}), make(chan outcome, 1)
			p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
				<-begin
				b, err := io.ReadAll(c)
				got <- outcome{b, err}
			}), Frames: true})
			t.Cleanup(func() { close(begin) })
			p.Slow(tt.slow)
			c := dial(t, p)
			block, sent := random(1<<20, 1), 0
			const limit = 64 // MiB; what the kernel takes, and 8 MiB of the proxy's own
			for {
				c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				n, err := c.Write(block[sent%len(block):])
				sent += n
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil || sent > limit<<20 {
					t.Fatalf("%d bytes sent that nobody reads, %v, want to wait", sent, err)
				}
			}
			begin <- struct{}{}
			c.CloseWrite()
			o := receive(t, got)
			want := bytes.Repeat(block, limit+1)[:sent]
			if o.err != nil || !bytes.Equal(o.data, want) {
				t.Errorf("%d bytes arrived, %v, want the %d that were sent", len(o.data), o.err, sent)
			}
		})
	}
}

// What is late is bounded, too.
func TestBackpressureOfLateBytes(t *testing.T) {
	t.Parallel()
	address, _ := collect(t)
	p := listen(t, Options{Backend: address})
	p.Slow(time.Hour)
	c := dial(t, p)
	block, sent := make([]byte, 1<<20), 0
	for {
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Write(block)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil || sent > 64<<20 {
			t.Fatalf("%d bytes sent that come in an hour, %v, want to wait", sent, err)
		}
	}
	if sent < lineBytes {
		t.Errorf("%d bytes sent, want at least %d under way", sent, lineBytes)
	}
}

// Without a backend a client gets an error, and once there is one, later clients get through.
func TestNoBackend(t *testing.T) {
	t.Parallel()
	// Nobody listens on the port of a client, and nobody else can get it while the client is there.
	held, err := net.Dial("tcp", backend(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	for _, tt := range []struct{ name, backend string }{{"refused", held.LocalAddr().String()}, {"none", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := listen(t, Options{Backend: tt.backend})
			c, err := net.Dial("tcp", p.Addr())
			if err == nil {
				c.SetDeadline(time.Now().Add(patience))
				_, err = c.Read(make([]byte, 1))
				c.Close()
			}
			if !isReset(err) { // which may come before the client has noticed that it is connected
				t.Errorf("a client got %v, want a reset", err)
			}
			awaitConnections(t, p, 0)
			p.SetBackend(backend(t, echo))
			roundTrip(t, dial(t, p), "hello")
		})
	}
}

// SetBackend leaves open connections where they are.
func TestSetBackend(t *testing.T) {
	t.Parallel()
	name := func(name string) string {
		return backend(t, func(c *net.TCPConn) {
			for {
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					return
				}
				c.Write([]byte(name))
			}
		})
	}
	ask := func(c net.Conn) string {
		send(t, c, []byte("?"))
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	p := listen(t, Options{Backend: name("a")})
	first := dial(t, p)
	before := ask(first)
	p.SetBackend(name("b"))
	if got := before + ask(first) + ask(dial(t, p)); got != "aab" {
		t.Errorf("got %q, want the first connection at a twice, the second one at b", got)
	}
	if n := p.Connections(); n != 2 {
		t.Errorf("Connections() = %d, want 2", n)
	}
}

// Close ends everything, whatever is under way.
func TestClose(t *testing.T) {
	t.Parallel()
	address, got := collect(t)
	p := listen(t, Options{Backend: address, Frames: true, From: func([]byte) string { return "" }})
	var writers sync.WaitGroup
	write := func(n int) {
		for range n {
			c := dial(t, p)
			writers.Go(func() {
				for {
					if _, err := c.Write(message(0, 100)); err != nil {
						return
					}
				}
			})
		}
	}
	write(4)
	p.Slow(2 * time.Millisecond)
	write(4)
	awaitConnections(t, p, 8)
	healHalfOpen, err := p.HalfOpen()
	if err != nil {
		t.Fatal(err)
	}
	cut := async(func() error { return p.Cut(t.Context()) })
	await(t, "a cut waits", func() bool { return p.armed.Load() == 1 })
	heal := p.Partition("")
	write(4)
	awaitLost(t, p, 8)
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	closers.Wait()
	writers.Wait()
	for range 8 {
		receive(t, got)
	}
	if err := receive(t, cut); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Cut = %v, want %v", err, net.ErrClosed)
	}
	heal()
	healHalfOpen()
	if _, err := net.Dial("tcp", p.Addr()); err == nil {
		t.Error("a closed proxy can be dialled")
	}
	if err := p.Cut(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Cut after Close = %v, want %v", err, net.ErrClosed)
	}
}

// Close returns after everything that the proxy has begun.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	p := listen(t, Options{Backend: backend(t, echo), From: func([]byte) string {
		close(asked)
		<-answer
		return "somebody"
	}})
	send(t, dial(t, p), []byte("hello"))
	receive(t, asked)
	closed := async(p.Close)
	awaitConnections(t, p, 0) // Close has nothing to do any more but to wait
	for range 1000 {
		runtime.Gosched()
	}
	if len(closed) > 0 {
		t.Error("Close has returned while From was called")
	}
	close(answer)
	if err := receive(t, closed); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// A connection that was reset while its backend was dialled does not take that of the backend.
func TestAttachTooLate(t *testing.T) {
	t.Parallel()
	c := &conn{p: &Proxy{}}
	if !c.attach(nil) {
		t.Error("an open connection takes no backend")
	}
	c.ended = true
	if c.attach(nil) {
		t.Error("a connection that has ended takes a backend, which nobody would close")
	}
}

func TestDialer(t *testing.T) {
	t.Parallel()
	address := backend(t, echo)
	opened, broken := 0, errors.New("broken")
	dial := Dialer(func(a string) (*Proxy, error) {
		opened++
		if opened == 1 {
			return nil, broken
		}
		return listen(t, Options{Backend: a}), nil
	})
	if c, err := dial(t.Context(), "tcp", address); !errors.Is(err, broken) {
		t.Errorf("dial = %v, %v, want the error of open", c, err)
	}
	for range 3 {
		c, err := dial(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		if c.RemoteAddr().String() == address {
			t.Errorf("the connection goes to %s directly", address)
		}
		roundTrip(t, c, "hello")
	}
	if opened != 2 {
		t.Errorf("open was called %d times, want once after its error", opened)
	}
	if c, err := dial(t.Context(), "unix", "/nowhere"); err == nil || !strings.Contains(err.Error(), "only tcp") {
		t.Errorf("dial unix = %v, %v, want an error", c, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := dial(ctx, "tcp", address); !errors.Is(err, context.Canceled) {
		t.Errorf("dial with a context that has ended = %v, %v", c, err)
	}
}
