package core

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// xmlSerializer writes a value as an element of its type; containers hold elements, those of a dict in pairs of key and value:
//
//	<tuple><str>text</str><int>5</int><dict><str>key</str><list><none/><true/></list></dict></tuple>
//
// No Python knows it: it is for Go programs whose messages people or other tools should read.  Every type of docs/values.md keeps its type,
// and times their zone and nanoseconds.  A reader refuses all of XML but elements, text, comments and character references: in
// particular document types, and with them entities.
type xmlSerializer struct{ target }

// xmlID is the serializer's id on the wire, which Pyro has not given to another.
const xmlID = 88

const xmlBase64 = "base64" // the value of attribute xmlEncoding
const xmlEncoding = "encoding"

func (xmlSerializer) ID() uint8    { return xmlID }
func (xmlSerializer) Name() string { return "xml" }

func (s xmlSerializer) AppendRequest(dst []byte, r Request) ([]byte, error) {
	var kwargs any
	if r.Kwargs != nil {
		kwargs = r.Kwargs
	}
	return s.AppendValue(dst, Tuple{r.Object, r.Method, r.Args, kwargs})
}

func (s xmlSerializer) AppendValue(dst []byte, v any) ([]byte, error) {
	w := xmlWriter{dst, s.target}
	if err := w.value(v, 0); err != nil {
		return dst, fmt.Errorf("core: xml: %w", err)
	}
	return w.buf, nil
}

func (xmlSerializer) ParseRequest(data []byte) (Request, error) {
	v, err := parseXML(data)
	if err != nil {
		return Request{}, err
	}
	parts, ok := v.(Tuple)
	if !ok || len(parts) != 4 {
		return Request{}, fmt.Errorf("core: xml: %w", errNoRequest)
	}
	r, err := newRequest(parts[0], parts[1], parts[2], parts[3])
	if err != nil {
		return Request{}, fmt.Errorf("core: xml: %w", err)
	}
	return r, nil
}

func (xmlSerializer) ParseValue(data []byte) (any, error) { return parseXML(data) }

type xmlWriter struct {
	buf []byte
	target
}

