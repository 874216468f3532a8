package loadtest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/servant"
)

// config makes a configuration of defaults that change adjusts.
func config(t testing.TB, change func(s *Settings)) *Config {
	t.Helper()
	s := Defaults()
	s.Seed, s.Warmup = 1, 100*time.Millisecond
	change(&s)
	c, err := s.Config(asText)
	if err != nil {
		t.Fatal(err)
	}
	c.Program, c.Version, c.Command = pyroCluster(t), "test", []string{"pyro-cluster", "loadtest", "run"}
	return c
}

// runOf makes a run that has to give a report, which it logs.
func runOf(t testing.TB, c *Config) (*report.Report, *notes) {
	t.Helper()
	n := &notes{t: t}
	rep, err := Run(t.Context(), c, n)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := rep.WriteText(&b); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", b.String())
	checkReport(t, rep)
	return rep, n
}

// checkReport holds every report to what is true of all.
func checkReport(t testing.TB, rep *report.Report) {
	t.Helper()
	var b bytes.Buffer
	if err := rep.Write(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := report.Read(&b); err != nil {
		t.Errorf("the report cannot be read back: %v", err)
	}
	var phases, intervals int64
	for _, p := range rep.Phases {
		phases += p.Good + p.Failed()
	}
	for _, i := range rep.Intervals {
		intervals += i.Good + i.Failed()
	}
	if total := rep.Total.Good + rep.Total.Failed(); phases != total || intervals != total || total == 0 {
		t.Errorf("calls: %d in all, %d in phases, %d in intervals, want the same and some", total, phases, intervals)
	}
}

// TestScenario is the scenario that every change has to pass: a replica and the leading node are killed under load, and no call runs twice or is
// lost.
func TestScenario(t *testing.T) {
	t.Parallel()
	rep, n := runOf(t, config(t, func(s *Settings) {
		if err := s.ReadScenario("scenarios/ci.yaml"); err != nil {
			t.Fatal(err)
		}
	}))
	if !rep.OK {
		t.Errorf("SLO %+v, problems %q", rep.SLO, rep.Problems)
	}
	if l := rep.Ledger; l == nil || !l.Complete || l.Ran < rep.Total.Good || l.Calls < l.Ran {
		t.Errorf("ledger: %+v of %d good calls", l, rep.Total.Good)
	}
	if len(n.faults) != 4 || len(rep.Faults) != 2 || rep.Faults[0].Healed < 3 || !strings.HasPrefix(rep.Faults[1].Targets[0], prefixNode) {
		t.Errorf("faults: %+v, want that a replica and a node were killed and started again", rep.Faults)
	}
	want := []string{"before", "during kill:replica", "after kill:replica", "during kill:leader", "after kill:leader"}
	for i, p := range rep.Phases {
		if i >= len(want) || p.Name != want[i] || p.Good == 0 {
			t.Errorf("phase %d: %q with %d good calls, want %q", i, p.Name, p.Good, want[min(i, len(want)-1)])
		}
	}
}

// TestLinkFaults puts proxies in front of everything, and breaks what they carry.
func TestLinkFaults(t *testing.T) {
	t.Parallel()
	rep, _ := runOf(t, config(t, func(s *Settings) {
		s.Spawn, s.Work, s.Callers, s.Rate, s.Duration, s.Settle = "nodes=3,replicas=2", "add=9,lookup=1", 8, "200", 6*time.Second, 200*time.Millisecond
		s.Contract = contractReadOnly
		s.Fault = []string{
			"slow:replicas@500ms+500ms,delay=20ms", "cut:replica@1500ms", "reset:replicas@2s", "half-open:replica@2500ms+500ms",
			"partition:replica@3500ms+500ms", "partition:leader@4500ms+1s",
		}
	}))
	if len(rep.Faults) != 6 || !rep.Target.Proxied {
		t.Errorf("faults: %+v, want all six", rep.Faults)
	}
	for _, p := range rep.Phases {
		if strings.HasPrefix(p.Name, "during slow") && p.Latency.Max < 20_000 {
			t.Errorf("%s: at most %v µs, want at least the delay", p.Name, p.Latency.Max)
		}
	}
}

// serveAlone serves in this process, without a name server.
func serveAlone(t testing.TB, path string) core.URI {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan core.URI, 1)
	done := make(chan error, 1)
	go func() { done <- servant.Serve(ctx, servant.Options{Ledger: path}, func(u core.URI) { ready <- u }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case uri := <-ready:
		return uri
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	panic("not reached")
}

// TestElsewhere: a target that is not ours has its ledger read over the network, its connections broken, and rates in steps.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	uri := serveAlone(t, filepath.Join(t.TempDir(), "ledger"))
	rep, _ := runOf(t, config(t, func(s *Settings) {
		s.Target, s.Work, s.Callers, s.Connections = uri.String(), "add,echo:64KiB,oneway", 4, 2
		s.Rate, s.Fault, s.SLO = "100:1s,200:1s", []string{"reset:replica@500ms", "slow:replicas@1200ms+200ms"}, "twice=0,lost=0,phantom=0"
		s.Settle, s.Baseline = 100*time.Millisecond, []string{"rawtcp"}
	}))
	if rep.Ledger == nil || !rep.Ledger.Complete || rep.Ledger.Ran == 0 || rep.Target.Kind != kindObject {
		t.Errorf("ledger: %+v of a %s", rep.Ledger, rep.Target.Kind)
	}
	if len(rep.Phases) < 5 || rep.Phases[0].Name != "1: 100/s, before" {
		t.Errorf("phases: %+v", rep.Phases)
	}
	if len(rep.Baselines) != 1 || rep.Baselines[0].Good == 0 || rep.Baselines[0].P50Ratio == 0 {
		t.Errorf("baselines: %+v, want one with a ratio", rep.Baselines)
	}
}

// TestPython: stock Pyro5 replicas keep the same ledger, and a stock daemon is a baseline.
func TestPython(t *testing.T) {
	t.Parallel()
	rep, _ := runOf(t, config(t, func(s *Settings) {
		s.Python, s.Spawn, s.Work, s.Callers, s.Rate = python(t), "nodes=1,replicas=1,python=1", "add,echo:1KiB", 8, "200"
		s.Duration, s.Fault, s.SLO = 4*time.Second, []string{"kill:python1@1s+1s"}, "twice=0,lost=0,phantom=0"
		s.Settle, s.Baseline = 500*time.Millisecond, []string{"pyro5"}
	}))
	if !rep.OK || len(rep.Baselines) != 1 || !strings.Contains(rep.Environment.Python, "Pyro5") {
		t.Errorf("SLO %+v, problems %q, baselines %+v, Python %q", rep.SLO, rep.Problems, rep.Baselines, rep.Environment.Python)
	}
}

// TestNothingIsLeft: however a run ends, its processes and its data go with it.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		end  syscall.Signal
	}{
		{"Ctrl-C", syscall.SIGINT},
		{"a crash", syscall.SIGQUIT}, // as a panic does, it ends a Go program without its defers
		{"kill -9", syscall.SIGKILL},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command(pyroCluster(t), "loadtest", "run", "--spawn", "nodes=1,replicas=2", "--rate", "50", "--duration", "10m",
				"--fault", "pause:replica1@1ms+5m", "--interval", "100ms", "--json", filepath.Join(dir, "report.json"))
			cmd.Env = append(os.Environ(), "TMPDIR="+dir)
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout = nil
			p, err := spawn.Start("loadtest", shell(cmd))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Line(t.Context(), "fault"); err != nil {
				t.Fatal(err)
			}
			if err := p.End(test.end); err != nil {
				t.Fatal(err)
			}
			await(t, func() string {
				if ps := processesOf(t, dir); ps != "" {
					return "processes: " + ps
				}
				left, err := filepath.Glob(filepath.Join(dir, "pyro-cluster-loadtest-*"))
				if err != nil || len(left) > 0 {
					return "directories: " + strings.Join(left, " ")
				}
				return ""
			})
			_, err = os.Stat(filepath.Join(dir, "report.json"))
			if wrote := err == nil; wrote != (test.end == syscall.SIGINT) {
				t.Errorf("report: %v after %v; want the report of a run cut short after SIGINT alone", err, test.end)
			}
		})
	}
}

