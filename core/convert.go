package core

import (
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Convert stores a value that came from the wire in out, a non-nil pointer.  What fits by its type is stored as it is, anything in
// *any.  Otherwise it converts
//
//   - int to float kinds, and a float without a fraction to int kinds; int and float to complex kinds
//   - lists, tuples and sets to slices, and to arrays of the same length
//   - dicts to maps, and to structs by the names of their fields on the wire; items without a field are ignored, and so are
//     the class of a [ClassDict] and the order of a [Dict]
//   - bytes, and serpent's base64 dict, to slices and arrays of bytes
//   - ISO text, dates and epoch seconds to time.Time, which is in the local zone if nothing else is said; ISO text to [Date]
//   - seconds to time.Duration
//   - int, float and text to big.Rat and big.Float: so Python's Decimal, which travels as text
//   - text to types with encoding.TextUnmarshaler: so Python's UUID
//   - a [ProxyState] and text to [URI], and all three to *[Proxy], a new one without options that the caller closes; see [ProxyState.Proxy]
//   - an exception to the type of errors that is registered for its class
//   - Python's OrderedDict to what a dict becomes
//   - None to the zero value, pointers to new values, interfaces to what has their methods
//
// Numbers that do not fit are errors, and so is all else; the error names the path to it: `[2].amount: got str "x", want int`.  What
// out points to is unspecified after an error.
func Convert(out, value any) error {
	if convertBasic(out, value) {
		return nil
	}
	if err := convertInto(out, value); err != nil {
		return fmt.Errorf("core: %w", err)
	}
	return nil
}

func convertInto(out, value any) error {
	rv := reflect.ValueOf(out)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("convert into %T, want a non-nil pointer", out)
	}
	return convert(rv.Elem(), value, 0)
}

// convertResult is Convert for the result of a method, which begins the path in errors.
func convertResult(out any, method string, value any) error {
	if convertBasic(out, value) {
		return nil
	}
	err := convertInto(out, value)
	switch {
	case err == nil:
		return nil
	case method == "__getattr__":
		return fmt.Errorf("core: %w", convertAt("attribute", err))
	}
	return fmt.Errorf("core: %s: %w", method, convertAt("result", err))
}

// convertBasic does the frequent cases without reflection.
func convertBasic(out, value any) bool {
	var ok bool
	switch out := out.(type) {
	case *any:
		if ok = out != nil; ok {
			*out = value
		}
	case *string:
		ok = convertSame(out, value)
	case *bool:
		ok = convertSame(out, value)
	case *float64:
		ok = convertSame(out, value)
	case *int64:
		ok = convertSame(out, value)
	case *int:
		var n int64
		if n, ok = value.(int64); ok && out != nil && int64(int(n)) == n {
			*out = int(n)
			return true
		}
		ok = false
	case *[]byte:
		ok = convertSame(out, value)
	}
	return ok
}

func convertSame[T any](out *T, value any) bool {
	v, ok := value.(T)
	if !ok || out == nil {
		return false
	}
	*out = v
	return true
}

// convertError is an error with the path to the value that it is about.
type convertError struct {
	path string
	err  error
}

func (e *convertError) Error() string {
	if e.path == "" {
		return e.err.Error()
	}
	return strings.TrimPrefix(e.path, ".") + ": " + e.err.Error()
}

func (e *convertError) Unwrap() error { return e.err }

// convertAt puts step in front of the path of err.
func convertAt(step string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*convertError](err); ok {
		e.path = step + e.path
		return e
	}
	return &convertError{step, err}
}

