package naming

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

const (
	uriA = "PYRO:a@h1:1"
	uriB = "PYRO:b@h2:2"
)

// step is one call and what must come of it.
type step struct {
	method string
	args   []any
	want   any
	class  core.ExceptionClass // of the exception, if one must come
	text   string              // of the exception; ends in "*" for a beginning
}

func args(a ...any) []any { return a }

func call(method string, want any, a ...any) step {
	return step{method: method, args: a, want: want}
}

func fails(method string, class core.ExceptionClass, text string, a ...any) step {
	return step{method: method, args: a, class: class, text: text}
}

func uri(s string) core.URI {
	u, err := core.ParseURI(s)
	if err != nil {
		panic(err)
	}
	return u
}

func pair(uri string, tags ...any) core.Tuple {
	return core.Tuple{uri, core.Set(append([]any{}, tags...))}
}

type dict = map[string]any

var own = ownURI.String()

// TestRules follows Pyro5's nameserver.py line by line.
//
// spec: N3 N4 N5 N6 N7 N8 N9 N10
func TestRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		steps []step
	}{
		{"a fresh name server has its own entry", []step{
			call("count", 1),
			call("list", dict{ObjectID: own}),
			call("lookup", ownURI, ObjectID),
			call("lookup", core.Tuple{ownURI, core.Set{ownTag}}, ObjectID, true),
			call("list", dict{ObjectID: pair(own, ownTag)}, core.Kwargs{"return_metadata": true}),
			call("ping", nil),
		}},
		{"register and lookup", []step{
			call("register", nil, "a", uriA),
			call("lookup", uri(uriA), "a"),
			call("lookup", uri(uriA), core.Kwargs{"name": "a"}),
			call("count", 2),
			call("list", dict{"a": uriA, ObjectID: own}),
		}},
		{"a name is any text", []step{
			call("register", nil, "", uriA),
			call("register", nil, "ключ €", uriB),
			call("lookup", uri(uriA), ""),
			call("lookup", uri(uriB), "ключ €"),
		}},
		{"uri as a class, and kept as text as it came", []step{
			call("register", nil, "a", uri(uriA)),
			call("register", nil, "b", "pyro:b@h2:2"),
			call("list", dict{"a": uriA}, "a"),
			call("list", dict{"b": "pyro:b@h2:2"}, "b"),
			call("lookup", uri(uriB), "b"),
		}},
		{"uris of names and tags are registered too", []step{
			call("register", nil, "a", "PYRONAME:other"),
			call("register", nil, "b", "PYROMETA:x,y"),
			call("lookup", uri("PYRONAME:other"), "a"),
			call("lookup", uri("PYROMETA:x,y"), "b"),
		}},
		{"register overwrites, and clears tags", []step{
			call("register", nil, "a", uriA, false, []any{"x"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"x"}}, "a", true),
			call("register", nil, "a", uriB),
			call("lookup", core.Tuple{uri(uriB), core.Set{}}, "a", true),
		}},
		{"register safe", []step{
			call("register", nil, "a", uriA, true),
			fails("register", core.NamingError, "name already registered: a", "a", uriB, true),
			fails("register", core.NamingError, "name already registered: a", "a", uriB, core.Kwargs{"safe": int64(1)}),
			call("lookup", uri(uriA), "a"),
			call("register", nil, "a", uriB, 0.0),
			call("lookup", uri(uriB), "a"),
		}},
		{"register refuses", []step{
			fails("register", core.PyroError, "invalid uri*", "a", "nonsense"),
			fails("register", core.PyroError, "invalid uri*", "a", ""),
			fails("register", core.TypeError, "only URIs or strings can be registered", "a", int64(5)),
			fails("register", core.TypeError, "only URIs or strings can be registered", "a", nil),
			fails("register", core.TypeError, "name must be a str", int64(5), uriA),
			fails("register", core.TypeError, "name must be a str", nil, uriA),
			fails("register", core.TypeError, "metadata should not be a str, but another iterable (set, list, etc)", "a", uriA, false, "x"),
			fails("register", core.TypeError, "metadata should not be a str, but another iterable (set, list, etc)", "a", uriA, false, ""),
			fails("register", core.TypeError, "'int' object is not iterable", "a", uriA, false, int64(5)),
			fails("register", core.TypeError, "'bool' object is not iterable", "a", uriA, false, true),
			fails("register", core.TypeError, "metadata must be strings, not int", "a", uriA, false, []any{int64(1)}),
			fails("register", core.TypeError, "unhashable type: 'list'", "a", uriA, false, []any{[]any{}}),
			call("count", 1),
		}},
		{"metadata is any collection", []step{
			call("register", nil, "a", uriA, false, core.Set{"x", "y", "x"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"x", "y"}}, "a", true),
			call("register", nil, "a", uriA, false, core.Tuple{"y", "X"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"X", "y"}}, "a", true),
			call("register", nil, "a", uriA, false, core.FrozenSet{"z"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"z"}}, "a", true),
			call("register", nil, "a", uriA, false, dict{"k": int64(1)}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"k"}}, "a", true),
			call("register", nil, "a", uriA, false, []any{}),
			call("lookup", core.Tuple{uri(uriA), core.Set{}}, "a", true),
		}},
		{"lookup takes the truth value of return_metadata", []step{
			call("register", nil, "a", uriA, false, []any{"x"}),
			call("lookup", uri(uriA), "a", 0.0),
			call("lookup", uri(uriA), "a", nil),
			call("lookup", core.Tuple{uri(uriA), core.Set{"x"}}, "a", 1.0),
			call("lookup", core.Tuple{uri(uriA), core.Set{"x"}}, "a", core.Kwargs{"return_metadata": "yes"}),
		}},
		{"lookup refuses", []step{
			fails("lookup", core.NamingError, "unknown name: a", "a"),
			fails("lookup", core.NamingError, "unknown name: ", ""),
			fails("lookup", core.TypeError, `can only concatenate str (not "int") to str`, int64(5)),
			fails("lookup", core.TypeError, "unhashable type: 'list'", []any{}),
		}},
		{"list by prefix is byte-exact", []step{
			call("register", nil, "Abc", uriA),
			call("register", nil, "abd", uriB),
			call("register", nil, "a%d", uriB),
			call("list", dict{"abd": uriB}, "ab"),
			call("list", dict{"abd": uriB}, core.Kwargs{"prefix": "ab", "regex": ""}),
			call("list", dict{"a%d": uriB}, "a%"),
			call("list", dict{}, "zz"),
			call("list", dict{ObjectID: own}, "Pyro."),
			call("list", dict{"abd": pair(uriB)}, "ab", nil, int64(1)),
		}},
		{"list by regex matches at the start", []step{
			call("register", nil, "abc", uriA, false, []any{"x"}),
			call("register", nil, "xab", uriB),
			call("list", dict{"abc": uriA}, nil, "ab"),
			call("list", dict{"abc": uriA, "xab": uriB}, core.Kwargs{"regex": ".*ab"}),
			call("list", dict{"abc": uriA}, "", "abc$"),
			call("list", dict{}, nil, "ab$"),
			call("list", dict{"abc": pair(uriA, "x")}, nil, "a|b", true),
			call("list", dict{ObjectID: own}, nil, "Pyro"),
			fails("list", core.NamingError, "invalid regex: *", nil, "("),
			fails("list", core.NamingError, "invalid regex: look-around is not supported*", nil, "(?=a)"),
			fails("list", core.TypeError, "first argument must be string or compiled pattern", nil, int64(5)),
			fails("list", core.TypeError, "startswith first arg must be str or a tuple of str, not int", int64(5)),
			fails("list", core.ValueError, "you can only filter on one thing at a time", "a", "b"),
			call("list", dict{"abc": uriA, "xab": uriB, ObjectID: own}, "", ""),
		}},
		{"remove by name", []step{
			call("register", nil, "a", uriA),
			call("register", nil, "b", uriB),
			call("remove", 1, "a"),
			call("remove", 0, "a"),
			call("remove", 0),
			call("remove", 0, ""),
			call("remove", 0, int64(5)),
			fails("remove", core.TypeError, "unhashable type: 'list'", []any{"a"}),
			fails("remove", core.TypeError, "unhashable type: 'dict'", nil, nil, dict{"a": 1}),
			call("count", 2),
		}},
		{"remove: the first argument that is true wins", []step{
			call("register", nil, "a1", uriA),
			call("register", nil, "a2", uriA),
			call("register", nil, "b1", uriA),
			call("remove", 0, "none", "a", "b"),
			call("remove", 2, "", "a", "b"),
			call("remove", 1, nil, "", "b"),
			call("count", 1),
		}},
		{"remove leaves the name server", []step{
			call("register", nil, "Pyro.x", uriA),
			call("remove", 0, ObjectID),
			call("remove", 1, nil, "Pyro."),
			call("register", nil, "Pyro.x", uriA),
			call("remove", 1, core.Kwargs{"regex": "Pyro"}),
			call("remove", 0, ObjectID, "nothing"),
			call("register", nil, "a", uriA),
			call("remove", 1, ObjectID, "a"),
			call("count", 1),
			call("lookup", ownURI, ObjectID),
		}},
		{"remove refuses", []step{
			fails("remove", core.NamingError, "invalid regex: *", nil, nil, "["),
			fails("remove", core.TypeError, "startswith first arg *", nil, int64(3)),
			fails("remove", core.TypeError, "unhashable type: 'list'", nil, nil, []any{"x"}),
		}},
		{"the own entry stays what it is", []step{
			call("register", nil, ObjectID, uriA, false, []any{"x"}),
			fails("register", core.NamingError, "name already registered: "+ObjectID, ObjectID, uriA, true),
			call("set_metadata", nil, ObjectID, []any{"x"}),
			call("lookup", core.Tuple{ownURI, core.Set{ownTag}}, ObjectID, true),
			fails("register", core.TypeError, "only URIs or strings can be registered", ObjectID, nil),
		}},
		{"set_metadata", []step{
			call("register", nil, "a", uriA, false, []any{"x"}),
			call("set_metadata", nil, "a", core.Set{"y", "z"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"y", "z"}}, "a", true),
			call("set_metadata", nil, core.Kwargs{"name": "a", "metadata": nil}),
			call("lookup", core.Tuple{uri(uriA), core.Set{}}, "a", true),
			fails("set_metadata", core.NamingError, "unknown name: b", "b", []any{"x"}),
			fails("set_metadata", core.TypeError, "name must be a str", nil, []any{"x"}),
			fails("set_metadata", core.TypeError, "metadata should not be a str, but another iterable (set, list, etc)", "a", "x"),
			fails("set_metadata", core.TypeError, "'float' object is not iterable", "a", 1.5),
		}},
		{"yplookup", []step{
			call("register", nil, "a", uriA, false, []any{"x", "y"}),
			call("register", nil, "b", uriB, false, []any{"y"}),
			call("register", nil, "c", uriB),
			call("yplookup", dict{"a": pair(uriA, "x", "y")}, []any{"y", "x"}),
			call("yplookup", dict{"a": pair(uriA, "x", "y"), "b": pair(uriB, "y")}, core.Set{"y"}),
			call("yplookup", dict{"a": uriA, "b": uriB}, nil, core.Tuple{"x", "y", "z"}, false),
			call("yplookup", dict{}, core.Kwargs{"meta_any": []any{"Y"}}),
			call("yplookup", dict{}, []any{"y", int64(1)}),
			call("yplookup", dict{"a": uriA, "b": uriB}, nil, []any{"y", int64(1)}, 0.0),
			call("yplookup", dict{ObjectID: own}, []any{ownTag}, nil, false),
			call("yplookup", dict{}),
			call("yplookup", dict{}, []any{}, core.Set{}),
			call("yplookup", dict{}, "", ""),
			fails("yplookup", core.ValueError, "you can't use meta_all or meta_any at the same time", []any{"x"}, []any{"y"}),
			fails("yplookup", core.TypeError, "metadata_all should not be a str, but another iterable (set, list, etc)", "x"),
			fails("yplookup", core.TypeError, "metadata_any should not be a str, but another iterable (set, list, etc)", nil, "x"),
			fails("yplookup", core.TypeError, "'int' object is not iterable", int64(1)),
			fails("yplookup", core.TypeError, "unhashable type: 'dict'", []any{dict{}}),
		}},
		{"a group is one name", []step{
			call("join", "m1", "g", uriA, "m1"),
			call("join", "m1", core.Kwargs{"group": "g", "uri": uri(uriA), "member": "m1", "zone": nil, "weight": int64(0)}),
			call("count", 2),
			call("lookup", uri(uriA), "g"),
			call("list", dict{"g": uriA, ObjectID: own}),
			call("set_metadata", nil, "g", []any{"x"}),
			call("yplookup", dict{"g": pair(uriA, "x")}, []any{"x"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"x"}}, "g", true),
			call("remove", 1, "g"),
			fails("lookup", core.NamingError, "unknown name: g", "g"),
		}},
		{"join and leave", []step{
			call("join", uriA, "g", uriA),
			call("join", "two", "g", uriB, "two", "z1", int64(3)),
			call("leave", true, "g", uriA),
			call("leave", false, "g", uriA),
			call("leave", true, core.Kwargs{"group": "g", "member": uri(uriB)}),
			call("leave", false, "g", "two"),
			call("leave", false, "other", "two"),
			call("count", 1),
		}},
		{"join refuses", []step{
			call("register", nil, "a", uriA),
			fails("join", core.NamingError, "cannot join group: the name is registered as a single object: a", "a", uriB),
			fails("join", core.NamingError, "cannot join group: *", ObjectID, uriB),
			fails("join", core.PyroError, "invalid uri*", "g", "x"),
			fails("join", core.TypeError, "group must be a str", nil, uriA),
			fails("join", core.TypeError, "member must be a str", "g", uriA, int64(1)),
			fails("join", core.TypeError, "zone must be a str", "g", uriA, "m", int64(1)),
			fails("join", core.TypeError, "weight must be an int", "g", uriA, "m", "", "1"),
			fails("join", core.TypeError, "weight must be an int", "g", uriA, "m", "", true),
			fails("join", core.ValueError, "weight must be between 0 and 1000000", "g", uriA, "m", "", int64(-1)),
			fails("leave", core.TypeError, "member must be a str", "g", nil),
		}},
		{"names and groups share one name space", []step{
			call("join", uriA, "g", uriA),
			fails("register", core.NamingError, "name already registered: g", "g", uriB, true),
			call("register", nil, "g", uriB),
			call("lookup", uri(uriB), "g"),
			call("leave", false, "g", uriA),
		}},
		{"members of what is no group", []step{
			fails("members", core.NamingError, "unknown name: g", "g"),
			fails("members", core.TypeError, "group must be a str", nil),
			call("register", nil, "a", uriA),
			call("members", group("a", 1, member(uriA, uriA, "", 1, true, "")), "a"),
			call("members", group(ObjectID, 0, member(own, own, "", 1, true, "")), ObjectID),
		}},
		{"members", []step{
			call("join", "m2", "g", uriB, "m2", "z", int64(2)),
			call("join", "m1", "g", uriA, "m1"),
			call("members", group("g", 2, member("m1", uriA, "", 1, true, ""), member("m2", uriB, "z", 2, true, "")), "g"),
		}},
		{"the tag of a group", []step{
			call("register", nil, "one", uriA, false, []any{"group:g", "x"}),
			call("register", nil, "two", uriB, false, []any{"group:g"}),
			call("count", 4),
			call("members", group("g", 2, member("one", uriA, "", 1, true, ""), member("two", uriB, "", 1, true, "")), "g"),
			call("remove", 1, "one"),
			call("lookup", uri(uriB), "g"),
			call("set_metadata", nil, "two", nil),
			fails("lookup", core.NamingError, "unknown name: g", "g"),
			fails("register", core.NamingError, "cannot join group: the name is registered as a single object: two", "x", uriA, false, []any{"group:two"}),
			fails("register", core.NamingError, "cannot join group: the name is registered as a single object: two", "x", uriA, true, []any{"group:two"}),
			fails("set_metadata", core.NamingError, "cannot join group: the name is registered as a single object: two", "two", []any{"group:two"}),
			fails("register", core.NamingError, "name already registered: two", "two", uriA, true, []any{"group:new"}),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkSteps(t, newSubject(), tt.steps)
		})
	}
}

