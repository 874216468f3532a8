package core

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Decoder reads the arguments of a method ([Method].Direct), or the result of an [Invocation], in order and without boxing them.  Errors stick:
// after the first one all values are zero.  What a type takes is what [Convert] says.
type Decoder struct {
	b       []byte // msgpack values that are not read yet, whose structure was checked
	values  []any  // in place of b, when they had to be decoded anyway
	boxed   bool   // values is used
	value   any    // in place of both
	isValue bool
	left    int // how many there are still
	pos     int // of the next one, from 0

	memory []byte // that b is part of and that whoever reads many bytes may have; nil if it is not to be given away

	method *Method // whose arguments they are; nil for a result
	name   string  // whose result it is
	err    error
}

// Int reads an int.
func (d *Decoder) Int() int {
	v := d.Int64()
	if int64(int(v)) != v {
		d.fail(fmt.Errorf("%d does not fit into int", v))
		return 0
	}
	return int(v)
}

// Int64 reads an int.
func (d *Decoder) Int64() int64 {
	if v, n := scanMsgpackInt(d.b); n > 0 && d.err == nil {
		d.take(n)
		return v
	}
	var v int64
	d.Value(&v)
	return v
}

// Uint64 reads an int.
func (d *Decoder) Uint64() uint64 {
	if v, n := scanMsgpackInt(d.b); n > 0 && v >= 0 && d.err == nil {
		d.take(n)
		return uint64(v)
	}
	var v uint64
	d.Value(&v)
	return v
}

// Float64 reads a float.
func (d *Decoder) Float64() float64 {
	if len(d.b) >= 9 && d.b[0] == 0xcb && d.err == nil {
		v := math.Float64frombits(binary.BigEndian.Uint64(d.b[1:]))
		d.take(9)
		return v
	}
	var v float64
	d.Value(&v)
	return v
}

// Bool reads a bool.
func (d *Decoder) Bool() bool {
	if len(d.b) > 0 && d.b[0]&^1 == 0xc2 && d.err == nil {
		v := d.b[0] == 0xc3
		d.take(1)
		return v
	}
	var v bool
	d.Value(&v)
	return v
}

// String reads a str.
func (d *Decoder) String() string {
	if text, n := scanMsgpackText(d.b); n > 0 && d.err == nil {
		if !utf8.Valid(text) {
			d.fail(errNotUTF8)
			return ""
		}
		v := string(text)
		d.take(n)
		return v
	}
	var v string
	d.Value(&v)
	return v
}

// Bytes reads bytes, which are the caller's own.  None is nil.
func (d *Decoder) Bytes() []byte {
	if part, n := scanMsgpackBin(d.b); n > 0 && d.err == nil {
		v := d.own(part)
		d.take(n)
		return v
	}
	var v []byte
	d.Value(&v)
	return v
}

// own returns what part holds in memory that is the caller's: a copy, or the memory that part is in if that is most of it.
func (d *Decoder) own(part []byte) []byte {
	if d.memory != nil && len(part) >= largeBytes && len(part) >= cap(d.memory)/2 {
		d.memory = nil
		return part[:len(part):len(part)]
	}
	return append([]byte{}, part...) // without clearing it first
}

// Value reads any value into the variable that out points to, as [Convert] does.
func (d *Decoder) Value(out any) {
	if d.err != nil {
		return
	}
	if d.scalar(out) {
		return
	}
	v, err := d.next()
	switch {
	case err != nil:
	case d.method == nil:
		if err := convertResult(out, d.name, v); err != nil {
			d.err = &LocalError{Executed: true, Err: err}
			return
		}
	default:
		err = convertInto(out, v)
	}
	if err != nil {
		d.fail(err)
		return
	}
	d.pos++
}