var (
	timeType      = reflect.TypeFor[time.Time]()
	dateType      = reflect.TypeFor[Date]()
	durationType  = reflect.TypeFor[time.Duration]()
	uriType       = reflect.TypeFor[URI]()
	bigIntType    = reflect.TypeFor[big.Int]()
	bigRatType    = reflect.TypeFor[big.Rat]()
	bigFloatType  = reflect.TypeFor[big.Float]()
	classDictType = reflect.TypeFor[ClassDict]()
	proxyType     = reflect.TypeFor[*Proxy]()

	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func convert(dst reflect.Value, value any, depth int) error {
	if depth > 2*maxDepth { // pointers count as well
		return errTooDeep
	}
	if value == nil {
		dst.SetZero()
		return nil
	}
	src := reflect.ValueOf(value)
	if src.Type().AssignableTo(dst.Type()) {
		dst.Set(src)
		return nil
	}
	switch {
	case src.Kind() == reflect.Pointer && src.IsNil():
		dst.SetZero()
		return nil
	case dst.Type() == proxyType:
		return convertProxy(dst, value)
	case dst.Kind() == reflect.Pointer:
		return convertPointer(dst, value, depth)
	case convertOwn(dst, src):
		return nil
	}
	value, err := convertible(value)
	if err != nil || value == nil {
		dst.SetZero()
		return err
	}
	return convertValue(dst, value, depth)
}

func convertPointer(dst reflect.Value, value any, depth int) error {
	p := reflect.New(dst.Type().Elem())
	if err := convert(p.Elem(), value, depth+1); err != nil {
		return err
	}
	dst.Set(p)
	return nil
}

// convertOwn stores values of registered types, which are no values of the wire: without the pointer, or with one that dst's interface asks
// for; and the error of a registered type that an exception stands for.
func convertOwn(dst, src reflect.Value) bool {
	if e, ok := src.Interface().(*RemoteError); ok && e.cause != nil {
		cause := reflect.ValueOf(e.cause)
		if cause.Type().AssignableTo(dst.Type()) {
			dst.Set(cause)
			return true
		}
		if cause.Kind() == reflect.Pointer && !cause.IsNil() && cause.Type().Elem() == dst.Type() {
			dst.Set(cause.Elem())
			return true
		}
		return false
	}
	switch {
	case src.Kind() == reflect.Pointer && src.Type().Elem() == dst.Type():
		dst.Set(src.Elem())
		return true
	case dst.Kind() == reflect.Interface && reflect.PointerTo(src.Type()).Implements(dst.Type()):
		p := reflect.New(src.Type())
		p.Elem().Set(src)
		dst.Set(p)
		return true
	}
	return false
}

// convertValue converts a value of the wire by the type or kind of dst.
func convertValue(dst reflect.Value, value any, depth int) error {
	switch dst.Type() {
	case timeType:
		return convertTime(dst, value)
	case dateType:
		return convertDate(dst, value)
	case durationType:
		return convertDuration(dst, value)
	case uriType:
		return convertURI(dst, value)
	case proxyType.Elem():
		return convertMismatch(dst, value) // nobody can use a copy
	case bigIntType:
		return convertBigInt(dst, value)
	case bigRatType, bigFloatType:
		return convertBigNumber(dst, value)
	}
	switch v := value.(type) {
	case string:
		if dst.CanAddr() && reflect.PointerTo(dst.Type()).Implements(textUnmarshalerType) {
			return convertText(dst, v)
		}
	case ClassDict:
		if dst.Type() == classDictType { // of a value of a registered type
			dst.Set(reflect.ValueOf(v))
			return nil
		}
		if done, err := convertClass(dst, v, depth); done {
			return err
		}
	}
	switch dst.Kind() {
	case reflect.Slice, reflect.Array:
		return convertList(dst, value, depth)
	case reflect.Map:
		return convertMap(dst, value, depth)
	case reflect.Struct:
		return convertStruct(dst, value, depth)
	}
	return convertScalar(dst, value)
}

// convertible returns a value of a type that is read from the wire.  Others come from inside of the program, such as a default, or are of
// a registered type.
func convertible(value any) (any, error) {
	switch v := value.(type) {
	case ClassDict:
		return orderedDict(v), nil
	case bool, int64, *big.Int, float64, complex128, string, []byte, []any, Tuple, Set, FrozenSet, map[string]any, Dict,
		Date, time.Time, Ellipsis, URI, ProxyState, *RemoteError:
		return value, nil
	}
	if c, ok, err := objectOf(value); ok {
		return c, err
	}
	return reduce(value)
}

// orderedDict returns the dict that an OrderedDict has become in Pyro5's serpent; any other object as it is.
func orderedDict(c ClassDict) any {
	items, ok := sequence(c.Attrs["items"])
	if !ok || c.Class != "collections.OrderedDict" || len(c.Attrs) != 1 {
		return c
	}
	d := make(Dict, len(items))
	for i, item := range items {
		pair, ok := sequence(item)
		if !ok || len(pair) != 2 {
			return c
		}
		d[i] = Pair{pair[0], pair[1]}
	}
	return d
}

func convertMismatch(dst reflect.Value, value any) error {
	return fmt.Errorf("got %s, want %s", describe(value), dst.Type())
}

// describe names the type of a value and shows a short one.
func describe(value any) string {
	switch v := value.(type) {
	case string:
		return "str " + abbreviated(v)
	case bool, int64, float64, complex128:
		return fmt.Sprintf("%s %v", pythonType(v), v)
	case []byte:
		return fmt.Sprintf("bytes of %d", len(v))
	case Date:
		return fmt.Sprintf("date %04d-%02d-%02d", v.Year, v.Month, v.Day)
	}
	if items, ok := sequence(value); ok {
		return fmt.Sprintf("%s of %d", pythonType(value), len(items))
	}
	return pythonType(value)
}

// abbreviated quotes the beginning of a text.
func abbreviated(s string) string {
	const limit = 40
	if utf8.RuneCountInString(s[:min(len(s), 4*limit)]) <= limit {
		return strconv.Quote(s)
	}
	return strconv.Quote(string([]rune(s[:4*limit])[:limit])) + "..."
}

func convertScalar(dst reflect.Value, value any) error {
	switch dst.Kind() {
	case reflect.Bool:
		if b, ok := value.(bool); ok {
			dst.SetBool(b)
			return nil
		}
	case reflect.String:
		if s, ok := value.(string); ok {
			dst.SetString(s)
			return nil
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return convertInt(dst, value)
	case reflect.Float32, reflect.Float64:
		return convertFloat(dst, value)
	case reflect.Complex64, reflect.Complex128:
		if c, ok := value.(complex128); ok {
			return convertComplex(dst, c)
		}
		if f, ok := floatOf(value); ok {
			return convertComplex(dst, complex(f, 0))
		}
	}
	return convertMismatch(dst, value)
}

func convertInt(dst reflect.Value, value any) error {
	if n, ok := value.(int64); ok && dst.CanInt() && !dst.OverflowInt(n) {
		dst.SetInt(n)
		return nil
	}
	n, ok := integerOf(value)
	if !ok {
		return convertMismatch(dst, value)
	}
	switch {
	case dst.CanInt() && n.IsInt64() && !dst.OverflowInt(n.Int64()):
		dst.SetInt(n.Int64())
	case dst.CanUint() && n.IsUint64() && !dst.OverflowUint(n.Uint64()):
		dst.SetUint(n.Uint64())
	default:
		return fmt.Errorf("got int %s, which does not fit into %s", shortInt(n), dst.Type())
	}
	return nil
}

// shortInt is n in decimal, or its size if that is long.
func shortInt(n *big.Int) string {
	if n.BitLen() > 128 {
		return fmt.Sprintf("of %d bits", n.BitLen())
	}
	return n.String()
}

// integerOf returns an int, or a float without a fraction.
func integerOf(value any) (*big.Int, bool) {
	switch v := value.(type) {
	case int64:
		return big.NewInt(v), true
	case *big.Int:
		return v, v != nil
	case float64:
		if v != math.Trunc(v) || math.IsInf(v, 0) {
			return nil, false
		}
		n, _ := big.NewFloat(v).Int(nil)
		return n, true
	}
	return nil, false
}

// floatOf returns an int or a float as a float; one that is too large is an infinity.
func floatOf(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int64:
		return float64(v), true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	}
	return 0, false
}

func convertFloat(dst reflect.Value, value any) error {
	f, ok := floatOf(value)
	if !ok {
		return convertMismatch(dst, value)
	}
	_, exact := value.(float64)
	if dst.OverflowFloat(f) && !math.IsInf(f, 0) || math.IsInf(f, 0) && !exact {
		return fmt.Errorf("got %s, which is too large for %s", describe(value), dst.Type())
	}
	dst.SetFloat(f)
	return nil
}

func convertComplex(dst reflect.Value, c complex128) error {
	if dst.OverflowComplex(c) {
		return fmt.Errorf("got %s, which does not fit into %s", describe(c), dst.Type())
	}
	dst.SetComplex(c)
	return nil
}

func convertBigInt(dst reflect.Value, value any) error {
	n, ok := integerOf(value)
	if !ok {
		return convertMismatch(dst, value)
	}
	dst.Addr().Interface().(*big.Int).Set(n)
	return nil
}

// convertBigNumber reads a number, also from text, into a big.Rat or big.Float.
func convertBigNumber(dst reflect.Value, value any) error {
	if text, ok := value.(string); ok {
		return convertText(dst, text)
	}
	f, isFloat := value.(float64)
	n, isInt := integerOf(value)
	switch x := dst.Addr().Interface().(type) {
	case *big.Rat:
		if isInt {
			x.SetInt(n)
			return nil
		}
		if isFloat && x.SetFloat64(f) != nil {
			return nil
		}
	case *big.Float:
		if isInt {
			x.SetInt(n)
			return nil
		}
		if isFloat && !math.IsNaN(f) {
			x.SetFloat64(f)
			return nil
		}
	}
	return convertMismatch(dst, value)
}

// convertText gives text to the method of dst's type that reads it.
func convertText(dst reflect.Value, text string) error {
	u, ok := dst.Addr().Interface().(encoding.TextUnmarshaler)
	if !ok {
		return convertMismatch(dst, text)
	}
	if err := u.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("got str %s, want %s: %w", abbreviated(text), dst.Type(), err)
	}
	return nil
}

