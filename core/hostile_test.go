package core

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
)

// bugs is a handler that keeps what must never be logged, whatever clients send.
type bugs struct {
	mu    sync.Mutex
	found []string
}

func (b *bugs) Enabled(context.Context, slog.Level) bool { return true }
func (b *bugs) Handle(_ context.Context, rec slog.Record) error {
	if rec.Level < slog.LevelError {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	text := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" %s=%.2000s", a.Key, a.Value)
		return true
	})
	b.found = append(b.found, text)
	return nil
}
func (b *bugs) WithAttrs([]slog.Attr) slog.Handler { return b }
func (b *bugs) WithGroup(string) slog.Handler      { return b }

// hostile sends mutated messages to a live daemon.
type hostile struct {
	t      testing.TB
	d      *Daemon
	client *Proxy // of an honest client
	sent   []byte // last, for the report of a failure
}

// dial connects, with a deadline that a daemon which hangs would miss.
func (h *hostile) dial() *net.UnixConn {
	nc, err := net.Dial("unix", h.d.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		h.t.Fatal(err)
	}
	return nc.(*net.UnixConn)
}

// once sends bytes on a connection of their own, ends it, and reads what comes until the daemon has ended it, too.
func (h *hostile) once(b []byte) {
	nc := h.dial()
	defer nc.Close()
	h.sent = b
	// The daemon may hang up before it has read all: no error of writing says anything.
	if _, err := nc.Write(b); err == nil {
		nc.CloseWrite()
	}
	if _, err := io.Copy(io.Discard, nc); isDeadline(err) {
		h.t.Fatalf("the daemon did not end the connection after %x", b)
	}
}

