package peer

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

const deadline = 60 * time.Second // for what takes no time

// TestProcesses plays the driver: server and client are processes, for each work.
func TestProcesses(t *testing.T) {
	t.Parallel()
	always := []string{"work", "calls", "secs", "rate", "cli_cpu_us", "srv_cpu_us", "cli_allocs", "srv_allocs", "conns"}
	latency := []string{"p50_us", "p99_us", "p999_us", "max_us", "srv_rss_mb"}
	for _, row := range []struct {
		work   string
		flags  []string
		server []string
		conns  int
		keys   []string // that the line has beside those that all have
	}{
		{"W1", nil, nil, 1, latency},
		{"W2", nil, nil, 1, latency},
		{"W3", []string{"-concurrency", "5"}, nil, 1, latency},
		{"W4", nil, nil, 1, append([]string{"mb_s"}, latency...)},
		{"W5", nil, nil, 1, nil},
		{"W6", []string{"-concurrency", "3", "-idle", "20"}, nil, 21, append([]string{"idle_rate", "idle_p99_us"}, latency...)},
		{"W7", nil, nil, 11, nil},
		{"W2", []string{"-dynamic"}, []string{"-dynamic"}, 1, latency},
		{"W3", []string{"-dynamic"}, nil, 1, latency},
		{"W4", nil, []string{"-dynamic"}, 1, append([]string{"mb_s"}, latency...)},
		{"W5", []string{"-dynamic"}, []string{"-dynamic"}, 1, nil},
		{"W3", []string{"-plain", "-concurrency", "5"}, nil, 5, latency},
	} {
		t.Run(fmt.Sprint(row.work, row.flags, row.server), func(t *testing.T) {
			t.Parallel()
			server := startServer(t, row.work, row.server...)
			flags := append([]string{"-duration", "200ms", "-warmup", "10ms"}, row.flags...)
			line := runProcess(t, append(clientFlags(t, server, row.work), flags...)...)
			var r Result
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("the client printed %q: %v", line, err)
			}
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			delete(fields, "foreign_cpu") // there or not, as the machine is busy or not
			for _, key := range append(slices.Clone(always), row.keys...) {
				if _, there := fields[key]; !there {
					t.Errorf("%s has no %q", line, key)
				}
				delete(fields, key)
			}
			if len(fields) > 0 {
				t.Errorf("%s has also %v", line, fields)
			}
			if r.Work != row.work || r.Conns != row.conns || r.Calls < 1 || r.Rate <= 0 || r.Secs <= 0 || r.ClientCPU <= 0 || r.ServerCPU <= 0 {
				t.Errorf("got %+v, want %s with %d connections, and figures above 0", r, row.work, row.conns)
			}
			if err := server.process.End(syscall.SIGTERM); err != nil { // exit code 0, or an error
				t.Errorf("the server: %v", err)
			}
		})
	}
}

type serverProcess struct {
	process *spawn.Process
	fields  []string // of its line, after ADDR
}

func startServer(t *testing.T, work string, flags ...string) serverProcess {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	p, err := spawn.Start("server", childCommand(append([]string{"server", "-work", work}, flags...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.End(syscall.SIGKILL) })
	line, err := p.Line(ctx, "ADDR ")
	if err != nil {
		t.Fatal(err)
	}
	return serverProcess{p, strings.Fields(line)}
}

func childCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childVariable+"=1")
	return cmd
}

func clientFlags(t *testing.T, s serverProcess, work string) []string {
	t.Helper()
	if len(s.fields) != 3 {
		t.Fatalf("the server printed ADDR %q, want a token, pids= and ctl=", s.fields)
	}
	pids, pidsOK := strings.CutPrefix(s.fields[1], "pids=")
	ctl, ctlOK := strings.CutPrefix(s.fields[2], "ctl=")
	if !pidsOK || !ctlOK {
		t.Fatalf("the server printed ADDR %q, want a token, pids= and ctl=", s.fields)
	}
	return []string{"client", "-work", work, "-addr", s.fields[0], "-server-pids", pids, "-ctl", ctl}
}

// runProcess returns the one line that a command printed.
func runProcess(t *testing.T, args ...string) string {
	t.Helper()
	cmd := childCommand(args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, &complaints)
	}
	if n := strings.Count(string(out), "\n"); n != 1 {
		t.Errorf("%v printed %d lines, want 1: %q", args, n, out)
	}
	return string(out)
}

// TestServerGone has a client whose server was killed.
func TestServerGone(t *testing.T) {
	t.Parallel()
	server := startServer(t, "W1")
	server.process.End(syscall.SIGKILL)
	out, err := childCommand("client", "-work", "W1", "-addr", server.fields[0]).CombinedOutput()
	exit, ok := err.(*exec.ExitError)
	if !ok || exit.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "refused") {
		t.Errorf("got %v, %q, want exit code 1 and a line about a refused connection", err, out)
	}
}

// TestServerDies kills the server under load.
func TestServerDies(t *testing.T) {
	t.Parallel()
	for _, work := range []string{"W2", "W5", "W7"} {
		t.Run(work, func(t *testing.T) {
			t.Parallel()
			server := startServer(t, work)
			client := childCommand("client", "-work", work, "-addr", server.fields[0], "-duration", "1h")
			var out strings.Builder
			client.Stdout, client.Stderr = &out, &out
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			awaitObjects(t, server, 10_000) // calls are under way then
			server.process.End(syscall.SIGKILL)
			if err := client.Wait(); err == nil || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("got %v, %q, want an exit code and one line", err, out.String())
			}
		})
	}
}

// awaitObjects waits until a server has allocated n heap objects more.
func awaitObjects(t *testing.T, s serverProcess, n uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	m, err := newMeter(ctx, options{ctl: strings.TrimPrefix(s.fields[2], "ctl=")})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var first uint64
	for ctx.Err() == nil {
		now, err := m.serverObjects()
		if err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = now
		}
		if now > first+n {
			return
		}
	}
	t.Fatal(fmt.Errorf("the server is idle: %w", ctx.Err()))
}
