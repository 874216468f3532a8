package interop

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// startServer starts testdata/server.py and returns the URI of its object.
func startServer(t *testing.T, env ...string) core.URI {
	t.Helper()
	return parseURI(t, start(t, env, "server.py").expect(t, "uri "))
}

func parseURI(t *testing.T, text string) core.URI {
	t.Helper()
	uri, err := core.ParseURI(text)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// newProxy returns a proxy that is closed when the test ends.
func newProxy(t *testing.T, uri core.URI, opts core.ProxyOptions) *core.Proxy {
	t.Helper()
	p := core.NewProxy(uri, opts)
	t.Cleanup(func() { p.Close() })
	return p
}

// patient bounds the calls of a test.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// call calls a method that must succeed, and returns its result.
func call(ctx context.Context, t *testing.T, c core.Caller, method string, args ...any) any {
	t.Helper()
	var result any
	if err := c.Call(ctx, method, &result, args...); err != nil {
		t.Fatalf("%s%v: %v", method, args, err)
	}
	return result
}

// TestPythonServer calls an object of a stock Pyro5 daemon.
//
// spec: A7 C1 C2 C3 C5 C6 C12 C16 R1 R2 R3 R4 R5 R6 S1 S8 S9 S10 S11 Z1 Z5 Z6 Z7 Z8
func TestPythonServer(t *testing.T) {
	t.Parallel()
	uri := startServer(t, "PYRO_COMPRESSION=true") // of what is longer than 100 bytes
	for _, serializer := range serializerNames {
		t.Run(serializer, func(t *testing.T) {
			s := &pythonServer{uri: uri, serializer: serializer, proxy: newProxy(t, uri, core.ProxyOptions{Serializer: serializer})}
			t.Run("values to Python", s.testValuesToPython)
			t.Run("values of Python", s.testValuesOfPython)
			t.Run("arguments", s.testArguments)
			t.Run("attributes", s.testAttributes)
			t.Run("exceptions", s.testExceptions)
			t.Run("unknown members", s.testUnknownMembers)
			t.Run("oneway", s.testOneway)
			t.Run("streams", s.testStreams)
			t.Run("context", s.testContext)
			t.Run("handshake", s.testHandshake)
			t.Run("daemon object", s.testDaemonObject)
			t.Run("callback", s.testCallback)
			t.Run("blobs", s.testBlobs)
			t.Run("big messages", s.testBigMessages)
			t.Run("concurrent calls", s.testConcurrentCalls)
			t.Run("cancelled call", s.testCancelledCall)
		})
	}
}

type pythonServer struct {
	uri        core.URI
	serializer string
	proxy      *core.Proxy
}

// pick returns the value for this serializer, else the one for "".
func (s *pythonServer) pick(by map[string]string) string {
	if v, ok := by[s.serializer]; ok {
		return v
	}
	return by[""]
}

const refused = "(refused)"

// testValuesToPython sends Go values, and has Python say what it saw.
func (s *pythonServer) testValuesToPython(t *testing.T) {
	ctx := patient(t)
	huge := new(big.Int).Lsh(big.NewInt(1), 70)
	tests := []struct {
		name  string
		value any
		want  map[string]string // by serializer
	}{
		{"nil", nil, map[string]string{"": "NoneType None"}},
		{"bool", true, map[string]string{"": "bool True"}},
		{"int", -5, map[string]string{"": "int -5"}},
		{"int64", int64(math.MinInt64), map[string]string{"": "int -9223372036854775808"}},
		{"uint64", uint64(math.MaxUint64), map[string]string{"": "int 18446744073709551615"}},
		{"big.Int", huge, map[string]string{"": "int 1180591620717411303424"}},
		{"float64", 3.0, map[string]string{"": "float 3.0"}},
		{"float32", float32(0.5), map[string]string{"": "float 0.5"}},
		{"inf", math.Inf(-1), map[string]string{"": "float -inf"}},
		{"nan", math.NaN(), map[string]string{"": "float nan"}},
		{"complex", complex(1, 2), map[string]string{"": "complex (1+2j)", "json": refused}},
		{"string", "hé\n'", map[string]string{"": `str "hé\n'"`}},
		{"string with nul", "a\x00", map[string]string{"": `str 'a\x00'`}},
		{"bytes", []byte{0, 255}, map[string]string{
			"": `bytes b'\x00\xff'`, "serpent": `dict {'data': 'AP8=', 'encoding': 'base64'}`, "json": refused,
		}},
		{"slice", []int{1, 2}, map[string]string{"": "list [1, 2]"}},
		{"array", [2]string{"a", "b"}, map[string]string{"": "list ['a', 'b']"}},
		{"tuple", core.Tuple{1, "x"}, map[string]string{"": "tuple (1, 'x')", "json": "list [1, 'x']", "msgpack": "list [1, 'x']"}},
		{"set", core.Set{7}, map[string]string{"": "set {7}", "json": "list [7]", "msgpack": "list [7]"}},
		{"empty set", core.Set{}, map[string]string{"": "set set()", "serpent": "tuple ()", "json": "list []", "msgpack": "list []"}},
		{"frozenset", core.FrozenSet{7}, map[string]string{
			"": "frozenset frozenset({7})", "serpent": "set {7}", "json": "list [7]", "msgpack": "list [7]",
		}},
		{"map", map[string]int{"b": 2, "a": 1}, map[string]string{"": "dict {'a': 1, 'b': 2}"}},
		{"int keys", map[int]string{1: "a"}, map[string]string{"": "dict {1: 'a'}", "json": "dict {'1': 'a'}", "msgpack": refused}},
		{"tuple keys", core.Dict{{Key: core.Tuple{1, 2}, Value: "a"}}, map[string]string{"": "dict {(1, 2): 'a'}", "json": refused, "msgpack": refused}},
		{"struct", person{"Irmen", []string{"x"}}, map[string]string{"": "dict {'first_name': 'Irmen', 'tags': ['x']}"}},
		{"pointer", &position{1, 2}, map[string]string{"": "dict {'x': 1, 'y': 2}"}},
		{"date", core.Date{Year: 2024, Month: 1, Day: 2}, map[string]string{
			"": "str '2024-01-02'", "msgpack": "date datetime.date(2024, 1, 2)", "marshal": refused,
		}},
		{"URI", s.uri, map[string]string{"": "URI <Pyro5.core.URI at 0x; " + s.uri.String() + ">"}},
		{"URI in a list", []any{s.uri}, map[string]string{"": "list [<Pyro5.core.URI at 0x; " + s.uri.String() + ">]"}},
		{"exception", core.ValueError.New("x"), map[string]string{"": "ValueError ValueError('x')"}},
		{"class unknown to Python", core.ClassDict{Class: "some.Class"}, map[string]string{"": refused}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := s.pick(tt.want)
			var got string
			err := s.proxy.Call(ctx, "type_and_repr", &got, tt.value)
			if want == refused {
				if err == nil {
					t.Fatalf("sent %v: Python saw %s, want an error", tt.value, got)
				}
				call(ctx, t, s.proxy, "echo", "still there")
				return
			}
			if err != nil {
				t.Fatalf("sent %v: %v", tt.value, err)
			}
			if i := strings.Index(got, " at 0x"); i >= 0 { // the address of an object
				got = got[:i+6] + got[i+strings.IndexByte(got[i:], ';'):]
			}
			if got != want {
				t.Errorf("sent %v: Python saw\n%s, want\n%s", tt.value, got, want)
			}
		})
	}
}

