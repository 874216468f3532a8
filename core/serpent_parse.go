package core

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"unicode/utf8"
)

// serpentReader reads Python literals (The Python Language Reference, chapters 2 "Lexical analysis" and 6.2 "Atoms").
type serpentReader struct{ *textReader }

func parseSerpent(data []byte) (any, error) {
	if err := checkText(data); err != nil {
		return nil, fmt.Errorf("core: serpent: %w", err)
	}
	r := serpentReader{newTextReader(data)}
	defer r.free()
	v, err := r.value(0)
	if err == nil {
		if r.blanks(); r.pos != len(data) {
			err = errTrailing
		}
	}
	if err != nil {
		return nil, fmt.Errorf("core: serpent: offset %d: %w", r.pos, err)
	}
	return v, nil
}

// blanks skips blanks, line breaks, joined lines and comments.
func (r serpentReader) blanks() {
	for {
		switch c := r.at(0); {
		case c == ' ', c == '\t', c == '\n', c == '\r', c == '\f':
			r.pos++
		case c == '\\' && r.at(1) == '\n':
			r.pos += 2
		case c == '\\' && r.at(1) == '\r' && r.at(2) == '\n':
			r.pos += 3
		case c == '#':
			if n := bytes.IndexByte(r.data[r.pos:], '\n'); n >= 0 {
				r.pos += n
			} else {
				r.pos = len(r.data)
			}
		default:
			return
		}
	}
}

// value reads an expression: a signed atom, or the sum of a real and an imaginary number.
func (r serpentReader) value(depth int) (any, error) {
	if err := r.one(); err != nil {
		return nil, err
	}
	v, err := r.signed(depth)
	if err != nil {
		return nil, err
	}
	r.blanks()
	sign := r.at(0)
	if sign != '+' && sign != '-' {
		return v, nil
	}
	re, ok := floatOf(v)
	if !ok {
		return nil, r.unexpected()
	}
	r.pos++
	r.blanks()
	im, err := r.atom(depth)
	if err != nil {
		return nil, err
	}
	c, ok := im.(complex128)
	if !ok || real(c) != 0 {
		return nil, errors.New("a sum is only allowed of a real and an imaginary number")
	}
	if sign == '-' {
		return complex(re, -imag(c)), nil
	}
	return complex(re, imag(c)), nil
}

// signed reads an atom, which is a number if there is a sign before it.
func (r serpentReader) signed(depth int) (any, error) {
	r.blanks()
	sign := r.at(0)
	if sign != '+' && sign != '-' {
		return r.atom(depth)
	}
	r.pos++
	r.blanks()
	v, err := r.atom(depth)
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case int64, *big.Int, float64, complex128:
		if sign == '+' {
			return v, nil
		}
		return negate(v), nil
	}
	return nil, fmt.Errorf("sign before %s", pythonType(v))
}

func negate(v any) any {
	switch v := v.(type) {
	case int64:
		if v == math.MinInt64 {
			return new(big.Int).Neg(big.NewInt(v))
		}
		return -v
	case *big.Int:
		return intValue(new(big.Int).Neg(v))
	case float64:
		return -v
	}
	return -v.(complex128)
}

func (r serpentReader) atom(depth int) (any, error) {
	c := r.at(0)
	switch {
	case c == '\'', c == '"':
		return r.strings()
	case isDigit(c), c == '.' && isDigit(r.at(1)):
		return r.number()
	case c == '.' && r.at(1) == '.' && r.at(2) == '.':
		r.pos += 3
		return Ellipsis{}, nil
	case c == '(', c == '[', c == '{':
		return r.bracket(c, depth)
	}
	return r.name()
}

func (r serpentReader) bracket(c byte, depth int) (any, error) {
	if depth == maxDepth {
		return nil, errTooDeep
	}
	r.pos++
	switch c {
	case '(':
		return r.parenthesis(depth + 1)
	case '[':
		start := len(r.list)
		if _, err := r.elements(']', depth+1); err != nil {
			return nil, err
		}
		if len(r.list) == start {
			return emptyList, nil
		}
		return r.takeList(start), nil
	}
	return r.brace(depth + 1)
}

