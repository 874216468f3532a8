package traffic

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// recording returns a generator of a closed loop with calls that do nothing, and a function that ends it.
func recording(tb testing.TB, callers int, recorded bool) (*generator, func()) {
	works := work("nothing", func(context.Context) Result { return good })
	stop := func() {}
	var rec *Recorder
	if recorded {
		rec = NewRecorder(RecorderOptions{Works: names(works)})
	}
	if recorded {
		if err := rec.open(callers); err != nil {
			tb.Fatal(err)
		}
		stop = rec.close
	}
	g := newGenerator(Load{Callers: callers, For: time.Hour}, works, rec, nil)
	for i := range g.callers {
		g.callers[i].init(g, i, new(gap))
	}
	g.begin()
	return g, stop
}

// Not parallel, since AllocsPerRun counts what all goroutines allocate.
func TestRecordingAllocatesNothing(t *testing.T) {
	g, stop := recording(t, 1, true)
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if n := testing.AllocsPerRun(1000, func() { g.callers[0].again(ctx) }); n != 0 {
		t.Errorf("a recorded call allocates %v times, want 0", n)
	}
}

// BenchmarkCall is a call of a closed loop to a function that does nothing, with and without recording it.
func BenchmarkCall(b *testing.B) {
	for _, bb := range []struct {
		name     string
		recorded bool
	}{{"unrecorded", false}, {"recorded", true}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			const callers = 64
			g, stop := recording(b, callers, bb.recorded)
			defer stop()
			var next atomic.Int64
			b.SetParallelism(callers / 8)
			b.RunParallel(func(pb *testing.PB) {
				c := &g.callers[next.Add(1)%callers]
				for pb.Next() {
					c.again(b.Context())
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// BenchmarkCut is the end of an interval in which a thousand calls ended.
func BenchmarkCut(b *testing.B) {
	g, stop := recording(b, 64, true)
	defer stop()
	b.ReportAllocs()
	for b.Loop() {
		for i := range 1000 {
			c := &g.callers[i%len(g.callers)]
			c.shard.good(0, 0, 0, time.Duration(i)*time.Microsecond, 0)
		}
		g.rec.mu.Lock()
		g.rec.cutLocked(intervalCut)
		g.rec.intervals = nil
		g.rec.mu.Unlock()
	}
}

// BenchmarkWake tells how late a sleep ends in a process that does nothing else.
func BenchmarkWake(b *testing.B) {
	for _, kind := range []struct {
		name string
		make func(context.Context) waiter
	}{
		{"timer", func(ctx context.Context) waiter { return newTimerWaiter(ctx) }},
		{"precise", newWaiter},
	} {
		for _, rate := range []int{1000, 5000} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, rate), func(b *testing.B) {
				w := kind.make(b.Context())
				defer w.close()
				var late []time.Duration
				start := time.Now()
				for due := time.Duration(0); b.Loop(); due += time.Second / time.Duration(rate) {
					if d := due - time.Since(start); d > 0 {
						w.sleep(d)
						late = append(late, time.Since(start)-due)
					}
				}
				slices.Sort(late)
				b.ReportMetric(float64(late[len(late)/2].Nanoseconds())/1000, "p50-late-µs")
				b.ReportMetric(float64(late[len(late)*99/100].Nanoseconds())/1000, "p99-late-µs")
				b.ReportMetric(0, "ns/op") // says nothing
			})
		}
	}
}

// BenchmarkLag tells how late the calls of an open loop begin, of which each does nothing.
func BenchmarkLag(b *testing.B) {
	for _, rate := range []int{1000, 5000, 20000} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			works := work("nothing", func(context.Context) Result { return good })
			rec := NewRecorder(RecorderOptions{Works: names(works)})
			load := Load{Callers: 64, Steps: []Step{{float64(rate), time.Duration(b.N) * time.Second / time.Duration(rate)}}}
			s, err := Run(b.Context(), load, works, rec, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(s.Lag.ValueAtPercentile(50))/1000, "p50-late-µs")
			b.ReportMetric(float64(s.Lag.ValueAtPercentile(99))/1000, "p99-late-µs")
			b.ReportMetric(0, "ns/op") // is the rate
		})
	}
}
