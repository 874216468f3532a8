package core

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// What serpent and json, the formats made of text, have in common.

// textReader is the state of reading a text from left to right.
type textReader struct {
	data  []byte
	pos   int
	count int       // of values so far
	list  []any     // of the lists that are not complete; nested ones share it
	items dictStack // of the dicts that are not complete
	text  []byte    // the string that is being read, if it has escapes
}

var textReaders = sync.Pool{New: func() any { return new(textReader) }}

func newTextReader(data []byte) *textReader {
	r := textReaders.Get().(*textReader)
	r.data, r.pos, r.count = data, 0, 0
	return r
}

func (r *textReader) free() {
	if len(r.data) > maxPooledBytes {
		return
	}
	clear(r.list)
	clear(r.items)
	r.data, r.list, r.items, r.text = nil, r.list[:0], r.items[:0], r.text[:0]
	textReaders.Put(r)
}

// at returns the byte at pos+i; 0, which no text contains, beyond the end.
func (r *textReader) at(i int) byte {
	if r.pos+i < len(r.data) {
		return r.data[r.pos+i]
	}
	return 0
}

// accept skips c if that is next.
func (r *textReader) accept(c byte) bool {
	if r.at(0) != c || r.pos == len(r.data) {
		return false
	}
	r.pos++
	return true
}

// one counts a value.
func (r *textReader) one() error {
	if r.count++; r.count > maxValues {
		return errTooMany
	}
	return nil
}

// takeList removes the items from start on and returns a slice of their own.
func (r *textReader) takeList(start int) []any {
	items := make([]any, len(r.list)-start)
	copy(items, r.list[start:])
	clear(r.list[start:])
	r.list = r.list[:start]
	return items
}

// checkText says why data cannot be read as text at all.
func checkText(data []byte) error {
	if !utf8.Valid(data) {
		return errNotUTF8
	}
	return nil
}

// excerpt quotes the beginning of b for an error text.
func excerpt(b []byte) string { return strconv.Quote(string(b[:min(len(b), 40)])) }

// unexpected describes what is at the position of r.
func (r *textReader) unexpected() error {
	if r.pos >= len(r.data) {
		return errTruncated
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	return fmt.Errorf("unexpected %q", c)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// atExponent reports whether the exponent of a number comes next.
func (r *textReader) atExponent() bool {
	sign := r.at(1)
	return r.at(0)|0x20 == 'e' && (isDigit(sign) || (sign == '+' || sign == '-') && isDigit(r.at(2)))
}

// hex returns the number of n hexadecimal digits, which it skips.
func (r *textReader) hex(n int) (rune, error) {
	if len(r.data)-r.pos < n {
		return 0, errTruncated
	}
	v, err := strconv.ParseUint(string(r.data[r.pos:r.pos+n]), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("escape with %q, want %d hexadecimal digits", r.data[r.pos:r.pos+n], n)
	}
	r.pos += n
	return rune(v), nil
}

// parseFloat is Python's float of a literal: what is too large is an infinity.
func parseFloat(text []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%s is no number", excerpt(text))
	}
	return f, nil
}

// appendFloat appends a finite f as Python's repr does: the shortest text that is read as f, which always looks like a float.
func appendFloat(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	if abs != 0 && (abs < 1e-4 || abs >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if f == math.Trunc(f) {
		dst = append(dst, '.', '0')
	}
	return dst
}

// isoTime is datetime.isoformat of a time with a zone.
func isoTime(t time.Time) (string, error) {
	if y := t.Year(); y < 1 || y > 9999 {
		return "", fmt.Errorf("time %v is not in the years 1 to 9999", t)
	}
	t = wholeMinutes(t)
	if t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02T15:04:05-07:00"), nil
	}
	return t.Format("2006-01-02T15:04:05.000000-07:00"), nil
}

// wholeMinutes returns t in a zone whose offset the text of a time can express: that of t, or else UTC.
func wholeMinutes(t time.Time) time.Time {
	if _, offset := t.Zone(); offset%60 != 0 {
		return t.UTC()
	}
	return t
}

func isoDate(d Date) (string, error) {
	if err := checkDate(d); err != nil {
		return "", err
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day), nil
}
