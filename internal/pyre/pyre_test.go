package pyre

import (
	"regexp"
	"strings"
	"testing"
)

// The expectations are those of Python 3.11's re.match.
func TestPattern(t *testing.T) {
	t.Parallel()
	tests := []struct {
		expr  string
		match []string
		other []string
	}{
		{"", []string{"", "a"}, nil},
		{"abc", []string{"abc", "abcd"}, []string{"", "ab", "xabc"}},
		{"a|b", []string{"a", "b", "bx"}, []string{"xa"}},
		{"abc$", []string{"abc", "abc\n"}, []string{"abcd", "abc\n\n"}},
		{"(?m)abc$", []string{"abc\nx"}, []string{"abcd"}},
		{`abc\Z`, []string{"abc"}, []string{"abc\n"}},
		{"^abc", []string{"abc"}, []string{"x\nabc"}},
		{`(?P<year>\d+)-x`, []string{"12-x"}, []string{"-x"}},
		{`(?P<größe>a)`, []string{"a"}, []string{"b"}},
		{`\d`, []string{"7", "٧"}, []string{"a", "½"}},
		{`(?a)\d`, []string{"7"}, []string{"٧"}},
		{`(?a:\w)\w`, []string{"aé"}, []string{"éa"}},
		{`\w`, []string{"a", "_", "é", "日", "½"}, []string{"-", " ", "€"}},
		{`\W`, []string{"-", "€"}, []string{"a", "_", "é"}},
		{`[\W_]x`, []string{"-x", "_x", "€x"}, []string{"ax", "éx"}},
		{`[^\W\d]`, []string{"a", "é"}, []string{"1", "-"}},
		{`\s`, []string{" ", "\v", "\u00a0", "\u2003", "\x1c"}, []string{"a"}},
		{`(?a)\s`, []string{" ", "\v"}, []string{"\u00a0"}},
		{`(?a)[\S]`, []string{"a", "\u00a0"}, []string{" ", "\v"}},
		{`[\S]`, []string{"a"}, []string{" ", "\u00a0"}},
		{`[\D]`, []string{"a"}, []string{"1"}},
		{`a.c`, []string{"abc", "a€c"}, []string{"a\nc"}},
		{`(?s)a.c`, []string{"a\nc"}, nil},
		{`(?i)abc`, []string{"ABC", "abC"}, []string{"x"}},
		{`a(?i:b)c`, []string{"aBc", "abc"}, []string{"aBC"}},
		{`(?i:a(?-i:b))`, []string{"Ab"}, []string{"AB"}},
		{`(?i)(?m)a$`, []string{"A\nb"}, nil},
		{`a(?#a comment)b`, []string{"ab"}, []string{"a"}},
		{`a(?#a comment)*b`, []string{"aab", "b"}, []string{"c"}},
		{`(?:ab)+c`, []string{"ababc"}, []string{"c"}},
		{`a{2}b`, []string{"aab"}, []string{"ab"}},
		{`a{,2}b`, []string{"b", "aab"}, []string{"aaab"}},
		{`a{2,}b`, []string{"aaaab"}, []string{"ab"}},
		{`a{,}b`, []string{"b", "aaaab"}, []string{"c"}},
		{`a{x}`, []string{"a{x}"}, []string{"ax"}},
		{`a{`, []string{"a{"}, []string{"a"}},
		{`a{}`, []string{"a{}"}, []string{"a"}},
		{`{a`, []string{"{a"}, []string{"a"}},
		{`a*?b`, []string{"aab"}, nil},
		{`a{1,2}?b`, []string{"aab"}, nil},
		{`[]a]`, []string{"]", "a"}, []string{"b"}},
		{`[^]a]`, []string{"b"}, []string{"]", "a"}},
		{`[a-]`, []string{"a", "-"}, []string{"b"}},
		{`[-a]`, []string{"a", "-"}, []string{"b"}},
		{`[a-c]`, []string{"b"}, []string{"d", "-"}},
		{`[a\]b]`, []string{"]"}, []string{`\`}},
		{`[[:alpha:]]`, []string{"[]", "a]", ":]"}, []string{"b]", "x", "a"}},
		{`[a&&b]`, []string{"a", "&"}, []string{"c"}},
		{`[\b]`, []string{"\b"}, []string{"b"}},
		{`[\x41-\x43]`, []string{"B"}, []string{"D"}},
		{`[\101\0]`, []string{"A", "\x00"}, []string{"1"}},
		{`\x41\u00e9\U0001F600`, []string{"Aé😀"}, nil},
		{`\101\0`, []string{"A\x00"}, nil},
		{`\.\*\-\ \€`, []string{".*- €"}, []string{"a"}},
		{`\t\n\r\f\v\a`, []string{"\t\n\r\f\v\a"}, nil},
		{`a\b`, []string{"a", "a-"}, []string{"ab"}},
		{`a\B`, []string{"ab"}, []string{"a"}},
		{`\Aabc`, []string{"abc"}, nil},
		{`日本`, []string{"日本語"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			p, err := Compile(tt.expr)
			if err != nil {
				t.Fatalf("%q: %v", tt.expr, err)
			}
			for _, name := range tt.match {
				if !p.Match(name) {
					t.Errorf("%q (as %q): got no match with %q", tt.expr, p.re, name)
				}
			}
			for _, name := range tt.other {
				if p.Match(name) {
					t.Errorf("%q (as %q): got a match with %q", tt.expr, p.re, name)
				}
			}
		})
	}
}

func TestIgnoreCase(t *testing.T) {
	t.Parallel()
	tests := []struct {
		expr  string
		match []string
		other []string
	}{
		{"abc", []string{"abc", "ABCD"}, []string{"xabc"}},
		{"a|B", []string{"A", "b"}, []string{"xa"}},
		{"[a-c]x", []string{"BX"}, []string{"DX"}},
		{"größe", []string{"GRÖẞE", "Größe"}, []string{"grosse"}},
		{"σ", []string{"Σ", "ς"}, []string{"s"}},
		{"k", []string{"\u212a"}, nil},
		{"i", []string{"I"}, []string{"ı", "İ"}},
		{"(?-i:a)b", []string{"aB"}, []string{"AB"}},
		{"(?m)a$", []string{"A\nb"}, nil},
		{`\D`, []string{"a"}, []string{"1"}},
		{`\W`, []string{"-"}, []string{"ι", "Ι", "a"}},
		{`[^\W\d_]`, []string{"ι", "a"}, []string{"-", "_"}},
		{`(?-i:\W)`, []string{"\u0345"}, []string{"ι"}},
	}
	for _, tt := range tests {
		t.Run(tt.expr, func(t *testing.T) {
			t.Parallel()
			p, err := Options{IgnoreCase: true}.Compile(tt.expr)
			if err != nil {
				t.Fatalf("%q: %v", tt.expr, err)
			}
			for _, text := range tt.match {
				if !p.Match(text) {
					t.Errorf("%q (as %q): got no match with %q", tt.expr, p.re, text)
				}
			}
			for _, text := range tt.other {
				if p.Match(text) {
					t.Errorf("%q (as %q): got a match with %q", tt.expr, p.re, text)
				}
			}
		})
	}
}

func TestMaxInstructions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		expr string
		most int
		ok   bool
	}{
		{"a{100}", 0, true},
		{"a{100}", -1, true},
		{"a{100}", 200, true},
		{"a{100}", 100, false},
		{"(a{900}){12}", 0, false},
		{"(a{900}){12}", 1 << 30, false},
	}
	for _, tt := range tests {
		_, err := Options{MaxInstructions: tt.most}.Compile(tt.expr)
		if (err == nil) != tt.ok {
			t.Errorf("%s with at most %d: got %v, want ok %t", tt.expr, tt.most, err, tt.ok)
		}
	}
}

func TestBadPattern(t *testing.T) {
	t.Parallel()
	tests := []struct{ expr, want string }{
		{`(`, "unterminated subpattern at position 0"},
		{`a(b(c)(?:d`, "unterminated subpattern at position 6"},
		{`)`, "unbalanced parenthesis at position 0"},
		{`a[b`, "unterminated character set at position 1"},
		{`[]`, "unterminated character set"},
		{`[a-`, "unterminated character set"},
		{`[z-a]`, "bad character range"},
		{`[a-\d]`, "bad character range"},
		{`[\d-z]`, "bad character range"},
		{`*a`, "nothing to repeat at position 0"},
		{`a|*`, "nothing to repeat"},
		{`(*)`, "nothing to repeat"},
		{`{1}`, "nothing to repeat"},
		{`^*`, "nothing to repeat"}, {`a$?`, "nothing to repeat"}, {`\A+`, "nothing to repeat"}, {`\b{2}`, "nothing to repeat"},
		{`a**`, "multiple repeat"},
		{`a*?*`, "multiple repeat"},
		{`a{1}{2}`, "multiple repeat"},
		{`a++`, "possessive"},
		{`a{1001}`, "invalid repeat count"},
		{`a{2,1}`, "invalid repeat count"},
		{`a{99999999999}`, "invalid repeat count"},
		{`((a{1000}){1000}){1000}`, "invalid repeat count"},
		{`(?=a)`, "look-around"}, {`(?!a)`, "look-around"}, {`(?<=a)`, "look-around"}, {`(?<!a)`, "look-around"},
		{`(a)\1`, "back-references"}, {`(?P<n>a)(?P=n)`, "back-references"}, {`(a)(?(1)b|c)`, "conditional"},
		{`(?>a)`, "atomic"},
		{`(?P<n`, "unterminated name"}, {`(?P<1>a)`, "bad character in group name '1'"}, {`(?P<>a)`, "bad character in group name"},
		{`(?x)a`, "verbose"}, {`(?L)a`, "'L'"}, {`a(?i)b`, "global flags not at the start"},
		{`(?`, "unknown extension"}, {`(?k)`, "unknown extension"}, {`(?-a:x)`, "cannot turn off"}, {`(?i-i)`, "missing colon"},
		{`(?#a`, "unterminated comment"},
		{`\`, "bad escape (end of pattern)"}, {`\q`, `bad escape \q`}, {`\z`, `bad escape \z`}, {`\pL`, `bad escape \p`},
		{`\Q`, `bad escape \Q`}, {`[\Z]`, `bad escape \Z`}, {`[\8]`, `bad escape \8`},
		{`\xg1`, "incomplete escape"}, {`\x4`, "incomplete escape"}, {`\u+041`, "incomplete escape"},
		{`\U00110000`, "no such character"}, {`\ud800`, "no such character"}, {`\N{DIGIT ONE}`, "named characters"},
		{`\777`, "octal escape value"},
		{"a\xff", "not valid UTF-8"},
		{strings.Repeat("a", 5000), "5000 bytes long, want at most 4096"},
		{strings.Repeat("(", 2000) + strings.Repeat(")", 2000), "nests too deeply"},
		{`[` + strings.Repeat(`\W`, 2000) + `]`, "too many characters in sets"},
		{strings.Repeat(`(\w{500})`, 30), "too many repetitions"},
	}
	for _, tt := range tests {
		_, err := Compile(tt.expr)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: got %v, want an error with %q", tt.expr, err, tt.want)
		}
	}
}

// Python's engine needs time exponential in the name for this one.
func TestNoCatastrophe(t *testing.T) {
	t.Parallel()
	p, err := Compile(`(a*)*(a|a)*b`)
	if err != nil {
		t.Fatal(err)
	}
	if p.Match(strings.Repeat("a", 100_000)) {
		t.Error("got a match without a b")
	}
}

// Whatever comes, the translation is an expression that Go takes or there is an error, and text that is only text matches itself.
func FuzzTranslate(f *testing.F) {
	for _, s := range []string{"abc", `(?P<n>\d+)[^\W_]{,3}$`, `(?im-s:a|b)\Z`, `[]-a\x41-\u00e9]`, `a{2,3}?`, `\07\101`, "(?#c)*", `(?i)(?m)$`, "[a&&[:x:]]"} {
		f.Add(s, "name")
	}
	f.Fuzz(func(t *testing.T, expr, name string) {
		for _, o := range []Options{{}, {IgnoreCase: true}} {
			if p, err := o.Compile(expr); err == nil {
				p.Match(name)
			}
		}
		if len(name) < 100 {
			quoted, err := Compile(regexp.QuoteMeta(name))
			if err == nil && !quoted.Match(name) {
				t.Errorf("%q does not match itself, as %q", name, quoted.re)
			}
		}
	})
}
