package core

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonSerializer is JSON as Python's json module reads and writes it: with NaN, Infinity and -Infinity, and with integers of any size
// that are not floats.  That is why it is not encoding/json.
type jsonSerializer struct{ target }

func (jsonSerializer) ID() uint8    { return 3 }
func (jsonSerializer) Name() string { return "json" }

func (s jsonSerializer) AppendRequest(dst []byte, r Request) ([]byte, error) {
	w := jsonWriter{dst, s.target}
	if err := w.request(r); err != nil {
		return dst, fmt.Errorf("core: json: %w", err)
	}
	return w.buf, nil
}

func (s jsonSerializer) AppendValue(dst []byte, v any) ([]byte, error) {
	w := jsonWriter{dst, s.target}
	if err := w.value(v, 0); err != nil {
		return dst, fmt.Errorf("core: json: %w", err)
	}
	return w.buf, nil
}

func (jsonSerializer) ParseRequest(data []byte) (Request, error) {
	v, err := parseJSON(data)
	if err != nil {
		return Request{}, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return Request{}, fmt.Errorf("core: json: %w", errNoRequest)
	}
	r, err := newRequest(m["object"], m["method"], m["params"], m["kwargs"])
	if err != nil {
		return Request{}, fmt.Errorf("core: json: %w", err)
	}
	return r, nil
}

func (jsonSerializer) ParseValue(data []byte) (any, error) { return parseJSON(data) }

type jsonWriter struct {
	buf []byte
	target
}

func (w *jsonWriter) raw(s string) { w.buf = append(w.buf, s...) }

func (w *jsonWriter) request(r Request) error {
	w.raw(`{"object": `)
	if err := w.text(r.Object); err != nil {
		return err
	}
	w.raw(`, "method": `)
	if err := w.text(r.Method); err != nil {
		return err
	}
	w.raw(`, "params": `)
	if err := w.list(r.Args, 1); err != nil {
		return err
	}
	w.raw(`, "kwargs": `)
	if err := w.textMap(r.Kwargs, 1); err != nil {
		return err
	}
	w.raw("}")
	return nil
}

// value writes v, which is inside of depth containers.
func (w *jsonWriter) value(v any, depth int) error {
	switch v := v.(type) {
	case nil:
		w.raw("null")
	case bool:
		w.buf = strconv.AppendBool(w.buf, v)
	case int:
		w.buf = strconv.AppendInt(w.buf, int64(v), 10)
	case int64:
		w.buf = strconv.AppendInt(w.buf, v, 10)
	case float64:
		w.float(v)
	case *big.Int:
		return w.bigInt(v)
	case string:
		return w.text(v)
	case []any:
		return w.list(v, depth)
	case Tuple:
		return w.list(v, depth)
	case Set:
		return w.list(v, depth)
	case FrozenSet:
		return w.list(v, depth)
	case map[string]any:
		return w.textMap(v, depth)
	case Dict:
		return w.dict(v, depth)
	case time.Time:
		return w.iso(isoTime(v))
	case Date:
		return w.iso(isoDate(v))
	case []byte:
		if v != nil {
			return fmt.Errorf("json has no type for %s", pythonType(v))
		}
		w.raw("null")
	case complex128, Ellipsis:
		return fmt.Errorf("json has no type for %s", pythonType(v))
	default:
		reduced, err := w.reduce(v)
		if err != nil {
			return err
		}
		return w.value(reduced, depth)
	}
	return nil
}

func (w *jsonWriter) bigInt(v *big.Int) (err error) {
	if v == nil {
		w.raw("null")
		return nil
	}
	w.buf, err = appendBigInt(w.buf, v)
	return err
}

func (w *jsonWriter) float(f float64) {
	switch {
	case math.IsNaN(f):
		w.raw("NaN")
	case math.IsInf(f, 1):
		w.raw("Infinity")
	case math.IsInf(f, -1):
		w.raw("-Infinity")
	default:
		w.buf = appendFloat(w.buf, f)
	}
}

func (w *jsonWriter) iso(s string, err error) error {
	if err != nil {
		return err
	}
	return w.text(s)
}

func (w *jsonWriter) text(s string) error {
	if !utf8.ValidString(s) {
		return errNotUTF8
	}
	w.buf = append(w.buf, '"')
	start := 0
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			w.raw(s[start:i])
			w.escape(c)
			start = i + 1
		}
	}
	w.raw(s[start:])
	w.buf = append(w.buf, '"')
	return nil
}

func (w *jsonWriter) escape(c byte) {
	const letters = "btnvfr" // of 8 to 13; there is none for 11
	switch {
	case c == '"', c == '\\':
		w.buf = append(w.buf, '\\', c)
	case c >= 8 && c <= 13 && c != 11:
		w.buf = append(w.buf, '\\', letters[c-8])
	default:
		w.buf = fmt.Appendf(w.buf, `\u%04x`, c)
	}
}

