package failover

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// TestBatch sends batches to a replica that fails, and sees whether the other one gets them.
//
// spec: C7 C8
func TestBatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		behave  func(context.Context, string) error
		methods []string
		retried bool
		outcome Outcome // if not retried
	}{
		{"refused", refuse, []string{"plain", "put", "put"}, true, 0},
		{"draining", raise(remote(core.ConnectionClosedError, true)), []string{"plain"}, true, 0},
		{"cut off, nothing", cutOff, nil, true, 0},
		{"cut off, plain", cutOff, []string{"get", "plain"}, false, Unknown},
		{"cut off, read-only", cutOff, []string{"get", "get"}, true, 0},
		{"cut off, one idempotent", cutOff, []string{"get", "put", "get"}, true, 0},
		{"cut off, two idempotent", cutOff, []string{"put", "put"}, false, Unknown},
		{"cut off, idempotent by server", cutOff, []string{"declared", "get"}, true, 0},
		{"exception of the whole", raise(core.ValueError.New("x")), []string{"get"}, false, Executed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newFakeGroup("bad", "good")
				g.group.Members[0].Zone = "here" // which makes the bad one the first choice
				opts := idempotent
				opts.Zone = "here"
				p := g.proxy(t, opts)
				bad, good := g.replica("bad"), g.replica("good")
				bad.set(tt.behave)
				bad.declare("declared", core.ContractIdempotent)
				b := p.Batch()
				for _, method := range tt.methods {
					b.Call(method)
				}
				var got []any
				var err error
				for result, e := range b.Do(t.Context()) {
					if err = e; e == nil {
						got = append(got, result)
					}
				}
				if retried := good.count(&good.ran) == 1; retried != tt.retried || retried != (err == nil) {
					t.Fatalf("error %v, sent to the other replica: %v, want %v", err, retried, tt.retried)
				}
				want := make([]any, len(tt.methods))
				for i := range want {
					want[i] = "good"
				}
				if err == nil && !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				if outcome := OutcomeOf(err); err != nil && outcome != tt.outcome {
					t.Errorf("outcome of %v: got %v, want %v", err, outcome, tt.outcome)
				}
			})
		})
	}
}
