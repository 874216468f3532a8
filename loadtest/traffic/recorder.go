package traffic

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// RecorderOptions set up a Recorder.
type RecorderOptions struct {
	// Interval is at least 10 ms; less counts as 10 ms, and 0 is one second.  Each interval is kept, with a few kilobytes.
	Interval time.Duration
	Works    []string // the names of all works of the run
	First    string   // the name of the first phase; "before" if empty
	// OnInterval, if not nil, gets every interval when it is over, in order, one at a time.  While it blocks no interval ends.
	OnInterval func(Interval)
}

const (
	minInterval = 10 * time.Millisecond
	maxShards   = 16 // each has half a megabyte for each work
)

// Recorder records calls: by interval, by phase, by work and in total.  Recording a good call allocates nothing.  A call belongs to the
// interval and the phase in which it ended.  Its methods may be called at any time by anyone.
//
// Callers record into a few shards, each with its own lock.  At the end of an interval or phase all shards are emptied at once, by
// swapping what is in them for empty tallies; adding up happens outside of their locks.
type Recorder struct {
	opts    RecorderOptions
	shards  []shard                   // made by open, before anyone records
	start   atomic.Pointer[time.Time] // of recording; nil until begin
	end     time.Duration             // of the load
	begun   chan struct{}             // closed when recording begins
	ready   chan struct{}             // of size 1: there may be intervals to hand out
	stop    chan struct{}             // closed when the last call has ended
	stopped chan struct{}             // closed when the collector has ended

	kindsMu sync.Mutex
	kinds   map[string]bool // of failures

	// mu is locked before the locks of the shards, and those in their order.
	mu        sync.Mutex
	over      bool
	from      time.Duration // start of the interval
	phaseFrom time.Duration
	phaseName string
	phase     tally
	total     tally
	works     []tally
	scratch   *hdrhistogram.PackedHistogram
	phases    []Phase
	intervals []Interval
	handedOut int // of intervals
	record    Record
}

// NewRecorder returns a recorder for one Run, which starts and stops it.
func NewRecorder(opts RecorderOptions) *Recorder {
	if opts.Interval == 0 {
		opts.Interval = time.Second
	}
	if opts.First == "" {
		opts.First = "before"
	}
	opts.Interval = max(opts.Interval, minInterval)
	r := &Recorder{
		opts:      opts,
		begun:     make(chan struct{}),
		ready:     make(chan struct{}, 1),
		stop:      make(chan struct{}),
		stopped:   make(chan struct{}),
		kinds:     make(map[string]bool),
		phaseName: opts.First,
		phase:     newTally(),
		total:     newTally(),
		scratch:   newPacked(),
	}
	for range opts.Works {
		r.works = append(r.works, newTally())
	}
	return r
}

// open makes room for that many callers to record, once.
func (r *Recorder) open(callers int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shards != nil {
		return errors.New("traffic: recorder: got one of another run: make a new one for each")
	}
	r.shards = make([]shard, min(callers, 2*runtime.GOMAXPROCS(0), maxShards))
	for i := range r.shards {
		r.shards[i].init(len(r.works))
	}
	return nil
}

// begin begins recording, at start, which may be in the future; the load ends at end, and recording some time after that, by close.
func (r *Recorder) begin(start time.Time, end time.Duration) {
	r.end = end
	r.start.Store(&start)
	go r.collect()
}

// close ends recording.
func (r *Recorder) close() {
	close(r.stop)
	<-r.stopped
}

// Started returns a channel that is closed when recording begins.  If the run ends before that, it is never closed.
func (r *Recorder) Started() <-chan struct{} { return r.begun }

// Elapsed is the time since the start of recording.  It is negative before, in the warm-up by the time that is left of it.
func (r *Recorder) Elapsed() time.Duration {
	start := r.start.Load()
	if start == nil {
		return never
	}
	return time.Since(*start)
}

// Begin ends the phase, which it returns, and begins another one.  The calls that end from now on belong to it.  Before recording began
// (in the warm-up) and after it ended it is an error.
func (r *Recorder) Begin(phase string) (ended Phase, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.Elapsed() < 0:
		return Phase{}, fmt.Errorf("traffic: phase %q: recording has not begun: wait for its start", phase)
	case r.over:
		return Phase{}, fmt.Errorf("traffic: phase %q: recording has ended: begin it before that", phase)
	}
	r.cutLocked(phaseCut)
	r.phaseName = phase
	select {
	case r.ready <- struct{}{}:
	default: // the collector has yet to look
	}
	return r.phases[len(r.phases)-1], nil
}

// Record returns what was recorded.  Run has returned; before that there is nothing in it.
func (r *Recorder) Record() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.record
}

// collect ends the intervals, and hands them out.  It runs until close.
func (r *Recorder) collect() {
	defer close(r.stopped)
	timer := time.NewTimer(-r.Elapsed())
	defer timer.Stop()
	select {
	case <-timer.C:
		close(r.begun)
	case <-r.stop:
		r.finish()
		r.handOut()
		return
	}
	timer.Reset(r.untilNext())
	for {
		select {
		case <-timer.C:
			r.endInterval()
			timer.Reset(r.untilNext())
		case <-r.ready:
		case <-r.stop:
			r.finish()
			r.handOut()
			return
		}
		r.handOut()
	}
}

