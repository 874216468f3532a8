//go:build unix

package core

import (
	"errors"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fileLimit raises the limit of open files as far as that goes, and returns it.
func fileLimit(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Logf("the limit of open files stays: %v", err)
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}

// TestIdleConnections holds 10,000 of them, or as many as there may be open files: each takes one or two goroutines and a bounded amount of memory,
// and a client that makes calls notices nothing.  It has no t.Parallel: it measures memory.
//
// spec: X1 X7
func TestIdleConnections(t *testing.T) {
	hello := func(a Annotations) []byte {
		return must(appendMessage(nil, header{typ: msgConnect, serializer: 4}, a,
			must(msgpackSerializer{}.AppendValue(nil, map[string]any{"handshake": "hello", "object": "account"}))))
	}
	for _, tt := range []struct {
		name       string
		hello      []byte
		goroutines int
		bytes      int64 // both ends: a buffer of 4 KiB, stacks of 2 to 8
	}{
		{"plain", hello(nil), 1, 12 << 10},
		{"many calls at once", hello(Annotations{annotationAbilities: muxAbilities}), 2, 17 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) { holdIdle(t, tt.hello, tt.goroutines, tt.bytes) })
	}
}

func holdIdle(t *testing.T, hello []byte, wantGoroutines int, wantBytes int64) {
	const (
		want   = 10_000
		others = 100 // goroutines for everything else
	)
	n := min(want, (fileLimit(t)-500)/2)
	if n < want {
		t.Logf("%d connections instead of %d: the limit of open files is lower", n, want)
	}
	d := serveUnix(t, DaemonOptions{MaxConnections: n + 1})
	p := NewProxy(d.URI("account"), ProxyOptions{MaxConns: 1})
	defer p.Close()
	call := func() {
		var sum int
		if err := p.Call(t.Context(), "sum", &sum, 1, 2); err != nil || sum != 3 {
			t.Errorf("the busy client: got %d, %v", sum, err)
		}
	}
	call()
	stop, calls := make(chan struct{}), make(chan int)
	go func() {
		for made := 0; ; made++ {
			select {
			case <-stop:
				calls <- made
				return
			default:
				call()
			}
		}
	}()
	memory, goroutines := heapInUse(), runtime.NumGoroutine()
	idle := make([]net.Conn, n)
	for i := range idle {
		idle[i] = connectIdle(t, d, hello)
	}
	close(stop)
	made := <-calls
	call() // with all of them there
	used, more := (heapInUse()-memory)/int64(n), runtime.NumGoroutine()-goroutines
	t.Logf("%d idle connections: %d bytes for each, both ends, and %d goroutines in all; %d calls were made meanwhile", n, used, more, made)
	if more > n*wantGoroutines+others {
		t.Errorf("%d goroutines for %d connections, want %d for each", more, n, wantGoroutines)
	}
	if !raceDetector && used > wantBytes {
		t.Errorf("a connection takes %d bytes, want at most %d", used, wantBytes)
	}
	if made == 0 {
		t.Error("the busy client made no call")
	}
	// One more than allowed is told so, and when the others have gone there is room.
	one := NewProxy(d.URI("account"), ProxyOptions{})
	defer one.Close()
	if err := one.Ping(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "rejected: no free workers, increase server threadpool size") {
		t.Errorf("one more: got %v, want Pyro's refusal", err)
	}
	for _, nc := range idle {
		nc.Close()
	}
	eventually(t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.conns) == 1
	})
	if err := one.Ping(t.Context()); err != nil {
		t.Errorf("when the others have gone: %v", err)
	}
}

// connectIdle makes a connection that is past its handshake, and says nothing more.
func connectIdle(t *testing.T, d *Daemon, hello []byte) net.Conn {
	t.Helper()
	nc, err := net.Dial("unix", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(hello); err != nil {
		t.Fatal(err)
	}
	var answer [4096]byte
	if n, err := nc.Read(answer[:]); err != nil || n < headerBytes || answer[6] != msgConnectOK {
		t.Fatalf("handshake: got %q, %v", answer[:n], err)
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return nc
}

// TestKeepAlive: both ends find out when the other one's machine is gone.
//
// spec: X8
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	_, d, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	if err := p.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		if !keepsAlive(t, c.nc) {
			t.Error("the daemon's end has no keep-alive")
		}
	}
	if len(d.conns) != 1 {
		t.Errorf("%d connections, want one", len(d.conns))
	}
	nc, err := p.dial(t.Context(), "tcp", d.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if !keepsAlive(t, nc) {
		t.Error("the proxy's end has no keep-alive")
	}
}

func keepsAlive(t *testing.T, nc net.Conn) bool {
	t.Helper()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	if err := errors.Join(raw.Control(func(fd uintptr) { on, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) }), err); err != nil {
		t.Fatal(err)
	}
	return on != 0
}
