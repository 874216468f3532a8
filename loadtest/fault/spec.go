package fault

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
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

// lasting says what a kind does with a duration.
type lasting uint8

const (
	never  lasting = iota // it happens in a moment
	may                   // without one it lasts for ever
	always                // it needs one
)

// kinds in the order in which they are listed to people.
var kinds = []struct {
	kind   Kind
	lasts  lasting
	onLink bool
}{
	{Kill, may, false}, {Stop, may, false}, {Restart, never, false}, {Pause, always, false},
	{Slow, always, true}, {HalfOpen, always, true}, {Partition, always, true}, {Reset, never, true}, {Cut, never, true},
}

func (k Kind) index() int {
	for i := range kinds {
		if kinds[i].kind == k {
			return i
		}
	}
	return -1
}

// OnLink reports whether the fault is one of connections, which needs a proxy in front of the target, rather than one of a process.
func (k Kind) OnLink() bool {
	i := k.index()
	return i >= 0 && kinds[i].onLink
}

// DefaultDelay is that of [Slow] when none is given.
const DefaultDelay = 100 * time.Millisecond

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
func Parse(text string) (Spec, error) {
	s, err := parse(text)
	if err == nil {
		err = s.validate()
	}
	if err != nil {
		return Spec{}, fmt.Errorf("fault %q: %w", text, err)
	}
	return s, nil
}

var errForm = errors.New("write KIND:TARGET@WHEN[+DURATION][,every=INTERVAL][,delay=TIME], such as kill:replica@10s or pause:leader@20s+3s")

func parse(text string) (s Spec, err error) {
	head, options, hasOptions := strings.Cut(text, ",")
	kind, rest, hasTarget := strings.Cut(head, ":")
	target, when, hasWhen := strings.Cut(rest, "@")
	if !hasTarget || !hasWhen {
		return s, errForm
	}
	s.Kind, s.Target = Kind(kind), target
	at, duration, hasDuration := strings.Cut(when, "+")
	if s.At, err = parseTime(at, 0); err != nil {
		return s, err
	}
	if hasDuration {
		if s.Duration, err = parseTime(duration, 1); err != nil {
			return s, err
		}
	}
	if s.Kind == Slow {
		s.Delay = DefaultDelay
	}
	if !hasOptions {
		return s, nil
	}
	return s, s.parseOptions(options)
}

func (s *Spec) parseOptions(text string) error {
	seen := map[string]bool{}
	for option := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(option, "=")
		field := map[string]*time.Duration{"every": &s.Every, "delay": &s.Delay}[name]
		switch {
		case field == nil:
			return fmt.Errorf("%q is no option: there are every=INTERVAL and delay=TIME", option)
		case seen[name]:
			return fmt.Errorf("%s is given twice", name)
		case name == "delay" && s.Kind != Slow:
			return fmt.Errorf("only slow has a delay")
		}
		seen[name] = true
		var err error
		if *field, err = parseTime(value, 1); err != nil {
			return err
		}
	}
	return nil
}

// maxTime keeps sums of times far from overflow.
const maxTime = 366 * 24 * time.Hour

func parseTime(text string, low time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < low || d > maxTime {
		return 0, fmt.Errorf("%q is no time: give one such as 10s or 500ms", text)
	}
	return d, nil
}

func (s Spec) validate() error {
	i := s.Kind.index()
	if i < 0 {
		return fmt.Errorf("%q is no kind: there are %s", string(s.Kind), kindNames())
	}
	lasts := kinds[i].lasts
	switch {
	case s.Target == "":
		return fmt.Errorf("no target: there are %s", targetNames)
	case !ValidTarget(s.Target):
		return fmt.Errorf("%q is no target: there are %s", s.Target, targetNames)
	case lasts == never && s.Duration > 0:
		return fmt.Errorf("%s happens in a moment: leave +%v out", s.Kind, s.Duration)
	case lasts == always && s.Duration == 0:
		return fmt.Errorf("%s has to end: say how long it lasts, such as @%v+3s", s.Kind, s.At)
	case lasts == may && s.Duration == 0 && s.Every > 0:
		return fmt.Errorf("%s again and again leaves nothing: say when it is started again, such as @%v+2s", s.Kind, s.At)
	case s.Every > 0 && s.Every <= s.Duration:
		return fmt.Errorf("every=%v is not longer than +%v: it would begin again before it ended", s.Every, s.Duration)
	}
	return nil
}

func kindNames() string {
	var names []string
	for _, k := range kinds {
		names = append(names, string(k.kind))
	}
	return strings.Join(names, ", ")
}

// String returns the text that Parse reads.
func (s Spec) String() string {
	text := fmt.Sprintf("%s:%s@%v", s.Kind, s.Target, s.At)
	if s.Duration > 0 {
		text += fmt.Sprintf("+%v", s.Duration)
	}
	if s.Every > 0 {
		text += fmt.Sprintf(",every=%v", s.Every)
	}
	if s.Kind == Slow {
		text += fmt.Sprintf(",delay=%v", s.Delay)
	}
	return text
}

const targetNames = "replica, leader, follower, replicas, nodes, all, or one by name (replica2, python1, node3)"

var (
	words    = []string{"replica", "leader", "follower", "replicas", "nodes", "all"}
	numbered = regexp.MustCompile(`^(replica|python|node)[1-9][0-9]{0,3}$`)
)

// ValidTarget reports whether target is a word for what faults are aimed at: replica, leader, follower (one, any of them by chance),
// replicas, nodes, all (everything), or one by its name: replica2, python1, node3.
func ValidTarget(target string) bool {
	return slices.Contains(words, target) || numbered.MatchString(target)
}
