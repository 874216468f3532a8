package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/loadtest"
	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
)

func newLoadtest(g *globals) *cobra.Command {
	return newGroup("loadtest", "Measure calls, also while things break",
		`loadtest makes calls of an object or a group at a given load, breaks things on a schedule, and reports what callers saw: throughput, latency, the
longest gap, failed calls, and whether any call ran twice or was lost.

"loadtest run" with --spawn starts a cluster and object servers of its own, so that one command gives a result on a bare machine.
See docs/loadtest.md.`,
		newLoadtestRun(g), newLoadtestServe(g), newLoadtestCompare(g), newLoadtestMerge(), newLoadtestPeer(), newLoadtestRawTCP())
}

// runFlags are the flags of a run.
type runFlags struct {
	loadtest.Settings
	scenario        string
	allText         bool
	json, csv, html string
}

func newLoadtestRun(g *globals) *cobra.Command {
	f := &runFlags{Settings: loadtest.Defaults()}
	cmd := &cobra.Command{
		Use:   "run [TARGET]",
		Short: "Make a load and report what came of it",
		Long: `run calls TARGET, a servant of "loadtest serve" (PYRONAME:loadtest, PYRO:loadtest@host:port), or with --call any method of any object, or with
--spawn servers that it starts itself. First it checks that a call works; then it makes the load, and at last it prints a report.

--timeout is that of one call, retries included.

Load: without --rate a closed loop, in which each of --callers makes its next call when the last one has ended. With --rate an open loop: calls are
due at fixed times, and their latency counts from then, so that a stall is seen by every call that was due in it.

Works: add (two numbers), echo:SIZE (a text), oneway, lookup and register (of the name server); a mix with weights: add=3,echo:1KiB=1.

Faults: KIND:TARGET@WHEN[+DURATION][,every=INTERVAL][,delay=TIME]
  kill, stop       a process, with SIGKILL or SIGTERM; with +DURATION it is started again
  restart          SIGTERM, and started again at once
  pause            SIGSTOP for DURATION
  slow             each message waits for delay
  half-open        what is sent on the open connections vanishes for DURATION
  partition        nothing comes through for DURATION
  reset, cut       connections are reset; a message is cut off in its midst
Targets: replica (any object server), leader, follower, replicas, nodes, all, or one by name: replica2, python1, node3.
The processes of a target that runs elsewhere are not ours; its connections to this generator can be broken.

SLO: p50 p90 p99 p99.9 p99.99 max gap errors rate twice lost phantom, each with < <= = >= >, of the whole run or of phases: p99[before]<1ms.
The exit code is 1 if one does not hold.

With --control localhost:9094 the run can be steered by calls of PYRO:loadtest.control@localhost:9094: phase NAME begins a phase and answers with what came
of the one before, stop ends the load.  Whoever reaches the address may do that.

A scenario file has the names of the flags as keys (fault and baseline are lists); flags that are given count more.`,
		Example: `  pyro-cluster loadtest run --spawn nodes=3,replicas=3 --fault kill:replica@3s --fault kill:leader@6s --slo twice=0,lost=0
  pyro-cluster loadtest run PYRONAME:loadtest --rate 1000:10s,5000:10s --work add=3,echo:1KiB --html report.html
  pyro-cluster loadtest run --call 'PYRONAME:bank balance irmen' --callers 16 --contract read-only --slo 'p99<5ms,errors<0.01%'
  pyro-cluster loadtest run --scenario loadtest/scenarios/failover.yaml --json after.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(fmt.Errorf("got %s, want at most TARGET", count(len(args), "argument")), seeHelp(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(g, cmd, args) },
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *runFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.scenario, "scenario", "", "YAML `file` with settings")
	flags.StringVar(&f.Name, "name", "", "of the run, for the report")
	flags.StringVar(&f.Call, "call", "", "call this, `'OBJECT METHOD [ARG...]'`, instead of a servant's works")
	flags.BoolVar(&f.allText, "string", false, "send all arguments of --call as text")
	flags.StringVar(&f.Spawn, "spawn", "", "start the target: `nodes=3,replicas=3,python=1` (object servers in Go, and stock Pyro5 ones)")
	flags.StringVar(&f.Work, "work", f.Work, "`what` is called: add, echo:SIZE, oneway, lookup, register, or a mix")
	flags.IntVar(&f.Callers, "callers", f.Callers, "how many calls can be under way at once")
	flags.IntVar(&f.Connections, "connections", 0, "how many connections to each server at most; 0: as many as are needed")
	flags.StringVar(&f.Rate, "rate", "", "open loop: `calls per second`, or steps such as 1000:10s,5000:10s")
	flags.DurationVar(&f.Duration, "duration", f.Duration, "how long calls are recorded, unless --rate has steps")
	flags.DurationVar(&f.Warmup, "warmup", f.Warmup, "how long the load lasts before that")
	flags.DurationVar(&f.Drain, "drain", f.Drain, "how long an open loop goes on at its end with calls that had to wait")
	flags.DurationVar(&f.Interval, "interval", 0, "length of the intervals in the report (default: about 240 in all)")
	flags.Uint64Var(&f.Seed, "seed", 0, "chooses which of several targets is broken, and which work comes when (default: by chance)")
	flags.Var(&enum{&f.Contract, loadtest.Contracts()}, "contract", "of the called methods: what may be sent again when its outcome is unknown")
	flags.Var(&enum{&f.Serializer, []string{"serpent", "marshal", "json", "msgpack"}}, "serializer", "how arguments travel (default: msgpack, or serpent with servers that lack it)")
	flags.StringArrayVar(&f.Fault, "fault", nil, "`fault` to apply, such as kill:replica@10s; may be repeated")
	flags.DurationVar(&f.Settle, "settle", f.Settle, "how long a fault that is over still counts as under way in the report")
	flags.StringVar(&f.SLO, "slo", "", "`conditions` that decide the exit code: p99<5ms,errors<0.01%,twice=0,lost=0")
	flags.StringSliceVar(&f.Baseline, "baseline", nil, "measure these under the same load before: `rawtcp,pyro5`")
	flags.StringVar(&f.Python, "python", f.Python, "`program` for Python servers; it needs Pyro5")
	flags.StringVar(&f.Control, "control", "", "let phases be begun and the run be ended from outside, by calls to `host:port`")
	flags.StringVar(&f.json, "json", "", "write the report to this `file`")
	flags.StringVar(&f.csv, "csv", "", "write the intervals to this `file`")
	flags.StringVar(&f.html, "html", "", "write a page with plots to this `file`")
}

func (f *runFlags) run(g *globals, cmd *cobra.Command, args []string) error {
	cfg, err := f.config(g, cmd, args)
	if err != nil {
		if isFailure(err) {
			return err
		}
		return usageError(err, "")
	}
	outputs, err := f.outputs()
	if err != nil {
		return err
	}
	ctx, stop := untilHangup(cmd.Context())
	defer stop()
	live := newLive(cmd.ErrOrStderr(), cfg)
	rep, err := loadtest.Run(ctx, cfg, live)
	live.end()
	if rep == nil {
		return loadtestError(err, cfg)
	}
	if err := errors.Join(err, outputs.save(rep)); err != nil {
		return err
	}
	if err := g.printReport(cmd.OutOrStdout(), rep); err != nil {
		return err
	}
	return missed(rep)
}

// config merges the scenario and the flags, and checks the result.
func (f *runFlags) config(g *globals, cmd *cobra.Command, args []string) (*loadtest.Config, error) {
	f.NS, f.Timeout = g.nodes, g.timeout
	s := f.Settings
	if f.scenario != "" {
		s = loadtest.Defaults()
		if err := s.ReadScenario(f.scenario); err != nil {
			return nil, err
		}
		cmd.Flags().Visit(func(flag *pflag.Flag) { override(&s, &f.Settings, flag.Name) })
	}
	if len(args) == 1 {
		s.Target = args[0]
	}
	if s.Seed == 0 {
		s.Seed = loadtest.NewSeed()
	}
	parse := callFlags{allText: f.allText}
	cfg, err := s.Config(parse.value)
	if err != nil {
		return nil, err
	}
	if cfg.Program, err = os.Executable(); err != nil {
		return nil, &failure{exitFailed, err, ""}
	}
	nodes, err := g.secure.client()
	if err != nil {
		return nil, err
	}
	if err := cfg.Secure(nodes, withoutSecret(nodes)); err != nil {
		return nil, err
	}
	cfg.Command, cfg.Version = append([]string{"pyro-cluster"}, os.Args[1:]...), programVersion()
	return cfg, nil
}

// untilHangup ends a run whose terminal has gone as Ctrl-C does, unless hang-ups are ignored (nohup).
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// override sets the field of a setting in s to what it is in from.  Flags, keys of scenario files and fields have the same names.
func override(s, from *loadtest.Settings, name string) {
	to, of := reflect.ValueOf(s).Elem(), reflect.ValueOf(from).Elem()
	for i := range to.NumField() {
		if to.Type().Field(i).Tag.Get("yaml") == name {
			to.Field(i).Set(of.Field(i))
		}
	}
}

// printReport writes the report for people, or as JSON.
func (g *globals) printReport(w io.Writer, rep *report.Report) error {
	if g.output == "json" {
		return rep.Write(w)
	}
	return rep.WriteText(w)
}

// missed returns the error of a run that is not what was wanted of it.
func missed(rep *report.Report) error {
	if rep.OK {
		return nil
	}
	var texts []string
	for _, c := range rep.SLO {
		if !c.OK {
			texts = append(texts, fmt.Sprintf("%s is %s", c.Want, c.Got))
		}
	}
	if len(texts) > 0 {
		return &failure{exitFailed, fmt.Errorf("the SLO is missed: %s", strings.Join(texts, ", ")), ""}
	}
	return &failure{exitFailed, errors.New(strings.Join(rep.Problems, "; ")), ""}
}

// loadtestError says what a run that could not begin, or had to end, found.
func loadtestError(err error, cfg *loadtest.Config) error {
	if call, ok := errors.AsType[*failover.CallError](err); ok {
		code, hint := unanswered(rootCause(call), "--secret-file", hintServers)
		return &failure{code, fmt.Errorf("%s of %s: no answer: %w", call.Method, call.Group, rootCause(call)), hint}
	}
	if isUnanswered(err) {
		code, hint := unanswered(err, "--secret-file", hintServers)
		return &failure{code, err, hint}
	}
	if e, ok := errors.AsType[*core.RemoteError](err); ok && e.Is(core.NamingError) {
		return namingError(err, cfg.NS)
	}
	return err
}

// outputs are the files that a run writes.  That they can be written is found out before it starts; no file is ever half a report.
type outputs []output

type output struct {
	flag  string
	path  string // with symbolic links followed
	mode  fs.FileMode
	write func(*report.Report, io.Writer) error
}

// newFileMode is that of a file that was not there.
const newFileMode = 0o644

func (f *runFlags) outputs() (outputs, error) {
	var out outputs
	for _, o := range []output{
		{flag: "--json", path: f.json, write: (*report.Report).Write},
		{flag: "--csv", path: f.csv, write: (*report.Report).WriteCSV},
		{flag: "--html", path: f.html, write: (*report.Report).WriteHTML},
	} {
		if o.path == "" {
			continue
		}
		if err := o.check(); err != nil {
			return nil, &failure{exitFailed, fmt.Errorf("%s: %w", o.flag, err), "name a file that can be written"}
		}
		for _, other := range out {
			if other.path == o.path {
				return nil, usageError(fmt.Errorf("%s and %s name the same file", other.flag, o.flag), "give each a file of its own")
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// check finds out whether the file can be written, and leaves nothing behind.
func (o *output) check() error {
	path, err := filepath.Abs(o.path)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	o.path, o.mode = path, newFileMode
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", path)
	case err == nil:
		o.mode = info.Mode().Perm()
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		f.Close()
	}
	f, err := o.temporary()
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// temporary makes a file that can become the output by renaming.
func (o *output) temporary() (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(o.path), "."+filepath.Base(o.path)+".*")
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, &fs.PathError{Op: "create", Path: o.path, Err: e.Err} // the temporary name says nothing
	}
	return f, err
}

func (out outputs) save(rep *report.Report) error {
	for _, o := range out {
		if err := o.save(rep); err != nil {
			return fmt.Errorf("write %s: %w", o.path, err)
		}
	}
	return nil
}

func (o *output) save(rep *report.Report) error {
	f, err := o.temporary()
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	if err := errors.Join(o.write(rep, f), f.Chmod(o.mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), o.path)
}

func newLoadtestRawTCP() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rawtcp", Short: "Serve the raw TCP baseline; loadtest run starts it", Hidden: true, Args: exactly(),
		Example: "  pyro-cluster loadtest rawtcp",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "serving", ln.Addr())
			return loadtest.ServeRawTCP(cmd.Context(), ln)
		},
	}
	return cmd
}

// newLoadtestPeer leaves the flags to package peer: the driver that starts it writes them with one dash.
func newLoadtestPeer() *cobra.Command {
	return &cobra.Command{
		Use:   "peer server|client -work W [flags]",
		Short: "Join a benchmark of several systems for remote calls",
		Long: `peer is what a driver starts to measure this project's object layer beside other systems: a server and a client in processes of their own, that say
in one line and one JSON object what the driver has to know. loadtest/bench is such a driver ("make bench-rpc"); others find the description of
this peer in loadtest/bench/pyro-cluster.json.`,
		Example: `  pyro-cluster loadtest peer server -work W2
  pyro-cluster loadtest peer client -work W2 -addr 127.0.0.1:40000 -duration 3s -warmup 800ms`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := peer.Main(cmd.Context(), peer.Pyro(), args, cmd.OutOrStdout())
			if errors.Is(err, peer.ErrUsage) {
				return usageError(err, "")
			}
			return err
		},
	}
}

func newLoadtestCompare(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare A.json B.json",
		Short: "Tell what differs between two runs by more than their own spread",
		Long: `compare sets run B against run A, phase by phase, and exits with 1 if B is worse in anything. The spread of a figure is that of its intervals within the
phase; figures that differ by less are the same.`,
		Example: `  pyro-cluster loadtest run --scenario nightly.yaml --json today.json && pyro-cluster loadtest compare yesterday.json today.json`,
		Args:    exactly("A.json", "B.json"),
		RunE: func(cmd *cobra.Command, args []string) error {
			reports, err := readReports(args)
			if err != nil {
				return err
			}
			return g.compare(cmd.OutOrStdout(), reports[0], reports[1])
		},
	}
	return without(cmd, append(securityFlags, "ns", "timeout")...)
}

func (g *globals) compare(w io.Writer, a, b *report.Report) error {
	differences, err := report.Compare(a, b)
	if err != nil {
		return usageError(err, "compare runs of the same load")
	}
	if g.output == "json" {
		err = printJSON(w, differences)
	} else {
		err = report.WriteComparison(w, a, b, differences)
	}
	if err != nil {
		return err
	}
	var worse []string
	for _, d := range differences {
		if d.Verdict == report.Worse {
			worse = append(worse, fmt.Sprintf("%s of %q", d.Figure, d.Phase))
		}
	}
	if len(worse) > 0 {
		return &failure{exitFailed, fmt.Errorf("worse in B: %s", strings.Join(worse, ", ")), ""}
	}
	return nil
}

func readReports(paths []string) ([]*report.Report, error) {
	var reports []*report.Report
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, &failure{exitFailed, err, `name a file that "loadtest run --json" wrote`}
		}
		rep, err := report.Read(f)
		f.Close()
		if err != nil {
			return nil, &failure{exitDamaged, fmt.Errorf("%s: %w", path, err), `name a file that "loadtest run --json" wrote`}
		}
		reports = append(reports, rep)
	}
	return reports, nil
}

func newLoadtestMerge() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "merge A.json B.json...",
		Short: "Add up the runs of several generators",
		Long: `merge makes one report of those of several generators that called the same target at the same time with the same schedule: calls and rates are summed,
latencies merged exactly.`,
		Example: `  pyro-cluster loadtest merge generator1.json generator2.json --json both.json --html both.html`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError(fmt.Errorf("got %s, want two reports or more", count(len(args), "argument")), seeHelp(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			reports, err := readReports(args)
			if err != nil {
				return err
			}
			outputs, err := f.outputs()
			if err != nil {
				return err
			}
			rep, err := report.Merge(reports...)
			if err != nil {
				return usageError(err, "merge runs of the same load at the same time")
			}
			if err := errors.Join(outputs.save(rep), rep.WriteText(cmd.OutOrStdout())); err != nil {
				return err
			}
			return missed(rep)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.json, "json", "", "write the sum to this `file`")
	flags.StringVar(&f.csv, "csv", "", "write its intervals to this `file`")
	flags.StringVar(&f.html, "html", "", "write a page with plots to this `file`")
	return without(cmd, append(securityFlags, "ns", "output", "timeout")...)
}
