package traffic

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

func TestRate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		load    Load
		service time.Duration
		want    float64 // calls a second
	}{
		{"closed, one caller", Load{Callers: 1, For: 10 * time.Second}, 10 * time.Millisecond, 100},
		{"closed, many callers", Load{Callers: 50, For: 10 * time.Second}, 20 * time.Millisecond, 2500},
		{"closed, with warm-up", Load{Callers: 8, For: 10 * time.Second, Warmup: 3 * time.Second}, 7 * time.Millisecond, 8 / 0.007},
		{"open, half of the capacity", Load{Callers: 20, Steps: []Step{{1000, 10 * time.Second}}}, 10 * time.Millisecond, 1000},
		{"open, nearly all of the capacity", Load{Callers: 10, Steps: []Step{{990, 10 * time.Second}}}, 10 * time.Millisecond, 990},
		{"open, with warm-up", Load{Callers: 20, Steps: []Step{{1000, 10 * time.Second}}, Warmup: time.Second}, 10 * time.Millisecond, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, rec := measure(t, tt.load, takes(tt.service), RecorderOptions{})
				rate := float64(rec.Total.Good) / (rec.Total.To - rec.Total.From).Seconds()
				if rate < 0.98*tt.want || rate > 1.02*tt.want {
					t.Errorf("%+v, service time %v: measured %.1f calls a second, want %.1f", tt.load, tt.service, rate, tt.want)
				}
				if got := rec.Total.Hist; !near(got.ValueAtPercentile(0.1), tt.service) || !near(got.Max(), tt.service) {
					t.Errorf("latency %v to %v, want %v", time.Duration(got.ValueAtPercentile(0.1)), time.Duration(got.Max()), tt.service)
				}
				if !s.Kept() || s.Unsent != 0 || s.Due != rec.Total.Good || s.Begun != s.Due {
					t.Errorf("summary %+v, want all of %d calls due and begun", s, rec.Total.Good)
				}
				if s.Lag.Max() > int64(minLatency) {
					t.Errorf("lag %v in virtual time, want none", time.Duration(s.Lag.Max()))
				}
			})
		})
	}
}

// At the end no call is cut short, and what began in the warm-up does not count.
func TestEdges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		load    Load
		service time.Duration
		calls   int64 // made
		good    int64 // recorded
		to      time.Duration
	}{
		{"one long call", Load{Callers: 1, For: time.Second}, 30 * time.Second, 1, 1, 30 * time.Second},
		{"across the end of the warm-up", Load{Callers: 1, Warmup: 1500 * time.Millisecond, For: 3 * time.Second},
			time.Second, 5, 3, 3500 * time.Millisecond},
		{"open, across both ends", Load{Callers: 9, Warmup: time.Second, Steps: []Step{{1, 3 * time.Second}}}, 1200 * time.Millisecond, 4, 3, 3200 * time.Millisecond},
		{"open, one call", Load{Callers: 9, Steps: []Step{{0.001, 3 * time.Second}}}, time.Second, 1, 1, time.Second},
		{"open, overdue from the warm-up", Load{Callers: 1, Warmup: 2 * time.Second, Steps: []Step{{1, 2 * time.Second}}, Drain: time.Hour},
			3 * time.Second, 4, 2, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				works := work("call", func(ctx context.Context) Result { calls.Add(1); return pause(ctx, tt.service) })
				s, rec := measure(t, tt.load, works, RecorderOptions{})
				if calls.Load() != tt.calls || rec.Total.Good != tt.good || s.Due != tt.good || rec.Total.To != tt.to {
					t.Errorf("%d calls, %d good, summary %+v, to %v; want %d, %d, %v",
						calls.Load(), rec.Total.Good, s, rec.Total.To, tt.calls, tt.good, tt.to)
				}
			})
		})
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		load := Load{
			Callers: 3,
			Warmup:  300 * time.Millisecond,
			Steps:   []Step{{10, 500 * time.Millisecond}, {4, time.Second}, {0.5, time.Second}, {1000, 3 * time.Millisecond}},
		}
		start := time.Now().Add(load.Warmup)
		var mu sync.Mutex
		var got []time.Duration
		works := work("call", func(context.Context) Result {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, time.Since(start).Round(time.Microsecond))
			return good
		})
		s, rec := measure(t, load, works, RecorderOptions{})
		const ms = time.Millisecond
		want := []time.Duration{-300 * ms, -200 * ms, -100 * ms, 0, 100 * ms, 200 * ms, 300 * ms, 400 * ms,
			500 * ms, 750 * ms, 1000 * ms, 1250 * ms, 1500 * ms, 2500 * ms, 2501 * ms, 2502 * ms}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: calls at\n%v, want\n%v", load, got, want)
		}
		if s.Due != 13 || s.Begun != 13 || rec.Total.Good != 13 || load.Duration() != 2503*ms {
			t.Errorf("%+v: summary %+v, %d recorded, lasts %v; want 13 calls in 2.503s", load, s, rec.Total.Good, load.Duration())
		}
	})
}

