package core

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// serpentSerializer is https://github.com/irmen/Serpent: the text of a Python literal.  It writes what serpent 1.43 writes, and
// reads what Python's ast.literal_eval reads, except that line breaks are blanks everywhere, that a tuple needs its parentheses,
// and that \N{...} is refused.
type serpentSerializer struct{ target }

// serpentHeader begins every message.
const serpentHeader = "# serpent utf-8 python3.2\n"

func (serpentSerializer) ID() uint8    { return 1 }
func (serpentSerializer) Name() string { return "serpent" }

func (s serpentSerializer) AppendRequest(dst []byte, r Request) ([]byte, error) {
	w := serpentWriter{buf: append(dst, serpentHeader...), target: s.target}
	if err := w.request(r); err != nil {
		return dst, fmt.Errorf("core: serpent: %w", err)
	}
	return w.buf, nil
}

func (s serpentSerializer) AppendValue(dst []byte, v any) ([]byte, error) {
	w := serpentWriter{buf: append(dst, serpentHeader...), target: s.target}
	if err := w.value(v, 0); err != nil {
		return dst, fmt.Errorf("core: serpent: %w", err)
	}
	return w.buf, nil
}

func (serpentSerializer) ParseRequest(data []byte) (Request, error) {
	v, err := parseSerpent(data)
	if err != nil {
		return Request{}, err
	}
	parts, ok := v.(Tuple)
	if !ok || len(parts) != 4 {
		return Request{}, fmt.Errorf("core: serpent: %w", errNoRequest)
	}
	r, err := newRequest(parts[0], parts[1], parts[2], parts[3])
	if err != nil {
		return Request{}, fmt.Errorf("core: serpent: %w", err)
	}
	return r, nil
}

func (serpentSerializer) ParseValue(data []byte) (any, error) { return parseSerpent(data) }

// serpentWriter appends Python literals to buf.
type serpentWriter struct {
	buf []byte
	// hashed is how many keys of dicts and sets the writer is inside of, where bytes cannot be a dict of base64.
	hashed int
	target
}

func (w *serpentWriter) raw(s string) { w.buf = append(w.buf, s...) }

func (w *serpentWriter) request(r Request) error {
	w.raw("(")
	if err := w.text(r.Object); err != nil {
		return err
	}
	w.raw(",")
	if err := w.text(r.Method); err != nil {
		return err
	}
	w.raw(",")
	if err := w.arguments(r); err != nil {
		return err
	}
	w.raw(",")
	if err := w.textMap(r.Kwargs, 1); err != nil {
		return err
	}
	w.raw(")")
	return nil
}

// arguments writes a tuple, but the list that Pyro5 makes of the calls of a batch.
func (w *serpentWriter) arguments(r Request) error {
	if r.Method == "<batch>" {
		return w.sequence("[", r.Args, "]", 1)
	}
	return w.tuple(r.Args, 1)
}

// value writes v, which is inside of depth brackets.
func (w *serpentWriter) value(v any, depth int) error {
	switch v := v.(type) {
	case nil:
		w.raw("None")
	case bool:
		w.bool(v)
	case int:
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
	case int64:
		w.buf = strconv.AppendInt(w.buf, v, 10)
	case *big.Int:
		return w.bigInt(v)
	case float64:
		return w.float(v, depth)
	case complex128:
		return w.complex(v, depth)
	case string:
		return w.text(v)
	case []byte:
		return w.bytes(v, depth)
	case time.Time:
		return w.iso(isoTime(v))
	case Date:
		return w.iso(isoDate(v))
	case Ellipsis:
		w.raw("...")
	case Tuple:
		return w.tuple(v, depth)
	case []any:
		return w.sequence("[", v, "]", depth)
	case Set:
		return w.set(v, depth)
	case FrozenSet:
		return w.set(v, depth)
	case map[string]any:
		return w.textMap(v, depth)
	case Dict:
		return w.dict(v, depth)
	default:
		reduced, err := w.reduce(v)
		if err != nil {
			return err
		}
		return w.value(reduced, depth)
	}
	return nil
}

func (w *serpentWriter) bool(v bool) {
	if v {
		w.raw("True")
	} else {
		w.raw("False")
	}
}

func (w *serpentWriter) bigInt(v *big.Int) (err error) {
	if v == nil {
		w.raw("None")
		return nil
	}
	w.buf, err = appendBigInt(w.buf, v)
	return err
}

func (w *serpentWriter) float(f float64, depth int) error {
	switch {
	case math.IsNaN(f): // there is no literal
		w.raw("{'__class__':'float','value':'nan'}")
		return checkContainer(2, depth)
	case math.IsInf(f, 1):
		w.raw("1e30000")
	case math.IsInf(f, -1):
		w.raw("-1e30000")
	default:
		w.buf = appendFloat(w.buf, f)
	}
	return nil
}

func (w *serpentWriter) complex(c complex128, depth int) error {
	if err := checkContainer(2, depth); err != nil {
		return err
	}
	if math.IsNaN(real(c)) || math.IsNaN(imag(c)) {
		return w.dict(Dict{{classKey, "complex"}, {"real", real(c)}, {"imag", imag(c)}}, depth)
	}
	w.raw("(")
	if err := w.float(real(c), depth); err != nil {
		return err
	}
	if !math.Signbit(imag(c)) {
		w.raw("+")
	}
	if err := w.float(imag(c), depth); err != nil {
		return err
	}
	w.raw("j)")
	return nil
}

