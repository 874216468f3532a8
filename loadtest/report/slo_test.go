package report

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// judged is a report with a value for each figure; those of "before" are better than those of "during kill:leader".
func judged() *Report {
	phase := func(name string, factor float64, failed int64) Phase {
		return Phase{Name: name, Rate: 5000 / factor, Counts: Counts{
			Good: 10_000 - failed, Errors: map[string]int64{"timed out": failed}, GapMS: 1.005 * factor,
			Latency: Latency{
				Count: 10_000 - failed, P50: 100 * factor, P90: 200 * factor, P99: 300 * factor, P999: 400 * factor, P9999: 500 * factor, Max: 600 * factor,
			},
		}}
	}
	return &Report{
		Total:  phase("", 1, 7),
		Phases: []Phase{phase("before", 1, 0), phase("during kill:leader", 4, 5), phase("during pause:a,b", 2, 9)},
		Ledger: &Ledger{Complete: true, Verdict: ledger.Verdict{Twice: 1, Lost: 2, Phantom: 3}},
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slo, got string
		ok       bool
	}{
		{"p50<101us", "100 µs", true},
		{"p50<100us", "100 µs", false},
		{"p50<=100us", "100 µs", true},
		{"p50<=99.999us", "100 µs", false},
		{"p50=100us", "100 µs", true},
		{"p50=100.001us", "100 µs", false},
		{"p50>=100us", "100 µs", true},
		{"p50>=100.001us", "100 µs", false},
		{"p50>100us", "100 µs", false},
		{"p50>99.999us", "100 µs", true},
		{"p90<=0.2ms", "200 µs", true},
		{"p90<0.2ms", "200 µs", false},
		{"p99<=300us", "300 µs", true},
		{"p99<300us", "300 µs", false},
		{"p99.9<=400us", "400 µs", true},
		{"p99.9<400us", "400 µs", false},
		{"p99.99<=500us", "500 µs", true},
		{"p99.99<500us", "500 µs", false},
		{"max<=600us", "600 µs", true},
		{"max<600us", "600 µs", false},
		{"gap=1.005ms", "1.00 ms", true},
		{"gap>=1.005ms", "1.00 ms", true},
		{"gap<1.005ms", "1.00 ms", false},
		{"errors=7", "7", true},
		{"errors<7", "7", false},
		{"errors<8", "7", true},
		{"errors=0", "7", false},
		{"errors<=0.07%", "0.07%", true},
		{"errors<0.07%", "0.07%", false},
		{"errors=7e-2%", "0.07%", true},
		{"errors<0.0701%", "0.07%", true},
		{"errors<100%", "0.07%", true},
		{"rate>=5000", "5,000/s", true},
		{"rate>5000", "5,000/s", false},
		{"rate>4999.5/s", "5,000/s", true},
		{"twice=1", "1", true},
		{"twice=0", "1", false},
		{"lost<=2", "2", true},
		{"lost<2", "2", false},
		{"phantom>=3", "3", true},
		{"phantom=0", "3", false},
		{" p99 [before] <= 300us ", "300 µs in before", true},
		{"p99[before]<300us", "300 µs in before", false},
		{"p99[during]<1201us", "1.20 ms in during kill:leader", true},
		{"p99[during]<1200us", "1.20 ms in during kill:leader", false},
		{"p99[during]<1ms", "1.20 ms in during kill:leader", false}, // the other one has 0.6 ms
		{"p99[during pause:a,b]<1ms", "600 µs in during pause:a,b", true},
		{"rate[during]>1300", "1,250/s in during kill:leader", false},
		{"rate[during]>1200", "1,250/s in during kill:leader", true},
		{"errors[during]<6", "9 in during pause:a,b", false},
		{"errors[during]<=0.09%", "0.09% in during pause:a,b", true},
		{"errors[b]=0", "0 in before", true},
		{"p50[during]=200us", "400 µs in during kill:leader", false},
		{"p50[during]=700us", "200 µs in during pause:a,b", false},
		{"p50[after]<1s", `no phase has a name that begins so: there are "before", "during kill:leader", "during pause:a,b"`, false},
		{"p50[Before]<1s", `no phase has a name that begins so: there are "before", "during kill:leader", "during pause:a,b"`, false},
	} {
		slo, err := ParseSLO(c.slo)
		if err != nil {
			t.Errorf("ParseSLO(%q): %v", c.slo, err)
			continue
		}
		want := []Check{{Want: strings.TrimSpace(c.slo), Got: c.got, OK: c.ok}}
		if got := slo.Judge(judged()); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", c.slo, got, want)
		}
	}
}