func checkSteps(t *testing.T, s *subject, steps []step) {
	t.Helper()
	for i, st := range steps {
		got, err := s.call(t, st.method, st.args...)
		if st.class != "" {
			checkException(t, err, st.class, st.text)
		} else if err != nil {
			t.Fatalf("step %d: %s%v: %v", i, st.method, st.args, err)
		} else if !reflect.DeepEqual(got, st.want) {
			t.Errorf("step %d: %s%v: got %#v, want %#v", i, st.method, st.args, got, st.want)
		}
	}
}

func checkException(t *testing.T, err error, class core.ExceptionClass, text string) {
	t.Helper()
	e, ok := errors.AsType[*core.RemoteError](err)
	if !ok {
		t.Errorf("got %v, want a %s", err, class)
		return
	}
	start, isStart := strings.CutSuffix(text, "*")
	if e.Class != class || e.Text() != text && !(isStart && strings.HasPrefix(e.Text(), start)) {
		t.Errorf("got %s %q, want %s %q", e.Class, e.Text(), class, text)
	}
}

func group(name string, version int, members ...any) dict {
	return dict{"name": name, "version": uint64(version), "members": members}
}

func member(id, uri, zone string, weight int, alive bool, reason string) dict {
	return dict{"id": id, "uri": uri, "zone": zone, "weight": weight, "alive": alive, "reason": reason}
}

