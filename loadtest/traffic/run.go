package traffic

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// Summary tells what the generator itself did in the recorded time.
type Summary struct {
	Due    int64 // calls that were due (open loop), until ctx ended if it did; in a closed loop as many as were begun
	Begun  int64 // of these, begun by the end of the load, Drain not included
	Unsent int64 // of these, never begun, not even while draining
	// Lag is how late calls began although a caller was free, in nanoseconds: the generator's own fault (a machine without time, a coarse
	// timer).  Never nil; empty for a closed loop.
	Lag *hdrhistogram.PackedHistogram
}

// Kept reports whether the generator kept the asked rate: at least 99 % of the calls that were due had begun when the load ended.
func (s Summary) Kept() bool { return float64(s.Begun) >= 0.99*float64(s.Due) }

// Run makes the load and records it; rec and journal may be nil.  The names of all works are in the options of rec.
//
// Calls that were due in the warm-up are not recorded, even if they end later.  At the end of the load no call is cut short: Run returns when
// every call has ended.  The end of ctx ends it early, which is an error (its cause); what was recorded until then stays in rec,
// without the calls that failed because of it.  A panic of a Work is not caught.
func Run(ctx context.Context, load Load, works []Work, rec *Recorder, journal *ledger.Journal) (Summary, error) {
	if err := validate(load, works, rec); err != nil {
		return Summary{Lag: newPacked()}, err
	}
	if rec != nil {
		if err := rec.open(load.Callers); err != nil {
			return Summary{Lag: newPacked()}, err
		}
	}
	g := newGenerator(load, works, rec, journal)
	var s Summary
	if len(load.Steps) > 0 {
		s = g.openLoop(ctx)
	} else {
		s = g.closedLoop(ctx)
	}
	if rec != nil {
		rec.close()
	}
	return s, context.Cause(ctx)
}

func validate(load Load, works []Work, rec *Recorder) error {
	if err := load.Validate(); err != nil {
		return err
	}
	if err := validateWorks(works); err != nil {
		return err
	}
	if rec == nil {
		return nil
	}
	for _, w := range works {
		if !slices.Contains(rec.opts.Works, w.Name) {
			return fmt.Errorf("traffic: work %q: got a recorder that does not know it: name it in the recorder's options", w.Name)
		}
	}
	return nil
}

// generator is one Run.  All times are since the start of recording.
type generator struct {
	load    Load
	start   time.Time     // of recording
	end     time.Duration // of the load
	works   []Work
	picker  picker
	rec     *Recorder
	names   []int // for each work the index of its name in the recorder
	journal *ledger.Journal
	run     uint64 // of the ids
	callers []caller
}

func newGenerator(load Load, works []Work, rec *Recorder, journal *ledger.Journal) *generator {
	g := &generator{
		load:    load,
		end:     load.Duration(),
		works:   works,
		picker:  newPicker(load.Seed, works),
		rec:     rec,
		journal: journal,
		callers: make([]caller, load.Callers),
	}
	if rec != nil {
		for _, w := range works {
			g.names = append(g.names, slices.Index(rec.opts.Works, w.Name))
		}
	}
	if journal != nil {
		g.run = journal.Run()
	}
	return g
}

func (g *generator) now() time.Duration { return time.Since(g.start) }

// begin begins the load.  Everything is at hand by then, so that the first calls are not late.
func (g *generator) begin() {
	g.start = time.Now().Add(g.load.Warmup)
	if g.rec != nil {
		g.rec.begin(g.start, g.end)
	}
}

// each runs f for each caller at the same time, and waits for all.
func (g *generator) each(f func(c *caller)) {
	var wg sync.WaitGroup
	for i := range g.callers {
		wg.Go(func() {
			c := &g.callers[i]
			f(c)
			c.finish()
		})
	}
	wg.Wait()
}

func (g *generator) closedLoop(ctx context.Context) Summary {
	for i := range g.callers {
		g.callers[i].init(g, i, new(gap))
	}
	g.begin()
	g.each(func(c *caller) { c.closedLoop(ctx) })
	s := Summary{Lag: newPacked()}
	for i := range g.callers {
		s.Due += g.callers[i].recorded
	}
	s.Begun = s.Due
	return s
}

func (g *generator) openLoop(ctx context.Context) Summary {
	shared := new(gap)
	for i := range g.callers {
		g.callers[i].init(g, i, shared)
	}
	p := newPacer(ctx, g)
	defer p.close()
	g.begin()
	g.each(func(c *caller) { c.openLoop(ctx, p) })
	return p.summary(g.now())
}

// caller makes one call at a time.
type caller struct {
	g        *generator
	index    uint32
	calls    uint32 // made so far; the ids hold no more than 2^32 (a call each millisecond for seven weeks)
	shard    *shard // nil if nothing is recorded
	gap      *gap
	recorded int64 // calls that were due since the start of recording
	lastWork int   // of the last recorded call, as the recorder counts them
	lastEnd  time.Duration

	_ [64]byte // callers stand in a slice: keeps the next one off the cache line
}

func (c *caller) init(g *generator, index int, gap *gap) {
	c.g, c.index, c.gap = g, uint32(index), gap
	if g.rec != nil {
		c.shard = &g.rec.shards[index%len(g.rec.shards)]
	}
}

// closedLoop makes calls until the end of the load or of ctx.
func (c *caller) closedLoop(ctx context.Context) {
	for c.again(ctx) {
	}
}

// again makes the next call of a closed loop, and returns false if it is over.
func (c *caller) again(ctx context.Context) bool {
	begin := c.g.now()
	if begin >= c.g.end || ctx.Err() != nil {
		return false
	}
	c.call(ctx, c.g.picker.pick(uint64(c.index)+1, uint64(c.calls)), begin, begin)
	return true
}

// openLoop makes calls that p hands out, until there are no more.
func (c *caller) openLoop(ctx context.Context, p *pacer) {
	free := c.g.now()
	for {
		t, ok := p.next(ctx, free)
		if !ok {
			return
		}
		free = c.call(ctx, c.g.picker.pick(0, t.n), t.due, t.begin)
	}
}

// call makes a call that was due at due and begins at begin, records it, and returns when it ended.
func (c *caller) call(ctx context.Context, work int, due, begin time.Duration) time.Duration {
	id := ledger.NewID(c.g.run, c.index, c.calls)
	c.calls++
	res := c.g.works[work].Call(ctx, id)
	end := c.g.now()
	if c.g.journal != nil {
		c.g.journal.Note(id, res.Fate)
	}
	if due < 0 { // warm-up
		return end
	}
	c.recorded++
	if c.shard != nil {
		c.record(ctx, c.g.names[work], res.failure(), due, begin, end)
	}
	return end
}

func (c *caller) record(ctx context.Context, work int, failure string, due, begin, end time.Duration) {
	c.lastWork, c.lastEnd = work, end
	if failure == "" {
		c.shard.good(work, begin, end, end-due, c.gap.good(due, end))
		return
	}
	c.gap.failed(due)
	if ctx.Err() == nil { // otherwise it failed since it was cut short, which says nothing of the target
		c.shard.failed(work, c.g.rec.kind(failure))
	}
}

// finish is called when the caller makes no more calls.  In an open loop a good reply to another one may still come; then the time until that
// is longer than what is recorded here.
func (c *caller) finish() {
	if c.shard == nil {
		return
	}
	if open := c.gap.open(c.lastEnd); open > 0 {
		c.shard.unanswered(c.lastWork, open)
	}
}
