package events

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
)

func TestCheckTopic(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxTopicBytes)
	tests := []struct {
		name, topic, want string // want is the beginning of the error; empty for none
	}{
		{"a word", "news", ""},
		{"tokens", "prices.bonds.EUR", ""},
		{"spaces", "all the news ", ""},
		{"empty tokens", ".a..b.", ""},
		{"a dot", ".", ""},
		{"not ASCII", "ключ.€", ""},
		{"wildcards inside of tokens", "a*.b>.**.>>", ""},
		{"a dollar inside", "a.$b", ""},
		{"as long as can be", long, ""},
		{"as long as can be, not ASCII", strings.Repeat("é", 127), ""},
		{"empty", "", `topic "": want 1 to 255 bytes`},
		{"too long", long + "a", `topic "` + strings.Repeat("a", 60) + `"…: 256 bytes, want at most 255`},
		{"too long in lower case", strings.Repeat("Ⱥ", 127), `topic "` + strings.Repeat("Ⱥ", 60) + `"…: 381 bytes in lower case, want at most 255`},
		{"no text", "a\xffb", `topic "a\xffb": not valid UTF-8`},
		{"control character", "a\nb", `topic "a\nb": control character '\n' at byte 1: leave it out`},
		{"zero", "\x00", `topic "\x00": control character '\x00' at byte 0: leave it out`},
		{"delete", "a\x7f", `topic "a\x7f": control character`},
		{"control character that is not ASCII", "é\u0085", `topic "é\u0085": control character '\u0085' at byte 2`},
		{"one token", "prices.*.eur", `topic "prices.*.eur": "*" is a wildcard, for subscriptions only: publish to a topic without it`},
		{"only one token", "*", `topic "*": "*" is a wildcard`},
		{"the rest", "prices.>", `topic "prices.>": ">" is a wildcard`},
		{"the rest in the middle", ">.a", `topic ">.a": ">" is a wildcard`},
		{"the cluster's", "$cluster.name", `topic "$cluster.name": topics that begin with "$" are the cluster's own: choose another name`},
		{"the cluster's, a dollar alone", "$", `topic "$": topics that begin`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkError(t, tt.topic, CheckTopic(tt.topic), tt.want)
		})
	}
}

func TestCheckAnyTopic(t *testing.T) {
	t.Parallel()
	checkError(t, "$cluster.name", checkAnyTopic("$cluster.name"), "")
	checkError(t, "$cluster.*", checkAnyTopic("$cluster.*"), `topic "$cluster.*": "*" is a wildcard`)
}

// checkError wants an error of one line that begins with want, or none if want is empty.
func checkError(t *testing.T, input string, err error, want string) {
	t.Helper()
	switch {
	case (err == nil) != (want == ""), err != nil && !strings.HasPrefix(err.Error(), want):
		t.Errorf("%.80q: got error %v, want %s", input, err, want)
	case err != nil && (strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 400):
		t.Errorf("%.80q: got %q, want one line", input, err)
	}
}

// Folding is what strings.EqualFold says, for every character.
func TestFoldRune(t *testing.T) {
	t.Parallel()
	for r := range unicode.MaxRune + 1 {
		folded := foldRune(r)
		same := folded == r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			same = same || other == folded
			if foldRune(other) != folded {
				t.Errorf("%U and %U: got %U and %U, want one", r, other, folded, foldRune(other))
			}
		}
		if !same {
			t.Errorf("%U: got %U, which differs by more than case", r, folded)
		}
	}
}

func TestFoldTopic(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"":                   "",
		"news":               "news",
		"News.EUR":           "news.eur",
		"Ünïcode":            "ünïcode",
		"STRAẞE":             strings.Map(foldRune, "straße"),
		"ΟΔΟΣ":               "οδοσ",
		"οδος":               "οδοσ",
		"\u212Aelvin":        "kelvin",
		"İıIi":               "İıii",
		"$Cluster.*.>":       "$cluster.*.>",
		"日本 [\\A-Z] @`{|}~_": "日本 [\\a-z] @`{|}~_",
	} {
		if got := foldTopic(topic); got != want || foldTopic(got) != got || !strings.EqualFold(got, topic) {
			t.Errorf("%q: got %q, want %q", topic, got, want)
		}
	}
}

