// Command bench compares calls through this project's object layer with the same calls through other systems on the same machine: bare TCP, net/rpc
// and grpc-go.  It measures them in turn, a server process and a client process at a time, and prints rates and their ratios.
//
//	go run ./loadtest/bench [-rounds 3] [-duration 1s] [-warmup 300ms] [-work W1,W2] [-peers pyro-cluster,rawtcp] [-json FILE]
//
// Package [github.com/pyro-cluster/pyro-cluster/loadtest/peer] says what the works are and how they are measured.  The processes are
// this program again, as "bench peer NAME server|client".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

func main() {
	// A child gets a signal when it has printed its result, maybe while it exits: signals have their usual effect again only some time after
	// the first.
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, restore) })
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", strings.Join(strings.Fields(err.Error()), " "))
		os.Exit(1)
	}
}

// system is one of those compared.
type system struct {
	name string
	peer peer.Peer
	note string // what it is, for readers of the table
}

// ours is the system that the others are compared with.
const ours = "pyro-cluster"

func systems() []system {
	return []system{
		{ours, peer.Pyro(), "core.Daemon and core.Proxy with generated code, msgpack, callers share a connection; W5: one-way calls, written together"},
		{"rawtcp", rawTCP(), "bare TCP, as many bytes each way as a call of pyro-cluster, a connection for each caller; W5: a write each"},
		{"netrpc", netRPC(), "net/rpc of the standard library with gob, callers share a connection; W5: asynchronous calls, 1,024 under way"},
		{"grpc-go", grpcGo(), "google.golang.org/grpc without TLS, callers share a connection; W5: a client stream"},
	}
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "peer" {
		return runPeer(ctx, args[1:], stdout)
	}
	s, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return printHelp(stdout)
	}
	if err != nil {
		return err
	}
	if s.program, err = os.Executable(); err != nil {
		return err
	}
	return compare(ctx, s, stdout, stderr)
}

// runPeer is a child process.
func runPeer(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errors.New("peer: got no name: this is how bench starts its own child processes")
	}
	s, err := systemsNamed(args[0])
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return peer.Main(ctx, s[0].peer, args[1:], stdout)
}

// settings are the flags.
type settings struct {
	rounds           int
	duration, warmup time.Duration
	works            []string
	systems          []system
	json             string
	idle             int
	program          string // that the children are
}

const usage = `Usage: bench [flags]

Compares calls through pyro-cluster with other systems on this machine.  Works: see "bench peer pyro-cluster -h".

`

func newFlags() (fs *flag.FlagSet, check func() (settings, error)) {
	var s settings
	var names []string
	for _, sys := range systems() {
		names = append(names, sys.name)
	}
	fs = flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // of complaints, which parse returns as errors
	fs.IntVar(&s.rounds, "rounds", 3, "how often each system does each work")
	fs.DurationVar(&s.duration, "duration", time.Second, "time measured")
	fs.DurationVar(&s.warmup, "warmup", 300*time.Millisecond, "time before it, not measured")
	fs.IntVar(&s.idle, "idle", 1000, "idle connections in W6")
	fs.StringVar(&s.json, "json", "", "`file` for the figures of every run")
	works := fs.String("work", strings.Join(peer.Works(), ","), "`works` to do")
	peers := fs.String("peers", strings.Join(names, ","), "`systems` to compare")
	return fs, func() (settings, error) { return s.checked(*works, *peers) }
}

func parse(args []string) (settings, error) {
	fs, check := newFlags()
	if err := fs.Parse(args); err != nil {
		return settings{}, err
	}
	if fs.NArg() > 0 {
		return settings{}, fmt.Errorf("unexpected argument %q: see -h", fs.Arg(0))
	}
	return check()
}

func (s settings) checked(works, peers string) (settings, error) {
	s.works = strings.Split(works, ",")
	for _, w := range s.works {
		if !slices.Contains(peer.Works(), w) {
			return s, fmt.Errorf("-work: got %q, want some of %s", w, strings.Join(peer.Works(), ","))
		}
	}
	var err error
	if s.systems, err = systemsNamed(peers); err != nil {
		return s, fmt.Errorf("-peers: %w", err)
	}
	switch {
	case s.rounds < 1 || s.rounds > 1000:
		return s, fmt.Errorf("-rounds: got %d, want 1 to 1000", s.rounds)
	case s.duration <= 0 || s.duration > time.Hour:
		return s, fmt.Errorf("-duration: got %v, want more than 0 and at most 1h", s.duration)
	case s.warmup < 0 || s.warmup > time.Hour:
		return s, fmt.Errorf("-warmup: got %v, want 0 to 1h", s.warmup)
	case s.idle < 0 || s.idle > 10_000:
		return s, fmt.Errorf("-idle: got %d, want 0 to 10000", s.idle)
	}
	return s, nil
}

func systemsNamed(list string) ([]system, error) {
	all := systems()
	var chosen []system
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(s system) bool { return s.name == name })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.name)
			}
			return nil, fmt.Errorf("got %q, want some of %s", name, strings.Join(known, ","))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func printHelp(w io.Writer) error {
	fs, _ := newFlags()
	var text strings.Builder
	text.WriteString(usage)
	fs.SetOutput(&text)
	fs.PrintDefaults()
	_, err := io.WriteString(w, text.String())
	return err
}

// machine says where the figures come from.
func machine() string {
	return fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