func (w *jsonWriter) list(items []any, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	w.raw("[")
	for i, v := range items {
		if i > 0 {
			w.raw(", ")
		}
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	w.raw("]")
	return nil
}

func (w *jsonWriter) textMap(m map[string]any, depth int) error {
	if m == nil {
		w.raw("null")
		return nil
	}
	if err := checkContainer(len(m), depth); err != nil {
		return err
	}
	w.raw("{")
	var buf [8]string
	for i, k := range appendSortedKeys(buf[:0], m) {
		if i > 0 {
			w.raw(", ")
		}
		if err := w.text(k); err != nil {
			return err
		}
		w.raw(": ")
		if err := w.value(m[k], depth+1); err != nil {
			return err
		}
	}
	w.raw("}")
	return nil
}

func (w *jsonWriter) dict(d Dict, depth int) error {
	if err := checkContainer(len(d), depth); err != nil {
		return err
	}
	w.raw("{")
	for i, p := range d {
		if i > 0 {
			w.raw(", ")
		}
		if err := w.key(p.Key); err != nil {
			return err
		}
		w.raw(": ")
		if err := w.value(p.Value, depth+1); err != nil {
			return err
		}
	}
	w.raw("}")
	return nil
}

// key writes the key of a dict as text, as Python does.
func (w *jsonWriter) key(k any) error {
	k, err := reduceKey(k)
	if err != nil {
		return err
	}
	switch k := k.(type) {
	case string:
		return w.text(k)
	case nil, bool, int64, float64, *big.Int:
		w.raw(`"`)
		err := w.value(k, 0)
		w.raw(`"`)
		return err
	}
	return fmt.Errorf("json cannot express %s as the key of a dict", pythonType(k))
}

type jsonReader struct{ *textReader }

func parseJSON(data []byte) (any, error) {
	if err := checkText(data); err != nil {
		return nil, fmt.Errorf("core: json: %w", err)
	}
	r := jsonReader{newTextReader(data)}
	defer r.free()
	v, err := r.value(0)
	if err == nil {
		if r.blanks(); r.pos != len(data) {
			err = errTrailing
		}
	}
	if err != nil {
		return nil, fmt.Errorf("core: json: offset %d: %w", r.pos, err)
	}
	return v, nil
}

func (r jsonReader) blanks() {
	for c := r.at(0); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = r.at(0) {
		r.pos++
	}
}

var jsonWords = []struct {
	word  string
	value any
}{
	{"null", nil}, {"true", true}, {"false", false},
	{"NaN", math.NaN()}, {"Infinity", math.Inf(1)}, {"-Infinity", math.Inf(-1)},
}

func (r jsonReader) value(depth int) (any, error) {
	if err := r.one(); err != nil {
		return nil, err
	}
	r.blanks()
	c := r.at(0)
	switch {
	case c == '"':
		return r.string()
	case c == '[':
		return r.array(depth)
	case c == '{':
		return r.object(depth)
	case isDigit(c), c == '-' && isDigit(r.at(1)):
		return r.number()
	}
	for _, w := range jsonWords {
		if bytes.HasPrefix(r.data[r.pos:], []byte(w.word)) {
			r.pos += len(w.word)
			return w.value, nil
		}
	}
	return nil, r.unexpected()
}

func (r jsonReader) array(depth int) (any, error) {
	if depth == maxDepth {
		return nil, errTooDeep
	}
	r.pos++
	if r.blanks(); r.accept(']') {
		return emptyList, nil
	}
	start := len(r.list)
	for {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		r.list = append(r.list, v)
		if r.blanks(); r.accept(']') {
			return r.takeList(start), nil
		}
		if !r.accept(',') {
			return nil, r.unexpected()
		}
	}
}

func (r jsonReader) object(depth int) (any, error) {
	if depth == maxDepth {
		return nil, errTooDeep
	}
	r.pos++
	if r.blanks(); r.accept('}') {
		return map[string]any{}, nil
	}
	start := len(r.items)
	for {
		if err := r.item(depth); err != nil {
			return nil, err
		}
		if r.blanks(); r.accept('}') {
			return r.items.take(start)
		}
		if !r.accept(',') {
			return nil, r.unexpected()
		}
	}
}

func (r jsonReader) item(depth int) error {
	if r.blanks(); r.at(0) != '"' {
		return r.unexpected()
	}
	name, err := r.string()
	if err != nil {
		return err
	}
	if r.blanks(); !r.accept(':') {
		return r.unexpected()
	}
	v, err := r.value(depth + 1)
	r.items.pushNamed(name, v)
	return err
}

func (r jsonReader) number() (any, error) {
	start := r.pos
	r.accept('-')
	if !r.accept('0') {
		r.digits()
	}
	float := false
	if r.at(0) == '.' && isDigit(r.at(1)) {
		float = true
		r.pos++
		r.digits()
	}
	if r.atExponent() {
		float = true
		r.pos += 2
		r.digits()
	}
	if float {
		return parseFloat(r.data[start:r.pos])
	}
	return parseInt(r.data[start:r.pos])
}

func (r jsonReader) digits() {
	for isDigit(r.at(0)) {
		r.pos++
	}
}

func (r jsonReader) string() (string, error) {
	r.pos++
	r.text = r.text[:0]
	for start := r.pos; r.pos < len(r.data); {
		switch c := r.data[r.pos]; {
		case c == '"':
			s := r.data[start:r.pos]
			r.pos++
			if len(r.text) == 0 {
				return string(s), nil
			}
			return string(append(r.text, s...)), nil
		case c == '\\':
			r.text = append(r.text, r.data[start:r.pos]...)
			r.pos++
			if err := r.unescape(); err != nil {
				return "", err
			}
			start = r.pos
		case c < ' ':
			return "", r.unexpected()
		default:
			r.pos++
		}
	}
	return "", errTruncated
}

// unescape reads what follows a backslash.
func (r jsonReader) unescape() error {
	const escapes, values = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	c := r.at(0)
	if i := bytes.IndexByte([]byte(escapes), c); i >= 0 && c != 0 {
		r.text = append(r.text, values[i])
		r.pos++
		return nil
	}
	if c != 'u' {
		return r.unexpected()
	}
	r.pos++
	v, err := r.hex(4)
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(v) {
		if r.at(0) != '\\' || r.at(1) != 'u' {
			return errSurrogate
		}
		r.pos += 2
		low, err := r.hex(4)
		if err != nil {
			return err
		}
		if v = utf16.DecodeRune(v, low); v == utf8.RuneError {
			return errSurrogate
		}
	}
	r.text = utf8.AppendRune(r.text, v)
	return nil
}