// scalar is Value for the most frequent types; false if the next value is something else.
func (d *Decoder) scalar(out any) bool {
	switch out := out.(type) {
	case *int64:
		if v, n := scanMsgpackInt(d.b); n > 0 {
			d.take(n)
			*out = v
			return true
		}
	case *int:
		if v, n := scanMsgpackInt(d.b); n > 0 && int64(int(v)) == v {
			d.take(n)
			*out = int(v)
			return true
		}
	case *string:
		if text, n := scanMsgpackText(d.b); n > 0 && utf8.Valid(text) {
			d.take(n)
			*out = string(text)
			return true
		}
	case *[]byte:
		if part, n := scanMsgpackBin(d.b); n > 0 {
			*out = d.own(part)
			d.take(n)
			return true
		}
	}
	return false
}

// More reports whether there is another value, of a variadic method for instance.
func (d *Decoder) More() bool { return d.err == nil && d.left > 0 }

// Err returns the first error: a TypeError for a caller if the values are arguments.
func (d *Decoder) Err() error { return d.err }

// next takes a value, decoded.
func (d *Decoder) next() (any, error) {
	if d.left == 0 {
		return nil, errors.New("there is no such value")
	}
	d.left--
	if d.isValue {
		return d.value, nil
	}
	if d.boxed {
		v := d.values[0]
		d.values = d.values[1:]
		return v, nil
	}
	check := msgpackCheck{data: d.b}
	if err := check.values(1, 0); err != nil {
		return nil, err
	}
	part := d.b[:check.pos]
	d.b = d.b[check.pos:]
	return msgpackSerializer{}.ParseValue(part)
}

// take is done with a value of n bytes.
func (d *Decoder) take(n int) {
	d.b = d.b[n:]
	d.left--
	d.pos++
}

func (d *Decoder) fail(err error) {
	if d.method == nil {
		d.err = &LocalError{Executed: true, Err: fmt.Errorf("core: %s: result: %w", d.name, err)}
		return
	}
	what := fmt.Sprintf("argument %d", d.pos+1)
	if d.pos < len(d.method.Params) {
		what = "argument '" + d.method.paramName(d.pos) + "'"
	}
	d.err = TypeError.New("%s() %s: %v", d.method.Name, what, err)
}

// scanMsgpackInt returns the integer at the start of b and how many bytes it has, which is 0 if there is none that fits into an int64.
func scanMsgpackInt(b []byte) (v int64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	c := b[0]
	if c < 0x80 || c >= 0xe0 {
		return int64(int8(c)), 1
	}
	if c < 0xcc || c > 0xd3 {
		return 0, 0
	}
	size := 1 << (c & 3)
	if len(b) < 1+size {
		return 0, 0
	}
	var u uint64
	for _, x := range b[1 : 1+size] {
		u = u<<8 | uint64(x)
	}
	if c >= 0xd0 {
		shift := 64 - 8*size
		return int64(u<<shift) >> shift, 1 + size
	}
	if u > math.MaxInt64 {
		return 0, 0
	}
	return int64(u), 1 + size
}

// scanMsgpackText returns the text at the start of b and how many bytes it has with its length; 0 if there is none.  It is a part of b.
func scanMsgpackText(b []byte) (text []byte, n int) {
	if len(b) == 0 {
		return nil, 0
	}
	switch c := b[0]; {
	case c&0xe0 == 0xa0:
		return sized(b, 1, uint64(c&0x1f))
	case c >= 0xd9 && c <= 0xdb:
		return scanSized(b, 1<<(c-0xd9))
	}
	return nil, 0
}

// scanMsgpackBin is scanMsgpackText for bytes.
func scanMsgpackBin(b []byte) (part []byte, n int) {
	if len(b) == 0 || b[0] < 0xc4 || b[0] > 0xc6 {
		return nil, 0
	}
	return scanSized(b, 1<<(b[0]-0xc4))
}

// scanSized reads a length of that many bytes behind the first one, and what is as long.
func scanSized(b []byte, width int) (part []byte, n int) {
	if len(b) < 1+width {
		return nil, 0
	}
	var size uint64
	for _, x := range b[1 : 1+width] {
		size = size<<8 | uint64(x)
	}
	return sized(b, 1+width, size)
}

func sized(b []byte, head int, size uint64) (part []byte, n int) {
	if size > uint64(len(b)-head) {
		return nil, 0
	}
	return b[head : head+int(size)], head + int(size)
}
