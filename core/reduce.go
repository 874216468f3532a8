package core

import (
	"cmp"
	"encoding"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

// reduce turns a Go value that no writer knows by its type into one that all do: nil, bool, int64, *big.Int, float64, complex128,
// string, []byte, []any, Tuple, Set, FrozenSet, map[string]any, Dict, Ellipsis, Date or time.Time.  It goes one level deep: what a
// container holds is reduced when its turn comes.
func reduce(v any) (any, error) {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() || rv.Kind() == reflect.Pointer && rv.IsNil() {
		return nil, nil
	}
	if a, ok := v.(BytesAppender); ok {
		return a.AppendBytes([]byte{}), nil
	}
	if d, ok := classDict(v); ok {
		return d, nil
	}
	if d, ok, err := registeredClass(v); ok {
		return d, err
	}
	if text, ok, err := marshalText(rv); ok {
		return text, err
	}
	for range maxDepth {
		switch rv.Kind() {
		case reflect.Pointer, reflect.Interface:
			if rv.IsNil() {
				return nil, nil
			}
			rv = rv.Elem()
			if known, ok, err := reduceKnown(rv); ok {
				return known, err
			}
		default:
			return reduceKind(rv)
		}
	}
	return nil, errTooDeep
}

// marshalText returns the text of a value that has one by encoding.TextMarshaler, itself or its pointer.
func marshalText(rv reflect.Value) (text string, ok bool, err error) {
	if base := baseType(rv.Type()); base.PkgPath() == "" || slices.Contains(ownTypes, base) || !rv.CanInterface() {
		return "", false, nil
	}
	m, ok := rv.Interface().(encoding.TextMarshaler)
	if !ok && rv.Kind() != reflect.Pointer && reflect.PointerTo(rv.Type()).Implements(textMarshalerType) {
		p := reflect.New(rv.Type())
		p.Elem().Set(rv)
		m, ok = p.Interface().(encoding.TextMarshaler)
	}
	if !ok {
		return "", false, nil
	}
	b, err := m.MarshalText()
	if err != nil {
		err = fmt.Errorf("%s: %w", rv.Type(), err)
	}
	return string(b), true, err
}

// reduceKnown is for the structs that stand for something else than a dict of their fields.
func reduceKnown(rv reflect.Value) (any, bool, error) {
	if !rv.CanInterface() {
		return nil, false, nil
	}
	v := rv.Interface()
	switch v := v.(type) {
	case big.Int:
		return new(big.Int).Set(&v), true, nil
	case time.Time, Date, Ellipsis:
		return v, true, nil
	}
	if rv.Kind() == reflect.Pointer && rv.IsNil() {
		return nil, true, nil
	}
	if d, ok := classDict(v); ok {
		return d, true, nil
	}
	if d, ok, err := registeredClass(v); ok {
		return d, true, err
	}
	text, ok, err := marshalText(rv)
	return text, ok, err
}

func reduceKind(rv reflect.Value) (any, error) {
	switch rv.Kind() {
	case reflect.Bool:
		return rv.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if rv.Type() == durationType {
			return time.Duration(rv.Int()).Seconds(), nil // as Python's timedelta
		}
		return rv.Int(), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return uintValue(rv.Uint()), nil
	case reflect.Float32, reflect.Float64:
		return rv.Float(), nil
	case reflect.Complex64, reflect.Complex128:
		return rv.Complex(), nil
	case reflect.String:
		return rv.String(), nil
	case reflect.Slice, reflect.Array:
		return reduceSlice(rv), nil
	case reflect.Map:
		return reduceMap(rv), nil
	case reflect.Struct:
		return reduceStruct(rv)
	}
	return nil, fmt.Errorf("%s has no counterpart in Python", rv.Type())
}

// uintValue returns n as the type in which it is read.
func uintValue(n uint64) any {
	if int64(n) >= 0 {
		return int64(n)
	}
	return new(big.Int).SetUint64(n)
}

func reduceSlice(rv reflect.Value) any {
	if rv.Type().Elem().Kind() == reflect.Uint8 {
		return reduceBytes(rv)
	}
	items := make([]any, rv.Len())
	for i := range items {
		items[i] = rv.Index(i).Interface()
	}
	return items
}

func reduceBytes(rv reflect.Value) any {
	if rv.Kind() == reflect.Slice {
		if rv.IsNil() {
			return nil
		}
		return rv.Bytes()
	}
	b := make([]byte, rv.Len())
	reflect.Copy(reflect.ValueOf(b), rv)
	return b
}

func reduceMap(rv reflect.Value) any {
	if rv.IsNil() {
		return nil
	}
	if rv.Type().Key().Kind() == reflect.String {
		m := make(map[string]any, rv.Len())
		for it := rv.MapRange(); it.Next(); {
			m[it.Key().String()] = it.Value().Interface()
		}
		return m
	}
	keys := rv.MapKeys()
	slices.SortFunc(keys, compareKeys)
	d := make(Dict, len(keys))
	for i, k := range keys {
		d[i] = Pair{k.Interface(), rv.MapIndex(k).Interface()}
	}
	return d
}

// compareKeys orders the keys of a map: numbers by value, all else by how it prints.
func compareKeys(a, b reflect.Value) int {
	switch {
	case a.CanInt() && b.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint() && b.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	case a.CanFloat() && b.CanFloat():
		return cmp.Compare(a.Float(), b.Float())
	}
	return strings.Compare(fmt.Sprintf("%T %#[1]v", a.Interface()), fmt.Sprintf("%T %#[1]v", b.Interface()))
}

func reduceStruct(rv reflect.Value) (any, error) {
	if known, ok, err := reduceKnown(rv); ok {
		return known, err
	}
	fields := structFields(rv.Type())
	if rv.Type() == blobType {
		return nil, errBlobInside
	}
	if len(fields) == 0 && rv.NumField() > 0 {
		return nil, fmt.Errorf("%s has no exported fields", rv.Type())
	}
	return appendFields(make(Dict, 0, len(fields)), rv), nil
}

// appendFields appends the fields of a struct.
func appendFields(d Dict, rv reflect.Value) Dict {
	for _, f := range structFields(rv.Type()) {
		// A field of an embedded pointer that is nil does not exist.
		if fv, err := rv.FieldByIndexErr(f.index); err == nil {
			d = append(d, Pair{f.name, fv.Interface()})
		}
	}
	return d
}

// structField is a field of a struct that travels as an item of a dict.
type structField struct {
	name  string
	index []int
}

var structFieldCache sync.Map // of reflect.Type to []structField

// structFields returns the exported fields of struct type t, those of embedded structs included, under the names they have on
// the wire.
func structFields(t reflect.Type) []structField {
	if f, ok := structFieldCache.Load(t); ok {
		return f.([]structField)
	}
	var fields []structField
	var whole [][]int // embedded structs that are one item, or none
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("pyro")
		if slices.ContainsFunc(whole, func(i []int) bool { return len(i) < len(f.Index) && slices.Equal(i, f.Index[:len(i)]) }) {
			continue
		}
		if f.Anonymous && tag != "" {
			whole = append(whole, f.Index)
		}
		if !f.IsExported() || tag == "-" || f.Anonymous && tag == "" && isStruct(f.Type) {
			continue
		}
		if tag == "" {
			tag = fieldName(f.Name)
		}
		fields = append(fields, structField{tag, f.Index})
	}
	structFieldCache.Store(t, fields)
	return fields
}

