package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeWorld is an injector that writes down what happens and when, in seconds since it was made.
type fakeWorld struct {
	start  time.Time
	names  []string
	inject func(ctx context.Context, s Spec, target string) error // nil: at once
	undo   func(ctx context.Context, s Spec, target string) error
	fixed  bool // what was applied cannot be undone

	mu  sync.Mutex
	log []string
}

func newWorld(names ...string) *fakeWorld { return &fakeWorld{start: time.Now(), names: names} }

func (w *fakeWorld) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%g ", time.Since(w.start).Seconds())+fmt.Sprintf(format, args...))
}

func (w *fakeWorld) Resolve(_ context.Context, s Spec, rng *rand.Rand) ([]string, error) {
	switch {
	case s.Target == "replica":
		return []string{w.names[rng.IntN(len(w.names))]}, nil
	case s.Target == "leader":
		return nil, errors.New("no leader runs")
	case s.Target == "nodes":
		return nil, nil
	case s.Target == "replicas":
		return w.names, nil
	}
	return []string{s.Target}, nil
}

func (w *fakeWorld) Inject(ctx context.Context, s Spec, target string) (func(context.Context) error, error) {
	w.note("%s %s", s.Kind, target)
	if w.inject != nil {
		if err := w.inject(ctx, s, target); err != nil {
			return nil, err
		}
	}
	if w.fixed || s.Kind == Reset || s.Kind == Restart || s.Kind == Cut {
		return nil, nil
	}
	return func(ctx context.Context) error {
		w.note("undo %s %s", s.Kind, target)
		if w.undo != nil {
			return w.undo(ctx, s, target)
		}
		return nil
	}, nil
}

// run runs a schedule of a minute; canceled is when ctx ends, if not 0.
func (w *fakeWorld) run(t *testing.T, canceled time.Duration, texts ...string) ([]Event, error) {
	t.Helper()
	ctx := t.Context()
	if canceled > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, canceled)
		defer cancel()
	}
	var events []Event
	err := Run(ctx, specs(t, texts...), time.Minute, 1, w, func(e Event) { events = append(events, e) })
	return events, err
}

func (w *fakeWorld) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(w.log, want) {
		t.Errorf("what happened:\n\t%s\nwant:\n\t%s", strings.Join(w.log, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func texts(events []Event) []string {
	var all []string
	for _, e := range events {
		did := "applied"
		if e.Healed {
			did = "healed"
		}
		text := fmt.Sprintf("%s #%d %s %s in %v", e.Spec.Kind, e.Round, did, strings.Join(e.Targets, "+"), e.Took)
		if e.Err != nil {
			text += ": " + e.Err.Error()
		}
		all = append(all, text)
	}
	return all
}

func expectEvents(t *testing.T, events []Event, want ...string) {
	t.Helper()
	if got := texts(events); !slices.Equal(got, want) {
		t.Errorf("events:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// lasts returns a function that takes d, or until ctx has ended.
func lasts(d time.Duration) func(context.Context, Spec, string) error {
	return func(ctx context.Context, _ Spec, _ string) error {
		if !wait(ctx, d) {
			return context.Cause(ctx)
		}
		return nil
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		events, err := w.run(t, 0, "pause:replica1@50s+3s", "kill:replica2@2s+4s,every=20s", "restart:node1@3s", "cut:node2@0s")
		if err != nil {
			t.Errorf("Run = %v", err)
		}
		w.expect(t, "0 cut node2", "2 kill replica2", "3 restart node1", "6 undo kill replica2", "22 kill replica2", "26 undo kill replica2",
			"42 kill replica2", "46 undo kill replica2", "50 pause replica1", "53 undo pause replica1")
		expectEvents(t, events, "cut #1 applied node2 in 0s", "kill #1 applied replica2 in 0s", "restart #1 applied node1 in 0s",
			"kill #1 healed replica2 in 0s", "kill #2 applied replica2 in 0s", "kill #2 healed replica2 in 0s",
			"kill #3 applied replica2 in 0s", "kill #3 healed replica2 in 0s", "pause #1 applied replica1 in 0s", "pause #1 healed replica1 in 0s")
	})
}

func TestRunBadSchedule(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), []Spec{{Kind: Kill}}, time.Second, 1, newWorld(), nil)
	if err == nil || !strings.Contains(err.Error(), "no target") {
		t.Errorf("Run of a kill without a target = %v, want an error", err)
	}
}

// Faults of one instant come in the order in which they are written, even if one takes its time.
func TestRunSameInstant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.inject = lasts(time.Second)
		if _, err := w.run(t, 0, "reset:node3@5s", "reset:node1@5s", "reset:node2@5s", "reset:node9@4s"); err != nil {
			t.Errorf("Run = %v", err)
		}
		w.expect(t, "4 reset node9", "5 reset node3", "6 reset node1", "7 reset node2")
	})
}

