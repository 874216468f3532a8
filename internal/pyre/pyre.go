// Package pyre matches regular expressions as Python's module re writes them.
//
// They are translated for Go's engine, whose time is linear in the text: no expression can stop a server that takes it from strangers.  The
// price is the constructs that need more than that, look-around and back-references above all, which are refused.  Of the rest only \b and
// \B differ, which see letters of ASCII only.
package pyre

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	maxPatternBytes = 4096
	maxClassesBytes = 256 << 10 // of the translation: a complement is 11 KB
	maxInstructions = 10_000    // of the compiled program
)

// Pattern matches the beginning of a text, as Python's re.match.  It is safe for concurrent use.
type Pattern struct{ re *regexp.Regexp }

// Match reports whether the expression matches at the beginning of text.
func (p *Pattern) Match(text string) bool { return p.re.MatchString(text) }

// Options change how an expression is compiled; the zero value is what [Compile] does.
type Options struct {
	// IgnoreCase is Python's re.IGNORECASE: letters match as strings.EqualFold compares them.
	IgnoreCase bool
	// MaxInstructions bounds the compiled program; a match takes time in proportion to that and to the text.  Zero means 10,000, which is
	// the most.
	MaxInstructions int
}

// Compile translates an expression.  The error is one line that says what is wrong with it, in Python's words where Python has some, and
// does not repeat the whole of it.
func Compile(expr string) (*Pattern, error) { return Options{}.Compile(expr) }

// Compile is the function [Compile] with options.
func (o Options) Compile(expr string) (*Pattern, error) {
	if len(expr) > maxPatternBytes {
		return nil, fmt.Errorf("%d bytes long, want at most %d", len(expr), maxPatternBytes)
	}
	translated, err := translate(expr, flags{fold: o.IgnoreCase})
	if err != nil {
		return nil, err
	}
	group := "(?:"
	if o.IgnoreCase {
		group = "(?i:"
	}
	translated = `\A` + group + translated + `)`
	parsed, err := syntax.Parse(translated, syntax.Perl)
	if err != nil {
		return nil, syntaxText(err)
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, syntaxText(err)
	}
	if len(prog.Inst) > o.limit() {
		return nil, errors.New("too many repetitions")
	}
	re, err := regexp.Compile(translated)
	if err != nil {
		return nil, syntaxText(err)
	}
	return &Pattern{re}, nil
}

func (o Options) limit() int {
	if o.MaxInstructions <= 0 {
		return maxInstructions
	}
	return min(o.MaxInstructions, maxInstructions)
}

// syntaxText drops Go's prefix, "error parsing regexp: ", and most of a long expression.
func syntaxText(err error) error {
	if e, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("%s: %.60s", e.Code, e.Expr)
	}
	return err
}

// translate rewrites a regular expression of Python's re module for Go's regexp.
func translate(expr string, global flags) (string, error) {
	if !utf8.ValidString(expr) {
		return "", errors.New("not valid UTF-8")
	}
	t := &translator{in: []rune(expr), scopes: []flags{global}}
	for !t.end() {
		if err := t.next(); err != nil {
			return "", fmt.Errorf("%w at position %d", err, t.start)
		}
	}
	if len(t.scopes) > 1 {
		return "", fmt.Errorf("missing ), unterminated subpattern at position %d", t.scope().start)
	}
	return t.out.String(), nil
}

// flags are those of Python's that change the translation; the others are handed on.
type flags struct {
	ascii, fold, multiline bool
	start                  int // of the group that they hold in
}

type translator struct {
	in     []rune
	pos    int
	start  int // of the construct that is being read
	out    strings.Builder
	scopes []flags // of the groups that are open, the innermost last
	begin  int     // where the flags for the whole expression end
	atom   bool    // what was read last can be repeated
	repeat bool    // what was read last was a repetition
}

func (t *translator) end() bool     { return t.pos >= len(t.in) }
func (t *translator) scope() *flags { return &t.scopes[len(t.scopes)-1] }

func (t *translator) peek() rune {
	if t.end() {
		return -1
	}
	return t.in[t.pos]
}

func (t *translator) take() rune {
	r := t.peek()
	t.pos++
	return r
}

