package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

func html(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatalf("WriteHTML: %v", err)
	}
	return b.String()
}

// setTexts sets every text in a report, the kinds of errors among them.
func setTexts(r *Report, text string) {
	schema, mode := r.Schema, r.Load.Mode
	if r.Ledger != nil {
		r.Ledger.Examples = []string{"replaced"}
	}
	setTextsOf(reflect.ValueOf(r).Elem(), text)
	r.Schema, r.Load.Mode = schema, mode
}

func setTextsOf(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		if !v.IsNil() {
			setTextsOf(v.Elem(), text)
		}
	case reflect.Slice:
		for i := range v.Len() {
			setTextsOf(v.Index(i), text)
		}
	case reflect.Map:
		var n int64
		for _, k := range v.Seq2() {
			n += k.Int()
		}
		v.Set(reflect.ValueOf(map[string]int64{text: n}))
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Histogram" {
				setTextsOf(v.Field(i), text)
			}
		}
	}
}

const (
	dataBegins   = `<script type="application/json" id="data">`
	scriptBegins = "<script>"
)

// parts are the page without its scripts, the JSON and the script.
func parts(t *testing.T, page string) (markup, data, script string) {
	t.Helper()
	head, rest, ok1 := strings.Cut(page, dataBegins)
	data, rest, ok2 := strings.Cut(rest, "</script>")
	middle, rest, ok3 := strings.Cut(rest, scriptBegins)
	script, tail, ok4 := strings.Cut(rest, "</script>")
	if !ok1 || !ok2 || !ok3 || !ok4 {
		t.Fatalf("the page has not two scripts: %.2000s", page)
	}
	return head + middle + tail, data, script
}

// blockComment is no JavaScript parser: it needs comments that hold no string with the end of one.
var blockComment = regexp.MustCompile(`(?s)/\*.*?\*/`)

// loads finds what makes a browser ask for something: an address with a host, or an attribute, a rule or a function that takes one.
var loads = regexp.MustCompile(`(?i)https?:|["'(=]\s*//|\b(src|srcset|href|action|data|poster|background)\s*=\s*["']|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|import\(`)

func TestWriteHTMLIsSelfContained(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"full", "nothing"} {
		page := blockComment.ReplaceAllString(html(t, samples(t)[name]), "")
		page = strings.ReplaceAll(page, "http://www.w3.org/2000/svg", "")
		for _, at := range loads.FindAllStringIndex(page, -1) {
			t.Errorf("%s: the page may load something: %q", name, page[max(at[0]-40, 0):min(at[1]+40, len(page))])
		}
	}
}

// The policy lets this script run, no other, and nothing be loaded.
func TestWriteHTMLPolicy(t *testing.T) {
	t.Parallel()
	markup, _, script := parts(t, html(t, fullSample(t)))
	sum := sha256.Sum256([]byte(script))
	policy := "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	m := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy" content="([^"]*)">`).FindStringSubmatch(markup)
	if m == nil {
		t.Fatal("there is no Content-Security-Policy")
	}
	if got := strings.NewReplacer("&#39;", "'", "&#43;", "+").Replace(m[1]); got != policy {
		t.Errorf("got the policy %q, want %q, the hash of the script as it is in the page", got, policy)
	}
	if strings.Index(markup, m[0]) > strings.Index(markup, "<style>") {
		t.Error("the policy comes behind the style")
	}
}

func TestWriteHTMLNamesAreInert(t *testing.T) {
	t.Parallel()
	tags := regexp.MustCompile(`<[^>]*>`)
	r := fullSample(t)
	setTexts(r, "x")
	harmless, _, script := parts(t, html(t, r))
	want := tags.FindAllString(harmless, -1)
	for _, evil := range []string{
		`</script><script>alert(1)</script>`, `<!--<script>`, `<img src=x onerror=alert(1)>`, `"onmouseover="alert(1)`, `' onload='alert(1)`,
		`</title></style><svg onload=alert(1)>`, "`${alert(1)}`", `]]><x>`, `\u003c/script>`, "\u2028alert(1)", `{{.Script}}`, "*/alert(1)/*", "\x00\xff<b>",
	} {
		r := fullSample(t)
		setTexts(r, evil)
		markup, data, gotScript := parts(t, html(t, r))
		if got := tags.FindAllString(markup, -1); !reflect.DeepEqual(got, want) {
			t.Errorf("%q as every name changed the elements of the page", evil)
		}
		if gotScript != script {
			t.Errorf("%q as every name changed the script", evil)
		}
		if strings.ContainsAny(data, "<>&\u2028") {
			t.Errorf("%q as every name is in the JSON as it is: %.300s", evil, data)
		}
		var p plots
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			t.Errorf("%q: the JSON: %v", evil, err)
		} else if utf8.ValidString(evil) && p.Curves[0].Name != evil {
			t.Errorf("%q: the JSON has the name %q", evil, p.Curves[0].Name)
		}
	}
}