// A fault that takes long to apply, or to undo, delays no other, neither its beginning nor its end.
func TestRunSlowInjector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.inject = func(ctx context.Context, s Spec, target string) error {
			if s.Kind == Restart {
				return lasts(10*time.Second)(ctx, s, target)
			}
			return nil
		}
		w.undo = func(ctx context.Context, s Spec, target string) error {
			if s.Kind == Kill {
				return lasts(20*time.Second)(ctx, s, target)
			}
			return nil
		}
		events, err := w.run(t, 0, "pause:node1@1s+5s", "restart:node2@2s", "kill:node3@3s+1s", "reset:node4@5s")
		if err != nil {
			t.Errorf("Run = %v", err)
		}
		w.expect(t, "1 pause node1", "2 restart node2", "3 kill node3", "4 undo kill node3", "5 reset node4", "6 undo pause node1")
		expectEvents(t, events, "pause #1 applied node1 in 0s", "kill #1 applied node3 in 0s", "reset #1 applied node4 in 0s",
			"pause #1 healed node1 in 0s", "restart #1 applied node2 in 10s", "kill #1 healed node3 in 20s")
	})
}

// One fault is applied to all its targets at once, and lasts from when it is in effect on all of them.
func TestRunTargetsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b")
		w.inject = func(ctx context.Context, s Spec, target string) error {
			return lasts(map[string]time.Duration{"a": 2 * time.Second, "b": time.Second}[target])(ctx, s, target)
		}
		events, err := w.run(t, 0, "kill:replicas@1s+3s")
		if err != nil {
			t.Errorf("Run = %v", err)
		}
		slices.Sort(w.log)
		w.expect(t, "1 kill a", "1 kill b", "6 undo kill a", "6 undo kill b")
		expectEvents(t, events, "kill #1 applied a+b in 2s", "kill #1 healed a+b in 0s")
	})
}

// When ctx ends, what is in effect is undone with a context that has not ended, and the rest does not come.
func TestRunCanceled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.undo = func(ctx context.Context, _ Spec, _ string) error { return ctx.Err() }
		_, err := w.run(t, 10*time.Second, "pause:node1@1s+30s", "kill:node2@11s", "partition:node3@2s+3s")
		if err != nil {
			t.Errorf("Run = %v", err)
		}
		w.expect(t, "1 pause node1", "2 partition node3", "5 undo partition node3", "10 undo pause node1")
	})
}

// A fault without a duration that can be undone stays until the run ends.
func TestRunStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		if _, err := w.run(t, 20*time.Second, "kill:node1@1s"); err != nil {
			t.Errorf("Run = %v", err)
		}
		w.expect(t, "1 kill node1", "20 undo kill node1")

		w = newWorld()
		w.fixed = true
		if _, err := w.run(t, 20*time.Second, "kill:node1@1s"); err != nil {
			t.Errorf("Run = %v", err)
		}
		if took := time.Since(w.start); took != time.Second {
			t.Errorf("Run with nothing to undo took %v, want 1s", took)
		}
		w.expect(t, "1 kill node1")
	})
}

// Undoing what hangs is given up some time after the end of the run, and not before.
func TestRunUndoHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.undo = lasts(time.Hour)
		_, err := w.run(t, 40*time.Second, "pause:node1@1s+1s")
		if took := time.Since(w.start); took != 40*time.Second+undoTimeout {
			t.Errorf("Run took %v, want %v after the end", took, undoTimeout)
		}
		want := "fault pause:node1@1s+1s: undo for node1: not done 15s after the end of the run"
		if !errors.Is(err, errUndoTimeout) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Run = %v, want %q", err, want)
		}
	})
}

var errBroken = errors.New("broken")

