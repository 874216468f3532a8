package loadtest

import (
	"encoding/json"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

const lastMark = "uncordon, second part"

// steered are notes that also tell under which address the run is steered.
type steered struct {
	notes
	at    chan core.URI // of size 1: there is one
	once  sync.Once
	later chan struct{} // closed when there was an interval with good calls in the last phase
}

func (s *steered) Interval(i report.Interval, phase string) {
	s.notes.Interval(i, phase)
	if phase == lastMark && i.Good > 0 {
		s.once.Do(func() { close(s.later) })
	}
}

func (s *steered) Stage(text string) {
	s.notes.Stage(text)
	if address, ok := strings.CutPrefix(text, "steered by "); ok {
		uri, err := core.ParseURI(address)
		if err != nil {
			s.t.Error(err)
		}
		s.at <- uri
	}
}

// TestControl: phases begin when someone says so, who is told what the one before came to; and the run ends when it is told to, long before
// its time, which is not held against it.
func TestControl(t *testing.T) {
	t.Parallel()
	uri := serveAlone(t, "")
	c := config(t, func(s *Settings) {
		s.Target, s.Callers, s.Rate, s.Duration, s.Control = uri.String(), 4, "200", time.Hour, "127.0.0.1:0"
		s.Interval = 50 * time.Millisecond
	})
	n := &steered{notes: notes{t: t}, at: make(chan core.URI, 1), later: make(chan struct{})}
	var rep *report.Report
	ended := make(chan error, 1)
	go func() {
		var err error
		rep, err = Run(t.Context(), c, n)
		ended <- err
	}()
	var p *core.Proxy
	select {
	case at := <-n.at:
		p = core.NewProxy(at, core.ProxyOptions{})
	case err := <-ended:
		t.Fatal(err)
	}
	defer p.Close()

	var told []map[string]any
	for _, name := range []string{"drain", lastMark} {
		var phase map[string]any
		if err := p.Call(t.Context(), "phase", &phase, name); err != nil {
			t.Fatalf("phase(%q): %v", name, err)
		}
		told = append(told, phase)
	}
	for _, bad := range []any{"", "a\nb", strings.Repeat("x", maxMarkRunes+1), 7, nil} {
		var phase any
		err := p.Call(t.Context(), "phase", &phase, bad)
		if e, ok := errors.AsType[*core.RemoteError](err); !ok || !e.Is(core.ValueError) {
			t.Errorf("phase(%v): got %v, %v, want a ValueError", bad, phase, err)
		}
	}
	<-n.later // calls in the last phase, which would be doubted without
	if err := p.Call(t.Context(), "stop", nil); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	checkReport(t, rep)
	checkPhases(t, rep, told)
	for _, problem := range rep.Problems {
		if !strings.HasPrefix(problem, "the asked rate was not kept") { // a machine that is busy says that rightly
			t.Errorf("problem %q, want none", problem)
		}
	}
}

// checkPhases sets what callers were told of phases against the report.
func checkPhases(t *testing.T, rep *report.Report, told []map[string]any) {
	t.Helper()
	want := []string{"before", "drain", lastMark}
	if len(rep.Phases) != len(want) {
		t.Fatalf("phases %+v, want %q", rep.Phases, want)
	}
	for i, p := range rep.Phases {
		if p.Name != want[i] {
			t.Errorf("phase %d is %q, want %q", i, p.Name, want[i])
		}
		if i == len(told) {
			break
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(b, &fields); err != nil {
			t.Fatal(err)
		}
		fields["failed"] = float64(p.Failed())
		delete(fields["latency"].(map[string]any), "histogram")
		got := told[i]
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(fields))) {
			t.Errorf("told %v of %s, want the fields of %v", got, p.Name, fields)
		}
		if got["name"] != p.Name || got["good"] != p.Good || got["longest_gap_ms"] != p.GapMS || got["to_s"] != p.To {
			t.Errorf("told %v of %s, want what is in the report: %v", got, p.Name, fields)
		}
		latency := got["latency"].(map[string]any)
		if !slices.Equal(slices.Sorted(maps.Keys(latency)), slices.Sorted(maps.Keys(fields["latency"].(map[string]any)))) {
			t.Errorf("told latency %v, want the fields of %v", latency, fields["latency"])
		}
	}
}

// TestControlAddressInUse: that nobody could steer the run is found out before anything starts.
func TestControlAddressInUse(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n := &notes{t: t}
	rep, err := Run(t.Context(), config(t, func(s *Settings) { s.Spawn, s.Control = "nodes=1", ln.Addr().String() }), n)
	if rep != nil || err == nil || !strings.HasPrefix(err.Error(), "--control: ") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, %v, want that --control is in use", rep, err)
	}
}

// TestMarksAreBounded: someone who begins phases without end cannot fill the memory.
func TestMarksAreBounded(t *testing.T) {
	t.Parallel()
	begun := 0
	p := &phases{marked: true, begin: func(string) (_ traffic.Phase, _ error) { begun++; return }}
	if got := p.first(""); got != "before" {
		t.Errorf("the first phase is %q, want before", got)
	}
	for range maxMarks {
		if _, err := p.begun("x"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.begun("x"); err == nil || begun != maxMarks {
		t.Errorf("one phase more: %v after %d, want an error", err, begun)
	}
}

// TestMarksAndFaults: a phase has the step, the mark and the fault in its name.
func TestMarksAndFaults(t *testing.T) {
	t.Parallel()
	var names []string
	p := &phases{marked: true, faulty: true, begin: func(name string) (_ traffic.Phase, _ error) { names = append(names, name); return }}
	names = append(names, p.first("1: 100/s"))
	p.begun("drain")
	p.begins("kill:leader")
	p.nextStep("2: 200/s")
	p.begun("uncordon")
	want := []string{"1: 100/s, before", "1: 100/s, drain, before", "1: 100/s, drain, during kill:leader", "2: 200/s, drain, during kill:leader", "2: 200/s, uncordon, during kill:leader"}
	if !slices.Equal(names, want) {
		t.Errorf("got %q\nwant %q", names, want)
	}
}
