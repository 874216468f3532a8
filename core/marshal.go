package core

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"sync"
	"time"
)

// marshalSerializer is Python's marshal (Python/marshal.c) without code objects.  It writes version 2 of the format, which has no
// references and which every Python reads.
//
// Pyro5 itself writes objects of classes only as a whole value or argument; those inside of lists and dicts are written here as well,
// because Pyro5 reads them.
type marshalSerializer struct{ target }

// Types of values.  All lengths and numbers are little-endian.
const (
	marshalNull          = '0' // ends a dict
	marshalNone          = 'N'
	marshalTrue          = 'T'
	marshalFalse         = 'F'
	marshalEllipsis      = '.'
	marshalInt           = 'i' // 32 bits
	marshalInt64         = 'I'
	marshalLong          = 'l' // int32 number of digits in base 1<<15, negative as the number is
	marshalFloatText     = 'f' // uint8 length, decimal text
	marshalFloat         = 'g'
	marshalComplexText   = 'x'
	marshalComplex       = 'y'
	marshalBytes         = 's'
	marshalInterned      = 't' // UTF-8
	marshalUnicode       = 'u' // UTF-8
	marshalASCII         = 'a'
	marshalASCIIInterned = 'A'
	marshalShort         = 'z' // ASCII, uint8 length
	marshalShortInterned = 'Z'
	marshalTuple         = '('
	marshalSmallTuple    = ')' // uint8 length
	marshalList          = '['
	marshalDict          = '{'
	marshalSet           = '<'
	marshalFrozenSet     = '>'
	marshalRef           = 'r' // uint32 index
	marshalFlagRef       = 0x80
)

const marshalShift = 15 // bits of a digit of marshalLong

func (marshalSerializer) ID() uint8    { return 2 }
func (marshalSerializer) Name() string { return "marshal" }

func (s marshalSerializer) AppendRequest(dst []byte, r Request) ([]byte, error) {
	w := marshalWriter{dst, s.target}
	if err := w.request(r); err != nil {
		return dst, fmt.Errorf("core: marshal: %w", err)
	}
	return w.buf, nil
}

func (s marshalSerializer) AppendValue(dst []byte, v any) ([]byte, error) {
	w := marshalWriter{dst, s.target}
	if err := w.value(v, 0); err != nil {
		return dst, fmt.Errorf("core: marshal: %w", err)
	}
	return w.buf, nil
}

func (marshalSerializer) ParseRequest(data []byte) (Request, error) {
	v, err := parseMarshal(data)
	if err != nil {
		return Request{}, err
	}
	parts, ok := v.(Tuple)
	if !ok || len(parts) != 4 {
		return Request{}, fmt.Errorf("core: marshal: %w", errNoRequest)
	}
	r, err := newRequest(parts[0], parts[1], parts[2], parts[3])
	if err != nil {
		return Request{}, fmt.Errorf("core: marshal: %w", err)
	}
	return r, nil
}

func (marshalSerializer) ParseValue(data []byte) (any, error) { return parseMarshal(data) }

type marshalWriter struct {
	buf []byte
	target
}

func (w *marshalWriter) code(c byte)   { w.buf = append(w.buf, c) }
func (w *marshalWriter) long(n uint32) { w.buf = binary.LittleEndian.AppendUint32(w.buf, n) }

func (w *marshalWriter) request(r Request) error {
	w.code(marshalTuple)
	w.long(4)
	if err := w.text(r.Object); err != nil {
		return err
	}
	if err := w.text(r.Method); err != nil {
		return err
	}
	if err := w.items(marshalList, r.Args, 1); err != nil {
		return err
	}
	return w.textMap(r.Kwargs, 1)
}