// elements reads values and commas onto the list, up to the bracket that ends them.  It returns how many commas there were.
func (r serpentReader) elements(end byte, depth int) (commas int, err error) {
	for {
		if r.blanks(); r.accept(end) {
			return commas, nil
		}
		v, err := r.value(depth)
		if err != nil {
			return 0, err
		}
		r.list = append(r.list, v)
		if r.blanks(); r.accept(end) {
			return commas, nil
		}
		if !r.accept(',') {
			return 0, r.unexpected()
		}
		commas++
	}
}

// parenthesis reads a tuple, or a value in parentheses.
func (r serpentReader) parenthesis(depth int) (any, error) {
	start := len(r.list)
	commas, err := r.elements(')', depth)
	switch {
	case err != nil:
		return nil, err
	case len(r.list) == start:
		return emptyTuple, nil
	case commas == 0:
		return r.takeList(start)[0], nil
	}
	return Tuple(r.takeList(start)), nil
}

// brace reads a dict or a set.
func (r serpentReader) brace(depth int) (any, error) {
	if r.blanks(); r.accept('}') {
		return map[string]any{}, nil
	}
	first, err := r.hashable(depth)
	if err != nil {
		return nil, err
	}
	if r.blanks(); r.accept(':') {
		return r.dict(first, depth)
	}
	return r.set(first, depth)
}

func (r serpentReader) hashable(depth int) (any, error) {
	v, err := r.value(depth)
	if err != nil {
		return nil, err
	}
	return v, checkHashable(v)
}

// dict reads on after the first key and its colon.
func (r serpentReader) dict(key any, depth int) (any, error) {
	start := len(r.items)
	for {
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		r.items.push(key, v)
		done, err := r.next('}')
		if err != nil {
			return nil, err
		}
		if done {
			d, err := r.items.take(start)
			return serpentClass(d), err
		}
		if key, err = r.hashable(depth); err != nil {
			return nil, err
		}
		if r.blanks(); !r.accept(':') {
			return nil, r.unexpected()
		}
	}
}

// set reads on after the first member.
func (r serpentReader) set(v any, depth int) (any, error) {
	start := len(r.list)
	for {
		r.list = append(r.list, v)
		done, err := r.next('}')
		if err != nil {
			return nil, err
		}
		if done {
			return Set(r.takeList(start)), nil
		}
		if v, err = r.hashable(depth); err != nil {
			return nil, err
		}
	}
}

// next reads what comes after an item: the end, perhaps after a comma, or a comma.
func (r serpentReader) next(end byte) (done bool, err error) {
	if r.blanks(); r.accept(end) {
		return true, nil
	}
	if !r.accept(',') {
		return false, r.unexpected()
	}
	r.blanks()
	return r.accept(end), nil
}

// serpentClass turns the dicts that serpent writes for numbers without a literal into these.
func serpentClass(v any) any {
	c, ok := v.(ClassDict)
	if !ok {
		return v
	}
	switch {
	case c.Class == "float" && c.Attrs["value"] == "nan" && len(c.Attrs) == 1:
		return math.NaN()
	case c.Class == "complex" && len(c.Attrs) == 2:
		re, ok1 := c.Attrs["real"].(float64)
		im, ok2 := c.Attrs["imag"].(float64)
		if ok1 && ok2 {
			return complex(re, im)
		}
	}
	return v
}

// name reads a constant, the empty set, or a string with a prefix.
func (r serpentReader) name() (any, error) {
	n := 0
	for isNameByte(r.at(n)) {
		n++
	}
	name := r.data[r.pos : r.pos+n]
	if q := r.at(n); q == '\'' || q == '"' {
		return r.strings()
	}
	switch string(name[:min(n, 8)]) { // all are shorter
	case "":
		return nil, r.unexpected()
	case "None":
		r.pos += n
		return nil, nil
	case "True", "False":
		r.pos += n
		return n == len("True"), nil
	case "set":
		r.pos += n
		return r.emptySet()
	}
	return nil, fmt.Errorf("%s is no literal", excerpt(name))
}

