package spawn

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		ownDirectory()
	}
	goleak.VerifyTestMain(m)
}

// start runs a shell script that can wait by reading, since its standard input stays open.
func start(t *testing.T, script string) *Process {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start("script", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.End(syscall.SIGKILL)
		stdin.Close()
	})
	return p
}

func TestLine(t *testing.T) {
	t.Parallel()
	p := start(t, "echo one; echo two 2; echo oops >&2; exec cat")
	if got, err := p.Line(t.Context(), "two"); err != nil || got != "2" {
		t.Errorf("got %q, %v; want the rest of the line that begins with two", got, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Line(gone, "three"); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting until the context ends: got %v", err)
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		signal       syscall.Signal
		want         string // in the error; empty: none
	}{
		{"asked and done", "trap 'exit 0' TERM; echo up; while :; do read x; done", syscall.SIGTERM, ""},
		{"asked and failed", "trap 'echo sorry; exit 3' TERM; echo up; while :; do read x; done", syscall.SIGTERM, "exit status 3"},
		{"killed", "echo up; exec cat", syscall.SIGKILL, ""},
		{"ended before", "echo up", syscall.SIGKILL, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.script)
			if _, err := p.Line(t.Context(), "up"); err != nil {
				t.Fatal(err)
			}
			err := p.End(test.signal)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestEndedWithoutTheLine(t *testing.T) {
	t.Parallel()
	p := start(t, "echo bad luck >&2; exit 7")
	if _, err := p.Line(t.Context(), "ready"); err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "bad luck") {
		t.Errorf("got %v, want how it ended and what it said", err)
	}
}

func TestNoSuchProgram(t *testing.T) {
	t.Parallel()
	if _, err := Start("nobody", exec.Command("/no/such/program")); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("got %v, want an error that names the process", err)
	}
}
