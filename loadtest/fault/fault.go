// Package fault breaks things on a schedule.  It knows when and what; an [Injector] knows how.
package fault

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
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

// traits are what there is to know of a kind.
type traits struct {
	kind   Kind
	onLink bool
	length need
}

// need is whether a kind takes a Duration.
type need int

const (
	never  need = iota // it happens in a moment
	maybe              // without one it lasts for ever
	always             // without one nothing would be left to measure
)

// kinds are all there are, in the order in which people read them.
var kinds = []traits{
	{Kill, false, maybe},
	{Pause, false, always},
	{Stop, false, maybe},
	{Restart, false, never},
	{Slow, true, always},
	{HalfOpen, true, always},
	{Reset, true, never},
	{Cut, true, never},
	{Partition, true, always},
}

func (k Kind) traits() (traits, bool) {
	i := slices.IndexFunc(kinds, func(t traits) bool { return t.kind == k })
	if i < 0 {
		return traits{}, false
	}
	return kinds[i], true
}

// OnLink reports whether the fault is one of connections, which needs a proxy in front of the target, rather than one of a process.
func (k Kind) OnLink() bool {
	t, _ := k.traits()
	return t.onLink
}

// targetWords are the words for what faults are aimed at, and targetPrefixes those before a number.
var (
	targetWords    = []string{"replica", "leader", "follower", "replicas", "nodes", "all"}
	targetPrefixes = []string{"replica", "python", "node"}
)

// maxTargetDigits keeps the number in a name within every int.
const maxTargetDigits = 9

// ValidTarget reports whether target is a word for what faults are aimed at: replica, leader, follower (one, any of them by chance),
// replicas, nodes, all (everything), or one by its name: replica2, python1, node3.
func ValidTarget(target string) bool {
	if slices.Contains(targetWords, target) {
		return true
	}
	return slices.ContainsFunc(targetPrefixes, func(prefix string) bool {
		number, ok := strings.CutPrefix(target, prefix)
		n, err := strconv.ParseUint(number, 10, 64)
		return ok && err == nil && n > 0 && number[0] != '0' && len(number) <= maxTargetDigits
	})
}

// Injector applies faults.  Its methods, and the functions that Inject returns, are called concurrently: faults overlap, and one of
// several targets is applied to all of them at once.
type Injector interface {
	// Resolve returns the names of the targets that a word stands for now.  There is at least one, or an error says why not.  rng decides
	// where one of several is meant; it is the call's own.
	Resolve(ctx context.Context, s Spec, rng *rand.Rand) ([]string, error)
	// Inject applies a fault to a target, by its name, and returns when it is in effect.  Undo, nil if there is nothing to undo, ends it
	// and returns when it has ended: a process that is started again serves again.  Both return soon after their ctx has ended.
	Inject(ctx context.Context, s Spec, target string) (undo func(context.Context) error, err error)
}

// Event is something that the schedule did.
type Event struct {
	Spec    Spec
	Round   int           // 1, 2, …: which repetition
	Targets []string      // the names; of a fault that could not be applied to all, those that were meant
	Healed  bool          // the fault has been undone; otherwise it has been applied
	Took    time.Duration // to apply or to undo it
	Err     error         // it could not be applied, or undone
}
