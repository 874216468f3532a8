package core

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
)

type testPoint struct {
	X, Y  int
	Label string `pyro:"name"`
	inner int
}

type testError struct{ Code int }

func (testError) Error() string { return "code" }

func TestSerializers(t *testing.T) {
	t.Parallel()
	for id, name := range map[uint8]string{1: "serpent", 2: "marshal", 3: "json", 4: "msgpack", 88: "xml"} {
		a, ok1 := SerializerByID(id)
		b, ok2 := SerializerByName(name)
		if !ok1 || !ok2 || a != b || a.ID() != id || a.Name() != name {
			t.Errorf("%d, %s: got %v, %v", id, name, a, b)
		}
	}
	if s, ok := SerializerByID(5); ok {
		t.Errorf("5: got %v", s)
	}
	if s, ok := SerializerByName("pickle"); ok {
		t.Errorf("pickle: got %v", s)
	}
}

// TestSpecVectors are messages captured from Python's Pyro5 5.17 with serpent 1.41 and msgpack 1.0.3, beside those of golden.txt.
func TestSpecVectors(t *testing.T) {
	t.Parallel()
	header := "# serpent utf-8 python3.2\n"
	call := Request{"obj1", "meth", []any{int64(1), "x"}, map[string]any{"k": 2.5}}
	attr := Request{"obj1", "__getattr__", []any{"a"}, nil}
	requests := []struct {
		format, data string
		want         Request
		free         bool // it may be written otherwise
	}{
		{"serpent", header + "('obj1','meth',(1,'x'),{'k':2.5})", call, false},
		{"serpent", header + "('obj1','__getattr__',('a',),None)", attr, false},
		{"json", `{"object": "obj1", "method": "meth", "params": [1, "x"], "kwargs": {"k": 2.5}}`, call, false},
		{"json", `{"kwargs":null,"params":["a"],"method":"__getattr__","object":"obj1"}`, attr, true},
		{"msgpack", "\x94\xa4obj1\xa4meth\x92\x01\xa1x\x81\xa1k\xcb\x40\x04\x00\x00\x00\x00\x00\x00", call, false},
		{"msgpack", "\x94\xa1o\xa1m\x90\x80", Request{"o", "m", []any{}, map[string]any{}}, false},
		{"marshal", "\x29\x04\xda\x04obj1\xda\x04meth\xdb\x02\x00\x00\x00\xe9\x01\x00\x00\x00\xda\x01x\xfb\xda\x01k\xe7\x00\x00\x00\x00\x00\x00\x04\x40\x30", call, true},
		{"marshal", "(\x04\x00\x00\x00z\x04obj1z\x0b__getattr__[\x01\x00\x00\x00z\x01aN", attr, false},
	}
	for _, tt := range requests {
		s, _ := SerializerByName(tt.format)
		got, err := s.ParseRequest([]byte(tt.data))
		if g, w := showRequest(got), showRequest(tt.want); err != nil || g != w {
			t.Errorf("%s %q: got %s, %v, want %s", tt.format, tt.data, g, err, w)
		}
		if data, err := s.AppendRequest(nil, tt.want); !tt.free && (err != nil || string(data) != tt.data) {
			t.Errorf("%s %s: got %q, %v, want %q", tt.format, showRequest(tt.want), data, err, tt.data)
		}
	}
	values := []struct {
		format, data string
		want         any
		free         bool
	}{
		{"marshal", "\xfa\x0cinvalid data", "invalid data", true},
		{"marshal", "\xfb\xda\x09handshake\xda\x05hello\xda\x06object\xda\x04obj10", map[string]any{"handshake": "hello", "object": "obj1"}, true},
		{"marshal", "\xa9\x03\xda\x08blobname\xda\x04obj1\xda\x04meth", Tuple{"blobname", "obj1", "meth"}, true},
		{"marshal", "\xec\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04", mustInt("1180591620717411303424"), true},
		{"marshal", "[\x02\x00\x00\x00\xda\x01a<\x01\x00\x00\x00r\x00\x00\x00\x00", []any{"a", Set{"a"}}, true},
		{"marshal", "\xdb\x02\x00\x00\x00\xda\x01ar\x01\x00\x00\x00", []any{"a", "a"}, true}, // the list is 0
		{"marshal", "I\xff\xff\xff\xff\xff\xff\xff\x7f", int64(math.MaxInt64), true},
		{"marshal", "f\x031.5", 1.5, true},
		{"marshal", "x\x011\x012", 1 + 2i, true},
		{"marshal", "a\x01\x00\x00\x00a", "a", true},
		{"marshal", "A\x01\x00\x00\x00a", "a", true},
		{"marshal", "t\x02\x00\x00\x00\xc3\xa9", "é", true},
		{"marshal", "Z\x01a", "a", true},
		{"marshal", "l\x00\x00\x00\x00", int64(0), true},
		{"marshal", "l\xff\xff\xff\xff\x05\x00", int64(-5), true},
		{"marshal", "l\x03\x00\x00\x00\x00\x00\x00\x00\x02\x00", int64(1 << 31), false},
		{"marshal", "u\x02\x00\x00\x00\xc3\xa9", "é", false},
		{"marshal", "y\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\x00\x40", 1 + 2i, false},
		{"marshal", "{z\x01ai\xff\xff\xff\xff0", map[string]any{"a": int64(-1)}, false},
		{"marshal", ">\x01\x00\x00\x00T", FrozenSet{true}, false},
		{"marshal", "(\x02\x00\x00\x00.s\x01\x00\x00\x00\xff", Tuple{Ellipsis{}, []byte{255}}, false},
		{"msgpack", "\xd8\x30\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\x00\x40", 1 + 2i, false},
		{"msgpack", "\xc7\x16\x311180591620717411303424", mustInt("1180591620717411303424"), false},
		{"msgpack", "\xc7\x14\x3118446744073709551616", mustInt("18446744073709551616"), false},
		{"msgpack", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", mustInt("18446744073709551615"), false},
		{"msgpack", "\xd7\x32\x1c\x0b\x40\x49\xdf\x64\xd9\x41", time.Date(2024, 1, 2, 3, 4, 5, 678000, time.UTC), false},
		{"msgpack", "\xd7\x33\x47\x46\x0b\x00\x00\x00\x00\x00", Date{2024, 1, 2}, false},
		{"msgpack", "\xd6\x33\x47\x46\x0b\x00", Date{2024, 1, 2}, true}, // from Windows
		{"msgpack", "\xca\x3f\xc0\x00\x00", 1.5, true},
		{"msgpack", "\xd2\xff\xff\xff\xff", int64(-1), true},
		{"msgpack", "\xc5\x00\x01a", []byte("a"), true},
		{"msgpack", "\xde\x00\x01\xda\x00\x01a\xdc\x00\x01\xc2", map[string]any{"a": []any{false}}, true},
		{"msgpack", "\x81\x01\xa1a", Dict{{int64(1), "a"}}, false},
		{"json", ` {"a" : [ ] , "b":{ }, "a":[1.0,1]} `, map[string]any{"a": []any{1.0, int64(1)}, "b": map[string]any{}}, true},
		{"json", `[-0, -0.0, 1e5, 1E-2, 1e400, -1e400, 18446744073709551616]`,
			[]any{int64(0), math.Copysign(0, -1), 1e5, 0.01, math.Inf(1), math.Inf(-1), mustInt("18446744073709551616")}, true},
		{"json", `"\"\\\/\b\f\n\r\t\u20ac\ud83d\ude00\u0000"`, "\"\\/\b\f\n\r\t€😀\x00", true},
		{"json", `"\"\\/\b\f\n\r\t\u000b\u0000é"`, "\"\\/\b\f\n\r\t\v\x00é", false},
		{"json", `[NaN, Infinity, -Infinity, 1e+16, 1e-05]`, []any{math.NaN(), math.Inf(1), math.Inf(-1), 1e16, 1e-5}, false},
		{"serpent", header + "'\\x00\\x7f\\xa0\\u2028\\U000e0001'", "\x00\x7f\u00a0\u2028\U000e0001", false},
		{"serpent", header + "{b'\\xff\\x27':1}", Dict{{[]byte{255, '\''}, int64(1)}}, false},
		{"json", `{"__class__": "ValueError", "__exception__": true, "args": ["a"]}`, ValueError.New("a"), true},
		{"json", `{"__class__": "exceptions.ValueError", "__exception__": true}`, &RemoteError{Class: ValueError}, true},
		{"json", `{"__class__": "NamingError", "__exception__": true, "args": []}`, &RemoteError{Class: NamingError}, true},
		{"json", `{"__class__": "Pyro5.errors.NamingError", "args": ["x"]}`, NamingError.New("x"), true},
		{"json", `{"__class__": "a.B", "__exception__": true, "attributes": {"_pyroTraceback": null, "x": 1}}`,
			&RemoteError{Class: "a.B", Attributes: map[string]any{"x": int64(1)}}, true},
		{"json", `{"__class__": "a.B", "__exception__": true, "args": [], "attributes": {"_pyroTraceback": "text"}}`,
			&RemoteError{Class: "a.B", Attributes: map[string]any{"_pyroTraceback": "text"}}, false},
		{"json", `{"__class__": "a.B", "__exception__": false, "x": 1}`,
			ClassDict{"a.B", map[string]any{"__exception__": false, "x": int64(1)}}, false},
		{"json", `{"__class__": "Pyro5.core.URI", "state": ["PYROMETA", "b,a", null, null, null]}`, URI{Protocol: "PYROMETA", Object: "a,b"}, true},
		{"json", `{"__class__": "Pyro5.client.Proxy", "state": ["PYRO:o@h:1", ["w"], ["m", "w"], [], 0.0, "hello", 0]}`, // from Pyrolite
			ProxyState{URI: URI{Protocol: "PYRO", Object: "o", Host: "h", Port: 1}, Oneway: []string{"w"}, Methods: []string{"m", "w"}, Handshake: "hello"}, true},
		{"json", `{"__class__": "float", "value": "nan"}`, ClassDict{"float", map[string]any{"value": "nan"}}, false},
		{"msgpack", "\x81\xa9__class__\xc4\x03a.B", ClassDict{"a.B", map[string]any{}}, true},
	}
	for _, tt := range values {
		s, _ := SerializerByName(tt.format)
		got, err := s.ParseValue([]byte(tt.data))
		if g, w := show(got), show(tt.want); err != nil || g != w {
			t.Errorf("%s %q: got %s, %v, want %s", tt.format, tt.data, g, err, w)
		}
		if data, err := s.AppendValue(nil, tt.want); !tt.free && (err != nil || string(data) != tt.data) {
			t.Errorf("%s %s: got %q, %v, want %q", tt.format, show(tt.want), data, err, tt.data)
		}
	}
}

// TestGoValues writes Go types that no message is read into.
func TestGoValues(t *testing.T) {
	t.Parallel()
	type kind string
	five, uri := 5, URI{Protocol: "PYRO", Object: "o", Host: "h", Port: 1}
	var noPointer *int
	var noError *RemoteError
	var noProxy *Proxy
	deep := &five
	tests := []struct {
		name  string
		value any
		want  any
	}{
		{"int8", int8(-5), int64(-5)}, {"uint64", uint64(math.MaxUint64), mustInt("18446744073709551615")}, {"uint8", uint8(5), int64(5)},
		{"float32", float32(0.5), 0.5}, {"string kind", kind("x"), "x"}, {"bool", true, true},
		{"big.Int", *big.NewInt(5), int64(5)}, {"big.Int pointer", big.NewInt(5), int64(5)},
		{"pointer", &five, int64(5)}, {"pointers", &deep, int64(5)}, {"nil pointer", noPointer, nil}, {"nil error", noError, nil},
		{"nil big.Int", (*big.Int)(nil), nil}, {"nil proxy", noProxy, nil},
		{"nil bytes", []byte(nil), nil}, {"nil map", map[string]any(nil), nil}, {"nil other map", map[int]int(nil), nil},
		{"nil slice", []string(nil), []any{}}, {"nil list", []any(nil), []any{}},
		{"slice", []string{"a"}, []any{"a"}}, {"array", [2]int{1, 2}, []any{int64(1), int64(2)}}, {"nested", [][]int{{1}}, []any{[]any{int64(1)}}},
		{"map", map[kind]int{"b": 1, "a": 2}, map[string]any{"a": int64(2), "b": int64(1)}}, {"kwargs", Kwargs{"a": 1}, map[string]any{"a": int64(1)}},
		{"struct", testPoint{1, 2, "p", 3}, map[string]any{"x": int64(1), "y": int64(2), "name": "p"}},
		{"struct pointer", &testPoint{X: 1}, map[string]any{"x": int64(1), "y": int64(0), "name": ""}},
		{"struct without fields", struct{}{}, map[string]any{}},
		{"uri pointer", &uri, uri}, {"proxy", &Proxy{uri: uri}, ProxyState{URI: uri}},
		{"error", errors.New("x"), RuntimeError.New("x")}, {"error type", testError{5}, RuntimeError.New("code")},
		{"wrapped exception", fmt.Errorf("y: %w", NamingError.New("x")), NamingError.New("x")},
		{"class", NamingError, &RemoteError{Class: NamingError}}, {"wrapped class", fmt.Errorf("x: %w", NamingError), NamingError.New("x: Pyro5.errors.NamingError")},
		{"deadline", fmt.Errorf("x: %w", context.DeadlineExceeded), ExceptionClass("builtins.TimeoutError").New("x: context deadline exceeded")},
	}
	for _, tt := range tests {
		for _, s := range serializers {
			data, err := s.AppendValue(nil, []any{tt.value})
			if err != nil {
				t.Errorf("%s %s: %v", s.Name(), tt.name, err)
				continue
			}
			got, err := s.ParseValue(data)
			if g, w := show(got), show([]any{asRead(s.Name(), tt.want)}); err != nil || g != w {
				t.Errorf("%s %s: %q: got %s, %v, want %s", s.Name(), tt.name, data, g, err, w)
			}
		}
	}
	array := [3]byte{1, 2, 3}
	for _, v := range []any{array, array[:], &array} {
		if data, err := (msgpackSerializer{}).AppendValue(nil, v); err != nil || string(data) != "\xc4\x03\x01\x02\x03" {
			t.Errorf("%T: got %q, %v", v, data, err)
		}
	}
}

func TestMapOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		value any
		want  string
	}{
		{map[string]int{"b": 1, "a": 2, "c": 3}, "{'a':2,'b':1,'c':3}"},
		{map[int]string{10: "", -1: "", 9: ""}, "{-1:'',9:'',10:''}"},
		{map[uint8]string{10: "", 9: ""}, "{9:'',10:''}"},
		{map[float64]string{2: "", 1.5: ""}, "{1.5:'',2.0:''}"},
		{map[any]int{"b": 1, "a": 2}, "{'a':2,'b':1}"},
		{Dict{{"b", 1}, {"a", 2}}, "{'b':1,'a':2}"},
		{testPoint{}, "{'x':0,'y':0,'name':''}"},
	}
	for _, tt := range tests {
		data, err := serpentSerializer{}.AppendValue(nil, tt.value)
		if got := strings.TrimPrefix(string(data), serpentHeader); err != nil || got != tt.want {
			t.Errorf("%#v: got %s, %v, want %s", tt.value, got, err, tt.want)
		}
	}
}

