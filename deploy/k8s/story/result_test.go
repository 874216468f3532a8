package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// calm is a row of a step that nobody noticed.
func calm(step string, planned bool) *row {
	return &row{
		Step: step, Planned: planned, Seconds: 3.25, Measured: true, Calls: 1000, Errors: map[string]int64{}, GapMS: 12.4,
		Registered: 100, RegistrationGapMS: 1234, Acknowledged: 300,
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(r *row)
		want   string
	}{
		{"calm", func(*row) {}, ""},
		{"failed calls", func(r *row) {
			r.FailedCalls, r.Errors = 3, map[string]int64{"unknown: timed out": 1, "not executed: closed": 2}
		}, "drain: 3 failed calls (not executed: closed: 2, unknown: timed out: 1), want none"},
		{"failed calls of a step that was not planned", func(r *row) { r.FailedCalls, r.Planned = 3, false }, ""},
		{"failed registrations", func(r *row) { r.FailedRegistrations, r.RegistrationError = 1, "no answer" }, "drain: 1 failed registrations (no answer), want none"},
		{"failed registrations, not planned", func(r *row) { r.FailedRegistrations, r.Planned = 1, false }, ""},
		{"lost names", func(r *row) { r.Planned = false; r.addLost(300, []string{"story.1", "story.2"}) }, "drain: 2 of 300 registrations lost (story.1, story.2), want none"},
		{"no good call", func(r *row) { r.Planned, r.Calls, r.FailedCalls = false, 5, 5 }, "drain: no call was good"},
		{"no call at all", func(r *row) { r.Planned, r.Calls = false, 0 }, "drain: no call was good"},
		{"not run", func(r *row) { *r = row{Step: "drain", NotRun: "set X", Planned: true} }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := calm("drain", true)
			test.change(r)
			if got := strings.Join(r.missed(), "; "); got != test.want {
				t.Errorf("%+v: got %q, want %q", r, got, test.want)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	bad := calm("drain", true)
	bad.FailedCalls = 1
	for _, test := range []struct {
		name  string
		steps []*row
		err   error
		ok    bool
		line  string
	}{
		{"all is well", []*row{{Step: "install"}, calm("drain", true)}, nil, true, ""},
		{"a missed target", []*row{calm("call", true), bad}, nil, false, "missed: drain: 1 failed calls (), want none"},
		{"broken off", []*row{calm("drain", true)}, errors.New("x"), false, ""},
		{"broken off before there was a load", []*row{{Step: "install"}}, errors.New("x"), false, ""},
	} {
		r := &result{Steps: test.steps}
		r.judge(test.err)
		line := ""
		if err := r.err(); err != nil {
			line = err.Error()
		}
		if r.OK != test.ok || line != test.line || r.Schema != Schema || r.Ledger == "" {
			t.Errorf("%s: ok %v, %q, want %v, %q", test.name, r.OK, line, test.ok, test.line)
		}
	}
}

func someResult() *result {
	noted := calm("kill the leader's pod", false)
	noted.Note, noted.FailedCalls, noted.Errors, noted.GapMS = "a|b", 2, map[string]int64{"unknown: connection reset": 2}, 1500
	return &result{
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kubernetes: "v1.35.4", Nodes: 3, Image: "localhost/pyro-cluster:1", Rate: 200, Names: 25,
		Steps:  []*row{{Step: "install", Seconds: 5}, noted, {Step: "crash a Kubernetes node", NotRun: "set NODE_CRASH"}},
		Doubts: []string{"the rate was not kept"},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := someResult()
	r.judge(nil)
	var b bytes.Buffer
	if err := r.writeTable(&b); err != nil {
		t.Fatal(err)
	}
	const want = `| step                         | time                    | calls | failed calls | longest gap | registrations | failed | longest gap | lost registrations |
|------------------------------|-------------------------|------:|-------------:|------------:|--------------:|-------:|------------:|-------------------:|
| install                      | 5.0 s                   |     – |            – |           – |             – |      – |           – |                  – |
| kill the leader's pod (a\|b) | 3.2 s                   |  1000 |            2 |       1.5 s |           100 |      0 |       1.2 s |                  0 |
| crash a Kubernetes node      | not run: set NODE_CRASH |       |              |             |               |        |             |                    |
| total                        | 8.2 s                   |  1000 |            2 |       1.5 s |           100 |      0 |       1.2 s |                  0 |
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(r *result) error // returns what ended it
		want   string
	}{
		{"well", func(*result) error { return nil }, "Every target was met."},
		{"missed", func(r *result) error { r.Steps[1].Lost = 1; return nil }, "**Missed:** kill the leader's pod: 1 of 300 registrations lost"},
		{"broken off", func(*result) error { return errors.New("x") }, "**The story did not come to its end.**"},
	} {
		r := someResult()
		r.judge(test.change(r))
		var b bytes.Buffer
		if err := r.writeMarkdown(&b); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"# The story on Kubernetes v1.35.4\n", test.want, "\n| install ", "Ledger: off", "The load test doubts itself: the rate was not kept."} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q in %s", test.name, want, b.String())
			}
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	r := someResult()
	r.judge(nil)
	var b bytes.Buffer
	if err := r.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back result
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || !reflect.DeepEqual(&back, r) {
		t.Errorf("read back %+v, %v, want %+v", back, err, r)
	}
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ report, want string }{
		{`{"problems":[],"generator":{"lag":{"p99_us":100,"max_us":40000}}}`, ""},
		{`{"problems":["a"],"generator":{"lag":{"p99_us":30000,"max_us":1900000}}}`,
			"a; the generator itself was late by up to 1.9 s (p99 30 ms), because its machine had no time for it: gaps up to that length may be the machine's"},
		{`{}`, ""},
	} {
		got, err := doubtsIn(json.RawMessage(test.report))
		if err != nil || strings.Join(got, "; ") != test.want || got == nil {
			t.Errorf("%s: got %q, %v, want %q", test.report, got, err, test.want)
		}
	}
	if got, err := doubtsIn(json.RawMessage(`[`)); err == nil {
		t.Errorf("got %q of what is no report", got)
	}
}
