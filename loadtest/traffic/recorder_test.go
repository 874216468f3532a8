package traffic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// begin begins phases at times since the start of recording.
func begin(t *testing.T, rec *Recorder, at ...time.Duration) {
	if len(at) == 0 {
		return
	}
	go func() {
		<-rec.Started()
		for i, d := range at {
			pause(t.Context(), d-rec.Elapsed())
			if _, err := rec.Begin(fmt.Sprintf("phase %d", i+1)); err != nil {
				t.Errorf("Begin at %v: %v", d, err)
			}
		}
	}()
}

// outage is a servant that refuses calls that begin in it, and answers all others, after service.
type outage struct{ from, to, service time.Duration }

func (o outage) works(start time.Time) []Work {
	return work("call", func(ctx context.Context) Result {
		begin := time.Since(start)
		if r := pause(ctx, o.service); r != good || begin < o.from || begin >= o.to {
			return r
		}
		return refused
	})
}

// An outage shows as a gap of its length, and the phase that begins with it tells when the first good call ended.
func TestOutage(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	open := func(callers int, rate float64) Load {
		return Load{Callers: callers, Steps: []Step{{rate, 10 * time.Second}}}
	}
	tests := []struct {
		name   string
		load   Load
		outage outage
		gap    time.Duration // of the run, and of the phase that begins with the outage
		before time.Duration // gap before it
		first  time.Duration // good call of the phase
		errors int64
	}{
		{"closed, one caller", Load{Callers: 1, For: 10 * time.Second}, outage{5000 * ms, 6500 * ms, 10 * ms}, 1510 * ms, 10 * ms, 1510 * ms, 150},
		{"closed, many callers", Load{Callers: 9, For: 10 * time.Second}, outage{5000 * ms, 6500 * ms, 10 * ms}, 1510 * ms, 10 * ms, 1510 * ms, 9 * 150},
		{"closed, none", Load{Callers: 9, For: 10 * time.Second}, outage{5000 * ms, 5000 * ms, 10 * ms}, 10 * ms, 10 * ms, 10 * ms, 0},
		{"closed, without end", Load{Callers: 3, For: 10 * time.Second}, outage{5000 * ms, time.Hour, 10 * ms}, 5000 * ms, 10 * ms, never, 3 * 500},
		{"closed, all the time", Load{Callers: 3, For: 10 * time.Second}, outage{0, time.Hour, 10 * ms}, 10000 * ms, 5000 * ms, never, 3 * 1000},
		{"open, few callers", open(2, 100), outage{5000 * ms, 6500 * ms, 10 * ms}, 1510 * ms, 10 * ms, 1510 * ms, 150},
		{"open, many callers", open(100, 100), outage{5000 * ms, 6500 * ms, 10 * ms}, 1510 * ms, 10 * ms, 1510 * ms, 150},
		{"open, most callers idle", open(100, 10), outage{5000 * ms, 5050 * ms, ms}, 101 * ms, ms, 101 * ms, 1},
		{"open, none, idle", open(3, 1), outage{5000 * ms, 5000 * ms, ms}, ms, ms, ms, 0},
		{"open, without end", open(5, 100), outage{5000 * ms, time.Hour, 10 * ms}, 5000 * ms, 10 * ms, never, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				works := tt.outage.works(time.Now())
				rec := NewRecorder(RecorderOptions{Works: names(works), First: "calm"})
				begin(t, rec, 5*time.Second)
				if _, err := Run(t.Context(), tt.load, works, rec, nil); err != nil {
					t.Fatal(err)
				}
				r := rec.Record()
				if len(r.Phases) != 2 || r.Phases[0].Name != "calm" || r.Phases[1].Name != "phase 1" || r.Phases[1].From != 5*time.Second {
					t.Fatalf("phases %+v, want calm, and phase 1 from 5s on", r.Phases)
				}
				before, during := r.Phases[0], r.Phases[1]
				if tt.outage.from > 0 && (before.Gap != tt.before || before.FirstGood != tt.outage.service) {
					t.Errorf("before: gap %v, first good %v; want %v, %v", before.Gap, before.FirstGood, tt.before, tt.outage.service)
				}
				// The wait that never ended counts up to the end of the last call that failed, one period before the end of an open loop.
				if got := during.Gap; got > tt.gap || got < tt.gap-10*ms && tt.first == never || tt.first != never && got != tt.gap {
					t.Errorf("during: gap %v, want %v", got, tt.gap)
				}
				if during.FirstGood != tt.first {
					t.Errorf("during: first good after %v, want %v", during.FirstGood, tt.first)
				}
				if r.Total.Gap != max(before.Gap, during.Gap) || r.Total.Errors["refused"] != tt.errors {
					t.Errorf("total: gap %v, errors %v; want %v, %d", r.Total.Gap, r.Total.Errors, max(before.Gap, during.Gap), tt.errors)
				}
			})
		})
	}
}

