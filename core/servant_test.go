package core

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestBind compares with CPython 3.11 calling a function with these parameters.
//
// spec: C2
func TestBind(t *testing.T) {
	t.Parallel()
	param := func(names ...string) (params []Param) {
		for _, name := range names {
			name, optional := strings.CutSuffix(name, "?")
			params = append(params, Param{Name: name, Optional: optional, Default: "default"})
		}
		return params
	}
	for _, test := range []struct {
		name     string
		params   []Param
		variadic bool
		args     []any
		kwargs   map[string]any
		want     []any
		err      string
	}{
		{name: "nothing", params: param(), want: []any{}},
		{name: "positional", params: param("a", "b"), args: []any{1, 2}, want: []any{1, 2}},
		{name: "keywords", params: param("a", "b"), kwargs: map[string]any{"b": 2, "a": 1}, want: []any{1, 2}},
		{name: "both", params: param("a", "b"), args: []any{1}, kwargs: map[string]any{"b": 2}, want: []any{1, 2}},
		{name: "default", params: param("a", "b?"), args: []any{1}, want: []any{1, "default"}},
		{name: "keyword behind a default", params: param("a", "b?", "c?"), args: []any{1}, kwargs: map[string]any{"c": 3}, want: []any{1, "default", 3}},
		{name: "None is given", params: param("a?"), args: []any{nil}, want: []any{nil}},
		{name: "surplus", params: param("a"), variadic: true, args: []any{1, 2, 3}, want: []any{1, 2, 3}},
		{name: "no surplus", params: param("a?"), variadic: true, want: []any{"default"}},
		{name: "surplus twice", params: param("a"), variadic: true, args: []any{1, 2}, kwargs: map[string]any{"a": 1},
			err: "f() got multiple values for argument 'a'"},

		{name: "one missing", params: param("x"), err: "f() missing 1 required positional argument: 'x'"},
		{name: "two missing", params: param("x", "y"), err: "f() missing 2 required positional arguments: 'x' and 'y'"},
		{name: "three missing", params: param("x", "y", "z"), err: "f() missing 3 required positional arguments: 'x', 'y', and 'z'"},
		{name: "missing without name", params: param("", ""), args: []any{1}, err: "f() missing 1 required positional argument: 'arg2'"},
		{name: "one for none", params: param(), args: []any{1}, err: "f() takes 0 positional arguments but 1 was given"},
		{name: "two for one", params: param("x"), args: []any{1, 2}, err: "f() takes 1 positional argument but 2 were given"},
		{name: "three for two", params: param("x", "y"), args: []any{1, 2, 3}, err: "f() takes 2 positional arguments but 3 were given"},
		{name: "three for one or two", params: param("x", "y?"), args: []any{1, 2, 3}, err: "f() takes from 1 to 2 positional arguments but 3 were given"},
		{name: "unknown keyword", params: param("x"), args: []any{1}, kwargs: map[string]any{"y": 2}, err: "f() got an unexpected keyword argument 'y'"},
		{name: "keyword without name", params: param(""), kwargs: map[string]any{"arg1": 2}, err: "f() got an unexpected keyword argument 'arg1'"},
		{name: "empty keyword", params: param(""), kwargs: map[string]any{"": 2}, err: "f() got an unexpected keyword argument ''"},
		{name: "twice", params: param("x"), args: []any{1}, kwargs: map[string]any{"x": 2}, err: "f() got multiple values for argument 'x'"},
		{name: "keyword before count", params: param("x"), args: []any{1, 2}, kwargs: map[string]any{"y": 2}, err: "f() got an unexpected keyword argument 'y'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := &Method{Name: "f", Params: test.params, Variadic: test.variadic}
			got, err := m.bind(test.args, test.kwargs)
			if test.err != "" {
				if e, ok := err.(*RemoteError); !ok || e.Class != TypeError || e.Text() != test.err {
					t.Fatalf("got %v, %v\nwant TypeError: %s", got, err, test.err)
				}
				return
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Fatalf("got %v, %v, want %v", got, err, test.want)
			}
		})
	}
}

