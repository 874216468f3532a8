package fsm

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
)

var (
	// ErrCorrupt is a log entry or snapshot whose bytes are damaged.
	ErrCorrupt = errors.New("fsm: damaged data")
	// ErrUnknownCommand is a log entry of a newer version, or with a command of a kind that is not known here: a replica that skips
	// one is no replica, so the node must stop.  Also a snapshot of a newer version.
	ErrUnknownCommand = errors.New("fsm: unknown command")
)

// Entry is a name and what is registered under it.
type Entry struct {
	Name     string
	URI      string
	Tags     []string // sorted, without duplicates
	Created  uint64   // revision
	Modified uint64   // revision
}

// Group is an object group: several servers behind one name (FT-CORBA's object group).  It disappears when its last member
// leaves, or when an entry of its name is registered.
type Group struct {
	Name    string
	Tags    []string // sorted, without duplicates
	Members []Member // in the order of their ids
	Created uint64   // revision
	Version uint64   // revision of the last change of the members or their health; not of the tags
}

// Member is a server of a group.
type Member struct {
	ID     string
	URI    string
	Zone   string
	Weight int  // 0 means 1
	ByTag  bool // member because an entry of the name ID has the tag "group:NAME"; leaves when that entry goes; joining explicitly ends this
	Health Health
	Reason string // of the last verdict
	Since  int64  // time of the last verdict, or of joining, in nanoseconds since 1970
	Joined uint64 // revision of the last join that changed the member or cleared a verdict; a verdict about an earlier life of it is void
}

// Health is what is thought of a member.
type Health uint8

// The states of health.
const (
	Alive   Health = 0
	Suspect Health = 1
)

// Verdict changes the health of one member.
type Verdict struct {
	Group, Member string
	Joined        uint64 // the life of the member it speaks of
	Health        Health
	Reason        string
}

// Node is a cluster node as clients and other nodes know it.
type Node struct {
	ID          string
	PyroAddress string // host:port, advertised
	RaftAddress string
	HTTPAddress string // may be empty
	Version     string // of the program
	Removed     bool
}

// State is the state machine.  Apply and Restore are called by one goroutine; View may be called by any.
type State struct {
	view     atomic.Pointer[View]   // replaced as a whole, once per log entry
	observer func(changes []Change) // nil if nobody observes
}

// New returns the empty state.
func New() *State {
	s := &State{}
	s.view.Store(&View{})
	return s
}

// Apply runs the commands of one log entry.  Results are in the order of the commands.  An error means that this node cannot go on:
// [ErrCorrupt] or [ErrUnknownCommand]; the state is unchanged then.
//
// That entries come in order and once is up to the caller: index is kept but not compared, since a cluster restored from a backup
// counts anew.
func (s *State) Apply(index uint64, entry []byte) ([]Result, error) {
	commands, err := DecodeEntry(entry)
	if err != nil {
		return nil, fmt.Errorf("fsm: apply entry %d: %w", index, err)
	}
	for i := range commands {
		if commands[i].Kind == KindRemoveMatching {
			return nil, fmt.Errorf("fsm: apply entry %d: command %d: a regular expression in the log: %w", index, i, ErrUnknownCommand)
		}
	}
	t := &txn{View: *s.view.Load()}
	if s.observer != nil {
		t.changes = new([]Change)
	}
	t.index = index
	results := make([]Result, len(commands))
	for i := range commands {
		results[i] = t.command(&commands[i])
	}
	s.view.Store(&t.View)
	if s.observer != nil && len(*t.changes) > 0 {
		s.observer(*t.changes)
	}
	return results, nil
}

// View returns the state as of the last applied entry.
func (s *State) View() *View { return s.view.Load() }

// View is an immutable state.  The slices in what it returns are shared: they must not be changed.
type View struct {
	index     uint64
	revision  uint64
	clusterID string
	time      int64

	entries  tree[string, *Entry]
	groups   tree[string, *Group] // no name is in both
	nodes    tree[string, *Node]
	sessions sessions

	subscribers        tree[string, *Subscriber]
	subscribersVersion uint64
}

// Index is the index of the last applied log entry, Revision the number of commands applied so far (repetitions of a session's
// command do not count), ClusterID the id minted by the first, Time the stamp of the latest.
func (v *View) Index() uint64     { return v.index }
func (v *View) Revision() uint64  { return v.revision }
func (v *View) ClusterID() string { return v.clusterID }
func (v *View) Time() int64       { return v.time }

// Entry returns what is registered under name; a group is no entry.
func (v *View) Entry(name string) (Entry, bool) { return value(v.entries.get(name)) }

// Group returns the object group of that name.
func (v *View) Group(name string) (Group, bool) { return value(v.groups.get(name)) }

// Entries and Groups go through all whose name begins with prefix, byte by byte, in the order of the names.
func (v *View) Entries(prefix string) iter.Seq[Entry] { return withPrefix(v.entries, prefix) }
func (v *View) Groups(prefix string) iter.Seq[Group]  { return withPrefix(v.groups, prefix) }

// Count is the number of names: entries and groups.
func (v *View) Count() int { return v.entries.len() + v.groups.len() }

// Node returns the node of that id, removed ones too; Nodes those that were not removed, in the order of their ids.
func (v *View) Node(id string) (Node, bool) { return value(v.nodes.get(id)) }
func (v *View) Nodes() []Node {
	var nodes []Node
	for _, n := range v.nodes.all() {
		if !n.Removed {
			nodes = append(nodes, *n)
		}
	}
	return nodes
}

func value[T any](p *T, ok bool) (T, bool) {
	if !ok {
		var zero T
		return zero, false
	}
	return *p, true
}

func withPrefix[T any](t tree[string, *T], prefix string) iter.Seq[T] {
	return func(yield func(T) bool) {
		for name, p := range t.from(prefix) {
			if !strings.HasPrefix(name, prefix) || !yield(*p) {
				return
			}
		}
	}
}
