package core

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The registry of types by class name belongs to the process, like those of Pyro (Pyro5 docs, "Customizing serialization"): values are
// read and written where no option of a proxy or daemon reaches.

// typeRegistry says how registered types travel.  It is never changed: registering makes another one.
type typeRegistry struct {
	classes    map[string]*classCodec       // by the class that is read
	types      map[reflect.Type]*classCodec // by the type that is written, without pointers
	exceptions map[ExceptionClass]*errorCodec
	errors     map[reflect.Type]*errorCodec // without pointers
	values     map[error]ExceptionClass     // errors that are one value, as io.EOF
}

var (
	registryMu sync.Mutex // for who replaces registry
	registry   atomic.Pointer[typeRegistry]
)

// classCodec is a type that travels as an instance of a class.
type classCodec struct {
	class  string
	typ    reflect.Type // as it was registered, and is read
	encode func(v reflect.Value) (map[string]any, error)
	decode func(attrs map[string]any) (reflect.Value, error)
}

// errorCodec is a type of errors that travels as an exception.
type errorCodec struct {
	class ExceptionClass
	typ   reflect.Type
	value error // instead of typ, if it is one value
}

// RegisterClass makes values of T, a struct or a pointer to one, travel as instances of a Python class, "bank.Account" for instance: in
// arguments, results and attributes, at any depth, with every serializer.  The exported fields are the attributes, under snake_case names or
// those of `pyro:"name"` tags, as for other structs.
//
// An object of the class is read as a T; if its attributes do not fit, it stays a [ClassDict], and [Convert] into a T says why.  Both T and
// *T are written.  A type can have several classes, of which the first is written.
//
// A stock Python program has to know the class as well: register_dict_to_class reads it, register_class_to_dict writes a class name of one's
// choice (Pyro5 docs, "Customizing serialization").  Without the latter, Python writes the module and the name of the class.
//
// RegisterClass is for the start of a program, before values are read; it panics if class is Pyro's own, or T has no fields or another
// class has T already with [RegisterClassFuncs].  It is safe for concurrent use.
func RegisterClass[T any](class string) {
	typ := reflect.TypeFor[T]()
	base := baseType(typ)
	if base.Kind() != reflect.Struct {
		panic(fmt.Sprintf("core: register class %s: %s is no struct", class, typ))
	}
	if len(structFields(base)) == 0 && base.NumField() > 0 {
		panic(fmt.Sprintf("core: register class %s: %s has no exported fields", class, typ))
	}
	registerClass(&classCodec{class: class, typ: typ})
}

// RegisterClassFuncs is RegisterClass for a T of any kind whose attributes are other than its fields.  encode returns the attributes of
// a value; decode makes a value of attributes that were read, which it may keep.  Both have to be safe for concurrent use.
func RegisterClassFuncs[T any](class string, encode func(T) (map[string]any, error), decode func(map[string]any) (T, error)) {
	registerClass(&classCodec{
		class: class,
		typ:   reflect.TypeFor[T](),
		encode: func(v reflect.Value) (map[string]any, error) {
			return encode(v.Interface().(T))
		},
		decode: func(attrs map[string]any) (reflect.Value, error) {
			v, err := decode(attrs)
			return reflect.ValueOf(&v).Elem(), err
		},
	})
}

// RegisterError makes errors of type E, a struct or a pointer to one, travel as exceptions of a class, and exceptions of that class be
// found by errors.As(err, &e) with an e of type E, in the [RemoteError] that a call returns.
//
// The exported fields of E are attributes of the exception, both ways.  A field that is tagged `pyro:"args"` has the exception's args;
// without it they are the text of the error.  Python makes exceptions of its builtins and of Pyro's own classes; for others its program has to
// use register_dict_to_class.
//
// It panics as [RegisterClass] does.
func RegisterError[E error](class ExceptionClass) {
	typ := reflect.TypeFor[E]()
	if baseType(typ).Kind() != reflect.Struct {
		panic(fmt.Sprintf("core: register exception %s: %s is no struct", class, typ))
	}
	registerException(&errorCodec{class: class, typ: typ})
}

// RegisterErrorValue makes err, a variable such as io.EOF, travel as an exception of a class: errors that wrap it are sent as that
// class with their text, and errors.Is finds err in exceptions of that class that a call returns.  It panics as [RegisterClass] does.
func RegisterErrorValue(class ExceptionClass, err error) {
	if err == nil || !reflect.TypeOf(err).Comparable() {
		panic(fmt.Sprintf("core: register exception %s: error %T cannot be compared", class, err))
	}
	registerException(&errorCodec{class: class, value: err})
}

