package core

import (
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"sync"
)

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// reflectServant describes a Go value by its exported methods and fields.
func reflectServant(obj any, opts ObjectOptions) (*Servant, error) {
	v := reflect.ValueOf(obj)
	if !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("core: register: nil object")
	}
	s := &Servant{Class: className(v.Type())}
	if err := addMethods(s, v, opts); err != nil {
		return nil, fmt.Errorf("core: register %s: %w", s.Class, err)
	}
	if !opts.HideFields && v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		addFields(s, v.Elem())
	}
	return s, nil
}

// className is the name without package and type parameters that error texts show.
func className(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Name() == "" {
		return "object"
	}
	return t.Name()
}

func addMethods(s *Servant, v reflect.Value, opts ObjectOptions) error {
	names, params := maps.Clone(opts.Names), maps.Clone(opts.Params)
	for i := range v.NumMethod() {
		goName := v.Type().Method(i).Name
		name, renamed := names[goName]
		delete(names, goName)
		switch {
		case !renamed:
			name = fieldName(goName)
		case name == "" || name == "-":
			continue
		}
		m, err := reflectMethod(v.Method(i), name, params[name])
		if err != nil {
			return fmt.Errorf("method %s: %w (hide it with Names: %q: \"-\")", goName, err, goName)
		}
		m.code = v.Type().Method(i).Func.Pointer()
		delete(params, name)
		s.Methods = append(s.Methods, m)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		return fmt.Errorf("option Names: there is no Go method %q", name)
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		return fmt.Errorf("option Params: there is no method %q", name)
	}
	return nil
}

// boundMethod is a Go method and what was found out about its type.
type boundMethod struct {
	name        string
	params      []string // for error texts
	fn          reflect.Value
	types       []reflect.Type // of the parameters behind the context; the last one of a variadic is that of an element
	takesCtx    bool
	variadic    bool
	returnsErr  bool
	returnCount int // without the error
	streams     bool
}

func reflectMethod(fn reflect.Value, name string, params []string) (Method, error) {
	t := fn.Type()
	b := &boundMethod{name: name, params: params, fn: fn, variadic: t.IsVariadic(), returnCount: t.NumOut()}
	for i := range t.NumIn() {
		in := t.In(i)
		if i == 0 && in == contextType {
			b.takesCtx = true
			continue
		}
		if b.variadic && i == t.NumIn()-1 {
			in = in.Elem()
		}
		if !isValueType(in) {
			return Method{}, fmt.Errorf("a parameter of type %s cannot be sent", in)
		}
		b.types = append(b.types, in)
	}
	if n := t.NumOut(); n > 0 && t.Out(n-1) == errorType {
		b.returnsErr = true
		b.returnCount--
	}
	for i := range b.returnCount {
		out := t.Out(i)
		switch {
		case isIterator(out) && b.returnCount == 1:
			b.streams = true
		case isIterator(out):
			return Method{}, fmt.Errorf("an iterator (%s) has to be the only result, but for an error", out)
		case !isValueType(out):
			return Method{}, fmt.Errorf("a result of type %s cannot be sent", out)
		}
	}
	m := Method{Name: name, Variadic: b.variadic, Streams: b.streams, Func: b.call}
	count := len(b.types)
	if b.variadic {
		count--
	}
	if params != nil && len(params) != count {
		return Method{}, fmt.Errorf("option Params gives %d names for %d parameters", len(params), count)
	}
	m.Params = make([]Param, count)
	for i := range params {
		m.Params[i].Name = params[i]
	}
	return m, nil
}

// isValueType reports whether values of type t may cross the wire at all.
func isValueType(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return false
	}
	return true
}

// call converts the arguments and runs the method.
func (b *boundMethod) call(ctx context.Context, args []any) (any, error) {
	in := make([]reflect.Value, 0, len(args)+1)
	if b.takesCtx {
		in = append(in, reflect.ValueOf(ctx))
	}
	for i, arg := range args {
		v, err := convertArg(b.types[min(i, len(b.types)-1)], arg)
		if err != nil {
			return nil, TypeError.New("%s() argument %s: %v", b.name, b.paramText(i), err)
		}
		in = append(in, v)
	}
	return b.results(b.fn.Call(in))
}

func (b *boundMethod) paramText(i int) string {
	if i < len(b.params) {
		return "'" + b.params[i] + "'"
	}
	return fmt.Sprint(i + 1)
}

func (b *boundMethod) results(out []reflect.Value) (any, error) {
	if b.returnsErr {
		if last := out[b.returnCount]; !last.IsNil() {
			return nil, last.Interface().(error)
		}
	}
	switch b.returnCount {
	case 0:
		return nil, nil
	case 1:
		return out[0].Interface(), nil
	}
	tuple := make(Tuple, b.returnCount)
	for i := range tuple {
		tuple[i] = out[i].Interface()
	}
	return tuple, nil
}

// convertArg is Convert for a type; what most arguments are goes without it.
func convertArg(t reflect.Type, arg any) (reflect.Value, error) {
	switch v := arg.(type) {
	case string, bool, float64, []byte:
		if reflect.TypeOf(v) == t {
			return reflect.ValueOf(v), nil
		}
	case int64:
		switch t {
		case reflect.TypeFor[int64]():
			return reflect.ValueOf(v), nil
		case reflect.TypeFor[int]():
			if v >= math.MinInt && v <= math.MaxInt {
				return reflect.ValueOf(int(v)), nil
			}
		}
	}
	out := reflect.New(t).Elem()
	return out, convert(out, arg, 0)
}

// addFields exposes the fields of a struct as attributes, which one lock guards against each other.
func addFields(s *Servant, v reflect.Value) {
	lock := new(sync.Mutex)
	for _, f := range structFields(v.Type()) {
		field, err := v.FieldByIndexErr(f.index)
		if err != nil {
			continue // of an embedded pointer that is nil
		}
		streams := isIterator(field.Type())
		if !streams && !isValueType(field.Type()) {
			continue // nothing that could be sent
		}
		a := fieldAttribute(f.name, field, lock)
		if streams { // its items are sent, and cannot be set
			a.Write = nil
		}
		s.Attributes = append(s.Attributes, a)
	}
}

func fieldAttribute(name string, field reflect.Value, lock *sync.Mutex) Attribute {
	return Attribute{
		Name: name,
		Read: func(context.Context) (any, error) {
			lock.Lock()
			defer lock.Unlock()
			return field.Interface(), nil
		},
		Write: func(_ context.Context, value any) error {
			converted, err := convertArg(field.Type(), value)
			if err != nil {
				return TypeError.New("attribute '%s': %v", name, err)
			}
			lock.Lock()
			defer lock.Unlock()
			field.Set(converted)
			return nil
		},
	}
}
