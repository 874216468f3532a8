package core

import (
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type convertInner struct {
	Amount int
	Owner  *string
}

type convertBase struct {
	ID int
}

type convertOuter struct {
	*ConvertEmbedded
	convertBase
	MaxSize  int64
	HTTPPath string `pyro:"path"`
	Hidden   int    `pyro:"-"`
	Items    []convertInner
	Labels   map[string]float64
}

// ConvertEmbedded is exported, as embedded pointers have to be.
type ConvertEmbedded struct {
	Depth int
}

func TestConvert(t *testing.T) {
	t.Parallel()
	local := func(y int, m time.Month, d, h, min, s, ns int) time.Time {
		return time.Date(y, m, d, h, min, s, ns, time.Local)
	}
	big70 := new(big.Int).Lsh(big.NewInt(1), 70)
	irmen := "irmen"
	tests := []struct {
		name  string
		value any
		want  any // of the type to convert into
	}{
		{"any", Tuple{int64(1)}, any(Tuple{int64(1)})},
		{"int", int64(-5), -5},
		{"int8", int64(-128), int8(-128)},
		{"uint64 from big", new(big.Int).SetUint64(math.MaxUint64), uint64(math.MaxUint64)},
		{"int from float", 3.0, 3},
		{"uint8 from float", 255.0, uint8(255)},
		{"float from int", int64(3), 3.0},
		{"float32", 0.5, float32(0.5)},
		{"float32 infinity", math.Inf(1), float32(math.Inf(1))},
		{"float from big", big70, math.Ldexp(1, 70)},
		{"complex", complex(1, 2), complex64(complex(1, 2))},
		{"complex from int", int64(2), complex(2, 0)},
		{"big from int", int64(7), *big.NewInt(7)},
		{"big pointer", big70, big70},
		{"string kind", "x", ExceptionClass("x")},
		{"bool", true, true},
		{"None", nil, 0},
		{"None pointer", nil, (*int)(nil)},
		{"pointer", "irmen", &irmen},
		{"bytes", []byte{1, 2}, []byte{1, 2}},
		{"serpent bytes", map[string]any{"data": "AQI=", "encoding": "base64"}, []byte{1, 2}},
		{"byte array", []byte{1, 2}, [2]byte{1, 2}},
		{"list to bytes", []any{int64(1), int64(2)}, []byte{1, 2}},
		{"list", []any{int64(1), 2.0}, []int{1, 2}},
		{"tuple", Tuple{"a"}, []string{"a"}},
		{"set", Set{"a"}, []string{"a"}},
		{"array", FrozenSet{"a", "b"}, [2]string{"a", "b"}},
		{"map", map[string]any{"a": int64(1)}, map[string]int{"a": 1}},
		{"map of dict", Dict{{int64(1), "x"}, {int64(1), "y"}}, map[int]string{1: "y"}},
		{"map of class", ClassDict{"x.Y", map[string]any{"a": int64(1)}}, map[string]int{"a": 1}},
		{"uri", "PYRO:o@h:1", URI{Protocol: "PYRO", Object: "o", Host: "h", Port: 1}},
		{"uri of proxy", ProxyState{URI: URI{Object: "o"}}, URI{Object: "o"}},
		{"iso time", "2024-01-02T03:04:05.000678", local(2024, 1, 2, 3, 4, 5, 678000)},
		{"epoch", 1.5, time.UnixMicro(1500000)},
		{"date to time", Date{2024, 1, 2}, local(2024, 1, 2, 0, 0, 0, 0)},
		{"iso date", "2024-01-02", Date{2024, 1, 2}},
		{"Go value", 5, 5.0},
		{"Go slice", []int{5}, []any{5}},
		{"struct", map[string]any{
			"depth": int64(4), "id": int64(1), "max_size": int64(2), "path": "/", "hidden": int64(3), "unknown": true,
			"items":  Tuple{map[string]any{"amount": 3.0, "owner": "irmen"}},
			"labels": map[string]any{"x": int64(1)},
		}, convertOuter{
			ConvertEmbedded: &ConvertEmbedded{4}, convertBase: convertBase{1}, MaxSize: 2, HTTPPath: "/",
			Items: []convertInner{{3, &irmen}}, Labels: map[string]float64{"x": 1},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := reflect.New(reflect.TypeOf(tt.want))
			if err := Convert(out.Interface(), tt.value); err != nil {
				t.Fatalf("Convert(%T, %#v): %v", tt.want, tt.value, err)
			}
			if got := out.Elem().Interface(); !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("Convert(%T, %#v) = %#v, want %#v", tt.want, tt.value, got, tt.want)
			}
		})
	}
}

func TestConvertErrors(t *testing.T) {
	t.Parallel()
	type payment struct{ Amount int }
	type loop *loop
	tests := []struct {
		name  string
		out   any
		value any
		want  string
	}{
		{"no pointer", 5, int64(1), "non-nil pointer"},
		{"nil pointer", (*int)(nil), int64(1), "non-nil pointer"},
		{"nil", nil, int64(1), "non-nil pointer"},
		{"path", new([]payment), []any{nil, nil, map[string]any{"amount": "x"}}, `core: [2].amount: got str "x", want int`},
		{"map path", new(map[string]int), map[string]any{"a b": true}, `["a b"]: got bool true, want int`},
		{"key", new(map[int]int), map[string]any{"a": int64(1)}, `key "a": got str "a", want int`},
		{"key type", new(map[any]int), Dict{{[]any{}, int64(1)}}, "key"},
		{"fraction", new(int), 1.5, "got float 1.5, want int"},
		{"nan", new(int), math.NaN(), "got float NaN, want int"},
		{"int8", new(int8), int64(128), "got int 128, which does not fit into int8"},
		{"uint", new(uint), int64(-1), "got int -1, which does not fit into uint"},
		{"huge float", new(int64), 1e300, "does not fit into int64"},
		{"float32", new(float32), 1e300, "too large for float32"},
		{"huge int", new(float64), new(big.Int).Lsh(big.NewInt(1), 5000), "too large for float64"},
		{"array length", new([2]int), []any{int64(1)}, "got list of 1, want [2]int"},
		{"bytes as text", new(string), []byte("x"), "got bytes of 1, want string"},
		{"text as bytes", new([]byte), "x", `got str "x", want []uint8`},
		{"base64", new([]byte), map[string]any{"data": "!", "encoding": "base64"}, "got dict, want []uint8"},
		{"no dict", new(payment), int64(1), "got int 1, want core.payment"},
		{"time", new(time.Time), "tomorrow", "want a time"},
		{"time range", new(time.Time), 1e300, "not in the years"},
		{"date", new(Date), "2024-02-30", "want a date"},
		{"uri", new(URI), "x", "invalid uri"},
		{"pointers without end", new(loop), int64(1), "nested deeper"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := Convert(tt.out, tt.value)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Convert(%T, %#v): %v, want %q", tt.out, tt.value, err, tt.want)
			}
		})
	}
}

func TestFieldName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"Amount": "amount", "MaxSize": "max_size", "URLPath": "url_path", "HTTP2": "http2", "ID": "id", "A_B": "a_b"} {
		if got := fieldName(name); got != want {
			t.Errorf("fieldName(%q) = %q, want %q", name, got, want)
		}
	}
}
