package traffic

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// stalling is a servant that takes a millisecond, but for one second answers nobody who calls in it until it is over.
type stalling struct{ from time.Duration }

const (
	stallTime = time.Second
	service   = time.Millisecond
)

func (s stalling) takes(begin time.Duration) time.Duration {
	if begin >= s.from && begin < s.from+stallTime {
		return s.from + stallTime - begin + service
	}
	return service
}

// works is the servant, as a function that is called in virtual time.
func (s stalling) works(start time.Time) []Work {
	return work("call", func(ctx context.Context) Result { return pause(ctx, s.takes(time.Since(start))) })
}

// queue is what should come of an open loop: a model of callers that take calls in turn, independent of the generator.
type queue struct {
	latencies       []time.Duration // sorted
	inTime, drained int64           // begun until the end, and after it
}

func newQueue(callers int, rate float64, length, drain time.Duration, takes func(time.Duration) time.Duration) queue {
	var q queue
	free := make([]time.Duration, callers)
	for k := 0; ; k++ {
		due := time.Duration(float64(k) * float64(time.Second) / rate)
		if due >= length {
			break
		}
		first := slices.Index(free, slices.Min(free))
		begin := max(due, free[first])
		switch {
		case begin <= length:
			q.inTime++
		case begin <= length+drain:
			q.drained++
		default:
			continue
		}
		free[first] = begin + takes(begin)
		q.latencies = append(q.latencies, free[first]-due)
	}
	slices.Sort(q.latencies)
	return q
}

// A stall is seen by all calls that were due in it, however few callers there are to make them.
func TestStallOpenLoop(t *testing.T) {
	t.Parallel()
	servant := stalling{from: 5 * time.Second}
	for _, tt := range []struct {
		name    string
		callers int
	}{{"enough callers", 2000}, {"few callers", 10}, {"hardly any callers", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				load := Load{Callers: tt.callers, Steps: []Step{{1000, 10 * time.Second}}, Drain: time.Minute}
				s, rec := measure(t, load, servant.works(time.Now()), RecorderOptions{})
				want := newQueue(tt.callers, 1000, 10*time.Second, time.Minute, servant.takes)
				hist := rec.Total.Hist
				if n := int64(len(want.latencies)); hist.TotalCount() != n || s.Due != n || s.Unsent != 0 || s.Begun != want.inTime {
					t.Fatalf("%d calls recorded, summary %+v; want %d, %d of them in time", hist.TotalCount(), s, n, want.inTime)
				}
				for _, q := range []float64{1, 50, 80, 90, 95, 99, 99.9, 99.99, 100} {
					rank := int(q / 100 * float64(len(want.latencies)))
					if got := hist.ValueAtPercentile(q); !near(got, want.latencies[rank-1]) {
						t.Errorf("%d callers: p%v is %v, want %v", tt.callers, q, time.Duration(got), want.latencies[rank-1])
					}
				}
				if p99 := hist.ValueAtPercentile(99); p99 < int64(895*time.Millisecond) {
					t.Errorf("%d callers: p99 is %v in spite of the stall", tt.callers, time.Duration(p99))
				}
				if !near(hist.Max(), stallTime+service) || rec.Total.Gap != stallTime+service {
					t.Errorf("%d callers: max %v, gap %v, want %v", tt.callers, time.Duration(hist.Max()), rec.Total.Gap, stallTime+service)
				}
			})
		})
	}
}

// In a closed loop it is one slow call for each caller.
func TestStallClosedLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servant := stalling{from: 5 * time.Second}
		_, rec := measure(t, Load{Callers: 10, For: 10 * time.Second}, servant.works(time.Now()), RecorderOptions{})
		slow := int64(0)
		for value, n := range rec.Total.Hist.ForEachBucket {
			if value > int64(2*service) {
				slow += n
			}
		}
		if want := int64(10 * (9000 - 1)); slow != 10 || rec.Total.Good < want || rec.Total.Good > want+20 {
			t.Errorf("%d slow calls of %d, want 10 of about %d", slow, rec.Total.Good, want)
		}
		if !near(rec.Total.Hist.Max(), stallTime+service) {
			t.Errorf("max %v, want %v", time.Duration(rec.Total.Hist.Max()), stallTime+service)
		}
	})
}

// A generator that cannot keep the asked rate says so.
func TestRateNotKept(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		rate  float64 // 10 callers can make 500 calls a second
		drain time.Duration
		kept  bool
	}{
		{"half, no drain", 1000, 0, false},
		{"half, some drain", 1000, 2 * time.Second, false},
		{"half, all drained", 1000, time.Minute, false},
		{"a tenth", 5000, time.Second, false},
		{"all but 2 %", 510, time.Minute, false},
		{"all but half a percent", 502.5, time.Minute, true},
		{"all", 500, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				takes20 := func(time.Duration) time.Duration { return 20 * time.Millisecond }
				load := Load{Callers: 10, Steps: []Step{{tt.rate, 10 * time.Second}}, Drain: tt.drain}
				s, rec := measure(t, load, takes(takes20(0)), RecorderOptions{})
				q := newQueue(10, tt.rate, 10*time.Second, tt.drain, takes20)
				due := int64(tt.rate * 10)
				if s.Kept() != tt.kept || s.Due != due || s.Begun != q.inTime || s.Unsent != due-q.inTime-q.drained {
					t.Errorf("due %d, begun %d, unsent %d, kept %v; want %d, %d, %d, %v",
						s.Due, s.Begun, s.Unsent, s.Kept(), due, q.inTime, due-q.inTime-q.drained, tt.kept)
				}
				if slowest := q.latencies[len(q.latencies)-1]; rec.Total.Good != q.inTime+q.drained || rec.Total.Gap != slowest {
					t.Errorf("%d calls recorded, gap %v; want %d, %v", rec.Total.Good, rec.Total.Gap, q.inTime+q.drained, slowest)
				}
				if s.Lag.Max() > int64(minLatency) {
					t.Errorf("lag %v: a caller that was busy is none", time.Duration(s.Lag.Max()))
				}
			})
		})
	}
}
