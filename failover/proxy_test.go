package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// elapsed returns how long f takes, in the bubble's time.
func elapsed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// mustCall makes a call that must not fail.
func mustCall(t *testing.T, p *Proxy, method string) (replica string) {
	t.Helper()
	if err := p.Call(t.Context(), method, &replica); err != nil {
		t.Errorf("Call(%s): %v", method, err)
	}
	return replica
}

// callError checks that err is a CallError with that outcome.
func callError(t *testing.T, err error, want Outcome) *CallError {
	t.Helper()
	e, ok := errors.AsType[*CallError](err)
	if !ok || e.Outcome != want || OutcomeOf(err) != want {
		t.Errorf("error: got %v (%T), want a CallError with outcome %v", err, err, want)
	}
	return cmp.Or(e, &CallError{})
}

var idempotent = Options{Contracts: map[string]core.Contract{"get": core.ContractReadOnly, "put": core.ContractIdempotent}}

// What one replica does, and whether the call is sent to the other one.
//
// spec: C8
func TestRetryByOutcomeAndContract(t *testing.T) {
	t.Parallel()
	overdrawn := core.ValueError.New("overdrawn")
	tests := []struct {
		name     string
		behave   func(context.Context, string) error
		method   string
		declared core.Contract // by the server
		retried  bool
		outcome  Outcome // if not retried
	}{
		{"refused, plain", refuse, "plain", core.ContractPlain, true, 0},
		{"refused, idempotent", refuse, "put", core.ContractPlain, true, 0},
		{"draining, plain", raise(remote(core.ConnectionClosedError, true)), "plain", core.ContractPlain, true, 0},
		{"object gone, plain", raise(remote(core.DaemonError, true)), "plain", core.ContractPlain, true, 0},
		{"cut off, plain", cutOff, "plain", core.ContractPlain, false, Unknown},
		{"cut off, idempotent by options", cutOff, "put", core.ContractPlain, true, 0},
		{"cut off, read-only by options", cutOff, "get", core.ContractPlain, true, 0},
		{"cut off, idempotent by server", cutOff, "plain", core.ContractIdempotent, true, 0},
		{"hanging, read-only by server", hang, "plain", core.ContractReadOnly, true, 0},
		{"hanging, plain", hang, "plain", core.ContractPlain, false, Unknown},
		{"half open, plain", halfOpen, "plain", core.ContractPlain, true, 0},
		{"lost a friend, plain", raise(remote(core.ConnectionClosedError, false)), "plain", core.ContractPlain, false, Unknown},
		{"lost a friend, idempotent", raise(remote(core.ConnectionClosedError, false)), "put", core.ContractPlain, true, 0},
		{"exception", raise(overdrawn), "put", core.ContractPlain, false, Executed},
		{"no such member", raise(local(false, core.AttributeError.New("no x"))), "put", core.ContractPlain, false, NotExecuted},
		{"bad argument", raise(local(false, errors.New("cannot serialize"))), "put", core.ContractPlain, false, NotExecuted},
		{"bad variable", raise(local(true, errors.New("want int"))), "put", core.ContractPlain, false, Executed},
		{"another's error", raise(context.DeadlineExceeded), "put", core.ContractPlain, false, Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newFakeGroup("bad", "good")
				// The zone makes the bad one the first choice.
				g.group.Members[0].Zone = "here"
				opts := idempotent
				opts.Zone = "here"
				p := g.proxy(t, opts)
				bad, good := g.replica("bad"), g.replica("good")
				bad.set(tt.behave)
				bad.declare("plain", tt.declared)
				err := p.Call(t.Context(), tt.method, nil)
				if got := good.count(&good.ran) == 1; got != tt.retried || got != (err == nil) {
					t.Fatalf("error %v, sent to the other replica: %v, want %v", err, got, tt.retried)
				}
				if got := OutcomeOf(err); err != nil && got != tt.outcome {
					t.Errorf("outcome of %v: got %v, want %v", err, got, tt.outcome)
				}
			})
		})
	}
}

