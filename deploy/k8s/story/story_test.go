package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == fakeName {
		os.Exit(fakeMain(filepath.Dir(os.Args[0]), os.Args[1:]))
	}
	// With the race detector a program waits a second before it exits, as this one does under its other name a hundred times.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// fakeMeter is a load that makes ten calls a second, all of them good, and a name server.
type fakeMeter struct {
	registry *registrar
	forgets  string // a name
	began    time.Time
	phases   []string
	fail     map[string]int64 // calls by the phase in which they fail
	listErr  error
}

func (m *fakeMeter) begin(_ context.Context, name string) (phase, error) {
	p := phase{Good: int64(time.Since(m.began) / (100 * time.Millisecond)), GapMS: 100}
	if n := len(m.phases); n > 0 {
		p.Name = m.phases[n-1]
		p.Failed = m.fail[p.Name]
		p.Errors = map[string]int64{"unknown: closed": p.Failed}
	}
	m.began, m.phases = time.Now(), append(m.phases, name)
	return p, nil
}

func (m *fakeMeter) names(context.Context) (map[string]string, error) {
	names := m.registry.acknowledged()
	delete(names, m.forgets)
	return names, m.listErr
}

// tellOf tells a story of these steps with a name registered every second.
func tellOf(t *testing.T, m *fakeMeter, steps ...step) (*result, error) {
	t.Helper()
	return tellWith(t, m, fakeStream(func(name, _ string) (string, time.Duration, bool) { return "registered " + name + "\n", 0, true }), steps...)
}

func tellWith(t *testing.T, m *fakeMeter, names func(context.Context) (*stream, error), steps ...step) (*result, error) {
	t.Helper()
	s := &story{out: io.Discard, began: time.Now()}
	s.registry = newRegistrar(time.Second, time.Minute, names)
	m.registry, m.began = s.registry, time.Now()
	res := &result{}
	err := s.tell(t.Context(), m, steps, res)
	res.judge(err)
	return res, err
}

// lasting is a step that takes a while.
func lasting(name string, d time.Duration, planned bool) step {
	return step{key: name, name: name, planned: planned, run: func(ctx context.Context) (string, error) {
		pause(ctx, d)
		return "done", nil
	}}
}

// TestTell: each step has the calls and registrations of its own time, settling included, and no call is left out between two.
func TestTell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMeter{fail: map[string]int64{"two": 3}}
		crash := lasting("crash", time.Hour, false)
		crash.needs = []command{{variable: "NODE_CRASH"}}
		res, err := tellOf(t, m, lasting("one", 4*time.Second, true), crash, lasting("two", 14*time.Second, true))
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"one", "two", "afterwards"}; !slices.Equal(m.phases, want) {
			t.Errorf("phases %q, want %q", m.phases, want)
		}
		one, not, two := res.Steps[0], res.Steps[1], res.Steps[2]
		if one.Calls != 100 || one.FailedCalls != 0 || one.Seconds != 4 || one.Note != "done" || one.Registered < 9 || one.Registered > 11 || one.Lost != 0 {
			t.Errorf("one: %+v, want 4 s and 6 more to settle, 10 calls and a name in each", one)
		}
		if want := (&row{Step: "crash", NotRun: "set NODE_CRASH"}); !reflect.DeepEqual(not, want) {
			t.Errorf("crash: %+v, want %+v", not, want)
		}
		if two.Calls != 203 || two.FailedCalls != 3 || two.Registered < 19 || two.Registered > 21 || two.Acknowledged < 29 {
			t.Errorf("two: %+v, want 20 s of calls, 3 of which failed, and the names of both steps", two)
		}
		if want := "missed: two: 3 failed calls (unknown: closed: 3), want none"; res.err() == nil || res.err().Error() != want {
			t.Errorf("got %v, want %s", res.err(), want)
		}
	})
}

// TestTellOfALostName: a name that was acknowledged and is not there is lost, also if it was acknowledged long before.
func TestTellOfALostName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		res, err := tellOf(t, &fakeMeter{forgets: namePrefix + "2"}, lasting("one", time.Second, false), lasting("two", time.Second, false))
		if err != nil {
			t.Fatal(err)
		}
		if res.OK || res.Steps[0].Lost != 1 || res.Steps[1].Lost != 1 || res.total().Lost != 1 || !slices.Equal(res.Steps[1].LostNames, []string{namePrefix + "2"}) {
			t.Errorf("got %+v and %+v, want one lost name", res.Steps[0], res.Steps[1])
		}
	})
}