// A gap of calls that hang until the run is ended by hand is seen, though the calls are no errors of the target.
func TestGapOfCallsThatHang(t *testing.T) {
	t.Parallel()
	for _, load := range []Load{{Callers: 3, For: time.Hour}, {Callers: 3, Steps: []Step{{100, time.Hour}}}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			works := work("call", func(ctx context.Context) Result {
				if time.Since(start) >= 5*time.Second {
					return pause(ctx, time.Hour)
				}
				return pause(ctx, 10*time.Millisecond)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			rec := NewRecorder(RecorderOptions{Works: names(works)})
			if _, err := Run(ctx, load, works, rec, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Run = %v, want that its time was over", err)
			}
			if got := rec.Record().Total; got.Gap != 10*time.Second || len(got.Errors) > 0 {
				t.Errorf("%+v: gap %v, errors %v; want 10s, none", load, got.Gap, got.Errors)
			}
		})
	}
}

// sum adds up counts.
func sum(all []Counts) Counts {
	s := Counts{Hist: newPacked()}
	for i := range all {
		s.merge(&all[i])
	}
	return s
}

// same reports whether two counts are equal.
func same(a, b Counts) bool {
	return a.Good == b.Good && a.Gap == b.Gap && maps.Equal(a.Errors, b.Errors) && maps.Equal(buckets(a.Hist), buckets(b.Hist)) &&
		a.Hist.TotalCount() == a.Good
}

func buckets(h *hdrhistogram.PackedHistogram) map[int64]int64 { return maps.Collect(h.ForEachBucket) }

// checkSums checks that the intervals and the phases follow on each other, and that they and the works add up to the total.
func checkSums(t *testing.T, r Record) {
	t.Helper()
	var intervals, phases, works []Counts
	var at time.Duration
	inPhase := make([]Counts, len(r.Phases))
	for i, in := range r.Intervals {
		p := r.Phases[in.Phase]
		if in.From != at || in.To < in.From || in.From < p.From || in.To > p.To || in.PhaseName != p.Name {
			t.Errorf("interval %d is %v to %v of phase %d %q, want it from %v, in %+v", i, in.From, in.To, in.Phase, in.PhaseName, at, p)
		}
		at = in.To
		intervals = append(intervals, in.Counts)
		inPhase[in.Phase] = sum([]Counts{{Hist: newPacked()}, in.Counts, orEmpty(inPhase[in.Phase])})
	}
	if at != r.Total.To {
		t.Errorf("the last interval ends at %v, want %v", at, r.Total.To)
	}
	at = 0
	for i, p := range r.Phases {
		if p.From != at {
			t.Errorf("phase %d begins at %v, want %v", i, p.From, at)
		}
		at = p.To
		phases = append(phases, p.Counts)
		if !same(orEmpty(inPhase[i]), p.Counts) {
			t.Errorf("phase %d has %+v, its intervals %+v", i, p.Counts, inPhase[i])
		}
	}
	if at != r.Total.To {
		t.Errorf("the last phase ends at %v, want %v", at, r.Total.To)
	}
	works = slices.Collect(maps.Values(r.Works))
	for what, all := range map[string][]Counts{"intervals": intervals, "phases": phases, "works": works} {
		if got := sum(all); !same(got, r.Total.Counts) {
			t.Errorf("%d %s add up to %+v, want %+v", len(all), what, got, r.Total.Counts)
		}
	}
}

