package core

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

// TestSerpentLiterals has what Python's ast.literal_eval reads beside what serpent writes.
func TestSerpentLiterals(t *testing.T) {
	t.Parallel()
	two70 := new(big.Int).Lsh(big.NewInt(1), 70)
	tests := []struct {
		text string
		want any
	}{
		{"# comment\n\n  1 # another", int64(1)},
		{"\t( 1 ,\n 2 , )\r\n", Tuple{int64(1), int64(2)}},
		{"[1,\\\n2]", []any{int64(1), int64(2)}},
		{"{\n  'a': 1,\n  'b': 2,\n}", map[string]any{"a": int64(1), "b": int64(2)}},
		{"(1)", int64(1)}, {"((1),)", Tuple{int64(1)}}, {"()", Tuple{}}, {"( )", Tuple{}}, {"[ ]", []any{}},
		{"{}", map[string]any{}}, {"{1,}", Set{int64(1)}}, {"{1,1}", Set{int64(1), int64(1)}}, {"set()", Set{}}, {"set ( )", Set{}},
		{"{'a':1,'a':2}", map[string]any{"a": int64(2)}}, {"{1:1,1:2}", Dict{{int64(1), int64(1)}, {int64(1), int64(2)}}},
		{"None", nil}, {"True", true}, {"False", false}, {"...", Ellipsis{}},
		{"0", int64(0)}, {"000", int64(0)}, {"-0", int64(0)}, {"+5", int64(5)}, {"- 5", int64(-5)}, {"-(5)", int64(-5)}, {"1_000", int64(1000)},
		{"0x1f", int64(31)}, {"0XFF", int64(255)}, {"0o17", int64(15)}, {"0b1_01", int64(5)}, {"0x_f", int64(15)},
		{"9223372036854775808", new(big.Int).SetUint64(1 << 63)}, {"-9223372036854775808", int64(math.MinInt64)},
		{"0x400000000000000000", two70},
		{"1.", 1.0}, {".5", 0.5}, {"1e5", 1e5}, {"1E+5", 1e5}, {"1e-5", 1e-5}, {"1_0.0_1e1_0", 10.01e10}, {"012.5", 12.5}, {"1e400", math.Inf(1)},
		{"-1e400", math.Inf(-1)}, {"1e-400", 0.0},
		{"2j", complex(0, 2)}, {"1+2j", complex(1, 2)}, {"-1 - 2J", complex(-1, -2)}, {"(1.5-.5j)", complex(1.5, -0.5)}, {"012j", complex(0, 12)},
		{"1e400+1j", complex(math.Inf(1), 1)},
		{`'a' "b" '''c'''`, "abc"}, {"('a'\n'b')", "ab"}, {`u'a'`, "a"}, {`U"a"`, "a"}, {`r'\n'`, `\n`}, {`R'\''`, `\'`}, {`b'\xff'`, []byte{255}},
		{`b'' b'\1'`, []byte{1}}, {`b''`, []byte{}}, {`Rb'\x'`, []byte(`\x`)}, {`bR'a'`, []byte("a")}, {`b'\u0041'`, []byte(`\u0041`)},
		{`'\a\b\f\v\n\r\t\\\'\"'`, "\a\b\f\v\n\r\t\\'\""}, {`'\0\101\1012'`, "\x00AA2"}, {`'\x41\u20ac\U0001f600'`, "A€😀"}, {`'\q\8'`, `\q\8`},
		{"'a\\\nb'", "ab"}, {"'a\\\r\nb'", "ab"}, {"'''a\r\nb\rc\nd'''", "a\nb\nc\nd"}, {`'''a'b''c'''`, "a'b''c"}, {`""""a"""`, `"a`}, {"''", ""},
		{"'\u2028'", "\u2028"}, {`'\ud800'`, "\xed\xa0\x80"}, {`'\ud83d\ude00'`, "\xed\xa0\xbd\xed\xb8\x80"},
		{"{'__class__':'float','value':'nan'}", math.NaN()},
		{"{'__class__':'complex','real':{'__class__':'float','value':'nan'},'imag':1.0}", complex(math.NaN(), 1)},
		{"{'__class__':'float','value':1}", ClassDict{"float", map[string]any{"value": int64(1)}}},
		{"{'__class__':1}", map[string]any{"__class__": int64(1)}},
		{"{'__class__':'x.Y',1:2}", Dict{{"__class__", "x.Y"}, {int64(1), int64(2)}}},
		{"{(1,(2,)):3}", Dict{{Tuple{int64(1), Tuple{int64(2)}}, int64(3)}}},
		{strings.Repeat("[", 200) + strings.Repeat("]", 200), nestedList(200)},
		{strings.Repeat("9", 4300), mustInt(strings.Repeat("9", 4300))},
	}
	for _, tt := range tests {
		got, err := serpentSerializer{}.ParseValue([]byte(tt.text))
		if g, w := show(got), show(tt.want); err != nil || g != w {
			t.Errorf("%q: got %s, %v, want %s", abbreviate(tt.text), abbreviate(g), err, abbreviate(w))
		}
	}
}