func registerClass(c *classCodec) {
	base := baseType(c.typ)
	switch {
	case c.class == "", isOwnClass(pyro5Class(c.class)):
		panic(fmt.Sprintf("core: register class %q: it is Pyro's own", c.class))
	case base.Kind() == reflect.Interface, base.PkgPath() == "", isOwnType(base):
		panic(fmt.Sprintf("core: register class %s: %s cannot have a class", c.class, c.typ))
	}
	changeRegistry(func(r *typeRegistry) {
		if old := r.classes[c.class]; old != nil && (old.typ != c.typ || old.encode != nil || c.encode != nil) {
			panic(fmt.Sprintf("core: register class %s: it is %s already", c.class, old.typ))
		}
		r.classes[c.class] = c
		first := r.types[base]
		if first == nil {
			r.types[base] = c
		} else if first.typ != c.typ {
			panic(fmt.Sprintf("core: register class %s: %s has class %s already", c.class, first.typ, first.class))
		}
	})
}

// isOwnClass reports whether objects of a class travel in a way of their own.
func isOwnClass(class string) bool {
	return class == uriClass || class == proxyClass || strings.HasPrefix(class, errorsPrefix)
}

var ownTypes = []reflect.Type{timeType, dateType, durationType, bigIntType, uriType, reflect.TypeFor[Ellipsis](), reflect.TypeFor[Tuple](),
	reflect.TypeFor[Set](), reflect.TypeFor[FrozenSet](), reflect.TypeFor[Dict](), classDictType, reflect.TypeFor[Proxy](),
	reflect.TypeFor[ProxyState](), reflect.TypeFor[Kwargs]()}

// isOwnType reports whether values of t travel in a way of their own.
func isOwnType(t reflect.Type) bool {
	for _, p := range []reflect.Type{t, reflect.PointerTo(t)} {
		if p.Implements(errorType) || p.Implements(reflect.TypeFor[BytesAppender]()) {
			return true
		}
	}
	return slices.Contains(ownTypes, t)
}

func registerException(c *errorCodec) {
	if c.class == "" {
		panic("core: register an exception without a class")
	}
	changeRegistry(func(r *typeRegistry) {
		if old := r.exceptions[c.class]; old != nil && *old != *c {
			panic(fmt.Sprintf("core: register exception %s: it is registered already", c.class))
		}
		r.exceptions[c.class] = c
		if c.value != nil {
			if class := r.values[c.value]; class != "" && class != c.class {
				panic(fmt.Sprintf("core: register exception %s: the error is %s already", c.class, class))
			}
			r.values[c.value] = c.class
			return
		}
		base := baseType(c.typ)
		if first := r.errors[base]; first == nil {
			r.errors[base] = c
		} else if first.typ != c.typ {
			panic(fmt.Sprintf("core: register exception %s: %s has class %s already", c.class, first.typ, first.class))
		}
	})
}

// changeRegistry replaces the registry by a copy that change was made to.
func changeRegistry(change func(*typeRegistry)) {
	registryMu.Lock()
	defer registryMu.Unlock()
	r := new(typeRegistry)
	if old := registry.Load(); old != nil {
		*r = *old
	}
	r.classes, r.types = cloned(r.classes), cloned(r.types)
	r.exceptions, r.errors, r.values = cloned(r.exceptions), cloned(r.errors), cloned(r.values)
	change(r)
	registry.Store(r)
}

func cloned[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return make(map[K]V)
	}
	return maps.Clone(m)
}

func baseType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// registeredClass returns the dict that stands for v if its type is registered.  v is no nil pointer.
func registeredClass(v any) (d Dict, ok bool, err error) {
	r := registry.Load()
	if r == nil || len(r.types) == 0 {
		return nil, false, nil
	}
	rv := reflect.ValueOf(v)
	c := r.types[baseType(rv.Type())]
	if c == nil {
		return nil, false, nil
	}
	if rv, ok = asType(c.typ, rv); !ok {
		return nil, false, nil // a pointer to a pointer: its turn comes
	}
	d, err = c.dict(rv)
	return d, true, err
}

// asType returns v as a value of type t, which is v's own, or with one pointer more or less.
func asType(t reflect.Type, v reflect.Value) (reflect.Value, bool) {
	switch {
	case v.Type() == t:
		return v, true
	case v.Kind() == reflect.Pointer && v.Type().Elem() == t:
		return v.Elem(), !v.IsNil()
	case t.Kind() == reflect.Pointer && t.Elem() == v.Type():
		p := reflect.New(v.Type())
		p.Elem().Set(v)
		return p, true
	}
	return v, false
}

func (c *classCodec) dict(v reflect.Value) (d Dict, err error) {
	d = Dict{{classKey, c.class}}
	if c.encode == nil {
		return appendFields(d, reflect.Indirect(v)), nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("class %s: panic: %v", c.class, p)
		}
	}()
	attrs, err := c.encode(v)
	if err != nil {
		return nil, fmt.Errorf("class %s: %w", c.class, err)
	}
	for _, p := range sortedItems(attrs) {
		if p.Key != classKey {
			d = append(d, p)
		}
	}
	return d, nil
}

