package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// write is a directory into which [TestWriteSamples] writes pages for looking at them in a browser.
var write = flag.String("samples", "", "write sample reports into this directory")

// stage is a span of a simulated run.
type stage struct {
	name    string
	length  float64 // seconds
	slower  float64 // factor on latency; 0 is 1
	silence float64 // seconds at its beginning in which calls wait
	failing float64 // share of calls that fail
}

// simulation is a run that nobody made: calls are due at a fixed rate and take a log-normal time with a heavy tail.
type simulation struct {
	seed     uint64
	rate     float64
	slower   float64 // factor on all latencies; 0 is 1
	interval float64 // seconds
	stages   []stage
	faults   []Fault
}

func oneStage(seed uint64, slower float64) simulation {
	return simulation{seed: seed, rate: 400, slower: slower, interval: 0.5, stages: []stage{{name: "run", length: 10}}}
}

// fullSimulation has everything: faults, a gap, failures.
func fullSimulation(seed uint64) simulation {
	return simulation{
		seed: seed, rate: 2000, interval: 0.25,
		stages: []stage{
			{name: "before", length: 15.1},
			{name: "during kill:replica", length: 7, slower: 1.6, silence: 0.35, failing: 0.004},
			{name: "after kill:replica", length: 13.2},
			{name: "during pause:leader", length: 5.05, slower: 1.2, silence: 1.4, failing: 0.011},
			{name: "after pause:leader", length: 19.65},
		},
		faults: []Fault{
			{Spec: "kill:replica@15s+5s", Round: 1, Targets: []string{"replica2"}, At: 15.1, Healed: 20.3, TookMS: 3.1, HealedMS: 310},
			{Spec: "pause:leader@35s+3s", Round: 1, Targets: []string{"node1"}, At: 35.3, Healed: 38.32, TookMS: 0.4, HealedMS: 0.2},
			{Spec: "reset:replicas@50s", Round: 1, Targets: []string{"replica1", "replica2", "replica3"}, At: 50, Healed: -1, TookMS: 1.2},
		},
	}
}

type counter struct {
	good   int64
	errors map[string]int64
	hist   *hdrhistogram.PackedHistogram
	gap    float64
}

func newCounter() *counter {
	return &counter{errors: make(map[string]int64), hist: hdrhistogram.NewPacked(100, int64(10*time.Minute), 3)}
}

func (c *counter) add(seconds float64, kind string) {
	if kind != "" {
		c.errors[kind]++
		return
	}
	c.good++
	if err := c.hist.RecordValue(int64(seconds * 1e9)); err != nil {
		panic(err)
	}
	c.gap = max(c.gap, seconds)
}

func (c *counter) counts() Counts {
	return Counts{Good: c.good, Errors: c.errors, Latency: LatencyOf(c.hist, true), GapMS: math.Round(c.gap*1e6) / 1e3}
}

