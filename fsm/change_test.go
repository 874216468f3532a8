package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// An observer hears what changed, and nothing of commands that changed nothing.
func TestChanges(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		before  []Command
		command Command
		want    []string
	}{
		{"register", nil, Command{Kind: KindRegister, Name: "a", URI: "u", Tags: []string{"t", "group:g"}}, []string{"1 a u [group:g t]", "4 g a"}},
		{"refused", []Command{{Kind: KindRegister, Name: "a", URI: "u"}}, Command{Kind: KindRegister, Name: "a", Safe: true}, nil},
		{"repeated", []Command{{Kind: KindRegister, Name: "a", Session: "s", Sequence: 1}}, Command{Kind: KindRegister, Name: "a", Session: "s", Sequence: 1}, nil},
		{"tags", []Command{{Kind: KindRegister, Name: "a", URI: "u"}}, Command{Kind: KindSetTags, Name: "a", Tags: []string{"x"}}, []string{"2 a  [x]"}},
		{"remove", []Command{{Kind: KindRegister, Name: "a", Tags: []string{"group:g"}}}, Command{Kind: KindRemove, Names: []string{"a", "b"}}, []string{"5 g a", "3 a  []"}},
		{"join", nil, Command{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}, []string{"4 g m"}},
		{"join again", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}}, Command{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}, nil},
		{"leave", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}}, Command{Kind: KindLeave, Name: "g", Member: Member{ID: "m"}}, []string{"5 g m"}},
		{"verdict", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}},
			Command{Kind: KindHealth, Verdicts: []Verdict{{"g", "m", 1, Suspect, "r"}, {"g", "n", 1, Suspect, "r"}}}, []string{"6 g m"}},
		{"node", nil, Command{Kind: KindPutNode, Node: Node{ID: "n"}}, []string{"7 n"}},
		{"same node", []Command{{Kind: KindPutNode, Node: Node{ID: "n"}}}, Command{Kind: KindPutNode, Node: Node{ID: "n"}}, nil},
		{"remove node", []Command{{Kind: KindPutNode, Node: Node{ID: "n"}}}, Command{Kind: KindRemoveNode, Node: Node{ID: "n"}}, []string{"8 n"}},
		{"removed node", []Command{{Kind: KindRemoveNode, Node: Node{ID: "n"}}}, Command{Kind: KindRemoveNode, Node: Node{ID: "n"}}, nil},
		{"subscriber", nil, Command{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}}}, []string{"9"}},
		{"noop", nil, Command{Kind: KindNoop}, nil},
		{"group removed", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}, {Kind: KindJoin, Name: "g", Member: Member{ID: "n"}}},
			Command{Kind: KindRemove, Names: []string{"g"}}, []string{"5 g m", "5 g n", "3 g  []"}},
		{"group replaced", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}},
			Command{Kind: KindRegister, Name: "g", URI: "u"}, []string{"5 g m", "1 g u []"}},
		{"same tags of a group", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}, {Kind: KindSetTags, Name: "g", Tags: []string{"t"}}},
			Command{Kind: KindSetTags, Name: "g", Tags: []string{"t", "t"}}, nil},
		{"server of a group", []Command{{Kind: KindJoin, Name: "g", Member: Member{ID: "m"}}},
			Command{Kind: KindRegister, Name: "g", URI: "u", Tags: []string{"group:g", "t"}}, []string{"4 g u", "2 g  [t]"}},
		{"forgotten", []Command{{Kind: KindNoop, Session: "s", Sequence: 9, Floor: 9}}, Command{Kind: KindRegister, Name: "a", Session: "s", Sequence: 1}, nil},
		{"sign of life", []Command{{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}}}},
			Command{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}}}, []string{"9"}},
		{"subscriber without patterns", nil, Command{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u"}}, nil},
		{"unsubscribe", []Command{{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}}}},
			Command{Kind: KindUnsubscribe, Name: "u"}, []string{"9"}},
		{"unsubscribe another pattern", []Command{{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}}}},
			Command{Kind: KindUnsubscribe, Name: "u", Names: []string{"b"}}, nil},
		{"unsubscribe one modified since", []Command{{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}}}},
			Command{Kind: KindUnsubscribe, Name: "u", IfModified: 7}, nil},
		{"assign", []Command{{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}, Owner: "n"}}},
			Command{Kind: KindAssign, Assignments: []Assignment{{"u", 1, "o"}}}, []string{"9"}},
		{"void assignments", []Command{{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Patterns: []string{"a"}, Owner: "n"}}},
			Command{Kind: KindAssign, Assignments: []Assignment{{"u", 2, "o"}, {"u", 1, "n"}, {"v", 1, "o"}}}, nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := New()
			var got []string
			s.Observe(func(changes []Change) {
				for _, c := range changes {
					if c.Revision != s.View().Revision() {
						t.Errorf("%s: change of revision %d told at %d", tc.name, c.Revision, s.View().Revision())
					}
					got = append(got, describe(c))
				}
			})
			for _, c := range tc.before {
				apply(t, s, c)
			}
			got = nil
			apply(t, s, tc.command)
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%+v after %+v: got changes %q, want %q", tc.command, tc.before, got, tc.want)
			}
		})
	}
}

