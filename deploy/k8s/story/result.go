package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Schema is the version of the JSON of a result.  Fields may be added without a change of it.
const Schema = "pyro-cluster/kubernetes-story/1"

// result is what came of the story.
type result struct {
	Schema     string    `json:"schema"`
	Started    time.Time `json:"started"`
	Kubernetes string    `json:"kubernetes"` // version
	Nodes      int       `json:"nodes"`      // of Kubernetes
	Image      string    `json:"image"`
	Rate       float64   `json:"rate"`  // calls a second that were due
	Names      float64   `json:"names"` // registrations a second, at most
	Steps      []*row    `json:"steps"`
	// Ledger says why calls that ran twice or were lost are not counted.
	Ledger string `json:"ledger"`
	// Doubts are what the load test says against itself, such as a rate that was not kept.
	Doubts []string `json:"doubts"`
	Missed []string `json:"missed"` // targets
	OK     bool     `json:"ok"`     // the story went to its end, and no target was missed
}

// ledgerOff is in every result: a pod takes its ledger with it.
const ledgerOff = "off: a pod's ledger goes with the pod, so calls that ran twice or were lost are not counted here; the load test counts them where processes keep their disk"

// row is what came of one step.
type row struct {
	Step    string  `json:"step"`
	Planned bool    `json:"planned"`           // no call and no registration may fail
	NotRun  string  `json:"not_run,omitempty"` // why
	Note    string  `json:"note,omitempty"`
	Seconds float64 `json:"seconds"` // until everything was ready again

	Measured    bool             `json:"measured"` // there was a load
	Calls       int64            `json:"calls"`    // good and failed
	FailedCalls int64            `json:"failed_calls"`
	Errors      map[string]int64 `json:"errors"`         // failed calls by kind
	GapMS       float64          `json:"longest_gap_ms"` // without a good call

	Registered          int      `json:"registered"`
	FailedRegistrations int      `json:"failed_registrations"`
	RegistrationError   string   `json:"registration_error,omitempty"` // of the last one that failed
	RegistrationGapMS   float64  `json:"longest_registration_gap_ms"`
	Acknowledged        int      `json:"acknowledged"`       // names since the story began
	Lost                int      `json:"lost_registrations"` // of these
	LostNames           []string `json:"lost_names,omitempty"`
}

// maxLostNames bounds how many are listed.
const maxLostNames = 10

func (r *row) addPhase(p phase) {
	r.Measured = true
	r.Calls, r.FailedCalls, r.Errors, r.GapMS = p.Good+p.Failed, p.Failed, p.Errors, p.GapMS
}

func (r *row) addRegistrations(f registrations) {
	r.Registered, r.FailedRegistrations, r.RegistrationError = f.good, f.failed, f.reason
	r.RegistrationGapMS = float64(f.gap) / float64(time.Millisecond)
}

func (r *row) addLost(acknowledged int, names []string) {
	r.Acknowledged, r.Lost, r.LostNames = acknowledged, len(names), names[:min(len(names), maxLostNames)]
}

// missed lists the targets that the step missed.
func (r *row) missed() []string {
	if !r.Measured {
		return nil
	}
	var texts []string
	if r.Calls == r.FailedCalls {
		texts = append(texts, fmt.Sprintf("%s: no call was good", r.Step))
	}
	if r.Planned && r.FailedCalls > 0 {
		texts = append(texts, fmt.Sprintf("%s: %d failed calls (%s), want none", r.Step, r.FailedCalls, kinds(r.Errors)))
	}
	if r.Planned && r.FailedRegistrations > 0 {
		texts = append(texts, fmt.Sprintf("%s: %d failed registrations (%s), want none", r.Step, r.FailedRegistrations, r.RegistrationError))
	}
	if r.Lost > 0 {
		texts = append(texts, fmt.Sprintf("%s: %d of %d registrations lost (%s), want none", r.Step, r.Lost, r.Acknowledged, strings.Join(r.LostNames, ", ")))
	}
	return texts
}

func kinds(errors map[string]int64) string {
	var texts []string
	for _, kind := range slices.Sorted(maps.Keys(errors)) {
		texts = append(texts, fmt.Sprintf("%s: %d", kind, errors[kind]))
	}
	return strings.Join(texts, ", ")
}

