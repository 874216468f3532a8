package fsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// An entry that cannot be applied changes nothing, not even by the commands before the one that is strange.
func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	s := New()
	register := Command{Kind: KindRegister, Name: "n", URI: "u"}
	apply(t, s, register)
	before := s.View()
	unknown, err := hex.DecodeString("0192" + "920c9600a00000a0a0" + "920d90")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		entry []byte
		want  error
	}{
		"empty":              {nil, ErrCorrupt},
		"damaged":            {encode(t, register)[1:], ErrCorrupt},
		"unknown kind":       {sealed(unknown), ErrUnknownCommand},
		"unknown version":    {sealed([]byte{9}), ErrUnknownCommand},
		"regular expression": {encode(t, register, Command{Kind: KindRemoveMatching, Name: "n"}), ErrUnknownCommand},
	} {
		results, err := s.Apply(2, row.entry)
		if !errors.Is(err, row.want) || results != nil {
			t.Errorf("%s: got %v, %v, want %v", name, results, err, row.want)
		}
		if s.View() != before {
			t.Errorf("%s: the state changed", name)
		}
	}
}

// The entry's bytes belong to the caller again after Apply.
func TestApplyKeepsNothingOfTheEntry(t *testing.T) {
	t.Parallel()
	s := New()
	entry := encode(t, Command{Kind: KindRegister, Name: "name", URI: "PYRO:o@h:1", Tags: []string{"tag", "group:g"}, Session: "session"})
	if _, err := s.Apply(1, entry); err != nil {
		t.Fatal(err)
	}
	before := dump(s.View())
	clear(entry)
	if got := dump(s.View()); got != before {
		t.Error(firstDifference(got, before))
	}
}

func TestViewPrefix(t *testing.T) {
	t.Parallel()
	s := New()
	for _, name := range []string{"b", "a.b", "a", "a.c", "a/", "ab", "ü", "\xff", "\xff\xff"} {
		apply(t, s, Command{Kind: KindRegister, Name: name, URI: "u"}, Command{Kind: KindJoin, Name: "g" + name, Member: Member{URI: "u"}})
	}
	for prefix, want := range map[string][]string{
		"":     {"a", "a.b", "a.c", "a/", "ab", "b", "ü", "\xff", "\xff\xff"},
		"a":    {"a", "a.b", "a.c", "a/", "ab"},
		"a.":   {"a.b", "a.c"},
		"a.b":  {"a.b"},
		"a.b.": nil,
		"\xff": {"\xff", "\xff\xff"},
		"z":    nil,
	} {
		var entries, groups []string
		for e := range s.View().Entries(prefix) {
			entries = append(entries, e.Name)
		}
		for g := range s.View().Groups("g" + prefix) {
			groups = append(groups, g.Name[1:])
		}
		if !slices.Equal(entries, want) || !slices.Equal(groups, want) {
			t.Errorf("prefix %q: entries %q, groups %q, want %q", prefix, entries, groups, want)
		}
	}
}

func TestViewNodes(t *testing.T) {
	t.Parallel()
	s := New()
	apply(t, s, Command{Kind: KindPutNode, Node: Node{ID: "b"}}, Command{Kind: KindPutNode, Node: Node{ID: "a", Removed: true}},
		Command{Kind: KindRemoveNode, Node: Node{ID: "b"}})
	if got, want := s.View().Nodes(), []Node{{ID: "a"}}; !slices.Equal(got, want) {
		t.Errorf("nodes: got %v, want %v", got, want)
	}
	if n, ok := s.View().Node("b"); !ok || !n.Removed {
		t.Errorf("removed node: got %v, %t", n, ok)
	}
	if n, ok := s.View().Node("c"); ok {
		t.Errorf("unknown node: got %v", n)
	}
}

