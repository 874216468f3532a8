package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
)

// Bounds of what Read takes.
const (
	maxBytes  = 256 << 20
	maxCommas = 8 << 20 // of the JSON, and so of the values in it: about 500,000 intervals
	maxNumber = 1e15    // no figure of a run is above it, and sums of such stay finite
)

// Write writes the JSON: indented, and each interval on a line of its own.  Lists that are nil become empty ones.  A figure that Read
// would not take, a NaN for instance, is an error, and nothing is written.
func (r *Report) Write(w io.Writer) error {
	c := r.complete()
	if err := c.check(); err != nil {
		return fmt.Errorf("report: write: %w", err)
	}
	head := *c
	head.Intervals = []Interval{}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(&head); err != nil {
		return fmt.Errorf("report: write: %w", err)
	}
	// Intervals are the last field, so that what was written without them has only to be continued.
	b.Truncate(b.Len() - len("]\n}\n"))
	e.SetIndent("", "")
	for i, v := range c.Intervals {
		separator := ",\n    "
		if i == 0 {
			separator = "\n    "
		}
		b.WriteString(separator)
		if err := e.Encode(v); err != nil {
			return fmt.Errorf("report: write interval %d: %w", i, err)
		}
		b.Truncate(b.Len() - 1) // the line end
	}
	if len(c.Intervals) > 0 {
		b.WriteString("\n  ")
	}
	b.WriteString("]\n}\n")
	_, err := w.Write(b.Bytes())
	return err
}

// complete returns a copy that has empty lists and maps instead of nil.
func (r *Report) complete() *Report {
	c := *r
	c.Command, c.Problems = notNil(c.Command), notNil(c.Problems)
	c.Target.Members = notNil(c.Target.Members)
	c.Load.Steps, c.Load.Works = notNil(c.Load.Steps), notNil(c.Load.Works)
	c.SLO = notNil(c.SLO)
	c.Total.complete()
	c.Phases = completed(c.Phases, func(p *Phase) { p.complete() })
	c.Works = completed(c.Works, func(w *Work) { w.complete() })
	c.Baselines = completed(c.Baselines, func(b *Baseline) { b.complete() })
	c.Intervals = completed(c.Intervals, func(i *Interval) { i.complete() })
	c.Faults = completed(c.Faults, func(f *Fault) { f.Targets = notNil(f.Targets) })
	return &c
}

func (c *Counts) complete() {
	if c.Errors == nil {
		c.Errors = map[string]int64{}
	}
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// completed returns a copy of s, each of which was completed.
func completed[T any](s []T, complete func(*T)) []T {
	c := append([]T{}, s...)
	for i := range c {
		complete(&c[i])
	}
	return c
}

// Read reads the JSON of a report.  Another schema, more than 256 MiB, or what does not hang together (an interval of a phase that there
// is none of, a span that ends before it begins, a negative number) is an error of one line.  Fields it does not know are passed over.
// Histograms are looked at when they are needed, by [Latency.Decode].
func Read(r io.Reader) (*Report, error) { return read(r, maxBytes) }

func read(r io.Reader, limit int64) (*Report, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("report: read: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("report: more than %d bytes: no report of a load test is that large", limit)
	}
	if n := bytes.Count(b, []byte(",")); n > maxCommas {
		return nil, fmt.Errorf("report: %d values: want %d at most", n, maxCommas)
	}
	if err := checkSchema(b); err != nil {
		return nil, err
	}
	rep := new(Report)
	if err := json.Unmarshal(b, rep); err != nil {
		return nil, fmt.Errorf("report: %w", jsonError(err))
	}
	rep = rep.complete()
	if err := rep.check(); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	return rep, nil
}

// checkSchema comes first, as a file of another schema need not fit into a Report.
func checkSchema(b []byte) error {
	var head struct {
		Schema string `json:"schema"`
	}
	err := json.Unmarshal(b, &head)
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("report: this is no JSON of a load test: %w", err)
	}
	if err != nil || head.Schema == "" {
		return fmt.Errorf("report: there is no schema: want %q: give a file that --json of a load test wrote", Schema)
	}
	if head.Schema != Schema {
		return fmt.Errorf("report: schema is %q, want %q: it is of another version of pyro-cluster", head.Schema, Schema)
	}
	return nil
}

// jsonError leaves out the names of Go types.
func jsonError(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s is a %s, which does not fit", e.Field, e.Value)
	}
	return err
}

// check reports what does not hang together.
func (r *Report) check() error {
	if err := checkNumbers(reflect.ValueOf(*r), ""); err != nil {
		return err
	}
	if err := checkSpan("total", r.Total.From, r.Total.To); err != nil {
		return err
	}
	for i, p := range r.Phases {
		if err := checkSpan(fmt.Sprintf("phases[%d]", i), p.From, p.To); err != nil {
			return err
		}
	}
	for i, v := range r.Intervals {
		if v.Phase >= len(r.Phases) {
			return fmt.Errorf("intervals[%d].phase is %d, but there are %d phases", i, v.Phase, len(r.Phases))
		}
		if err := checkSpan(fmt.Sprintf("intervals[%d]", i), v.From, v.To); err != nil {
			return err
		}
		if i > 0 && v.From < r.Intervals[i-1].From {
			return fmt.Errorf("intervals[%d] begins at %v s, before the one in front of it", i, v.From)
		}
	}
	return nil
}

func checkSpan(name string, from, to float64) error {
	if to < from {
		return fmt.Errorf("%s ends at %v s, before it begins at %v s", name, to, from)
	}
	return nil
}

// checkNumbers walks through all numbers of v: none is negative, except for those with which -1 says that there is none, none is beyond
// maxNumber, and none is NaN.
func checkNumbers(v reflect.Value, path string) error {
	switch v.Kind() {
	case reflect.Struct:
		return checkFields(v, path)
	case reflect.Pointer:
		if !v.IsNil() {
			return checkNumbers(v.Elem(), path)
		}
	case reflect.Slice:
		if k := v.Type().Elem().Kind(); k != reflect.Struct {
			return nil // of texts
		}
		for i := range v.Len() {
			if err := checkNumbers(v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for kind, n := range v.Seq2() {
			if err := checkNumber(float64(n.Int()), fmt.Sprintf("%s[%q]", path, kind.String())); err != nil {
				return err
			}
		}
	case reflect.Float64:
		return checkNumber(v.Float(), path)
	case reflect.Int, reflect.Int64:
		return checkNumber(float64(v.Int()), path)
	}
	return nil
}

// checkFields checks the fields of a struct under their names in JSON.
func checkFields(v reflect.Value, path string) error {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if !v.Type().Field(i).IsExported() {
			continue // the insides of a time.Time
		}
		field := path
		if name != "" {
			field = strings.TrimPrefix(path+"."+name, ".")
		}
		if err := checkNumbers(v.Field(i), field); err != nil {
			return err
		}
	}
	return nil
}

func checkNumber(f float64, path string) error {
	never := f == -1 && (strings.HasSuffix(path, ".healed_s") || strings.HasSuffix(path, ".first_good_ms"))
	if math.IsNaN(f) || f < 0 && !never || f > maxNumber {
		return fmt.Errorf("%s is %v, want a number from 0 to %v", path, f, maxNumber)
	}
	return nil
}