func (w *serpentWriter) iso(s string, err error) error {
	if err != nil {
		return err
	}
	return w.text(s)
}

// bytes writes the dict that serpent makes of bytes; where a dict cannot be, a literal.
func (w *serpentWriter) bytes(b []byte, depth int) error {
	switch {
	case b == nil:
		w.raw("None")
	case w.hashed > 0:
		w.byteLiteral(b)
	default:
		w.raw("{'data': '")
		w.buf = base64.StdEncoding.AppendEncode(w.buf, b)
		w.raw("', 'encoding': 'base64'}")
		return checkContainer(2, depth)
	}
	return nil
}

func (w *serpentWriter) byteLiteral(b []byte) {
	w.raw("b'")
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			w.buf = fmt.Appendf(w.buf, `\x%02x`, c)
		} else {
			w.buf = append(w.buf, c)
		}
	}
	w.raw("'")
}

// text writes a str as Python's repr does.
func (w *serpentWriter) text(s string) error {
	quote, plain := byte('\''), true
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\'':
			quote = '"'
		case c == '"', c == '\\', c < ' ', c > '~':
			plain = false
		}
	}
	if plain {
		w.buf = append(append(append(w.buf, quote), s...), quote)
		return nil
	}
	if !validText(s) {
		return errNotUTF8
	}
	if quote == '"' && hasByte(s, '"') {
		quote = '\''
	}
	w.buf = append(w.buf, quote)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 { // validText left but one reason
			r, n = rune(s[1]&0x3f)<<6|rune(s[2]&0x3f)|0xd000, 3
		}
		w.char(r, quote)
		s = s[n:]
	}
	w.buf = append(w.buf, quote)
	return nil
}

func hasByte(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

func (w *serpentWriter) char(r rune, quote byte) {
	switch {
	case r == rune(quote), r == '\\':
		w.buf = append(w.buf, '\\', byte(r))
	case r == '\n':
		w.raw(`\n`)
	case r == '\r':
		w.raw(`\r`)
	case r == '\t':
		w.raw(`\t`)
	case unicode.IsPrint(r):
		w.buf = utf8.AppendRune(w.buf, r)
	case r < 0x100:
		w.buf = fmt.Appendf(w.buf, `\x%02x`, r)
	case r < 0x10000:
		w.buf = fmt.Appendf(w.buf, `\u%04x`, r)
	default:
		w.buf = fmt.Appendf(w.buf, `\U%08x`, r)
	}
}

func (w *serpentWriter) tuple(items []any, depth int) error {
	if len(items) == 1 {
		return w.sequence("(", items, ",)", depth)
	}
	return w.sequence("(", items, ")", depth)
}

// set writes the members of a set, of which there is no empty literal.
func (w *serpentWriter) set(items []any, depth int) error {
	if w.hashed > 0 {
		return errors.New("serpent cannot express frozenset as the key of a dict or in a set")
	}
	if len(items) == 0 {
		return w.tuple(nil, depth)
	}
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	for i, v := range items {
		w.separate("{", i)
		if err := w.key(v, depth+1); err != nil {
			return err
		}
	}
	w.raw("}")
	return nil
}

// key writes what has to be hashable.
func (w *serpentWriter) key(k any, depth int) error {
	k, err := reduceKey(k)
	if err != nil {
		return err
	}
	w.hashed++
	err = w.value(k, depth)
	w.hashed--
	return err
}

// separate writes what comes before item i: the bracket or a comma.
func (w *serpentWriter) separate(open string, i int) {
	if i > 0 {
		open = ","
	}
	w.raw(open)
}

func (w *serpentWriter) sequence(open string, items []any, end string, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	if len(items) == 0 {
		w.raw(open)
	}
	for i, v := range items {
		w.separate(open, i)
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	w.raw(end)
	return nil
}

func (w *serpentWriter) textMap(m map[string]any, depth int) error {
	if m == nil {
		w.raw("None")
		return nil
	}
	if err := checkContainer(len(m), depth); err != nil {
		return err
	}
	if len(m) == 0 {
		w.raw("{")
	}
	var buf [8]string
	for i, k := range appendSortedKeys(buf[:0], m) {
		w.separate("{", i)
		if err := w.text(k); err != nil {
			return err
		}
		w.raw(":")
		if err := w.value(m[k], depth+1); err != nil {
			return err
		}
	}
	w.raw("}")
	return nil
}

func (w *serpentWriter) dict(d Dict, depth int) error {
	if err := checkContainer(len(d), depth); err != nil {
		return err
	}
	if len(d) == 0 {
		w.raw("{")
	}
	for i, p := range d {
		w.separate("{", i)
		if err := w.key(p.Key, depth+1); err != nil {
			return err
		}
		w.raw(":")
		if err := w.value(p.Value, depth+1); err != nil {
			return err
		}
	}
	w.raw("}")
	return nil
}
