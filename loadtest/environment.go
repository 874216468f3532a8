package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
)

// environment tells what machine this is.
func environment(ctx context.Context, cfg *Config) report.Environment {
	e := report.Environment{
		OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), CPU: cpuModel(), Kernel: kernel(),
		Go: runtime.Version(), Version: cfg.Version,
	}
	if cfg.needsPython() {
		e.Python = pythonVersion(ctx, cfg.Python)
	}
	return e
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.SplitSeq(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}

// checkPython finds out whether the Python that is to be started has what it needs.
func (c *Config) checkPython(ctx context.Context) error {
	if !c.needsPython() {
		return nil
	}
	out, err := exec.CommandContext(ctx, c.Python, "-c", "import Pyro5, serpent").CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		err = errors.New(last)
	}
	return fmt.Errorf("--python %s: %w: name a Python that has Pyro5 (pip install Pyro5)", c.Python, err)
}

func pythonVersion(ctx context.Context, python string) string {
	out, _ := exec.CommandContext(ctx, python, "-c",
		"import sys, Pyro5; print('Python', sys.version.split()[0], 'Pyro5', Pyro5.__version__)").Output()
	return strings.TrimSpace(string(out))
}

// cpuTime is the CPU time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// quietGC lets the collector run less often while calls are measured: the generator's heap is small, and each collection costs callers
// that share its CPUs some latency.  It returns what sets it back.
func quietGC() (restore func()) {
	old := debug.SetGCPercent(400)
	return func() { debug.SetGCPercent(old) }
}