func isDeadline(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// honest makes a call that has to work.
func (h *hostile) honest() {
	var n int
	if err := h.client.Call(h.t.Context(), "sum", &n, 1, 2); err != nil || n != 3 {
		h.t.Fatalf("an honest client after %x: got %d, %v", h.sent, n, err)
	}
}

// TestMutatedMessages sends mutated messages to a live daemon: each decoder gets 10,000 of them.  None may crash it, make it hang, or leave
// something behind, and the next client is served.  It has no t.Parallel: it measures memory.
func TestMutatedMessages(t *testing.T) {
	const seed = 5
	frame := func(h header, payload []byte) []byte {
		return must(appendMessage(nil, h, Annotations{"TEST": []byte("annotation")}, payload))
	}
	connect := map[string]any{"handshake": map[string]any{"user": "joe", "list": []any{1, 2.5, nil, true}}, "object": "account"}
	calls := []Request{
		{Object: "account", Method: "echo", Args: []any{[]any{"text", int64(-7), 1 << 40, 3.25, nil, true, map[string]any{"a": []any{1}}}}, Kwargs: noKwargs},
		{Object: "account", Method: "echo", Args: []any{[]byte("bytes"), Set{1, 2}, complex(1, 2)}, Kwargs: noKwargs}, // not in every serializer
		{Object: "account", Method: "deposit", Args: []any{"joe"}, Kwargs: map[string]any{"amount": 7}},
		{Object: daemonID, Method: "get_metadata", Args: []any{"account"}, Kwargs: noKwargs},
		{Object: "account", Method: "__getattr__", Args: []any{"owner"}, Kwargs: noKwargs},
		{Object: "account", Method: "__setattr__", Args: []any{"owner", "joe"}, Kwargs: noKwargs},
		{Object: "account", Method: "<batch>", Args: []any{Tuple{"sum", Tuple{1, 2}, map[string]any{}}, Tuple{"ping", Tuple{}, map[string]any{}}}, Kwargs: noKwargs},
	}
	type decoder struct {
		name    string
		sources [][]byte                   // to be spoilt
		message func(spoilt []byte) []byte // what is sent of each
		before  []byte                     // and before the first of a connection
		many    int                        // how many a connection gets
	}
	as := func(typ uint8, s Serializer) func(payload []byte) []byte {
		return func(payload []byte) []byte { return frame(header{typ: typ, serializer: s.ID(), seq: 1}, payload) }
	}
	same := func(b []byte) []byte { return b }
	pack := msgpackSerializer{}
	hello := as(msgConnect, pack)(must(pack.AppendValue(nil, connect)))
	mux := must(appendMessage(nil, header{typ: msgConnect, serializer: pack.ID()}, Annotations{annotationAbilities: muxAbilities}, must(pack.AppendValue(nil, connect))))
	var frames [][]byte
	for _, flags := range []uint16{0, flagOneway, flagCompressed, flagBatch, flagKeepSerialized, 0xffff} {
		for _, c := range calls {
			frames = append(frames, frame(header{typ: msgInvoke, serializer: pack.ID(), seq: 1, flags: flags}, must(pack.AppendRequest(nil, c))))
		}
	}
	frames = append(frames, frame(header{typ: msgPing, serializer: pingSerializer}, []byte("ping")))
	decoders := []decoder{
		{"frame of CONNECT", [][]byte{hello, mux}, same, nil, 1},
		{"frame of INVOKE", frames, same, hello, 1},
		{"frame of INVOKE, many at once", frames, same, mux, 1},
	}
	for _, s := range append(serializers[:], xmlSerializer{}) {
		var requests [][]byte
		for _, c := range calls {
			if b, err := s.AppendRequest(nil, c); err == nil { // not every value is in every serializer
				requests = append(requests, b)
			}
		}
		value := must(s.AppendValue(nil, connect))
		decoders = append(decoders,
			decoder{"CONNECT in " + s.Name(), [][]byte{value}, as(msgConnect, s), nil, 1},
			decoder{"INVOKE in " + s.Name(), requests, as(msgInvoke, s), as(msgConnect, s)(value), 10},
			decoder{"INVOKE in " + s.Name() + ", many at once", requests, as(msgInvoke, s), mux, 10})
	}
	for _, d := range decoders {
		t.Run(d.name, func(t *testing.T) {
			log := new(bugs)
			daemon := serveUnix(t, DaemonOptions{Logger: slog.New(log), MaxMessageBytes: 1 << 20})
			h := &hostile{t: t, d: daemon, client: NewProxy(daemon.URI("account"), ProxyOptions{})}
			defer h.client.Close()
			h.honest()
			spoilt := mutator{rand.New(rand.NewPCG(seed, 0)), d.sources}
			before := heapInUse()
			for i := range mutatedInputs / d.many {
				sent := bytes.Clone(d.before)
				for range d.many {
					sent = append(sent, d.message(spoilt.next())...)
				}
				h.once(sent)
				if i%500 == 0 {
					h.honest()
				}
			}
			h.honest()
			eventually(t, func() bool {
				daemon.mu.Lock()
				defer daemon.mu.Unlock()
				return len(daemon.conns) == 1 // the honest client's
			})
			if grown := heapInUse() - before; grown > 8<<20 {
				t.Errorf("%d bytes more are in use", grown)
			}
			log.mu.Lock()
			defer log.mu.Unlock()
			for _, b := range log.found[:min(3, len(log.found))] {
				t.Errorf("logged (seed %d): %s", seed, b)
			}
		})
	}
}

// heapInUse is how much memory the program's values and stacks take, without what can be freed.
func heapInUse() int64 {
	var m runtime.MemStats
	for range 2 { // the second also frees what finalizers held, and stacks that shrink
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// serveUnix serves an account on a unix socket, whose connections leave nothing behind in the kernel as those of TCP do.
func serveUnix(t testing.TB, opts DaemonOptions) *Daemon {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDaemon(ln, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Register("account", newAccount(), accountOptions()); err != nil {
		t.Fatal(err)
	}
	run(t, d)
	return d
}

// TestSlowClients are clients that take their time, or stop in the midst: each is ended in time, however it spreads its bytes.
//
// spec: X7
func TestSlowClients(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	files := tlsFiles(t, ca, nil, "server", "127.0.0.1")
	hello := fromHex(t, golden[0].frame)
	call := must(appendMessage(nil, header{typ: msgInvoke, serializer: 4, seq: 1}, nil, make([]byte, 1000)))
	lie := bytes.Clone(call)
	copy(lie[12:], []byte{0x03, 0xff, 0, 0}) // a payload of 67 MB
	clientHello := []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
	for _, tt := range []struct {
		name  string
		opts  DaemonOptions
		ready bool          // is past its handshake
		burst int           // bytes that it sends at once
		every time.Duration // between the others; 0: it stops
		bytes []byte
		want  time.Duration
	}{
		{"nothing", DaemonOptions{}, false, 0, 0, nil, defaultHandshakeTimeout},
		{"half a CONNECT", DaemonOptions{}, false, 50, 0, hello, defaultHandshakeTimeout},
		{"CONNECT byte by byte", DaemonOptions{}, false, 0, time.Second, hello, defaultHandshakeTimeout},
		{"handshake of TLS, nothing", DaemonOptions{TLS: files.Server()}, false, 0, 0, nil, defaultHandshakeTimeout},
		{"handshake of TLS, half", DaemonOptions{TLS: files.Server()}, false, 11, 0, clientHello, defaultHandshakeTimeout},
		{"handshake of TLS, byte by byte", DaemonOptions{TLS: files.Server()}, false, 0, time.Second, clientHello, defaultHandshakeTimeout},
		{"a handshake of another time", DaemonOptions{HandshakeTimeout: time.Minute}, false, 0, time.Second, hello[:50], time.Minute},
		{"half a header", DaemonOptions{}, true, 20, 0, call, messageTimeout},
		{"a header byte by byte", DaemonOptions{}, true, 1, time.Second, call, messageTimeout},
		{"a payload byte by byte", DaemonOptions{}, true, headerBytes, time.Second, call, messageTimeout},
		{"a payload of 67 MB byte by byte", DaemonOptions{MaxMessageBytes: 1 << 27}, true, headerBytes, 10 * time.Second, lie, messageTimeout},
		{"an idle time-out does not shorten a message", DaemonOptions{IdleTimeout: time.Second}, true, 20, 0, call, messageTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, tt.opts, func(t *testing.T, ln *pipeListener, _ *account, uri URI) {
				var c *rawClient
				if tt.ready {
					c = ln.connect(t)
				} else {
					nc, err := ln.dial(t.Context(), "", "")
					if err != nil {
						t.Fatal(err)
					}
					c = &rawClient{t: t, nc: nc, wire: newWire(nc, 1000)}
				}
				began := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() {
					if tt.burst > 0 {
						c.nc.Write(tt.bytes[:tt.burst])
					}
					for i := tt.burst; i < len(tt.bytes) && tt.every > 0; i++ {
						<-time.After(tt.every) // virtual
						if _, err := c.nc.Write(tt.bytes[i : i+1]); err != nil {
							return
						}
					}
				})
				// Somebody else is served meanwhile.
				other := NewProxy(uri, ProxyOptions{Dial: ln.dial, TLS: clientOf(tt.opts.TLS)})
				defer other.Close()
				if err := other.Ping(t.Context()); err != nil {
					t.Errorf("another client: %v", err)
				}
				n, err := io.Copy(io.Discard, c.nc)
				if took := time.Since(began); took != tt.want {
					t.Errorf("ended after %v (%d bytes, %v), want %v", took, n, err, tt.want)
				}
				c.nc.Close()
				sending.Wait()
				synctest.Wait()
			})
		})
	}
}

// clientOf is a configuration to reach a server of a test.
func clientOf(server *tls.Config) *tls.Config {
	if server == nil {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true}
}