// A replica that surely did not run the call says nothing about the one before.
func TestEarlierAttemptMayHaveRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		err   error
		first func(context.Context, string) error
		want  Outcome
	}{
		{"no such member", local(false, core.AttributeError.New("no x")), cutOff, Unknown},
		{"no such member, server says", remote(core.AttributeError, true), cutOff, Unknown},
		{"no such member, not executed before", local(false, core.AttributeError.New("no x")), refuse, NotExecuted},
		{"answered", core.AttributeError.New("no x"), cutOff, Executed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newFakeGroup("old", "new")
				g.group.Members[0].Zone = "here"
				opts := idempotent
				opts.Zone = "here"
				p := g.proxy(t, opts)
				g.replica("old").set(tt.first)
				g.replica("new").set(raise(tt.err))
				err := p.Call(t.Context(), "put", nil)
				if got := OutcomeOf(err); got != tt.want || !errors.Is(err, core.AttributeError) {
					t.Errorf("got %v: %v, want %v: %v", got, err, tt.want, tt.err)
				}
			})
		})
	}
}

// spec: C8 C3
func TestAttributesAreRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{})
		g.replica("a").set(cutOff)
		for range 20 {
			var from string
			if err := p.Attr(t.Context(), "balance", &from); err != nil || from != "b" {
				t.Fatalf("Attr: got %q, %v, want b", from, err)
			}
			if err := p.SetAttr(t.Context(), "balance", 3); err != nil {
				t.Fatalf("SetAttr: %v", err)
			}
			pass(time.Second) // a is probed and back
		}
		if a := g.replica("a"); a.count(&a.calls) == 0 {
			t.Error("the bad replica was never called: nothing was tested")
		}
	})
}

// What is encoded goes to the next replica as it is.
func TestInvocationsAreRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, idempotent)
		a, b := g.replica("a"), g.replica("b")
		a.set(cutOff)
		for range 20 {
			v := core.NewInvocation("get")
			if err := p.Invoke(t.Context(), v); err != nil {
				t.Fatalf("Invoke: %v", err)
			}
			v.Free()
			pass(time.Second) // a is probed and back
		}
		if a.count(&a.calls) == 0 || b.count(&b.ran) != 20 {
			t.Errorf("got %d calls of the bad replica and %d that the good one ran, want some and 20", a.count(&a.calls), b.count(&b.ran))
		}
	})
}

// spec: C6
func TestOneway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, idempotent)
		a, b := g.replica("a"), g.replica("b")
		a.set(refuse)
		for range 20 {
			if err := p.CallOneway(t.Context(), "plain"); err != nil {
				t.Fatal(err)
			}
			pass(time.Second) // a is probed
		}
		if a.count(&a.connects) == 0 || b.count(&b.ran) != 20 {
			t.Errorf("got %d connects of the bad replica and %d calls that the good one ran, want some and 20", a.count(&a.connects), b.count(&b.ran))
		}
		a.set(cutOff)
		b.set(cutOff)
		callError(t, p.CallOneway(t.Context(), "plain"), Unknown)
	})
}

func TestSilentReplicaCostsOneAttemptTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		opts := idempotent
		opts.AttemptTimeout = 200 * time.Millisecond
		p := g.proxy(t, opts)
		a := g.replica("a")
		a.set(hang)
		var longest, total time.Duration
		for range 100 {
			d := elapsed(func() {
				if from := mustCall(t, p, "get"); from != "b" {
					t.Fatalf("answered by %s", from)
				}
			})
			longest, total = max(longest, d), total+d
		}
		if longest != opts.AttemptTimeout || total != opts.AttemptTimeout {
			t.Errorf("longest call %v, all calls %v, want one attempt timeout, %v, in all", longest, total, opts.AttemptTimeout)
		}
		if got := a.count(&a.cancelled); got != 1 {
			t.Errorf("attempts that were cancelled: got %d, want 1", got)
		}
	})
}

