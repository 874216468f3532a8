package core

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/big"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Extension types of Pyro5's MsgpackSerializer.
const (
	msgpackComplex = 0x30 // two doubles, little-endian
	msgpackLong    = 0x31 // an integer beyond 64 bits in decimal
	msgpackTime    = 0x32 // seconds since 1970 as a double, little-endian
	msgpackDate    = 0x33 // date.toordinal as a C long, little-endian: 8 bytes, or 4 from Windows
)

// msgpackSerializer is https://github.com/msgpack/msgpack/blob/master/spec.md with Pyro's extension types.
type msgpackSerializer struct{ target }

func (msgpackSerializer) ID() uint8    { return 4 }
func (msgpackSerializer) Name() string { return "msgpack" }

func (s msgpackSerializer) AppendRequest(dst []byte, r Request) ([]byte, error) {
	w := newMsgpackWriter(dst, s.target)
	defer w.free()
	if err := w.request(r); err != nil {
		return dst, fmt.Errorf("core: msgpack: %w", err)
	}
	return w.buf, nil
}

func (s msgpackSerializer) AppendValue(dst []byte, v any) ([]byte, error) {
	w := newMsgpackWriter(dst, s.target)
	defer w.free()
	if err := w.value(v, 0); err != nil {
		return dst, fmt.Errorf("core: msgpack: %w", err)
	}
	return w.buf, nil
}

func (msgpackSerializer) ParseRequest(data []byte) (Request, error) {
	var req Request
	r, err := newMsgpackReader(data)
	if err == nil {
		defer r.free()
		req, err = r.request()
	}
	if err != nil {
		return Request{}, fmt.Errorf("core: msgpack: %w", err)
	}
	return req, nil
}

func (msgpackSerializer) ParseValue(data []byte) (any, error) {
	var v any
	r, err := newMsgpackReader(data)
	if err == nil {
		defer r.free()
		v, err = r.value()
	}
	if err != nil {
		return nil, fmt.Errorf("core: msgpack: %w", err)
	}
	return v, nil
}

// msgpackWriter is where an encoder writes to: the end of buf.
type msgpackWriter struct {
	buf []byte
	enc *msgpack.Encoder
	target
}

var msgpackWriters = sync.Pool{New: func() any {
	w := new(msgpackWriter)
	w.enc = msgpack.NewEncoder(w)
	return w
}}

func newMsgpackWriter(dst []byte, t target) *msgpackWriter {
	w := msgpackWriters.Get().(*msgpackWriter)
	w.buf, w.target = dst, t
	return w
}

func (w *msgpackWriter) free() {
	w.buf = nil
	msgpackWriters.Put(w)
}

// Write implements io.Writer.
func (w *msgpackWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

// WriteByte implements io.ByteWriter.
func (w *msgpackWriter) WriteByte(c byte) error {
	w.buf = append(w.buf, c)
	return nil
}

func (w *msgpackWriter) request(r Request) error {
	w.enc.EncodeArrayLen(4) // w never fails, and so the encoder does not
	if err := w.text(r.Object); err != nil {
		return err
	}
	if err := w.text(r.Method); err != nil {
		return err
	}
	if err := w.list(r.Args, 1); err != nil {
		return err
	}
	if r.Kwargs == nil {
		return w.enc.EncodeNil()
	}
	return w.textMap(r.Kwargs, 1)
}

// value writes v, which is inside of depth containers.
func (w *msgpackWriter) value(v any, depth int) error {
	switch v := v.(type) {
	case nil:
		return w.enc.EncodeNil()
	case bool:
		return w.enc.EncodeBool(v)
	case int:
		return w.enc.EncodeInt(int64(v))
	case int64:
		return w.enc.EncodeInt(v)
	case *big.Int:
		return w.bigInt(v)
	case float64:
		return w.enc.EncodeFloat64(math.Float64frombits(doubleBits(v)))
	case complex128:
		return w.complex(v)
	case string:
		return w.text(v)
	case []byte:
		if uint64(len(v)) > math.MaxUint32 {
			return errTooLong
		}
		return w.enc.EncodeBytes(v)
	case time.Time:
		return w.time(v)
	case Date:
		return w.date(v)
	case Ellipsis:
		return fmt.Errorf("msgpack has no type for %s", pythonType(v))
	case []any:
		return w.list(v, depth)
	case Tuple:
		return w.list(v, depth)
	case Set:
		return w.list(v, depth)
	case FrozenSet:
		return w.list(v, depth)
	case map[string]any:
		if v == nil {
			return w.enc.EncodeNil()
		}
		return w.textMap(v, depth)
	case Dict:
		return w.dict(v, depth)
	case BytesAppender:
		return w.bytesOf(v)
	}
	reduced, err := w.reduce(v)
	if err != nil {
		return err
	}
	return w.value(reduced, depth)
}

func (w *msgpackWriter) text(s string) error {
	if !utf8.ValidString(s) {
		return errNotUTF8
	}
	if uint64(len(s)) > math.MaxUint32 {
		return errTooLong
	}
	return w.enc.EncodeString(s)
}

// bytesOf writes what v appends as bytes, whose length is known only then.
func (w *msgpackWriter) bytesOf(v BytesAppender) error {
	const head = 5
	w.buf = append(w.buf, byte(msgpcode.Bin32), 0, 0, 0, 0)
	start := len(w.buf)
	w.buf = v.AppendBytes(w.buf)
	n := len(w.buf) - start
	if uint64(n) > math.MaxUint32 {
		return errTooLong
	}
	binary.BigEndian.PutUint32(w.buf[start-head+1:], uint32(n))
	return nil
}

func (w *msgpackWriter) bigInt(v *big.Int) error {
	switch {
	case v == nil:
		return w.enc.EncodeNil()
	case v.IsInt64():
		return w.enc.EncodeInt(v.Int64())
	case v.IsUint64():
		return w.enc.EncodeUint(v.Uint64())
	}
	digits, err := appendBigInt(nil, v)
	if err != nil {
		return err
	}
	w.enc.EncodeExtHeader(msgpackLong, len(digits))
	w.buf = append(w.buf, digits...)
	return nil
}

func (w *msgpackWriter) complex(v complex128) error {
	w.enc.EncodeExtHeader(msgpackComplex, 16)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, doubleBits(real(v)))
	w.buf = binary.LittleEndian.AppendUint64(w.buf, doubleBits(imag(v)))
	return nil
}