// untilNext returns how long it is until the interval ends.  The ends are multiples of its length, so that they do not drift.  The one at or
// just after the end of the load is left out: the last calls end within moments, which are no interval of their own.
func (r *Recorder) untilNext() time.Duration {
	now := r.Elapsed()
	next := (now/r.opts.Interval + 1) * r.opts.Interval
	if next >= r.end && next < r.end+r.opts.Interval {
		next += r.opts.Interval
	}
	return next - now
}

func (r *Recorder) endInterval() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutLocked(intervalCut)
}

func (r *Recorder) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := never
	for i := range r.shards {
		first = earlier(first, r.shards[i].first)
	}
	now := max(0, r.cutLocked(lastCut))
	r.over = true
	total := Phase{To: now, Counts: r.total.counts(), FirstGood: first}
	r.record = Record{Phases: r.phases, Intervals: r.intervals, Total: total, Works: make(map[string]Counts)}
	for i, name := range r.opts.Works {
		r.record.Works[name] = r.works[i].counts()
	}
}

// handOut gives the intervals that are over to OnInterval, without a lock: it may take its time, and Begin must not wait for it.
func (r *Recorder) handOut() {
	r.mu.Lock()
	over := r.intervals[r.handedOut:]
	r.handedOut = len(r.intervals)
	r.mu.Unlock()
	if r.opts.OnInterval == nil {
		return
	}
	for _, i := range over {
		r.opts.OnInterval(i)
	}
}

// cut is what ends: the interval, the phase with it, the recording with both.
type cut int

const (
	intervalCut cut = iota
	phaseCut
	lastCut
)

// cutLocked ends the interval, and more, and returns the time of it.
func (r *Recorder) cutLocked(what cut) time.Duration {
	now, swapped, first := r.emptyShardsLocked(what)
	if swapped {
		r.intervals = append(r.intervals, r.addUpLocked(max(0, now)))
		r.from = now
	}
	if what != intervalCut {
		r.endPhaseLocked(max(0, now), first)
	}
	return now
}

// emptyShardsLocked moves what is in the shards to their spares, at one moment, which it returns, and also, if the phase ends, when the first good
// call ended that began in it.  An interval of no length is none, and nothing is moved: a call that ended in the very moment at which one
// phase ends and another begins may belong to either.  What is left at the end of recording has no other place, though.
func (r *Recorder) emptyShardsLocked(what cut) (now time.Duration, swapped bool, first time.Duration) {
	for i := range r.shards {
		r.shards[i].mu.Lock()
		defer r.shards[i].mu.Unlock()
	}
	now = r.Elapsed()
	first = never
	swapped = now > r.from || what == lastCut && r.leftoverLocked()
	for i := range r.shards {
		s := &r.shards[i]
		if swapped {
			s.swapLocked()
		}
		if what != intervalCut {
			first = earlier(first, s.inPhase)
			s.from, s.inPhase = now, never
		}
	}
	return now, swapped, first
}

// leftoverLocked reports whether there is anything in the shards, all of which are locked.
func (r *Recorder) leftoverLocked() bool {
	for i := range r.shards {
		for j := range r.shards[i].tallies {
			if !r.shards[i].tallies[j].empty() {
				return true
			}
		}
	}
	return false
}

// addUpLocked makes the interval that ends at now of what is in the spares of the shards, adds it to everything it is part of, and empties
// the spares.
func (r *Recorder) addUpLocked(now time.Duration) Interval {
	in := Interval{From: r.from, To: now, Phase: len(r.phases), PhaseName: r.phaseName, Counts: Counts{Hist: newPacked()}}
	for w := range r.works {
		work := Counts{Hist: newPacked()}
		for i := range r.shards {
			spare := &r.shards[i].spare[w]
			work.addTally(spare, r.scratch)
			spare.clear()
		}
		r.works[w].add(&work)
		in.merge(&work)
	}
	in.Hist.Compact()
	r.phase.add(&in.Counts)
	r.total.add(&in.Counts)
	return in
}

// endPhaseLocked ends the phase at now; first is when its first good call ended.
func (r *Recorder) endPhaseLocked(now, first time.Duration) {
	p := Phase{Name: r.phaseName, From: r.phaseFrom, To: now, Counts: r.phase.counts(), FirstGood: never}
	if first != never {
		p.FirstGood = first - r.phaseFrom
	}
	r.phases = append(r.phases, p)
	r.phase.clear()
	r.phaseFrom = now
}

// maxKinds bounds the kinds of failures that are told apart: some may be made of text that a peer sent.
const (
	maxKinds  = 32
	otherKind = "other"
)

// kind returns the name by which a kind of failure is recorded, the same for all shards.
func (r *Recorder) kind(name string) string {
	r.kindsMu.Lock()
	defer r.kindsMu.Unlock()
	if r.kinds[name] {
		return name
	}
	if len(r.kinds) == maxKinds {
		return otherKind
	}
	r.kinds[name] = true
	return name
}