func TestHalfOpenReplicaCostsOneConnectTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{ConnectTimeout: 300 * time.Millisecond})
		g.replica("a").set(halfOpen)
		d := elapsed(func() {
			for range 100 {
				mustCall(t, p, "plain")
			}
		})
		if d != 300*time.Millisecond {
			t.Errorf("100 calls: got %v, want one connect timeout", d)
		}
	})
}

// Members that take long to check who is there, as passwords do under load, let the caller in, or say that they do not.
func TestSlowHandshakeEndsAtLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{ConnectTimeout: 100 * time.Millisecond})
		var verdict error
		check := func(ctx context.Context, method string) error {
			if method != "connect" {
				return nil
			}
			select {
			case <-time.After(350 * time.Millisecond):
				return verdict
			case <-ctx.Done():
				return transport(false, ctx.Err())
			}
		}
		g.replica("a").set(check)
		g.replica("b").set(check)
		if d := elapsed(func() { mustCall(t, p, "plain") }); d > 2*time.Second {
			t.Errorf("call took %v", d)
		}

		verdict = notAdmitted
		p = g.proxy(t, Options{ConnectTimeout: 100 * time.Millisecond})
		var err error
		if d := elapsed(func() { err = p.Call(t.Context(), "plain", nil) }); d > 3*time.Second {
			t.Errorf("call took %v", d)
		}
		if !errors.Is(err, core.ErrNotAdmitted) {
			t.Errorf("got %v, want %v", err, core.ErrNotAdmitted)
		}
	})
}

func TestSlowMethodEndsAtLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		opts := idempotent
		opts.AttemptTimeout = 100 * time.Millisecond
		p := g.proxy(t, opts)
		g.replica("a").set(takes(350 * time.Millisecond))
		g.replica("b").set(takes(350 * time.Millisecond))
		if d := elapsed(func() { mustCall(t, p, "get") }); d > 2*time.Second {
			t.Errorf("call took %v", d)
		}
	})
}

func TestContextEnd(t *testing.T) {
	t.Parallel()
	shutdown := errors.New("shutting down")
	withTimeout := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, time.Second)
	}
	withCause := func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(ctx)
		stop := time.AfterFunc(time.Second, func() { cancel(shutdown) })
		return ctx, func() { stop.Stop(); cancel(nil) }
	}
	tests := []struct {
		name    string
		context func(context.Context) (context.Context, context.CancelFunc)
		behave  func(context.Context, string) error
		method  string
		want    []error
		outcome Outcome
		took    time.Duration
	}{
		{"deadline, nobody connects", withTimeout, refuse, "plain", []error{context.DeadlineExceeded}, NotExecuted, time.Second},
		{"deadline, nobody shakes hands", withTimeout, halfOpen, "plain", []error{context.DeadlineExceeded}, NotExecuted, time.Second},
		{"deadline, written", withTimeout, hang, "plain", []error{context.DeadlineExceeded}, Unknown, time.Second},
		{"deadline, read-only", withTimeout, hang, "get", []error{context.DeadlineExceeded}, Unknown, time.Second},
		{"cancelled, nobody connects", withCause, refuse, "plain", []error{context.Canceled, shutdown}, NotExecuted, time.Second},
		{"cancelled, written", withCause, hang, "plain", []error{context.Canceled, shutdown}, Unknown, time.Second},
		{"no deadline", nil, refuse, "plain", []error{context.DeadlineExceeded}, NotExecuted, 3 * time.Second},
		{"no deadline, written", nil, hang, "plain", []error{context.DeadlineExceeded}, Unknown, 3 * time.Second},
		{"no deadline, read-only", nil, hang, "get", []error{context.DeadlineExceeded}, Unknown, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newFakeGroup("a", "b", "c")
				opts := idempotent
				opts.CallTimeout = 3 * time.Second
				p := g.proxy(t, opts)
				for _, r := range g.replicas {
					r.set(tt.behave)
				}
				ctx := context.Background()
				if tt.context != nil {
					var cancel context.CancelFunc
					ctx, cancel = tt.context(ctx)
					defer cancel()
				}
				var err error
				if got := elapsed(func() { err = p.Call(ctx, tt.method, nil) }); got != tt.took {
					t.Errorf("call took %v, want %v", got, tt.took)
				}
				callError(t, err, tt.outcome)
				for _, want := range tt.want {
					if !errors.Is(err, want) {
						t.Errorf("errors.Is(%v, %v): got false", err, want)
					}
				}
			})
		})
	}
}