// testValuesOfPython asks Python for values.
func (s *pythonServer) testValuesOfPython(t *testing.T) {
	ctx := patient(t)
	tests := []struct {
		name string
		want map[string]string // of describe, by serializer
	}{
		{"none", map[string]string{"": "nil"}},
		{"true", map[string]string{"": "bool true"}},
		{"int", map[string]string{"": "int64 -5"}},
		{"big", map[string]string{"": "big 1180591620717411303424"}},
		{"float", map[string]string{"": "float64 3"}},
		{"inf", map[string]string{"": "float64 +Inf"}},
		{"nan", map[string]string{"": "float64 NaN"}},
		{"complex", map[string]string{"": "complex128 (1+2i)", "json": refused}},
		{"str", map[string]string{"": "string hé\U0001d11e\n'\"\\"}},
		{"bytes", map[string]string{"": "bytes 00ff", "serpent": `dict{"data": string AP8=, "encoding": string base64}`, "json": refused}},
		{"tuple", map[string]string{"": "tuple[int64 1, string x]", "json": "list[int64 1, string x]", "msgpack": "list[int64 1, string x]"}},
		{"list", map[string]string{"": "list[int64 1, list[float64 2.5, nil]]"}},
		{"set", map[string]string{"": "set[int64 7]", "json": "list[int64 7]", "msgpack": "list[int64 7]"}},
		{"frozenset", map[string]string{"": "frozenset[int64 7]", "serpent": "set[int64 7]", "json": refused, "msgpack": refused}},
		{"empty set", map[string]string{"": "set[]", "serpent": "tuple[]", "json": "list[]", "msgpack": "list[]"}},
		{"dict", map[string]string{"": `dict{"a": int64 1, "b": dict{"c": list[]}}`}},
		{"int keys", map[string]string{
			"": "dict{int64 1: string a, int64 2: string b}", "json": `dict{"1": string a, "2": string b}`,
		}},
		{"tuple keys", map[string]string{"": "dict{tuple[int64 1, int64 2]: string a}", "json": refused, "msgpack": refused}},
		{"uuid", map[string]string{"": "string 00000000-0000-0000-0000-000000000005"}},
		{"decimal", map[string]string{"": "string 1.50", "marshal": refused}},
		{"datetime", map[string]string{
			"": "string 2024-01-02T03:04:05.000678", "msgpack": "time 2024-01-02T03:04:05.000678Z", "marshal": refused,
		}},
		{"date", map[string]string{"": "string 2024-01-02", "msgpack": "date 2024-01-02", "marshal": refused}},
		{"uri", map[string]string{"": "URI PYRO:o@h:1"}},
		{"exception", map[string]string{"": "exception builtins.ValueError [string x, int64 1]"}},
		{"point", map[string]string{"": `class checks.Point{"x": int64 1, "y": int64 2}`}},
		{"proxy", map[string]string{"": "proxy PYRO:o@h:1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := s.pick(tt.want)
			var got any
			err := s.proxy.Call(ctx, "python_value", &got, tt.name)
			switch {
			case want == refused && err == nil:
				t.Errorf("got %s, want an error", describe(got))
			case want == refused:
				call(ctx, t, s.proxy, "echo", "still there")
			case err != nil:
				t.Error(err)
			case describe(got) != want:
				t.Errorf("got\n%s, want\n%s", describe(got), want)
			}
		})
	}
	if s.serializer != "marshal" { // stock's attempt to send it in marshal spoils the object for the others
		var got core.ProxyState // spec: O23
		if err := s.proxy.Call(ctx, "python_value", &got, "registered"); err != nil || got.URI != s.uri || !slices.Contains(got.Methods, "echo") {
			t.Errorf("registered object: got %+v, %v, want a proxy of %v", got, err, s.uri)
		}
	}
	t.Run("typed", func(t *testing.T) {
		var list []any
		var dict struct {
			A int
			B map[string][]string
		}
		var moment time.Time
		if err := s.proxy.Call(ctx, "python_value", &dict, "dict"); err != nil || dict.A != 1 || dict.B["c"] == nil {
			t.Errorf("dict: got %v, %v", dict, err)
		}
		if err := s.proxy.Call(ctx, "python_value", &list, "tuple"); err != nil || len(list) != 2 {
			t.Errorf("tuple: got %v, %v", list, err)
		}
		if s.serializer != "marshal" {
			err := s.proxy.Call(ctx, "python_value", &moment, "datetime")
			if want := time.Date(2024, 1, 2, 3, 4, 5, 678000, time.Local); err != nil || s.serializer != "msgpack" && !moment.Equal(want) {
				t.Errorf("datetime: got %v, %v, want %v", moment, err, want)
			}
		}
		if s.serializer != "json" {
			var data []byte
			if err := s.proxy.Call(ctx, "python_value", &data, "bytes"); err != nil || string(data) != "\x00\xff" {
				t.Errorf("bytes: got %q, %v", data, err)
			}
		}
		var text string
		if err := s.proxy.Call(ctx, "python_value", &text, "int"); err == nil {
			t.Errorf("an int was stored in a string: %q", text)
		}
		call(ctx, t, s.proxy, "echo", "still there")
	})
}