func (r serpentReader) emptySet() (any, error) {
	for _, c := range []byte("()") {
		if r.blanks(); !r.accept(c) {
			return nil, r.unexpected()
		}
	}
	return Set{}, nil
}

func isNameByte(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c >= utf8.RuneSelf
}

func (r serpentReader) number() (any, error) {
	if c := r.at(1) | 0x20; r.at(0) == '0' && (c == 'x' || c == 'o' || c == 'b') {
		return r.based()
	}
	start := r.pos
	float := r.at(0) == '.'
	ok := float || r.digits()
	if r.accept('.') {
		float = true
		ok = (!isDigit(r.at(0)) || r.digits()) && ok
	}
	if r.atExponent() {
		float = true
		r.pos++
		_ = r.accept('+') || r.accept('-')
		ok = r.digits() && ok
	}
	literal := r.data[start:r.pos]
	imaginary := r.accept('j') || r.accept('J')
	if !ok || isNameByte(r.at(0)) {
		return nil, fmt.Errorf("%s is no number", excerpt(r.data[start:min(r.pos+1, len(r.data))]))
	}
	if bytes.IndexByte(literal, '_') >= 0 {
		literal = bytes.ReplaceAll(literal, []byte("_"), nil)
	}
	if !float && !imaginary {
		return serpentInt(literal)
	}
	f, err := parseFloat(literal)
	if err != nil || !imaginary {
		return f, err
	}
	return complex(0, f), nil
}

// serpentInt is an integer without a sign; zeros in front are only allowed for zero.
func serpentInt(digits []byte) (any, error) {
	if digits[0] == '0' && len(bytes.Trim(digits, "0")) > 0 {
		return nil, fmt.Errorf("%s is no number: zeros in front", excerpt(digits))
	}
	return parseInt(digits)
}

// digits skips digits and single underscores between them; false if there are none, or underscores elsewhere.
func (r serpentReader) digits() bool {
	ok := isDigit(r.at(0))
	for isDigit(r.at(0)) || r.at(0) == '_' {
		if r.at(0) == '_' && !isDigit(r.at(1)) {
			ok = false
		}
		r.pos++
	}
	return ok
}

// based reads an integer in base 16, 8 or 2.
func (r serpentReader) based() (any, error) {
	start := r.pos
	r.pos += 2
	for isNameByte(r.at(0)) {
		r.pos++
	}
	text := r.data[start:r.pos]
	if len(text) > 2*maxIntBits {
		return nil, errIntTooLong
	}
	n, ok := new(big.Int).SetString(string(text), 0) // its syntax is Python's
	if !ok {
		return nil, fmt.Errorf("%s is no number", excerpt(text))
	}
	if n.BitLen() > maxIntBits {
		return nil, errIntTooLong
	}
	return intValue(n), nil
}

// strings reads string literals, which are one if nothing is between them.
func (r serpentReader) strings() (any, error) {
	r.text = r.text[:0]
	isBytes, err := r.literal()
	if err != nil {
		return nil, err
	}
	for {
		r.blanks()
		if !r.atString() {
			break
		}
		b, err := r.literal()
		if err != nil {
			return nil, err
		}
		if b != isBytes {
			return nil, errors.New("bytes and text cannot be joined")
		}
	}
	if isBytes {
		return append([]byte{}, r.text...), nil
	}
	return string(r.text), nil
}

// atString reports whether a string comes next.
func (r serpentReader) atString() bool {
	n := 0
	for n < 3 && strings.IndexByte("uUrRbB", r.at(n)) >= 0 && r.at(n) != 0 {
		n++
	}
	return r.at(n) == '\'' || r.at(n) == '"'
}

// literal appends one string literal to text.
func (r serpentReader) literal() (isBytes bool, err error) {
	var raw bool
	start := r.pos
	for r.at(0) != '\'' && r.at(0) != '"' {
		r.pos++
	}
	switch strings.ToLower(string(r.data[start:min(r.pos, start+3)])) { // all are shorter
	case "", "u":
	case "r":
		raw = true
	case "b":
		isBytes = true
	case "rb", "br":
		raw, isBytes = true, true
	default:
		return false, fmt.Errorf("%s is no prefix of a string", excerpt(r.data[start:r.pos]))
	}
	quote := r.data[r.pos : r.pos+1]
	if r.at(1) == quote[0] && r.at(2) == quote[0] {
		quote = r.data[r.pos : r.pos+3]
	}
	r.pos += len(quote)
	return isBytes, r.content(quote, raw, isBytes)
}

