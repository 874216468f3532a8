package report

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// update makes the golden files from what is written now: look at the difference before it is committed.
var update = flag.Bool("update", false, "write the golden files in testdata")

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file) //nolint:gosec // ours
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(go test -run %s -args -update accepts it)", name, got, want, t.Name())
	}
}

func text(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatalf("WriteText: %v", err)
	}
	return b.String()
}

func TestWriteTextGolden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"full", "quiet", "nothing"} {
		checkGolden(t, name+".txt", text(t, samples(t)[name]))
	}
}

func TestWriteTextFitsATerminal(t *testing.T) {
	t.Parallel()
	reports := samples(t)
	long := fullSample(t)
	for i := range long.Phases {
		long.Phases[i].Name += strings.Repeat(" and kill:leader", 20)
		long.Phases[i].Rate, long.Phases[i].To = 1_234_567, long.Phases[i].From+86_400
	}
	long.Faults[0].Targets = strings.Split(strings.Repeat("replica ", 50), " ")
	long.Faults[0].Spec = strings.Repeat("kill:replica,", 30)
	long.Problems = []string{strings.Repeat("the rate was not kept ", 30)}
	long.Baselines[0].Name = strings.Repeat("x", 200)
	reports["long names"] = long
	for name, r := range reports {
		for line := range strings.Lines(text(t, r)) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > lineWidth {
				t.Errorf("%s: a line of %d columns, want %d at most: %q", name, n, lineWidth, line)
			}
			if strings.HasSuffix(line, " \n") {
				t.Errorf("%s: a line ends in a blank: %q", name, line)
			}
		}
	}
}

func TestWriteTextLeavesOut(t *testing.T) {
	t.Parallel()
	r := samples(t)["nothing"]
	got := text(t, r)
	for _, word := range []string{"fault", "ledger", "failed     ", "baseline", "SLO", "problem  ", "work", "NaN", "Inf", "total"} {
		if strings.Contains(got, word) {
			t.Errorf("nothing ran, and the text has %q:\n%s", word, got)
		}
	}
	if got := text(t, new(Report)); !strings.Contains(got, "\ntotal") {
		t.Errorf("the zero Report has no line of the total:\n%s", got)
	}
}

func TestWriteTextWarns(t *testing.T) {
	t.Parallel()
	r := fullSample(t)
	r.Generator.Kept, r.Generator.Unsent = false, 1234
	r.Target.Proxied, r.Load.Generators, r.Faults[1].Round = true, 2, 3
	r.Ledger.Complete, r.Ledger.OnewayLost, r.Ledger.Strangers = false, 5, 6
	r.Ledger.Examples = []string{"call 17 ran twice"}
	got := strings.Join(strings.Fields(text(t, r)), " ")
	for _, want := range []string{
		"RATE NOT KEPT: ", "1,234 never", "behind a proxy that can break links and costs time", "; 2 generators", "pause:leader@35s+3s (round 3)",
		"5 oneway calls never ran", "6 ids that no caller used", "NOT COMPLETE: a ledger could not be read to its end", " call 17 ran twice ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the text has no %q:\n%s", want, got)
		}
	}
}

func TestWriteTextIsSafeForTerminals(t *testing.T) {
	t.Parallel()
	r := fullSample(t)
	const evil = "\x1b[2J\a\n\u202e"
	setTexts(r, evil)
	got := text(t, r)
	if strings.ContainsAny(got, "\x1b\a\u202e") {
		t.Errorf("control characters got through: %q", got)
	}
	if !strings.Contains(got, "\ufffd[2J") {
		t.Errorf("the names are not there at all: %q", got)
	}
	setTexts(r, strings.Repeat("x", utf8.RuneCountInString(evil)))
	if want := strings.Count(text(t, r), "\n"); strings.Count(got, "\n") != want {
		t.Errorf("a line end in names made %d lines of %d:\n%s", strings.Count(got, "\n"), want, got)
	}
}

func TestHeadline(t *testing.T) {
	t.Parallel()
	good, missed := Check{OK: true}, Check{}
	for _, c := range []struct {
		report Report
		want   string
	}{
		{Report{OK: true}, "done: no SLO was given"},
		{Report{OK: true, SLO: []Check{good}}, "ok: the condition of the SLO holds"},
		{Report{OK: true, SLO: []Check{good, good}}, "ok: all 2 conditions of the SLO hold"},
		{Report{SLO: []Check{good, missed}}, "MISSED: 1 of 2 conditions of the SLO do not hold"},
		{Report{SLO: []Check{good}}, "FAILED: the run has a problem that spoils it"},
		{Report{}, "FAILED: the run has a problem that spoils it"},
	} {
		if got := c.report.headline(); got != c.want {
			t.Errorf("OK %v, SLO %v: got %q, want %q", c.report.OK, c.report.SLO, got, c.want)
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{formatMicros(0), "0 s"},
		{formatMicros(0.15), "150 ns"},
		{formatMicros(9.994), "9.99 µs"},
		{formatMicros(9.996), "10.0 µs"},
		{formatMicros(999.4), "999 µs"},
		{formatMicros(999.6), "1.00 ms"},
		{formatMicros(999_600), "1.00 s"},
		{formatMicros(3.6e9), "3,600 s"},
		{formatShare(0), "0%"},
		{formatShare(1e-7), "<0.0001%"},
		{formatShare(2e-6), "0.0002%"},
		{formatShare(1), "100%"},
		{formatInt(-1234567), "-1,234,567"},
		{formatInt(999), "999"},
		{formatNumber(1234), "1,234"},
		{formatNumber(0.5), "0.50"},
		{formatRatio(0), "-"},
		{formatRatio(0.4), "0.40×"},
		{shorten("äöü", 3), "äöü"},
		{shorten("äöüß", 3), "äö…"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// failingWriter takes nothing.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

func TestWritersPassErrorsOn(t *testing.T) {
	t.Parallel()
	r, full := fullSample(t), errors.New("the disk is full")
	w := failingWriter{full}
	for name, err := range map[string]error{"text": r.WriteText(w), "CSV": r.WriteCSV(w), "HTML": r.WriteHTML(w), "JSON": r.Write(w)} {
		if !errors.Is(err, full) {
			t.Errorf("%s: got %v, want %v", name, err, full)
		}
	}
}