// convertDuration reads seconds, as Python's timedelta travels.
func convertDuration(dst reflect.Value, value any) error {
	f, ok := floatOf(value)
	if !ok {
		return convertMismatch(dst, value)
	}
	nanos := math.Round(f * 1e9)
	if !(nanos >= math.MinInt64 && nanos < math.MaxInt64) {
		return fmt.Errorf("got %s seconds, which do not fit into %s", describe(value), dst.Type())
	}
	dst.SetInt(int64(nanos))
	return nil
}

func convertList(dst reflect.Value, value any, depth int) error {
	if dst.Type().Elem().Kind() == reflect.Uint8 {
		if b, ok := bytesOf(value); ok {
			return convertBytes(dst, b)
		}
	}
	items, ok := sequence(value)
	if !ok {
		return convertMismatch(dst, value)
	}
	if dst.Kind() == reflect.Slice {
		dst.Set(reflect.MakeSlice(dst.Type(), len(items), len(items)))
	} else if len(items) != dst.Len() {
		return convertMismatch(dst, value)
	}
	for i, v := range items {
		if err := convert(dst.Index(i), v, depth+1); err != nil {
			return convertAt("["+strconv.Itoa(i)+"]", err)
		}
	}
	return nil
}

func convertBytes(dst reflect.Value, b []byte) error {
	if dst.Kind() == reflect.Slice {
		dst.SetBytes(b)
		return nil
	}
	if len(b) != dst.Len() {
		return convertMismatch(dst, b)
	}
	reflect.Copy(dst, reflect.ValueOf(b))
	return nil
}