// Shares are compared as they are written, whatever the float64 of a hundredth of them is.
func TestJudgeShareAtItsLimit(t *testing.T) {
	t.Parallel()
	for failed := range int64(1000) {
		r := &Report{Total: Phase{Counts: Counts{Good: 100_000 - failed, Errors: map[string]int64{"x": failed}}}}
		limit := fmt.Sprintf("0.%03d%%", failed)
		slo := mustParse(t, "errors<="+limit+",errors<"+limit+",errors="+limit)
		if c := slo.Judge(r); !c[0].OK || c[1].OK || !c[2].OK {
			t.Errorf("%d of 100,000 calls failed: got %+v, want <= and = to hold, and < not to", failed, c)
		}
	}
}

func TestJudgeWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	failing := Phase{Name: "run 2", Counts: Counts{Errors: map[string]int64{"timed out": 3}}}
	good := judged().Phases[0]
	good.Name = "run 1"
	for _, c := range []struct {
		name, slo, got string
		report         Report
	}{
		{"a time without calls", "p99<1h", "no call ended", Report{}},
		{"a time that may be long", "max>=0s", "no call ended", Report{}},
		{"gap without calls", "gap<1h", "no call ended", Report{}},
		{"no errors as there are no calls", "errors=0", "no call ended", Report{}},
		{"a share of nothing", "errors<=100%", "no call ended", Report{}},
		{"a time of failed calls", "p50<1h", "no good call", Report{Total: failing}},
		{"gap of failed calls", "gap<1h", "no good call", Report{Total: failing}},
		{"one phase of two, the last", "p99[run]<1h", "no good call in run 2", Report{Phases: []Phase{good, failing}}},
		{"one phase of two, the first", "p99[run]<1h", "no good call in run 2", Report{Phases: []Phase{failing, good}}},
		{"no phase", "p99[before]<1h", "no phase has a name that begins so: there are none", Report{}},
		{"no ledger", "lost=0", "no ledger", Report{}},
		{"a ledger that is not complete", "lost=0", "0, but not every ledger could be read to its end", Report{Ledger: &Ledger{}}},
	} {
		want := []Check{{Want: c.slo, Got: c.got}}
		if got := mustParse(t, c.slo).Judge(&c.report); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, want)
		}
	}
}

func mustParse(t *testing.T, s string) SLO {
	t.Helper()
	slo, err := ParseSLO(s)
	if err != nil {
		t.Fatal(err)
	}
	return slo
}

func TestParseSLOKeepsTheOrder(t *testing.T) {
	t.Parallel()
	slo := mustParse(t, "p99[during a,b]<5ms, errors<0.01% ,twice=0")
	var texts []string
	for _, c := range slo {
		texts = append(texts, c.String())
	}
	if want := []string{"p99[during a,b]<5ms", "errors<0.01%", "twice=0"}; !reflect.DeepEqual(texts, want) {
		t.Errorf("got %q, want %q", texts, want)
	}
	for s, want := range map[string]string{"p99<1s,errors=0": "", "p99<1s,lost=0,twice=0": "lost", "phantom=0": "phantom"} {
		if name, needs := mustParse(t, s).NeedsLedger(); name != want || needs != (want != "") {
			t.Errorf("NeedsLedger of %q: got %q, %v, want %q", s, name, needs, want)
		}
	}
}