func TestContextThatEndedBefore(t *testing.T) {
	t.Parallel()
	for _, known := range []bool{false, true} {
		g := newFakeGroup("a")
		g.replica("a").set(func(ctx context.Context, _ string) error { return transport(false, context.Cause(ctx)) })
		p := g.proxy(t, Options{})
		if known {
			p.startFetch()
			<-waitView(p)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := p.Call(ctx, "plain", nil)
		if callError(t, err, NotExecuted); !errors.Is(err, context.Canceled) {
			t.Errorf("members known: %v: got %v, want one that is Canceled", known, err)
		}
	}
}

// waitView returns a channel that is closed once p knows its members.
func waitView(p *Proxy) <-chan struct{} {
	if f := p.startFetch(); f != nil {
		return f.done
	}
	return nil
}

// A call that was once of unknown outcome stays so, whatever the later attempts say.
func TestUnknownIsRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		opts := idempotent
		opts.CallTimeout = time.Second
		opts.Zone = "here"
		g.group.Members[0].Zone = "here"
		p := g.proxy(t, opts)
		var calls atomic.Int64
		g.replica("a").set(func(ctx context.Context, method string) error {
			switch {
			case method != "put" && calls.Load() == 0:
				return nil
			case method == "put" && calls.Add(1) == 1:
				return cutOff(ctx, method)
			}
			return refuse(ctx, method)
		})
		g.replica("b").set(refuse)
		e := callError(t, p.Call(t.Context(), "put", nil), Unknown)
		if e.Attempts < 4 || errors.Is(e, context.Canceled) {
			t.Errorf("got %v, want several attempts", e)
		}
	})
}

func TestEveryMemberOncePerRound(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d"}
		g := newFakeGroup(names...)
		p := g.proxy(t, Options{CallTimeout: 5 * time.Second, Contracts: map[string]core.Contract{"put": core.ContractIdempotent}})
		for _, r := range g.replicas {
			r.set(cutOff)
		}
		e := callError(t, p.Call(t.Context(), "put", nil), Unknown)
		log := g.called()
		if len(log) != e.Attempts || e.Attempts < 4*20 {
			t.Fatalf("attempts: the error says %d, replicas saw %d; want at least 80", e.Attempts, len(log))
		}
		for round := range slices.Chunk(log, len(names)) {
			slices.Sort(round)
			if len(round) == len(names) && !slices.Equal(round, names) {
				t.Fatalf("a round went to %v, want each of %v once", round, names)
			}
		}
	})
}

// spec: C8
func TestPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := call{p: newFakeGroup("a").proxy(t, Options{})}
		var total time.Duration
		for i := range 1000 {
			d := elapsed(func() { c.sleep(t.Context()) })
			if d < pauseBase || d > pauseMax {
				t.Fatalf("pause %d: got %v, want %v to %v", i, d, pauseBase, pauseMax)
			}
			if i == 0 && d > 2*pauseBase {
				t.Errorf("first pause: got %v, want at most %v", d, 2*pauseBase)
			}
			total += d
		}
		if mean := total / 1000; mean < pauseMax/4 {
			t.Errorf("mean pause: got %v, want it to grow towards %v", mean, pauseMax)
		}
	})
}

