package loadtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
)

// program is pyro-cluster, built when a test first needs it.
var program struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(program.dir)
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func pyroCluster(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "loadtest-test-"); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "pyro-cluster")
		out, err := exec.Command("go", "build", "-o", program.path, "../cmd/pyro-cluster").CombinedOutput()
		if err != nil {
			program.err = fmt.Errorf("build pyro-cluster: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// python is the Python with stock Pyro5.
func python(t testing.TB) string {
	t.Helper()
	path := os.Getenv("PCLUSTER_PYTHON")
	if path == "" {
		t.Fatal("PCLUSTER_PYTHON is not set: run the tests with make test")
	}
	return path
}

// notes are what a run told of its progress.
type notes struct {
	t         testing.TB
	intervals int
	faults    []fault.Event
}

func (n *notes) Stage(text string)                    { n.t.Log(text) }
func (n *notes) Interval(_ report.Interval, _ string) { n.intervals++ }
func (n *notes) Fault(e fault.Event)                  { n.faults = append(n.faults, e); n.t.Log(e) }
func (n *notes) Baseline(b report.Baseline)           { n.t.Log(b.Name, b.Rate) }
