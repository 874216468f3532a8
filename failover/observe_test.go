package failover

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// recorder is an observer that counts.
type recorder struct {
	mu       sync.Mutex
	groups   []string
	events   map[Event]int
	outcomes map[core.CallOutcome]int
	took     time.Duration // of the call told last
}

func newRecorder() *recorder {
	return &recorder{events: map[Event]int{}, outcomes: map[core.CallOutcome]int{}}
}

func (r *recorder) Group(name string) GroupObserver {
	r.groups = append(r.groups, name)
	return r
}

func (r *recorder) ObserveEvent(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[e]++
}

func (r *recorder) ObserveCall(o core.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcomes[o.Outcome]++
	r.took = o.Took
}

func (r *recorder) expect(t *testing.T, when string, events map[Event]int, outcomes map[core.CallOutcome]int) {
	t.Helper()
	if !maps.Equal(r.events, events) || !maps.Equal(r.outcomes, outcomes) {
		t.Errorf("%s: got events %v and outcomes %v, want %v and %v", when, r.events, r.outcomes, events, outcomes)
	}
}

func TestFailoverIsObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("first", "second")
		g.group.Members[0].Zone = "here"
		r := newRecorder()
		opts := idempotent
		opts.Zone, opts.Observer = "here", r
		p := g.proxy(t, opts)
		first := g.replica("first")

		mustCall(t, p, "get")
		r.expect(t, "a call", map[Event]int{EventAttempt: 1}, map[core.CallOutcome]int{core.CallOK: 1})

		first.set(cutOff)
		mustCall(t, p, "get")
		r.expect(t, "a retry", map[Event]int{EventAttempt: 3, EventRetry: 1, EventEjected: 1}, map[core.CallOutcome]int{core.CallOK: 2})

		first.set(takes(3 * time.Millisecond))
		pass(time.Second)
		mustCall(t, p, "get") // its look at the members starts the probe
		pass(time.Second)
		mustCall(t, p, "get")
		r.expect(t, "back", map[Event]int{EventAttempt: 5, EventRetry: 1, EventEjected: 1, EventReturned: 1},
			map[core.CallOutcome]int{core.CallOK: 4})
		if r.took != 3*time.Millisecond {
			t.Errorf("time of the call: got %v, want 3ms", r.took)
		}

		first.set(cutOff)
		callError(t, p.Call(t.Context(), "plain", nil), Unknown)
		if r.outcomes[core.CallUnknown] != 1 {
			t.Errorf("a call that was cut off: got outcomes %v, want one unknown", r.outcomes)
		}
		if len(r.groups) != 1 || r.groups[0] != "bank" {
			t.Errorf("groups asked for: got %v, want bank once", r.groups)
		}
	})
}

func TestEmptyBudgetIsObserved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		for _, replica := range g.replicas {
			replica.set(refuse)
		}
		r := newRecorder()
		p := g.proxy(t, Options{CallTimeout: time.Second, Observer: r})
		var wg sync.WaitGroup
		for range budgetReserve + 1 {
			wg.Go(func() { callError(t, p.Call(t.Context(), "plain", nil), NotExecuted) })
		}
		wg.Wait()
		if r.events[EventBudgetEmpty] == 0 || r.outcomes[core.CallNotExecuted] != budgetReserve+1 {
			t.Errorf("got events %v and outcomes %v, want an empty budget and %d calls that were not executed", r.events, r.outcomes, budgetReserve+1)
		}
		if got := r.events[EventAttempt] - r.events[EventRetry]; got != budgetReserve+1 {
			t.Errorf("first attempts: got %d, want one of each of %d calls", got, budgetReserve+1)
		}
	})
}

func TestOutcomeForObservers(t *testing.T) {
	t.Parallel()
	cut := &core.TransportError{Written: true, Err: errors.New("reset")}
	tests := []struct {
		name string
		err  error
		want core.CallOutcome
	}{
		{"none", nil, core.CallOK},
		{"exception", core.ValueError.New("x"), core.CallException},
		// The last attempt does not tell what became of those before.
		{"unknown", &CallError{Outcome: Unknown, Err: &core.TransportError{}}, core.CallUnknown},
		{"not executed", fmt.Errorf("call: %w", &CallError{Outcome: NotExecuted, Err: cut}), core.CallNotExecuted},
		{"closed", core.ErrClosed, core.CallNotExecuted},
	}
	for _, tt := range tests {
		if got := outcomeOf(tt.err); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestAllocObserver(t *testing.T) {
	p := newProxy("bank", Static(uriOf("a"), uriOf("b"), uriOf("c")), Options{Observer: silent{}},
		func(core.URI) endpoint { return instant{} })
	defer p.Close()
	for range 10 {
		p.Call(t.Context(), "plain", nil)
	}
	// Calls without a deadline get one in a context of their own; the list is renewed every two seconds.
	with := testing.AllocsPerRun(1000, func() { p.Call(t.Context(), "plain", nil) })
	q := newProxy("bank", Static(uriOf("a"), uriOf("b"), uriOf("c")), Options{}, func(core.URI) endpoint { return instant{} })
	defer q.Close()
	without := testing.AllocsPerRun(1000, func() { q.Call(t.Context(), "plain", nil) })
	if with > without {
		t.Errorf("allocations per call: got %v with an observer and %v without", with, without)
	}
}

// silent is an observer that does nothing.
type silent struct{}

func (silent) Group(string) GroupObserver   { return silent{} }
func (silent) ObserveEvent(Event)           {}
func (silent) ObserveCall(core.Observation) {}
