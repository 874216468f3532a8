package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

// TestCompare runs each system and work once, in processes.
func TestCompare(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "cells.json")
	var out, progress bytes.Buffer
	args := []string{"-rounds", "1", "-duration", "200ms", "-warmup", "10ms", "-idle", "10", "-json", file}
	if err := run(t.Context(), args, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	cells := len(systems()) * len(peer.Works())
	if got := strings.Count(progress.String(), "\n"); got != cells {
		t.Errorf("%d lines of progress, want %d:\n%s", got, cells, &progress)
	}
	var c comparison
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Cells) != cells {
		t.Errorf("%d cells in the file, want %d", len(c.Cells), cells)
	}
	for _, one := range c.Cells {
		if one.Error != "" || one.Result.Rate <= 0 || one.Result.ServerCPU <= 0 || one.Result.Lost != 0 {
			t.Errorf("got %+v of %+v, want figures above 0 and nothing lost", one.Result, one)
		}
	}
	for _, work := range peer.Works() {
		if !strings.Contains(out.String(), "\n"+work+"  "+titles[work]+"\n") || titles[work] == "" {
			t.Errorf("no table of %s in\n%s", work, &out)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, args, want string }{
		{"unknown flag", "-load 3", "-load"},
		{"argument", "W1", `"W1"`},
		{"unknown work", "-work W1,W9", `"W9"`},
		{"unknown system", "-peers rawtcp,corba", `"corba"`},
		{"no rounds", "-rounds 0", "-rounds"},
		{"no duration", "-duration 0s", "-duration"},
		{"negative warm-up", "-warmup -1s", "-warmup"},
		{"negative idle connections", "-idle -1", "-idle"},
		{"a file that cannot be", "-json /nowhere/at/all.json", "-json"},
		{"no peer", "peer", "peer"},
		{"unknown peer", "peer corba server", `"corba"`},
		{"no command for the peer", "peer rawtcp", "no command"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(t.Context(), strings.Fields(row.args), &out, &out)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") || out.Len() > 0 {
				t.Errorf("%q: got %v, and %q, want one line with %s", row.args, err, &out, row.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out, io.Discard); err != nil || !strings.Contains(out.String(), "-rounds") {
		t.Errorf("got %v, %q, want help", err, &out)
	}
}

// TestInterrupted ends a run when it has done its first cell and goes on to the next.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, []string{"-rounds", "1000", "-duration", "50ms", "-warmup", "0s", "-peers", "rawtcp", "-json", filepath.Join(dir, "cells.json")},
		&out, writerFunc(func(b []byte) (int, error) {
			cancel()
			return len(b), nil
		}))
	if err == nil || err.Error() != "interrupted" || out.Len() > 0 {
		t.Errorf("got %v and %q, want interrupted and no table", err, &out)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left over: %v, %v", files, err)
	}
}

type writerFunc func(b []byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// TestFailedCell has children that do nothing but fail, and sees the others go on.
func TestFailedCell(t *testing.T) {
	t.Parallel()
	s, err := parse([]string{"-rounds", "1", "-work", "W1", "-peers", "rawtcp,netrpc"})
	if err != nil {
		t.Fatal(err)
	}
	s.program = "/bin/false"
	var out, progress bytes.Buffer
	err = compare(t.Context(), s, &out, &progress)
	if err == nil || !strings.Contains(err.Error(), "2 of 2 runs failed") || strings.Count(progress.String(), "failed: ") != 2 {
		t.Errorf("got %v, %q, want two failures", err, &progress)
	}
	if strings.Count(out.String(), "failed") != 2 {
		t.Errorf("the table does not say that both failed:\n%s", &out)
	}
}

// TestSameBytes counts the bytes of calls through each end: those of rawtcp are those of pyro-cluster.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	ours, raw := newCounted(t, peer.Pyro()), newCounted(t, rawTCP())
	const number = 1<<40 + 7
	text, bin := strings.Repeat("a", 1<<10), make([]byte, 1<<20)
	for _, row := range []struct {
		name string
		call func(ctx context.Context, c peer.Conn) error
	}{
		{"add", func(ctx context.Context, c peer.Conn) error {
			_, err := c.Add(ctx, number, 12345)
			return err
		}},
		{"text", func(ctx context.Context, c peer.Conn) error {
			_, err := c.EchoString(ctx, text)
			return err
		}},
		{"bytes", func(ctx context.Context, c peer.Conn) error {
			_, err := c.EchoBytes(ctx, bin)
			return err
		}},
		{"oneway", func(ctx context.Context, c peer.Conn) error { return c.Oneway(ctx, number) }},
	} {
		want, got := ours.bytes(t, row.call), raw.bytes(t, row.call)
		if got != want {
			t.Errorf("%s: rawtcp sends and receives %v bytes, pyro-cluster %v", row.name, got, want)
		}
	}
}