func (s *pythonServer) testArguments(t *testing.T) {
	ctx := patient(t)
	tests := []struct {
		name string
		args []any
		want int64
	}{
		{"positional", []any{1, 2}, 3},
		{"default", []any{1}, 11},
		{"keyword", []any{1, core.Kwargs{"b": 2}}, 3},
		{"keywords only", []any{core.Kwargs{"a": 1, "b": 2, "factor": 5}}, 15},
		{"more", []any{1, 2, 3, 4, core.Kwargs{"factor": 2}}, 20},
	}
	for _, tt := range tests {
		if got := call(ctx, t, s.proxy, "add", tt.args...); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	for _, args := range [][]any{{}, {core.Kwargs{"b": 1}}, {1, core.Kwargs{"a": 1}}, {1, core.Kwargs{"c": 1}}} {
		if err := s.proxy.Call(ctx, "add", nil, args...); !errors.Is(err, core.TypeError) || !strings.Contains(err.Error(), "argument") {
			t.Errorf("add%v: got %v, want a TypeError about an argument", args, err)
		}
	}
}

// testAttributes reads and writes properties, also in marshal, which the stock client cannot (see client.py).
func (s *pythonServer) testAttributes(t *testing.T) {
	ctx := patient(t)
	for _, name := range []string{"first", "second"} {
		var got string
		if err := s.proxy.SetAttr(ctx, "name", name); err != nil {
			t.Fatal(err)
		}
		if err := s.proxy.Attr(ctx, "name", &got); err != nil || got != name {
			t.Errorf("name: got %q, %v, want %q", got, err, name)
		}
	}
	if err := s.proxy.SetAttr(ctx, "name", ""); !errors.Is(err, core.ValueError) || !strings.Contains(err.Error(), "no name") {
		t.Errorf("set name to nothing: got %v, want Python's ValueError", err)
	}
	if err := s.proxy.SetAttr(ctx, "constant", 43); !errors.Is(err, core.AttributeError) {
		t.Errorf("set a read-only property: got %v, want an AttributeError", err)
	}
	var answer int
	if err := s.proxy.Attr(ctx, "constant", &answer); err != nil || answer != 42 {
		t.Errorf("constant: got %d, %v", answer, err)
	}
}

func (s *pythonServer) testExceptions(t *testing.T) {
	ctx := patient(t)
	tests := []struct {
		kind  string
		class core.ExceptionClass
		text  string
	}{
		{"value", core.ValueError, "bad"},
		{"key", "builtins.KeyError", "k"},
		{"zero", "builtins.ZeroDivisionError", "division by zero"},
		{"os", "builtins.FileNotFoundError", "No such file"},
		{"stop", core.StopIteration, ""},
		{"naming", core.NamingError, "unknown name: x"},
		{"custom", "__main__.CustomError", "mine"},
		{"unserializable", core.PyroError, "Error serializing exception"},
		{"security", core.SecurityError, "not for you"},
		{"interrupt", core.RuntimeError, ""},
	}
	for _, tt := range tests {
		t.Run(tt.kind, func(t *testing.T) {
			err := s.proxy.Call(ctx, "fail", nil, tt.kind)
			e, ok := errors.AsType[*core.RemoteError](err)
			if !ok || e.Class != tt.class || !strings.Contains(e.Text(), tt.text) {
				t.Fatalf("got %#v, want %s with %q", err, tt.class, tt.text)
			}
			if trace := strings.Join(e.Traceback, ""); !strings.Contains(trace, "server.py") || !strings.HasSuffix(trace, "\n") {
				t.Errorf("traceback: got %q", e.Traceback)
			}
			if tt.kind == "value" && (!reflect.DeepEqual(e.Args, []any{"bad", int64(1)}) || !reflect.DeepEqual(e.Attributes, map[string]any{"extra": int64(5)})) {
				t.Errorf("got args %v, attributes %v", e.Args, e.Attributes)
			}
			call(ctx, t, s.proxy, "echo", "still there")
		})
	}
	// Upon these the stock server hangs up without a reply: the outcome is not known.
	for _, kind := range []string{"closed", "timeout"} {
		err := s.proxy.Call(ctx, "fail", nil, kind)
		if e, ok := errors.AsType[*core.TransportError](err); !ok || !e.Written {
			t.Errorf("%s: got %v, want a TransportError after writing", kind, err)
		}
		call(ctx, t, s.proxy, "echo", "still there")
	}
	if err := s.proxy.Call(ctx, "unserializable", nil); err == nil {
		t.Error("a lock was sent")
	}
	call(ctx, t, s.proxy, "echo", "still there")
}

func (s *pythonServer) testUnknownMembers(t *testing.T) {
	ctx := patient(t)
	for _, method := range []string{"no_such", "unexposed", "_private", "__init__", "name"} {
		if err := s.proxy.Call(ctx, method, nil); !errors.Is(err, core.AttributeError) {
			t.Errorf("method %s: got %v, want an AttributeError", method, err)
		}
	}
	if err := s.proxy.Attr(ctx, "no_such", nil); !errors.Is(err, core.AttributeError) {
		t.Errorf("attribute: got %v, want an AttributeError", err)
	}
	unknown := s.uri
	unknown.Object = "no_such_object"
	p := newProxy(t, unknown, core.ProxyOptions{Serializer: s.serializer})
	if err := p.Call(ctx, "echo", nil, 1); err == nil || !strings.Contains(err.Error(), "unknown object") {
		t.Errorf("unknown object: got %v", err)
	}
}

func (s *pythonServer) testOneway(t *testing.T) {
	ctx := patient(t)
	for i, send := range []func(text string) error{
		func(text string) error { return s.proxy.Call(ctx, "note", nil, text) },
		func(text string) error { return s.proxy.CallOneway(ctx, "note", text) },
		func(text string) error { return s.proxy.CallOneway(ctx, "noted", text) }, // not declared oneway: the flag decides
	} {
		text := fmt.Sprintf("%s %d", s.serializer, i)
		if err := send(text); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			call(ctx, t, s.proxy, "note", text)
		}
		if got := call(ctx, t, s.proxy, "noted", text); got != true {
			t.Errorf("noted %q: got %v", text, got)
		}
	}
}