// order runs two works with weights 1 and 3, and returns which came when, by stream: by caller in a closed loop, all together in an open one.
func order(t *testing.T, load Load) map[uint32][]byte {
	var mu sync.Mutex
	got := make(map[uint32][]byte)
	one := func(name string, weight int) Work {
		return Work{Name: name, Weight: weight, Call: func(ctx context.Context, id ledger.ID) Result {
			mu.Lock()
			defer mu.Unlock()
			stream := id.Caller()
			if len(load.Steps) > 0 {
				stream = 0
			}
			got[stream] = append(got[stream], name...)
			mu.Unlock()
			defer mu.Lock()
			return pause(ctx, time.Millisecond)
		}}
	}
	works := []Work{one("a", 1), one("b", 3)}
	_, rec := measure(t, load, works, RecorderOptions{})
	var a, b int64
	for _, s := range got {
		a += int64(bytes.Count(s, []byte("a")))
		b += int64(bytes.Count(s, []byte("b")))
	}
	if rec.Works["a"].Good != a || rec.Works["b"].Good != b || a+b != rec.Total.Good {
		t.Errorf("%d a, %d b recorded, want %d and %d", rec.Works["a"].Good, rec.Works["b"].Good, a, b)
	}
	if share := float64(a) / float64(a+b); share < 0.23 || share > 0.27 {
		t.Errorf("weights 1 and 3: %d a and %d b", a, b)
	}
	return got
}

func TestWeightsAndSeed(t *testing.T) {
	t.Parallel()
	closed := Load{Callers: 4, For: time.Second}
	open := Load{Callers: 4, Steps: []Step{{1000, 4 * time.Second}}}
	tests := []struct {
		name         string
		load         Load
		seed         uint64
		other        Load
		otherSeed    uint64
		same, stream bool // the two are the same; so are their streams
	}{
		{"closed, same seed", closed, 7, closed, 7, true, false},
		{"closed, other seed", closed, 7, closed, 8, false, false},
		{"open, same seed", open, 7, open, 7, true, true},
		{"open, other seed", open, 0, open, 1, false, true},
		{"open, same seed, more callers", open, 7, Load{Callers: 40, Steps: open.Steps}, 7, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.load.Seed, tt.other.Seed = tt.seed, tt.otherSeed
			var a, b map[uint32][]byte
			synctest.Test(t, func(t *testing.T) { a = order(t, tt.load) })
			synctest.Test(t, func(t *testing.T) { b = order(t, tt.other) })
			if maps.EqualFunc(a, b, bytes.Equal) != tt.same {
				t.Errorf("the orders of seeds %d and %d are equal: %v, want %v", tt.seed, tt.otherSeed, !tt.same, tt.same)
			}
			if !tt.stream && (len(a) != 4 || bytes.Equal(a[0], a[1]) || bytes.Equal(a[1], a[2])) {
				t.Errorf("the orders of %d callers are the same", len(a))
			}
		})
	}
}

// The end of ctx ends a run at once, wherever it stands; a goroutine that is left would fail the bubble.
func TestCancel(t *testing.T) {
	t.Parallel()
	stop := errors.New("stopped by hand")
	tests := []struct {
		name    string
		load    Load
		service time.Duration
		good    int64
		due     int64
		unsent  int64
	}{
		{"closed", Load{Callers: 5, For: time.Hour}, 990 * time.Millisecond, 15, 20, 0},
		{"closed, all hang", Load{Callers: 5, For: time.Hour}, time.Hour, 0, 5, 0},
		{"closed, after the end", Load{Callers: 5, For: time.Second}, time.Hour, 0, 5, 0},
		{"in warm-up", Load{Callers: 5, For: time.Hour, Warmup: time.Hour}, time.Second, 0, 0, 0},
		{"open, waiting", Load{Callers: 5, Steps: []Step{{0.4, time.Hour}}}, time.Second, 1, 2, 0},
		{"open, in warm-up", Load{Callers: 5, Warmup: time.Hour, Steps: []Step{{0.4, time.Hour}}}, time.Second, 0, 0, 0},
		{"open, all busy", Load{Callers: 2, Steps: []Step{{10, time.Hour}}}, 990 * time.Millisecond, 5, 31, 24},
		{"open, all hang", Load{Callers: 2, Steps: []Step{{10, time.Hour}}}, time.Hour, 0, 31, 29},
		{"open, draining", Load{Callers: 2, Steps: []Step{{10, time.Second}}, Drain: time.Hour}, 990 * time.Millisecond, 5, 10, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				begin := time.Now()
				time.AfterFunc(3*time.Second+50*time.Millisecond, func() { cancel(stop) })
				works := takes(tt.service)
				rec := NewRecorder(RecorderOptions{Works: names(works)})
				s, err := Run(ctx, tt.load, works, rec, nil)
				if !errors.Is(err, stop) || time.Since(begin) != 3050*time.Millisecond {
					t.Errorf("Run = %v after %v, want %v after 3.05s", err, time.Since(begin), stop)
				}
				total := rec.Record().Total
				if total.Good != tt.good || len(total.Errors) != 0 {
					t.Errorf("%d good, errors %v; want %d and none: it was us who ended those calls", total.Good, total.Errors, tt.good)
				}
				if s.Due != tt.due || s.Unsent != tt.unsent {
					t.Errorf("%d due, %d unsent; want %d, %d", s.Due, s.Unsent, tt.due, tt.unsent)
				}
			})
		})
	}
}

