package traffic

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	good    = Result{Fate: ledger.Acked}
	refused = Result{Fate: ledger.NotExecuted, Error: "refused"}
)

// work returns one kind of call that does f.
func work(name string, f func(ctx context.Context) Result) []Work {
	return []Work{{Name: name, Weight: 1, Call: func(ctx context.Context, _ ledger.ID) Result { return f(ctx) }}}
}

// pause waits in virtual time, or until ctx ends.
func pause(ctx context.Context, d time.Duration) Result {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return good
	case <-ctx.Done():
		return Result{Fate: ledger.Unknown, Error: "canceled"}
	}
}

// takes returns the works of a servant with that service time.
func takes(d time.Duration) []Work {
	return work("call", func(ctx context.Context) Result { return pause(ctx, d) })
}

// names are the names of works.
func names(works []Work) []string {
	var s []string
	for _, w := range works {
		s = append(s, w.Name)
	}
	return s
}

// measure runs a load, which has to end well, and returns what was recorded.
func measure(t *testing.T, load Load, works []Work, opts RecorderOptions) (Summary, Record) {
	t.Helper()
	opts.Works = names(works)
	rec := NewRecorder(opts)
	s, err := Run(t.Context(), load, works, rec, nil)
	if err != nil {
		t.Fatalf("Run(%+v) = %v", load, err)
	}
	return s, rec.Record()
}

// near reports whether got is want, but for what a histogram rounds.
func near(got int64, want time.Duration) bool {
	return (time.Duration(got) - want).Abs() <= want/500+time.Microsecond
}
