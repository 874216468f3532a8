package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestBadInput(t *testing.T) {
	t.Parallel()
	mute, garbage := answering(t, ""), answering(t, "many\n")
	for _, row := range []struct {
		name  string
		args  string
		want  string // in the error
		usage bool
	}{
		{"nothing", "", "no command", true},
		{"unknown command", "run", `"run"`, true},
		{"unknown flag", "server -load 3", "-load", true},
		{"argument", "server W1", `"W1"`, true},
		{"server: unknown work", "server -work W9", `"W9"`, true},
		{"client: unknown work", "client -addr a -work w1", `"w1"`, true},
		{"no address", "client -work W1", "-addr", true},
		{"no server", "client -addr 127.0.0.1:1", "refused", false},
		{"no server for events", "client -addr 127.0.0.1:1 -work W7", "refused", false},
		{"publishers", "client -addr a -work W7 -concurrency 2", "one caller", true},
		{"no server for oneway", "client -addr 127.0.0.1:1 -work W5", "refused", false},
		{"no address that can be", "client -addr nonsense", "nonsense", false},
		{"no duration", "client -addr a -duration 0s", "-duration", true},
		{"negative duration", "client -addr a -duration -1s", "-duration", true},
		{"endless duration", "client -addr a -duration 1000h", "-duration", true},
		{"duration without unit", "client -addr a -duration 3", "duration", true},
		{"negative warm-up", "client -addr a -warmup -1s", "-warmup", true},
		{"negative callers", "client -addr a -concurrency -1", "-concurrency", true},
		{"too many callers", "client -addr a -concurrency 1000000", "-concurrency", true},
		{"callers of one-way messages", "client -addr a -work W5 -concurrency 2", "one caller", true},
		{"too many idle connections", "client -addr a -work W6 -idle 1000000", "-idle", true},
		{"negative idle connections", "client -addr a -work W6 -idle -1", "-idle", true},
		{"dynamic calls of events", "client -addr 127.0.0.1:1 -work W7 -dynamic", "refused", false},
		{"process ids", "client -addr a -server-pids 1,x", `"1,x"`, true},
		{"process id 0", "client -addr a -server-pids 0", `"0"`, true},
		{"a process id that none can have", "client -addr a -server-pids 2147483647", "2147483647", true},
		{"a process that is not there", "client -addr a -server-pids 4194304", "4194304", false},
		{"no counter", "client -addr a -ctl 127.0.0.1:1", "-ctl", false},
		{"a counter that hangs up", "client -work W5 -addr SERVER -warmup 0s -ctl " + mute, "-ctl", false},
		{"a counter that cannot count", "client -addr SERVER -warmup 0s -ctl " + garbage, `"many`, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(row.args)
			for i, arg := range args {
				if arg == "SERVER" {
					args[i] = serveInTest(t)
				}
			}
			var out bytes.Buffer
			err := Main(t.Context(), Pyro(), args, &out)
			if err == nil || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "\n") || errors.Is(err, ErrUsage) != row.usage {
				t.Errorf("%q: got %v (usage: %t), want one line with %s (usage: %t)", args, err, errors.Is(err, ErrUsage), row.want, row.usage)
			}
			if out.Len() > 0 {
				t.Errorf("%q: printed %q", args, &out)
			}
		})
	}
}

func TestDynamicOfOne(t *testing.T) {
	t.Parallel()
	p := Pyro()
	p.Dynamic = nil
	if err := Main(t.Context(), p, []string{"server", "-dynamic"}, io.Discard); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "-dynamic") {
		t.Errorf("got %v, want that there is one way to call", err)
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"-h", "-help", "--help", "server -h", "client --help"} {
		var out bytes.Buffer
		err := Main(t.Context(), Pyro(), strings.Fields(args), &out)
		if err != nil || !strings.Contains(out.String(), "W7") || !strings.Contains(out.String(), "-server-pids") {
			t.Errorf("%s: got %v, %q, want help", args, err, &out)
		}
	}
}

// TestNoEvents has a system that has none.
func TestNoEvents(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"server -work W7", "client -addr a -work W7"} {
		err := Main(t.Context(), Peer{}, strings.Fields(command), io.Discard)
		if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "W7 is events") || !strings.HasSuffix(err.Error(), "W5, W6") {
			t.Errorf("%s: got %v, want a line that says so and what there is", command, err)
		}
	}
}

// TestServerStdoutClosed has a driver that is no longer there.
func TestServerStdoutClosed(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	r.Close()
	if err := Main(t.Context(), Pyro(), []string{"server"}, w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
	}
}

// TestServeFails has a system that cannot serve.
func TestServeFails(t *testing.T) {
	t.Parallel()
	p := Peer{Serve: func(_ context.Context, ln net.Listener, _ *Service) error {
		ln.Close()
		return errOurs
	}}
	if err := Main(t.Context(), p, []string{"server"}, io.Discard); !errors.Is(err, errOurs) {
		t.Errorf("got %v, want %v", err, errOurs)
	}
}

// serveInTest runs a server until the test ends and returns its token.
func serveInTest(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Main(ctx, Pyro(), []string{"server"}, w) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	var token, rest string
	if _, err := fmt.Fscanf(r, "ADDR %s %s", &token, &rest); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	t.Cleanup(func() { r.Close() })
	return token
}

// answering listens, and answers the first line of a client with text before it hangs up.
func answering(t *testing.T, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 100))
			io.WriteString(conn, text)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

func TestOthersCPU(t *testing.T) {
	t.Parallel()
	start := time.Now()
	sample := func(seconds int, busy, client, server time.Duration, cpus int) usageSample {
		return usageSample{at: start.Add(time.Duration(seconds) * time.Second), client: client, server: server, machine: machineUsage{busy, cpus}}
	}
	for _, row := range []struct {
		name          string
		before, after usageSample
		want          float64
	}{
		{"quiet", sample(0, 0, 0, 0, 2), sample(10, 12*time.Second, 5*time.Second, 7*time.Second, 2), 0},
		{"a quarter", sample(0, time.Hour, time.Minute, 0, 2), sample(10, time.Hour+17*time.Second, time.Minute+5*time.Second, 7*time.Second, 2), 0.25},
		{"coarse ticks", sample(0, 0, 0, 0, 2), sample(10, 11*time.Second, 5*time.Second, 7*time.Second, 2), 0},
		{"not known", sample(0, 0, 0, 0, 0), sample(10, 0, 5*time.Second, 7*time.Second, 0), 0},
	} {
		if got := othersCPU(row.before, row.after); got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}