// value writes v, which is inside of depth containers.
func (w *marshalWriter) value(v any, depth int) error {
	switch v := v.(type) {
	case nil:
		w.code(marshalNone)
	case bool:
		w.bool(v)
	case int:
		w.int(int64(v))
	case int64:
		w.int(v)
	case *big.Int:
		return w.bigInt(v)
	case float64:
		w.code(marshalFloat)
		w.double(v)
	case complex128:
		w.code(marshalComplex)
		w.double(real(v))
		w.double(imag(v))
	case string:
		return w.text(v)
	case []byte:
		return w.bytes(v)
	case Ellipsis:
		w.code(marshalEllipsis)
	case time.Time, Date:
		return fmt.Errorf("marshal has no type for %s", pythonType(v))
	case []any:
		return w.items(marshalList, v, depth)
	case Tuple:
		return w.items(marshalTuple, v, depth)
	case Set:
		return w.set(marshalSet, v, depth)
	case FrozenSet:
		return w.set(marshalFrozenSet, v, depth)
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

func (w *marshalWriter) bool(v bool) {
	if v {
		w.code(marshalTrue)
	} else {
		w.code(marshalFalse)
	}
}

func (w *marshalWriter) double(f float64) {
	w.buf = binary.LittleEndian.AppendUint64(w.buf, doubleBits(f))
}

func (w *marshalWriter) int(n int64) {
	if n == int64(int32(n)) {
		w.code(marshalInt)
		w.long(uint32(n))
		return
	}
	abs, sign := uint64(n), int32(1)
	if n < 0 {
		abs, sign = -abs, -1
	}
	w.code(marshalLong)
	w.long(0) // the number of digits, once it is known
	start := len(w.buf)
	count := int32(0)
	for ; abs != 0; abs >>= marshalShift {
		w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(abs&(1<<marshalShift-1)))
		count++
	}
	binary.LittleEndian.PutUint32(w.buf[start-4:], uint32(sign*count))
}

func (w *marshalWriter) bigInt(v *big.Int) error {
	switch {
	case v == nil:
		w.code(marshalNone)
		return nil
	case v.IsInt64():
		w.int(v.Int64())
		return nil
	}
	// Bit counts the bits of negative numbers in two's complement, digits are those of the absolute value.
	sign := v.Sign()
	v = new(big.Int).Abs(v)
	count := (v.BitLen() + marshalShift - 1) / marshalShift
	if count > math.MaxInt32 {
		return errTooLong
	}
	w.code(marshalLong)
	w.long(uint32(int32(sign * count)))
	for i := range count {
		var digit uint16
		for j := range marshalShift {
			digit |= uint16(v.Bit(i*marshalShift+j)) << j
		}
		w.buf = binary.LittleEndian.AppendUint16(w.buf, digit)
	}
	return nil
}

func (w *marshalWriter) text(s string) error {
	if !validText(s) {
		return errNotUTF8
	}
	if len(s) > math.MaxInt32 {
		return errTooLong
	}
	if len(s) < 256 && isASCII(s) {
		w.buf = append(w.buf, marshalShort, byte(len(s)))
	} else {
		w.code(marshalUnicode)
		w.long(uint32(len(s)))
	}
	w.buf = append(w.buf, s...)
	return nil
}

func (w *marshalWriter) bytes(b []byte) error {
	if b == nil {
		w.code(marshalNone)
		return nil
	}
	if len(b) > math.MaxInt32 {
		return errTooLong
	}
	w.code(marshalBytes)
	w.long(uint32(len(b)))
	w.buf = append(w.buf, b...)
	return nil
}

func (w *marshalWriter) items(code byte, items []any, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	w.code(code)
	w.long(uint32(len(items)))
	for _, v := range items {
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *marshalWriter) set(code byte, items []any, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	w.code(code)
	w.long(uint32(len(items)))
	for _, v := range items {
		if err := w.key(v, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// key writes what has to be hashable.
func (w *marshalWriter) key(k any, depth int) error {
	k, err := reduceKey(k)
	if err != nil {
		return err
	}
	return w.value(k, depth)
}

func (w *marshalWriter) textMap(m map[string]any, depth int) error {
	if m == nil {
		w.code(marshalNone)
		return nil
	}
	if err := checkContainer(len(m), depth); err != nil {
		return err
	}
	w.code(marshalDict)
	var buf [8]string
	for _, k := range appendSortedKeys(buf[:0], m) {
		if err := w.text(k); err != nil {
			return err
		}
		if err := w.value(m[k], depth+1); err != nil {
			return err
		}
	}
	w.code(marshalNull)
	return nil
}

func (w *marshalWriter) dict(d Dict, depth int) error {
	if err := checkContainer(len(d), depth); err != nil {
		return err
	}
	w.code(marshalDict)
	for _, p := range d {
		if err := w.key(p.Key, depth+1); err != nil {
			return err
		}
		if err := w.value(p.Value, depth+1); err != nil {
			return err
		}
	}
	w.code(marshalNull)
	return nil
}

// marshalReader reads from left to right.  A value is read into at most what its bytes allow: every member of a container takes
// a byte at least, and all containers together get no more members than the message has bytes.
type marshalReader struct {
	data  []byte
	pos   int
	room  int // members that containers can still have
	refs  []marshalObject
	items dictStack
	// size is that of the value so far, with references written out; sizeLimit bounds it, because a list of references to a
	// list of references to... grows exponentially for whoever walks over it.
	size, sizeLimit int
	deepest         int // containers around the innermost value so far
}

// marshalObject is what a reference can refer to.
type marshalObject struct {
	value  any
	done   bool // it is complete
	size   int
	height int // how deep it nests
}

// marshalSizeLimit is what a message may grow to by references: one unit for a value and one for a byte of text or bytes.
func marshalSizeLimit(length int) int { return 16<<20 + 16*length }

var marshalReaders = sync.Pool{New: func() any { return new(marshalReader) }}

func (r *marshalReader) free() {
	if len(r.data) > maxPooledBytes {
		return
	}
	clear(r.refs)
	clear(r.items)
	r.data, r.refs, r.items = nil, r.refs[:0], r.items[:0]
	marshalReaders.Put(r)
}

func parseMarshal(data []byte) (any, error) {
	r := marshalReaders.Get().(*marshalReader)
	defer r.free()
	*r = marshalReader{data: data, refs: r.refs, items: r.items, room: min(len(data), maxValues), sizeLimit: marshalSizeLimit(len(data))}
	v, err := r.value(0)
	if err == nil && r.pos != len(data) {
		err = errTrailing
	}
	if err != nil {
		return nil, fmt.Errorf("core: marshal: offset %d: %w", r.pos, err)
	}
	return v, nil
}

// grow counts a value of n units.
func (r *marshalReader) grow(n int) error {
	if r.size += n; r.size > r.sizeLimit {
		return fmt.Errorf("references to more than %d values and bytes", r.sizeLimit)
	}
	return nil
}

func (r *marshalReader) next(n int) ([]byte, error) {
	if n > len(r.data)-r.pos {
		return nil, errTruncated
	}
	b := r.data[r.pos : r.pos+n]
	r.pos += n
	return b, nil
}

func (r *marshalReader) byte() (byte, error) {
	b, err := r.next(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (r *marshalReader) long() (uint32, error) {
	b, err := r.next(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// sized returns as many bytes as a uint32 says.
func (r *marshalReader) sized() ([]byte, error) {
	n, err := r.long()
	if err != nil {
		return nil, err
	}
	if int64(n) > int64(len(r.data)-r.pos) {
		return nil, errTruncated
	}
	return r.next(int(n))
}

// short returns as many bytes as a uint8 says.
func (r *marshalReader) short() ([]byte, error) {
	n, err := r.byte()
	if err != nil {
		return nil, err
	}
	return r.next(int(n))
}

// value reads a value inside of depth containers.
func (r *marshalReader) value(depth int) (any, error) {
	code, err := r.byte()
	if err != nil {
		return nil, err
	}
	return r.coded(code, depth)
}

// coded reads what follows a type byte.
func (r *marshalReader) coded(code byte, depth int) (any, error) {
	if err := r.grow(1); err != nil {
		return nil, err
	}
	switch code &^ marshalFlagRef { // these are never remembered
	case marshalNone:
		return nil, nil
	case marshalTrue:
		return true, nil
	case marshalFalse:
		return false, nil
	case marshalEllipsis:
		return Ellipsis{}, nil
	case marshalRef:
		return r.reference(depth)
	}
	if code&marshalFlagRef == 0 {
		return r.object(code, depth)
	}
	// The index is that of the type byte's turn, before what the object contains.
	index, size, deepest := len(r.refs), r.size, r.deepest
	r.refs = append(r.refs, marshalObject{})
	r.deepest = depth
	v, err := r.object(code&^marshalFlagRef, depth)
	if err != nil {
		return nil, err
	}
	r.refs[index] = marshalObject{v, true, r.size - size, r.deepest - depth}
	r.deepest = max(r.deepest, deepest)
	return v, nil
}

func (r *marshalReader) reference(depth int) (any, error) {
	i, err := r.long()
	if err != nil {
		return nil, err
	}
	if int64(i) >= int64(len(r.refs)) {
		return nil, fmt.Errorf("reference to object %d of %d", i, len(r.refs))
	}
	o := r.refs[i]
	if !o.done {
		return nil, errors.New("reference to an object that contains it")
	}
	if depth+o.height > maxDepth {
		return nil, errTooDeep
	}
	r.deepest = max(r.deepest, depth+o.height)
	return o.value, r.grow(o.size)
}

func (r *marshalReader) object(code byte, depth int) (any, error) {
	switch code {
	case marshalInt:
		n, err := r.long()
		return int64(int32(n)), err
	case marshalInt64:
		b, err := r.next(8)
		if err != nil {
			return nil, err
		}
		return int64(binary.LittleEndian.Uint64(b)), nil
	case marshalLong:
		return r.bigInt()
	case marshalFloat:
		return r.float()
	case marshalFloatText:
		return r.floatText()
	case marshalComplex:
		re, err := r.float()
		if err != nil {
			return nil, err
		}
		im, err := r.float()
		return complex(re, im), err
	case marshalComplexText:
		re, err := r.floatText()
		if err != nil {
			return nil, err
		}
		im, err := r.floatText()
		return complex(re, im), err
	case marshalBytes:
		b, err := r.sized()
		if err != nil {
			return nil, err
		}
		return append([]byte{}, b...), r.grow(len(b))
	case marshalInterned, marshalUnicode, marshalASCII, marshalASCIIInterned:
		b, err := r.sized()
		return r.text(b, err, code)
	case marshalShort, marshalShortInterned:
		b, err := r.short()
		return r.text(b, err, code)
	}
	return r.container(code, depth)
}

func (r *marshalReader) text(b []byte, err error, code byte) (any, error) {
	if err != nil {
		return nil, err
	}
	s := string(b)
	unicode := code == marshalInterned || code == marshalUnicode
	if unicode && !validText(s) || !unicode && !isASCII(s) {
		return nil, errNotUTF8
	}
	return s, r.grow(len(s))
}

func (r *marshalReader) float() (float64, error) {
	b, err := r.next(8)
	if err != nil {
		return 0, err
	}
	return littleDouble(b), nil
}

func (r *marshalReader) floatText() (float64, error) {
	b, err := r.short()
	if err != nil {
		return 0, err
	}
	return parseFloat(b)
}

func (r *marshalReader) bigInt() (any, error) {
	n, err := r.long()
	if err != nil {
		return nil, err
	}
	count := int64(int32(n))
	negative := count < 0
	if negative {
		count = -count
	}
	if 2*count > int64(len(r.data)-r.pos) {
		return nil, errTruncated
	}
	digits, err := r.next(2 * int(count))
	if err != nil {
		return nil, err
	}
	v, err := marshalDigits(digits)
	if err != nil {
		return nil, err
	}
	if negative {
		v.Neg(v)
	}
	return intValue(v), r.grow(len(digits))
}

// marshalDigits makes an integer of digits in base 1<<15, the least significant first.
func marshalDigits(digits []byte) (*big.Int, error) {
	if n := len(digits); n > 0 && digits[n-1] == 0 && digits[n-2] == 0 {
		return nil, errors.New("integer with a zero in front")
	}
	b := make([]byte, len(digits)) // big-endian, filled from the end
	end := len(b)
	acc, bits := uint32(0), 0
	for i := 0; i < len(digits); i += 2 {
		d := uint32(binary.LittleEndian.Uint16(digits[i:]))
		if d >= 1<<marshalShift {
			return nil, fmt.Errorf("digit %d of an integer, want less than %d", d, 1<<marshalShift)
		}
		acc |= d << bits
		for bits += marshalShift; bits >= 8; bits -= 8 {
			end--
			b[end] = byte(acc)
			acc >>= 8
		}
	}
	if bits > 0 && acc != 0 {
		end--
		b[end] = byte(acc)
	}
	return new(big.Int).SetBytes(b[end:]), nil
}

func (r *marshalReader) container(code byte, depth int) (any, error) {
	if depth == maxDepth {
		return nil, errTooDeep
	}
	depth++
	r.deepest = max(r.deepest, depth)
	switch code {
	case marshalTuple:
		n, err := r.long()
		items, err := r.members(n, err, depth)
		return Tuple(items), err
	case marshalSmallTuple:
		n, err := r.byte()
		items, err := r.members(uint32(n), err, depth)
		return Tuple(items), err
	case marshalList:
		n, err := r.long()
		return r.members(n, err, depth)
	case marshalSet:
		items, err := r.hashables(depth)
		return Set(items), err
	case marshalFrozenSet:
		items, err := r.hashables(depth)
		return FrozenSet(items), err
	case marshalDict:
		return r.dict(depth)
	}
	return nil, fmt.Errorf("unknown type %q", code)
}

// members reads n values, unless reading n itself failed.
func (r *marshalReader) members(n uint32, err error, depth int) ([]any, error) {
	if err != nil {
		return nil, err
	}
	if int64(n) > int64(len(r.data)-r.pos) {
		return nil, errTruncated
	}
	if err := r.reserve(int(n)); err != nil {
		return nil, err
	}
	items := make([]any, n)
	for i := range items {
		if items[i], err = r.value(depth); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// reserve takes room for n members.
func (r *marshalReader) reserve(n int) error {
	if r.room -= n; r.room >= 0 {
		return nil
	}
	if len(r.data) > maxValues {
		return errTooMany
	}
	return errTruncated
}

func (r *marshalReader) hashables(depth int) ([]any, error) {
	n, err := r.long()
	items, err := r.members(n, err, depth)
	if err != nil {
		return nil, err
	}
	for _, v := range items {
		if err := checkHashable(v); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (r *marshalReader) dict(depth int) (any, error) {
	start := len(r.items)
	for {
		code, err := r.byte()
		if err != nil {
			return nil, err
		}
		if code == marshalNull {
			return r.items.take(start)
		}
		if err := r.reserve(2); err != nil {
			return nil, err
		}
		key, err := r.coded(code, depth)
		if err == nil {
			err = checkHashable(key)
		}
		if err != nil {
			return nil, err
		}
		v, err := r.value(depth)
		if err != nil {
			return nil, err
		}
		r.items.push(key, v)
	}
}
