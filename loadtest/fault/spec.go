package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Spec is a fault of a schedule, as the text "kind:target@when[+duration][,every=interval][,delay=time]" has it: "kill:replica@10s",
// "pause:leader@20s+3s", "kill:replica@5s+2s,every=5s", "slow:replicas@10s+5s,delay=50ms".
type Spec struct {
	Kind     Kind
	Target   string        // see [ValidTarget]
	At       time.Duration // since the start of recording
	Duration time.Duration // how long it lasts; 0 for ever, or for kinds that happen in a moment
	Every    time.Duration // from one time to the next, beginning at At, until the end of the run; 0 once
	Delay    time.Duration // of Slow, which has 100 ms if the text does not say; otherwise 0
}

// defaultDelay is the Delay of a Slow whose text does not say.
const defaultDelay = 100 * time.Millisecond

// form is what the text of a Spec looks like.
const form = "kind:target@when[+duration][,every=interval][,delay=time]"

// Parse parses the text of a Spec.  What cannot work is an error of one line: no target, a duration where none is taken or none where
// one is needed, an Every that is not longer than Duration, kill or stop again and again without starting again.
func Parse(s string) (Spec, error) {
	spec, err := parse(s)
	if err == nil {
		err = spec.check()
	}
	if err != nil {
		return Spec{}, fmt.Errorf("fault %q: %w", s, err)
	}
	return spec, nil
}

func parse(s string) (Spec, error) {
	aim, times, ok := strings.Cut(s, "@")
	if !ok {
		return Spec{}, errors.New("no time: write " + form)
	}
	kind, target, _ := strings.Cut(aim, ":")
	spec := Spec{Kind: Kind(kind), Target: target}
	if spec.Kind == Slow {
		spec.Delay = defaultDelay
	}
	times, options, more := strings.Cut(times, ",")
	at, duration, lasts := strings.Cut(times, "+")
	if err := parseTime(&spec.At, "time", at, 0); err != nil {
		return Spec{}, err
	}
	if lasts {
		if err := parseTime(&spec.Duration, "duration", duration, 1); err != nil {
			return Spec{}, err
		}
	}
	if !more {
		return spec, nil
	}
	return spec, spec.parseOptions(strings.Split(options, ","))
}

func (s *Spec) parseOptions(options []string) error {
	known := map[string]*time.Duration{"every": &s.Every, "delay": &s.Delay}
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		field := known[name]
		if field == nil {
			return fmt.Errorf("option %q: there are every=interval and delay=time, each once", option)
		}
		delete(known, name)
		if err := parseTime(field, name, value, 1); err != nil {
			return err
		}
	}
	return nil
}

// parseTime parses a time of at least least.
func parseTime(d *time.Duration, what, s string, least time.Duration) error {
	t, err := time.ParseDuration(s)
	if err != nil || strings.HasPrefix(s, "+") || t < 0 {
		return fmt.Errorf("%s %q is no time: write it as 10s, 1m30s or 50ms", what, s)
	}
	if t < least {
		return fmt.Errorf("%s %q: has to be longer", what, s)
	}
	*d = t
	return nil
}

// check says what is wrong with a fault, whatever the run.
func (s Spec) check() error {
	t, ok := s.Kind.traits()
	switch {
	case !ok:
		return fmt.Errorf("there is no kind %q: use one of %s", s.Kind, kindNames())
	case s.Target == "":
		return fmt.Errorf("it has no target: use one of %s", targetNames())
	case !ValidTarget(s.Target):
		return fmt.Errorf("there is no target %q: use one of %s", s.Target, targetNames())
	case s.At < 0 || s.Duration < 0 || s.Every < 0 || s.Delay < 0:
		return errors.New("a time is negative")
	case t.length == never && s.Duration > 0:
		return fmt.Errorf("%s happens in a moment: leave out +%v", s.Kind, s.Duration)
	case t.length == always && s.Duration == 0:
		return fmt.Errorf("%s needs a duration: write %s:%s@%v+3s", s.Kind, s.Kind, s.Target, s.At)
	case t.length == maybe && s.Duration == 0 && s.Every > 0:
		return fmt.Errorf("%s again and again needs a duration, after which the target is started again, or soon nothing would be left", s.Kind)
	case s.Every > 0 && s.Every <= s.Duration:
		return fmt.Errorf("every=%v has to be longer than the duration, %v, so that the fault is over before it comes again", s.Every, s.Duration)
	case (s.Delay > 0) != (s.Kind == Slow):
		return errors.New("delay is for slow, which needs one")
	}
	return nil
}

func kindNames() string {
	names := make([]string, len(kinds))
	for i, t := range kinds {
		names[i] = string(t.kind)
	}
	return strings.Join(names, ", ")
}

func targetNames() string {
	return strings.Join(targetWords, ", ") + ", or one by its name: replica1, python1, node1, …"
}

// String returns the text that Parse reads.
func (s Spec) String() string {
	text := fmt.Sprintf("%s:%s@%v", s.Kind, s.Target, s.At)
	if s.Duration > 0 {
		text += "+" + s.Duration.String()
	}
	if s.Every > 0 {
		text += ",every=" + s.Every.String()
	}
	if s.Delay > 0 {
		text += ",delay=" + s.Delay.String()
	}
	return text
}