// The journal gets every call, also those of the warm-up; each has an id of its own.
func TestJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var ran []ledger.ID
		works := []Work{{Name: "call", Weight: 1, Call: func(ctx context.Context, id ledger.ID) Result {
			mu.Lock()
			ran = append(ran, id)
			mu.Unlock()
			return pause(ctx, 100*time.Millisecond)
		}}}
		journal := ledger.NewJournal(42, 3)
		load := Load{Callers: 3, Warmup: time.Second, For: 2 * time.Second}
		if _, err := Run(t.Context(), load, works, nil, journal); err != nil {
			t.Fatal(err)
		}
		v, err := journal.Judge(func(yield func(ledger.ID, error) bool) {
			for _, id := range ran {
				if !yield(id, nil) {
					return
				}
			}
		})
		if err != nil || v.Calls != 90 || v.Ran != 90 || v.Twice+v.Lost+v.Phantom+v.Strangers != 0 {
			t.Errorf("%+v: verdict %+v, %v; want 90 calls that ran once", load, v, err)
		}
	})
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	call := takes(0)[0].Call
	ok := Load{Callers: 1, For: time.Second}
	open := func(steps ...Step) Load { return Load{Callers: 1, Steps: steps} }
	w := func(name string, weight int) Work { return Work{name, weight, call} }
	tests := []struct {
		name  string
		load  Load
		works []Work
		want  string
	}{
		{"no callers", Load{For: time.Second}, nil, "traffic: callers: got 0: give 1 to 100000"},
		{"too many callers", Load{Callers: 1e6, For: time.Second}, nil, "traffic: callers: got 1000000: give 1 to 100000"},
		{"no time", Load{Callers: 1}, nil, "traffic: duration: got 0s: give more than 0 and at most 8784h0m0s"},
		{"less than no time", Load{Callers: 1, For: -1}, nil, "traffic: duration: got -1ns: give more than 0 and at most 8784h0m0s"},
		{"too much time", Load{Callers: 1, For: math.MaxInt64}, nil, "traffic: duration: got 2562047h47m16.854775807s: give more than 0 and at most 8784h0m0s"},
		{"negative warm-up", Load{Callers: 1, For: 1, Warmup: -1}, nil, "traffic: warmup: got -1ns: give 0 to 8784h0m0s"},
		{"negative drain", Load{Callers: 1, For: 1, Drain: -1}, nil, "traffic: drain: got -1ns: give 0 to 8784h0m0s"},
		{"rate of 0", open(Step{0, 1}), nil, "traffic: rate of step 1: got 0: give more than 0 and at most 1e+09"},
		{"rate NaN", open(Step{math.NaN(), 1}), nil, "traffic: rate of step 1: got NaN: give more than 0 and at most 1e+09"},
		{"rate infinite", open(Step{1, 1}, Step{math.Inf(1), 1}), nil, "traffic: rate of step 2: got +Inf: give more than 0 and at most 1e+09"},
		{"step without time", open(Step{1, 1}, Step{1, 0}), nil, "traffic: time of step 2: got 0s: give more than 0 and at most 8784h0m0s"},
		{"steps too long", open(Step{1, maxTime}, Step{1, maxTime}), nil, "traffic: steps: got more than 8784h0m0s: give less"},
		{"no works", ok, []Work{}, "traffic: works: got none: give at least one"},
		{"no name", ok, []Work{w("", 1)}, "traffic: work 0: got no name: give it one"},
		{"twice", ok, []Work{w("a", 1), w("a", 1)}, `traffic: work "a": got it twice: give each a name of its own`},
		{"no weight", ok, []Work{w("a", 0)}, `traffic: work "a": weight: got 0: give 1 to 1000000`},
		{"no function", ok, []Work{{Name: "a", Weight: 1}}, `traffic: work "a": got no function: give it a Call`},
		{"unknown to the recorder", ok, []Work{w("b", 1)}, `traffic: work "b": got a recorder that does not know it: name it in the recorder's options`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.works == nil {
				tt.works = []Work{w("a", 1)}
			}
			s, err := Run(t.Context(), tt.load, tt.works, NewRecorder(RecorderOptions{Works: []string{"a"}}), nil)
			if err == nil || err.Error() != tt.want || s.Lag == nil {
				t.Errorf("Run(%+v) = %+v, %v; want %s", tt.load, s, err, tt.want)
			}
		})
	}
}
