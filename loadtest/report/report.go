// Package report is what a load test leaves behind: a [Report], which is a JSON file with a versioned schema, and what can be made of it:
// a table for people, CSV, a page of HTML that works offline, a comparison of two, the sum of several generators.
//
// Times within a run are seconds since the start of recording, latencies are microseconds, rates are per second.
package report

import (
	"io"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// Schema is the version of the JSON.  Fields may be added without a change of it.
const Schema = "pyro-cluster/loadtest/1"

// Report is one run.
type Report struct {
	Schema      string      `json:"schema"`
	Name        string      `json:"name,omitempty"` // of the scenario
	Started     time.Time   `json:"started"`
	Command     []string    `json:"command"`
	Environment Environment `json:"environment"`
	Target      Target      `json:"target"`
	Load        Load        `json:"load"`
	Generator   Generator   `json:"generator"`
	Total       Phase       `json:"total"`
	Phases      []Phase     `json:"phases"`
	Works       []Work      `json:"works"`
	Faults      []Fault     `json:"faults"`
	Ledger      *Ledger     `json:"ledger,omitempty"` // nil: the target has none
	Baselines   []Baseline  `json:"baselines"`
	SLO         []Check     `json:"slo"`
	// Problems are reasons not to trust the run, or not all of it: the rate was not kept, a ledger could not be read, it was cut short.
	Problems  []string   `json:"problems"`
	OK        bool       `json:"ok"` // every Check holds, and there was no problem that the exit code has to tell
	Intervals []Interval `json:"intervals"`
}

// Environment is where it ran.
type Environment struct {
	OS      string `json:"os"`      // linux
	Kernel  string `json:"kernel"`  // empty if not known
	Arch    string `json:"arch"`    // amd64
	CPU     string `json:"cpu"`     // the model; empty if not known
	CPUs    int    `json:"cpus"`    // that this process may use
	Go      string `json:"go"`      // version
	Version string `json:"version"` // of pyro-cluster
	Python  string `json:"python,omitempty"`
}

// Target is what was called.
type Target struct {
	Kind    string   `json:"kind"`    // "object", "group" or "spawned"
	Name    string   `json:"name"`    // as it was given
	Members []string `json:"members"` // URIs
	Proxied bool     `json:"proxied"` // calls went through the proxy that breaks links, which costs time
}

// Load is what was asked.
type Load struct {
	Mode        string   `json:"mode"` // "closed" or "open"
	Callers     int      `json:"callers"`
	Connections int      `json:"connections"` // to each member at most; 0: as many as are needed
	Steps       []Step   `json:"steps"`       // of an open loop
	DurationS   float64  `json:"duration_s"`
	WarmupS     float64  `json:"warmup_s"`
	Seed        uint64   `json:"seed"`
	Works       []string `json:"works"` // with their weights: "add=3"
	Contract    string   `json:"contract"`
	Serializer  string   `json:"serializer"`
	Generators  int      `json:"generators"` // 1; more after a merge
}

// Step is a rate for a while.
type Step struct {
	Rate float64 `json:"rate"`
	ForS float64 `json:"for_s"`
}

// Generator is how the generator did.
type Generator struct {
	Due    int64   `json:"due"`
	Begun  int64   `json:"begun"`
	Unsent int64   `json:"unsent"`
	Kept   bool    `json:"kept"` // the asked rate
	Lag    Latency `json:"lag"`  // how late calls began although a caller was free
	// CPUS is the CPU time that the generator's process used in the recorded time, and CPUFrac what part that is of all CPUs, 0 to 1.
	CPUS    float64 `json:"cpu_s"`
	CPUFrac float64 `json:"cpu_share"`
}

// Counts are calls and how long the good ones took.
type Counts struct {
	Good    int64            `json:"good"`
	Errors  map[string]int64 `json:"errors"` // failed calls by kind
	Latency Latency          `json:"latency"`
	GapMS   float64          `json:"longest_gap_ms"` // longest wait of a caller for a good reply
}

// Failed is the number of failed calls.
func (c Counts) Failed() int64 {
	var n int64
	for _, k := range c.Errors {
		n += k
	}
	return n
}

// Phase is a span before, during or after a fault.
type Phase struct {
	Name string  `json:"name"`
	From float64 `json:"from_s"`
	To   float64 `json:"to_s"`
	Rate float64 `json:"rate"` // good calls a second
	Counts
	// FirstGoodMS is the time from the start of the phase to the end of the first good call begun in it; -1 if there was none.
	FirstGoodMS float64 `json:"first_good_ms"`
}

// Work is one kind of call, over the whole run.
type Work struct {
	Name string  `json:"name"`
	Rate float64 `json:"rate"`
	Counts
}

// Interval is a short span; all but those at the edge of a phase are of equal length.
type Interval struct {
	From  float64 `json:"from_s"`
	To    float64 `json:"to_s"`
	Phase int     `json:"phase"` // index
	Rate  float64 `json:"rate"`
	Counts
}

// Fault is one that was applied.
type Fault struct {
	Spec     string   `json:"spec"`
	Round    int      `json:"round"`
	Targets  []string `json:"targets"`
	At       float64  `json:"at_s"`         // when it was in effect
	Healed   float64  `json:"healed_s"`     // when it was undone; -1: never
	TookMS   float64  `json:"took_ms"`      // applying it
	HealedMS float64  `json:"heal_took_ms"` // undoing it
}

// Ledger is the judgement of [ledger.Journal.Judge].
type Ledger struct {
	ledger.Verdict
	Complete bool `json:"complete"` // every ledger could be read to its end; if not, Lost says too much and Twice too little
}

// Baseline is another way to do the same work, under the same load on the same machine.
type Baseline struct {
	Name string  `json:"name"`
	Rate float64 `json:"rate"`
	Counts
	// The ratios are of the run's first phase to this.
	RateRatio float64 `json:"rate_ratio"`
	P50Ratio  float64 `json:"p50_ratio"`
	P99Ratio  float64 `json:"p99_ratio"`
}

// Check is one condition of the SLO.
type Check struct {
	Want string `json:"want"` // "p99<5ms"
	Got  string `json:"got"`  // "6.1 ms"
	OK   bool   `json:"ok"`
}

// SLO are conditions on a run.
type SLO []Condition

// Condition is one of them.
type Condition struct{}

// ParseSLO parses "p99<5ms,errors<0.01%,twice=0,lost=0": conditions on p50, p90, p99, p99.9, p99.99, max, gap (times), errors (a number of
// calls, or a share with %), rate (calls a second), twice, lost, phantom (numbers of calls), each with <, <=, =, >= or >.  A name
// can be limited to the phases whose name begins with a text: "p99[before]<1ms", "gap[during]<1s".
func ParseSLO(s string) (SLO, error) { panic("stub") }

// NeedsLedger reports whether a condition is on twice, lost or phantom, and names the first.
func (s SLO) NeedsLedger() (name string, needs bool) { panic("stub") }

// Judge checks a report.  A condition on something that is not known, such as the latency of a phase without calls, does not hold.
func (s SLO) Judge(r *Report) []Check { panic("stub") }

// Write writes the JSON.
func (r *Report) Write(w io.Writer) error { panic("stub") }

// Read reads the JSON of a report; another schema, or what does not hang together, is an error.
func Read(r io.Reader) (*Report, error) { panic("stub") }

// WriteText writes what people read at the end of a run: phases as a table, faults, ledger, baselines, SLO, problems.
func (r *Report) WriteText(w io.Writer) error { panic("stub") }

// WriteCSV writes the intervals, one per line, with a header line.
func (r *Report) WriteCSV(w io.Writer) error { panic("stub") }

// WriteHTML writes one self-contained page.
func (r *Report) WriteHTML(w io.Writer) error { panic("stub") }

// Verdict says how B's value stands to A's.
type Verdict string

// The verdicts of a comparison.
const (
	Same     Verdict = "same"       // they differ by no more than their own spread
	Better   Verdict = "better"     // B is better
	Worse    Verdict = "worse"      // B is worse
	OnlyOne  Verdict = "only one"   // the other run has no such phase
	NotKnown Verdict = "not judged" // too few intervals to know the spread
)

// Difference is one figure of two runs.
type Difference struct {
	Phase   string  `json:"phase"`
	Figure  string  `json:"figure"` // "rate", "p50", "p99", "errors", "gap", "twice", "lost"
	A       float64 `json:"a"`
	B       float64 `json:"b"`
	SpreadA float64 `json:"spread_a"` // between the intervals of the phase
	SpreadB float64 `json:"spread_b"`
	Verdict Verdict `json:"verdict"`
}

// Compare compares two runs phase by phase, phases being matched by name.  Runs with other work or load are an error.
func Compare(a, b *Report) ([]Difference, error) { panic("stub") }

// Merge adds up the runs of several generators against one target at the same time; their phases have to have the same names.
func Merge(reports ...*Report) (*Report, error) { panic("stub") }