// spec: N11
func TestEveryArgumentByKeyword(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		"ping": nil, "count": nil,
		"lookup":       {"name", "return_metadata"},
		"list":         {"prefix", "regex", "metadata_all", "metadata_any", "return_metadata"}, // the middle two are Pyro4's
		"yplookup":     {"meta_all", "meta_any", "return_metadata"},
		"register":     {"name", "uri", "safe", "metadata"},
		"set_metadata": {"name", "metadata"},
		"remove":       {"name", "prefix", "regex"},
		"join":         {"group", "uri", "member", "zone", "weight"},
		"leave":        {"group", "member"},
		"members":      {"group"},
	}
	got := map[string][]string{}
	for _, m := range newSubject().Servant().Methods {
		got[m.Name] = nil
		for _, p := range m.Params {
			got[m.Name] = append(got[m.Name], p.Name)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("parameters: got %v, want %v", got, want)
	}
}

func TestLookupOfGroup(t *testing.T) {
	t.Parallel()
	s := newSubject()
	for _, id := range []string{"1", "2", "3"} {
		s.must(t, "join", "g", "PYRO:o@h:"+id, id)
	}
	seen := func(rounds int) []string {
		found := map[string]bool{}
		for range rounds {
			found[s.must(t, "lookup", "g").(core.URI).String()] = true
			found[s.must(t, "list", "g").(dict)["g"].(string)] = true
		}
		var uris []string
		for uri := range found {
			uris = append(uris, uri)
		}
		slices.Sort(uris)
		return uris
	}
	steps := []struct {
		name    string
		suspect string
		want    []string
	}{
		{"all alive: each is drawn", "", []string{"PYRO:o@h:1", "PYRO:o@h:2", "PYRO:o@h:3"}},
		{"one suspect: the others", "2", []string{"PYRO:o@h:1", "PYRO:o@h:3"}},
		{"two suspect: the last", "1", []string{"PYRO:o@h:3"}},
		{"none alive: all again", "3", []string{"PYRO:o@h:1", "PYRO:o@h:2", "PYRO:o@h:3"}},
	}
	for _, step := range steps {
		if step.suspect != "" {
			s.store.suspect(t, "g", step.suspect)
		}
		// To miss one of three in 200 draws has a chance of 3·(2/3)^200, 1e-34.
		if got := seen(100); !slices.Equal(got, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, got, step.want)
		}
	}
	members := s.must(t, "members", "g").(dict)["members"].([]any)
	if got := members[0].(dict); got["alive"] != false || got["reason"] != "test" {
		t.Errorf("suspect member: got %v, want alive false and the reason", got)
	}
}

