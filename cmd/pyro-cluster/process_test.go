package main

import (
	"context"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

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

	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	c := &spawn.Cluster{Program: program, Dir: t.TempDir()}
	t.Cleanup(func() { c.Stop(syscall.SIGKILL) })
	if err := c.Start(ctx, 3); err != nil {
		t.Fatal(err)
	}
	ns := strings.Join(c.Addresses(), ",")
	must(t, "ns", "register", "bank", "PYRO:bank@localhost:7000", "--ns", ns)

	leader := must(t, "cluster", "leader", "--ns", ns)
	victim := c.Index(leader)
	if err := c.Kill(victim); err != nil {
		t.Fatal(err)
	}
	must(t, "ns", "ping", "--wait", "20s", "--ns", ns)
	must(t, "ns", "register", "till", "PYRO:till@localhost:7000", "--ns", ns)
	if got := must(t, "cluster", "leader", "--ns", ns); got == leader {
		t.Errorf("the leader is still %s, which was killed", got)
	}

	if err := c.Launch(victim); err != nil {
		t.Fatal(err)
	}
	if err := c.AwaitReady(ctx, victim); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bank", "till"} {
		if got, want := must(t, "ns", "lookup", name, "--ns", c.Addresses()[victim]), "PYRO:"+name+"@localhost:7000"; got != want {
			t.Errorf("lookup %s at the node that came back: got %q, want %q", name, got, want)
		}
	}
	for _, node := range publishedNodes(t, ns, c.Size()) {
		i := c.Index(node.PyroAddress)
		// Twice, as timeout(1) does, and the second time when the first has been seen.
		c.Signal(i, syscall.SIGTERM)
		waitNotReady(node.HTTPAddress)
		if err := c.End(i, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
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
