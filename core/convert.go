package core

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"
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
//   - a [ProxyState] and text to [URI]
//   - None to the zero value, pointers to new values
//
// Numbers that do not fit are errors, and so is all else; the error names the path to it: "[2].amount: got str, want int".  What out
// points to is unspecified after an error.
func Convert(out, value any) error {
	if convertBasic(out, value) {
		return nil
	}
	rv := reflect.ValueOf(out)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("core: convert into %T, want a non-nil pointer", out)
	}
	if err := convert(rv.Elem(), value, 0); err != nil {
		return fmt.Errorf("core: %w", err)
	}
	return nil
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
	timeType   = reflect.TypeFor[time.Time]()
	dateType   = reflect.TypeFor[Date]()
	uriType    = reflect.TypeFor[URI]()
	bigIntType = reflect.TypeFor[big.Int]()
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
	value, err := convertible(value)
	if err != nil || value == nil {
		dst.SetZero()
		return err
	}
	switch dst.Type() {
	case timeType:
		return convertTime(dst, value)
	case dateType:
		return convertDate(dst, value)
	case uriType:
		return convertURI(dst, value)
	case bigIntType:
		return convertBigInt(dst, value)
	}
	switch dst.Kind() {
	case reflect.Pointer:
		p := reflect.New(dst.Type().Elem())
		if err := convert(p.Elem(), value, depth+1); err != nil {
			return err
		}
		dst.Set(p)
		return nil
	case reflect.Slice, reflect.Array:
		return convertList(dst, value, depth)
	case reflect.Map:
		return convertMap(dst, value, depth)
	case reflect.Struct:
		return convertStruct(dst, value, depth)
	}
	return convertScalar(dst, value)
}

// convertible returns a value of a type that is read from the wire.  Others come from inside of the program, such as a default.
func convertible(value any) (any, error) {
	switch value.(type) {
	case bool, int64, *big.Int, float64, complex128, string, []byte, []any, Tuple, Set, FrozenSet, map[string]any, Dict,
		Date, time.Time, Ellipsis, URI, ProxyState, *RemoteError, ClassDict:
		return value, nil
	}
	return reduce(value)
}

func convertMismatch(dst reflect.Value, value any) error {
	return fmt.Errorf("got %s, want %s", pythonType(value), dst.Type())
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
		if f, ok := value.(float64); ok {
			return fmt.Errorf("got %v, want %s", f, dst.Type())
		}
		return convertMismatch(dst, value)
	}
	switch {
	case dst.CanInt() && n.IsInt64() && !dst.OverflowInt(n.Int64()):
		dst.SetInt(n.Int64())
	case dst.CanUint() && n.IsUint64() && !dst.OverflowUint(n.Uint64()):
		dst.SetUint(n.Uint64())
	default:
		return fmt.Errorf("%.40s does not fit into %s", n.Text(10), dst.Type())
	}
	return nil
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
		return fmt.Errorf("%s is too large for %s", pythonType(value), dst.Type())
	}
	dst.SetFloat(f)
	return nil
}

func convertComplex(dst reflect.Value, c complex128) error {
	if dst.OverflowComplex(c) {
		return fmt.Errorf("%v does not fit into %s", c, dst.Type())
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
		return fmt.Errorf("got %s of %d, want %s", pythonType(value), len(items), dst.Type())
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
		return fmt.Errorf("got bytes of %d, want %s", len(b), dst.Type())
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
	dst.SetZero()
	err := eachItem(value, func(key, v any) error {
		for _, f := range fields {
			if f.name == key {
				field, err := fieldForWriting(dst, f.index)
				if err == nil {
					err = convert(field, v, depth+1)
				}
				return convertAt("."+f.name, err)
			}
		}
		return nil
	})
	if errors.Is(err, errNoDict) {
		return convertMismatch(dst, value)
	}
	return err
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
		return fmt.Errorf("%.40q is no time in ISO 8601", v)
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
			return fmt.Errorf("%.40q is no date in ISO 8601", v)
		}
		dst.Set(reflect.ValueOf(Date{t.Year(), t.Month(), t.Day()}))
		return nil
	case time.Time:
		dst.Set(reflect.ValueOf(Date{v.Year(), v.Month(), v.Day()}))
		return nil
	}
	return convertMismatch(dst, value)
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