func TestFoldTopicAllocates(t *testing.T) {
	for _, topic := range []string{"prices.bonds.eur", "ключ.€.日本"} {
		if n := testing.AllocsPerRun(100, func() { _ = foldTopic(topic) }); n != 0 {
			t.Errorf("%q: got %v allocations, want none", topic, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _ = CheckTopic("prices.bonds.eur") }); n != 0 {
		t.Errorf("CheckTopic: got %v allocations, want none", n)
	}
}

func TestParsePattern(t *testing.T) {
	t.Parallel()
	tests := []struct{ pattern, want, fails string }{
		{"news", "t:news", ""},
		{"All The News", "t:all the news", ""},
		{"a..b.", "t:a..b.", ""},
		{"a*.b>.**", "t:a*.b>.**", ""},
		{"$Cluster.name", "t:$cluster.name", ""},
		{"prices.*.EUR", "w:prices.*.eur", ""},
		{"*", "w:*", ""},
		{">", "w:>", ""},
		{"*.*.>", "w:*.*.>", ""},
		{"$cluster.>", "w:$cluster.>", ""},
		{"", "", `pattern "": want 1 to 255 bytes`},
		{"a.>.b", "", `pattern "a.>.b": ">" stands for all tokens that follow: put it at the end`},
		{">.", "", `pattern ">.": ">" stands for`},
		{">.>", "", `pattern ">.>": ">" stands for`},
		{"a\tb", "", `pattern "a\tb": control character '\t' at byte 1`},
		{"\xff", "", `pattern "\xff": not valid UTF-8`},
		{strings.Repeat("*.", 128), "", `pattern "` + strings.Repeat("*.", 30) + `"…: 256 bytes`},
	}
	for _, tt := range tests {
		p, err := ParsePattern(tt.pattern)
		checkError(t, tt.pattern, err, tt.fails)
		if got := p.String(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.pattern, got, tt.want)
		}
	}
}

func TestParseExpression(t *testing.T) {
	t.Parallel()
	tests := []struct{ expr, want, fails string }{
		{"", "r:", ""},
		{"^Abc", "r:^Abc", ""},
		{`\D+\.(a|b)$`, `r:\D+\.(a|b)$`, ""},
		{strings.Repeat("a", 255), "r:" + strings.Repeat("a", 255), ""},
		{strings.Repeat("a", 256), "", `expression "` + strings.Repeat("a", 60) + `"…: 256 bytes, want at most 255`},
		{"(", "", `expression "(": missing ), unterminated subpattern at position 0`},
		{"a\n*?+", "", `expression "a\n*?+": multiple repeat`},
		{"(?=a)", "", `expression "(?=a)": look-around is not supported at position 0`},
		{"(a{100}){100}", "", `expression "(a{100}){100}": invalid repeat count`},
		{"(a{900})(a{900})", "", `expression "(a{900})(a{900})": too many repetitions`},
		{"\xff", "", `expression "\xff": not valid UTF-8`},
	}
	for _, tt := range tests {
		p, err := ParseExpression(tt.expr)
		checkError(t, tt.expr, err, tt.fails)
		if got := p.String(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.expr, got, tt.want)
		}
	}
}

func TestPatternFromString(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"t:news", "t:$cluster.name", "t: ", "w:prices.*.eur", "w:>", "r:", "r:^ABC", "r:t:"} {
		p, err := patternFromString(s)
		if err != nil || p.String() != s {
			t.Errorf("%q: got %q, %v, want it back", s, p, err)
		}
	}
	for s, want := range map[string]string{
		"":             `pattern "": want "t:", "w:" or "r:"`,
		"t":            `pattern "t": want`,
		"t:":           `pattern "": want 1 to 255 bytes`,
		"news":         `pattern "news": want`,
		"x:news":       `pattern "x:news": want`,
		"t:News":       `pattern "t:News": want`,
		"t:a.*":        `pattern "t:a.*": want`,
		"w:a":          `pattern "w:a": want`,
		"w:A.*":        `pattern "w:A.*": want`,
		"w:>.a":        `pattern ">.a": ">" stands for`,
		"r:(":          `expression "(": missing )`,
		"R:a":          `pattern "R:a": want`,
		"t:a\x00":      `pattern "a\x00": control character`,
		"t:\u212a":     "pattern \"t:\u212a\": want",
		"\xff\xff abc": `pattern`,
	} {
		p, err := patternFromString(s)
		checkError(t, s, err, want)
		if p.String() != "" {
			t.Errorf("%q: got pattern %q beside the error", s, p)
		}
	}
}

