package interop

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// TestChat has a Go and a Python program in one channel, each at a node of its own.
//
// spec: E1 E2 E3 E9
func TestChat(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	for _, pkg := range []string{"cmd/pyro-cluster", "examples/chat"} {
		out := filepath.Join(bin, filepath.Base(pkg))
		if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", out, "../../"+pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
	}
	port := devPort(t)
	dev := beside(t, "dev", "ready", exec.Command(filepath.Join(bin, "pyro-cluster"), "dev", "--port", fmt.Sprint(port)))
	script, err := filepath.Abs("../../examples/chat/chat.py")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"PYRO_NS_HOST=localhost", fmt.Sprintf("PYRO_NS_PORT=%d", port)}
	goProgram, toGo := chatter(t, "go", exec.Command(filepath.Join(bin, "chat"), "-nick", "irmen", "-ns", fmt.Sprintf("localhost:%d", port+100)))
	python, toPython := chatter(t, "python", command(t, env, script, "guido"))

	for i := range 3 {
		fmt.Fprintf(toGo, "hello %d\n", i)
		if _, err := python.Line(t.Context(), fmt.Sprintf("<irmen> hello %d", i)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(toPython, "back %d\n", i)
		if _, err := goProgram.Line(t.Context(), fmt.Sprintf("<guido> back %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	toPython.Close()
	toGo.Close()
	for _, p := range []*spawn.Process{python, goProgram} {
		if err := p.End(syscall.SIGCONT); err != nil { // it ends by itself at the end of its input
			t.Error(err)
		}
	}
	if err := dev.End(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// chatter starts a program of the chat and returns what it reads.
func chatter(t *testing.T, name string, cmd *exec.Cmd) (*spawn.Process, io.WriteCloser) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return beside(t, name, "***", cmd), stdin
}