func orEmpty(c Counts) Counts {
	if c.Hist == nil {
		c.Hist = newPacked()
	}
	return c
}

// Whatever is cut when, nothing is lost or counted twice.
func TestSums(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	tests := []struct {
		name     string
		load     Load
		interval time.Duration
		phases   []time.Duration
		stop     time.Duration // ends the run early
	}{
		{"closed", Load{Callers: 7, For: 3 * time.Second}, 100 * ms, nil, 0},
		{"closed, phases", Load{Callers: 7, For: 3 * time.Second}, 100 * ms, []time.Duration{ms, 333 * ms, 334 * ms, 2999 * ms}, 0},
		{"phases at the ends of intervals", Load{Callers: 7, For: 3 * time.Second}, 100 * ms, []time.Duration{100 * ms, 500 * ms, 2900 * ms}, 0},
		{"phases at the same time", Load{Callers: 7, For: 3 * time.Second}, 100 * ms, []time.Duration{0, 0, 700 * ms, 700 * ms, 700 * ms}, 0},
		{"long intervals", Load{Callers: 7, For: 3 * time.Second}, time.Hour, []time.Duration{time.Second}, 0},
		{"not a whole number of intervals", Load{Callers: 7, For: 3 * time.Second}, 700 * ms, []time.Duration{time.Second}, 0},
		{"warm-up", Load{Callers: 7, For: 3 * time.Second, Warmup: 333 * ms}, 100 * ms, []time.Duration{time.Second}, 0},
		{"open", Load{Callers: 7, Steps: []Step{{100, time.Second}, {300, time.Second}}}, 100 * ms, []time.Duration{time.Second}, 0},
		{"open, long drain", Load{Callers: 2, Steps: []Step{{300, time.Second}}, Drain: time.Hour}, 100 * ms, []time.Duration{time.Second, 2 * time.Second}, 0},
		{"open, drain cut off", Load{Callers: 2, Steps: []Step{{300, time.Second}}, Drain: 500 * ms}, 100 * ms, nil, 0},
		{"ended early", Load{Callers: 7, For: time.Hour}, 100 * ms, []time.Duration{time.Second}, 2 * time.Second},
		{"ended in the warm-up", Load{Callers: 7, For: time.Hour, Warmup: time.Hour}, 100 * ms, nil, 2 * time.Second},
	}
	for _, tt := range tests {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s, seed %d", tt.name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { runSums(t, tt.load, tt.interval, tt.phases, tt.stop, seed) })
			})
		}
	}
}

func runSums(t *testing.T, load Load, interval time.Duration, phases []time.Duration, stop time.Duration, seed uint64) {
	ctx := t.Context()
	if stop > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, stop)
		defer cancel()
	}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	var made, refusals int64 // of recorded calls, if there is no warm-up
	call := func(ctx context.Context, _ ledger.ID) Result {
		mu.Lock()
		d, fails := time.Duration(rng.IntN(50))*time.Millisecond, rng.IntN(4) == 0
		mu.Unlock()
		r := pause(ctx, d+time.Millisecond)
		if r == good && fails {
			r = refused
		}
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil || r == good {
			made++
		}
		if r == refused && ctx.Err() == nil {
			refusals++
		}
		return r
	}
	works := []Work{{"a", 1, call}, {"b", 2, call}}
	var seen []Interval
	rec := NewRecorder(RecorderOptions{Interval: interval, Works: []string{"b", "unused", "a"}, OnInterval: func(i Interval) { seen = append(seen, i) }})
	begin(t, rec, phases...)
	if _, err := Run(ctx, load, works, rec, nil); (err != nil) != (stop > 0) {
		t.Fatalf("Run(%+v) = %v", load, err)
	}
	r := rec.Record()
	checkSums(t, r)
	if !reflect.DeepEqual(seen, r.Intervals) {
		t.Errorf("OnInterval got %d intervals, want the %d of the record", len(seen), len(r.Intervals))
	}
	if len(r.Phases) != len(phases)+1 || r.Works["unused"].Good != 0 || len(r.Works) != 3 {
		t.Errorf("%d phases, works %+v; want %d phases", len(r.Phases), r.Works, len(phases)+1)
	}
	if got := r.Total.Good + r.Total.Errors["refused"]; load.Warmup == 0 && (got != made || r.Total.Errors["refused"] != refusals) {
		t.Errorf("%d calls, %d refused; want %d, %d", got, r.Total.Errors["refused"], made, refusals)
	}
}