// bytesOf returns bytes, also from the dict that serpent makes of them.
func bytesOf(value any) ([]byte, bool) {
	switch v := value.(type) {
	case []byte:
		return v, true
	case map[string]any:
		text, ok := v["data"].(string)
		if !ok || v["encoding"] != "base64" || len(v) != 2 {
			return nil, false
		}
		b, err := base64.StdEncoding.DecodeString(text)
		return b, err == nil
	}
	return nil, false
}

func convertMap(dst reflect.Value, value any, depth int) error {
	m := reflect.MakeMap(dst.Type())
	err := eachItem(value, func(key, v any) error {
		k := reflect.New(dst.Type().Key()).Elem()
		e := reflect.New(dst.Type().Elem()).Elem()
		if err := convert(k, key, depth+1); err != nil {
			return convertAt("key "+keyText(key), err)
		}
		if !k.Comparable() {
			return convertAt("key "+keyText(key), convertMismatch(k, key))
		}
		if err := convert(e, v, depth+1); err != nil {
			return convertAt(keyPath(key), err)
		}
		m.SetMapIndex(k, e)
		return nil
	})
	if errors.Is(err, errNoDict) {
		return convertMismatch(dst, value)
	}
	if err == nil {
		dst.Set(m)
	}
	return err
}

func convertStruct(dst reflect.Value, value any, depth int) error {
	fields := structFields(dst.Type())
	var items map[string]any
	switch v := value.(type) {
	case map[string]any:
		items = v
	case ClassDict:
		items = v.Attrs
	case Dict:
		items = make(map[string]any, len(v))
		for _, p := range v {
			if name, ok := p.Key.(string); ok {
				items[name] = p.Value
			}
		}
	default:
		return convertMismatch(dst, value)
	}
	dst.SetZero()
	for _, f := range fields { // in their order, so that the error is always the same
		v, ok := items[f.name]
		if !ok {
			continue
		}
		field, err := fieldForWriting(dst, f.index)
		if err == nil {
			err = convert(field, v, depth+1)
		}
		if err != nil {
			return convertAt("."+f.name, err)
		}
	}
	return nil
}