// shell makes what cmd prints on standard error come on standard output, where lines can be waited for.
func shell(cmd *exec.Cmd) *exec.Cmd {
	sh := exec.Command("sh", append([]string{"-c", `exec "$@" 2>&1`, "sh"}, cmd.Args...)...)
	sh.Env = cmd.Env
	return sh
}

// processesOf lists the processes that have dir in their command line.
func processesOf(t testing.TB, dir string) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range files {
		b, _ := os.ReadFile(f) // gone meanwhile, perhaps
		if line := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(line, dir) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "; ")
}

// await polls until problem has nothing to say.
func await(t testing.TB, problem func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		text := problem()
		if text == "" {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(text)
		}
	}
}

// TestCannotStart: a target that is not there, or lacks what is called, is an error before any load.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	uri := serveAlone(t, "")
	for _, test := range []struct {
		name   string
		change func(s *Settings)
		want   string
	}{
		{"no server", func(s *Settings) { s.Target = "PYRO:loadtest@127.0.0.1:1" }, "connection refused"},
		{"no name server", func(s *Settings) { s.Target = "PYRONAME:loadtest@127.0.0.1:1" }, "connection refused"},
		{"no such object", func(s *Settings) { s.Target = "PYRO:other@" + uri.Host + ":" + portOf(uri) }, "unknown object"},
		{"no such method", func(s *Settings) { s.Call = "PYRO:loadtest@" + uri.Host + ":" + portOf(uri) + " frobnicate" }, "frobnicate"},
		{"no ledger", func(s *Settings) { s.Target, s.SLO = uri.String(), "twice=0" }, "keeps no ledger"},
		{"no Python", func(s *Settings) { s.Spawn, s.Python = "nodes=1,python=1", "/no/such/python" }, "/no/such/python"},
		{"a method that raises", func(s *Settings) { s.Call = "PYRO:loadtest@" + uri.Host + ":" + portOf(uri) + " add" }, "TypeError"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rep, err := Run(t.Context(), config(t, func(s *Settings) {
				s.Timeout = 300 * time.Millisecond
				test.change(s)
			}), &notes{t: t})
			if rep != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v, want an error with %q", rep, err, test.want)
			}
		})
	}
}

