package loadtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
	"github.com/pyro-cluster/pyro-cluster/loadtest/servant"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// Work is one kind of call in a mix.
type Work struct {
	Kind   string // add, echo, oneway, lookup, register, call
	Size   int    // of what is echoed, bytes
	Weight int
}

// String returns the text that ParseWorks reads, without a weight.
func (w Work) String() string {
	if w.Kind != workEcho {
		return w.Kind
	}
	for unit, suffix := range sizeUnits() {
		if w.Size%unit == 0 {
			return fmt.Sprintf("%s:%d%s", w.Kind, w.Size/unit, suffix)
		}
	}
	return "" // not reached: the last unit divides everything
}

func sizeUnits() func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		_ = yield(1<<20, "MiB") && yield(1<<10, "KiB") && yield(1, "B")
	}
}

// The kinds of work.
const (
	workAdd      = "add"
	workEcho     = "echo"
	workOneway   = "oneway"
	workLookup   = "lookup"
	workRegister = "register"
	workCall     = "call"
)

// workKind says what a kind of work is.
type workKind struct {
	name   string
	ledger bool // the servants write its calls down
	oneway bool
	names  bool // it is a call of the name server, not of the target
	make   func(w Work, on endpoints) func(ctx context.Context, id ledger.ID) error
}

var workKinds = []workKind{
	{name: workAdd, ledger: true, make: makeAdd},
	{name: workEcho, ledger: true, make: makeEcho},
	{name: workOneway, ledger: true, oneway: true, make: makeOneway},
	{name: workLookup, names: true, make: makeLookup},
	{name: workRegister, names: true, make: makeRegister},
	{name: workCall, make: makeCall},
}

// futureWorks need what the object layer does not have, or not yet.
var futureWorks = map[string]string{
	"batch":  "calls in batches are not among the works",
	"stream": "item streams are not among the works",
}

func (w Work) kind() workKind {
	return workKinds[slices.IndexFunc(workKinds, func(k workKind) bool { return k.name == w.Kind })]
}

func ledgerWorks() []string {
	var names []string
	for _, k := range workKinds {
		if k.ledger {
			names = append(names, k.name)
		}
	}
	return names
}

// maxEchoBytes is what a message may hold by default, less some room for what is around it.
const maxEchoBytes = 60 << 20

// ParseWorks parses "add", "echo:1KiB" or a mix with weights, "add=3,echo:64B=1".
func ParseWorks(text string) ([]Work, error) {
	var works []Work
	for part := range strings.SplitSeq(text, ",") {
		w, err := parseWork(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("--work has %q: %w", part, err)
		}
		if slices.ContainsFunc(works, func(o Work) bool { return o.String() == w.String() }) {
			return nil, fmt.Errorf("--work has %s twice: give it once, with the sum of the weights", w)
		}
		works = append(works, w)
	}
	return works, nil
}

func parseWork(text string) (Work, error) {
	text, weight, hasWeight := strings.Cut(text, "=")
	kind, size, hasSize := strings.Cut(text, ":")
	w := Work{Kind: kind, Weight: 1}
	if why, ok := futureWorks[kind]; ok {
		return w, errors.New(why)
	}
	if kind == workCall || !slices.ContainsFunc(workKinds, func(k workKind) bool { return k.name == kind }) {
		return w, errors.New("works are add, echo:SIZE, oneway, lookup, register; --call calls a method of any object")
	}
	var err error
	if hasWeight {
		if w.Weight, err = strconv.Atoi(weight); err != nil || w.Weight < 1 || w.Weight > 1_000_000 {
			return w, errors.New("a weight is a number from 1 to 1000000")
		}
	}
	if hasSize != (kind == workEcho) {
		return w, errors.New("echo has a size, and only echo: echo:1KiB")
	}
	if hasSize {
		w.Size, err = parseSize(size)
	}
	return w, err
}

func parseSize(text string) (int, error) {
	unit := 1
	for u, suffix := range sizeUnits() {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = rest, u
			break
		}
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxEchoBytes/unit {
		return 0, fmt.Errorf("a size is 1B to %dMiB", maxEchoBytes>>20)
	}
	return n * unit, nil
}

func (c *Config) parseWorks() ([]Work, error) {
	if c.method != "" {
		if c.Work != Defaults().Work {
			return nil, errors.New("--work and --call exclude each other: give one of them")
		}
		return []Work{{Kind: workCall, Weight: 1}}, nil
	}
	return ParseWorks(c.Work)
}

// endpoints are what works are done with.
type endpoints struct {
	object core.Caller
	names  *naming.Client // nil if no work needs it
	uri    core.URI       // of an object, to register
	run    uint64
	method string // of --call
	args   []any
}

// errWrongAnswer is the answer of a servant that does not do what it should.
var errWrongAnswer = errors.New("wrong answer")