func TestPickByWeight(t *testing.T) {
	t.Parallel()
	members := []fsm.Member{{ID: "light"}, {ID: "heavy", Weight: 9}}
	heavy := 0
	for range 10_000 {
		if pick(members).ID == "heavy" {
			heavy++
		}
	}
	// 9,000 with a standard deviation of 30.
	if heavy < 8700 || heavy > 9300 {
		t.Errorf("got %d of 10000 for weight 9 against 1, want about 9000", heavy)
	}
	if m := pick(nil); m.ID != "" {
		t.Errorf("pick of nothing: got %v", m)
	}
}

// A node that cannot answer must say so with an exception that makes stock clients drop the connection, never with a NamingError.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	calls := []step{
		{method: "ping"}, {method: "count"}, {method: "list"},
		{method: "lookup", args: args("a")},
		{method: "yplookup", args: args([]any{"x"})},
		{method: "members", args: args("g")},
		{method: "register", args: args("a", uriA)},
		{method: "register", args: args("a", uriA, true)},
		{method: "set_metadata", args: args("a", nil)},
		{method: "remove", args: args("a")},
		{method: "remove", args: args(nil, "a")},
		{method: "remove", args: args(nil, nil, "a")},
		{method: "join", args: args("g", uriA)},
		{method: "leave", args: args("g", uriA)},
	}
	s := newSubject()
	s.store.fail(errDown)
	for _, c := range calls {
		_, err := s.call(t, c.method, c.args...)
		checkException(t, err, core.ConnectionClosedError, "name server: this node cannot answer now: no leader")
		if errors.Is(err, core.NamingError) || !errors.Is(err, core.CommunicationError) {
			t.Errorf("%s: got %v, want a CommunicationError", c.method, err)
		}
	}
}

