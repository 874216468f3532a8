package ledger

import (
	"errors"
	"fmt"
	"iter"
)

// Verdict is the result of a comparison.  All are numbers of calls.
type Verdict struct {
	Calls   int64 `json:"calls"`   // begun by the callers
	Ran     int64 `json:"ran"`     // of these, found in a ledger, at least once
	Twice   int64 `json:"twice"`   // ran more than once, whatever their fate
	Lost    int64 `json:"lost"`    // acknowledged, and never ran
	Phantom int64 `json:"phantom"` // reported as not executed, and ran
	Unknown int64 `json:"unknown"` // failed with an unknown outcome; UnknownRan of them ran
	// UnknownRan and OnewayLost tell what became of the calls for which nothing was promised.
	UnknownRan int64 `json:"unknown_ran"`
	OnewayLost int64 `json:"oneway_lost"` // written, and never ran
	Strangers  int64 `json:"strangers"`   // ids of this run in a ledger that no caller used, each as often as it is there
	// Examples are some of the calls that count as Twice, Lost, Phantom or Strangers, as text: "twice: caller 3, call 17".  There are
	// at most three of each.
	Examples []string `json:"examples,omitempty"`
}

const maxExamples = 3 // of a kind

// Judge compares the journal with the ledgers of all servants; ids of other runs are passed over.  An error of a ledger is returned,
// with what was found so far: calls that only that ledger has then count as lost.  All callers have ended.
func (j *Journal) Judge(ledgers ...iter.Seq2[ID, error]) (Verdict, error) {
	var v Verdict
	j.each(func(_, _ uint32, s state) state { return newState(s.fate(), 0) }) // what an earlier Judge has seen
	errs := make([]error, len(ledgers))
	for i, l := range ledgers {
		if err := j.see(l, &v); err != nil {
			errs[i] = fmt.Errorf("ledger %d of %d: %w", i+1, len(ledgers), err)
		}
	}
	j.each(func(caller, call uint32, s state) state {
		v.count(caller, call, s)
		return s
	})
	return v, errors.Join(errs...)
}

// see counts how often the calls are in a ledger.
func (j *Journal) see(ledger iter.Seq2[ID, error], v *Verdict) error {
	for id, err := range ledger {
		switch {
		case err != nil:
			return err
		case id.Run() != j.run:
		case !j.seen(id):
			v.example(&v.Strangers, "stranger", id.Caller(), id.Call())
		}
	}
	return nil
}

// seen counts one appearance of a call; false means that no caller made it.
func (j *Journal) seen(id ID) bool {
	if int64(id.Caller()) >= int64(len(j.callers)) {
		return false
	}
	c := &j.callers[id.Caller()]
	s := c.get(id.Call())
	if s.fate() == Unsent {
		return false
	}
	c.set(id.Call(), newState(s.fate(), min(s.seen()+1, maxSeen)))
	return true
}

// count adds one call that was begun.
func (v *Verdict) count(caller, call uint32, s state) {
	v.Calls++
	ran := s.seen() > 0
	if ran {
		v.Ran++
	}
	if s.seen() > 1 {
		v.example(&v.Twice, "twice", caller, call)
	}
	switch s.fate() {
	case Acked:
		if !ran {
			v.example(&v.Lost, "lost", caller, call)
		}
	case Sent:
		if !ran {
			v.OnewayLost++
		}
	case NotExecuted:
		if ran {
			v.example(&v.Phantom, "phantom", caller, call)
		}
	case Unknown:
		v.Unknown++
		if ran {
			v.UnknownRan++
		}
	}
}

// example counts a call under n, and keeps the first few.
func (v *Verdict) example(n *int64, kind string, caller, call uint32) {
	if *n < maxExamples {
		v.Examples = append(v.Examples, fmt.Sprintf("%s: caller %d, call %d", kind, caller, call))
	}
	*n++
}