func TestParseSLORefuses(t *testing.T) {
	t.Parallel()
	const (
		names      = "there are p50, p90, p99, p99.9, p99.99, max, gap, errors, rate, twice, lost, phantom"
		aTime      = " is a time: write it like 5ms or 1.5s"
		comparison = "there is no comparison: write <, <=, =, >= or > and a value, such as p99<5ms"
		brackets   = "write the beginning of a phase's name in brackets, such as p99[before]<1ms"
		calls      = "errors is a number of calls or a share of them: write it like 10 or 0.01%"
		perSecond  = "rate is in calls per second: write it like 5000"
		number     = "lost is a number of calls: write it like 0"
	)
	for in, want := range map[string]string{
		"":               `SLO has "": there is no "": ` + names,
		"p99<5ms,":       `SLO has "": there is no "": ` + names,
		"p98<5ms":        `SLO has "p98<5ms": there is no "p98": ` + names,
		"P99<5ms":        `SLO has "P99<5ms": there is no "P99": ` + names,
		"<5ms":           `SLO has "<5ms": there is no "": ` + names,
		"p\n99<5ms":      `SLO has "p\n99<5ms": there is no "p\n99": ` + names,
		"p99":            `SLO has "p99": there is no comparison: write <, <=, =, >= or > and a value, such as p99<5ms`,
		"p99[a]":         `SLO has "p99[a]": ` + comparison,
		"p99[a]b]<1s":    `SLO has "p99[a]b]<1s": ` + comparison,
		"p99!=1s":        `SLO has "p99!=1s": there is no "p99!": ` + names,
		"p99[before<1s":  `SLO has "p99[before<1s": ` + brackets,
		"p99[]<1s":       `SLO has "p99[]<1s": ` + brackets,
		"lost[a\nb]=0":   `SLO has "lost[a\nb]=0": lost is counted over the whole run: leave out "[a\nb]"`,
		"p99<":           `SLO has "p99<": p99` + aTime,
		"p99<5":          `SLO has "p99<5": p99` + aTime,
		"p99<-5ms":       `SLO has "p99<-5ms": p99` + aTime,
		"p99<5%":         `SLO has "p99<5%": p99` + aTime,
		"p99==5ms":       `SLO has "p99==5ms": p99` + aTime,
		"p99=<5ms":       `SLO has "p99=<5ms": p99` + aTime,
		"gap<9999999h":   `SLO has "gap<9999999h": gap` + aTime,
		"errors<1.5":     `SLO has "errors<1.5": ` + calls,
		"errors<-1":      `SLO has "errors<-1": ` + calls,
		"errors<100.1%":  `SLO has "errors<100.1%": ` + calls,
		"errors<-1%":     `SLO has "errors<-1%": ` + calls,
		"errors<NaN%":    `SLO has "errors<NaN%": ` + calls,
		"errors<%":       `SLO has "errors<%": ` + calls,
		"errors<1ms":     `SLO has "errors<1ms": ` + calls,
		"rate>5%":        `SLO has "rate>5%": ` + perSecond,
		"rate>Inf":       `SLO has "rate>Inf": ` + perSecond,
		"rate>5k":        `SLO has "rate>5k": ` + perSecond,
		"rate>-5":        `SLO has "rate>-5": ` + perSecond,
		"lost=0%":        `SLO has "lost=0%": ` + number,
		"lost=0.5":       `SLO has "lost=0.5": ` + number,
		"lost=1e999":     `SLO has "lost=1e999": ` + number,
		"p99<1s,lost=no": `SLO has "lost=no": ` + number,
	} {
		slo, err := ParseSLO(in)
		if err == nil || err.Error() != want || slo != nil {
			t.Errorf("ParseSLO(%q): got %v, %v, want %s", in, slo, err, want)
		}
	}
}

func FuzzParseSLO(f *testing.F) {
	for _, s := range []string{
		"p99<5ms,errors<0.01%,twice=0,lost=0", "p99[before]<1ms", "gap[during a,b]<1s", "rate>=5e3/s", "errors<5e-324%", "lost[a]=0", "p99[", ",", "max>1h]",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		slo, err := ParseSLO(s)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("ParseSLO(%q): an error of several lines: %q", s, err)
			}
			return
		}
		var texts []string
		for _, c := range slo {
			if !(c.limit >= 0) || math.IsInf(c.limit, 0) || c.share && c.limit > 1 {
				t.Fatalf("%q: the limit of %q is %v", s, c, c.limit)
			}
			texts = append(texts, c.String())
		}
		again, err := ParseSLO(strings.Join(texts, ","))
		if err != nil || !reflect.DeepEqual(again, slo) {
			t.Fatalf("%q: parsed again: %v, %v, want %v", s, again, err, slo)
		}
		checks := slo.Judge(judged())
		if len(checks) != len(slo) {
			t.Fatalf("%q: got %d checks of %d conditions", s, len(checks), len(slo))
		}
		for _, c := range slo.Judge(new(Report)) {
			if c.OK && !strings.HasPrefix(c.Want, "rate") {
				t.Fatalf("%q holds in a run in which nothing was: %+v", s, c)
			}
		}
	})
}