func parse(t testing.TB, s string) Pattern {
	t.Helper()
	p, err := patternFromString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPatternMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern string
		match   []string
		other   []string
	}{
		{"t:news", []string{"news"}, []string{"news.", "new", "newss", ""}},
		{"t:$cluster.name", []string{"$cluster.name"}, []string{"$cluster", "cluster.name"}},
		{"w:prices.*.eur", []string{"prices.bonds.eur", "prices..eur", "prices.all bonds.eur"},
			[]string{"prices.eur", "prices.a.b.eur", "prices.a.eur.x", "prices.a.usd", "price.a.eur"}},
		{"w:*", []string{"a", " ", "a b"}, []string{"a.b", "a.", ".", "$a"}},
		{"w:*.*", []string{"a.b", "."}, []string{"a", "a.b.c", "$a.b"}},
		{"w:a.*", []string{"a.b", "a."}, []string{"a", "a.b.c"}},
		{"w:>", []string{"a", "a.b", ".", "a.$b"}, []string{"$a", "$a.b", "$"}},
		{"w:a.>", []string{"a.b", "a.b.c", "a."}, []string{"a", "ab", "b.a"}},
		{"w:*.>", []string{"a.b", "a.b.c"}, []string{"a", "$a.b"}},
		{"w:$cluster.>", []string{"$cluster.a", "$cluster.a.b"}, []string{"$cluster", "cluster.a", "$other.a"}},
		{"w:$cluster.*", []string{"$cluster.a"}, []string{"$cluster.a.b"}},
		{"w:$a*.*", []string{"$a*.b"}, []string{"$ab.b"}},
		{"r:", []string{"a", "a.b"}, []string{"$a"}},
		{"r:^ABC", []string{"abc", "abcd"}, []string{"xabc"}},
		{"r:a.c", []string{"abc", "a.c"}, []string{"ac"}},
		{`r:\D`, []string{"a"}, []string{"1"}},
		{"r:ΟΔΟΣ", []string{"οδοσ"}, []string{"οδο"}},
		{`r:\$cluster`, nil, []string{"$cluster", "$cluster.a"}},
		{"r:.*", []string{"a"}, []string{"$cluster"}},
	}
	for _, tt := range tests {
		p := parse(t, tt.pattern)
		for _, topic := range tt.match {
			if !p.Match(topic) {
				t.Errorf("%s: got no match with %q", p, topic)
			}
		}
		for _, topic := range tt.other {
			if p.Match(topic) {
				t.Errorf("%s: got a match with %q", p, topic)
			}
		}
	}
	if (Pattern{}).Match("") {
		t.Error("the zero pattern matches")
	}
}

// reference is a pattern with wildcards as a regular expression of Go.
func reference(t *testing.T, pattern string) *regexp.Regexp {
	t.Helper()
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		switch token {
		case "*":
			tokens[i] = `[^.]*`
		case ">":
			tokens[i] = `.*`
		default:
			tokens[i] = regexp.QuoteMeta(token)
		}
	}
	re, err := regexp.Compile(`(?s)\A` + strings.Join(tokens, `\.`) + `\z`)
	if err != nil {
		t.Fatal(err)
	}
	return re
}

func FuzzPattern(f *testing.F) {
	for _, s := range []string{"news", "prices.*.EUR", ">", "*.>", "$cluster.>", "a..b", "^A(b|c)$", "ΟΔΟΣ", "\u212a", "Ⱥ.İ", "a*.>b"} {
		f.Add(s, "a.b")
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, s, topic string) {
		if p, err := ParseExpression(s); err == nil {
			checkRoundTrip(t, p)
			p.Match(foldTopic(topic))
		}
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		checkRoundTrip(t, p)
		if folded, err := ParsePattern(foldTopic(s)); err != nil || folded.String() != p.String() {
			t.Errorf("%q folded: got %q, %v, want %q", s, folded, err, p)
		}
		if CheckTopic(s) == nil && (p.kind() != topicKind || !p.Match(foldTopic(s))) {
			t.Errorf("topic %q: pattern %q does not match it", s, p)
		}
		if checkAnyTopic(topic) != nil {
			return
		}
		topic = foldTopic(topic)
		want := reference(t, p.body()).MatchString(topic) && (topic[0] != '$' || s[0] == '$')
		if got := p.Match(topic); got != want {
			t.Errorf("%s with %q: got %t, want %t", p, topic, got, want)
		}
	})
}

func checkRoundTrip(t *testing.T, p Pattern) {
	t.Helper()
	s := p.String()
	if len(s) > maxPatternBytes {
		t.Errorf("%q: %d bytes, want at most %d", s, len(s), maxPatternBytes)
	}
	if back, err := patternFromString(s); err != nil || back.String() != s {
		t.Errorf("%q: got back %q, %v", s, back, err)
	}
}