func TestCannotWrite(t *testing.T) {
	t.Parallel()
	type node struct{ Next *node }
	loop := &node{}
	loop.Next = loop
	list := []any{nil, nil}
	list[0], list[1] = list, list
	dict := map[string]any{}
	dict["self"] = dict
	tuple := Tuple{nil}
	tuple[0] = tuple
	var pointer any
	pointer = &pointer
	const all = "serpent marshal json msgpack"
	tests := []struct {
		name    string
		value   any
		formats string
		want    string
	}{
		{"struct in itself", loop, all, "deeper"}, {"list in itself", list, all, "deeper"}, {"dict in itself", dict, all, "deeper"},
		{"tuple in itself", tuple, all, "deeper"}, {"pointer to itself", pointer, all, "deeper"}, {"set of deep", Set{tuple}, all, "deeper"},
		{"201 lists", nestedList(201), all, "deeper"},
		{"func", func() {}, all, "func() has no counterpart"}, {"channel", make(chan int), all, "chan int has no counterpart"},
		{"hidden fields", struct{ x int }{}, all, "no exported fields"},
		{"not UTF-8", "\xff", all, "UTF-8"}, {"key not UTF-8", map[string]any{"\xff": 1}, all, "UTF-8"}, {"cut character", "\xe2\x82", all, "UTF-8"},
		{"surrogate", "\xed\xa0\x80", "json msgpack", "UTF-8"},
		{"complex", 1i, "json", "json has no type for complex"}, {"bytes", []byte{}, "json", "json has no type for bytes"},
		{"date", Date{2024, 1, 2}, "marshal", "marshal has no type for date"}, {"time", time.Time{}, "marshal", "marshal has no type for datetime"},
		{"ellipsis", Ellipsis{}, "json msgpack", "has no type for ellipsis"},
		{"no date", Date{2024, 2, 30}, "serpent json msgpack", "no such date"}, {"year 10000", Date{10000, 1, 1}, "serpent json msgpack", "no such date"},
		{"time in year 0", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "serpent json msgpack", "years 1 to 9999"},
		{"integer of 4301 digits", new(big.Int).Exp(big.NewInt(10), big.NewInt(4300), nil), "serpent json msgpack", "digits"},
		{"integer of 10^6 bits", new(big.Int).Lsh(big.NewInt(1), 1e6), "serpent json msgpack", "digits"},
		{"list as key", Dict{{[]any{}, 1}}, all, "unhashable type: list"}, {"array as key", map[[1]int]int{{1}: 1}, all, "unhashable type: list"},
		{"struct as key", map[testPoint]int{{}: 1}, all, "unhashable type: dict"}, {"uri as key", map[URI]int{{}: 1}, all, "unhashable type"},
		{"list in a set", Set{[]int{1}}, "serpent marshal", "unhashable type: list"}, {"list in a tuple as key", Dict{{Tuple{[]int{}}, 1}}, all, ""},
		{"tuple as key", Dict{{Tuple{}, 1}}, "json msgpack", "cannot express tuple"}, {"bytes as key", Dict{{[]byte{}, 1}}, "json", "cannot express bytes"},
		{"frozenset as key", Dict{{FrozenSet{}, 1}}, "serpent json msgpack", "cannot express frozenset"},
	}
	for _, tt := range tests {
		for name := range strings.FieldsSeq(tt.formats) {
			s, _ := SerializerByName(name)
			got, err := s.AppendValue([]byte("before"), tt.value)
			if err == nil || !strings.Contains(err.Error(), tt.want) || string(got) != "before" {
				t.Errorf("%s %s: got %.100q, %v, want %q", name, tt.name, got, err, tt.want)
			}
			if _, err := s.AppendRequest(nil, Request{Args: []any{tt.value}}); err == nil {
				t.Errorf("%s %s: no error as an argument", name, tt.name)
			}
			if _, err := s.AppendRequest(nil, Request{Kwargs: map[string]any{"k": tt.value}}); err == nil {
				t.Errorf("%s %s: no error as a keyword argument", name, tt.name)
			}
		}
	}
}

func TestNoRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		value any
		want  string
	}{
		{"int", int64(1), "no sequence"}, {"too short", Tuple{"o", "m", Tuple{}}, "no sequence"},
		{"object", Tuple{int64(1), "m", Tuple{}, nil}, "object id is int"}, {"method", Tuple{"o", nil, Tuple{}, nil}, "method is None"},
		{"arguments", Tuple{"o", "m", "x", nil}, "arguments are str"}, {"dict of arguments", Tuple{"o", "m", map[string]any{}, nil}, "arguments are dict"},
		{"keywords", Tuple{"o", "m", Tuple{}, Tuple{}}, "keyword arguments are"},
		{"keyword that is no text", Tuple{"o", "m", Tuple{}, Dict{{int64(1), int64(1)}}}, "keyword arguments are dict"},
		{"class as keywords", Tuple{"o", "m", Tuple{}, ClassDict{"a.B", nil}}, "keyword arguments are a.B"},
	}
	for _, tt := range tests {
		for _, s := range serializers {
			if s.Name() == "json" {
				continue
			}
			data, err := s.AppendValue(nil, tt.value)
			if err != nil {
				t.Fatal(err)
			}
			if r, err := s.ParseRequest(data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s %s: %q: got %s, %v, want %q", s.Name(), tt.name, data, showRequest(r), err, tt.want)
			}
		}
	}
	for data, want := range map[string]string{
		`1`: "no sequence", `{}`: "object id is None", `{"object": "o", "method": 1}`: "method is int", `{"object": "o", "method": "m"}`: "arguments are None",
		`{"object": "o", "method": "m", "params": [], "kwargs": []}`: "keyword arguments are list",
	} {
		if r, err := (jsonSerializer{}).ParseRequest([]byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %s, %v, want %q", data, showRequest(r), err, want)
		}
	}
}

