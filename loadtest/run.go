package loadtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// Progress hears what a run is doing.  Its methods are called one at a time and must not block for long.
type Progress interface {
	Stage(text string)                        // what is being done
	Interval(i report.Interval, phase string) // an interval of the load is over
	Fault(e fault.Event)                      // a fault was applied or undone
	Baseline(b report.Baseline)               // a baseline was measured
}

// run is one run under way.
type run struct {
	cfg      *Config
	progress Progress
	id       uint64 // of the run, in the ids of its calls

	world   *world // nil: the target runs elsewhere
	target  *target
	started time.Time
	journal *ledger.Journal // nil: no ledger is kept
	phases  *phases
	control *control // nil: nobody steers the run

	mu       sync.Mutex // protects what follows, and orders calls of progress
	faults   []report.Fault
	problems []string
	fatal    bool // a problem that fails the run whatever its SLO
}

// Run makes a run.  The report is nil if the run could not begin, or if a fault could not be applied: such a run proves nothing.  When
// ctx ends in its midst, the report is that of a run cut short, and says so.
func Run(ctx context.Context, cfg *Config, progress Progress) (_ *report.Report, err error) {
	r := &run{cfg: cfg, progress: progress, started: time.Now(), id: rand.Uint64()}
	defer func() {
		if err != nil && ctx.Err() != nil { // what was cut off has nothing more to say
			err = fmt.Errorf("stopped before calls could be recorded: %w", context.Cause(ctx))
		}
		err = errors.Join(err, r.close())
	}()
	if err := cfg.checkPython(ctx); err != nil {
		return nil, err
	}
	if cfg.Control != "" {
		if r.control, err = listenControl(cfg.Control); err != nil {
			return nil, err
		}
		r.stage("steered by %s", r.control.daemon.URI(ControlObject))
	}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	on, members, err := r.check(ctx)
	if err != nil {
		return nil, err
	}
	baselines, err := r.baselines(ctx)
	if err != nil {
		return nil, err
	}
	r.stage("calling")
	m, err := r.measure(ctx, on)
	if err != nil {
		return nil, err
	}
	rep := r.report(ctx, m, members)
	rep.Baselines = compareBaselines(baselines, rep.Phases)
	r.judge(ctx, rep)
	return rep, nil
}

func (r *run) stage(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Stage(fmt.Sprintf(format, args...))
}

// problem notes a reason not to trust the run.
func (r *run) problem(fatal bool, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
	r.fatal = r.fatal || fatal
}

// start starts the target, or connects to it.
func (r *run) start(ctx context.Context) error {
	c := r.cfg
	if c.spawn == nil {
		var err error
		r.target, err = c.open(c.ref, c.NS)
		return err
	}
	r.stage("starting nodes: %d, object servers: %d", c.spawn.Nodes, c.spawn.Replicas+c.spawn.Python)
	var err error
	if r.world, err = startWorld(ctx, c); err != nil {
		return err
	}
	c.ref = r.world.reference()
	if r.target, err = c.open(c.ref, r.world.nodes.Addresses()); err == nil {
		r.target.kind, r.target.name = kindSpawned, c.Spawn
	}
	return err
}

// check makes every kind of call once, so that what cannot work is an error before the load starts.
func (r *run) check(ctx context.Context) (endpoints, []failover.Member, error) {
	t := r.target
	on := endpoints{object: t.object, names: t.names, run: r.id, method: r.cfg.method, args: r.cfg.args}
	members, err := t.members(ctx)
	if err != nil {
		return on, nil, err
	}
	if len(members) == 0 {
		return on, nil, fmt.Errorf("%s: %w", t.name, failover.ErrNoMembers)
	}
	on.uri = members[0].URI
	for _, w := range r.cfg.works {
		if err := w.kind().make(w, on)(ctx, ledger.ID{}); err != nil {
			return on, nil, fmt.Errorf("a first %s: %w", w, err)
		}
	}
	return on, members, r.checkLedger(ctx, members)
}

