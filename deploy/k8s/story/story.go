package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// story is one telling of it.
type story struct {
	opts  options
	kube  kubectl
	out   io.Writer // for progress
	began time.Time

	observer observer
	registry *registrar
	nodes    workload // the StatefulSet
	servers  workload // the Deployment
	watch    string   // the Kubernetes node of the observer

	installed bool // there is a namespace of ours

	undo []undo // what has to be put right again, whatever happens
}

// undo puts something right that a step may leave behind when it is broken off.
type undo struct {
	what string
	do   func(ctx context.Context) error
}

// step is one thing that happens to the cluster.
type step struct {
	key     string // for -only
	name    string
	planned bool      // nobody may notice
	needs   []command // without which it cannot be run
	run     func(ctx context.Context) (note string, err error)
}

// settle is how long a step goes on after everything is ready: calls that it may have broken have ended by then.
const settle = callTimeout + time.Second

// firstNameLimit is how long a name may take when nothing is wrong.
const firstNameLimit = time.Minute

// say tells of progress.
func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// onUndo notes what has to be done if the story ends before the function that it returns is called.
func (s *story) onUndo(what string, do func(ctx context.Context) error) (done func()) {
	s.undo = append(s.undo, undo{what, do})
	n := len(s.undo) - 1
	return func() { s.undo[n].do = nil }
}

// putRight undoes what is left, the latest first.
func (s *story) putRight(ctx context.Context) error {
	var errs []error
	for _, u := range slices.Backward(s.undo) {
		if u.do == nil {
			continue
		}
		s.say("%s", u.what)
		if err := u.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.what, err))
		}
	}
	s.undo = nil
	return errors.Join(errs...)
}

// meter is what measures the steps.
type meter interface {
	begin(ctx context.Context, name string) (phase, error)
	names(ctx context.Context) (map[string]string, error)
}

// tell runs the steps one after the other while calls and registrations go on, and appends a row for each to res.  The rows are complete also when it
// returns an error.
func (s *story) tell(ctx context.Context, m meter, steps []step, res *result) (err error) {
	registering, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); s.registry.run(registering) }()
	defer func() { cancel(); <-ended }()
	// The first name has to wait until its connection into the cluster stands, which says nothing about any step.
	err = waitFor(ctx, firstNameLimit, "the first registration", func(context.Context) (string, error) { return s.registry.noneYet(), nil })
	if err != nil {
		return err
	}
	s.registry.take()

	var open *row // whose phase has not ended yet
	end := func(next string) error {
		p, err := m.begin(ctx, next)
		if err == nil && open != nil {
			open.addPhase(p)
			open.addRegistrations(s.registry.take())
			s.sayRow(open)
			open = nil
		}
		return err
	}
	for _, st := range steps {
		r := &row{Step: st.name, Planned: st.planned, NotRun: missing(st.needs)}
		if r.NotRun != "" {
			s.say("%s: not run: %s", st.name, r.NotRun)
			res.Steps = append(res.Steps, r)
			continue
		}
		if err := end(st.name); err != nil {
			return err
		}
		res.Steps, open = append(res.Steps, r), r
		s.say("%s", st.name)
		if err := s.step(ctx, m, st, r); err != nil {
			_ = end("broken off")
			return fmt.Errorf("%s: %w", st.name, err)
		}
	}
	return end("afterwards")
}

// step runs one step, until everything that it may have done has come to light.
func (s *story) step(ctx context.Context, m meter, st step, r *row) error {
	began := time.Now()
	note, err := st.run(ctx)
	r.Seconds, r.Note = time.Since(began).Seconds(), note
	if err != nil {
		return err
	}
	pause(ctx, settle)
	// What is acknowledged from here on is looked for after the next step.
	acked := s.registry.acknowledged()
	there, err := m.names(ctx)
	if err != nil {
		return fmt.Errorf("list the names: %w", err)
	}
	r.addLost(len(acked), lost(acked, there))
	return nil
}

func (s *story) sayRow(r *row) {
	s.say("  %.1f s, %d calls, %d failed, longest gap %s; %d registrations, %d failed, longest gap %s; lost %d of %d", r.Seconds,
		r.Calls, r.FailedCalls, millis(r.GapMS), r.Registered, r.FailedRegistrations, millis(r.RegistrationGapMS), r.Lost, r.Acknowledged)
	for _, text := range r.missed() {
		s.say("  MISSED %s", text)
	}
}

// lateGenerator is from when on the load generator's own lateness is worth a word: gaps of that length may be its machine's.
const lateGenerator = 50 * time.Millisecond

// doubtsIn are the problems that a report of the load test lists, and what a reader of the table should know of the generator.
func doubtsIn(report json.RawMessage) ([]string, error) {
	var r struct {
		Problems  []string `json:"problems"`
		Generator struct {
			Lag struct {
				P99 float64 `json:"p99_us"`
				Max float64 `json:"max_us"`
			} `json:"lag"`
		} `json:"generator"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return nil, fmt.Errorf("the load test's report: %w", err)
	}
	doubts := append([]string{}, r.Problems...)
	if lag := r.Generator.Lag; lag.Max*float64(time.Microsecond) > float64(lateGenerator) {
		doubts = append(doubts, fmt.Sprintf("the generator itself was late by up to %s (p99 %s), because its machine had no time for it: gaps up to that length may be the machine's",
			millis(lag.Max/1000), millis(lag.P99/1000)))
	}
	return doubts, nil
}
