package main

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

func TestArguments(t *testing.T) {
	t.Parallel()
	huge, _ := new(big.Int).SetString("123456789012345678901234567890", 10)
	cases := []struct {
		arg  string
		want any
	}{
		{"Irmen", "Irmen"},
		{"", ""},
		{" ", " "},
		{"5", int64(5)},
		{"-5", int64(-5)},
		{"05", "05"},
		{"5 6", "5 6"},
		{"5.0", 5.0},
		{"1e3", 1000.0},
		{"1e999", "1e999"},
		{"[1e999]", "[1e999]"},
		{"123456789012345678901234567890", huge},
		{"true", true},
		{"True", "True"},
		{"null", nil},
		{`"5"`, "5"},
		{`"5`, `"5`},
		{`[1, "a", [2.5]]`, []any{int64(1), "a", []any{2.5}}},
		{`{"a": {"b": 1}}`, map[string]any{"a": map[string]any{"b": int64(1)}}},
		{"{a}", "{a}"},
		{strings.Repeat("[", 20000), strings.Repeat("[", 20000)},
	}
	for _, c := range cases {
		if got := (&callFlags{}).value(c.arg); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%.40q: got %#v, want %#v", c.arg, got, c.want)
		}
		if got := (&callFlags{allText: true}).value(c.arg); got != c.arg {
			t.Errorf("%.40q as text: got %#v", c.arg, got)
		}
	}
}

func TestPrintResult(t *testing.T) {
	t.Parallel()
	uri := core.URI{Protocol: "PYRO", Object: "x", Host: "h", Port: 1}
	cases := []struct {
		name   string
		value  any
		text   string
		asJSON string // empty if the same
	}{
		{"text", "a <b>\nc", "a <b>\nc", `"a <b>\nc"`},
		{"none", nil, "null", ""},
		{"bool", true, "true", ""},
		{"int", int64(-3), "-3", ""},
		{"big int", new(big.Int).Lsh(big.NewInt(1), 80), "1208925819614629174706176", ""},
		{"float", 2.5, "2.5", ""},
		{"not a number", math.NaN(), `"NaN"`, ""},
		{"infinite", math.Inf(-1), `"-Inf"`, ""},
		{"complex", complex(1, 2), `"(1+2i)"`, ""},
		{"bytes", []byte{0, 255}, `"AP8="`, ""},
		{"tuple", core.Tuple{int64(1), "a"}, "[\n  1,\n  \"a\"\n]", ""},
		{"empty set", core.Set{}, "[]", ""},
		{"list of bytes", []any{[]byte("a")}, "[\n  \"YQ==\"\n]", ""},
		{"dict", core.Dict{{Key: int64(1), Value: core.Tuple{}}}, "{\n  \"1\": []\n}", ""},
		{"map", map[string]any{"a": math.Inf(1)}, "{\n  \"a\": \"+Inf\"\n}", ""},
		{"class", core.ClassDict{Class: "C", Attrs: map[string]any{"x": nil}}, "{\n  \"__class__\": \"C\",\n  \"x\": null\n}", ""},
		{"date", core.Date{Year: 2001, Month: time.May, Day: 3}, `"2001-05-03"`, ""},
		{"time", time.Date(2001, 5, 3, 4, 5, 6, 7000, time.UTC), `"2001-05-03T04:05:06.000007Z"`, ""},
		{"uri", uri, `"PYRO:x@h:1"`, ""},
		{"proxy", core.ProxyState{URI: uri}, `"PYRO:x@h:1"`, ""},
		{"exception", core.ValueError.New("no"), "{\n  \"__class__\": \"builtins.ValueError\",\n  \"args\": [\n    \"no\"\n  ]\n}", ""},
	}
	for _, c := range cases {
		for output, want := range map[string]string{"table": c.text, "json": c.asJSON} {
			if want == "" {
				want = c.text
			}
			var got strings.Builder
			err := (&globals{output: output}).printResult(t.Context(), &got, c.value)
			if err != nil || got.String() != want+"\n" {
				t.Errorf("%s as %s: got %q, %v, want %q", c.name, output, got.String(), err, want+"\n")
			}
		}
	}
}

// fakeStream yields items and then an error, if there is one.
type fakeStream struct {
	items []any
	err   error
}

func (s fakeStream) All(context.Context) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for _, item := range s.items {
			if !yield(item, nil) {
				return
			}
		}
		if s.err != nil {
			yield(nil, s.err)
		}
	}
}

var _ stream = (*core.Stream)(nil)

func TestPrintStream(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for output, want := range map[string]string{"table": "a\n[\n  1\n]\n", "json": "\"a\"\n[\n  1\n]\n"} {
		for _, err := range []error{nil, broken} {
			var out strings.Builder
			got := (&globals{output: output}).printResult(t.Context(), &out, fakeStream{[]any{"a", []any{1}}, err})
			if got != err || out.String() != want {
				t.Errorf("%s: got %q, %v, want %q, %v", output, out.String(), got, want, err)
			}
		}
	}
}

func TestTableCells(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	g := &globals{output: "table"}
	err := g.print(&got, nil, func(w io.Writer) {
		row(w, "NAME", "TAGS")
		row(w, "a\tb\nc\x1b[2J", "")
		row(w, "é", 1)
	})
	want := "NAME       TAGS\na\ufffdb\ufffdc\ufffd[2J  -\né          1\n"
	if err != nil || got.String() != want {
		t.Errorf("got %q, %v, want %q", got.String(), err, want)
	}
}
