package core

import (
	"context"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
)

// everything is one value of each kind that an Encoder writes.
type everything struct {
	Int    int
	Int64  int64
	Uint64 uint64
	Float  float64
	Bool   bool
	Text   string
	Bytes  []byte
	Value  map[string]any
}

func (e *everything) encode(to *Encoder) {
	to.Int(e.Int)
	to.Int64(e.Int64)
	to.Uint64(e.Uint64)
	to.Float64(e.Float)
	to.Bool(e.Bool)
	to.String(e.Text)
	to.Bytes(e.Bytes)
	to.Value(e.Value)
}

func (e *everything) decode(from *Decoder) {
	*e = everything{from.Int(), from.Int64(), from.Uint64(), from.Float64(), from.Bool(), from.String(), from.Bytes(), nil}
	from.Value(&e.Value)
}

func (e *everything) list() Tuple {
	return Tuple{e.Int, e.Int64, e.Uint64, e.Float, e.Bool, e.Text, e.Bytes, e.Value}
}

var everyKind = []everything{
	{Bytes: []byte{}, Value: map[string]any{}},
	{1, -1, 1 << 40, 1.5, true, "text", []byte("bytes"), map[string]any{"a": int64(1)}},
	{math.MaxInt, math.MinInt64, math.MaxUint64, math.Inf(-1), false, strings.Repeat("x", 40), make([]byte, 300), map[string]any{}},
	{-33, -129, 1 << 63, 0, true, strings.Repeat("y", 300), make([]byte, 70_000), map[string]any{"n": nil}},
	{-32769, math.MinInt32 - 1, 255, -0.5, true, strings.Repeat("\u00fc", 70_000), nil, nil},
}

// typedServant has methods that do without boxing.
func typedServant() *Servant {
	ab := []Param{{Name: "a"}, {Name: "b", Optional: true, Default: 10}}
	one := []Param{{Name: "value"}}
	return &Servant{Class: "Typed", Methods: []Method{
		{Name: "add", Params: ab, Direct: func(_ context.Context, args *Decoder, result *Encoder) error {
			a, b := args.Int(), args.Int()
			if err := args.Err(); err != nil {
				return err
			}
			if a+b == 13 {
				return ValueError.New("no thirteen")
			}
			if a+b == 14 {
				panic("fourteen")
			}
			result.Int(a + b)
			return nil
		}},
		{Name: "sum", Variadic: true, Direct: func(_ context.Context, args *Decoder, result *Encoder) error {
			sum := 0
			for args.More() {
				sum += args.Int()
			}
			result.Int(sum)
			return args.Err()
		}},
		{Name: "everything", Params: make([]Param, 8), Direct: func(_ context.Context, args *Decoder, result *Encoder) error {
			var e everything
			e.decode(args)
			result.Value(e.list())
			return args.Err()
		}},
		{Name: "text", Params: one, Direct: func(_ context.Context, args *Decoder, result *Encoder) error {
			result.String(args.String())
			return args.Err()
		}},
		{Name: "nothing", Direct: func(context.Context, *Decoder, *Encoder) error { return nil }},
		{Name: "twice", Direct: func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.Int(1)
			result.Int(2)
			return nil
		}},
		{Name: "broken", Direct: func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.String("\xff")
			return nil
		}},
		{Name: "fire", Oneway: true, Direct: func(context.Context, *Decoder, *Encoder) error { return nil }},
	}}
}

func serveTyped(t testing.TB, opts ProxyOptions) *Proxy {
	t.Helper()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("typed", typedServant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, opts)
	t.Cleanup(func() { p.Close() })
	return p
}

// serializerNames are those that everyone has.
var serializerNames = []string{"msgpack", "serpent", "marshal", "json"}

func TestInvoke(t *testing.T) {
	t.Parallel()
	for _, name := range serializerNames {
		p := serveTyped(t, ProxyOptions{Serializer: name})
		t.Run(name, func(t *testing.T) {
			call := NewInvocation("add")
			defer call.Free()
			call.Args.Int(30)
			call.Args.Int(12)
			if err := p.Invoke(t.Context(), call); err != nil {
				t.Fatal(err)
			}
			if sum := call.Result.Int(); sum != 42 || call.Result.Err() != nil {
				t.Errorf("got %d, %v, want 42", sum, call.Result.Err())
			}
			var sum int
			if err := p.Call(t.Context(), "add", &sum, 1, Kwargs{"b": 2}); err != nil || sum != 3 {
				t.Errorf("with a keyword: got %d, %v, want 3", sum, err)
			}
			if err := p.Call(t.Context(), "sum", &sum, 1, 2, 3, 4); err != nil || sum != 10 {
				t.Errorf("variadic: got %d, %v, want 10", sum, err)
			}
		})
	}
}

