package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is how long a test waits for what takes milliseconds on a machine that has nothing else to do.
const deadline = 30 * time.Second

// result is what a command left.
type result struct {
	stdout, stderr string
	code           int
}

// cli runs a command to its end, as main does.
func cli(t *testing.T, args ...string) result {
	t.Helper()
	return cliInput(t, "", args...)
}

func cliInput(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var stdout, stderr strings.Builder
	code := printError(&stderr, run(ctx, args, strings.NewReader(stdin), &stdout, &stderr))
	if ctx.Err() != nil {
		t.Fatalf("%v did not end in %v", args, deadline)
	}
	return result{stdout.String(), stderr.String(), code}
}

// must runs a command that has to succeed and returns its output without the last newline.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := cli(t, args...)
	if r.code != exitOK {
		t.Fatalf("%v: exit %d, stderr %q", args, r.code, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// command is one that runs until it is stopped.
type command struct {
	t      *testing.T
	args   []string
	lines  chan string // of stdout; closed at the end
	cancel context.CancelFunc
	done   chan struct{} // closed at the end; then what follows is set
	stderr strings.Builder
	code   int
}

// start runs a command in the background.  It is stopped at the end of the test, if not before.
func start(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	c := &command{t: t, args: args, lines: make(chan string, 1000), cancel: cancel, done: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(c.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			c.lines <- s.Text()
		}
	})
	go func() {
		defer close(c.done)
		c.code = printError(&c.stderr, run(ctx, args, strings.NewReader(""), w, &c.stderr))
		w.Close()
		reading.Wait()
	}()
	t.Cleanup(func() { c.stop() })
	return c
}

// line waits for a line that begins with prefix.
func (c *command) line(prefix string) string {
	c.t.Helper()
	timeout := time.After(deadline)
	var seen []string
	for {
		select {
		case l, ok := <-c.lines:
			if !ok {
				<-c.done
				c.t.Fatalf("%v ended without a line %q: exit %d, stdout %q, stderr %q", c.args, prefix, c.code, seen, c.stderr.String())
			}
			if strings.HasPrefix(l, prefix) {
				return l
			}
			seen = append(seen, l)
		case <-timeout:
			c.t.Fatalf("%v: no line %q in %v, stdout %q", c.args, prefix, deadline, seen)
		}
	}
}

// stop asks the command to stop and returns its result.
func (c *command) stop() result {
	c.t.Helper()
	c.cancel()
	return c.wait()
}

// wait waits until the command ends by itself.  Its stdout is what line did not take.
func (c *command) wait() result {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(deadline):
		c.t.Fatalf("%v did not end in %v", c.args, deadline)
	}
	var stdout strings.Builder
	for l := range c.lines {
		stdout.WriteString(l + "\n")
	}
	return result{stdout.String(), c.stderr.String(), c.code}
}

// lastLine is the error that a command ended with, below its log.
func (r result) lastLine() string {
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	return lines[len(lines)-1]
}

// handedOut are the ports of other tests, which may not have bound theirs yet.
var handedOut = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// freePorts returns a port P such that P+o is free for each offset o.  It is below the range from which the system gives away ports, so
// that only another search like this one could take it.
func freePorts(t *testing.T, offsets ...int) int {
	t.Helper()
	handedOut.Lock()
	defer handedOut.Unlock()
	for range 10000 {
		base := 20000 + rand.IntN(12000)
		if slices.ContainsFunc(offsets, func(o int) bool { return handedOut.ports[base+o] }) || !allFree(base, offsets) {
			continue
		}
		for _, o := range offsets {
			handedOut.ports[base+o] = true
		}
		return base
	}
	t.Fatal("no free ports")
	return 0
}

func allFree(base int, offsets []int) bool {
	for _, o := range offsets {
		address := fmt.Sprintf("localhost:%d", base+o)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return false
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		defer udp.Close()
	}
	return true
}

// eventually waits until get returns want: on a busy machine nodes of the profile for fast networks lose their leader now and then.
func eventually(t *testing.T, what, want string, get func() string) {
	t.Helper()
	got := get()
	for end := time.Now().Add(deadline); got != want && time.Now().Before(end); {
		got = get()
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// devPorts are those that dev uses, relative to --port.
var devPorts = []int{0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203}

// TestHelp walks all commands: each explains itself, with an example if it does something.
func TestHelp(t *testing.T) {
	t.Parallel()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		r := cli(t, append(path, "--help")...)
		if r.code != exitOK || !strings.Contains(r.stdout, "Usage:") || r.stderr != "" {
			t.Errorf("%v --help: exit %d, stdout %q, stderr %q; want a usage text", path, r.code, r.stdout, r.stderr)
		}
		if cmd.Short == "" {
			t.Errorf("%v has no short text", path)
		}
		if !cmd.HasSubCommands() && cmd.Example == "" {
			t.Errorf("%v has no example", path)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := must(t, "completion", shell); !strings.Contains(out, "pyro-cluster") {
			t.Errorf("completion %s: got %d bytes without the program's name", shell, len(out))
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if got := must(t, "version"); !strings.HasPrefix(got, "pyro-cluster "+programVersion()+" go1.") {
		t.Errorf("version: got %q", got)
	}
	if got := must(t, "version", "-o", "json"); !strings.Contains(got, `"version": `) {
		t.Errorf("version -o json: got %q", got)
	}
}