// The same in real time, with callers and cuts that really happen at once.
func TestSumsConcurrent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	works := work("call", func(context.Context) Result {
		if calls.Add(1)%10 == 0 {
			return refused
		}
		return good
	})
	rec := NewRecorder(RecorderOptions{Interval: minInterval, Works: names(works)})
	go func() {
		defer cancel()
		<-rec.Started()
		for i := range 20 {
			for before := calls.Load(); calls.Load() < before+50; { // some calls in each phase
				rec.Elapsed()
			}
			if _, err := rec.Begin(fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	if _, err := Run(ctx, Load{Callers: 8, For: time.Hour}, works, rec, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want that it was canceled", err)
	}
	r := rec.Record()
	checkSums(t, r)
	// Those that failed after the end are not recorded: at most one by each caller.
	if got := r.Total.Good + r.Total.Errors["refused"]; got > calls.Load() || got < calls.Load()-8 || len(r.Phases) != 21 {
		t.Errorf("%d calls in %d phases recorded, want %d in 21", got, len(r.Phases), calls.Load())
	}
}

// Intervals end at multiples of their length, and where a phase does; the last ends with the last call.
func TestIntervals(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	tests := []struct {
		name   string
		length time.Duration
		phases []time.Duration
		want   []time.Duration // their ends
	}{
		{"plain", 4000 * ms, nil, []time.Duration{1000 * ms, 2000 * ms, 3000 * ms, 4010 * ms}},
		{"phases", 4000 * ms, []time.Duration{1500 * ms, 2000 * ms}, []time.Duration{1000 * ms, 1500 * ms, 2000 * ms, 3000 * ms, 4010 * ms}},
		{"an end in between", 2500 * ms, nil, []time.Duration{1000 * ms, 2000 * ms, 2510 * ms}},
		{"as short as one", 500 * ms, nil, []time.Duration{500 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				works := takes(30 * ms)
				rec := NewRecorder(RecorderOptions{Works: names(works)})
				begin(t, rec, tt.phases...)
				if _, err := Run(t.Context(), Load{Callers: 2, For: tt.length, Warmup: time.Second}, works, rec, nil); err != nil {
					t.Fatal(err)
				}
				var got []time.Duration
				for _, i := range rec.Record().Intervals {
					got = append(got, i.To)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("%v with phases at %v: intervals end at %v, want %v", tt.length, tt.phases, got, tt.want)
				}
			})
		})
	}
}

func TestRecorderOutsideOfRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		works := takes(time.Second)
		rec := NewRecorder(RecorderOptions{Works: names(works)})
		checkBegin := func(want string) {
			t.Helper()
			if _, err := rec.Begin("fault"); err == nil || err.Error() != want {
				t.Errorf("Begin = %v, want %s", err, want)
			}
		}
		checkBegin(`traffic: phase "fault": recording has not begun: wait for its start`)
		if got := rec.Elapsed(); got >= 0 {
			t.Errorf("Elapsed = %v before the run, want less than 0", got)
		}
		if r := rec.Record(); r.Phases != nil || r.Intervals != nil {
			t.Errorf("Record = %+v before the run, want nothing", r)
		}
		time.AfterFunc(time.Second, func() {
			checkBegin(`traffic: phase "fault": recording has not begun: wait for its start`)
			if got := rec.Elapsed(); got != -4*time.Second {
				t.Errorf("Elapsed = %v in the warm-up, want -4s", got)
			}
		})
		load := Load{Callers: 1, For: 3 * time.Second, Warmup: 5 * time.Second}
		if _, err := Run(t.Context(), load, works, rec, nil); err != nil {
			t.Fatal(err)
		}
		checkBegin(`traffic: phase "fault": recording has ended: begin it before that`)
		if _, err := Run(t.Context(), load, works, rec, nil); err == nil {
			t.Error("Run with the recorder of another run succeeded")
		}
		if got := rec.Record().Total; got.Good != 3 || got.FirstGood != time.Second {
			t.Errorf("%d good calls, the first after %v; want 3, 1s", got.Good, got.FirstGood)
		}
	})
}