// fieldForWriting returns a field, making the embedded structs on the way to it.
func fieldForWriting(v reflect.Value, index []int) (reflect.Value, error) {
	for i, n := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return v, fmt.Errorf("embedded %s is not exported", v.Type())
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v, nil
}

var errNoDict = errors.New("no dict")

// eachItem calls f with the items of a dict, until one is an error.
func eachItem(value any, f func(key, v any) error) error {
	var m map[string]any
	switch v := value.(type) {
	case map[string]any:
		m = v
	case ClassDict:
		m = v.Attrs
	case Dict:
		for _, p := range v {
			if err := f(p.Key, p.Value); err != nil {
				return err
			}
		}
		return nil
	default:
		return errNoDict
	}
	for k, v := range m {
		if err := f(k, v); err != nil {
			return err
		}
	}
	return nil
}

// keyPath is the step of a path that a key makes: .name, or [key] if it is no name.
func keyPath(key any) string {
	if s, ok := key.(string); ok && s != "" && !strings.ContainsAny(s, " .[]:") {
		return "." + s
	}
	return "[" + keyText(key) + "]"
}

func keyText(key any) string {
	if s, ok := key.(string); ok {
		return fmt.Sprintf("%.40q", s)
	}
	return fmt.Sprintf("%.40v", key)
}

// Layouts of datetime.isoformat, with and without a zone; fractions of a second are read with each.
var isoLayouts = [...]string{"2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05",
	"2006-01-02T15:04Z07:00", "2006-01-02T15:04", time.DateOnly}

func convertTime(dst reflect.Value, value any) error {
	switch v := value.(type) {
	case string:
		for _, layout := range isoLayouts {
			if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
				dst.Set(reflect.ValueOf(t))
				return nil
			}
		}
		return fmt.Errorf("got str %s, want a time in ISO 8601", abbreviated(v))
	case Date:
		if err := checkDate(v); err != nil {
			return err
		}
		dst.Set(reflect.ValueOf(time.Date(v.Year, v.Month, v.Day, 0, 0, 0, 0, time.Local)))
		return nil
	case int64, float64:
		seconds, _ := floatOf(v)
		t, err := epochTime(seconds)
		dst.Set(reflect.ValueOf(t))
		return err
	}
	return convertMismatch(dst, value)
}

func convertDate(dst reflect.Value, value any) error {
	switch v := value.(type) {
	case string:
		t, err := time.Parse(time.DateOnly, v)
		if err != nil {
			return fmt.Errorf("got str %s, want a date in ISO 8601", abbreviated(v))
		}
		dst.Set(reflect.ValueOf(Date{t.Year(), t.Month(), t.Day()}))
		return nil
	case time.Time:
		dst.Set(reflect.ValueOf(Date{v.Year(), v.Month(), v.Day()}))
		return nil
	}
	return convertMismatch(dst, value)
}

// convertProxy makes a proxy that calls what value is the address of.
func convertProxy(dst reflect.Value, value any) error {
	var state ProxyState
	switch v := value.(type) {
	case ProxyState:
		state = v
	case URI:
		state.URI = v
	case string:
		var err error
		if state.URI, err = ParseURI(v); err != nil {
			return err
		}
	default:
		return convertMismatch(dst, value)
	}
	dst.Set(reflect.ValueOf(state.Proxy(ProxyOptions{})))
	return nil
}

func convertURI(dst reflect.Value, value any) error {
	switch v := value.(type) {
	case string:
		u, err := ParseURI(v)
		dst.Set(reflect.ValueOf(u))
		return err
	case ProxyState:
		dst.Set(reflect.ValueOf(v.URI))
		return nil
	}
	return convertMismatch(dst, value)
}