func describe(c Change) string {
	switch c.Kind {
	case ChangeNameSet, ChangeNameTags, ChangeNameRemoved:
		return fmt.Sprint(c.Kind, " ", c.Name, " ", c.URI, " ", c.Tags)
	case ChangeMemberJoined, ChangeMemberLeft, ChangeMemberHealth:
		return fmt.Sprint(c.Kind, " ", c.Name, " ", c.Member.ID)
	case ChangeNodeSet, ChangeNodeRemoved:
		return fmt.Sprint(c.Kind, " ", c.Node.ID)
	}
	return fmt.Sprint(c.Kind)
}

func TestChangesRestored(t *testing.T) {
	t.Parallel()
	s := New()
	var got []Change
	s.Observe(func(changes []Change) { got = append(got, changes...) })
	if err := s.Restore(bytes.NewReader(persist(t, smallState(t).View()))); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Kind != ChangeRestored || got[0].Revision != s.View().Revision() {
		t.Errorf("got %+v, want that a snapshot was restored", got)
	}
}

// follower knows the state from changes alone.
type follower struct {
	entries    map[string]Change
	tags       map[string][]string // of groups
	members    map[string]map[string]Member
	nodes      map[string]Node
	subscribed uint64 // version of the subscribers
}

// follow takes a change, and refuses one that cannot be.
func (f *follower) follow(c Change) error {
	_, isEntry := f.entries[c.Name]
	_, isMember := f.members[c.Name][c.Member.ID]
	switch c.Kind {
	case ChangeNameSet:
		if f.members[c.Name] != nil {
			return fmt.Errorf("an entry in the place of a group with members")
		}
		f.entries[c.Name] = Change{Name: c.Name, URI: c.URI, Tags: c.Tags}
	case ChangeNameTags:
		switch {
		case isEntry:
			f.entries[c.Name] = Change{Name: c.Name, URI: f.entries[c.Name].URI, Tags: c.Tags}
		case f.members[c.Name] == nil:
			return fmt.Errorf("tags of neither an entry nor a group")
		default:
			f.tags[c.Name] = c.Tags
		}
	case ChangeNameRemoved:
		if f.members[c.Name] != nil {
			return fmt.Errorf("a group with members is removed")
		}
		delete(f.entries, c.Name)
	case ChangeMemberJoined:
		if f.members[c.Name] == nil {
			f.members[c.Name] = map[string]Member{}
		}
		f.members[c.Name][c.Member.ID] = c.Member
	case ChangeMemberHealth:
		if !isMember {
			return fmt.Errorf("health of none")
		}
		f.members[c.Name][c.Member.ID] = c.Member
	case ChangeMemberLeft:
		if !isMember {
			return fmt.Errorf("none left")
		}
		if delete(f.members[c.Name], c.Member.ID); len(f.members[c.Name]) == 0 {
			delete(f.members, c.Name)
			delete(f.tags, c.Name)
		}
	case ChangeNodeSet:
		f.nodes[c.Node.ID] = c.Node
	case ChangeNodeRemoved:
		delete(f.nodes, c.Node.ID)
	case ChangeSubscribers:
		f.subscribed = c.Revision
	default:
		return fmt.Errorf("unexpected kind")
	}
	return nil
}