func portOf(uri core.URI) string {
	_, address := uri.Address()
	return address[strings.LastIndex(address, ":")+1:]
}

// TestRateNotKept: a generator that cannot make the calls it was asked for fails the run, whatever its SLO.
func TestRateNotKept(t *testing.T) {
	t.Parallel()
	uri := serveAlone(t, "")
	rep, _ := runOf(t, config(t, func(s *Settings) {
		s.Target, s.Callers, s.Rate, s.Duration, s.Drain, s.SLO = uri.String(), 1, "1000000", 500*time.Millisecond, 0, "errors=0"
		s.Warmup = 0
	}))
	if rep.OK || rep.Generator.Kept || rep.Generator.Unsent == 0 || !strings.Contains(strings.Join(rep.Problems, ";"), "the asked rate was not kept") {
		t.Errorf("ok %v, generator %+v, problems %q; want that the rate was not kept, and so a failure", rep.OK, rep.Generator, rep.Problems)
	}
}

// TestFaultThatCannotBeApplied: a run with a fault that did not happen proves nothing, and is an error.
func TestFaultThatCannotBeApplied(t *testing.T) {
	t.Parallel()
	rep, err := Run(t.Context(), config(t, func(s *Settings) {
		s.Spawn, s.Callers, s.Rate, s.Timeout, s.Duration = "nodes=1,replicas=2", 2, "50", 300*time.Millisecond, 10*time.Second
		s.Fault = []string{"kill:replica1@200ms", "kill:replica1@400ms"}
	}), &notes{t: t})
	if rep != nil || err == nil || !strings.Contains(err.Error(), "replica1 does not run") {
		t.Errorf("got %v, %v, want an error that says why", rep, err)
	}
}

// TestTargetThatIsGone: a target that does not come back fails the run, also without an SLO.
func TestTargetThatIsGone(t *testing.T) {
	t.Parallel()
	rep, _ := runOf(t, config(t, func(s *Settings) {
		s.Spawn, s.Callers, s.Timeout, s.Duration, s.Settle = "nodes=1,replicas=1", 2, 200*time.Millisecond, 2*time.Second, 100*time.Millisecond
		s.Fault = []string{"kill:replica@500ms"}
	}))
	last := rep.Phases[len(rep.Phases)-1]
	if rep.OK || last.Good != 0 || last.GapMS < 1000 || !strings.Contains(strings.Join(rep.Problems, ";"), "no call was good") {
		t.Errorf("ok %v, problems %q, last phase %+v; want a failure, and a gap as long as the phase at least", rep.OK, rep.Problems, last)
	}
}