func makeAdd(_ Work, on endpoints) func(context.Context, ledger.ID) error {
	var n atomic.Int64
	return func(ctx context.Context, _ ledger.ID) error {
		a := n.Add(1) & math.MaxInt32
		var sum int64
		err := on.object.Call(ctx, "add", &sum, a, int64(12345))
		if err == nil && sum != a+12345 {
			return errWrongAnswer
		}
		return err
	}
}

func makeEcho(w Work, on endpoints) func(context.Context, ledger.ID) error {
	text := string(bytes.Repeat([]byte("0123456789abcdef"), w.Size/16+1)[:w.Size])
	return func(ctx context.Context, _ ledger.ID) error {
		var back string
		err := on.object.Call(ctx, "echo", &back, text)
		if err == nil && back != text {
			return errWrongAnswer
		}
		return err
	}
}

func makeOneway(_ Work, on endpoints) func(context.Context, ledger.ID) error {
	return func(ctx context.Context, _ ledger.ID) error { return on.object.Call(ctx, "oneway", nil, int64(1)) }
}

func makeLookup(_ Work, on endpoints) func(context.Context, ledger.ID) error {
	return func(ctx context.Context, _ ledger.ID) error {
		_, err := on.names.Lookup(ctx, naming.ObjectID)
		return err
	}
}

// makeRegister registers a name of each caller's own again and again.  [removeNames] takes them away.
func makeRegister(_ Work, on endpoints) func(context.Context, ledger.ID) error {
	return func(ctx context.Context, id ledger.ID) error {
		return on.names.Register(ctx, fmt.Sprintf("%s%d", namePrefix(on.run), id.Caller()), on.uri, naming.RegisterOptions{})
	}
}

func namePrefix(run uint64) string { return fmt.Sprintf("loadtest.%016x.", run) }

func makeCall(_ Work, on endpoints) func(context.Context, ledger.ID) error {
	return func(ctx context.Context, _ ledger.ID) error { return on.object.Call(ctx, on.method, nil, on.args...) }
}

// traffic makes the work for the generator: every call carries its id, and ends as one of a few kinds.
func (w Work) traffic(on endpoints) traffic.Work {
	kind := w.kind()
	call := kind.make(w, on)
	return traffic.Work{Name: w.String(), Weight: w.Weight, Call: func(ctx context.Context, id ledger.ID) traffic.Result {
		if kind.ledger {
			ctx = core.WithCorrelationID(ctx, id)
		}
		err := call(ctx, id)
		r := traffic.Result{Fate: fate(err), Error: errorKind(err)}
		if err == nil && kind.oneway {
			r.Fate = ledger.Sent
		}
		return r
	}}
}

// fate is what a caller knows of a call that ended with err.
func fate(err error) ledger.Fate {
	switch {
	case err == nil, errors.Is(err, errWrongAnswer):
		return ledger.Acked
	case servant.NotRun(err):
		return ledger.NotExecuted
	}
	switch failover.OutcomeOf(err) {
	case failover.Executed:
		return ledger.Acked
	case failover.NotExecuted:
		return ledger.NotExecuted
	}
	return ledger.Unknown
}

// errorNoLedger is the kind of a call that a servant did not run because it could not write it down.
const errorNoLedger = "not executed: the ledger cannot be written"

// errorKind puts an error into one of a few kinds: what is known of the call, and why it failed.
func errorKind(err error) string {
	if err == nil {
		return ""
	}
	if errors.Is(err, errWrongAnswer) {
		return err.Error()
	}
	if servant.NotRun(err) {
		return errorNoLedger
	}
	raised, isRemote := errors.AsType[*core.RemoteError](err)
	if isRemote && failover.OutcomeOf(err) == failover.Executed {
		return "raised " + string(raised.Class)
	}
	return failover.OutcomeOf(err).String() + ": " + cause(err, raised)
}

// causes tells the errors of connections apart.  The first match counts.
var causes = []struct {
	err  error
	text string
}{
	{failover.ErrNoMembers, "no members"},
	{core.ErrClosed, "closed"},
	{syscall.ECONNREFUSED, "connection refused"},
	{syscall.ECONNRESET, "connection reset"},
	{syscall.EPIPE, "connection reset"},
	{syscall.EADDRNOTAVAIL, "no free local port"},
	{syscall.EMFILE, "too many open files"},
	{io.ErrUnexpectedEOF, "connection closed"},
	{io.EOF, "connection closed"},
	{context.DeadlineExceeded, "timed out"},
	{os.ErrDeadlineExceeded, "timed out"},
	{context.Canceled, "cancelled"},
}

func cause(err error, raised *core.RemoteError) string {
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.text
		}
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "timed out"
	}
	if raised != nil {
		return string(raised.Class)
	}
	return "failed"
}