func TestGroupComesBackDuringACall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{})
		g.replica("a").set(refuse)
		g.replica("b").set(refuse)
		time.AfterFunc(3*time.Second, func() { g.replica("b").set(answer) })
		d := elapsed(func() { mustCall(t, p, "plain") })
		if d < 3*time.Second || d > 3*time.Second+2*pauseMax {
			t.Errorf("call took %v, want 3 s and a pause", d)
		}
	})
}

// Whom no member lets in need not wait; others have to, as long as one member may come back.
func TestNobodyAdmits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{})
		g.replica("a").set(raise(notAdmitted))
		g.replica("b").set(raise(notAdmitted))
		var err error
		if d := elapsed(func() { err = p.Call(t.Context(), "plain", nil) }); d != 0 {
			t.Errorf("call took %v", d)
		}
		if e, ok := errors.AsType[*CallError](err); !ok || e.Outcome != NotExecuted || e.Attempts != 2 || !errors.Is(err, core.ErrNotAdmitted) {
			t.Errorf("got %v", err)
		}

		g.replica("b").set(refuse)
		time.AfterFunc(3*time.Second, func() { g.replica("b").set(answer) })
		if d := elapsed(func() { mustCall(t, p, "plain") }); d < 3*time.Second {
			t.Errorf("call took %v, want 3 s and a pause", d)
		}
	})
}

func TestNewMemberServesACallUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		p := g.proxy(t, Options{Refresh: time.Hour})
		g.replica("a").set(refuse)
		time.AfterFunc(time.Second, func() {
			g.add("new")
			g.remove("a")
		})
		if from := mustCall(t, p, "plain"); from != "new" {
			t.Errorf("answered by %s, want the new member", from)
		}
	})
}

// spec: C19
func TestRefusedMemberIsEjectedAndProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{Refresh: time.Hour})
		a := g.replica("a")
		a.set(refuse)
		// A minute of a call each 10 ms: a is tried once by a call, then only probed, less and less often.
		for range 6000 {
			mustCall(t, p, "plain")
			pass(10 * time.Millisecond)
		}
		if got := a.count(&a.connects); got != 1 {
			t.Errorf("calls that tried the dead replica: got %d, want 1", got)
		}
		if got := a.count(&a.pings); got < 60/4 || got > 60 {
			t.Errorf("probes in a minute: got %d, want 15 to 60", got)
		}
		a.set(answer)
		back := elapsed(func() {
			for a.count(&a.ran) == 0 {
				mustCall(t, p, "plain")
				pass(10 * time.Millisecond)
			}
		})
		if back > ejectMax*3/2+time.Second {
			t.Errorf("member was called again after %v, want at most %v", back, ejectMax*3/2+time.Second)
		}
	})
}

// A replica that pings well and fails each call is tried less and less often.
func TestProbeAloneDoesNotHeal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		opts := idempotent
		p := g.proxy(t, opts)
		a := g.replica("a")
		a.set(cutOff)
		for range 6000 {
			mustCall(t, p, "get")
			pass(10 * time.Millisecond)
		}
		if got := a.count(&a.calls); got < 10 || got > 60 {
			t.Errorf("calls to the bad replica in a minute: got %d, want 10 to 60", got)
		}
	})
}

func TestFailuresTogetherCountOnce(t *testing.T) {
	t.Parallel()
	r := newReplica(uriOf("a"), nil)
	if first := r.fail(1); !first {
		t.Error("first failure: got false")
	}
	for range 100 {
		if r.fail(2) {
			t.Error("later failure: got true")
		}
	}
	if until := time.Duration(r.ejected.Load()); until > 2*ejectBase {
		t.Errorf("ejected for %v, want at most %v", until, 2*ejectBase)
	}
	if back := r.succeed(3, 1); !back || r.ejected.Load() != 0 {
		t.Errorf("after a success: back %v, ejected until %d", back, r.ejected.Load())
	}
	if first := r.fail(4); !first {
		t.Error("first failure after a success: got false")
	}
}

func TestAllEjectedAreUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b", "c")
		p := g.proxy(t, Options{CallTimeout: time.Second})
		for _, r := range g.replicas {
			r.set(refuse)
		}
		callError(t, p.Call(t.Context(), "plain", nil), NotExecuted)
		g.replica("c").set(answer)
		if d := elapsed(func() { mustCall(t, p, "plain") }); d > pauseMax {
			t.Errorf("first call after the outage took %v", d)
		}
	})
}

func TestCallerWhoGivesUpEjectsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{})
		for _, r := range g.replicas {
			r.set(takes(100 * time.Millisecond))
		}
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			callError(t, p.Call(ctx, "plain", nil), Unknown)
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			callError(t, p.Call(ctx, "plain", nil), Unknown)
		}
		for _, c := range p.view.Load().candidates {
			if c.ejected.Load() != 0 {
				t.Errorf("%s was ejected", c.uri)
			}
		}
	})
}

// A stopped process is noticed by calls that must not be repeated, too.
func TestSilenceEjects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b", "c")
		p := g.proxy(t, Options{CallTimeout: 2 * time.Second})
		g.replica("a").set(hang)
		g.replica("b").set(hang)
		failed := 0
		for range 100 {
			if err := p.Call(t.Context(), "plain", nil); err != nil {
				callError(t, err, Unknown)
				failed++
			}
		}
		if failed > 2 {
			t.Errorf("calls that hung: got %d, want at most one for each stopped replica", failed)
		}
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{})
		mustCall(t, p, "plain")
		g.replica("a").set(refuse)
		g.replica("b").set(refuse)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				err := p.Call(t.Context(), "plain", nil) // pausing between rounds
				if callError(t, err, NotExecuted); !errors.Is(err, core.ErrClosed) {
					t.Errorf("call under way: got %v, want ErrClosed in it", err)
				}
			})
		}
		pass(time.Second)
		if d := elapsed(func() { p.Close(); wg.Wait() }); d != 0 {
			t.Errorf("Close and the calls took %v", d)
		}
		for name, f := range map[string]func() error{
			"Call":    func() error { return p.Call(t.Context(), "plain", nil) },
			"Attr":    func() error { return p.Attr(t.Context(), "x", nil) },
			"SetAttr": func() error { return p.SetAttr(t.Context(), "x", 1) },
		} {
			if err := f(); err != core.ErrClosed {
				t.Errorf("%s after Close: got %v, want ErrClosed", name, err)
			}
		}
		if err := p.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
		for _, r := range g.replicas {
			if !r.isClosed() {
				t.Errorf("%s was not closed", r.name)
			}
		}
	})
}

func TestCloseEndsTheFirstFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		g.block = make(chan struct{})
		p := g.proxy(t, Options{})
		time.AfterFunc(time.Second, func() { p.Close() })
		if err := p.Call(t.Context(), "plain", nil); err != core.ErrClosed {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

// With a thousand calls a second and nobody to answer, retries add a fifth, the reserve and what time brings.
func TestBudgetBoundsTheLoadOfAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b", "c")
		p := g.proxy(t, Options{CallTimeout: 2 * time.Second, Refresh: time.Hour})
		for _, r := range g.replicas {
			r.set(refuse)
		}
		const calls, seconds = 2000, 2
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() { callError(t, p.Call(t.Context(), "plain", nil), NotExecuted) })
			pass(seconds * time.Second / calls)
		}
		wg.Wait()
		attempts := 0
		for _, r := range g.replicas {
			attempts += r.count(&r.connects)
		}
		if most := calls + calls/budgetShare + budgetReserve + (seconds+2)*budgetRate; attempts > most || attempts < calls {
			t.Errorf("attempts: got %d, want %d to %d", attempts, calls, most)
		}
	})
}