// checkLedger finds out whether the target keeps a ledger.
func (r *run) checkLedger(ctx context.Context, members []failover.Member) error {
	why := r.cfg.unledgered()
	if why == "" && r.world == nil {
		if err := r.target.hasLedger(ctx, members); err != nil {
			why = err.Error()
		}
	}
	if why == "" {
		r.journal = ledger.NewJournal(r.id, r.cfg.Callers)
		return nil
	}
	if name, needs := r.cfg.slo.NeedsLedger(); needs {
		return fmt.Errorf("--slo has %s, which nobody can count: %s", name, why)
	}
	return nil
}

// measurement is what came out of the load.
type measurement struct {
	record  traffic.Record
	summary traffic.Summary
	cpu     time.Duration // that this process used meanwhile
	short   error         // why the run ended before its time
}

// measure makes the load and the faults side by side.
func (r *run) measure(ctx context.Context, on endpoints) (*measurement, error) {
	c := r.cfg
	defer quietGC()()
	r.phases = &phases{settle: c.Settle, faulty: len(c.faults) > 0, marked: r.control != nil}
	first := r.phases.first(stepLabel(c.steps, 0))
	var works []traffic.Work
	var names []string
	for _, w := range c.works {
		works, names = append(works, w.traffic(on)), append(names, w.String())
	}
	rec := traffic.NewRecorder(traffic.RecorderOptions{Interval: c.interval(), Works: names, First: first, OnInterval: r.onInterval})
	r.phases.begin = rec.Begin

	load, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	faults := make(chan error, 1) // one result, read once
	over, stopFaults := context.WithCancel(load)
	defer stopFaults()
	endControl, err := r.serveControl(rec, cancel)
	if err != nil {
		return nil, err
	}
	defer endControl()
	go func() { faults <- r.breakThings(over, rec, cancel) }()

	m := &measurement{}
	before := cpuTime()
	summary, err := traffic.Run(load, c.load(), works, rec, r.journal)
	m.cpu = cpuTime() - before
	r.phases.end()
	stopFaults()
	broken := <-faults
	switch {
	case ctx.Err() != nil:
		m.short = context.Cause(ctx)
	case broken != nil:
		return nil, broken
	case err != nil && !errors.Is(err, errStopped):
		return nil, err
	}
	m.summary, m.record = summary, rec.Record()
	return m, nil
}

// serveControl lets the run be steered, until the function that it returns has been called.
func (r *run) serveControl(rec *traffic.Recorder, cancel context.CancelCauseFunc) (end func(), err error) {
	if r.control == nil {
		return func() {}, nil
	}
	r.control.begun, r.control.mark = rec.Started(), r.phases.begun
	r.control.stop = func() { cancel(errStopped) }
	return r.control.serve()
}

func (r *run) onInterval(i traffic.Interval) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Interval(interval(i), i.PhaseName)
}

// breakThings follows the schedule from the start of recording on, and tells the phases apart.  A fault that cannot be applied ends the run.
func (r *run) breakThings(ctx context.Context, rec *traffic.Recorder, cancel context.CancelCauseFunc) error {
	select {
	case <-rec.Started():
	case <-ctx.Done():
		return nil
	}
	var steps sync.WaitGroup
	defer steps.Wait()
	steps.Go(func() { r.followSteps(ctx) })
	if len(r.cfg.faults) == 0 {
		return nil
	}
	var in fault.Injector = remoteInjector{r.target}
	if r.world != nil {
		in = worldInjector{r.world, r.target.names}
	}
	in = &watched{Injector: in, rounds: map[fault.Spec]int{}, begins: func(s fault.Spec, round int, targets []string) {
		r.phases.begins(label(s, round))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.faults = append(r.faults, report.Fault{Spec: s.String(), Round: round, Targets: targets, At: rec.Elapsed().Seconds(), Healed: -1})
	}}
	err := fault.Run(ctx, r.cfg.faults, r.cfg.Length(), r.cfg.Seed, in, func(e fault.Event) { r.onFault(e, rec.Elapsed()) })
	if err != nil {
		cancel(err)
	}
	return err
}