func TestWriteHTMLHasBothColorSchemes(t *testing.T) {
	t.Parallel()
	page := html(t, fullSample(t))
	variable := regexp.MustCompile(`--[a-z0-9-]+:`)
	light, rest, found := strings.Cut(page[strings.Index(page, ":root {"):], "@media (prefers-color-scheme: dark) {")
	dark, _, closed := strings.Cut(rest, "\n}")
	if !found || !closed || !strings.Contains(page, `<meta name="color-scheme" content="light dark">`) {
		t.Fatal("there is no dark scheme")
	}
	got, want := variable.FindAllString(dark, -1), variable.FindAllString(light, -1)
	if !reflect.DeepEqual(got, want) || len(want) < 10 {
		t.Errorf("the dark scheme sets %v, the light one %v", got, want)
	}
	for _, use := range regexp.MustCompile(`var\((--[a-z0-9-]+)\)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(light, use[1]+":") {
			t.Errorf("the style uses %s, which is not set", use[1])
		}
	}
}

// extremes are reports that Read takes, and whose figures are hard to compute with.
func extremes(t testing.TB) map[string]*Report {
	t.Helper()
	counts := Counts{Good: maxNumber, Errors: map[string]int64{"x": maxNumber}, GapMS: maxNumber, Latency: Latency{Count: maxNumber, P50: maxNumber}}
	tiny := Report{Total: Phase{To: 5e-324}, Phases: []Phase{{Name: "run", To: 5e-324}}}
	tiny.Intervals = []Interval{{To: 5e-324, Counts: counts}}
	huge := Report{Total: Phase{To: maxNumber, Rate: maxNumber, Counts: counts}, Phases: []Phase{{To: maxNumber, Rate: maxNumber, Counts: counts}}}
	huge.Intervals = []Interval{{To: maxNumber, Counts: counts}}
	huge.Baselines = []Baseline{{Counts: counts, RateRatio: maxNumber}}
	huge.Load = Load{Mode: "open", Steps: []Step{{Rate: maxNumber, ForS: maxNumber}, {}}, WarmupS: maxNumber}
	never := Report{
		Total: Phase{FirstGoodMS: -1}, Phases: []Phase{{FirstGoodMS: -1}}, Faults: []Fault{{Healed: -1}}, Ledger: new(Ledger), Intervals: []Interval{{}},
		Works: []Work{{}, {}}, Baselines: []Baseline{{}},
	}
	return map[string]*Report{"zero": {}, "a tiny length": &tiny, "huge": &huge, "never": &never}
}

func TestWriteHTMLNumbers(t *testing.T) {
	t.Parallel()
	reports := extremes(t)
	for name, r := range samples(t) {
		reports[name] = r
	}
	noNumber := regexp.MustCompile(`\b(NaN|Inf|Infinity|undefined|null|%!)`)
	for name, r := range reports {
		markup, data, _ := parts(t, html(t, r))
		if at := noNumber.FindStringIndex(markup); at != nil {
			t.Errorf("%s: the page has no number in %q", name, markup[max(at[0]-40, 0):min(at[1]+40, len(markup))])
		}
		var got plots
		d := json.NewDecoder(strings.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil || d.More() {
			t.Errorf("%s: the JSON in the page: %v: %.300s", name, err, data)
			continue
		}
		want, err := r.plots()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the JSON in the page: got %+v, want %+v, %v", name, got, want, err)
		}
		s := got.Series
		for column, n := range map[string]int{
			"rate": len(s.Rate), "failed": len(s.Failed), "asked": len(s.Asked), "p50": len(s.P50), "p99": len(s.P99), "p999": len(s.P999), "max": len(s.Max),
		} {
			if n != len(r.Intervals) || len(s.At) != n {
				t.Errorf("%s: %s has %d values, want one for each of %d intervals", name, column, n, len(r.Intervals))
			}
		}
		for _, c := range got.Curves {
			if len(c.Y) != len(got.Nines) {
				t.Errorf("%s: the curve %s has %d values for %d points", name, c.Name, len(c.Y), len(got.Nines))
			}
		}
		if bytes.Contains([]byte(text(t, r)), []byte("NaN")) {
			t.Errorf("%s: the text has a NaN", name)
		}
	}
}

func TestWriteHTMLSaysWhatThereIsNot(t *testing.T) {
	t.Parallel()
	page := html(t, samples(t)["nothing"])
	for _, want := range []string{"<p class=\"note\">None.</p>", "The target has none, so nobody knows", "<td>never</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("nothing ran, and the page has no %q", want)
		}
	}
	for _, not := range []string{"<h2>Faults</h2>", "<h2>SLO</h2>", "<h2>Baselines</h2>", "<h2>Works</h2>"} {
		if strings.Contains(page, not) {
			t.Errorf("nothing ran, and the page has %q", not)
		}
	}
	page = html(t, fullSample(t))
	for _, want := range []string{
		"<h2>Faults</h2>", "<h2>SLO</h2>", "<h2>Baselines</h2>", "<h2>Works</h2>", "✗ missed", "✓ holds", "a node did not end well: exit status 2",
		"--slo &#39;p99&lt;5ms,lost=0&#39;", "Permission is hereby granted", // the license of what draws
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the full page has no %q", want)
		}
	}
}

func TestWriteHTMLRefusesDamagedHistograms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want   string
		damage func(*Report)
	}{
		{`report: write HTML: phase "before": histogram: `, func(r *Report) { r.Phases[0].Latency.Histogram = "AAAA" }},
		{`report: write HTML: phase "before": histogram has `, func(r *Report) { r.Phases[0].Latency.Count++ }},
		{`report: write HTML: baseline "pyro5": histogram: `, func(r *Report) { r.Baselines[1].Latency.Histogram = "???" }},
		{`report: write HTML: intervals[3].phase is 99, but there are 5 phases`, func(r *Report) { r.Intervals[3].Phase = 99 }},
	} {
		r := fullSample(t)
		c.damage(r)
		var b bytes.Buffer
		if err := r.WriteHTML(&b); err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || b.Len() > 0 {
			t.Errorf("got %v and %d bytes, want one line that begins with %q and none", err, b.Len(), c.want)
		}
	}
}

func TestShellCommand(t *testing.T) {
	t.Parallel()
	got := shellCommand([]string{"pyro-cluster", "", "a b", "it's", "$(x)", "p99<5ms", "--rate=5"})
	if want := `pyro-cluster '' 'a b' 'it'\''s' '$(x)' 'p99<5ms' --rate=5`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