func (w *msgpackWriter) time(t time.Time) error {
	seconds, err := epochSeconds(t)
	if err != nil {
		return err
	}
	w.enc.EncodeExtHeader(msgpackTime, 8)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, math.Float64bits(seconds))
	return nil
}

func (w *msgpackWriter) date(d Date) error {
	if err := checkDate(d); err != nil {
		return err
	}
	w.enc.EncodeExtHeader(msgpackDate, 8)
	w.buf = binary.LittleEndian.AppendUint64(w.buf, uint64(dateOrdinal(d)))
	return nil
}

func (w *msgpackWriter) list(items []any, depth int) error {
	if err := checkContainer(len(items), depth); err != nil {
		return err
	}
	w.enc.EncodeArrayLen(len(items))
	for _, v := range items {
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *msgpackWriter) textMap(m map[string]any, depth int) error {
	if err := checkContainer(len(m), depth); err != nil {
		return err
	}
	w.enc.EncodeMapLen(len(m))
	var buf [8]string
	for _, k := range appendSortedKeys(buf[:0], m) {
		if err := w.text(k); err != nil {
			return err
		}
		if err := w.value(m[k], depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *msgpackWriter) dict(d Dict, depth int) error {
	if err := checkContainer(len(d), depth); err != nil {
		return err
	}
	w.enc.EncodeMapLen(len(d))
	for _, p := range d {
		if err := w.key(p.Key, depth+1); err != nil {
			return err
		}
		if err := w.value(p.Value, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// key writes the key of a dict: a scalar, because arrays are read as lists, which are no keys in Python.
func (w *msgpackWriter) key(k any, depth int) error {
	k, err := reduceKey(k)
	if err != nil {
		return err
	}
	switch k.(type) {
	case Tuple, FrozenSet:
		return fmt.Errorf("msgpack cannot express %s as the key of a dict", pythonType(k))
	}
	return w.value(k, depth)
}

// msgpackReader decodes a message that was checked.
type msgpackReader struct {
	data  []byte
	src   bytes.Reader
	dec   *msgpack.Decoder
	items dictStack

	object, method string // of the request before, which the next one often repeats
}

var msgpackReaders = sync.Pool{New: func() any {
	r := new(msgpackReader)
	r.dec = msgpack.NewDecoder(&r.src)
	return r
}}

// newMsgpackReader checks data before anything is decoded: the decoder allocates what a length claims, and recurses as deep as
// the data nests.
func newMsgpackReader(data []byte) (*msgpackReader, error) {
	check := msgpackCheck{data: data}
	if err := check.values(1, 0); err != nil {
		return nil, fmt.Errorf("offset %d: %w", check.pos, err)
	}
	if check.pos != len(data) {
		return nil, fmt.Errorf("offset %d: %w", check.pos, errTrailing)
	}
	r := msgpackReaders.Get().(*msgpackReader)
	r.data = data
	r.src.Reset(data)
	return r, nil
}

func (r *msgpackReader) free() {
	if len(r.data) > maxPooledBytes {
		return // the decoder has a buffer as large as the longest text
	}
	r.data = nil
	r.src.Reset(nil)
	clear(r.items)
	r.items = r.items[:0]
	msgpackReaders.Put(r)
}

func (r *msgpackReader) peek() byte { return r.data[len(r.data)-r.src.Len()] }

func (r *msgpackReader) request() (Request, error) {
	var req Request
	if c := r.peek(); !msgpcode.IsFixedArray(c) && c != msgpcode.Array16 && c != msgpcode.Array32 {
		return req, errNoRequest
	}
	n, err := r.dec.DecodeArrayLen()
	if err != nil || n != 4 {
		return req, cmp.Or(err, errNoRequest)
	}
	if req.Object, err = r.text(&r.object, "object id"); err != nil {
		return req, err
	}
	if req.Method, err = r.text(&r.method, "method"); err != nil {
		return req, err
	}
	args, err := r.value()
	if err == nil {
		req.Args, err = requestArgs(args)
	}
	if err != nil {
		return req, err
	}
	kwargs, err := r.value()
	if err == nil {
		req.Kwargs, err = requestKwargs(kwargs)
	}
	return req, err
}

// text reads a str, which costs no memory if it is the same as the last one.
func (r *msgpackReader) text(last *string, what string) (string, error) {
	if !msgpcode.IsString(r.peek()) {
		v, err := r.value()
		if err != nil {
			return "", err
		}
		return requestText(v, what)
	}
	n, err := r.dec.DecodeBytesLen()
	if err != nil {
		return "", err
	}
	b, err := r.bytes(n)
	if string(b) != *last {
		*last = string(b)
	}
	return *last, err
}

// bytes returns the next n bytes, of a length that was checked.
func (r *msgpackReader) bytes(n int) ([]byte, error) {
	start := len(r.data) - r.src.Len()
	_, err := r.src.Seek(int64(n), io.SeekCurrent)
	return r.data[start : start+n], err
}

func (r *msgpackReader) value() (any, error) {
	c := r.peek()
	switch {
	case msgpcode.IsFixedNum(c):
		return r.dec.DecodeInt64()
	case msgpcode.IsString(c):
		return r.dec.DecodeString()
	case msgpcode.IsFixedArray(c), c == msgpcode.Array16, c == msgpcode.Array32:
		return r.list()
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return r.dict()
	case msgpcode.IsBin(c):
		return r.bin()
	}
	switch c {
	case msgpcode.Nil:
		return nil, r.dec.DecodeNil()
	case msgpcode.False, msgpcode.True:
		return r.dec.DecodeBool()
	case msgpcode.Float, msgpcode.Double:
		return r.dec.DecodeFloat64()
	case msgpcode.Uint64:
		n, err := r.dec.DecodeUint64()
		return uintValue(n), err
	case msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32, msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64:
		return r.dec.DecodeInt64()
	}
	return r.ext()
}

// bin copies bytes, of which there are as many as their length says, since data was checked.
func (r *msgpackReader) bin() (any, error) {
	n, err := r.dec.DecodeBytesLen()
	if err != nil {
		return nil, err
	}
	part, err := r.bytes(n)
	b := make([]byte, len(part))
	copy(b, part)
	return b, err
}

func (r *msgpackReader) list() (any, error) {
	n, err := r.dec.DecodeArrayLen()
	if err != nil || n == 0 {
		return emptyList, err
	}
	items := make([]any, n)
	for i := range items {
		if items[i], err = r.value(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (r *msgpackReader) dict() (any, error) {
	n, err := r.dec.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	start := len(r.items)
	for range n {
		if err := r.item(); err != nil {
			return nil, err
		}
	}
	return r.items.take(start)
}

func (r *msgpackReader) item() error {
	if msgpcode.IsString(r.peek()) {
		name, err := r.dec.DecodeString()
		if err != nil {
			return err
		}
		v, err := r.value()
		r.items.pushNamed(name, v)
		return err
	}
	key, err := r.value()
	if err == nil {
		err = checkHashable(key)
	}
	if err != nil {
		return err
	}
	v, err := r.value()
	r.items.push(key, v)
	return err
}

func (r *msgpackReader) ext() (any, error) {
	ext, n, err := r.dec.DecodeExtHeader()
	if err != nil {
		return nil, err
	}
	b, err := r.bytes(n)
	if err != nil {
		return nil, err
	}
	switch {
	case ext == msgpackComplex && n == 16:
		return complex(littleDouble(b), littleDouble(b[8:])), nil
	case ext == msgpackLong:
		return parseInt(b)
	case ext == msgpackTime && n == 8:
		return epochTime(littleDouble(b))
	case ext == msgpackDate && n == 8:
		return dateOfOrdinal(int64(binary.LittleEndian.Uint64(b)))
	case ext == msgpackDate && n == 4:
		return dateOfOrdinal(int64(int32(binary.LittleEndian.Uint32(b))))
	}
	return nil, fmt.Errorf("extension type %d with %d bytes is unknown", ext, n)
}

// doubleBits is math.Float64bits with Python's NaN, which differs from Go's.
func doubleBits(f float64) uint64 {
	if math.IsNaN(f) {
		return 0x7ff8 << 48
	}
	return math.Float64bits(f)
}

func littleDouble(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) }

// msgpackCheck walks over a message without decoding it.
type msgpackCheck struct {
	data  []byte
	pos   int
	count int
	// anyText leaves it to others to check that text is UTF-8.
	anyText bool
}

// values walks over n values inside of depth containers.
func (c *msgpackCheck) values(n uint64, depth int) error {
	// A value takes at least a byte; so a count that lies is found before it is walked.
	if n > uint64(len(c.data)-c.pos) {
		return errTruncated
	}
	if n > uint64(maxValues-c.count) {
		return errTooMany
	}
	c.count += int(n)
	for range n {
		if err := c.value(depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *msgpackCheck) value(depth int) error {
	if c.pos == len(c.data) {
		return errTruncated
	}
	code := c.data[c.pos]
	c.pos++
	switch {
	case msgpcode.IsFixedNum(code):
		return nil
	case msgpcode.IsFixedString(code):
		return c.text(uint64(code & msgpcode.FixedStrMask))
	case msgpcode.IsFixedArray(code):
		return c.container(uint64(code&msgpcode.FixedArrayMask), depth)
	case msgpcode.IsFixedMap(code):
		return c.container(2*uint64(code&msgpcode.FixedMapMask), depth)
	}
	switch code {
	case msgpcode.Nil, msgpcode.False, msgpcode.True:
		return nil
	case msgpcode.Uint8, msgpcode.Int8:
		return c.skip(1)
	case msgpcode.Uint16, msgpcode.Int16, msgpcode.FixExt1:
		return c.skip(2)
	case msgpcode.FixExt2:
		return c.skip(3)
	case msgpcode.Uint32, msgpcode.Int32, msgpcode.Float:
		return c.skip(4)
	case msgpcode.FixExt4:
		return c.skip(5)
	case msgpcode.Uint64, msgpcode.Int64, msgpcode.Double:
		return c.skip(8)
	case msgpcode.FixExt8:
		return c.skip(9)
	case msgpcode.FixExt16:
		return c.skip(17)
	}
	return c.sized(code, depth)
}

// sized walks over a value whose code is followed by a length.
func (c *msgpackCheck) sized(code byte, depth int) error {
	var width int
	switch code {
	case msgpcode.Str8, msgpcode.Bin8, msgpcode.Ext8:
		width = 1
	case msgpcode.Str16, msgpcode.Bin16, msgpcode.Ext16, msgpcode.Array16, msgpcode.Map16:
		width = 2
	case msgpcode.Str32, msgpcode.Bin32, msgpcode.Ext32, msgpcode.Array32, msgpcode.Map32:
		width = 4
	default:
		return fmt.Errorf("unknown code %#x", code)
	}
	n, err := c.length(width)
	if err != nil {
		return err
	}
	switch code {
	case msgpcode.Str8, msgpcode.Str16, msgpcode.Str32:
		return c.text(n)
	case msgpcode.Array16, msgpcode.Array32:
		return c.container(n, depth)
	case msgpcode.Map16, msgpcode.Map32:
		return c.container(2*n, depth)
	case msgpcode.Ext8, msgpcode.Ext16, msgpcode.Ext32:
		return c.skip(n + 1) // the extension type comes first
	}
	return c.skip(n)
}

func (c *msgpackCheck) container(n uint64, depth int) error {
	if depth == maxDepth {
		return errTooDeep
	}
	return c.values(n, depth+1)
}

func (c *msgpackCheck) length(width int) (uint64, error) {
	if len(c.data)-c.pos < width {
		return 0, errTruncated
	}
	var n uint64
	for _, b := range c.data[c.pos : c.pos+width] {
		n = n<<8 | uint64(b)
	}
	c.pos += width
	return n, nil
}

func (c *msgpackCheck) text(n uint64) error {
	start := c.pos
	if err := c.skip(n); err != nil {
		return err
	}
	if !c.anyText && !utf8.Valid(c.data[start:c.pos]) {
		return errNotUTF8
	}
	return nil
}

func (c *msgpackCheck) skip(n uint64) error {
	if n > uint64(len(c.data)-c.pos) {
		return errTruncated
	}
	c.pos += int(n)
	return nil
}
