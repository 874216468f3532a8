package core

import (
	"fmt"
	"math"
)

// Tuple begins a tuple of n values, which are those written next.  It is how a method has several results.
func (e *Encoder) Tuple(n int) {
	e.n += 1 - n
	if b, ok := e.s.(*boxing); ok {
		b.tuple = make(Tuple, 0, n)
		b.value = b.tuple
		return
	}
	e.b = appendMsgpackArrayHeader(e.b, n)
}

// Tuple begins to read a tuple or list of n values, which are those read next.  Another number of them is an error.
func (d *Decoder) Tuple(n int) {
	if d.err != nil {
		return
	}
	if count, size := scanMsgpackArray(d.b); size > 0 {
		if count != n {
			d.fail(errTupleLen(count, n))
			return
		}
		d.b = d.b[size:]
		d.left += n - 1
		return
	}
	v, err := d.next()
	if err != nil {
		d.fail(err)
		return
	}
	list, ok := sequence(v)
	switch {
	case !ok:
		d.fail(fmt.Errorf("got %s, want a tuple of %d values", pythonType(v), n))
	case len(list) != n:
		d.fail(errTupleLen(len(list), n))
	default:
		d.values = append(list[:n:n], d.values...)
		d.boxed, d.isValue = true, false
		d.left += n
	}
}

func errTupleLen(got, want int) error { return fmt.Errorf("got %d values, want %d", got, want) }

// scanMsgpackArray returns how many values the array at the start of b has, and how many bytes that takes; 0 if there is none.
func scanMsgpackArray(b []byte) (count, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	width := 0
	switch c := b[0]; {
	case c&0xf0 == 0x90:
		return int(c & 0x0f), 1
	case c == 0xdc:
		width = 2
	case c == 0xdd:
		width = 4
	}
	if width == 0 || len(b) < 1+width {
		return 0, 0
	}
	var n uint64
	for _, x := range b[1 : 1+width] {
		n = n<<8 | uint64(x)
	}
	return int(min(n, math.MaxInt32)), 1 + width
}