// A single caller whose every other call needs a retry is never held up for long, let alone refused.
func TestBudgetNeverRefusesASingleCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, idempotent)
		var n atomic.Int64
		flaky := func(ctx context.Context, method string) error {
			if method == "get" && n.Add(1)%2 == 1 {
				return cutOff(ctx, method)
			}
			return nil
		}
		g.replica("a").set(flaky)
		g.replica("b").set(flaky)
		for range 2000 {
			if d := elapsed(func() { mustCall(t, p, "get") }); d > 2*pauseMax {
				t.Fatalf("a call took %v", d)
			}
		}
	})
}

// Many callers at once, most of whom meet a dead replica first: all are served, by those that remain, without much delay.
func TestBudgetServesABurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b", "c")
		p := g.proxy(t, Options{})
		for _, name := range []string{"a", "b"} {
			g.replica(name).set(func(ctx context.Context, method string) error {
				<-time.After(time.Millisecond) // so that all are under way before the first fails
				return refuse(ctx, method)
			})
		}
		var wg sync.WaitGroup
		d := elapsed(func() {
			for range 3000 {
				wg.Go(func() { mustCall(t, p, "plain") })
			}
			wg.Wait()
		})
		if d > 2*time.Second {
			t.Errorf("the last call took %v", d)
		}
	})
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b := newBudget()
	withdraw := func(now time.Duration) (n int) {
		for b.withdraw(int64(now)) {
			n++
		}
		return n
	}
	deposit := func(n int) {
		for range n {
			b.deposit()
		}
	}
	steps := []struct {
		name string
		do   func() int
		want int
	}{
		{"reserve at the start", func() int { return withdraw(0) }, budgetReserve},
		{"a fifth of the calls", func() int { deposit(500); return withdraw(0) }, 100},
		{"a second", func() int { return withdraw(time.Second) }, budgetRate},
		{"an hour", func() int { return withdraw(time.Hour) }, budgetReserve},
		{"many calls", func() int { deposit(1e6); return withdraw(time.Hour) }, budgetMax},
		{"refund", func() int { b.refund(7); return withdraw(time.Hour) }, 7},
		{"time goes back", func() int { return withdraw(time.Minute) }, 0},
	}
	for _, s := range steps {
		if got := s.do(); got != s.want {
			t.Errorf("%s: tokens: got %d, want %d", s.name, got, s.want)
		}
	}
}

func TestConcurrentCallsUnderChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b", "c")
		p := g.proxy(t, Options{Refresh: 10 * time.Millisecond})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 200 {
					mustCall(t, p, "plain")
					pass(time.Millisecond)
				}
			})
		}
		wg.Go(func() {
			for i := range 20 {
				name := fmt.Sprint("m", i)
				g.add(name).set(takes(3 * time.Millisecond))
				pass(7 * time.Millisecond)
				g.remove(name)
			}
		})
		wg.Wait()
		pass(time.Second)
		mustCall(t, p, "plain")
		synctest.Wait()
		mustCall(t, p, "plain")
		for _, r := range g.replicas {
			if r.name[0] == 'm' && r.count(&r.connects) > 0 && !r.isClosed() {
				t.Errorf("%s left the group and was not closed", r.name)
			}
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.retired) != 0 {
			t.Errorf("%d replicas are kept without calls", len(p.retired))
		}
	})
}

// A server that comes back may be another version, with other contracts.
func TestContractsAreReadAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		p := g.proxy(t, Options{CallTimeout: time.Second})
		a := g.replica("a")
		a.declare("pay", core.ContractIdempotent)
		mustCall(t, p, "pay")
		a.set(refuse)
		callError(t, p.Call(t.Context(), "pay", nil), NotExecuted)
		a.declare("pay", core.ContractPlain)
		a.set(cutOff)
		before := a.count(&a.calls)
		callError(t, p.Call(t.Context(), "pay", nil), Unknown)
		if got := a.count(&a.calls) - before; got != 1 {
			t.Errorf("a plain method of unknown outcome was called %d times", got)
		}
	})
}
