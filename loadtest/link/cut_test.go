package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// armed starts n cuts, one after the other, and returns when they wait.
func armed(t *testing.T, p *Proxy, n int) <-chan error {
	t.Helper()
	done := make(chan error, n)
	for i := range n {
		go func() { done <- p.Cut(t.Context()) }()
		await(t, "the cut waits", func() bool { return p.armed.Load() == int32(i+1) })
	}
	return done
}

// A cut in a reply: the method has run, once, and the caller gets an error that says so.
func TestCutReply(t *testing.T) {
	t.Parallel()
	w, uri, p := serve(t)
	c := client(t, uri, p)
	works(t, c)
	w.calls.Store(0)
	call := async(func() error { return c.Call(t.Context(), "block", nil) })
	receive(t, w.entered)
	cut := armed(t, p, 1)
	close(w.release)
	breaks(t, call)
	if err := receive(t, cut); err != nil {
		t.Errorf("Cut = %v", err)
	}
	if n := w.calls.Load(); n != 1 {
		t.Errorf("the method ran %d times, want once", n)
	}
	awaitConnections(t, p, 0)
	works(t, c)
}

// A cut in a request: the method does not run, which the caller cannot know.
func TestCutRequest(t *testing.T) {
	t.Parallel()
	w, uri, p := serve(t)
	c := client(t, uri, p)
	works(t, c)
	cut := armed(t, p, 1)
	breaks(t, async(func() error { return callEcho(t.Context(), c) }))
	if err := receive(t, cut); err != nil {
		t.Errorf("Cut = %v", err)
	}
	works(t, c)
	if n := w.calls.Load(); n != 2 {
		t.Errorf("the method ran %d times, want twice", n)
	}
}

// windowBytes is what a kernel takes for a reader that does not read yet, if not more.
const windowBytes = 32 << 10

// A message is cut at its half, be it whole when it comes or byte by byte, late or not, and both sides are reset.
func TestCutAtHalf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                 string
		annotations, payload int
		at                   int // bytes per write
		slow                 bool
	}{
		{"header alone", 0, 0, 1 << 20, false},
		{"header alone, byte by byte", 0, 0, 1, false},
		{"small, byte by byte", 7, 20, 1, false},
		{"annotations alone", 101, 0, 3, false},
		{"large", 1000, 1 << 20, 1 << 20, false},
		{"large, in parts", 0, 300_001, 777, false},
		{"late", 10, 20_000, 1 << 20, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const begin = 50 // bytes that have passed before the cut waits
			begun, got := make(chan struct{}), make(chan outcome, 1)
			p := listen(t, Options{Backend: backend(t, func(c *net.TCPConn) {
				head := make([]byte, begin)
				io.ReadFull(c, head)
				close(begun)
				b, err := io.ReadAll(c)
				got <- outcome{append(head, b...), err}
			}), Frames: true})
			if tt.slow {
				p.Slow(time.Millisecond)
			}
			c := dial(t, p)
			inner := message(0, 500) // is not cut: it is part of another
			first, second := message(begin-headerBytes, len(inner)), message(tt.annotations, tt.payload)
			copy(first[begin:], inner)
			send(t, c, first[:begin])
			receive(t, begun)
			cut := armed(t, p, 1)
			var err error
			for rest := append(first[begin:], second...); len(rest) > 0 && err == nil; {
				n := min(tt.at, len(rest))
				_, err = c.Write(rest[:n])
				rest = rest[n:]
			}
			if err == nil {
				expectReset(t, c)
			} else if !isReset(err) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("sending to a connection that is cut: %v, want a reset", err)
			}
			o := receive(t, got)
			want := slices.Concat(first, second[:len(second)/2])
			if len(want) > windowBytes && len(o.data) < len(want) && len(o.data) > begin {
				want = want[:len(o.data)] // the reset has overtaken the rest
			}
			if !bytes.Equal(o.data, want) || !isReset(o.err) {
				t.Errorf("%d bytes arrived, %v, want %d and a reset", len(o.data), o.err, len(want))
			}
			if err := receive(t, cut); err != nil {
				t.Errorf("Cut = %v", err)
			}
		})
	}
}