// spec: O2
func TestIsPrivate(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"x": false, "x_": false, "_x": true, "__x": true, "_": true, "__": true, "____": true, "_____": false, "__x__": false,
		"__len__": false, "__iter__": false, "__getitem__": false, "__setitem__": false, "__delitem__": false, "__contains__": false,
		"__call__": true, "__init__": true, "__getattr__": true, "__dict__": false,
	} {
		if got := isPrivate(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
	if len(privateDunders) != 42 { // server.py, _private_dunder_methods, of Pyro5 5.17
		t.Errorf("%d names, want 42", len(privateDunders))
	}
}

// shape has methods of every supported form.
type shape struct {
	Name     string
	Renamed  int `pyro:"other"`
	Hidden   int `pyro:"-"`
	Callback func()
	inner
}

type inner struct{ Depth int }

func (*shape) HTTPServer() string                            { return "http" }
func (*shape) GetURL() string                                { return "url" }
func (*shape) ID() int                                       { return 1 }
func (*shape) Utf8Text(context.Context) string               { return "text" }
func (*shape) Nothing()                                      {}
func (*shape) OnlyError(fail bool) error                     { return errorIf(fail) }
func (*shape) Two(fail bool) (int, string, error)            { return 1, "x", errorIf(fail) }
func (*shape) Any(v any) string                              { return fmt.Sprintf("%T", v) }
func (*shape) Struct(p struct{ X, Y float64 }) float64       { return p.X + p.Y }
func (*shape) Map(m map[string]int) int                      { return m["x"] }
func (*shape) Bytes(b []byte) int                            { return len(b) }
func (*shape) Many(ctx context.Context, s ...string) (n int) { return len(s) }
func (*shape) Small(n int8) int8                             { return n }
func (*shape) Pointer(p *int) bool                           { return p == nil }
func (*shape) NilError() *RemoteError                        { return nil }
func (*shape) TypedNil() error                               { var e *RemoteError; return e }
func (*shape) Wrapped() error                                { return fmt.Errorf("outer: %w", ValueError) }
func (*shape) Later() error                                  { return errors.Join(NamingError.New("inner"), errors.New("other")) }

func errorIf(fail bool) error {
	if fail {
		return KeyError.New("k")
	}
	return nil
}

// spec: O1
// An embedded pointer that is nil has no fields, and no iterators.
func TestReflectNilEmbedded(t *testing.T) {
	t.Parallel()
	type Fields struct {
		Depth int
		Items iter.Seq[int]
	}
	o, err := newObject(&struct {
		Name string
		*Fields
	}{Name: "n"}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"name"}; !slices.Equal(o.meta.Attrs, want) {
		t.Errorf("attributes %v, want %v", o.meta.Attrs, want)
	}
}

func TestReflectServant(t *testing.T) {
	t.Parallel()
	o, err := newObject(&shape{Name: "n"}, ObjectOptions{Names: map[string]string{"ID": "ident", "Later": "", "Nothing": "-"}})
	if err != nil {
		t.Fatal(err)
	}
	wantMethods := []string{"any", "bytes", "get_url", "http_server", "ident", "many", "map", "nil_error", "only_error", "pointer", "small", "struct",
		"two", "typed_nil", "utf8_text", "wrapped"}
	if !slices.Equal(o.meta.Methods, wantMethods) {
		t.Errorf("methods:\n got %v\nwant %v", o.meta.Methods, wantMethods)
	}
	if want := []string{"depth", "name", "other"}; !slices.Equal(o.meta.Attrs, want) || o.class != "shape" {
		t.Errorf("class %s, attributes %v, want %v", o.class, o.meta.Attrs, want)
	}
	for _, test := range []struct {
		method string
		args   []any
		want   any
		err    string
	}{
		{method: "http_server", want: "http"},
		{method: "utf8_text", want: "text"},
		{method: "only_error", args: []any{false}, want: nil},
		{method: "only_error", args: []any{true}, err: "KeyError: k"},
		{method: "two", args: []any{false}, want: Tuple{1, "x"}},
		{method: "two", args: []any{true}, err: "KeyError: k"},
		{method: "any", args: []any{int64(1)}, want: "int64"},
		{method: "any", args: []any{nil}, want: "<nil>"},
		{method: "struct", args: []any{map[string]any{"x": 1.5, "y": int64(2)}}, want: 3.5},
		{method: "map", args: []any{map[string]any{"x": int64(2)}}, want: 2},
		{method: "bytes", args: []any{[]byte("abc")}, want: 3},
		{method: "many", args: []any{"a", "b"}, want: 2},
		{method: "many", want: 0},
		{method: "many", args: []any{"a", int64(1)}, err: "TypeError: many() argument 2: got int 1, want string"},
		{method: "small", args: []any{int64(127)}, want: int8(127)},
		{method: "small", args: []any{int64(128)}, err: "TypeError: small() argument 1: got int 128,"},
		{method: "pointer", args: []any{nil}, want: true},
		{method: "typed_nil", err: "RuntimeError: *core.RemoteError without text"},
		{method: "wrapped", err: "ValueError: outer: builtins.ValueError"},
	} {
		got, err := o.run(&servedCall{Context: t.Context()}, Request{Method: test.method, Args: test.args}, 0)
		if test.err != "" {
			if err == nil || !strings.HasPrefix(methodError(err).Error(), test.err) {
				t.Errorf("%s%v: got %v, %v, want %s", test.method, test.args, got, err, test.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s%v: got %#v, %v, want %#v", test.method, test.args, got, err, test.want)
		}
	}
}

// Types that cannot be exposed as they are.
type (
	clashing       struct{}
	iterating      struct{}
	streaming      struct{}
	channels       struct{}
	empty          struct{ _ int }
	fieldAndMethod struct{ Size int }
)

func (clashing) GetURL()                      {}
func (clashing) GetUrl()                      {}
func (iterating) Items() (iter.Seq[int], int) { return nil, 0 }
func (streaming) Feed(c chan int)             {}
func (channels) Items() <-chan int            { return nil }
func (*fieldAndMethod) Size_() int            { return 0 }

// spec: O1
func TestRegisterRefuses(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, []any) (any, error) { return nil, nil }
	read := func(context.Context) (any, error) { return nil, nil }
	method := func(name string) *Servant {
		return &Servant{Class: "S", Methods: []Method{{Name: name, Func: nothing}}}
	}
	for _, test := range []struct {
		name string
		obj  any
		opts ObjectOptions
		want string
	}{
		{name: "nil", obj: nil, want: "nil object"},
		{name: "nil pointer", obj: (*shape)(nil), want: "nil object"},
		{name: "nil servant", obj: (*Servant)(nil), want: "nil servant"},
		{name: "clash", obj: clashing{}, want: `two members are called "get_url"`},
		{name: "iterator", obj: iterating{}, want: "method Items: an iterator (iter.Seq[int]) has to be the only result"},
		{name: "channel parameter", obj: streaming{}, want: "method Feed: a parameter of type chan int cannot be sent"},
		{name: "channel result", obj: channels{}, want: `a result of type <-chan int cannot be sent (hide it with Names: "Items": "-")`},
		{name: "nothing exposed", obj: &empty{}, want: "nothing to expose"},
		{name: "no members", obj: 5, want: "nothing to expose"},
		{name: "renamed to private", obj: &shape{}, opts: ObjectOptions{Names: map[string]string{"ID": "_id"}}, want: "exposing private names"},
		{name: "renamed to dots", obj: &shape{}, opts: ObjectOptions{Names: map[string]string{"ID": "a.b"}}, want: `"a.b" is not a name`},
		{name: "renamed to a clash", obj: &shape{}, opts: ObjectOptions{Names: map[string]string{"ID": "get_url"}}, want: `two members are called "get_url"`},
		{name: "field and method", obj: &fieldAndMethod{}, opts: ObjectOptions{Names: map[string]string{"Size_": "size"}}, want: `two members are called "size"`},
		{name: "unknown Go name", obj: &shape{}, opts: ObjectOptions{Names: map[string]string{"Nope": "x"}}, want: `no Go method "Nope"`},
		{name: "unknown params", obj: &shape{}, opts: ObjectOptions{Params: map[string][]string{"nope": nil}}, want: `no method "nope"`},
		{name: "too few params", obj: &shape{}, opts: ObjectOptions{Params: map[string][]string{"any": {}}}, want: "gives 0 names for 1 parameters"},
		{name: "unknown oneway", obj: &shape{}, opts: ObjectOptions{Oneway: []string{"nope"}}, want: `unknown method "nope"`},
		{name: "unknown contract", obj: &shape{}, opts: ObjectOptions{Contracts: map[string]Contract{"nope": 1}}, want: `unknown method "nope"`},
		{name: "private dunder", obj: method("__call__"), want: "exposing private names"},
		{name: "blank in a name", obj: method("a b"), want: "is not a name"},
		{name: "no name", obj: method(""), want: "is not a name"},
		{name: "digit first", obj: method("1a"), want: "is not a name"},
		{name: "no Func", obj: &Servant{Class: "S", Methods: []Method{{Name: "x"}}}, want: `method "x" has no Func`},
		{name: "Func and Direct", obj: &Servant{Class: "S", Methods: []Method{{Name: "x",
			Func:   func(context.Context, []any) (any, error) { return nil, nil },
			Direct: func(context.Context, *Decoder, *Encoder) error { return nil }}}}, want: `method "x" has Func and Direct`},
		{name: "no Read", obj: &Servant{Class: "S", Attributes: []Attribute{{Name: "x"}}}, want: `attribute "x" has no Read`},
		{name: "attribute and method", obj: &Servant{Class: "S", Methods: []Method{{Name: "x", Func: nothing}}, Attributes: []Attribute{{Name: "x", Read: read}}},
			want: `two members are called "x"`},
		{name: "names for a servant", obj: method("x"), opts: ObjectOptions{Names: map[string]string{"X": "y"}}, want: "a Servant has its own"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := newObject(test.obj, test.opts)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// TestServantOptions has a servant whose options add to what it says itself, which stays as it was.
func TestServantOptions(t *testing.T) {
	t.Parallel()
	s := &Servant{Class: "S", Methods: []Method{
		{Name: "__len__", Func: func(context.Context, []any) (any, error) { return 3, nil }},
		{Name: "größe", Contract: ContractReadOnly, Func: func(context.Context, []any) (any, error) { return 3, nil }},
	}}
	o, err := newObject(s, ObjectOptions{Oneway: []string{"__len__"}, Contracts: map[string]Contract{"__len__": ContractIdempotent}})
	if err != nil {
		t.Fatal(err)
	}
	if string(o.contracts) != "__len__=1\ngröße=2\n" || !slices.Equal(o.meta.Oneway, []string{"__len__"}) {
		t.Errorf("contracts %q, oneway %v", o.contracts, o.meta.Oneway)
	}
	if s.Methods[0].Oneway || s.Methods[0].Contract != ContractPlain {
		t.Errorf("the caller's servant was changed: %+v", s.Methods[0])
	}
}

func TestErrorClasses(t *testing.T) {
	t.Parallel()
	e := NamingError.New("unknown name: %s", "x")
	for _, test := range []struct {
		err    error
		target error
		want   bool
	}{
		{e, NamingError, true},
		{e, PyroError, true},
		{e, CommunicationError, false},
		{e, ErrClosed, false},
		{fmt.Errorf("wrapped: %w", SerializeError), CommunicationError, true},
		{SerializeError.New("x"), ProtocolError, true},
		{tooLarge(2, 1), ProtocolError, true},
		{tooLarge(2, 1), SecurityError, false},
		{&TransportError{Err: protocolError("x")}, ProtocolError, true},
	} {
		if got := errors.Is(test.err, test.target); got != test.want {
			t.Errorf("errors.Is(%v, %v): got %v, want %v", test.err, test.target, got, test.want)
		}
	}
	if got := e.Error(); got != "NamingError: unknown name: x" {
		t.Errorf("got %s", got)
	}
	for want, args := range map[string][]any{"": nil, "x": {"x"}, "None": {nil}, "('x', 1, None)": {"x", 1, nil}} {
		if got := (&RemoteError{Args: args}).Text(); got != want {
			t.Errorf("text of %v: got %s, want %s", args, got, want)
		}
	}
	if got := (&RemoteError{Class: StopIteration}).Error(); got != "StopIteration" {
		t.Errorf("got %s", got)
	}
	if got := (&TransportError{Endpoint: "h:1", Op: opRead, Err: ErrClosed}).Error(); got != "core: read reply h:1: core: closed" {
		t.Errorf("got %s", got)
	}
}