// content appends what is between quotes to text.
func (r serpentReader) content(quote []byte, raw, isBytes bool) error {
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		switch {
		case c == quote[0] && bytes.HasPrefix(r.data[r.pos:], quote):
			r.pos += len(quote)
			return nil
		case c == 0:
			return r.unexpected()
		case c == '\n' || c == '\r':
			if len(quote) == 1 {
				return errors.New("line break in a string")
			}
			r.newline()
			r.text = append(r.text, '\n')
		case c == '\\':
			if err := r.backslash(raw, isBytes); err != nil {
				return err
			}
		case c >= utf8.RuneSelf && isBytes:
			return errors.New("bytes literal with other than ASCII characters")
		default:
			n := r.plain()
			r.text = append(r.text, r.data[r.pos:r.pos+n]...)
			r.pos += n
		}
	}
	return errTruncated
}

// plain returns how many bytes come up to the next, perhaps beyond this one, that may mean something else than itself.
func (r serpentReader) plain() int {
	for i, c := range r.data[r.pos+1:] {
		if c == '\'' || c == '"' || c == '\\' || c < ' ' || c >= utf8.RuneSelf {
			return i + 1
		}
	}
	return len(r.data) - r.pos
}

// newline skips a line break of any kind.
func (r serpentReader) newline() {
	if r.accept('\r') {
		r.accept('\n')
		return
	}
	r.pos++
}

// backslash reads an escape sequence.
func (r serpentReader) backslash(raw, isBytes bool) error {
	r.pos++
	c := r.at(0)
	if c == '\n' || c == '\r' {
		if raw {
			r.text = append(r.text, '\\', '\n')
		}
		r.newline()
		return nil
	}
	if c == 0 {
		return r.unexpected()
	}
	if raw {
		r.text = append(r.text, '\\')
		if c == '\\' || c == '\'' || c == '"' {
			r.text = append(r.text, c)
			r.pos++
		}
		return nil
	}
	return r.escape(c, isBytes)
}

func (r serpentReader) escape(c byte, isBytes bool) error {
	const escapes, values = "\\'\"abfnrtv", "\\'\"\a\b\f\n\r\t\v"
	if i := strings.IndexByte(escapes, c); i >= 0 {
		r.text = append(r.text, values[i])
		r.pos++
		return nil
	}
	switch {
	case '0' <= c && c <= '7':
		return r.char(r.octal(), isBytes)
	case c == 'x':
		return r.hexEscape(2, isBytes)
	case c == 'u' && !isBytes:
		return r.hexEscape(4, false)
	case c == 'U' && !isBytes:
		return r.hexEscape(8, false)
	case c == 'N' && !isBytes:
		return errors.New(`escapes by name, \N{...}, are not supported`)
	}
	r.text = append(r.text, '\\') // an unknown escape stands for itself
	return nil
}

func (r serpentReader) octal() rune {
	var v rune
	for i := 0; i < 3 && '0' <= r.at(0) && r.at(0) <= '7'; i++ {
		v = v<<3 | rune(r.at(0)-'0')
		r.pos++
	}
	return v
}

func (r serpentReader) hexEscape(n int, isBytes bool) error {
	r.pos++
	v, err := r.hex(n)
	if err != nil {
		return err
	}
	return r.char(v, isBytes)
}

// char appends the byte or character that an escape stands for.
func (r serpentReader) char(v rune, isBytes bool) error {
	switch {
	case isBytes:
		r.text = append(r.text, byte(v))
	case v >= 0xd800 && v < 0xe000:
		r.text = appendSurrogate(r.text, v)
	case v < 0 || v > utf8.MaxRune:
		return fmt.Errorf("no character has the number %#x", uint32(v))
	default:
		r.text = utf8.AppendRune(r.text, v)
	}
	return nil
}