// A change that the store could not take is the caller's mistake, not a node that cannot answer.
func TestTooLong(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxCommandBytes)
	tags := make([]any, maxCommandBytes/8)
	for i := range tags {
		tags[i] = fmt.Sprintf("%06d", i)
	}
	s := NewServer(newFakeStore(), ServerOptions{})
	for name, f := range map[string]func() (any, error){
		"name":   func() (any, error) { return s.register(t.Context(), args(long, uriA, false, nil)) },
		"tags":   func() (any, error) { return s.setMetadata(t.Context(), args("a", tags)) },
		"prefix": func() (any, error) { return s.remove(t.Context(), args(nil, long, nil)) },
		"member": func() (any, error) { return s.join(t.Context(), args("g", uriA, long, "", int64(1))) },
	} {
		_, err := f()
		if !errors.Is(err, core.ValueError) || !strings.Contains(err.Error(), "want at most 262144") {
			t.Errorf("%s: got %v, want a ValueError with the limit", name, err)
		}
	}
}

// spec: N15
func TestPrepare(t *testing.T) {
	t.Parallel()
	s := newSubject()
	s.must(t, "register", "abc", uriA)
	s.must(t, "register", "abd", uriA)
	s.must(t, "join", "abgroup", uriA)
	s.must(t, "register", "x", uriA)
	if got := s.must(t, "remove", core.Kwargs{"regex": "ab[dg]"}); got != 2 {
		t.Errorf("remove: got %v, want 2", got)
	}
	c := s.store.last(t)
	if c.Kind != fsm.KindRemove || c.Name != "" || !slices.Equal(c.Names, []string{"abd", "abgroup"}) {
		t.Errorf("command in the log: got %+v, want the names", c)
	}
	other := fsm.Command{Kind: fsm.KindRegister, Name: "ab", URI: uriA}
	if got, err := Prepare(s.store.state.View(), other); err != nil || !reflect.DeepEqual(got, other) {
		t.Errorf("another command: got %+v, %v, want it as it was", got, err)
	}
	_, err := Prepare(s.store.state.View(), fsm.Command{Kind: fsm.KindRemoveMatching, Name: "("})
	checkException(t, err, core.NamingError, "invalid regex: *")
}

// Exactly one of many callers wins, so that register can serve as a lock.
//
// spec: N14
func TestRegisterSafeIsAtomic(t *testing.T) {
	t.Parallel()
	s := newSubject()
	const callers = 50
	results := make(chan error, callers)
	for range callers {
		go func() {
			_, err := s.methods["register"].Func(context.Background(), args("lock", uriA, true, nil))
			results <- err
		}()
	}
	won := 0
	for range callers {
		if err := <-results; err == nil {
			won++
		}
	}
	if won != 1 {
		t.Errorf("got %d winners, want 1", won)
	}
}