func (s *pythonServer) testStreams(t *testing.T) {
	ctx := patient(t)
	var stream *core.Stream
	if err := s.proxy.Call(ctx, "generate", &stream, 3); err != nil {
		t.Fatal(err)
	}
	var items []string
	for item, err := range stream.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, describe(item))
	}
	if want := []string{`dict{"item": int64 0}`, `dict{"item": int64 1}`, `dict{"item": int64 2}`}; !slices.Equal(items, want) {
		t.Errorf("got %q, want %q", items, want)
	}

	if err := s.proxy.Call(ctx, "generate_and_fail", &stream); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := stream.Next(ctx, &n); err != nil || n != 1 {
		t.Errorf("first item: got %d, %v", n, err)
	}
	if err := stream.Next(ctx, &n); !errors.Is(err, core.ValueError) || !strings.Contains(err.Error(), "in the middle") {
		t.Errorf("second item: got %v, want the ValueError of the generator", err)
	}

	if err := s.proxy.Call(ctx, "generate", &stream, 1000); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := stream.Next(ctx, nil); !errors.Is(err, core.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}

	if err := s.proxy.Attr(ctx, "countdown", &stream); err != nil {
		t.Fatal(err)
	}
	defer stream.Close(ctx)
	if err := stream.Next(ctx, &n); err != nil || n != 3 {
		t.Errorf("property that streams: got %d, %v", n, err)
	}
}

