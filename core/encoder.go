package core

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// Encoder writes the arguments of an [Invocation], or the result of a method ([Method].Direct), one value after the other and without boxing
// them.  Errors stick: the first one fails the call.
type Encoder struct {
	b   []byte
	n   int        // values so far
	s   Serializer // nil is msgpack
	err error

	daemon *Daemon // whose objects become proxies; nil for none

	large []byte // belongs into b at offset cut, and is not copied
	cut   int
}

// largeBytes is the length from which bytes are sent from, or received into, the memory of who has them.
const largeBytes = 32 << 10

// Int writes an int.
func (e *Encoder) Int(v int) { e.Int64(int64(v)) }

// Int64 writes an int.
func (e *Encoder) Int64(v int64) {
	if e.s != nil {
		e.value(v)
		return
	}
	e.n++
	e.b = appendMsgpackInt(e.b, v)
}

// Uint64 writes an int.
func (e *Encoder) Uint64(v uint64) {
	if e.s != nil {
		e.value(v)
		return
	}
	e.n++
	e.b = appendMsgpackUint(e.b, v)
}

// Float64 writes a float.
func (e *Encoder) Float64(v float64) {
	if e.s != nil {
		e.value(v)
		return
	}
	e.n++
	e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcb), doubleBits(v))
}

// Bool writes a bool.
func (e *Encoder) Bool(v bool) {
	if e.s != nil {
		e.value(v)
		return
	}
	e.n++
	if v {
		e.b = append(e.b, 0xc3)
	} else {
		e.b = append(e.b, 0xc2)
	}
}

// Nil writes None.
func (e *Encoder) Nil() {
	if e.s != nil {
		e.value(nil)
		return
	}
	e.n++
	e.b = append(e.b, 0xc0)
}

// String writes a str.  Text that is not UTF-8 is an error.
func (e *Encoder) String(v string) {
	if e.s != nil || !utf8.ValidString(v) || uint64(len(v)) > math.MaxUint32 {
		e.value(v)
		return
	}
	e.n++
	e.b = appendMsgpackText(e.b, v)
}

// Bytes writes bytes; nil is None.  Many bytes are sent from where they are: arguments must not change until the call is over, and what a
// method returned not at all.
func (e *Encoder) Bytes(v []byte) {
	if e.s != nil || v == nil || uint64(len(v)) > math.MaxUint32 {
		e.value(v)
		return
	}
	e.n++
	if len(v) >= largeBytes && e.large == nil {
		e.b = appendMsgpackBinHeader(e.b, len(v))
		e.large, e.cut = v, len(e.b)
		return
	}
	e.b = append(appendMsgpackBinHeader(grown(e.b, len(v)+5), len(v)), v...)
}

// Value writes any value that serializers take.
func (e *Encoder) Value(v any) {
	switch v := v.(type) {
	case []byte:
		e.Bytes(v)
	case string:
		e.String(v)
	case int:
		e.Int(v)
	case int64:
		e.Int64(v)
	case float64:
		e.Float64(v)
	case bool:
		e.Bool(v)
	default:
		e.value(v)
	}
}

func (e *Encoder) value(v any) {
	e.n++
	var err error
	if e.s != nil {
		e.b, err = e.s.AppendValue(e.b, v)
	} else {
		e.b, err = msgpackSerializer{target{daemon: e.daemon}}.AppendValue(e.b, v)
	}
	if err != nil {
		e.fail(err)
	}
}

func (e *Encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

// join copies the large bytes to where they belong.
func (e *Encoder) join() {
	if e.large != nil {
		e.b = slices.Insert(grown(e.b, len(e.large)), e.cut, e.large...)
		e.large = nil
	}
}

// Err returns the first error.
func (e *Encoder) Err() error { return e.err }

// boxing is what an Encoder keeps a value with, rather than to encode it.
type boxing struct {
	Serializer
	value any
	tuple Tuple // that is being written; nil if there is none
}

func (b *boxing) AppendValue(dst []byte, v any) ([]byte, error) {
	if b.tuple != nil {
		b.tuple = append(b.tuple, v)
		b.value = b.tuple
		return dst, nil
	}
	b.value = v
	return dst, nil
}

// errResultCount is a Direct that did not write one result.
func errResultCount(m *Method, n int) error {
	return fmt.Errorf("core: %s wrote %d results, want one (several are a Tuple)", m.Name, n)
}

func appendMsgpackInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendMsgpackUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return append(b, 0xd1, byte(v>>8), byte(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

func appendMsgpackUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return append(b, 0xcd, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func appendMsgpackText(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = append(b, 0xda, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func appendMsgpackBinHeader(b []byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, 0xc4, byte(n))
	case n <= math.MaxUint16:
		return append(b, 0xc5, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
}

func appendMsgpackArrayHeader(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, 0x90|byte(n))
	case n <= math.MaxUint16:
		return append(b, 0xdc, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}
