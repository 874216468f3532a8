package loadtest

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

func asText(s string) any { return s }

// TestBadSettings: what cannot work is one clear line before anything starts.
func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(s *Settings)
		want   string // in the error
	}{
		{"no target", func(s *Settings) { s.Target = "" }, "there is no target"},
		{"two targets", func(s *Settings) { s.Spawn = "nodes=1" }, "exclude each other"},
		{"target that is no URI", func(s *Settings) { s.Target = "bank" }, `target "bank"`},
		{"call without a method", func(s *Settings) { s.Target, s.Call = "", "PYRONAME:bank" }, "write OBJECT METHOD"},
		{"call and work", func(s *Settings) { s.Target, s.Call, s.Work = "", "PYRONAME:bank balance", "echo:1B" }, "--work and --call exclude each other"},
		{"spawn nonsense", func(s *Settings) { s.Target, s.Spawn = "", "nodes=three" }, `--spawn has "nodes=three"`},
		{"spawn unknown", func(s *Settings) { s.Target, s.Spawn = "", "leaders=1" }, `--spawn has "leaders=1"`},
		{"spawn too many nodes", func(s *Settings) { s.Target, s.Spawn = "", "nodes=10" }, "nodes=10: give 1 to 9"},
		{"spawn nobody", func(s *Settings) { s.Target, s.Spawn = "", "replicas=0" }, "0 object servers"},
		{"unknown work", func(s *Settings) { s.Work = "juggle" }, "works are add, echo:SIZE"},
		{"batch", func(s *Settings) { s.Work = "batch:100" }, "calls in batches are not among the works"},
		{"stream", func(s *Settings) { s.Work = "stream" }, "item streams are not among the works"},
		{"echo without a size", func(s *Settings) { s.Work = "echo" }, "echo has a size"},
		{"add with a size", func(s *Settings) { s.Work = "add:1KiB" }, "echo has a size, and only echo"},
		{"echo of nothing", func(s *Settings) { s.Work = "echo:0B" }, "a size is 1B to 60MiB"},
		{"echo of too much", func(s *Settings) { s.Work = "echo:61MiB" }, "a size is 1B to 60MiB"},
		{"weight zero", func(s *Settings) { s.Work = "add=0" }, "a weight is a number from 1"},
		{"work twice", func(s *Settings) { s.Work = "echo:1KiB,echo:1024B=2" }, "echo:1KiB twice"},
		{"rate zero", func(s *Settings) { s.Rate = "0" }, `--rate has "0"`},
		{"rate NaN", func(s *Settings) { s.Rate = "NaN" }, `--rate has "NaN"`},
		{"rate step without a time", func(s *Settings) { s.Rate = "5:1s,6" }, "how long it lasts"},
		{"rate step of no time", func(s *Settings) { s.Rate = "5:0s" }, "a time above 0"},
		{"no callers", func(s *Settings) { s.Callers = 0 }, "--callers is 0"},
		{"negative connections", func(s *Settings) { s.Connections = -1 }, "--connections is -1"},
		{"no duration", func(s *Settings) { s.Duration = 0 }, "--duration is 0s"},
		{"negative warm-up", func(s *Settings) { s.Warmup = -1 }, "--warmup is -1ns"},
		{"unknown contract", func(s *Settings) { s.Contract = "verbal" }, `--contract is "verbal"`},
		{"unknown serializer", func(s *Settings) { s.Serializer = "pickle" }, `--serializer is "pickle"`},
		{"unknown baseline", func(s *Settings) { s.Baseline = []string{"corba"} }, `--baseline has "corba"`},
		{"baseline twice", func(s *Settings) { s.Baseline = []string{"rawtcp", "rawtcp"} }, `--baseline has "rawtcp"`},
		{"fault without a target", func(s *Settings) { s.Fault = []string{"kill@1s"} }, "kill@1s"},
		{"fault twice", func(s *Settings) { s.Fault = []string{"reset:replica@1s", "reset:replica@1000ms"} }, "reset:replica@1s is given twice"},
		{"fault after the end", func(s *Settings) { s.Fault = []string{"reset:replica@1h"} }, "reset:replica@1h"},
		{"kill of what is not ours", func(s *Settings) { s.Fault = []string{"kill:replica@1s"} }, "not ours"},
		{"leader of what is not ours", func(s *Settings) { s.Fault = []string{"reset:leader@1s"} }, "only replica and replicas"},
		{"no such node", func(s *Settings) { s.Target, s.Spawn, s.Fault = "", "nodes=3", []string{"kill:node4@1s"} }, "has no node4"},
		{"no such replica", func(s *Settings) { s.Target, s.Spawn, s.Fault = "", "replicas=1", []string{"kill:replica2@1s"} }, "has no replica2"},
		{"no Python", func(s *Settings) { s.Target, s.Spawn, s.Fault = "", "replicas=1", []string{"kill:python1@1s"} }, "has no python1"},
		{"no follower", func(s *Settings) { s.Target, s.Spawn, s.Fault = "", "nodes=1", []string{"kill:follower@1s"} }, "has no follower"},
		{"control without port", func(s *Settings) { s.Control = "localhost" }, `--control is "localhost": give host:port`},
		{"control without host", func(s *Settings) { s.Control = ":9094" }, `--control is ":9094"`},
		{"control anywhere", func(s *Settings) { s.Control = "0.0.0.0:9094" }, `--control is "0.0.0.0:9094"`},
		{"control, no port number", func(s *Settings) { s.Control = "localhost:66000" }, `--control is "localhost:66000"`},
		{"SLO nonsense", func(s *Settings) { s.SLO = "speed>9000" }, "speed"},
		{"SLO nobody can count", func(s *Settings) { s.Target, s.Call, s.SLO = "", "PYRONAME:bank balance", "twice=0" }, "--slo has twice, which nobody can count"},
		{"SLO of lookups", func(s *Settings) { s.Work, s.SLO = "lookup,add", "lost=0" }, "lookup leaves no trace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := Defaults()
			s.Target = "PYRONAME:loadtest"
			test.change(&s)
			_, err := s.Config(asText)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	s := Defaults()
	s.Spawn, s.Work, s.Rate, s.SLO = "nodes=3,python=1", "add=3, echo:64KiB,oneway=2", "1000:10s,5e3:20s", "p99<5ms,twice=0"
	s.Fault, s.Baseline = []string{"kill:python1@5s+1s", "pause:leader@20s+3s"}, []string{"pyro5"}
	c, err := s.Config(asText)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Spawn{Nodes: 3, Replicas: 0, Python: 1}); *c.spawn != want {
		t.Errorf("spawn: got %+v, want %+v", *c.spawn, want)
	}
	if want := []Work{{"add", 0, 3}, {"echo", 64 << 10, 1}, {"oneway", 0, 2}}; !reflect.DeepEqual(c.works, want) {
		t.Errorf("works: got %v, want %v", c.works, want)
	}
	if want := []traffic.Step{{Rate: 1000, For: 10 * time.Second}, {Rate: 5000, For: 20 * time.Second}}; !reflect.DeepEqual(c.steps, want) {
		t.Errorf("steps: got %v, want %v", c.steps, want)
	}
	if c.Length() != 30*time.Second || c.interval() != 130*time.Millisecond {
		t.Errorf("length %v, interval %v, want 30s and 130ms", c.Length(), c.interval())
	}
}