func mustInt(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic(s)
	}
	return n
}

func TestSerpentRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"", "ends too early"}, {"# only a comment", "ends too early"}, {"(1", "ends too early"}, {"[1,", "ends too early"}, {"{'a'", "ends too early"},
		{"{'a':", "ends too early"}, {"'abc", "ends too early"}, {"'''abc''", "ends too early"}, {"'\\", "ends too early"}, {"-", "ends too early"},
		{"1 2", "after the value"}, {"1,2", "after the value"}, {"(,)", "unexpected ','"}, {"[1,,2]", "unexpected ','"}, {"{1:2,3}", "unexpected '}'"},
		{"{1,2:3}", "unexpected ':'"}, {"(1]", "unexpected ']'"}, {"*x", "unexpected '*'"},
		{"x", "no literal"}, {"open('f')", "no literal"}, {"true", "no literal"}, {"nan", "no literal"}, {"frozenset()", "no literal"}, {"été", "no literal"},
		{"set([1])", "unexpected '['"}, {"lambda: 1", "no literal"}, {"[x for x in ()]", "no literal"}, {"f'{1}'", "no prefix"}, {"bu'a'", "no prefix"},
		{"t''", "no prefix"}, {"None''", "no prefix"},
		{"1+1", "a sum is only"}, {"1-(2+3j)", "a sum is only"}, {"'a'+1j", "unexpected '+'"}, {"1j+1j", "unexpected '+'"}, {"True+1j", "unexpected '+'"},
		{"1*2", "after the value"}, {"-True", "sign before bool"}, {"-'a'", "sign before str"}, {"--1", "unexpected '-'"}, {"not 1", "no literal"},
		{"01", "zeros in front"}, {"1__0", "no number"}, {"1_", "no number"}, {"1_.5", "no number"}, {"1._5", "no number"}, {"0x", "no number"},
		{"0xg", "no number"}, {"0b2", "no number"}, {"0o8", "no number"}, {"1if", "no number"}, {"1e", "no number"}, {"1e5x", "no number"}, {"1jj", "no number"},
		{"'a\nb'", "line break"}, {"'a\rb'", "line break"}, {"'a\x00b'", "unexpected"}, {"\x00", "unexpected"}, {"b'é'", "other than ASCII"},
		{"'a' b'b'", "cannot be joined"}, {`'\N{DEGREE SIGN}'`, "not supported"}, {`'\xg0'`, "hexadecimal"}, {`'\u12z4'`, "hexadecimal"},
		{`'\U00110000'`, "no character"}, {`'\Uffffffff'`, "no character"}, {"'\xff'", "not UTF-8"},
		{"{[]:1}", "unhashable type: list"}, {"{{}}", "unhashable type: dict"}, {"{{1}}", "unhashable type: set"}, {"{([],):1}", "unhashable type: list"},
		{"{{'__class__':'x.Y'}}", "unhashable type: x.Y"},
		{strings.Repeat("[", 201) + strings.Repeat("]", 201), "deeper"}, {strings.Repeat("9", 4301), "digits"}, {"0x1" + strings.Repeat("0", 4000), "digits"},
		{"{'__class__':'Pyro5.core.URI'}", "Pyro5.core.URI"},
	}
	for _, tt := range tests {
		got, err := serpentSerializer{}.ParseValue([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %s, %v, want %q", abbreviate(tt.text), abbreviate(show(got)), err, tt.want)
		}
	}
}
