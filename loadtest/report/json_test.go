package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func written(t testing.TB, r *Report) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		t.Fatalf("Write: %v", err)
	}
	return b.Bytes()
}

func TestWriteThenReadIsTheSame(t *testing.T) {
	t.Parallel()
	for name, r := range samples(t) {
		b := written(t, r)
		got, err := Read(iotest.OneByteReader(bytes.NewReader(b)))
		if err != nil {
			t.Errorf("%s: Read: %v", name, err)
			continue
		}
		if want := r.complete(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: Read gave\n%+v\nwant\n%+v", name, got, want)
		}
		if !json.Valid(b) || bytes.Contains(b, []byte("null")) {
			t.Errorf("%s: the JSON is not valid, or has a null", name)
		}
	}
}

func TestWriteHasAnIntervalInALine(t *testing.T) {
	t.Parallel()
	r := samples(t)["quiet"]
	lines := 0
	for line := range strings.Lines(string(written(t, r))) {
		if strings.HasPrefix(line, `    {"from_s":`) {
			lines++
		}
	}
	if lines != len(r.Intervals) || lines == 0 {
		t.Errorf("got %d lines with an interval, want %d", lines, len(r.Intervals))
	}
}

func TestWriteDoesNotChangeTheReport(t *testing.T) {
	t.Parallel()
	r := &Report{Schema: Schema, Phases: []Phase{{Name: "run"}}, Faults: []Fault{{Spec: "x"}}}
	written(t, r)
	if r.Phases[0].Errors != nil || r.Faults[0].Targets != nil || r.SLO != nil {
		t.Errorf("Write filled the report itself: %+v", r)
	}
}

func TestWriteRefusesNoNumbers(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]float64{"NaN": math.NaN(), "infinite": math.Inf(1), "negative": -2} {
		r := &Report{Schema: Schema, Phases: []Phase{{Name: "run", Rate: f}}}
		var b bytes.Buffer
		err := r.Write(&b)
		if err == nil || !strings.Contains(err.Error(), "phases[0].rate is ") || b.Len() > 0 {
			t.Errorf("%s: got %v and %d bytes, want an error about phases[0].rate and none", name, err, b.Len())
		}
		if err := r.WriteHTML(&b); err == nil {
			t.Errorf("%s: WriteHTML took it", name)
		}
		if err := r.WriteCSV(&b); err == nil {
			t.Errorf("%s: WriteCSV took it", name)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	const head = `{"schema":"` + Schema + `",`
	for name, c := range map[string]struct{ in, want string }{
		"nothing":             {"", "report: this is no JSON of a load test: unexpected end of JSON input"},
		"no JSON":             {"p99 5ms", "report: this is no JSON of a load test: "},
		"cut":                 {head + `"ok":true`, "report: this is no JSON of a load test: unexpected end of JSON input"},
		"more behind it":      {head + `"ok":true}{}`, "report: this is no JSON of a load test: invalid character"},
		"an array":            {"[]", "report: there is no schema: "},
		"no schema":           {"{}", "report: there is no schema: "},
		"a number":            {`{"schema":1}`, "report: there is no schema: "},
		"another schema":      {`{"schema":"pyro-cluster/loadtest/2","phases":1}`, `report: schema is "pyro-cluster/loadtest/2", want "` + Schema},
		"a line in a schema":  {`{"schema":"a\nb"}`, `report: schema is "a\nb", want`},
		"wrong type":          {head + `"phases":[{"name":1}]}`, "report: phases.name is a number, which does not fit"},
		"negative count":      {head + `"total":{"good":-1}}`, "report: total.good is -1, want a number from 0"},
		"negative errors":     {head + `"total":{"errors":{"a\nb":-1}}}`, `report: total.errors["a\nb"] is -1, want`},
		"too large":           {head + `"total":{"rate":1e300}}`, "report: total.rate is 1e+300, want"},
		"beyond float64":      {head + `"total":{"rate":1e999}}`, "report: "},
		"-1 where it is none": {head + `"total":{"rate":-1}}`, "report: total.rate is -1, want"},
		"ends before":         {head + `"total":{"from_s":2,"to_s":1}}`, "report: total ends at 1 s, before it begins at 2 s"},
		"phase ends before":   {head + `"phases":[{"from_s":2,"to_s":1}]}`, "report: phases[0] ends at 1 s, before"},
		"interval ends":       {head + `"phases":[{}],"intervals":[{"from_s":2,"to_s":1}]}`, "report: intervals[0] ends at 1 s, before"},
		"no such phase":       {head + `"phases":[{}],"intervals":[{"phase":1}]}`, "report: intervals[0].phase is 1, but there are 1 phases"},
		"negative phase":      {head + `"phases":[{}],"intervals":[{"phase":-1}]}`, "report: intervals[0].phase is -1, want"},
		"order":               {head + `"phases":[{}],"intervals":[{"from_s":1,"to_s":2},{"to_s":1}]}`, "report: intervals[1] begins at 0 s, before"},
	} {
		r, err := Read(strings.NewReader(c.in))
		if r != nil || err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: Read(%s): got %v, %v, want an error that begins with %q", name, c.in, r, err, c.want)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %q", name, err)
		}
	}
}

