package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a node as a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	lines  chan string
	stderr bytes.Buffer
	done   chan struct{} // closed when it has been waited for
}

func startProcess(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...), lines: make(chan string, 100), done: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
		p.cmd.Wait() // its error is in ProcessState
	}()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

func (p *process) line(want string) {
	p.t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				<-p.done
				p.t.Fatalf("%v ended without a line %q: %v, stderr %s", p.cmd.Args, want, p.cmd.ProcessState, p.stderr.String())
			}
			if strings.HasPrefix(l, want) {
				return
			}
		case <-timeout:
			p.t.Fatalf("%v: no line %q in %v", p.cmd.Args, want, deadline)
		}
	}
}

// end sends a signal and waits for the end.
func (p *process) end(s syscall.Signal) *os.ProcessState {
	p.t.Helper()
	p.cmd.Process.Signal(s) // an error means that it has ended already
	select {
	case <-p.done:
	case <-time.After(deadline):
		p.t.Errorf("%v did not end %v after %v", p.cmd.Args, deadline, s)
		p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState
}

// waitNotReady waits until a node says that it is not ready, or nothing any more.
func waitNotReady(address string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: deadline}
	for {
		r, err := client.Get("http://" + address + "/readyz")
		if err != nil {
			return
		}
		r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return
		}
	}
}

// TestProcesses builds the program and runs three nodes of it: one is killed, the others go on, it comes back, and all stop when asked.
func TestProcesses(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "pyro-cluster")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3-test", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.Command(program, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "pyro-cluster v1.2.3-test ") {
		t.Errorf("version: got %q, %v", out, err)
	}

	base := freePorts(t, devPorts...)
	dir := t.TempDir()
	var raft, pyro []string
	for i := range 3 {
		pyro, raft = append(pyro, join("localhost", base+i*100)), append(raft, join("localhost", base+i*100+2))
	}
	node := func(i int) *process {
		p := base + i*100
		return startProcess(t, program, "server", "--data-dir", filepath.Join(dir, fmt.Sprint(i)), "--profile", "lan",
			"--port", fmt.Sprint(p), "--raft-port", fmt.Sprint(p+2), "--http-port", fmt.Sprint(p+3), "--expect", "3", "--join", strings.Join(raft, ","))
	}
	nodes := []*process{node(0), node(1), node(2)}
	ns := strings.Join(pyro, ",")
	must(t, "ns", "ping", "--wait", "20s", "--ns", ns)
	for _, n := range nodes {
		n.line("URI = PYRO:Pyro.NameServer@localhost:")
		n.line("ready")
	}
	must(t, "ns", "register", "bank", "PYRO:bank@localhost:7000", "--ns", ns)

	leader := must(t, "cluster", "leader", "--ns", ns)
	victim := 0
	for pyro[victim] != leader {
		victim++
	}
	if state := nodes[victim].end(syscall.SIGKILL); state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("killed: %v", state)
	}
	must(t, "ns", "ping", "--wait", "20s", "--ns", ns)
	must(t, "ns", "register", "till", "PYRO:till@localhost:7000", "--ns", ns)
	if got := must(t, "cluster", "leader", "--ns", ns); got == leader {
		t.Errorf("the leader is still %s, which was killed", got)
	}

	nodes[victim] = node(victim)
	nodes[victim].line("ready")
	for _, name := range []string{"bank", "till"} {
		if got, want := must(t, "ns", "lookup", name, "--ns", pyro[victim]), "PYRO:"+name+"@localhost:7000"; got != want {
			t.Errorf("lookup %s at the node that came back: got %q, want %q", name, got, want)
		}
	}
	for i, n := range nodes {
		// Twice, as timeout(1) does, and the second time when the first has been seen.
		n.cmd.Process.Signal(syscall.SIGTERM)
		waitNotReady(join("localhost", base+i*100+3))
		if state := n.end(syscall.SIGTERM); state.ExitCode() != exitOK {
			t.Errorf("%v: %v after SIGTERM, stderr %s", n.cmd.Args, state, n.stderr.String())
		}
	}
}