func (s *pythonServer) testContext(t *testing.T) {
	id := [16]byte{0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78}
	ctx := core.WithAnnotations(core.WithCorrelationID(patient(t), id), core.Annotations{"TEST": []byte("\xff from go")})
	var got struct {
		CorrelationID string `pyro:"correlation_id"`
		Annotation    string
		Serializer    int
	}
	if err := s.proxy.Call(ctx, "context", &got); err != nil {
		t.Fatal(err)
	}
	serializer, _ := core.SerializerByName(s.serializer)
	if got.CorrelationID != "12345678-1234-5678-1234-567812345678" || got.Annotation != "ÿ from go" || got.Serializer != int(serializer.ID()) {
		t.Errorf("got %+v", got)
	}
}

func (s *pythonServer) testHandshake(t *testing.T) {
	ctx := patient(t)
	var answer any
	p := newProxy(t, s.uri, core.ProxyOptions{
		Serializer: s.serializer, Handshake: map[string]any{"secret": 5},
		ValidateHandshake: func(response any) error {
			answer = response
			return nil
		},
	})
	call(ctx, t, p, "echo", 1)
	if got, want := describe(answer), `dict{"you sent": dict{"secret": int64 5}}`; got != want {
		t.Errorf("answer: got %s, want %s", got, want)
	}
	p = newProxy(t, s.uri, core.ProxyOptions{Serializer: s.serializer, Handshake: "wrong"})
	err := p.Call(ctx, "echo", nil, 1)
	if e, ok := errors.AsType[*core.TransportError](err); !ok || e.Written || !strings.Contains(err.Error(), "go away") {
		t.Errorf("refused handshake: got %#v", err)
	}
	meta, err := s.proxy.Metadata(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(meta.Methods, "echo") || !slices.Equal(meta.Oneway, []string{"note"}) ||
		!slices.Equal(meta.Attrs, []string{"constant", "countdown", "name"}) || slices.Contains(meta.Methods, "_event") {
		t.Errorf("metadata: got %+v", meta)
	}
	if err := s.proxy.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
}

func (s *pythonServer) testDaemonObject(t *testing.T) {
	ctx := patient(t)
	uri := s.uri
	uri.Object = "Pyro.Daemon"
	p := newProxy(t, uri, core.ProxyOptions{Serializer: s.serializer})
	var ids []string
	if err := p.Call(ctx, "registered", &ids); err != nil || !slices.Contains(ids, "thing") || !slices.Contains(ids, "Pyro.Daemon") {
		t.Errorf("registered: got %q, %v", ids, err)
	}
	var meta struct{ Methods, Oneway, Attrs []string }
	if err := p.Call(ctx, "get_metadata", &meta, "thing"); err != nil || !slices.Contains(meta.Methods, "echo") {
		t.Errorf("get_metadata: got %+v, %v", meta, err)
	}
	if got := call(ctx, t, p, "ping"); got != nil {
		t.Errorf("ping: got %v", got)
	}
	if got, _ := call(ctx, t, p, "info").(string); !strings.Contains(got, "objects registered") {
		t.Errorf("info: got %q", got)
	}
}

// testCallback passes a proxy of a Go object, which Python calls while Go waits for Python.
func (s *pythonServer) testCallback(t *testing.T) {
	ctx := patient(t)
	d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
		_, err := d.Register("thing", new(Thing), thingOptions)
		return err
	})
	p := newProxy(t, d.URI("thing"), core.ProxyOptions{Serializer: s.serializer})
	if got := call(ctx, t, s.proxy, "call_back", p, "text"); got != "text via 1" {
		t.Errorf("got %v", got)
	}
}

