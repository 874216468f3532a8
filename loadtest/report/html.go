package report

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"sync"
	"time"
)

//go:embed assets/page.html.tmpl assets/page.css assets/page.js assets/uPlot.iife.min.js assets/uPlot.min.css assets/LICENSE.uPlot
var assets embed.FS

// pageParts are what all pages have in common.
type pageParts struct {
	template *template.Template
	style    template.CSS
	script   template.JS
	// policy is the Content-Security-Policy of a page: this very script, no other, and nothing from elsewhere.
	policy string
}

var loadParts = sync.OnceValue(func() pageParts {
	// The license wants to go wherever the library goes.
	script := "/*\n" + asset("LICENSE.uPlot") + "*/\n" + asset("uPlot.iife.min.js") + "\n" + asset("page.js")
	sum := sha256.Sum256([]byte(script))
	return pageParts{
		template: template.Must(template.New("page").Funcs(pageFuncs).Parse(asset("page.html.tmpl"))),
		style:    template.CSS(asset("uPlot.min.css") + "\n" + asset("page.css")), //nolint:gosec // ours
		script:   template.JS(script),                                             //nolint:gosec // ours
		policy: "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" +
			base64.StdEncoding.EncodeToString(sum[:]) + "'",
	}
})

func asset(name string) string {
	b, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(b)
}

// pageFuncs are the functions of the template.
var pageFuncs = template.FuncMap{
	"micros":    formatMicros,
	"millis":    formatMillis,
	"seconds":   formatSeconds,
	"rate":      formatRate,
	"int":       formatInt,
	"ratio":     formatRatio,
	"cells":     Latency.cells,
	"gap":       Counts.gapCell,
	"firstGood": Phase.firstGoodCell,
	"number":    func(n int) int { return n + 1 },
	"join":      func(s []string) string { return strings.Join(s, ", ") },
	"date":      func(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") },
}

// page is what the template gets.
type page struct {
	*Report
	Style    template.CSS
	Script   template.JS
	Policy   string
	Title    string
	Headline string
	Verdict  string // ok, missed or plain: the class of the headline
	Tiles    []tile
	Facts    []fact
	Kinds    []string // of errors, the most frequent first
	Plots    plots
	Sum      Phase // Total under a name
}

// tile is a key figure.
type tile struct {
	Label, Value, Note string
	Bad                bool
}

// fact is a line of the environment.
type fact struct{ Name, Value string }

// WriteHTML writes one self-contained page: figures, plots, tables, and everything to repeat the run.  It needs no network; what is in the
// report is shown as text, whatever it is.  A histogram that is damaged is an error, and nothing is written.
func (r *Report) WriteHTML(w io.Writer) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("report: write HTML: %w", err)
	}
	plots, err := r.plots()
	if err != nil {
		return fmt.Errorf("report: write HTML: %w", err)
	}
	parts := loadParts()
	p := page{
		Report: r, Style: parts.style, Script: parts.script, Policy: parts.policy,
		Title: r.title(), Headline: r.headline(), Verdict: r.verdict(),
		Tiles: r.tiles(), Facts: r.facts(), Kinds: errorKinds(r.Total.Counts), Plots: plots, Sum: r.sum(),
	}
	var b strings.Builder
	if err := parts.template.Execute(&b, p); err != nil {
		return fmt.Errorf("report: write HTML: %w", err)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func (r *Report) title() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Target.Kind + " " + r.Target.Name
}

func (r *Report) verdict() string {
	switch {
	case !r.OK:
		return "missed"
	case len(r.SLO) == 0:
		return "plain"
	}
	return "ok"
}

func (r *Report) tiles() []tile {
	t := r.Total
	latency := func(us float64) string {
		if t.Latency.Count == 0 {
			return "–"
		}
		return formatMicros(us)
	}
	failed := tile{Label: "failed calls", Value: formatInt(t.Failed())}
	if t.Failed() > 0 {
		failed.Bad, failed.Note = true, formatShare(float64(t.Failed())/float64(t.ended()))+" of all"
	}
	tiles := []tile{
		{Label: "good calls per second", Value: formatRate(t.Rate)},
		{Label: "p50", Value: latency(t.Latency.P50)},
		{Label: "p99", Value: latency(t.Latency.P99)},
		{Label: "slowest", Value: latency(t.Latency.Max)},
		{Label: "longest gap of a caller", Value: latency(t.GapMS * 1e3)},
		failed,
	}
	if l := r.Ledger; l != nil {
		tiles = append(tiles,
			tile{Label: "ran twice", Value: formatInt(l.Twice), Bad: l.Twice > 0}, tile{Label: "lost", Value: formatInt(l.Lost), Bad: l.Lost > 0})
	}
	return tiles
}

func (r *Report) facts() []fact {
	e := r.Environment
	facts := []fact{
		{"command", shellCommand(r.Command)},
		{"seed", fmt.Sprint(r.Load.Seed)},
		{"started", r.Started.Format("2006-01-02 15:04:05 MST")},
		{"target", r.Target.describe()},
		{"members", strings.Join(r.Target.Members, ", ")},
		{"load", r.Load.describe()},
		{"generator", r.Generator.describe(r.Load.Mode)},
		{"machine", machine(e)},
		{"system", strings.TrimSpace(e.OS + " " + e.Kernel)},
		{"versions", versions(e)},
	}
	kept := facts[:0]
	for _, f := range facts {
		if f.Value != "" {
			kept = append(kept, f)
		}
	}
	return kept
}

func machine(e Environment) string {
	text := strings.TrimSpace(e.CPU + " " + e.Arch)
	if e.CPUs > 0 {
		text += ", " + count(e.CPUs, "CPU")
	}
	return strings.TrimPrefix(text, ", ")
}

func versions(e Environment) string {
	var v []string
	for _, p := range []fact{{"pyro-cluster", e.Version}, {"", e.Go}, {"", e.Python}} {
		if p.Value != "" {
			v = append(v, strings.TrimSpace(p.Name+" "+p.Value))
		}
	}
	return strings.Join(v, ", ")
}

// shellCommand writes a command as one would type it.
func shellCommand(args []string) string {
	var quoted []string
	for _, a := range args {
		if a == "" || strings.ContainsFunc(a, func(c rune) bool { return !strings.ContainsRune(shellSafe, c) }) {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted = append(quoted, a)
	}
	return strings.Join(quoted, " ")
}

const shellSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+:,./@%"