// followSteps begins a phase with each step of the load.
func (r *run) followSteps(ctx context.Context) {
	for i, s := range r.cfg.steps {
		if i == len(r.cfg.steps)-1 {
			return
		}
		t := time.NewTimer(s.For)
		select {
		case <-t.C:
			r.phases.nextStep(stepLabel(r.cfg.steps, i+1))
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// stepLabel names a step; it is empty if there is only one.
func stepLabel(steps []traffic.Step, i int) string {
	if len(steps) < 2 {
		return ""
	}
	return fmt.Sprintf("%d: %g/s", i+1, steps[i].Rate)
}

func (r *run) onFault(e fault.Event, at time.Duration) {
	r.phases.onFault(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Fault(e)
	for i := range r.faults {
		f := &r.faults[i]
		switch same := f.Spec == e.Spec.String() && f.Round == e.Round && e.Err == nil; {
		case same && e.Healed:
			f.Healed, f.HealedMS = at.Seconds(), millis(e.Took)
		case same:
			f.TookMS = millis(e.Took)
		}
	}
}

// judge compares what callers were told with what ran, and the run with its SLO.
func (r *run) judge(ctx context.Context, rep *report.Report) {
	r.removeNames(ctx)
	if r.journal != nil {
		r.stage("reading the ledgers")
		rep.Ledger = r.judgeLedger(ctx)
	}
	if r.world != nil {
		if err := r.world.stopNodes(); err != nil {
			r.problem(true, "a node did not end well: %v", err)
		}
	}
	rep.SLO = r.cfg.slo.Judge(rep)
	rep.Problems = append(rep.Problems, r.problems...)
	rep.OK = !r.fatal
	for _, c := range rep.SLO {
		rep.OK = rep.OK && c.OK
	}
}

func (r *run) judgeLedger(ctx context.Context) *report.Ledger {
	ledgers := r.target.ledgers
	if r.world != nil {
		// What the servers still run, oneway calls for instance, is in the ledgers when they have ended.
		if err := r.world.stopServers(); err != nil {
			r.problem(true, "an object server did not end well: %v", err)
		}
		verdict, err := r.journal.Judge(r.world.ledgers()...)
		return r.ledger(verdict, err)
	}
	_, _ = r.target.members(ctx) // those that joined meanwhile have a ledger, too; without an answer those that are known have to do
	verdict, err := r.journal.Judge(ledgers(context.WithoutCancel(ctx))...)
	return r.ledger(verdict, err)
}

func (r *run) ledger(v ledger.Verdict, err error) *report.Ledger {
	if err != nil {
		_, needed := r.cfg.slo.NeedsLedger()
		r.problem(needed, "a ledger could not be read, so lost says too much and twice too little: %v", err)
	}
	return &report.Ledger{Verdict: v, Complete: err == nil}
}

// removeNames takes away what the work register left in the name server.
func (r *run) removeNames(ctx context.Context) {
	for _, w := range r.cfg.works {
		if w.Kind != workRegister {
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Timeout)
		defer cancel()
		if _, err := r.target.names.RemoveAll(ctx, naming.Query{Prefix: namePrefix(r.id)}); err != nil {
			r.problem(false, "the names %s* could not be removed: %v", namePrefix(r.id), err)
		}
	}
}

func (r *run) close() error {
	if r.control != nil {
		r.control.daemon.Close()
	}
	if r.target != nil {
		r.target.close()
	}
	if r.world != nil {
		return r.world.close()
	}
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// needsPython reports whether a Python is started.
func (c *Config) needsPython() bool {
	for _, b := range c.Baseline {
		if b == baselinePyro5 {
			return true
		}
	}
	return c.spawn != nil && c.spawn.Python > 0
}