// testBlobs has Python read a blob, and pass one on to a Go object.
//
// spec: S5
func (s *pythonServer) testBlobs(t *testing.T) {
	ctx := patient(t)
	value := map[string]any{"a": []any{int64(1), "x"}}
	want := []any{"info", value}
	if s.serializer == "json" {
		want[1] = "params" // SerializedBlob.deserialized of Pyro5 5.17 takes the dict of a call for a sequence, and so has its third key
	}
	if got := call(ctx, t, s.proxy, "blob", core.NewBlob("info", value)); describe(got) != describe(want) {
		t.Errorf("read by Python: got %s, want %s", describe(got), describe(want))
	}
	d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
		_, err := d.Register("thing", new(Thing), thingOptions)
		return err
	})
	to := d.URI("thing").String()
	if got := call(ctx, t, s.proxy, "pass_on", core.NewBlob(to, value)); describe(got) != describe([]any{to, value}) {
		t.Errorf("passed on by Python: got %s, want %s", describe(got), describe([]any{to, value}))
	}
	if got := call(ctx, t, s.proxy, "add", 1, 2); describe(got) != "int64 3" {
		t.Errorf("a call after it: got %s", describe(got))
	}
}

// testBigMessages sends and gets more than fits into buffers, compressed on the way back, and there if the proxy is told.
//
// spec: Z2 Z4
func (s *pythonServer) testBigMessages(t *testing.T) {
	ctx := patient(t)
	compressing := newProxy(t, s.uri, core.ProxyOptions{Serializer: s.serializer, Compress: true})
	for _, size := range []int{99, 100, 101, 1 << 16, 4 << 20} {
		text := strings.Repeat("ab", size)[:size]
		for _, p := range []*core.Proxy{s.proxy, compressing} {
			if got := call(ctx, t, p, "echo", text); got != any(text) {
				t.Errorf("%d bytes did not come back as they were", size)
			}
		}
	}
	p := newProxy(t, s.uri, core.ProxyOptions{Serializer: s.serializer, MaxMessageBytes: 1 << 20})
	if err := p.Call(ctx, "echo", nil, strings.Repeat("x", 2<<20)); err == nil { // small on the wire, too big unpacked
		t.Error("a reply beyond MaxMessageBytes was taken")
	}
	call(ctx, t, p, "echo", "still there")
}

