package loadtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

// ControlObject is the id of the object that a run with [Settings.Control] serves while it makes its load:
//
//	phase(name)  begins a phase, and returns what came of the one that ended: its fields in the report but for the histogram,
//	             and failed, the sum of its errors; in the warm-up it waits for the end of that
//	stop()       ends the load as if its time were over; calls under way are cut short, and not counted
const ControlObject = "loadtest.control"

const (
	maxMarks       = 1000 // phases that can be begun from outside; each is kept, with some kilobytes
	maxMarkRunes   = 100
	controlGoodbye = time.Second // for the answer to stop
)

// errStopped ends a load that was told to stop.
var errStopped = errors.New("told to stop")

// control is the object, and the daemon that serves it.
type control struct {
	daemon *core.Daemon
	begun  <-chan struct{} // closed when recording has begun
	mark   func(name string) (traffic.Phase, error)
	stop   func()
}

// listenControl binds the address, so that one that cannot be is found out before anything starts.  Those who connect wait until it serves.
func listenControl(address string) (*control, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	d, err := core.NewDaemon(ln, core.DaemonOptions{})
	if err != nil {
		return nil, fmt.Errorf("--control: %w", err)
	}
	return &control{daemon: d}, nil
}

// serve serves until the function that it returns has been called.
func (c *control) serve() (end func(), err error) {
	if _, err := c.daemon.Register(ControlObject, c.servant(), core.ObjectOptions{}); err != nil {
		return nil, err
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = c.daemon.Serve(context.Background()) // ended by Shutdown; who cannot connect any more sees it
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), controlGoodbye)
		defer cancel()
		_ = c.daemon.Shutdown(ctx) // a connection that does not end in time is cut off
		<-served
	}, nil
}

func (c *control) servant() *core.Servant {
	return &core.Servant{Class: "LoadtestControl", Methods: []core.Method{
		{Name: "phase", Params: []core.Param{{Name: "name"}}, Func: func(ctx context.Context, args []any) (any, error) {
			return c.phase(ctx, args[0])
		}},
		{Name: "stop", Func: func(context.Context, []any) (any, error) {
			c.stop()
			return nil, nil
		}},
	}}
}

func (c *control) phase(ctx context.Context, arg any) (any, error) {
	name, ok := arg.(string)
	if err := checkMark(name); !ok || err != nil {
		return nil, core.ValueError.New("phase(%.100q): want a name of 1 to %d printable characters", fmt.Sprint(arg), maxMarkRunes)
	}
	select {
	case <-c.begun:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ended, err := c.mark(name)
	if err != nil {
		return nil, core.ValueError.New("%v", err)
	}
	return phaseDict(phase(ended)), nil
}

func checkMark(name string) error {
	if n := len([]rune(name)); n < 1 || n > maxMarkRunes || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("not a name")
	}
	return nil
}

// phaseDict is a phase for callers in any language, under the names that it has in the report.
func phaseDict(p report.Phase) map[string]any {
	errs := map[string]any{}
	for kind, n := range p.Errors {
		errs[kind] = n
	}
	return map[string]any{
		"name": p.Name, "from_s": p.From, "to_s": p.To, "rate": p.Rate,
		"good": p.Good, "failed": p.Failed(), "errors": errs,
		"longest_gap_ms": p.GapMS, "first_good_ms": p.FirstGoodMS,
		"latency": map[string]any{
			"count": p.Latency.Count, "mean_us": p.Latency.Mean, "p50_us": p.Latency.P50, "p90_us": p.Latency.P90, "p99_us": p.Latency.P99,
			"p999_us": p.Latency.P999, "p9999_us": p.Latency.P9999, "max_us": p.Latency.Max,
		},
	}
}

// checkControl says what is wrong with the address of --control.
func checkControl(address string) error {
	host, port, err := net.SplitHostPort(address)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || net.ParseIP(host).IsUnspecified() {
		return fmt.Errorf("--control is %q: give host:port, such as localhost:9094; port 0 picks one", address)
	}
	return nil
}