func (t *translator) accept(s string) bool {
	for i, r := range []rune(s) {
		if t.pos+i >= len(t.in) || t.in[t.pos+i] != r {
			return false
		}
	}
	t.pos += len([]rune(s))
	return true
}

// next translates one construct.
func (t *translator) next() error {
	t.start = t.pos
	switch r := t.take(); r {
	case '\\':
		return t.escape()
	case '[':
		return t.class()
	case '(':
		return t.open()
	case ')':
		if len(t.scopes) == 1 {
			return errors.New("unbalanced parenthesis")
		}
		t.scopes = t.scopes[:len(t.scopes)-1]
		t.write(")")
	case '*', '+', '?':
		return t.repetition(string(r))
	case '{':
		return t.braces()
	case '$':
		t.dollar()
	case '|':
		t.assert("|") // that is not repeated either
	case '^':
		t.assert("^")
	case '.':
		t.write(".")
	default:
		t.literal(r)
	}
	return nil
}

// write adds something that can be repeated.
func (t *translator) write(s string) {
	t.out.WriteString(s)
	t.atom, t.repeat = true, false
}

// assert adds something that matches a place, which Python does not repeat.
func (t *translator) assert(s string) {
	t.out.WriteString(s)
	t.atom, t.repeat = false, false
}

func (t *translator) literal(r rune) { t.write(regexp.QuoteMeta(string(r))) }

// dollar is Python's $, which also matches before a last newline.
func (t *translator) dollar() {
	if t.scope().multiline {
		t.assert(`(?m:$)`)
		return
	}
	t.assert(`(?:\n?\z)`)
}

func (t *translator) repetition(op string) error {
	if t.repeat && op == "+" {
		return errors.New("possessive quantifiers are not supported")
	}
	if t.repeat && op == "?" {
		return t.lazy()
	}
	if t.repeat {
		return errors.New("multiple repeat")
	}
	if !t.atom {
		return errors.New("nothing to repeat")
	}
	t.out.WriteString(op)
	t.atom, t.repeat = false, true
	return nil
}

// lazy is the ? after a repetition; nothing more can follow that.
func (t *translator) lazy() error {
	t.out.WriteByte('?')
	t.atom, t.repeat = false, false
	if r := t.peek(); r == '*' || r == '+' || r == '?' {
		return errors.New("multiple repeat")
	}
	return nil
}

// braces is {n}, {n,}, {n,m} or {,m}; anything else is itself.
func (t *translator) braces() error {
	from := t.pos
	low := t.digits()
	comma := t.accept(",")
	high := ""
	if comma {
		high = t.digits()
	}
	if low == "" && !comma || !t.accept("}") {
		t.pos = from
		t.literal('{')
		return nil
	}
	if low == "" {
		low = "0"
	}
	op := "{" + low + "}"
	if comma {
		op = "{" + low + "," + high + "}"
	}
	return t.repetition(op)
}

func (t *translator) digits() string {
	from := t.pos
	for r := t.peek(); r >= '0' && r <= '9'; r = t.peek() {
		t.pos++
	}
	return string(t.in[from:t.pos])
}

// open is everything that begins with a parenthesis.
func (t *translator) open() error {
	if t.accept("?#") {
		return t.comment()
	}
	t.atom, t.repeat = false, false
	switch {
	case !t.accept("?"):
		t.push("(", *t.scope())
		return nil
	case t.accept("="), t.accept("!"), t.accept("<="), t.accept("<!"):
		return errors.New("look-around is not supported")
	case t.accept("P="):
		return errors.New("back-references are not supported")
	case t.accept(">"):
		return errors.New("atomic groups are not supported")
	case t.accept("("):
		return errors.New("conditional groups are not supported")
	case t.accept("P<"):
		return t.named()
	case t.accept(":"):
		t.push("(?:", *t.scope())
		return nil
	}
	return t.flags()
}

func (t *translator) push(opening string, f flags) {
	t.out.WriteString(opening)
	f.start = t.start
	t.scopes = append(t.scopes, f)
}

func (t *translator) comment() error {
	for !t.end() {
		if t.take() == ')' {
			return nil
		}
	}
	return errors.New("missing ), unterminated comment")
}

