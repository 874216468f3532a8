package interop

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// TestGreeter runs the programs that the README shows, against `pyro-cluster dev`: each server with each client.
func TestGreeter(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for _, pkg := range []string{"cmd/pyro-cluster", "examples/greeter/server", "examples/greeter/client"} {
		out := filepath.Join(bin, filepath.Base(pkg))
		if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, "../../"+pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	port := devPort(t)
	nodes := fmt.Sprintf("localhost:%d,localhost:%d,localhost:%d", port, port+100, port+200)
	env := []string{"PYRO_NS_HOST=localhost", fmt.Sprintf("PYRO_NS_PORT=%d", port)}
	dev := beside(t, "dev", "ready", exec.Command(filepath.Join(bin, "pyro-cluster"), "dev", "--port", fmt.Sprint(port)))

	examples := "../../examples/greeter/"
	python := func(script string) *exec.Cmd {
		path, err := filepath.Abs(examples + script)
		if err != nil {
			t.Fatal(err)
		}
		return command(t, env, path)
	}
	for _, server := range []struct {
		cmd    *exec.Cmd
		says   string
		leaves bool // when asked to stop; the Python one is a plain loop
	}{
		{exec.Command(filepath.Join(bin, "server"), "-ns", nodes), "Hello, Irmen, says Go.", true},
		{python("server.py"), "Hello, Irmen, says Python.", false},
	} {
		p := beside(t, "server", "serving", server.cmd)
		for _, client := range []*exec.Cmd{exec.Command(filepath.Join(bin, "client"), "-ns", nodes), python("client.py")} {
			out, err := client.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != server.says {
				t.Errorf("%q: got %q, %v, want %q", client.Args, got, err, server.says)
			}
		}
		if server.leaves {
			if err := p.End(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	if err := dev.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// beside starts a program, which ends with the test at the latest, and waits for its first line that begins with up.
func beside(t *testing.T, name, up string, cmd *exec.Cmd) *spawn.Process {
	t.Helper()
	p, err := spawn.Start(name, cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.End(syscall.SIGKILL) })
	if _, err := p.Line(t.Context(), up); err != nil {
		t.Fatal(err)
	}
	return p
}

// devPort finds a port such that all that dev listens on is free.
func devPort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 21_000 + rand.IntN(10_000)
		if devFree(port) {
			return port
		}
	}
	t.Fatal("no free ports for dev")
	return 0
}

func devFree(port int) bool {
	for node := range 3 {
		for _, offset := range []int{0, 2, 3} {
			ln, err := net.Listen("tcp", fmt.Sprintf("localhost:%d", port+100*node+offset))
			if err != nil {
				return false
			}
			ln.Close()
		}
	}
	return true
}