func (f *follower) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.entries)) {
		fmt.Fprintf(&b, "entry %q %q %q\n", name, f.entries[name].URI, f.entries[name].Tags)
	}
	for _, name := range slices.Sorted(maps.Keys(f.members)) {
		fmt.Fprintf(&b, "group %q %q\n", name, f.tags[name])
		for _, id := range slices.Sorted(maps.Keys(f.members[name])) {
			fmt.Fprintf(&b, "  member %+v\n", f.members[name][id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.nodes)) {
		fmt.Fprintf(&b, "node %+v\n", f.nodes[id])
	}
	fmt.Fprintf(&b, "subscribers %d\n", f.subscribed)
	return b.String()
}

// known returns of a view what a follower can know.
func known(v *View) string {
	f := follower{entries: map[string]Change{}, tags: map[string][]string{}, members: map[string]map[string]Member{}, nodes: map[string]Node{},
		subscribed: v.SubscribersVersion()}
	for e := range v.Entries("") {
		f.entries[e.Name] = Change{Name: e.Name, URI: e.URI, Tags: e.Tags}
	}
	for g := range v.Groups("") {
		f.tags[g.Name], f.members[g.Name] = g.Tags, map[string]Member{}
		for _, m := range g.Members {
			f.members[g.Name][m.ID] = m
		}
	}
	for _, n := range v.Nodes() {
		f.nodes[n.ID] = n
	}
	return f.String()
}

// unchanged is a dump without what every command counts.
func unchanged(v *View) string {
	w := *v
	w.index, w.revision, w.time, w.clusterID, w.sessions = 0, 0, 0, "", sessions{}
	return dump(&w)
}

// Who follows the changes knows the state, whatever the log: they are complete and in order, and nothing is told of what changed nothing.
func TestChangesTellTheState(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewSource(*seed))
	s := New()
	f := &follower{entries: map[string]Change{}, tags: map[string][]string{}, members: map[string]map[string]Member{}, nodes: map[string]Node{}}
	var told []Change
	s.Observe(func(changes []Change) { told = append(told, changes...) })
	var now int64
	var kinds [ChangeRestored]int
	for step := range 5000 {
		commands := randomEntry(r, &now)
		verdictsThatFit(r, s.View(), commands)
		before := s.View()
		told = nil
		results := apply(t, s, commands...)
		last := before.Revision()
		for _, c := range told {
			if c.Revision < last || c.Revision <= before.Revision() || c.Time < before.Time() || c.Time > s.View().Time() {
				t.Fatalf("seed %d step %d: %+v: change %+v after revision %d", *seed, step, commands, c, last)
			}
			last = c.Revision
			if !slices.ContainsFunc(results, func(r Result) bool { return r.Code == OK && r.Revision == c.Revision }) {
				t.Fatalf("seed %d step %d: %+v with %+v: change %+v of no command that did something", *seed, step, commands, results, c)
			}
			if err := f.follow(c); err != nil {
				t.Fatalf("seed %d step %d: %+v: change %+v: %v", *seed, step, commands, c, err)
			}
			kinds[c.Kind]++
		}
		if got, want := f.String(), known(s.View()); got != want {
			t.Fatalf("seed %d step %d: %+v: changes %+v: %s", *seed, step, commands, told, firstDifference(got, want))
		}
		if len(commands) == 1 && len(told) > 0 && unchanged(before) == unchanged(s.View()) {
			t.Fatalf("seed %d step %d: %+v changed nothing: got changes %+v, want none", *seed, step, commands, told)
		}
	}
	for kind := ChangeNameSet; kind < ChangeRestored; kind++ {
		if kinds[kind] == 0 {
			t.Errorf("no change of kind %d: %v", kind, kinds)
		}
	}
}

// Who does not observe does not pay.  Not parallel: it counts what the process allocates.
func TestChangesNotObserved(t *testing.T) {
	tx := &txn{}
	m := Member{ID: "m"}
	if n := testing.AllocsPerRun(100, func() { tx.note(Change{Kind: ChangeMemberJoined, Name: "g", Member: m}) }); n != 0 {
		t.Errorf("a change that nobody observes: got %v allocations, want none", n)
	}
}