// named is (?P<name>…).  The name matters to nobody, so the group is an ordinary one, which allows every name that Python does.
func (t *translator) named() error {
	from := t.pos
	for !t.end() && t.peek() != '>' {
		t.pos++
	}
	name := string(t.in[from:t.pos])
	if !t.accept(">") {
		return errors.New("missing >, unterminated name")
	}
	if !isIdentifier(name) {
		return fmt.Errorf("bad character in group name '%s'", name)
	}
	t.push("(", *t.scope())
	return nil
}

func isIdentifier(s string) bool {
	for i, r := range s {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return s != ""
}

// flags is (?aims), for the whole expression, or (?aims-ims:…), for a group.
func (t *translator) flags() error {
	f := *t.scope()
	var on, off string
	target, set := &on, true
	for {
		r := t.take()
		switch r {
		case 'i', 's', 'm':
			*target += string(r)
			switch r {
			case 'i':
				f.fold = set
			case 'm':
				f.multiline = set
			}
		case 'a', 'u':
			if !set {
				return errors.New("bad inline flags: cannot turn off flags 'a', 'u' and 'L'")
			}
			f.ascii = r == 'a'
		case 'L':
			return errors.New("bad inline flags: cannot use 'L' flag with a str pattern")
		case 'x':
			return errors.New("verbose expressions are not supported")
		case '-':
			if !set {
				return errors.New("unknown flag")
			}
			target, set = &off, false
		case ':':
			t.push(flagGroup(on, off)+":", f)
			return nil
		case ')':
			return t.globalFlags(f, on, set)
		default:
			return errors.New("unknown extension")
		}
	}
}

// flagGroup writes an opening group with flags, without its last character.
func flagGroup(on, off string) string {
	if off != "" {
		off = "-" + off
	}
	return "(?" + on + off
}

func (t *translator) globalFlags(f flags, on string, set bool) error {
	if !set {
		return errors.New("missing colon")
	}
	if t.start != t.begin {
		return errors.New("global flags not at the start of the expression")
	}
	t.begin, t.scopes[0] = t.pos, f
	if on != "" {
		t.out.WriteString("(?" + on + ")")
	}
	return nil
}

// escape is a backslash outside of brackets.
func (t *translator) escape() error {
	switch r := t.take(); r {
	case 'A':
		t.assert(`\A`)
	case 'Z':
		t.assert(`\z`)
	case 'b', 'B':
		t.assert(`\` + string(r))
	case 'd', 'D', 's', 'S', 'w', 'W':
		t.write("[" + t.classEscape(r) + "]")
	case '1', '2', '3', '4', '5', '6', '7', '8', '9':
		t.pos--
		c, ok, err := t.octal(3)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("back-references are not supported")
		}
		t.literal(c)
	default:
		t.pos--
		c, err := t.character()
		if err != nil {
			return err
		}
		t.literal(c)
	}
	return nil
}

// character is what follows a backslash, if it stands for one character.
func (t *translator) character() (rune, error) {
	if t.end() {
		return 0, errors.New("bad escape (end of pattern)")
	}
	r := t.take()
	if i := strings.IndexRune(`afnrtv`, r); i >= 0 {
		return rune("\a\f\n\r\t\v"[i]), nil
	}
	switch r {
	case 'x':
		return t.hex(2)
	case 'u':
		return t.hex(4)
	case 'U':
		return t.hex(8)
	case 'N':
		return 0, errors.New("named characters are not supported")
	case '0':
		t.pos--
		c, _, err := t.octal(1)
		return c, err
	}
	if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
		return 0, fmt.Errorf("bad escape \\%c", r)
	}
	return r, nil
}

func (t *translator) hex(n int) (rune, error) {
	if t.pos+n > len(t.in) {
		return 0, errors.New("incomplete escape")
	}
	c, err := strconv.ParseUint(string(t.in[t.pos:t.pos+n]), 16, 32)
	if err != nil {
		return 0, errors.New("incomplete escape")
	}
	if c > unicode.MaxRune || !utf8.ValidRune(rune(c)) {
		return 0, errors.New("bad escape: no such character")
	}
	t.pos += n
	return rune(c), nil
}

// octal reads up to three octal digits; false if there are fewer than least, and then takes none.
func (t *translator) octal(least int) (rune, bool, error) {
	n := 0
	for n < 3 && t.pos+n < len(t.in) && t.in[t.pos+n] >= '0' && t.in[t.pos+n] <= '7' {
		n++
	}
	if n < least {
		return 0, false, nil
	}
	c, err := strconv.ParseUint(string(t.in[t.pos:t.pos+n]), 8, 32)
	if err != nil || c > 0o377 {
		return 0, false, errors.New("octal escape value outside of range 0-0o377")
	}
	t.pos += n
	return rune(c), true, nil
}

// class is what is in brackets.
func (t *translator) class() error {
	t.out.WriteByte('[')
	if t.accept("^") {
		t.out.WriteByte('^')
	}
	for first := true; ; first = false {
		if t.end() {
			return errors.New("unterminated character set")
		}
		if t.peek() == ']' && !first {
			t.pos++
			break
		}
		if err := t.classItem(); err != nil {
			return err
		}
	}
	t.write("]")
	return nil
}

// classItem is a character, a range, or an escape for a class.
func (t *translator) classItem() error {
	if t.out.Len() > maxClassesBytes {
		return errors.New("too many characters in sets")
	}
	low, set, err := t.classAtom()
	if err != nil {
		return err
	}
	if t.peek() != '-' || t.pos+1 < len(t.in) && t.in[t.pos+1] == ']' {
		if set != "" {
			t.out.WriteString(set)
		} else {
			t.out.WriteString(classRune(low))
		}
		return nil
	}
	t.pos++
	if t.end() {
		return errors.New("unterminated character set")
	}
	high, highSet, err := t.classAtom()
	if err != nil {
		return err
	}
	if set != "" || highSet != "" || high < low {
		return errors.New("bad character range")
	}
	t.out.WriteString(classRune(low) + "-" + classRune(high))
	return nil
}

// classAtom returns one character, or a set of them as Go writes it inside of brackets.
func (t *translator) classAtom() (rune, string, error) {
	r := t.take()
	if r != '\\' {
		return r, "", nil
	}
	switch next := t.peek(); next {
	case 'd', 'D', 's', 'S', 'w', 'W':
		t.pos++
		return 0, t.classEscape(next), nil
	case 'b':
		t.pos++
		return '\b', "", nil
	case '1', '2', '3', '4', '5', '6', '7':
		c, _, err := t.octal(1)
		return c, "", err
	}
	c, err := t.character()
	return c, "", err
}

// classRune writes a character so that it means nothing else inside of brackets.
func classRune(r rune) string { return fmt.Sprintf(`\x{%x}`, r) }

// classEscape returns what a class like \w has, as Go writes it inside of brackets.
func (t *translator) classEscape(r rune) string {
	if t.scope().ascii {
		if r == 's' { // Go's lacks the vertical tab
			return `\t-\r `
		}
		if r == 'S' {
			return `\x00-\x08\x0e-\x1f!-\x{10ffff}`
		}
		return `\` + string(r)
	}
	switch r {
	case 'd':
		return `\p{Nd}`
	case 'D':
		return `\P{Nd}`
	case 'w':
		return wordClass
	case 's':
		return spaceClass
	case 'W':
		if t.scope().fold {
			return notWordFold()
		}
		return notWord()
	}
	return notSpace()
}

// What str.isalnum and str.isspace say, and "_".
const (
	wordClass  = `_\p{L}\p{N}`
	spaceClass = `\t-\r\x1c-\x1f\x85\p{Z}`
)

// A class cannot hold the complement of several others, so that is spelled out.  Where case is ignored, Go adds to it what differs from a
// member by case only; so it must not have U+0345 there, a combining iota, or the letter iota would be no word.
var (
	notWord     = sync.OnceValue(func() string { return complement(wordClass) })
	notWordFold = sync.OnceValue(func() string { return complement(wordClass + `\x{345}`) })
	notSpace    = sync.OnceValue(func() string { return complement(spaceClass) })
)

func complement(class string) string {
	parsed, err := syntax.Parse("[^"+class+"]", syntax.Perl)
	if err != nil {
		panic(err) // a constant of ours
	}
	var b strings.Builder
	for i := 0; i+1 < len(parsed.Rune); i += 2 {
		fmt.Fprintf(&b, `\x{%x}-\x{%x}`, parsed.Rune[i], parsed.Rune[i+1])
	}
	return b.String()
}
