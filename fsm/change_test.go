package fsm

import (
	"bytes"
	"fmt"
	"reflect"
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
