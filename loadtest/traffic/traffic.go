// Package traffic makes calls at a given load and records how long they took.  It knows nothing of what is called: a [Work] is a
// function.  All times come from the time package, so that a test can run it in virtual time (testing/synctest).
//
// In a closed loop each caller makes its next call when the last one ended.  In an open loop calls are due at fixed times, whatever
// became of those before; the latency of a call counts from the time at which it was due, so that a stall of a second is seen by all calls
// that were due in that second, not by one (Gil Tene's coordinated omission).
package traffic

import (
	"context"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// Result is how one call ended.
type Result struct {
	Fate  ledger.Fate
	Error string // the kind of failure, one of a few words; empty if the call was good
}

// Work is one kind of call.
type Work struct {
	Name   string
	Weight int // its share of the calls, relative to the others; at least 1
	// Call makes one call.  It ends soon after ctx does, and is called by many callers at once.
	Call func(ctx context.Context, id ledger.ID) Result
}

// Step is a rate, for a while.
type Step struct {
	Rate float64 // calls a second, above 0
	For  time.Duration
}

// Load says how many calls are made, and when.
type Load struct {
	Callers int // how many calls can be under way at once; at least 1
	// Steps make an open loop; none mean a closed one that lasts For.
	Steps []Step
	For   time.Duration
	// Warmup comes before, with the load of the first step; its calls are not recorded, but are in the journal.
	Warmup time.Duration
	// Drain is how long an open loop goes on at its end with calls that were due and had to wait.
	Drain time.Duration
	// Seed decides which work of several comes when: the same seed, the same order for each caller.
	Seed uint64
}

// Validate returns what is wrong with a load, as one line.
func (l Load) Validate() error { panic("stub") }

// Duration is how long calls are due for, without Warmup and Drain.
func (l Load) Duration() time.Duration { panic("stub") }

// Summary tells what the generator itself did in the recorded time.
type Summary struct {
	Due    int64 // calls that were due (open loop); in a closed loop as many as were begun
	Begun  int64 // of these, begun by the end of the load, Drain not included
	Unsent int64 // of these, never begun, not even while draining
	// Lag is how late calls began although a caller was free: the generator's own fault (a machine without time, a coarse timer).
	Lag *hdrhistogram.Histogram // nanoseconds
}

// Kept reports whether the generator kept the asked rate: at least 99 % of the calls that were due had begun when the load ended.
func (s Summary) Kept() bool { panic("stub") }

// Run makes the load and records it.  It returns when every call has ended; the end of ctx ends it early, which is an error (its cause).
func Run(ctx context.Context, load Load, works []Work, rec *Recorder, journal *ledger.Journal) (Summary, error) {
	panic("stub")
}

// Counts are calls that ended in some span of time, and how long the good ones took.
type Counts struct {
	Good   int64
	Errors map[string]int64        // failed calls by kind
	Hist   *hdrhistogram.Histogram // latency of good calls, nanoseconds
	// Gap is the longest time that a caller waited for a good reply: from when the first call was due that did not get one at once,
	// past failed calls if there were any, to the good reply, which came in this span.
	Gap time.Duration
}

// Interval is a short span of a run, the same for all; a new phase cuts it short.
type Interval struct {
	From, To time.Duration // since the start of recording
	Phase    int           // index
	Counts
}

// Phase is a span of a run with a name: before, during or after a fault.
type Phase struct {
	Name     string
	From, To time.Duration // since the start of recording
	Counts
	// FirstGood is the time from the start of the phase to the end of the first good call that was begun in it; negative if there was none.
	FirstGood time.Duration
}

// Recorder records calls: by interval, by phase, by work and in total.  Recording allocates nothing per call.
type Recorder struct{}

// RecorderOptions set up a Recorder.
type RecorderOptions struct {
	Interval time.Duration // at least 10 ms
	Works    []string      // the names
	// OnInterval, if not nil, gets every interval when it is over, in order, and must not block for long.
	OnInterval func(Interval)
}

// NewRecorder returns a recorder for one Run, which starts and stops it.  Its first phase has the name "before".
func NewRecorder(opts RecorderOptions) *Recorder { panic("stub") }

// Begin ends the phase and begins another one.  The calls that end from now on belong to it.  Before recording began (in the warm-up)
// and after it ended it is an error.
func (r *Recorder) Begin(phase string) error { panic("stub") }

// Elapsed is the time since the start of recording; negative, by an unknown amount, before.
func (r *Recorder) Elapsed() time.Duration { panic("stub") }

// Record is what a Recorder has at the end.
type Record struct {
	Phases    []Phase
	Intervals []Interval
	Total     Phase
	Works     map[string]Counts
}

// Record returns what was recorded.  Run has returned.
func (r *Recorder) Record() Record { panic("stub") }
