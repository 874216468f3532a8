// Package fault breaks things on a schedule.  It knows when and what; an [Injector] knows how.
package fault

import (
	"context"
	"math/rand/v2"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	Kill      Kind = "kill"      // SIGKILL; started again after Duration, if there is one
	Pause     Kind = "pause"     // SIGSTOP, and SIGCONT after Duration
	Stop      Kind = "stop"      // SIGTERM; started again after Duration, if there is one
	Restart   Kind = "restart"   // SIGTERM, and started again at once
	Slow      Kind = "slow"      // each message to and from the target waits, for Duration
	HalfOpen  Kind = "half-open" // what is sent on the open connections of the target vanishes, for Duration
	Reset     Kind = "reset"     // the open connections of the target are reset
	Cut       Kind = "cut"       // a message to or from the target is cut off in its midst, and the connection reset
	Partition Kind = "partition" // nothing reaches or leaves the target, for Duration
)

// OnLink reports whether the fault is one of connections, which needs a proxy in front of the target, rather than one of a process.
func (k Kind) OnLink() bool { panic("stub") }

// Spec is a fault of a schedule, as the text "kind:target@when[+duration][,every=interval][,delay=time]" has it: "kill:replica@10s",
// "pause:leader@20s+3s", "kill:replica@5s+2s,every=5s", "slow:replicas@10s+5s,delay=50ms".
type Spec struct {
	Kind     Kind
	Target   string        // see [ValidTarget]
	At       time.Duration // since the start of recording
	Duration time.Duration // how long it lasts; 0 for ever, or for kinds that happen in a moment
	Every    time.Duration // repeated until the end of the run; 0 once
	Delay    time.Duration // of Slow
}

// Parse parses the text of a Spec.  What cannot work is an error: no target, a duration where none is taken or none where one is
// needed, an Every that is not longer than Duration, kill or stop again and again without starting again.
func Parse(s string) (Spec, error) { panic("stub") }

// String returns the text that Parse reads.
func (s Spec) String() string { panic("stub") }

// ValidTarget reports whether target is a word for what faults are aimed at: replica, leader, follower (one, any of them by chance),
// replicas, nodes, all (everything), or one by its name: replica2, python1, node3.
func ValidTarget(target string) bool { panic("stub") }

// Injector applies faults.
type Injector interface {
	// Resolve returns the names of the targets that a word stands for now.  There is at least one, or an error says why not.  rng decides
	// where one of several is meant.
	Resolve(ctx context.Context, s Spec, rng *rand.Rand) ([]string, error)
	// Inject applies a fault to a target, by its name, and returns when it is in effect.  Undo, nil if there is nothing to undo, ends it
	// and returns when it has ended: a process that is started again serves again.
	Inject(ctx context.Context, s Spec, target string) (undo func(context.Context) error, err error)
}

// Event is something that the schedule did.
type Event struct {
	Spec    Spec
	Round   int      // 1, 2, …: which repetition
	Targets []string // the names
	Healed  bool     // the fault has been undone; otherwise it has been applied
	Took    time.Duration
	Err     error // it could not be applied, or undone
}

// Plan returns the times at which faults will be applied in a run of that length, and what is wrong with the schedule for it: a fault
// that would come after the end, or could not be undone before it.
func Plan(specs []Spec, length time.Duration) ([]time.Duration, error) { panic("stub") }

// Run applies the faults, the first instant being now, and returns when ctx has ended and everything that can be undone has been
// undone (even then), or when a fault could not be applied or undone: a run with a fault that did not happen proves nothing.  Several faults
// can be in effect at the same time.  on gets every event in order, one at a time.  The same seed chooses the same targets.
func Run(ctx context.Context, specs []Spec, length time.Duration, seed uint64, in Injector, on func(Event)) error {
	panic("stub")
}