func (s simulation) report() *Report {
	rng := rand.New(rand.NewPCG(s.seed, 1))
	total := newCounter()
	r := &Report{
		Schema: Schema, Name: "two faults", OK: true,
		Started: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC),
		Command: []string{"pyro-cluster", "loadtest", "run", "--spawn", "nodes=3,replicas=3", "--rate", "2000", "--slo", "p99<5ms,lost=0"},
		Environment: Environment{
			OS: "linux", Kernel: "6.12.7", Arch: "amd64", CPU: "A Processor 9000 (8 cores)", CPUs: 8, Go: "go1.26.0", Version: "v0.2.0", Python: "Python 3.11.2",
		},
		Target: Target{Kind: "spawned", Name: "nodes=3,replicas=3", Members: []string{"PYRO:a@127.0.0.1:40001", "PYRO:a@127.0.0.1:40002", "PYRO:a@127.0.0.1:40003"}},
		Load: Load{
			Mode: "open", Callers: 64, WarmupS: 2, Seed: s.seed, Works: []string{"add=3", "echo:1KiB=1"}, Contract: "idempotent",
			Serializer: "serpent", Generators: 1,
		},
	}
	works := []*counter{newCounter(), newCounter()}
	var at float64
	var waiting []call // those that end in a later interval
	for i, st := range s.stages {
		phase := newCounter()
		begin, end := at, at+st.length
		for at < end {
			next := min((math.Floor(at/s.interval+1e-9)+1)*s.interval, end)
			for range int(math.Round(s.rate * (next - at))) {
				waiting = append(waiting, s.call(rng, st, begin, at+(next-at)*rng.Float64()))
			}
			c := newCounter()
			late := waiting[:0]
			for _, k := range waiting {
				if k.due+k.took > next && i+1 < len(s.stages) {
					late = append(late, k)
					continue
				}
				for _, sum := range []*counter{c, phase, total, works[rng.IntN(4)/3]} {
					sum.add(k.took, k.kind)
				}
			}
			waiting = late
			r.Intervals = append(r.Intervals, Interval{From: round(at), To: round(next), Phase: i, Rate: float64(c.good) / (next - at), Counts: c.counts()})
			at = next
		}
		r.Phases = append(r.Phases, Phase{
			Name: st.name, From: round(begin), To: round(end), Rate: float64(phase.good) / st.length, Counts: phase.counts(),
			FirstGoodMS: round(st.silence*1e3 + 0.41),
		})
	}
	r.Load.DurationS = round(at)
	r.Load.Steps = []Step{{Rate: s.rate, ForS: round(at)}}
	r.Total = Phase{To: round(at), Rate: float64(total.good) / at, Counts: total.counts(), FirstGoodMS: 0.41}
	for i, name := range []string{"add", "echo:1KiB"} {
		r.Works = append(r.Works, Work{Name: name, Rate: float64(works[i].good) / at, Counts: works[i].counts()})
	}
	due := total.good + r.Total.Failed()
	r.Generator = Generator{Due: due, Begun: due, Kept: true, Lag: r.Phases[0].Latency, CPUS: 9.5, CPUFrac: 0.02}
	r.Generator.Lag.Histogram = ""
	r.Faults = s.faults
	r.Ledger = &Ledger{Complete: true, Verdict: ledger.Verdict{Calls: due, Ran: total.good, Unknown: r.Total.Failed(), UnknownRan: r.Total.Failed() / 3}}
	return r
}

func round(f float64) float64 { return math.Round(f*1e6) / 1e6 }

// call is one call; its times are in seconds.
type call struct {
	due, took float64
	kind      string
}

func (s simulation) call(rng *rand.Rand, st stage, begin, due float64) call {
	c := call{due: due, took: 300e-6 * math.Exp(0.35*rng.NormFloat64())}
	if rng.Float64() < 0.01 {
		c.took *= 1 + 12*rng.ExpFloat64()
	}
	for _, factor := range []float64{s.slower, st.slower} {
		if factor > 0 {
			c.took *= factor
		}
	}
	c.took += max(st.silence-(due-begin), 0)
	if rng.Float64() < st.failing {
		c.kind = []string{"connection lost", "timed out", "connection lost", "builtins.ValueError"}[rng.IntN(4)]
	}
	return c
}

// fullSample is a report in which every part has something.
func fullSample(t testing.TB) *Report {
	t.Helper()
	return samples(t)["full"]
}

func makeFullSample() *Report {
	r := fullSimulation(7).report()
	base := oneStage(8, 0.2).report().Phases[0]
	python := oneStage(9, 2.5).report().Phases[0]
	for _, b := range []struct {
		name  string
		phase Phase
	}{{"rawtcp", base}, {"pyro5", python}} {
		r.Baselines = append(r.Baselines, Baseline{
			Name: b.name, Rate: b.phase.Rate, Counts: b.phase.Counts, RateRatio: r.Phases[0].Rate / b.phase.Rate,
			P50Ratio: r.Phases[0].Latency.P50 / b.phase.Latency.P50, P99Ratio: r.Phases[0].Latency.P99 / b.phase.Latency.P99,
		})
	}
	slo, err := ParseSLO("p99[before]<5ms,errors<1%,gap[during]<1s,rate>1500,twice=0,lost=0")
	if err != nil {
		panic(err)
	}
	r.SLO = slo.Judge(r)
	r.OK = false
	r.Problems = []string{"a node did not end well: exit status 2"}
	return r
}

