package report

import (
	"bytes"
	"strings"
	"testing"
)

func find(t testing.TB, d []Difference, phase, figure string) Difference {
	t.Helper()
	for _, v := range d {
		if v.Phase == phase && v.Figure == figure {
			return v
		}
	}
	t.Fatalf("no %s of phase %q in %+v", figure, phase, d)
	return Difference{}
}

func compare(t testing.TB, a, b *Report) []Difference {
	t.Helper()
	d, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestCompareTellsApart: runs of the same thing are the same, and a fifth more latency is found, both ways.
func TestCompareTellsApart(t *testing.T) {
	t.Parallel()
	const pairs = 15
	falsely, missed := 0, 0
	for i := range uint64(pairs) {
		a, same, slower := oneStage(2*i+1, 1).report(), oneStage(2*i+2, 1).report(), oneStage(2*i+2, 1.2).report()
		for _, d := range compare(t, a, same) {
			if d.Verdict == Worse || d.Verdict == Better {
				falsely++
			}
		}
		if find(t, compare(t, a, slower), "run", "p50").Verdict != Worse {
			missed++
		}
		if find(t, compare(t, slower, a), "run", "p50").Verdict != Better {
			missed++
		}
	}
	if falsely > 1 { // of five times as many figures
		t.Errorf("%d of %d pairs of runs of the same thing had a figure that differed, want hardly any", falsely, pairs)
	}
	if missed > 2 {
		t.Errorf("a fifth more latency was missed %d times in %d pairs, both ways", missed, pairs)
	}
}

func TestCompareRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, figure string
		change       func(a, b *Report)
		want         Verdict
		reason       string
	}{
		{"no failed call, and a hundred", "errors", func(a, b *Report) { b.Phases[0].Errors = map[string]int64{"x": 100} }, Worse, ""},
		{"a hundred, and none", "errors", func(a, b *Report) { a.Phases[0].Errors = map[string]int64{"x": 100} }, Better, ""},
		{"three failed calls, and four", "errors", func(a, b *Report) {
			a.Phases[0].Errors, b.Phases[0].Errors = map[string]int64{"x": 3}, map[string]int64{"x": 4}
		}, Same, ""},
		{"three failed calls, and six: by chance", "errors", func(a, b *Report) {
			a.Phases[0].Errors, b.Phases[0].Errors = map[string]int64{"x": 3}, map[string]int64{"x": 6}
		}, Same, ""},
		{"a gap ten times as long", "gap", func(a, b *Report) { a.Phases[0].GapMS, b.Phases[0].GapMS = 50, 500 }, Worse, ""},
		{"a gap a little longer", "gap", func(a, b *Report) { a.Phases[0].GapMS, b.Phases[0].GapMS = 10, 90 }, Same, ""},
		{"too few intervals", "rate", func(a, b *Report) { b.Intervals = b.Intervals[:4] }, NotKnown, "B has 4 of at least 5 intervals"},
		{"no good call", "gap", func(a, b *Report) {
			a.Phases[0].Counts = Counts{Errors: map[string]int64{"x": 3}}
		}, NotKnown, "there is no good call in A"},
		{"no call ended any more", "rate", func(a, b *Report) {
			b.Phases[0].Counts, b.Phases[0].Rate = Counts{}, 0
		}, Worse, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := oneStage(1, 1).report(), oneStage(2, 1).report()
			test.change(a, b)
			if got := find(t, compare(t, a, b), "run", test.figure); got.Verdict != test.want || got.Reason != test.reason {
				t.Errorf("got %+v, want %q, %q", got, test.want, test.reason)
			}
		})
	}
}

func TestCompareLedgers(t *testing.T) {
	t.Parallel()
	a, b := oneStage(1, 1).report(), oneStage(2, 1).report()
	a.Ledger, b.Ledger = &Ledger{Complete: true}, &Ledger{Complete: true}
	b.Ledger.Twice = 1
	if got := find(t, compare(t, a, b), "", "twice"); got.Verdict != Worse {
		t.Errorf("one call that ran twice: got %+v, want %q", got, Worse)
	}
	b.Ledger.Complete = false
	for reason, ledger := range map[string]*Ledger{"the ledger was not read to its end in B": b.Ledger, "there is no ledger in B": nil} {
		b.Ledger = ledger
		if got := find(t, compare(t, a, b), "", "twice"); got.Verdict != NotKnown || got.Reason != reason {
			t.Errorf("got %+v, want %q, %q", got, NotKnown, reason)
		}
		var text bytes.Buffer
		line := "not judged, as " + reason + ": (whole run) twice, (whole run) lost, (whole run) phantom.\n"
		if err := WriteComparison(&text, a, b, compare(t, a, b)); err != nil || !strings.Contains(text.String(), line) {
			t.Errorf("got %v, %q; want a line %q", err, text.String(), line)
		}
	}
}

func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(r *Report)
		want   string
	}{
		{"callers", func(r *Report) { r.Load.Callers++ }, "load"},
		{"works", func(r *Report) { r.Load.Works = []string{"other"} }, "load"},
		{"length", func(r *Report) { r.Load.DurationS++ }, "load"},
		{"target", func(r *Report) { r.Target.Kind = "object" }, "kind of target"},
		{"proxy", func(r *Report) { r.Target.Proxied = !r.Target.Proxied }, "proxy in front"},
		{"faults", func(r *Report) { r.Faults = append(r.Faults, Fault{Spec: "reset:replica@1s"}) }, "faults"},
		{"schema", func(r *Report) { r.Schema = "other/9" }, "schema"},
	} {
		a, b := oneStage(1, 1).report(), oneStage(2, 1).report()
		test.change(b)
		if _, err := Compare(a, b); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", test.name, err, test.want)
		}
	}
}

func TestComparePhaseOfOne(t *testing.T) {
	t.Parallel()
	a, b := short(1).report(), short(2).report()
	b.Phases[2].Name = "after something else"
	d := compare(t, a, b)
	for _, name := range []string{"after kill:replica", "after something else"} {
		if got := find(t, d, name, "rate"); got.Verdict != OnlyOne {
			t.Errorf("%s: got %+v, want %q", name, got, OnlyOne)
		}
	}
	var text bytes.Buffer
	if err := WriteComparison(&text, a, b, d); err != nil || !strings.Contains(text.String(), "only one") {
		t.Errorf("got %v, %q", err, text.String())
	}
	if AnyWorse(d) {
		t.Errorf("worse: %+v", d)
	}
}