func (s *pythonServer) testConcurrentCalls(t *testing.T) {
	ctx := patient(t)
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() {
			for j := range 20 {
				var got int
				if err := s.proxy.Call(ctx, "add", &got, i, j); err != nil || got != i+j {
					t.Errorf("add(%d, %d): got %d, %v", i, j, got, err)
					return
				}
			}
		})
	}
	calls.Wait()
}

// testCancelledCall ends the wait for a method that goes on.
func (s *pythonServer) testCancelledCall(t *testing.T) {
	ctx, cancel := context.WithCancel(patient(t))
	failed := make(chan error, 1)
	text := "wait " + s.serializer
	go func() { failed <- s.proxy.Call(ctx, "wait", nil, text) }()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	call(patient(t), t, s.proxy, "note", text)
	call(patient(t), t, s.proxy, "echo", "still there")
}

// TestFullPythonServer meets a stock server without a free thread: that refuses, and nothing was executed.
//
// spec: O16
func TestFullPythonServer(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	uri := startServer(t, "PYRO_THREADPOOL_SIZE=1", "PYRO_THREADPOOL_SIZE_MIN=1")
	for _, serializer := range serializerNames {
		first := newProxy(t, uri, core.ProxyOptions{Serializer: serializer})
		second := newProxy(t, uri, core.ProxyOptions{Serializer: serializer})
		for { // until the thread is done with the connection of the round before
			err := first.Call(ctx, "echo", nil, 1)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
		err := second.Call(ctx, "echo", nil, 1)
		if e, ok := errors.AsType[*core.TransportError](err); !ok || e.Written || !strings.Contains(err.Error(), "no free workers") {
			t.Errorf("%s: got %v, want a TransportError about free workers, nothing written", serializer, err)
		}
		call(ctx, t, first, "echo", 1)
		first.Close()
	}
}

// TestPyro5Echoserver calls every member of Pyro5's own test object.
//
// spec: T6 S1 C3 C6 O2
func TestPyro5Echoserver(t *testing.T) {
	t.Parallel()
	for _, serializer := range serializerNames {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			ctx := patient(t)
			p := start(t, nil, "module.py", "Pyro5.utils.echoserver")
			echo := newProxy(t, parseURI(t, p.expect(t, "echo uri: ")), core.ProxyOptions{Serializer: serializer})
			meta, err := echo.Metadata(ctx)
			want := core.Metadata{
				Methods: []string{
					"__dunder__", "echo", "error", "error_with_text", "generator", "inf", "nan", "oneway_echo", "oneway_slow", "shutdown", "slow",
				},
				Oneway: []string{"oneway_echo", "oneway_slow"},
				Attrs:  []string{"verbose"},
			}
			if err != nil || !slices.Equal(meta.Methods, want.Methods) || !slices.Equal(meta.Oneway, want.Oneway) || !slices.Equal(meta.Attrs, want.Attrs) {
				t.Fatalf("metadata: got %+v, %v, want %+v", meta, err, want)
			}
			message := []any{"text", int64(5), 2.5, nil, map[string]any{"k": true}}
			if got := call(ctx, t, echo, "echo", message); !reflect.DeepEqual(got, any(message)) {
				t.Errorf("echo: got %v, want %v", got, message)
			}
			for method, text := range map[string]string{
				"error":           "ValueError: this is the generated error from echoserver echo() method",
				"error_with_text": "ValueError: the message of the error",
			} {
				if err := echo.Call(ctx, method, nil); !errors.Is(err, core.ValueError) || err.Error() != text {
					t.Errorf("%s: got %v, want %s", method, err, text)
				}
			}
			if got := call(ctx, t, echo, "oneway_echo", "text"); got != nil {
				t.Errorf("oneway_echo: got %v", got)
			}
			if got, _ := call(ctx, t, echo, "nan").(float64); !math.IsNaN(got) {
				t.Errorf("nan: got %v", got)
			}
			if got := call(ctx, t, echo, "inf"); got != math.Inf(1) {
				t.Errorf("inf: got %v", got)
			}
			if got := call(ctx, t, echo, "__dunder__"); got != "should be allowed (dunder)" {
				t.Errorf("__dunder__: got %v", got)
			}
			testEchoGenerator(ctx, t, echo)
			testEchoVerbose(ctx, t, echo, p)
			// These take 5 s, each in a thread of the test's own: once is enough for both.
			if serializer == "serpent" {
				call(ctx, t, echo, "oneway_slow")
			}
			if serializer == "msgpack" {
				if got := call(ctx, t, echo, "slow"); got != "Finally, an answer!" {
					t.Errorf("slow: got %v", got)
				}
			}
			call(ctx, t, echo, "shutdown")
			p.awaitEnd(t)
		})
	}
}

func testEchoGenerator(ctx context.Context, t *testing.T, echo *core.Proxy) {
	t.Helper()
	var stream *core.Stream
	if err := echo.Call(ctx, "generator", &stream); err != nil {
		t.Fatal(err)
	}
	var items []any
	for item, err := range stream.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	if want := []any{"one", "two", "three"}; !slices.Equal(items, want) {
		t.Errorf("generator: got %v, want %v", items, want)
	}
}

func testEchoVerbose(ctx context.Context, t *testing.T, echo *core.Proxy, p *process) {
	t.Helper()
	for _, want := range []bool{true, false} {
		if err := echo.SetAttr(ctx, "verbose", want); err != nil {
			t.Fatal(err)
		}
		if want {
			call(ctx, t, echo, "echo", "seen")
			for line := ""; !strings.Contains(line, "echo: 'seen'"); {
				line = p.expect(t, "")
			}
		}
		var got bool
		if err := echo.Attr(ctx, "verbose", &got); err != nil || got != want {
			t.Errorf("verbose: got %v, %v, want %v", got, err, want)
		}
	}
}