// traffic is bytes to and from a server.
type traffic struct{ sent, received int64 }

// counted is a connection to a server behind a relay that counts.
type counted struct {
	conn           peer.Conn
	sent, received atomic.Int64
}

func (c *counted) now() traffic { return traffic{c.sent.Load(), c.received.Load()} }

// bytes returns what a call takes.  The count before and after is taken when an answer has come, so that all that was sent is counted.
func (c *counted) bytes(t *testing.T, call func(context.Context, peer.Conn) error) traffic {
	t.Helper()
	settle := func() traffic {
		if _, err := c.conn.Received(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.now()
	}
	settle() // connects
	first := settle()
	empty := settle()
	if err := call(t.Context(), c.conn); err != nil {
		t.Fatal(err)
	}
	after := settle()
	return traffic{after.sent - empty.sent - (empty.sent - first.sent), after.received - empty.received - (empty.received - first.received)}
}

func newCounted(t *testing.T, p peer.Peer) *counted {
	t.Helper()
	c := new(counted)
	address := serve(t, p, new(peer.Service))
	relay, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = acceptAll(ctx, relay, func(conn net.Conn) { c.pass(conn, address) }) // ends with ctx
	}()
	c.conn = dial(t, p, relay.Addr().String())
	t.Cleanup(func() {
		c.conn.Close()
		cancel()
		<-done
	})
	return c
}

// pass copies both ways, and counts before it passes on.
func (c *counted) pass(client net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer server.Close()
	wg.Go(func() {
		io.Copy(io.MultiWriter(counter{&c.received}, client), server)
		client.Close()
	})
	io.Copy(io.MultiWriter(counter{&c.sent}, server), client)
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// serve serves p until the test ends.
func serve(t *testing.T, p peer.Peer, s *peer.Service) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Serve(ctx, ln, s) // ends with ctx
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return ln.Addr().String()
}

