package traffic

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The histograms have three significant figures and, at the low end, steps of 64 ns.  What is above maxLatency counts as maxLatency.
const (
	minLatency = 100 * time.Nanosecond
	maxLatency = 10 * time.Minute
	figures    = 3
)

func newDense() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(minLatency), int64(maxLatency), figures)
}

func newPacked() *hdrhistogram.PackedHistogram {
	return hdrhistogram.NewPacked(int64(minLatency), int64(maxLatency), figures)
}

// recordIn adds a time to a histogram of this package, which holds every one between 0 and maxLatency.
func recordIn(h *hdrhistogram.Histogram, d time.Duration) {
	h.RecordValue(int64(min(max(d, 0), maxLatency)))
}

// Counts are calls that ended in some span of time, and how long the good ones took.
type Counts struct {
	Good   int64
	Errors map[string]int64 // failed calls by kind; nil if there were none; at most 33 kinds, the last of which is "other"
	// Hist has the latency of good calls in nanoseconds, 10 minutes if it was more; never nil.  It takes memory for the values it has, a few
	// kilobytes, which a [hdrhistogram.Histogram] of all that are possible would not; all have the same geometry.
	Hist *hdrhistogram.PackedHistogram
	// Gap is the longest time without a good reply: from when the first call was due that did not get one at once, past failed calls if there
	// were any, to the good reply, which came in this span.  In a closed loop it is the time that one caller waited.  The callers of an open loop
	// share their calls, and count as one that waits whenever a call has failed.  A wait that never ended belongs to the last span.
	Gap time.Duration
}

// Interval is a short span of a run, the same for all; a new phase cuts it short, and the last one goes on until the last call has ended.
type Interval struct {
	From, To  time.Duration // since the start of recording
	Phase     int           // index
	PhaseName string
	Counts
}

// Phase is a span of a run with a name: before, during or after a fault.
type Phase struct {
	Name     string
	From, To time.Duration // since the start of recording; the same if two phases began at once
	Counts
	// FirstGood is the time from the start of the phase to the end of the first good call that was begun in it; negative if there was none.
	FirstGood time.Duration
}

// Record is what a Recorder has at the end.
type Record struct {
	Phases    []Phase
	Intervals []Interval
	Total     Phase // without a name
	Works     map[string]Counts
}

// tally is a Counts that calls are added to.
type tally struct {
	good   int64
	errors map[string]int64
	hist   *hdrhistogram.Histogram
	gap    time.Duration
}

func newTally() tally { return tally{errors: make(map[string]int64), hist: newDense()} }

func (t *tally) empty() bool { return t.good == 0 && len(t.errors) == 0 && t.gap == 0 }

// counts returns the contents in compact form, for keeping.
func (t *tally) counts() Counts {
	c := Counts{Hist: newPacked()}
	c.addTally(t, c.Hist)
	c.Hist.Compact()
	return c
}

// clear empties it, and keeps its memory.
func (t *tally) clear() {
	if t.good > 0 {
		t.hist.Reset()
	}
	clear(t.errors)
	t.good, t.gap = 0, 0
}

// add adds what was counted.
func (t *tally) add(c *Counts) {
	t.good += c.Good
	t.gap = max(t.gap, c.Gap)
	for kind, n := range c.Errors {
		t.errors[kind] += n
	}
	c.Hist.MergeInto(t.hist) // drops nothing: the geometry is the same
}

// addTally adds a tally by way of scratch, which may be c's own histogram if that is still empty.
func (c *Counts) addTally(t *tally, scratch *hdrhistogram.PackedHistogram) {
	if t.empty() {
		return
	}
	c.Good += t.good
	c.Gap = max(c.Gap, t.gap)
	c.addErrors(t.errors)
	if t.good == 0 {
		return
	}
	scratch.Reset() // merging many values into a packed histogram is only quick if it is empty or the source is packed as well
	scratch.MergeFrom(t.hist)
	if scratch != c.Hist {
		c.Hist.Merge(scratch)
	}
}

// merge adds other to c.
func (c *Counts) merge(other *Counts) {
	c.Good += other.Good
	c.Gap = max(c.Gap, other.Gap)
	c.addErrors(other.Errors)
	c.Hist.Merge(other.Hist)
}

func (c *Counts) addErrors(errors map[string]int64) {
	if len(errors) > 0 && c.Errors == nil {
		c.Errors = make(map[string]int64)
	}
	for kind, n := range errors {
		c.Errors[kind] += n
	}
}