func TestReadTakesWhatIsNewer(t *testing.T) {
	t.Parallel()
	r, err := Read(strings.NewReader(`{"schema":"` + Schema + `","novelty":{"a":[1]},"faults":[{"healed_s":-1}],"total":{"first_good_ms":-1}}`))
	if err != nil || r.Faults[0].Healed != -1 || r.Total.FirstGoodMS != -1 {
		t.Errorf("got %+v, %v, want a report, and -1 where there is none of it", r, err)
	}
}

func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	b := written(t, samples(t)["nothing"])
	if _, err := read(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Errorf("a report of just the size: %v", err)
	}
	_, err := read(bytes.NewReader(b), int64(len(b))-1)
	if err == nil || !strings.Contains(err.Error(), "more than ") {
		t.Errorf("a report that is too large: got %v, want an error", err)
	}
	// Little text can stand for many values.
	many := `{"schema":"` + Schema + `","faults":[` + strings.Repeat("0,", maxCommas+1) + "0]}"
	if _, err := Read(strings.NewReader(many)); err == nil || !strings.Contains(err.Error(), "values: want ") {
		t.Errorf("too many values: got %v, want an error", err)
	}
	failure := errors.New("the disk is gone")
	if _, err := Read(iotest.ErrReader(failure)); !errors.Is(err, failure) {
		t.Errorf("a reader that fails: got %v, want %v", err, failure)
	}
}

func FuzzRead(f *testing.F) {
	for _, r := range samples(f) {
		if b := written(f, r); len(b) < 1<<17 {
			f.Add(b)
		}
	}
	for _, r := range extremes(f) {
		r.Schema = Schema
		f.Add(written(f, r))
	}
	f.Add([]byte(`{"schema":"` + Schema + `","phases":[{}],"intervals":[{"phase":0,"to_s":1,"latency":{"count":1,"histogram":"eA=="}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("an error of several lines: %q", err)
			}
			return
		}
		again, err := Read(bytes.NewReader(written(t, r)))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("written and read again: %+v, %v, want %+v", again, err, r)
		}
		var out bytes.Buffer
		for name, write := range map[string]func() error{
			"text": func() error { return r.WriteText(&out) }, "CSV": func() error { return r.WriteCSV(&out) },
		} {
			if err := write(); err != nil {
				t.Fatalf("%s of what was read: %v", name, err)
			}
		}
		if err := r.WriteHTML(&out); err != nil && !strings.Contains(err.Error(), "histogram") {
			t.Fatalf("HTML of what was read: %v", err)
		}
		if _, err := Compare(r, r); err != nil {
			t.Fatalf("comparison with itself: %v", err)
		}
		if sum, err := Merge(r, r); err == nil {
			written(t, sum)
		}
	})
}