// value makes a value of the attributes that were read.
func (c *classCodec) value(attrs map[string]any, depth int) (v reflect.Value, err error) {
	if c.decode == nil {
		v = reflect.New(c.typ).Elem()
		return v, convert(v, attrs, depth)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("class %s: panic: %v", c.class, p)
		}
	}()
	if v, err = c.decode(attrs); err != nil {
		err = fmt.Errorf("class %s: %w", c.class, err)
	}
	return v, err
}

// classRead returns the value of a registered class, or else c itself.
func classRead(c ClassDict) any {
	r := registry.Load()
	if r == nil {
		return c
	}
	codec := r.classes[c.Class]
	if codec == nil {
		return c
	}
	v, err := codec.value(c.Attrs, 0)
	if err != nil {
		return c
	}
	return v.Interface()
}

// convertClass stores an object in dst if its class is registered with a function that makes values of dst's type.  done is false if
// that is not so.
func convertClass(dst reflect.Value, c ClassDict, depth int) (done bool, err error) {
	r := registry.Load()
	if r == nil {
		return false, nil
	}
	codec := r.classes[c.Class]
	if codec == nil || codec.decode == nil || baseType(codec.typ) != dst.Type() {
		return false, nil
	}
	v, err := codec.value(c.Attrs, depth)
	if err != nil {
		return true, err
	}
	v, ok := asType(dst.Type(), v)
	if ok {
		dst.Set(v)
	}
	return ok, nil
}

// objectOf returns the object that a value of a registered type stands for.
func objectOf(v any) (ClassDict, bool, error) {
	d, ok, err := registeredClass(v)
	if !ok || err != nil {
		return ClassDict{}, ok, err
	}
	c := ClassDict{Class: d[0].Value.(string), Attrs: make(map[string]any, len(d)-1)}
	for _, p := range d[1:] {
		c.Attrs[p.Key.(string)] = p.Value
	}
	return c, true, nil
}

// argsField is the name of the field of an error type that has the arguments of the exception.
const argsField = "args"

// registeredError returns the exception that err travels as if it, or an error that it wraps, is registered and none above is an exception.
func registeredError(err error) *RemoteError {
	r := registry.Load()
	if r == nil || len(r.exceptions) == 0 {
		return nil
	}
	e, _ := r.exception(err, err)
	return e
}

// exception looks at err, which whole is or wraps, and at what it wraps; done is true if the search is over.
func (r *typeRegistry) exception(err, whole error) (e *RemoteError, done bool) {
	if _, ok := err.(*RemoteError); ok || err == nil {
		return nil, ok
	}
	v := reflect.ValueOf(err)
	if v.Comparable() && r.values[err] != "" {
		return r.values[err].New("%s", whole.Error()), true
	}
	if c := r.errors[baseType(v.Type())]; c != nil {
		if v, ok := asType(c.typ, v); ok {
			return c.exception(v, whole), true
		}
	}
	switch x := err.(type) {
	case interface{ Unwrap() error }:
		return r.exception(x.Unwrap(), whole)
	case interface{ Unwrap() []error }:
		for _, part := range x.Unwrap() {
			if e, done := r.exception(part, whole); done {
				return e, true
			}
		}
	}
	return nil, false
}

func (c *errorCodec) exception(v reflect.Value, whole error) *RemoteError {
	e := &RemoteError{Class: c.class}
	if v = reflect.Indirect(v); !v.IsValid() {
		return c.class.New("%s", whole.Error())
	}
	hasArgs := false
	for _, p := range appendFields(nil, v) {
		if p.Key == argsField {
			hasArgs = true
			e.Args = argsOf(p.Value)
			continue
		}
		if e.Attributes == nil {
			e.Attributes = make(map[string]any)
		}
		e.Attributes[p.Key.(string)] = p.Value
	}
	if !hasArgs {
		e.Args = []any{whole.Error()}
	}
	return e
}

// argsOf is the list that v is, or one of v alone.
func argsOf(v any) []any {
	reduced, err := reduce(v)
	if items, ok := sequence(reduced); ok && err == nil {
		return items
	}
	return []any{v}
}

// registeredCause returns the error of a registered type that e stands for; nil if there is none, or its attributes do not fit.
func registeredCause(e *RemoteError) error {
	r := registry.Load()
	if r == nil {
		return nil
	}
	c := r.exceptions[e.Class]
	switch {
	case c == nil:
		return nil
	case c.value != nil:
		return c.value
	}
	v := reflect.New(baseType(c.typ)).Elem()
	if convertFields(v, e) != nil {
		return nil
	}
	typed, ok := asType(c.typ, v)
	if !ok {
		return nil
	}
	cause, _ := typed.Interface().(error)
	return cause
}

// convertFields sets the fields of an error type.
func convertFields(v reflect.Value, e *RemoteError) error {
	attrs := maps.Clone(e.Attributes)
	if attrs == nil {
		attrs = make(map[string]any)
	}
	attrs[argsField] = e.Args
	return convert(v, attrs, 0)
}
