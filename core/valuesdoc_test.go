package core_test

import (
	"errors"
	"math"
	"math/big"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/pyvalues"
)

// docTable returns the rows of the table in docs/values.md whose first line begins with head, without the heading.
func docTable(t *testing.T, head string) (columns []string, rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("../docs/values.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n"+head)
	table, _, ended := strings.Cut(head+table, "\n\n")
	if !found || !ended {
		t.Fatalf("docs/values.md has no table %q", head)
	}
	for i, line := range strings.Split(table, "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch i {
		case 0:
			columns = cells
		case 1: // the line below
		default:
			rows = append(rows, cells)
		}
	}
	return columns, rows
}

type docPlace struct{ City string }

func init() { core.RegisterClass[docPlace]("docs.Place") }

func digits(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n-1)), nil)
}

// docValues are examples of the first column of the first table.
func docValues() map[string][]any {
	uri := core.URI{Protocol: "PYRO", Object: "o", Host: "h", Port: 1}
	return map[string][]any{
		"None, bool, str":                {nil, true, false, "", "text é😀\x00"},
		"int":                            {int64(0), int64(math.MinInt64), int64(math.MaxInt64), digits(30)},
		"float, with nan and inf":        {0.5, 3.0, 1e300, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1)},
		"complex":                        {1 + 2i, complex(math.Inf(-1), -0.5)},
		"bytes, bytearray, memoryview":   {[]byte{}, []byte("x\x00\xff")},
		"list":                           {[]any{}, []any{int64(1), []any{"x"}}},
		"tuple":                          {core.Tuple{}, core.Tuple{int64(1)}, core.Tuple{int64(1), "x"}},
		"set":                            {core.Set{int64(1), "x"}},
		"frozenset":                      {core.FrozenSet{int64(1), "x"}},
		"dict":                           {map[string]any{}, map[string]any{"a": int64(1)}},
		"`...`":                          {core.Ellipsis{}},
		"datetime":                       {time.Date(2024, 1, 2, 3, 4, 5, 678000, time.UTC)},
		"date":                           {core.Date{Year: 2024, Month: 1, Day: 2}},
		"URI":                            {uri},
		"Proxy":                          {core.ProxyState{URI: uri, Methods: []string{"m"}, Handshake: "hello"}},
		"exception":                      {core.ValueError.New("x"), &core.RemoteError{Class: "a.B", Args: []any{}, Attributes: map[string]any{"x": int64(1)}}},
		"instance of a registered class": {docPlace{"Utrecht"}},
		"instance of another class":      {core.ClassDict{Class: "a.B", Attrs: map[string]any{"x": int64(1)}}},
	}
}

// docCells says what the words in the table mean: f gets what became of a value.
var docCells = map[string]func(in, out any, err error) bool{
	"yes":   func(in, out any, err error) bool { return err == nil && same(in, out) },
	"error": func(_, _ any, err error) bool { return err != nil },
	"ISO text": func(_, out any, err error) bool {
		text, ok := out.(string)
		return ok && strings.HasPrefix(text, "2024-01-02")
	},
	"list": func(in, out any, err error) bool {
		items, ok := out.([]any)
		return ok && len(items) == reflect.ValueOf(in).Len()
	},
	"as set": func(in, out any, err error) bool { return same(core.Set(in.(core.FrozenSet)), out) },
	"dict `{'data': base64, 'encoding': 'base64'}`": func(in, out any, err error) bool {
		var back []byte
		dict, ok := out.(map[string]any)
		return ok && dict["encoding"] == "base64" && core.Convert(&back, out) == nil && string(back) == string(in.([]byte))
	},
}

func same(a, b any) bool {
	if p, ok := a.(docPlace); ok {
		return b == any(p)
	}
	return pyvalues.Text(a) == pyvalues.Text(b)
}

// docSpecial are the cells that speak of more than one value.
var docSpecial = map[string]func(s core.Serializer) error{
	"yes; empty: empty tuple": func(s core.Serializer) error { return becomes(s, core.Set{}, core.Tuple{}) },
	"to 4300 digits": func(s core.Serializer) error {
		if _, err := s.AppendValue(nil, digits(4301)); err == nil {
			return errors.New("no error for 4301 digits")
		}
		return becomes(s, digits(4300), digits(4300))
	},
	"any":             func(s core.Serializer) error { return becomes(s, digits(10000), digits(10000)) },
	"keys become str": func(s core.Serializer) error { return becomes(s, map[int]int{1: 2}, map[string]any{"1": int64(2)}) },
	"see below": func(s core.Serializer) error {
		if _, err := s.AppendValue(nil, core.Dict{{Key: core.Tuple{}, Value: 1}}); err == nil {
			return errors.New("no error for a tuple as the key")
		}
		return becomes(s, map[int]int{1: 2}, core.Dict{{Key: int64(1), Value: int64(2)}})
	},
}

func becomes(s core.Serializer, in, want any) error {
	out, err := passed(s, in)
	if err != nil {
		return err
	}
	if !same(out, want) {
		return errors.New("got " + pyvalues.Text(out) + ", want " + pyvalues.Text(want))
	}
	return nil
}

// passed is what becomes of a value in a message.
func passed(s core.Serializer, v any) (any, error) {
	data, err := s.AppendValue(nil, v)
	if err != nil {
		return nil, err
	}
	return s.ParseValue(data)
}