// The first thing that cannot be done ends the run: the rest is undone and not begun.
func TestRunFails(t *testing.T) {
	t.Parallel()
	failFor := func(name string) func(context.Context, Spec, string) error {
		return func(_ context.Context, _ Spec, target string) error {
			if target == name {
				return errBroken
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name    string
		faults  []string
		prepare func(w *fakeWorld)
		err     string
		log     []string
	}{
		{
			"no target found", []string{"partition:leader@2s+1s"}, nil, "fault partition:leader@2s+1s: find the target: no leader runs",
			[]string{"1 pause node1", "2 undo pause node1"},
		},
		{
			"no target named", []string{"kill:nodes@2s"}, nil, "fault kill:nodes@2s: find the target: there is no nodes",
			[]string{"1 pause node1", "2 undo pause node1"},
		},
		{
			"not applied", []string{"kill:node2@2s"}, func(w *fakeWorld) { w.inject = failFor("node2") }, "fault kill:node2@2s: apply to node2: broken",
			[]string{"1 pause node1", "2 kill node2", "2 undo pause node1"},
		},
		{
			"not applied to one of two", []string{"kill:replicas@2s+3s"}, func(w *fakeWorld) { w.inject = failFor("b") },
			"fault kill:replicas@2s+3s: apply to b: broken",
			[]string{"1 pause node1", "2 kill a", "2 kill b", "2 undo kill a", "2 undo pause node1"},
		},
		{
			"not applied, and another of the same instant", []string{"kill:node2@2s", "reset:node3@2s"}, func(w *fakeWorld) { w.inject = failFor("node2") },
			"fault kill:node2@2s: apply to node2: broken", []string{"1 pause node1", "2 kill node2", "2 undo pause node1"},
		},
		{
			"not undone", []string{"kill:node2@2s+3s"}, func(w *fakeWorld) { w.undo = failFor("node2") }, "fault kill:node2@2s+3s: undo for node2: broken",
			[]string{"1 pause node1", "2 kill node2", "5 undo kill node2", "5 undo pause node1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld("a", "b")
				if tt.prepare != nil {
					tt.prepare(w)
				}
				events, err := w.run(t, 0, append([]string{"pause:node1@1s+30s", "reset:node9@40s"}, tt.faults...)...)
				if err == nil || err.Error() != tt.err {
					t.Errorf("Run(%q) = %v, want %q", tt.faults, err, tt.err)
				}
				slices.Sort(w.log)
				w.expect(t, tt.log...)
				if i := slices.IndexFunc(events, func(e Event) bool { return e.Err != nil }); i < 0 || events[i].Err != err {
					t.Errorf("events %q, want one with the error of Run", texts(events))
				}
			})
		})
	}
}

// That the run ended before a fault was in effect is no calm run.
func TestRunEndsBeforeEffect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.inject = lasts(time.Hour)
		events, err := w.run(t, 20*time.Second, "cut:node1@1s")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "fault cut:node1@1s: apply to node1: ") {
			t.Errorf("Run = %v, want that the cut could not be applied", err)
		}
		expectEvents(t, events, "cut #1 applied node1 in 19s: "+err.Error())
	})
}

// Undoing that fails when ctx has ended is told as well.
func TestRunUndoFailsAtEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.undo = func(context.Context, Spec, string) error { return errBroken }
		if _, err := w.run(t, 5*time.Second, "pause:node1@1s+30s"); !errors.Is(err, errBroken) {
			t.Errorf("Run = %v, want %v", err, errBroken)
		}
	})
}

// Targets depend on the seed alone, not on which fault comes to choose first.
func TestRunSeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		choose := func(seed uint64, texts ...string) (chosen []string) {
			var names []string
			for i := range 1000 {
				names = append(names, fmt.Sprint("r", i))
			}
			err := Run(t.Context(), specs(t, texts...), time.Minute, seed, newWorld(names...), func(e Event) {
				if e.Spec.Kind == Kill && !e.Healed {
					chosen = append(chosen, e.Targets[0])
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			return chosen
		}
		first := choose(7, "kill:replica@1s+1s,every=5s", "reset:replica@59s")
		if again := choose(7, "kill:replica@1s+1s,every=5s", "reset:replica@0s"); !slices.Equal(again, first) {
			t.Errorf("seed 7 chose %q, then %q", first, again)
		}
		if other := choose(8, "kill:replica@1s+1s,every=5s", "reset:replica@0s"); slices.Equal(other, first) {
			t.Errorf("seeds 7 and 8 both chose %q", first)
		}
		slices.Sort(first)
		if len(slices.Compact(first)) < 5 {
			t.Errorf("12 rounds chose %q, want some of 1000", first)
		}
	})
}

// on gets one event at a time: it needs no lock of its own, as the race detector sees.
func TestRunEventsOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var inside bool
		var n int
		var all []string
		for i := range 50 {
			all = append(all, fmt.Sprintf("pause:node%d@%dns+%dns", i+1, 1+i, 100-i)) // they all end at the same time
		}
		err := Run(t.Context(), specs(t, all...), time.Minute, 1, newWorld(), func(Event) {
			if inside {
				t.Error("on is called while it is called")
			}
			inside = true
			for range 10 {
				runtime.Gosched()
			}
			inside = false
			n++
		})
		if err != nil || n != 2*len(all) {
			t.Errorf("Run = %v with %d events, want %d", err, n, 2*len(all))
		}
	})
}