// Write lets xml.EscapeText append to buf.
func (w *xmlWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

func (w *xmlWriter) raw(s string) { w.buf = append(w.buf, s...) }

func (w *xmlWriter) empty(name string) error {
	w.raw("<" + name + "/>")
	return nil
}

func (w *xmlWriter) element(name, text string) error {
	w.raw("<" + name + ">" + text + "</" + name + ">")
	return nil
}

// value writes v, which is inside of depth containers.
func (w *xmlWriter) value(v any, depth int) error {
	switch v := v.(type) {
	case nil:
		return w.empty("none")
	case bool:
		return w.empty(strconv.FormatBool(v))
	case int:
		return w.element("int", strconv.Itoa(v))
	case int64:
		return w.element("int", strconv.FormatInt(v, 10))
	case *big.Int:
		return w.bigInt(v)
	case float64:
		return w.element("float", strconv.FormatFloat(v, 'g', -1, 64))
	case complex128:
		return w.element("complex", strconv.FormatFloat(real(v), 'g', -1, 64)+" "+strconv.FormatFloat(imag(v), 'g', -1, 64))
	case string:
		return w.text(v)
	case []byte:
		return w.bytes(v)
	case time.Time:
		return w.time(v)
	case Date:
		text, err := isoDate(v)
		if err != nil {
			return err
		}
		return w.element("date", text)
	case Ellipsis:
		return w.empty("ellipsis")
	case []any:
		return w.items("list", v, depth)
	case Tuple:
		return w.items("tuple", v, depth)
	case Set:
		return w.set("set", v, depth)
	case FrozenSet:
		return w.set("frozenset", v, depth)
	case map[string]any:
		if v == nil {
			return w.empty("none")
		}
		return w.dict(sortedItems(v), depth)
	case Dict:
		return w.dict(v, depth)
	}
	reduced, err := w.reduce(v)
	if err != nil {
		return err
	}
	return w.value(reduced, depth)
}

func (w *xmlWriter) bigInt(v *big.Int) (err error) {
	if v == nil {
		return w.empty("none")
	}
	w.raw("<int>")
	w.buf, err = appendBigInt(w.buf, v)
	w.raw("</int>")
	return err
}

// text writes a str; as base64 if it has characters that XML cannot have.
func (w *xmlWriter) text(s string) error {
	if !isXMLText(s) {
		if !validText(s) {
			return errNotUTF8
		}
		w.raw(`<str encoding="base64">`)
		w.buf = base64.StdEncoding.AppendEncode(w.buf, []byte(s))
	} else {
		w.raw("<str>")
		if err := xml.EscapeText(w, []byte(s)); err != nil {
			return err
		}
	}
	w.raw("</str>")
	return nil
}

// isXMLText reports whether s has only characters of XML 1.0, section 2.2.
func isXMLText(s string) bool {
	for i, r := range s {
		switch {
		case r == '\t', r == '\n', r == '\r', r >= ' ' && r < 0xfffd, r > 0xffff:
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (w *xmlWriter) bytes(b []byte) error {
	if b == nil {
		return w.empty("none")
	}
	w.raw("<bytes>")
	w.buf = base64.StdEncoding.AppendEncode(w.buf, b)
	w.raw("</bytes>")
	return nil
}

func (w *xmlWriter) time(t time.Time) error {
	if y := t.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("time %v is not in the years 1 to 9999", t)
	}
	text := wholeMinutes(t).Format(time.RFC3339Nano)
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
		return fmt.Errorf("time %v has a zone that cannot be expressed", t)
	}
	return w.element("datetime", text)
}

func (w *xmlWriter) items(name string, items []any, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	w.raw("<" + name + ">")
	for _, v := range items {
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	w.raw("</" + name + ">")
	return nil
}

func (w *xmlWriter) set(name string, items []any, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	w.raw("<" + name + ">")
	for _, v := range items {
		if err := w.key(v, depth+1); err != nil {
			return err
		}
	}
	w.raw("</" + name + ">")
	return nil
}

// key writes what has to be hashable.
func (w *xmlWriter) key(k any, depth int) error {
	k, err := reduceKey(k)
	if err != nil {
		return err
	}
	return w.value(k, depth)
}

func (w *xmlWriter) dict(d Dict, depth int) error {
	if err := checkContainer(len(d), depth); err != nil {
		return err
	}
	w.raw("<dict>")
	for _, p := range d {
		if err := w.key(p.Key, depth+1); err != nil {
			return err
		}
		if err := w.value(p.Value, depth+1); err != nil {
			return err
		}
	}
	w.raw("</dict>")
	return nil
}

type xmlReader struct {
	dec   *xml.Decoder
	count int // of values so far
	items dictStack
}

func parseXML(data []byte) (any, error) {
	r := &xmlReader{dec: xml.NewDecoder(bytes.NewReader(data))}
	v, err := r.document()
	if err != nil {
		return nil, fmt.Errorf("core: xml: offset %d: %w", r.dec.InputOffset(), err)
	}
	return v, nil
}

func (r *xmlReader) document() (any, error) {
	start, err := r.next()
	if err != nil {
		return nil, err
	}
	if start == nil {
		return nil, errTruncated
	}
	v, err := r.value(*start, 0)
	if err != nil {
		return nil, err
	}
	for {
		switch token, err := r.dec.Token(); {
		case errors.Is(err, io.EOF):
			return v, nil
		case err != nil:
			return nil, err
		case !isXMLBlank(token):
			return nil, errTrailing
		}
	}
}

// next returns the next element in a container, or nil at its end.
func (r *xmlReader) next() (*xml.StartElement, error) {
	for {
		token, err := r.token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return &t, nil
		case xml.EndElement:
			return nil, nil
		}
		if !isXMLBlank(token) {
			return nil, errors.New("text between elements")
		}
	}
}

// token returns a token of a kind that is allowed.
func (r *xmlReader) token() (xml.Token, error) {
	token, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		return nil, errTruncated
	}
	switch token.(type) {
	case xml.Directive:
		return nil, errors.New("document types are not allowed")
	case xml.ProcInst:
		return nil, errors.New("processing instructions are not allowed")
	}
	return token, err
}

func isXMLBlank(token xml.Token) bool {
	switch t := token.(type) {
	case xml.Comment:
		return true
	case xml.CharData:
		return len(bytes.TrimLeft(t, " \t\r\n")) == 0
	}
	return false
}

// value reads an element that began, and is inside of depth containers.
func (r *xmlReader) value(start xml.StartElement, depth int) (any, error) {
	if r.count++; r.count > maxValues {
		return nil, errTooMany
	}
	encoded := len(start.Attr) == 1 && start.Name.Local == "str" && start.Attr[0] == xml.Attr{Name: xml.Name{Local: xmlEncoding}, Value: xmlBase64}
	if start.Name.Space != "" || len(start.Attr) > 0 && !encoded {
		return nil, fmt.Errorf("element %.40q has attributes or a name space", start.Name.Local)
	}
	switch start.Name.Local {
	case "list", "tuple", "set", "frozenset", "dict":
		if depth == maxDepth {
			return nil, errTooDeep
		}
		return r.container(start.Name.Local, depth+1)
	}
	text, err := r.text()
	if err != nil {
		return nil, err
	}
	if encoded {
		return xmlEncodedText(text)
	}
	return xmlScalar(start.Name.Local, text)
}

// text reads the rest of an element that contains no other.
func (r *xmlReader) text() (string, error) {
	var b strings.Builder
	for {
		token, err := r.token()
		if err != nil {
			return "", err
		}
		switch t := token.(type) {
		case xml.EndElement:
			return b.String(), nil
		case xml.CharData:
			b.Write(t)
		case xml.StartElement:
			return "", fmt.Errorf("element %.40q in one that has text", t.Name.Local)
		}
	}
}

func xmlEncodedText(text string) (any, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	if !validText(string(b)) {
		return nil, errNotUTF8
	}
	return string(b), nil
}

func xmlScalar(name, text string) (any, error) {
	switch name {
	case "str":
		return text, nil
	case "int":
		return parseInt([]byte(text))
	case "float":
		return parseFloat([]byte(text))
	case "complex":
		re, im, _ := strings.Cut(text, " ")
		x, err1 := parseFloat([]byte(re))
		y, err2 := parseFloat([]byte(im))
		return complex(x, y), errors.Join(err1, err2)
	case "bytes":
		return base64.StdEncoding.AppendDecode([]byte{}, []byte(text))
	case "datetime":
		return xmlTime(text)
	case "date":
		t, err := time.Parse(time.DateOnly, text)
		if err != nil || t.Year() < 1 {
			return nil, fmt.Errorf("%s is no date", excerpt([]byte(text)))
		}
		return Date{t.Year(), t.Month(), t.Day()}, nil
	}
	if text != "" {
		return nil, fmt.Errorf("text in element %.40q", name)
	}
	switch name {
	case "none":
		return nil, nil
	case "true", "false":
		return name == "true", nil
	case "ellipsis":
		return Ellipsis{}, nil
	}
	return nil, fmt.Errorf("unknown element %.40q", name)
}

func xmlTime(text string) (any, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return nil, fmt.Errorf("%s is no time", excerpt([]byte(text)))
	}
	return t, nil
}

// container reads the elements of a container, which is at depth.
func (r *xmlReader) container(name string, depth int) (any, error) {
	if name == "dict" {
		return r.dict(depth)
	}
	items := []any{}
	for {
		start, err := r.next()
		if err != nil {
			return nil, err
		}
		if start == nil {
			break
		}
		v, err := r.value(*start, depth)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	switch name {
	case "list":
		return items, nil
	case "tuple":
		return Tuple(items), nil
	}
	for _, v := range items {
		if err := checkHashable(v); err != nil {
			return nil, err
		}
	}
	if name == "set" {
		return Set(items), nil
	}
	return FrozenSet(items), nil
}

func (r *xmlReader) dict(depth int) (any, error) {
	begin := len(r.items)
	for {
		start, err := r.next()
		if err != nil {
			return nil, err
		}
		if start == nil {
			return r.items.take(begin)
		}
		key, err := r.value(*start, depth)
		if err == nil {
			err = checkHashable(key)
		}
		if err != nil {
			return nil, err
		}
		if start, err = r.next(); err != nil {
			return nil, err
		}
		if start == nil {
			return nil, errors.New("key without a value")
		}
		v, err := r.value(*start, depth)
		if err != nil {
			return nil, err
		}
		r.items.push(key, v)
	}
}
