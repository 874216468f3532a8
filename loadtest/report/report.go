// Package report is what a load test leaves behind: a [Report], which is a JSON file with a versioned schema, and what can be made of it:
// a table for people, CSV, a page of HTML that works offline, a comparison of two, the sum of several generators.
//
// Times within a run are seconds since the start of recording, latencies are microseconds, rates are per second.
package report

import (
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// Schema is the version of the JSON.  Fields may be added without a change of it.
const Schema = "pyro-cluster/loadtest/1"

// Report is one run.
type Report struct {
	Schema      string      `json:"schema"`
	Run         string      `json:"run"`            // its id, which is in the ids of its calls: 16 hexadecimal digits
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

// ended is the number of calls that ended, one way or the other.
func (c Counts) ended() int64 { return c.Good + c.Failed() }

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
	At       float64  `json:"at_s"`         // when it began to be applied
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