// judge completes the result.  err is what ended the story before its end, or nil.
func (r *result) judge(err error) {
	r.Schema, r.Ledger = Schema, ledgerOff
	r.Missed = []string{}
	for _, s := range r.Steps {
		r.Missed = append(r.Missed, s.missed()...)
	}
	r.OK = err == nil && len(r.Missed) == 0
}

// errMissed begins the one line for a story that missed a target.
var errMissed = errors.New("missed")

func (r *result) err() error {
	if len(r.Missed) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errMissed, strings.Join(r.Missed, "; "))
}

func (r *result) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

var columns = []string{"step", "time", "calls", "failed calls", "longest gap", "registrations", "failed", "longest gap", "lost registrations"}

// cells are the texts of the table.
func (r *result) cells() [][]string {
	rows := [][]string{columns}
	for _, s := range r.Steps {
		rows = append(rows, s.cells())
	}
	return append(rows, r.total().cells())
}

func (s *row) cells() []string {
	step := s.Step
	if s.Note != "" {
		step += " (" + s.Note + ")"
	}
	step = strings.ReplaceAll(step, "|", "\\|")
	if s.NotRun != "" {
		return []string{step, "not run: " + s.NotRun, "", "", "", "", "", "", ""}
	}
	cells := []string{step, fmt.Sprintf("%.1f s", s.Seconds)}
	if !s.Measured {
		return append(cells, "–", "–", "–", "–", "–", "–", "–")
	}
	return append(cells, fmt.Sprint(s.Calls), fmt.Sprint(s.FailedCalls), millis(s.GapMS),
		fmt.Sprint(s.Registered), fmt.Sprint(s.FailedRegistrations), millis(s.RegistrationGapMS), fmt.Sprint(s.Lost))
}

func millis(ms float64) string {
	if ms < 1000 {
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", ms/1000)
}

// total sums the steps up.  Names that were lost once are lost in every later step: the last one counts them all.
func (r *result) total() *row {
	t := &row{Step: "total"}
	for _, s := range r.Steps {
		t.Seconds += s.Seconds
		if !s.Measured {
			continue
		}
		t.Measured = true
		t.Calls += s.Calls
		t.FailedCalls += s.FailedCalls
		t.GapMS = max(t.GapMS, s.GapMS)
		t.Registered += s.Registered
		t.FailedRegistrations += s.FailedRegistrations
		t.RegistrationGapMS = max(t.RegistrationGapMS, s.RegistrationGapMS)
		t.Lost = max(t.Lost, s.Lost)
	}
	return t
}

// writeTable writes the table for people: Markdown whose columns are aligned.
func (r *result) writeTable(w io.Writer) error {
	rows := r.cells()
	widths := make([]int, len(columns))
	for _, cells := range rows {
		for i, c := range cells {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for n, cells := range rows {
		for i, c := range cells {
			fill := strings.Repeat(" ", widths[i]-len([]rune(c)))
			if i < 2 {
				c += fill
			} else {
				c = fill + c
			}
			b.WriteString("| " + c + " ")
		}
		b.WriteString("|\n")
		if n == 0 {
			b.WriteString("|" + strings.Repeat("-", widths[0]+2) + "|" + strings.Repeat("-", widths[1]+2) + "|")
			for _, width := range widths[2:] {
				b.WriteString(strings.Repeat("-", width+1) + ":|")
			}
			b.WriteString("\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMarkdown writes the table with what has to be known of it.
func (r *result) writeMarkdown(w io.Writer) error {
	verdict := "Every target was met."
	if !r.OK {
		verdict = "**Missed:** " + strings.Join(r.Missed, "; ")
		if len(r.Missed) == 0 {
			verdict = "**The story did not come to its end.**"
		}
	}
	fmt.Fprintf(w, "# The story on Kubernetes %s\n\n%s, %d nodes, image `%s`, %g calls a second, up to %g registrations a second.\n\n%s\n\n",
		r.Kubernetes, r.Started.Format(time.DateTime), r.Nodes, r.Image, r.Rate, r.Names, verdict)
	if err := r.writeTable(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nLedger: %s.\n", r.Ledger)
	for _, d := range r.Doubts {
		fmt.Fprintf(w, "\nThe load test doubts itself: %s.\n", d)
	}
	return nil
}