func TestInvokeEveryKind(t *testing.T) {
	t.Parallel()
	p := serveTyped(t, ProxyOptions{})
	for _, want := range everyKind {
		call := NewInvocation("everything")
		want.encode(&call.Args)
		if err := p.Invoke(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		var list []any
		if call.Result.Value(&list); call.Result.Err() != nil {
			t.Fatal(call.Result.Err())
		}
		back := NewInvocation("everything")
		for _, v := range list {
			back.Args.Value(v)
		}
		back.Args.join()
		d := Decoder{b: back.Args.b, left: back.Args.n}
		var got everything
		got.decode(&d)
		if len(want.Bytes) == 0 && len(got.Bytes) == 0 {
			got.Bytes = want.Bytes // None and no bytes
		}
		if d.Err() != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, d.Err(), want)
		}
		call.Free()
		back.Free()
	}
}

// What an Encoder writes is what the serializer writes.
func TestEncoderAsSerializer(t *testing.T) {
	t.Parallel()
	for _, e := range everyKind[1:] {
		var direct, boxed Encoder
		e.encode(&direct)
		for _, v := range e.list() {
			if u, ok := v.(uint64); ok {
				v = new(big.Int).SetUint64(u)
			}
			boxed.Value(v)
		}
		if direct.Err() != nil || boxed.Err() != nil || string(direct.b) != string(boxed.b) {
			t.Errorf("%.200v: got % .60x, %v, want % .60x, %v", e, direct.b[:60], direct.Err(), boxed.b[:60], boxed.Err())
		}
	}
}

func TestInvokeErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, method string
		args         func(*Encoder)
		read         func(*Decoder)
		want         error
		text         string
	}{
		{"exception", "add", func(e *Encoder) { e.Int(6); e.Int(7) }, nil, ValueError, "no thirteen"},
		{"panic", "add", func(e *Encoder) { e.Int(7); e.Int(7) }, nil, RuntimeError, "panic: fourteen"},
		{"wrong type", "add", func(e *Encoder) { e.Int(1); e.String("x") }, nil, TypeError, "add() argument 'b': "},
		{"too large", "add", func(e *Encoder) { e.Uint64(math.MaxUint64) }, nil, TypeError, "add() argument 'a': "},
		{"too few", "add", func(*Encoder) {}, nil, TypeError, "add() missing 1 required positional argument: 'a'"},
		{"too many", "add", func(e *Encoder) { e.Int(1); e.Int(1); e.Int(1) }, nil, TypeError, "add() takes from 1 to 2 positional arguments but 3 were given"},
		{"two results", "twice", func(*Encoder) {}, nil, RuntimeError, "twice wrote 2 results, want one"},
		{"bad result", "broken", func(*Encoder) {}, nil, TypeError, "result of broken() cannot be sent"},
		{"bad argument", "text", func(e *Encoder) { e.String("\xff") }, nil, errNotUTF8, "text is not UTF-8"},
		{"unknown method", "nope", func(*Encoder) {}, nil, AttributeError, "has no exposed attribute or method 'nope'"},
		{"result of another type", "text", func(e *Encoder) { e.String("x") }, func(d *Decoder) { d.Int() }, nil, "core: text: result: got str"},
		{"two results read", "add", func(e *Encoder) { e.Int(1); e.Int(1) }, func(d *Decoder) { d.Int(); d.Int() }, nil, "there is no such value"},
	}
	p := serveTyped(t, ProxyOptions{})
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			call := NewInvocation(tc.method)
			defer call.Free()
			tc.args(&call.Args)
			err := p.Invoke(t.Context(), call)
			if err == nil && tc.read != nil {
				tc.read(&call.Result)
				err = call.Result.Err()
			}
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want %v: %s", err, tc.want, tc.text)
			}
		})
	}
}

func TestInvokeNoResult(t *testing.T) {
	t.Parallel()
	p := serveTyped(t, ProxyOptions{})
	for _, method := range []string{"nothing", "fire"} {
		call := NewInvocation(method)
		err := p.Invoke(t.Context(), call)
		var v any = "unset"
		call.Result.Value(&v)
		if err != nil || call.Result.Err() != nil || v != nil {
			t.Errorf("%s: got %v, %v, %v, want None", method, v, err, call.Result.Err())
		}
		call.Free()
	}
}

// A batch and Python's other ways to call reach Direct as well.
func TestDirectBoxed(t *testing.T) {
	t.Parallel()
	p := serveTyped(t, ProxyOptions{Serializer: "serpent"})
	var got any
	r := Request{Method: "<batch>", Args: []any{Tuple{"add", Tuple{int64(1)}, map[string]any{}}, Tuple{"everything", everyKind[1].list(), map[string]any{}}}, Kwargs: noKwargs}
	err := p.with(t.Context(), func(c *clientConn) error {
		r.Object = c.object
		return c.invoke(t.Context(), r, flagBatch, &got)
	})
	list, _ := sequence(got)
	if err != nil || len(list) != 2 || list[0] != int64(11) {
		t.Fatalf("got %v, %v, want 11 and everything", got, err)
	}
	if second, ok := list[1].(Tuple); !ok || len(second) != 8 { // not made a list on the way
		t.Errorf("got %T %v, want a tuple of 8", list[1], list[1])
	}
}