// TestCutMessages cuts every golden vector at every place: that is an error, or, where a number was cut, another value.
func TestCutMessages(t *testing.T) {
	t.Parallel()
	for _, g := range goldenVectors(t) {
		for n := range min(len(g.data), 400) {
			v, err := g.serializer.ParseValue(g.data[:n])
			if binary := g.serializer.ID()%2 == 0; err == nil && binary {
				t.Errorf("%s %s: %q: got %s, want an error", g.serializer.Name(), g.name, g.data[:n], show(v))
			}
		}
	}
}

// TestStringsAreCopies changes a message after it was read.
func TestStringsAreCopies(t *testing.T) {
	t.Parallel()
	value := map[string]any{"key": []any{"text", []byte("bytes"), &RemoteError{Class: "a.B", Args: []any{"x"}}}}
	for _, s := range serializers {
		if s.Name() == "json" {
			value["key"] = []any{"text", "é", &RemoteError{Class: "a.B", Args: []any{"x"}}}
		}
		data, err := s.AppendValue(nil, value)
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.ParseValue(data)
		if err != nil {
			t.Fatal(err)
		}
		want := show(v)
		for i := range data {
			data[i] = 'x'
		}
		if got := show(v); got != want {
			t.Errorf("%s: got %s, want %s", s.Name(), got, want)
		}
	}
}

func TestAllocations(t *testing.T) {
	r := Request{"obj1", "meth", []any{1, 2.5, "x", true, []byte("bytes")}, nil}
	plain := Request{"obj1", "meth", []any{1, 2.5, "x", true}, map[string]any{"k": "v"}}
	buf := make([]byte, 0, 1024)
	for _, s := range serializers {
		req := r
		if s.Name() == "json" {
			req = plain
		}
		for _, req := range []Request{req, plain} {
			if n := testing.AllocsPerRun(100, func() {
				if _, err := s.AppendRequest(buf, req); err != nil {
					t.Error(err)
				}
			}); n > poolLoss {
				t.Errorf("%s: AppendRequest allocates %v times, want %d", s.Name(), n, poolLoss)
			}
		}
	}
	// Requests on a connection mostly name the same object and method.
	data, err := msgpackSerializer{}.AppendRequest(nil, Request{"obj1", "meth", []any{}, nil})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if r, err := (msgpackSerializer{}).ParseRequest(data); err != nil || r.Object != "obj1" || r.Method != "meth" {
			t.Error(r, err)
		}
	}); n > poolLoss {
		t.Errorf("msgpack: ParseRequest allocates %v times, want %d", n, poolLoss)
	}
}