func dial(t *testing.T, p peer.Peer, address string) peer.Conn {
	t.Helper()
	c, err := p.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSystems checks the answers of each system, and that closing a connection ends a call.
func TestSystems(t *testing.T) {
	t.Parallel()
	for _, sys := range systems() {
		t.Run(sys.name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			c := dial(t, sys.peer, serve(t, sys.peer, new(peer.Service)))
			for _, args := range [][2]int64{{1, 2}, {-1, -2}, {1 << 62, 5}, {0, 0}} {
				if sum, err := c.Add(ctx, args[0], args[1]); sum != args[0]+args[1] || err != nil {
					t.Errorf("add %v: got %d, %v", args, sum, err)
				}
			}
			for _, n := range []int{1 << 10, 100, 1 << 20, 8} {
				text := strings.Repeat("z", n)
				if echo, err := c.EchoString(ctx, text); echo != text || err != nil {
					t.Errorf("echo of a text of %d bytes: got %d bytes, %v", n, len(echo), err)
				}
				if echo, err := c.EchoBytes(ctx, []byte(text)); string(echo) != text || err != nil {
					t.Errorf("echo of %d bytes: got %d bytes, %v", n, len(echo), err)
				}
			}
			const messages = 3000
			for i := range int64(messages) {
				if err := c.Oneway(ctx, i); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			var n int64
			for n < messages && ctx.Err() == nil {
				var err error
				if n, err = c.Received(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if n != messages {
				t.Errorf("%d one-way messages received, want %d", n, messages)
			}
			c.Close()
			if _, err := c.Add(ctx, 1, 2); err == nil {
				t.Error("a call on a closed connection: got no error")
			}
		})
	}
}

// TestCloseEndsCalls has servers that never answer.
func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	for _, sys := range systems() {
		t.Run(sys.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			heard, done := make(chan struct{}), make(chan struct{})
			var once sync.Once
			go func() {
				defer close(done)
				_ = acceptAll(ctx, ln, func(conn net.Conn) { // ends with ctx
					conn.Read(make([]byte, 1))
					once.Do(func() { close(heard) })
					io.Copy(io.Discard, conn)
				})
			}()
			c := dial(t, sys.peer, ln.Addr().String())
			ended := make(chan error, 1)
			go func() {
				_, err := c.Add(t.Context(), 1, 2)
				ended <- err
			}()
			<-heard
			c.Close()
			if err := <-ended; err == nil {
				t.Error("got an answer")
			}
			cancel()
			<-done
		})
	}
}

// TestRawServerBadRequests sends what no client does.
func TestRawServerBadRequests(t *testing.T) {
	t.Parallel()
	address := serve(t, rawTCP(), new(peer.Service))
	for _, row := range []struct {
		name string
		head rawHead
		body int
	}{
		{"too long", rawHead{rawMax + 1, 8, rawEcho}, 0},
		{"answer too long", rawHead{8, rawMax + 1, rawEcho}, 8},
		{"answer longer than the request", rawHead{8, 9, rawEcho}, 8},
		{"no room for a number", rawHead{8, 4, rawReceived}, 8},
		{"no room for two numbers", rawHead{8, 8, rawAdd}, 8},
		{"unknown operation", rawHead{8, 8, 99}, 8},
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		message := make([]byte, rawHeader+row.body)
		row.head.put(message)
		if _, err := conn.Write(message); err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(conn); len(got) > 0 { // a reset is as good as an end
			t.Errorf("%s: got an answer of %d bytes, want none", row.name, len(got))
		}
		conn.Close()
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	s, err := parse([]string{"-work", "W1,W5", "-peers", "pyro-cluster,rawtcp,netrpc"})
	if err != nil {
		t.Fatal(err)
	}
	c := comparison{Machine: "a machine", Duration: "1s", Warmup: "1ms", Cells: []cell{
		{Peer: "pyro-cluster", Work: "W1", Result: &peer.Result{Rate: 1000, P50: 12.34}},
		{Peer: "pyro-cluster", Work: "W1", Result: &peer.Result{Rate: 3000, P50: 56.78}},
		{Peer: "pyro-cluster", Work: "W1", Result: &peer.Result{Rate: 1_500_000, P50: 34.56, OthersCPU: 0.5}},
		{Peer: "rawtcp", Work: "W1", Result: &peer.Result{Rate: 4000}},
		{Peer: "rawtcp", Work: "W1", Result: &peer.Result{Rate: 8000}},
		{Peer: "rawtcp", Work: "W1", Error: "none"},
		{Peer: "netrpc", Work: "W1", Error: "none"},
		{Peer: "rawtcp", Work: "W5", Result: &peer.Result{Rate: 7, Lost: 3}},
	}}
	var out strings.Builder
	if err := printTables(&out, s, c); err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]string{
		{"pyro-cluster", "3,000", "1,000", "1,500,000", "1.00x", "34.6"},
		{"rawtcp", "6,000", "4,000", "8,000", "0.50x", "0"},
		{"netrpc", "failed"},
		{"pyro-cluster", "failed"},
		{"rawtcp", "7", "7", "7", "-"},
		{"In", "1", "of", "8", "runs", "other"},
	} {
		if !slices.ContainsFunc(strings.Split(out.String(), "\n"), func(line string) bool {
			f := strings.Fields(line)
			return len(f) >= len(want) && slices.Equal(f[:len(want)], want)
		}) {
			t.Errorf("no line %v in\n%s", want, &out)
		}
	}
}