// TestTellIsBrokenOff: the row of the step that could not be done is complete, and later ones are not begun.
func TestTellIsBrokenOff(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		m    fakeMeter
		err  error
		want string
	}{
		{"a step fails", fakeMeter{}, errors.New("not within 5m0s"), "two: not within 5m0s"},
		{"names cannot be listed", fakeMeter{listErr: errors.New("no answer")}, nil, "one: list the names: no answer"},
	} {
		synctest.Test(t, func(t *testing.T) {
			two := lasting("two", 3*time.Second, true)
			run := two.run
			two.run = func(ctx context.Context) (string, error) {
				run(ctx)
				return "", test.err
			}
			res, err := tellOf(t, &test.m, lasting("one", time.Second, true), two, lasting("three", time.Second, true))
			if err == nil || err.Error() != test.want || res.OK {
				t.Errorf("%s: got %v, ok %v, want %s", test.name, err, res.OK, test.want)
			}
			last := res.Steps[len(res.Steps)-1]
			if last.Step == "three" || !last.Measured || last.Calls == 0 {
				t.Errorf("%s: last row %+v, want the calls of the step that was broken off", test.name, last)
			}
		})
	}
}

// TestTellWithoutNames: a story in which nothing can be registered proves nothing, and is not begun.
func TestTellWithoutNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		refused := fakeStream(func(string, string) (string, time.Duration, bool) {
			return "pyro-cluster: ns register: line 1: no answer\n", 0, false
		})
		m := &fakeMeter{}
		res, err := tellWith(t, m, refused, lasting("one", time.Second, true))
		if want := "the first registration: not within 1m0s: none yet: line 1: no answer"; err == nil || err.Error() != want || res.OK || len(m.phases) > 0 {
			t.Errorf("got %v, ok %v, phases %q, want %s", err, res.OK, m.phases, want)
		}
	})
}

func TestPutRight(t *testing.T) {
	t.Parallel()
	s := &story{out: io.Discard}
	var did []string
	do := func(what string, err error) func() {
		return s.onUndo(what, func(context.Context) error { did = append(did, what); return err })
	}
	do("namespace", nil)
	do("start n1", nil)() // done in the story
	do("uncordon n2", errors.New("no answer"))
	err := s.putRight(t.Context())
	if !slices.Equal(did, []string{"uncordon n2", "namespace"}) || err == nil || err.Error() != "uncordon n2: no answer" {
		t.Errorf("did %q, %v, want the latest first, what is left, and all in spite of an error", did, err)
	}
	if err := s.putRight(t.Context()); err != nil || len(did) != 2 {
		t.Errorf("again: %v, did %q", err, did)
	}
}

func TestWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := waitFor(t.Context(), time.Minute, "pods", func(context.Context) (string, error) {
			if time.Since(began) < 10*time.Second {
				return "one is missing", nil
			}
			return "", nil
		})
		if took := time.Since(began); err != nil || took != 10*time.Second {
			t.Errorf("got %v after %v, want success after 10s", err, took)
		}
		for _, test := range []struct {
			problem string
			err     error
			want    string
		}{
			{"one is missing", nil, "pods: not within 1m0s: one is missing"},
			{"", errors.New("kubectl get: no answer"), "pods: not within 1m0s: kubectl get: no answer"},
		} {
			err := waitFor(t.Context(), time.Minute, "pods", func(context.Context) (string, error) { return test.problem, test.err })
			if err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("interrupt"))
		err = waitFor(ctx, time.Minute, "pods", func(context.Context) (string, error) { return "x", nil })
		if err == nil || err.Error() != "interrupt" {
			t.Errorf("got %v, want the reason for which it was told to end", err)
		}
	})
}

func TestSayRow(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	s := &story{out: &b, began: time.Now()}
	r := calm("drain", true)
	r.FailedCalls = 1
	s.sayRow(r)
	if !strings.Contains(b.String(), "1000 calls, 1 failed") || !strings.Contains(b.String(), "MISSED drain: 1 failed calls") {
		t.Errorf("said %q", b.String())
	}
}