// Several cuts at a time cut a message each.
func TestCutsTogether(t *testing.T) {
	t.Parallel()
	const n = 3
	address, got := collect(t)
	p := listen(t, Options{Backend: address, Frames: true})
	cuts := armed(t, p, n)
	m := message(0, 100)
	for range n {
		c := dial(t, p)
		send(t, c, m)
		if o := receive(t, got); len(o.data) != len(m)/2 || !isReset(o.err) {
			t.Errorf("%d bytes arrived, %v, want %d and a reset", len(o.data), o.err, len(m)/2)
		}
		if err := receive(t, cuts); err != nil {
			t.Errorf("Cut = %v", err)
		}
	}
	c := dial(t, p)
	send(t, c, m)
	c.CloseWrite()
	if o := receive(t, got); !bytes.Equal(o.data, m) || o.err != nil {
		t.Errorf("%d bytes arrived, %v, want the whole message", len(o.data), o.err)
	}
}

// A cut that nothing came for returns the cause of its context, and takes nothing later.
func TestCutWithoutMessage(t *testing.T) {
	t.Parallel()
	w, uri, p := serve(t)
	c := client(t, uri, p)
	works(t, c)
	ctx, cancel := context.WithCancelCause(t.Context())
	cut := async(func() error { return p.Cut(ctx) })
	await(t, "the cut waits", func() bool { return p.armed.Load() == 1 })
	enough := errors.New("enough")
	cancel(enough)
	if err := receive(t, cut); !errors.Is(err, enough) {
		t.Errorf("Cut = %v, want %v", err, enough)
	}
	if n := p.armed.Load(); n != 0 {
		t.Errorf("%d cuts wait yet", n)
	}
	for range 3 {
		works(t, c)
	}
	if n := w.calls.Load(); n != 4 {
		t.Errorf("%d calls arrived, want 4", n)
	}
}

// The beginning of a header is kept back while a cut waits; it is not lost when the cut is given up, nor when the sender ends.
func TestCutHoldsHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		first, rest int // bytes of a message before the cut is given up, and after
	}{
		{"a byte", 1, 99},
		{"nearly all", headerBytes - 1, 61},
		{"and the end", headerBytes - 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address, got := collect(t)
			p := listen(t, Options{Backend: address, Frames: true})
			ctx, cancel := context.WithCancel(t.Context())
			cut := async(func() error { return p.Cut(ctx) })
			await(t, "the cut waits", func() bool { return p.armed.Load() == 1 })
			c, m := dial(t, p), message(0, 60)
			for i := range tt.first {
				send(t, c, m[i:i+1])
			}
			giveUp := func() {
				cancel()
				if err := receive(t, cut); !errors.Is(err, context.Canceled) {
					t.Errorf("Cut = %v, want %v", err, context.Canceled)
				}
			}
			if tt.rest > 0 {
				giveUp()
			}
			want := m[:tt.first+tt.rest]
			send(t, c, want[tt.first:])
			c.CloseWrite()
			if o := receive(t, got); !bytes.Equal(o.data, want) || o.err != nil {
				t.Errorf("%q arrived, %v, want %q", o.data, o.err, want)
			}
			if tt.rest == 0 {
				giveUp()
			}
		})
	}
}

// A connection that ends before its message could be cut leaves the cut to the next one.
func TestCutMovesOn(t *testing.T) {
	t.Parallel()
	address, got := collect(t)
	p := listen(t, Options{Backend: address, Frames: true})
	cut := armed(t, p, 1)
	m := message(0, 1000)
	torn := dial(t, p)
	send(t, torn, m[:100])
	torn.Close()
	if o := receive(t, got); len(o.data) != 100 || o.err != nil {
		t.Errorf("%d bytes arrived, %v, want the 100 that were sent", len(o.data), o.err)
	}
	await(t, "the cut waits again", func() bool { return p.armed.Load() == 1 })
	send(t, dial(t, p), m)
	if o := receive(t, got); len(o.data) != len(m)/2 || !isReset(o.err) {
		t.Errorf("%d bytes arrived, %v, want %d and a reset", len(o.data), o.err, len(m)/2)
	}
	if err := receive(t, cut); err != nil {
		t.Errorf("Cut = %v", err)
	}
}

