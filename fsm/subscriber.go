package fsm

import (
	"iter"
	"slices"
)

// Subscriber is a callback object that events are delivered to.  The state machine keeps it, and who delivers; what its patterns, policy and
// serializer mean is the event server's affair.
type Subscriber struct {
	URI        string // its identity
	Serializer string
	Patterns   []string // sorted, without duplicates
	Policy     string
	Queue      int
	Owner      string // id of the node that delivers
	Previous   string // the owner before, empty if there was none
	Assigned   uint64 // revision of the command that made Owner the owner
	Modified   uint64 // revision of the last KindSubscribe, also of one that changed nothing: a sign of life
}

// Assignment makes a node deliver to a subscriber, in place of the assignment of revision Assigned; it is void if that has been replaced.
type Assignment struct {
	Subscriber string
	Assigned   uint64
	Owner      string
}

// Subscriber returns the subscriber of that URI; Subscribers all of them, in the order of their URIs.
func (v *View) Subscriber(uri string) (Subscriber, bool) { return value(v.subscribers.get(uri)) }
func (v *View) Subscribers() iter.Seq[Subscriber]        { return withPrefix(v.subscribers, "") }

// SubscribersVersion is the revision of the last command that changed a subscriber, 0 if none did.
func (v *View) SubscribersVersion() uint64 { return v.subscribersVersion }

// putSubscriber stores s, of which the caller has a copy of its own.
func (t *txn) putSubscriber(s Subscriber) {
	t.subscribers = t.subscribers.put(s.URI, &s)
	t.noteSubscribers()
}

func (t *txn) noteSubscribers() {
	t.subscribersVersion = t.revision
	t.note(Change{Kind: ChangeSubscribers})
}

// subscribe returns how many patterns are new.
func (t *txn) subscribe(c *Subscriber) int {
	s := Subscriber{URI: c.URI}
	if old, ok := t.subscribers.get(c.URI); ok {
		s = *old
	}
	before := len(s.Patterns)
	s.Patterns = normalTags(slices.Concat(s.Patterns, c.Patterns))
	if len(s.Patterns) == 0 {
		return 0 // nobody subscribes to nothing
	}
	s.Serializer, s.Policy, s.Queue, s.Modified = c.Serializer, c.Policy, c.Queue, t.revision
	t.own(&s, c.Owner)
	t.putSubscriber(s)
	return len(s.Patterns) - before
}

// own makes a node the owner, if it is not.
func (t *txn) own(s *Subscriber, owner string) {
	if s.Owner != owner || s.Assigned == 0 {
		s.Previous, s.Owner, s.Assigned = s.Owner, owner, t.revision
	}
}

// unsubscribe returns how many patterns it took out.
func (t *txn) unsubscribe(uri string, patterns []string, ifModified uint64) int {
	old, ok := t.subscribers.get(uri)
	if !ok || ifModified != 0 && ifModified != old.Modified {
		return 0
	}
	s := *old
	if s.Patterns = nil; len(patterns) > 0 {
		s.Patterns = missing(old.Patterns, normalTags(patterns))
	}
	n := len(old.Patterns) - len(s.Patterns)
	switch {
	case n == 0:
		return 0
	case len(s.Patterns) == 0:
		t.subscribers = t.subscribers.remove(uri)
		t.noteSubscribers()
	default:
		t.putSubscriber(s)
	}
	return n
}

// assign returns 1 if it changed the owner.
func (t *txn) assign(a *Assignment) int {
	old, ok := t.subscribers.get(a.Subscriber)
	if !ok || old.Assigned != a.Assigned || old.Owner == a.Owner {
		return 0
	}
	s := *old
	t.own(&s, a.Owner)
	t.putSubscriber(s)
	return 1
}

func codeAssignment(c coder, a *Assignment) {
	c.fields(3)
	c.str(&a.Subscriber)
	c.uint(&a.Assigned)
	c.str(&a.Owner)
}

func codeSubscriber(c coder, s *Subscriber) {
	c.fields(9)
	c.str(&s.URI)
	c.str(&s.Serializer)
	c.strs(&s.Patterns)
	c.str(&s.Policy)
	codeInt(c, &s.Queue)
	c.str(&s.Owner)
	c.str(&s.Previous)
	c.uint(&s.Assigned)
	c.uint(&s.Modified)
}
