package core

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// tupleServant has methods with several results.
func tupleServant() *Servant {
	value := func(v any) func(context.Context, *Decoder, *Encoder) error {
		return func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.Value(v)
			return nil
		}
	}
	return &Servant{Class: "Tuples", Methods: []Method{
		{Name: "pair", Direct: func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.Tuple(2)
			result.Int(7)
			result.String("seven")
			return nil
		}},
		{Name: "empty", Direct: func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.Tuple(0)
			return nil
		}},
		{Name: "many", Direct: func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.Tuple(300)
			for i := range 300 {
				result.Int(i)
			}
			return nil
		}},
		{Name: "short", Direct: func(_ context.Context, _ *Decoder, result *Encoder) error {
			result.Tuple(3)
			result.Int(1)
			return nil
		}},
		{Name: "boxed", Func: func(context.Context, []any) (any, error) { return Tuple{7, "seven"}, nil }},
		{Name: "list", Direct: value([]any{7, "seven"})},
		{Name: "one", Direct: value([]any{7})},
		{Name: "none", Direct: value(nil)},
		{Name: "number", Direct: value(7)},
		{Name: "swapped", Direct: value(Tuple{"seven", 7})},
	}}
}

func TestTuple(t *testing.T) {
	t.Parallel()
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("tuples", tupleServant(), ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ method, err string }{
		{"pair", ""},
		{"boxed", ""},
		{"list", ""},
		{"one", "core: one: result: got 1 values, want 2"},
		{"empty", "core: empty: result: got 0 values, want 2"},
		{"none", "core: none: result: got None, want a tuple of 2 values"},
		{"number", "core: number: result: got int, want a tuple of 2 values"},
		{"many", "core: many: result: got 300 values, want 2"},
		{"short", "short wrote -1 results, want one"},
		{"swapped", `core: swapped: result: got str "seven", want int64`},
	}
	for _, serializer := range serializerNames {
		p := NewProxy(uri, ProxyOptions{Serializer: serializer})
		t.Cleanup(func() { p.Close() })
		for _, tc := range tests {
			t.Run(serializer+"/"+tc.method, func(t *testing.T) {
				call := NewInvocation(tc.method)
				defer call.Free()
				err := p.Invoke(t.Context(), call)
				if err == nil {
					call.Result.Tuple(2)
					n, text := call.Result.Int(), call.Result.String()
					if err = call.Result.Err(); err == nil && (n != 7 || text != "seven" || call.Result.More()) {
						t.Errorf("got %d, %q, more %t, want 7, seven and no more", n, text, call.Result.More())
					}
				}
				if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
					t.Errorf("got error %v, want %q", err, tc.err)
				}
			})
		}
		call := NewInvocation("pair")
		defer call.Free()
		if err := p.Invoke(t.Context(), call); err != nil {
			t.Fatal(err)
		}
		call.Result.Tuple(2)
		var n, text any
		call.Result.Value(&n)
		call.Result.Value(&text)
		if n != int64(7) || text != "seven" || call.Result.Err() != nil {
			t.Errorf("%s: got %v, %v, %v, want 7 and seven", serializer, n, text, call.Result.Err())
		}
		var many []int
		if err := p.Call(t.Context(), "many", &many); err != nil || len(many) != 300 || many[299] != 299 {
			t.Errorf("%s: many: got %v, %v, want 0 to 299", serializer, many, err)
		}
	}
}

// A Decoder that has failed stays so.
func TestTupleAfterError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	d := Decoder{b: []byte{0x92, 1, 2}, left: 1, err: broken}
	if d.Tuple(2); d.Err() != broken || d.Int() != 0 {
		t.Errorf("got %v, want %v", d.Err(), broken)
	}
}

func TestScanMsgpackArray(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		data        []byte
		count, size int
	}{
		{"nothing", nil, 0, 0},
		{"short", []byte{0x92, 1, 2}, 2, 1},
		{"two bytes", []byte{0xdc, 1, 2}, 258, 3},
		{"four bytes", []byte{0xdd, 0, 1, 0, 0}, 65536, 5},
		{"cut off", []byte{0xdc, 1}, 0, 0},
		{"more than an int can be", []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, 1<<31 - 1, 5},
		{"a map", []byte{0x82}, 0, 0},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if count, size := scanMsgpackArray(tc.data); count != tc.count || size != tc.size {
				t.Errorf("% x: got %d, %d, want %d, %d", tc.data, count, size, tc.count, tc.size)
			}
		})
	}
}