// A cut that is given up while its message passes leaves the message whole.
func TestCutGivenUpWithinMessage(t *testing.T) {
	t.Parallel()
	address, got := collect(t)
	p := listen(t, Options{Backend: address, Frames: true})
	ctx, cancel := context.WithCancel(t.Context())
	cut := async(func() error { return p.Cut(ctx) })
	await(t, "the cut waits", func() bool { return p.armed.Load() == 1 })
	c, m := dial(t, p), message(0, 1000)
	send(t, c, m[:100])
	await(t, "the message has the cut", func() bool { return p.armed.Load() == 0 })
	cancel()
	if err := receive(t, cut); !errors.Is(err, context.Canceled) {
		t.Errorf("Cut = %v, want %v", err, context.Canceled)
	}
	send(t, c, m[100:])
	send(t, c, m)
	c.CloseWrite()
	if o := receive(t, got); !bytes.Equal(o.data, slices.Concat(m, m)) || o.err != nil {
		t.Errorf("%d bytes arrived, %v, want two whole messages", len(o.data), o.err)
	}
}

// What is no message of protocol 502 passes unchanged, whether a cut waits or not.
func TestCutLeavesOtherBytes(t *testing.T) {
	t.Parallel()
	old := append([]byte("PYRO\x00\x30"), make([]byte, 200)...) // protocol 48
	wrongMagic := message(0, 100)
	wrongMagic[headerBytes-1]++
	for _, tt := range []struct {
		name  string
		bytes []byte
	}{
		{"protocol 48", old},
		{"text", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"nearly a tag", []byte("PYRA and more than forty bytes of something else, really")},
		{"wrong magic", wrongMagic},
		{"messages inside of something else", slices.Concat([]byte{0}, message(0, 50), message(0, 50))},
	} {
		for _, step := range []int{1, 1 << 20} {
			for _, cut := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, step=%d, cut=%v", tt.name, step, cut), func(t *testing.T) {
					t.Parallel()
					address, got := collect(t)
					p := listen(t, Options{Backend: address, Frames: true})
					if cut {
						done := armed(t, p, 1)
						defer func() {
							p.Close()
							if err := receive(t, done); !errors.Is(err, net.ErrClosed) {
								t.Errorf("Cut = %v, want none", err)
							}
						}()
					}
					c := dial(t, p)
					for b := range slices.Chunk(tt.bytes, step) {
						send(t, c, b)
					}
					c.CloseWrite()
					if o := receive(t, got); !bytes.Equal(o.data, tt.bytes) || o.err != nil {
						t.Errorf("%q arrived, %v, want %q", o.data, o.err, tt.bytes)
					}
				})
			}
		}
	}
}

func TestCutNeedsFrames(t *testing.T) {
	t.Parallel()
	p := listen(t, Options{})
	if err := p.Cut(t.Context()); err == nil || !strings.Contains(err.Error(), "Options.Frames") {
		t.Errorf("Cut without Frames = %v, want an error", err)
	}
}

// FuzzFrames checks that it does not matter for the messages how their bytes are split.
func FuzzFrames(f *testing.F) {
	f.Add(message(3, 4), 1)
	f.Add(slices.Concat(message(0, 0), message(1, 10), []byte("PY")), 7)
	f.Add([]byte("PYRO\x00\x30 and so on"), 3)
	lying := message(0, 0)
	copy(lying[12:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	f.Add(lying, 39)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if step < 1 {
			return
		}
		var whole, split frames
		whole.advance(b)
		for part := range slices.Chunk(b, step) {
			split.advance(part)
		}
		if whole.opaque != split.opaque || whole.left != split.left || whole.have != split.have && !whole.opaque {
			t.Errorf("%q in parts of %d: %+v, want %+v", b, step, split, whole)
		}
		if size, ok := messageSize(b); ok && size > 0 && (size < headerBytes || len(b) < headerBytes) {
			t.Errorf("messageSize(%q) = %d", b, size)
		}
	})
}

// While a cut waits, the beginning of a header arrives when its sender ends, and what can be no message arrives at once.
func TestCutWaitsForNothingElse(t *testing.T) {
	t.Parallel()
	address, got := collect(t)
	p := listen(t, Options{Backend: address, Frames: true})
	cut := armed(t, p, 1)
	c, m := dial(t, p), message(0, 60)
	send(t, c, m[:headerBytes-1])
	c.CloseWrite()
	if o := receive(t, got); !bytes.Equal(o.data, m[:headerBytes-1]) || o.err != nil {
		t.Errorf("%q arrived, %v, want %q", o.data, o.err, m[:headerBytes-1])
	}
	p.SetBackend(backend(t, echo))
	roundTrip(t, dial(t, p), "PYRO\x00\x30 of protocol 48")
	roundTrip(t, dial(t, p), "x")
	p.Close()
	if err := receive(t, cut); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Cut = %v, want %v", err, net.ErrClosed)
	}
}