// samples are reports of all shapes, by name: copies, which a test may change.
func samples(t testing.TB) map[string]*Report {
	t.Helper()
	reports := make(map[string]*Report)
	for name, b := range sampleJSON() {
		r := new(Report)
		if err := json.Unmarshal(b, r); err != nil {
			t.Fatalf("sample %s: %v", name, err)
		}
		reports[name] = r
	}
	return reports
}

// sampleJSON makes the samples once, as that takes a second with the race detector; this is not the JSON of Write, which is tested.
var sampleJSON = sync.OnceValue(func() map[string][]byte {
	encoded := make(map[string][]byte)
	for name, r := range makeSamples() {
		b, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		encoded[name] = b
	}
	return encoded
})

func makeSamples() map[string]*Report {
	calm := oneStage(3, 1)
	calm.rate, calm.stages = 3000, []stage{{name: "run", length: 10}}
	quiet := calm.report()
	quiet.Name, quiet.Works, quiet.Ledger = "", quiet.Works[:1], nil
	quiet.Target = Target{Kind: "object", Name: "PYRONAME:bank", Members: []string{"PYRO:bank@127.0.0.1:9000"}}
	quiet.Load.Mode, quiet.Load.Steps = "closed", nil

	short := simulation{seed: 4, rate: 200, interval: 1, stages: []stage{{name: "run", length: 0.4}}}.report()

	nothing := &Report{
		Schema: Schema, Target: Target{Kind: "object", Name: "PYRO:gone@127.0.0.1:1"}, Load: Load{Mode: "closed", Callers: 1, DurationS: 1},
		Total: Phase{To: 1, FirstGoodMS: -1}, Phases: []Phase{{Name: "run", To: 1, FirstGoodMS: -1}},
	}

	many := simulation{seed: 5, rate: 500, interval: 0.25, stages: []stage{{name: "before", length: 4}}}
	for i := range 11 {
		at := 4 + 5*float64(i)
		name := "kill:replica"
		many.stages = append(many.stages,
			stage{name: "during " + name, length: 3, slower: 2, silence: 0.2, failing: 0.01}, stage{name: "after " + name, length: 2})
		many.faults = append(many.faults, Fault{
			Spec: "kill:replica@4s+2s,every=5s", Round: i + 1, Targets: []string{"replica1"}, At: at, Healed: at + 2.2, TookMS: 2, HealedMS: 200,
		})
	}
	return map[string]*Report{"full": makeFullSample(), "quiet": quiet, "short": short, "nothing": nothing, "many": many.report()}
}

// TestWriteSamples writes the samples as files, if a directory is given: go test -run TestWriteSamples -args -samples DIR.
func TestWriteSamples(t *testing.T) {
	t.Parallel()
	dir := *write
	if dir == "" {
		dir = t.TempDir()
	}
	for name, r := range samples(t) {
		for ext, to := range map[string]func(*bytes.Buffer) error{
			".html": func(b *bytes.Buffer) error { return r.WriteHTML(b) },
			".json": func(b *bytes.Buffer) error { return r.Write(b) },
			".csv":  func(b *bytes.Buffer) error { return r.WriteCSV(b) },
			".txt":  func(b *bytes.Buffer) error { return r.WriteText(b) },
		} {
			var b bytes.Buffer
			if err := to(&b); err != nil {
				t.Fatalf("%s%s: %v", name, ext, err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+ext), b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
