package peer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrUsage is matched by errors of Main about its arguments.
var ErrUsage = errors.New("wrong usage")

type usageError string

func (e usageError) Error() string        { return string(e) }
func (e usageError) Is(target error) bool { return target == ErrUsage }

func usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

const usage = `Usage: server -work W [-dynamic]
       client -work W -addr TOKEN [-dynamic] [-duration 3s] [-warmup 800ms] [-server-pids PID,...] [-ctl HOST:PORT] [-concurrency N] [-idle N]

server prints "ADDR TOKEN pids=PID ctl=HOST:PORT" and serves until SIGTERM.
client measures that server and prints one JSON object.

Works:
  W1  add of two integers, 1 caller
  W2  the same, 64 callers
  W3  echo of a text of 1 KiB, 64 callers
  W4  echo of 1 MiB of bytes, 1 caller
  W5  one-way messages, 1 caller
  W6  64 callers as in W2, and 1,000 connections with a call a second each
  W7  events of 128 bytes, 1 publisher, 10 subscribers, at most 4,096 not yet received by the slowest

Flags of client:
`

// options are the flags of both commands.
type options struct {
	work       work
	addr       string
	duration   time.Duration
	warmup     time.Duration
	callers    int
	idle       int
	serverPIDs []int
	ctl        string
	dynamic    bool
	plain      bool
}

// Main is a program for p: args are "server" or "client" and their flags, stdout gets what the driver waits for.  The server runs until
// ctx ends, which is no error; for a client it is.  The error is one line, and matches [ErrUsage] if args are wrong; errors of the system
// measured are in its text alone.  "-h" prints help.
func Main(ctx context.Context, p Peer, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return usagef("got no command: start with server or client, or see -h")
	}
	command, rest := args[0], args[1:]
	if isHelp(command) {
		return printHelp(stdout)
	}
	if command != "server" && command != "client" {
		return usagef("unknown command %q: start with server or client, or see -h", command)
	}
	o, err := parse(p, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return printHelp(stdout)
	case err != nil:
		return fmt.Errorf("%s: %w", command, err)
	}
	switch {
	case o.dynamic:
		p = *p.Dynamic
	case o.plain:
		p = *p.Plain
	}
	switch {
	case command == "server":
		err = serve(ctx, p, o.work, stdout)
	case o.addr == "":
		err = usagef("-addr is missing: give the token that the server printed")
	default:
		err = runClient(ctx, p, o, stdout)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

func isHelp(arg string) bool { return slices.Contains([]string{"-h", "-help", "--help"}, arg) }

// newFlags returns the flags, and a function that checks what they were set to.
func newFlags(p Peer) (fs *flag.FlagSet, check func() (options, error)) {
	var o options
	fs = flag.NewFlagSet("", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // of complaints, which parse returns as errors
	name := fs.String("work", "W1", "`work` to do")
	fs.StringVar(&o.addr, "addr", "", "the `token` that the server printed")
	fs.DurationVar(&o.duration, "duration", 3*time.Second, "time measured")
	fs.DurationVar(&o.warmup, "warmup", 800*time.Millisecond, "time before it, not measured")
	fs.IntVar(&o.callers, "concurrency", 0, "callers; 0 is as many as the work has")
	fs.IntVar(&o.idle, "idle", 1000, "connections with a call a second in W6")
	pids := fs.String("server-pids", "", "`processes` whose CPU and memory are the server's, separated by commas")
	fs.StringVar(&o.ctl, "ctl", "", "`host:port` that counts the server's allocations")
	fs.BoolVar(&o.dynamic, "dynamic", false, "call by name, in place of generated code, if the system has both")
	fs.BoolVar(&o.plain, "plain", false, "a connection for each caller, one call at a time on it, if the system has both")
	return fs, func() (options, error) { return o.checked(p, *name, *pids) }
}

func parse(p Peer, args []string) (options, error) {
	fs, check := newFlags(p)
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return options{}, err
	} else if err != nil {
		return options{}, usagef("%v", err)
	}
	if fs.NArg() > 0 {
		return options{}, usagef("unexpected argument %q: see -h", fs.Arg(0))
	}
	return check()
}

const (
	maxCallers = 10_000           // what a daemon takes, and more connections than a loopback test opens by intent
	maxTime    = 24 * time.Hour   // of a phase
	maxLatency = 60 * time.Second // that is told apart in the histogram
)

func (o options) checked(p Peer, name, pids string) (options, error) {
	var err error
	if o.work, err = p.workNamed(name); err != nil {
		return o, err
	}
	if o.serverPIDs, err = parsePIDs(pids); err != nil {
		return o, err
	}
	switch {
	case o.duration <= 0 || o.duration > maxTime:
		return o, usagef("-duration: got %v, want more than 0 and at most %v", o.duration, maxTime)
	case o.warmup < 0 || o.warmup > maxTime:
		return o, usagef("-warmup: got %v, want 0 to %v", o.warmup, maxTime)
	case o.callers < 0 || o.callers > maxCallers:
		return o, usagef("-concurrency: got %d, want 0 to %d", o.callers, maxCallers)
	case o.work.newCaller == nil && o.callers > 1:
		return o, usagef("-concurrency: got %d, but %s has one caller", o.callers, o.work.name)
	case o.dynamic && p.Dynamic == nil:
		return o, usagef("-dynamic: this system has one way to call")
	case o.plain && p.Plain == nil:
		return o, usagef("-plain: this system has one way to use connections")
	case o.plain && o.dynamic:
		return o, usagef("-plain and -dynamic: give one of them")
	case o.idle < 0 || o.idle > maxCallers:
		return o, usagef("-idle: got %d, want 0 to %d", o.idle, maxCallers)
	}
	if o.callers == 0 {
		o.callers = o.work.callers
	}
	if !o.work.idle {
		o.idle = 0
	}
	return o, nil
}

const maxPID = 1 << 22 // of Linux

func parsePIDs(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var pids []int
	for text := range strings.SplitSeq(list, ",") {
		pid, err := strconv.Atoi(text)
		if err != nil || pid <= 0 || pid > maxPID {
			return nil, usagef("-server-pids: got %q, want process ids separated by commas", list)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func printHelp(w io.Writer) error {
	fs, _ := newFlags(Peer{})
	var text strings.Builder
	text.WriteString(usage)
	fs.SetOutput(&text)
	fs.PrintDefaults()
	_, err := io.WriteString(w, text.String())
	return err
}

func runClient(ctx context.Context, p Peer, o options, stdout io.Writer) error {
	r, err := measure(ctx, p, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}
