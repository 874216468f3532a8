package report

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// twoGenerators are runs against one target at the same time.
func twoGenerators() (a, b *Report) {
	a, b = short(1).report(), short(2).report()
	a.Run, b.Run = "000000000000000a", "000000000000000b"
	b.Started = a.Started.Add(20 * time.Millisecond)
	a.Ledger, b.Ledger = &Ledger{Complete: true}, &Ledger{Complete: true}
	a.Ledger.Calls, b.Ledger.Calls, b.Ledger.Twice = 100, 50, 2
	return a, b
}

// short is a run with a fault and failed calls.
func short(seed uint64) simulation {
	return simulation{
		seed: seed, rate: 200, interval: 0.5,
		stages: []stage{{name: "before", length: 5}, {name: "during kill:replica", length: 3, failing: 0.1}, {name: "after kill:replica", length: 4}},
		faults: []Fault{{Spec: "kill:replica@5s+2s", Round: 1, Targets: []string{"replica2"}, At: 5, Healed: 7}},
	}
}

// TestMerge: what is added is exact, and quantiles are those of all calls.
func TestMerge(t *testing.T) {
	t.Parallel()
	a, b := twoGenerators()
	sum, err := Merge(a, b)
	if err != nil {
		t.Fatal(err)
	}
	all, err := a.Total.Latency.Decode()
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.Total.Latency.Decode()
	if err != nil {
		t.Fatal(err)
	}
	all.Merge(other)
	if got, want := sum.Total.Latency, LatencyOf(all, true); got != want {
		t.Errorf("latency: got p50 %v p99 %v of %d, want p50 %v p99 %v of %d", got.P50, got.P99, got.Count, want.P50, want.P99, want.Count)
	}
	if got, want := sum.Total.Good, a.Total.Good+b.Total.Good; got != want {
		t.Errorf("good calls: got %d, want %d", got, want)
	}
	if got, want := sum.Total.Failed(), a.Total.Failed()+b.Total.Failed(); got != want || want == 0 {
		t.Errorf("failed calls: got %d, want %d and some", got, want)
	}
	if got, want := sum.Phases[1].Rate, a.Phases[1].Rate+b.Phases[1].Rate; got != want {
		t.Errorf("rate of a phase: got %v, want %v", got, want)
	}
	if got, want := sum.Total.GapMS, max(a.Total.GapMS, b.Total.GapMS); got != want {
		t.Errorf("longest gap: got %v, want %v", got, want)
	}
	var intervals int64
	for _, i := range sum.Intervals {
		intervals += i.Good
	}
	if intervals != sum.Total.Good {
		t.Errorf("intervals have %d good calls, the sum %d", intervals, sum.Total.Good)
	}
	if l := sum.Ledger; l == nil || l.Calls != 150 || l.Twice != 2 || !l.Complete {
		t.Errorf("ledger: got %+v", l)
	}
	if sum.Load.Generators != 2 || sum.Load.Callers != a.Load.Callers+b.Load.Callers || len(sum.Faults) != len(a.Faults) {
		t.Errorf("got %d generators, %d callers, %d faults", sum.Load.Generators, sum.Load.Callers, len(sum.Faults))
	}
	var file, text bytes.Buffer
	if err := sum.Write(&file); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(&file); err != nil {
		t.Errorf("the sum cannot be read back: %v", err)
	}
	if err := sum.WriteText(&text); err != nil {
		t.Error(err)
	}
}

// TestMergeLeavesItsReports: the reports are still what they were.
func TestMergeLeavesItsReports(t *testing.T) {
	t.Parallel()
	a, b := twoGenerators()
	var before, after bytes.Buffer
	if err := a.Write(&before); err != nil {
		t.Fatal(err)
	}
	if _, err := Merge(a, b); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(&after); err != nil || !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Errorf("the first report changed (%v)", err)
	}
}

func TestMergeIncompleteLedger(t *testing.T) {
	t.Parallel()
	a, b := twoGenerators()
	b.Ledger.Complete = false
	sum, err := Merge(a, b)
	if err != nil || sum.Ledger == nil || sum.Ledger.Complete {
		t.Errorf("one incomplete ledger: got %+v, %v, want that the sum is not complete either", sum.Ledger, err)
	}
	b.Ledger = nil
	if sum, err = Merge(a, b); err != nil || sum.Ledger != nil || !strings.Contains(strings.Join(sum.Problems, ";"), "no ledger") {
		t.Errorf("one ledger of two: got %+v, %v, %q, want none, and why", sum.Ledger, err, sum.Problems)
	}
}

func TestMergeRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(r *Report)
		want   string
	}{
		{"the same run", func(r *Report) { r.Run = "000000000000000a" }, "given twice"},
		{"another target", func(r *Report) { r.Target.Name = "other" }, "target is"},
		{"other works", func(r *Report) { r.Load.Works = []string{"other"} }, "works is"},
		{"another contract", func(r *Report) { r.Load.Contract = "read-only" }, "contract is"},
		{"other phases", func(r *Report) { r.Phases[1].Name = "during something else" }, "phases is"},
		{"another time", func(r *Report) { r.Started = r.Started.Add(time.Hour) }, "same time"},
		{"no histogram", func(r *Report) { r.Total.Latency.Histogram = "" }, "histogram"},
	} {
		a, b := twoGenerators()
		test.change(b)
		if _, err := Merge(a, b); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", test.name, err, test.want)
		}
	}
	if _, err := Merge(); err == nil {
		t.Error("nothing to merge: got no error")
	}
}