func isStruct(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Kind() == reflect.Struct
}

// fieldName turns a Go name into a Python one: MaxSize, URLPath, HTTP2 into max_size, url_path, http2.
func fieldName(s string) string {
	var b strings.Builder
	r := []rune(s)
	for i, c := range r {
		if i > 0 && unicode.IsUpper(c) && r[i-1] != '_' && (!unicode.IsUpper(r[i-1]) || i+1 < len(r) && unicode.IsLower(r[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// reduceKey reduces the key of a dict or the member of a set, and checks that Python can have it there.
func reduceKey(k any) (any, error) {
	k, err := reduceScalar(k)
	if err != nil {
		return nil, err
	}
	return k, checkHashable(k)
}

// reduceScalar is reduce for what is likely to need none.
func reduceScalar(v any) (any, error) {
	switch v.(type) {
	case string, int64, bool, []byte, float64, Tuple, FrozenSet, nil:
		return v, nil
	}
	return reduce(v)
}

// checkHashable says why v, which was reduced or read, cannot be the key of a dict or a member of a set.
func checkHashable(v any) error { return checkHashableAt(v, 0) }

func checkHashableAt(v any, depth int) error {
	switch v := v.(type) {
	case []any, map[string]any, Dict, Set, ClassDict, *RemoteError, URI, ProxyState:
		return fmt.Errorf("unhashable type: %s is the key of a dict or in a set", pythonType(v))
	case Tuple:
		if depth == maxDepth {
			return errTooDeep
		}
		for _, x := range v {
			x, err := reduceScalar(x)
			if err == nil {
				err = checkHashableAt(x, depth+1)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// pythonType is the name of v's type in error texts.
func pythonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case complex128:
		return "complex"
	case string:
		return "str"
	case []byte:
		return "bytes"
	case []any:
		return "list"
	case Tuple:
		return "tuple"
	case Set:
		return "set"
	case FrozenSet:
		return "frozenset"
	case map[string]any, Dict:
		return "dict"
	case Date:
		return "date"
	case time.Time:
		return "datetime"
	case Ellipsis:
		return "ellipsis"
	case ClassDict:
		return v.Class
	case URI:
		return uriClass
	case ProxyState:
		return proxyClass
	case *RemoteError:
		return string(v.Class)
	}
	return reflect.TypeOf(v).String()
}

// dictStack collects the items of dicts while they are read.  Nested dicts share it: each takes what it pushed.
type dictStack []dictItem

type dictItem struct {
	name  string // the key if it is text
	key   any    // the key otherwise
	named bool
	value any
}

func (s *dictStack) pushNamed(name string, v any) {
	*s = append(*s, dictItem{name: name, named: true, value: v})
}

func (s *dictStack) push(key, v any) {
	if name, ok := key.(string); ok {
		s.pushNamed(name, v)
		return
	}
	*s = append(*s, dictItem{key: key, value: v})
}

// take removes the items from start on and returns the dict of them, or what it stands for.
func (s *dictStack) take(start int) (any, error) {
	items := (*s)[start:]
	defer func() {
		clear(items) // for the garbage collector
		*s = (*s)[:start]
	}()
	for i := range items {
		if !items[i].named {
			return takeDict(items), nil
		}
	}
	m := make(map[string]any, len(items))
	for i := range items {
		m[items[i].name] = items[i].value
	}
	return classValue(m)
}

func takeDict(items []dictItem) Dict {
	d := make(Dict, len(items))
	for i, it := range items {
		d[i] = Pair{it.key, it.value}
		if it.named {
			d[i].Key = it.name
		}
	}
	return d
}

// Python's datetime has the years 1 to 9999: these are their bounds in seconds since 1970.
const firstSecond, endSecond = -62135596800, 253402300800

// epochTime returns the time that is so many seconds after 1970, in the local zone and rounded to microseconds, as Python does.
func epochTime(seconds float64) (time.Time, error) {
	if seconds >= firstSecond && seconds < endSecond {
		whole := int64(seconds)
		micros := int64(math.RoundToEven((seconds - float64(whole)) * 1e6))
		if t := time.UnixMicro(whole*1e6 + micros); t.Unix() < endSecond {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %v is not in the years 1 to 9999", seconds)
}

// epochSeconds is the inverse of epochTime, with the rounding of Python's datetime.timestamp.
func epochSeconds(t time.Time) (float64, error) {
	if s := t.Unix(); s < firstSecond || s >= endSecond {
		return 0, fmt.Errorf("time %v is not in the years 1 to 9999", t)
	}
	return float64(t.Unix()) + float64(t.Nanosecond()/1000)/1e6, nil
}

// dateOrdinal counts days as Python's date.toordinal: 1 is 1 January of the year 1.
func dateOrdinal(d Date) int64 {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix()/86400 + 719163
}

func dateOfOrdinal(n int64) (Date, error) {
	if n < 1 || n > 3652059 {
		return Date{}, fmt.Errorf("date %d is not in the years 1 to 9999", n)
	}
	t := time.Unix((n-719163)*86400, 0).UTC()
	return Date{t.Year(), t.Month(), t.Day()}, nil
}

// checkDate says why d is no day of Python's calendar.
func checkDate(d Date) error {
	t := time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
	if d.Year < 1 || d.Year > 9999 || t.Year() != d.Year || t.Month() != d.Month || t.Day() != d.Day {
		return fmt.Errorf("no such date: %d-%d-%d", d.Year, d.Month, d.Day)
	}
	return nil
}