// TestValuesTable holds the table of docs/values.md against what the serializers do.
//
// spec: Z8
func TestValuesTable(t *testing.T) {
	t.Parallel()
	columns, rows := docTable(t, "| Python | Go, read |")
	values := docValues()
	if len(rows) != len(values) {
		t.Errorf("%d rows, want %d", len(rows), len(values))
	}
	for _, row := range rows {
		examples, ok := values[row[0]]
		if !ok || len(row) != len(columns) {
			t.Errorf("row %q: no example", row)
			continue
		}
		for i, cell := range row[2:] {
			s, ok := core.SerializerByName(columns[i+2])
			if !ok {
				t.Fatalf("no serializer %q", columns[i+2])
			}
			if special := docSpecial[cell]; special != nil {
				if err := special(s); err != nil {
					t.Errorf("%s, %s is %q: %v", row[0], s.Name(), cell, err)
				}
				cell = "yes"
			}
			check := docCells[cell]
			if check == nil {
				t.Errorf("%s, %s: %q has no meaning", row[0], s.Name(), cell)
				continue
			}
			for _, in := range examples {
				if out, err := passed(s, in); !check(in, out, err) {
					t.Errorf("%s, %s is %q: %s became %s, %v", row[0], s.Name(), cell, pyvalues.Text(in), pyvalues.Text(out), err)
				}
			}
		}
	}
}

type docWhere interface{ Where() string }

func (p *docPlace) Where() string { return p.City }

type docBase struct{ ID int }

// TestConversionsTable has an example for each row of the second table of docs/values.md.
func TestConversionsTable(t *testing.T) {
	t.Parallel()
	uri := core.URI{Protocol: "PYRO", Object: "o", Host: "h", Port: 1}
	when := time.Unix(1.5e9, 0)
	type name string
	type pair struct {
		docBase
		A int
	}
	examples := map[string][][2]any{ // what comes, and what it becomes in a variable of its type
		"anything": {{core.Tuple{int64(1)}, core.Tuple{int64(1)}}},
		"None":     {{nil, 0}, {nil, ""}, {nil, (*int)(nil)}, {nil, []int(nil)}},
		"int": {{int64(5), 5}, {int64(5), uint8(5)}, {int64(5), 5.0}, {int64(5), 5 + 0i}, {int64(5), *big.NewInt(5)}, {int64(5), *big.NewRat(5, 1)},
			{int64(5), *new(big.Float).SetInt64(5)}},
		"float":      {{5.0, float32(5)}, {5.0, 5}, {5.0, *big.NewInt(5)}, {0.5, *big.NewRat(1, 2)}, {0.5, *big.NewFloat(0.5)}, {0.5, complex64(0.5)}},
		"int, float": {{int64(2), 2 * time.Second}, {0.25, 250 * time.Millisecond}, {int64(1.5e9), when}, {1.5e9, when}},
		"str": {{"x", name("x")}, {"1.10", *big.NewRat(11, 10)}, {"2024-01-02", core.Date{Year: 2024, Month: 1, Day: 2}}, {"PYRO:o@h:1", uri},
			{"2024-01-02", time.Date(2024, 1, 2, 0, 0, 0, 0, time.Local)}},
		"bytes, serpent's base64 dict": {{[]byte("x"), []byte("x")}, {[]byte("x"), [1]byte{'x'}}, {map[string]any{"data": "eA==", "encoding": "base64"}, []byte("x")}},
		"list, tuple, set":             {{[]any{int64(1)}, []int{1}}, {core.Tuple{int64(1)}, [1]int{1}}, {core.Set{"a"}, []string{"a"}}, {core.FrozenSet{"a"}, []name{"a"}}},
		"dict, OrderedDict, object of any class": {
			{map[string]any{"a": int64(1), "id": int64(2), "b": "ignored"}, pair{docBase{2}, 1}}, {core.Dict{{Key: int64(1), Value: "x"}}, map[int]string{1: "x"}},
			{core.ClassDict{Class: "collections.OrderedDict", Attrs: map[string]any{"items": []any{core.Tuple{"a", int64(1)}}}}, map[string]int{"a": 1}},
			{core.ClassDict{Class: "x.Y", Attrs: map[string]any{"a": int64(1)}}, pair{A: 1}},
		},
		"object of a registered class": {{docPlace{"x"}, docPlace{"x"}}, {docPlace{"x"}, &docPlace{"x"}}},
		"exception":                    {{core.ValueError.New("x"), core.ValueError.New("x")}},
		"proxy":                        {{core.ProxyState{URI: uri}, uri}},
		"all of these":                 {{int64(5), new(5)}, {[]any{map[string]any{"id": int64(1)}}, []*pair{{docBase: docBase{1}}}}},
	}
	_, rows := docTable(t, "| from | into |")
	if len(rows) != len(examples) {
		t.Errorf("%d rows, want %d", len(rows), len(examples))
	}
	for _, row := range rows {
		if len(examples[row[0]]) == 0 {
			t.Errorf("row %q: no example", row[0])
		}
		for _, x := range examples[row[0]] {
			out := reflect.New(reflect.TypeOf(x[1]))
			err := core.Convert(out.Interface(), x[0])
			if got := out.Elem().Interface(); err != nil || !reflect.DeepEqual(got, x[1]) {
				t.Errorf("%s: Convert(%T, %#v): got %#v, %v, want %#v", row[0], x[1], x[0], got, err, x[1])
			}
		}
	}
	var where docWhere
	if err := core.Convert(&where, docPlace{"x"}); err != nil || where.Where() != "x" {
		t.Errorf("interface: got %v, %v", where, err)
	}
}