// Readers see whole log entries only, and a view does not change while the state goes on.
func TestViewWhileApplying(t *testing.T) {
	t.Parallel()
	s := New()
	const entries, names = 400, 5
	var readers sync.WaitGroup
	defer readers.Wait()
	var done atomic.Bool
	defer done.Store(true)
	for range 4 {
		readers.Go(func() {
			for last := uint64(0); !done.Load(); {
				v := s.View()
				if v.Index() < last {
					t.Errorf("index %d after %d", v.Index(), last)
				}
				last = v.Index()
				checkWholeEntry(t, v, names)
				if last%16 == 0 {
					if err := v.Persist(io.Discard); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for i := range entries {
		var commands []Command
		for n := range names {
			commands = append(commands,
				Command{Kind: KindRegister, Name: fmt.Sprint("n", n), URI: fmt.Sprint("PYRO:o@h:", i+1), Tags: []string{"group:g"}, Session: "s", Sequence: uint64(i*names + n)})
		}
		commands = append(commands, Command{Kind: KindJoin, Name: "g", Member: Member{ID: "x", URI: "u", Weight: i + 1}})
		apply(t, s, commands...)
	}
	if got := s.View().Index(); got != entries {
		t.Errorf("index %d, want %d", got, entries)
	}
}

func checkWholeEntry(t *testing.T, v *View, names int) {
	want := fmt.Sprint("PYRO:o@h:", v.Index())
	n := 0
	for e := range v.Entries("n") {
		if n++; e.URI != want {
			t.Errorf("index %d: %s is %s, want %s", v.Index(), e.Name, e.URI, want)
		}
	}
	g, _ := v.Group("g")
	if v.Index() > 0 && (n != names || len(g.Members) != names+1 || g.Members[0].URI != want) {
		t.Errorf("index %d: %d names, group %+v", v.Index(), n, g)
	}
}

// A view is what it was, however much is applied after it.
func TestViewIsImmutable(t *testing.T) {
	t.Parallel()
	s := smallState(t)
	old := s.View()
	text, snapshot := dump(old), persist(t, old)
	apply(t, s,
		Command{Kind: KindHealth, Verdicts: []Verdict{{"g", "m", 3, Alive, ""}, {"g", "e", 2, Suspect, "x"}}},
		Command{Kind: KindJoin, Name: "g", Member: Member{ID: "a", URI: "u"}},
		Command{Kind: KindJoin, Name: "g", Member: Member{ID: "m", URI: "w"}},
		Command{Kind: KindLeave, Name: "g", Member: Member{ID: "e"}},
		Command{Kind: KindSetTags, Name: "e", Tags: []string{"a", "b"}},
		Command{Kind: KindSetTags, Name: "g", Tags: []string{"a"}},
		noop("s", 3, 3, 1),
		Command{Kind: KindRemovePrefix},
	)
	if got := dump(old); got != text {
		t.Error(firstDifference(got, text))
	}
	if !bytes.Equal(persist(t, old), snapshot) {
		t.Error("another snapshot of the same view")
	}
}

// The package is pure (see its comment): no import and no construct that could make two replicas differ.
func TestPure(t *testing.T) {
	t.Parallel()
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"bufio", "bytes", "cmp", "encoding/binary", "errors", "fmt", "hash", "hash/crc32", "io", "iter", "math", "slices", "strings", "sync/atomic",
		"time", "github.com/vmihailenco/msgpack/v5",
	}
	for _, path := range pkg.Imports {
		if !slices.Contains(allowed, path) {
			t.Errorf("imports %s", path)
		}
	}
	for _, name := range pkg.GoFiles {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if what := impure(n); what != "" {
				t.Errorf("%s: %s", fset.Position(n.Pos()), what)
			}
			return true
		})
	}
}

func impure(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MapType:
		return "a map, whose order is random"
	case *ast.GoStmt:
		return "a goroutine"
	case *ast.SelectStmt:
		return "a select, whose choice is random"
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && n.Sel.Name != "Hour" && n.Sel.Name != "Minute" && x.Obj == nil {
			return "time." + n.Sel.Name
		}
	}
	return ""
}