// However many kinds of failures there are, 33 are kept, and no failure is lost.
func TestKindsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		works := work("call", func(ctx context.Context) Result {
			pause(ctx, time.Millisecond)
			return Result{Fate: ledger.Acked, Error: fmt.Sprint("kind ", n.Add(1)%1000)}
		})
		_, rec := measure(t, Load{Callers: 20, For: 3 * time.Second}, works, RecorderOptions{Interval: 100 * time.Millisecond})
		checkSums(t, rec)
		all := int64(0)
		for _, count := range rec.Total.Errors {
			all += count
		}
		if len(rec.Total.Errors) != maxKinds+1 || all != n.Load() || rec.Total.Errors[otherKind] == 0 {
			t.Errorf("%d failures of %d kinds, want %d of %d", all, len(rec.Total.Errors), n.Load(), maxKinds+1)
		}
	})
}

// What a Work returns decides alone whether a call was good; one without an outcome was not.
func TestFailure(t *testing.T) {
	t.Parallel()
	tests := []struct {
		result Result
		want   string
	}{
		{Result{ledger.Acked, ""}, ""},
		{Result{ledger.Sent, ""}, ""},
		{Result{ledger.Acked, "ValueError"}, "ValueError"},
		{Result{ledger.NotExecuted, "refused"}, "refused"},
		{Result{ledger.Unknown, "timeout"}, "timeout"},
		{Result{ledger.Unknown, ""}, noReply},
		{Result{ledger.NotExecuted, ""}, noReply},
		{Result{}, noReply},
	}
	for _, tt := range tests {
		if got := tt.result.failure(); got != tt.want {
			t.Errorf("%+v: failure %q, want %q", tt.result, got, tt.want)
		}
	}
}

func TestKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		due, begun int64
		want       bool
	}{{0, 0, true}, {100, 100, true}, {100, 99, true}, {100, 98, false}, {1000, 989, false}, {1, 0, false}}
	for _, tt := range tests {
		if got := (Summary{Due: tt.due, Begun: tt.begun}).Kept(); got != tt.want {
			t.Errorf("%d of %d begun: kept %v, want %v", tt.begun, tt.due, got, tt.want)
		}
	}
}

// Times that a histogram cannot hold are clamped, not lost.
func TestRecordInClamps(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ d, want time.Duration }{{-1, 0}, {0, 0}, {time.Second, time.Second}, {maxLatency, maxLatency}, {time.Hour, maxLatency}} {
		h := newDense()
		recordIn(h, tt.d)
		if h.TotalCount() != 1 || !near(h.Max(), tt.want) {
			t.Errorf("%v: %d values, %v; want one, %v", tt.d, h.TotalCount(), time.Duration(h.Max()), tt.want)
		}
	}
}

// Keeping an interval takes kilobytes, even with many different latencies.
func TestIntervalsAreSmall(t *testing.T) {
	t.Parallel()
	tl := newTally()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		tl.good++
		recordIn(tl.hist, time.Duration(rng.ExpFloat64()*float64(time.Millisecond)))
	}
	if got := tl.counts().Hist.GetMemorySize(); got > 32<<10 {
		t.Errorf("5000 calls with a mean of 1 ms take %d bytes, want at most 32 KiB", got)
	}
}
