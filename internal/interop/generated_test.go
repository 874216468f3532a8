package interop

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/gen/testdata/kinds"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// answering implements some methods of an interface for which a skeleton was generated.
type answering struct {
	kinds.Kinds // nil
	notes       chan string
}

func (answering) Basic(_ context.Context, b bool, i int, i64 int64, u64 uint64, f float64, s string, p []byte) (bool, int, int64, uint64, float64, string, []byte, error) {
	return b, i, i64, u64, f, s, p, nil
}

func (answering) Composed(_ context.Context, list []int, _ map[string][]float64, _ [2]string, _ any, item kinds.Item, _ *kinds.Item) (*kinds.Item, error) {
	item.Price = float64(len(list))
	return &item, nil
}

func (answering) Variadic(_ context.Context, prefix string, values ...int) (int, error) {
	return len(prefix) + len(values), nil
}

func (answering) Keywords(_ context.Context, userID int, path string) (string, error) {
	if userID < 0 {
		return "", core.ValueError.New("user %d", userID)
	}
	return strings.Repeat(path, userID), nil
}

func (a answering) Notify(_ context.Context, text string) error {
	a.notes <- text
	return nil
}

func (answering) Unnamed(_ context.Context, n int, s string) (string, error) {
	return strings.Repeat(s, n), nil
}

// TestGeneratedServant calls a generated skeleton with stock Pyro5 proxies.
//
// spec: C1 C6 O1
func TestGeneratedServant(t *testing.T) {
	t.Parallel()
	for _, serializer := range serializerNames {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			a := answering{notes: make(chan string, 1)}
			d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
				_, err := d.Register("kinds", kinds.KindsServant(a), core.ObjectOptions{})
				return err
			})
			runChecks(t, nil, "generated.py", serializer, d.URI("kinds").String())
			if note := <-a.notes; note != "noted" {
				t.Errorf("notify: got %q, want noted", note)
			}
		})
	}
}

// TestCalculator runs the programs of examples/calculator, in Go and in Python, each server with each client.
//
// spec: C1
func TestCalculator(t *testing.T) {
	t.Parallel()
	const examples = "../../examples/calculator/"
	bin := t.TempDir()
	for _, name := range []string{"server", "client"} {
		if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, name), examples+name).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, text)
		}
	}
	python := func(script string, args ...string) *exec.Cmd {
		path, err := filepath.Abs(examples + script)
		if err != nil {
			t.Fatal(err)
		}
		return command(t, nil, append([]string{path}, args...)...)
	}
	servers := []struct {
		name    string
		cmd     *exec.Cmd
		divided string // what is said of a division by zero
	}{
		{"Go", exec.Command(filepath.Join(bin, "server")), "1 / 0"},
		{"Python", python("server.py"), "integer division or modulo by zero"},
	}
	for _, server := range servers {
		p, err := spawn.Start("server", server.cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.End(syscall.SIGKILL) })
		uri, err := p.Line(patient(t), "serving ")
		if err != nil {
			t.Fatal(err)
		}
		for _, client := range []*exec.Cmd{exec.Command(filepath.Join(bin, "client"), uri), python("client.py", uri)} {
			out, err := client.CombinedOutput()
			got := strings.NewReplacer("ZeroDivisionError: ", "", "builtins.", "", "3.0", "3").Replace(string(out))
			want := "1 + 2 + 3.5 = 6.5\n17 / 5 = 3 remainder 2\n1 / 0: " + server.divided + "\n17 / 5 was 3\n1 + 2 + 3.5 was 6.5\n"
			if err != nil || got != want {
				t.Errorf("%s server, %q: got %q, %v, want %q", server.name, client.Args, got, err, want)
			}
		}
	}
}

// TestGeneratedStubs: Python's type hints are Python.
func TestGeneratedStubs(t *testing.T) {
	t.Parallel()
	stubs := []string{"../gen/testdata/kinds/kinds.pyi", "../gen/testdata/kinds/shelf.pyi", "../../examples/calculator/calculator.pyi"}
	for i := range stubs {
		path, err := filepath.Abs(stubs[i])
		if err != nil {
			t.Fatal(err)
		}
		stubs[i] = path
	}
	runChecks(t, nil, "stubs.py", stubs...)
}