func TestWorkText(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"add", "oneway", "lookup", "register", "echo:1B", "echo:1KiB", "echo:1000B", "echo:1MiB", "echo:1537KiB"} {
		works, err := ParseWorks(text)
		if err != nil || len(works) != 1 || works[0].String() != text {
			t.Errorf("%s: got %v, %v", text, works, err)
		}
	}
}

// TestScenarios: those that are shipped can be run as they are.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("scenarios/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("got %v, %v, want the scenarios", files, err)
	}
	for _, file := range files {
		s := Defaults()
		if err := s.ReadScenario(file); err != nil {
			t.Error(err)
		} else if _, err := s.Config(asText); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestBadScenario(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"unknown key", "callers: 3\nspede: 9", "line 2: field spede is no setting"},
		{"wrong type", "callers: many", "line 1: cannot unmarshal"},
		{"a list", "- callers: 3", "line 1: cannot unmarshal"},
		{"two documents", "callers: 3\n---\ncallers: 4", "more than one document"},
		{"no YAML", "callers: [", "line 1"},
		{"too long", strings.Repeat("#", maxScenarioBytes+1), "more than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "scenario.yaml")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			s := Defaults()
			err := s.ReadScenario(path)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "loadtest.") {
				t.Errorf("got %v, want one line with %q", err, test.want)
			}
		})
	}
}
