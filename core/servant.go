package core

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Contract is what a method promises about being run more than once; it decides what a caller may do when a call's outcome
// is unknown.  The server declares it ([ObjectOptions], [Method]), it travels in the handshake.
type Contract uint8

// The contracts, from the least to the most that a caller may do.
const (
	ContractPlain      Contract = iota // running twice may differ from running once: never sent again when the outcome is unknown
	ContractIdempotent                 // running twice has the effect of running once: may be sent again
	ContractReadOnly                   // changes nothing: may be sent again, and to several replicas at once
)

// Metadata says what an object offers, as in the reply to Pyro's CONNECT.  Lists are sorted.
type Metadata struct {
	Methods   []string
	Oneway    []string // those of Methods that send no reply
	Attrs     []string
	Contracts map[string]Contract // of methods that are not ContractPlain; empty from Python servers
}

// Param is a parameter of a [Method].
type Param struct {
	Name     string // empty: it cannot be given as a keyword
	Optional bool
	Default  any // the value when Optional and not given
}

// Method is one callable member of a [Servant].  Func gets exactly one value per Param, in their order, bound from positional
// and keyword arguments as Python does, followed by the surplus if Variadic.  A wrong arity or keyword never reaches it: the
// caller gets a TypeError with Python's text.
type Method struct {
	Name     string
	Params   []Param
	Variadic bool
	Oneway   bool
	Contract Contract
	Func     func(ctx context.Context, args []any) (any, error)
	// Streams says that the result is an iterator (iter.Seq, iter.Seq2): the context then lasts until the item stream has ended, and the
	// caller's deadline is that of the call alone, not of the stream.
	Streams bool
	// Direct, in place of Func, reads its arguments and writes its one result without boxing them.  It is for generated skeletons.
	Direct func(ctx context.Context, args *Decoder, result *Encoder) error

	object   string       // id that the object is registered under
	observer CallObserver // nil if nobody observes
	code     uintptr      // of the Go method, if it is not that of Func or Direct
	pace     *pace
}

// Attribute is a readable, perhaps writable member of a [Servant].
type Attribute struct {
	Name string
	Read func(ctx context.Context) (any, error)
	// Write is nil if the attribute is read-only; the caller gets an AttributeError.
	Write func(ctx context.Context, value any) error
}

// Servant is an object spelled out member by member, for those that reflection cannot describe (defaults, keyword
// arguments, names that are no Go names).  [Daemon.Register] takes it like any other object.
type Servant struct {
	// Class is the type's name in error texts, as in "'Bank' object has no attribute 'x'".
	Class      string
	Methods    []Method
	Attributes []Attribute
}

// ObjectOptions say how a Go value appears to callers.  The zero value exposes every exported method and, for a pointer to
// a struct, every exported field, under snake_case names (a `pyro:"name"` tag on a field names it, `pyro:"-"` hides it).
// A method may take a context.Context first and may return an error last.
//
// Fields are read and written one at a time, but not exclusively of methods: hide those that methods change, or choose Serial.
type ObjectOptions struct {
	// Names maps names of Go methods to the names under which they are called; "" or "-" hides one.
	Names map[string]string
	// Params names the parameters of methods, by exposed name, so that callers can use keywords: {"deposit": {"account", "amount"}}.
	Params map[string][]string
	// Oneway lists exposed methods whose callers do not wait for a reply.
	Oneway []string
	// Contracts declares what may be retried, by exposed name.
	Contracts map[string]Contract
	// HideFields leaves the fields of the struct out.
	HideFields bool
	// Serial runs one call of the object at a time, until its result has been encoded.  Iterators that its methods return take turns with them
	// for each item, which is encoded after that.
	Serial bool
	// Force replaces what is registered under the id.
	Force bool
	// IdleTimeout unregisters the object when nobody has called it for so long, and no call of it runs.  Zero means never.
	IdleTimeout time.Duration
	// OnIdle is called then.
	OnIdle func(id string)
}

// object is what a daemon has registered under an id.
type object struct {
	class      string
	methods    map[string]*Method
	attributes map[string]*Attribute
	meta       Metadata
	contracts  []byte      // annotation PCCT
	serial     *sync.Mutex // nil if calls may run at the same time
	observed   callKinds   // beside those of methods
	instances  *instances  // of a factory; nil if the object serves all
	idle       *idleWatch  // nil if the object stays
	pointer    any         // what was registered, if that is a pointer that means it alone
}

// newObject describes obj, a *Servant or any Go value.  The error says what cannot be exposed.
func newObject(obj any, opts ObjectOptions) (*object, error) {
	if f, ok := obj.(*Factory); ok {
		return newFactory(f, opts)
	}
	if opts.IdleTimeout < 0 {
		return nil, fmt.Errorf("core: register: IdleTimeout %v is negative", opts.IdleTimeout)
	}
	servant, ok := obj.(*Servant)
	switch {
	case !ok:
		var err error
		if servant, err = reflectServant(obj, opts); err != nil {
			return nil, err
		}
	case servant == nil:
		return nil, fmt.Errorf("core: register: nil servant")
	case opts.Names != nil || opts.Params != nil:
		return nil, fmt.Errorf("core: register %s: Names and Params are for Go values, a Servant has its own", servant.Class)
	}
	o := &object{
		class:      servant.Class,
		methods:    make(map[string]*Method, len(servant.Methods)),
		attributes: make(map[string]*Attribute, len(servant.Attributes)),
		meta:       Metadata{Contracts: make(map[string]Contract)},
	}
	if opts.Serial {
		o.serial = new(sync.Mutex)
	}
	if opts.IdleTimeout > 0 {
		o.idle = &idleWatch{timeout: opts.IdleTimeout, reaped: opts.OnIdle}
	}
	if err := o.addMembers(servant); err != nil {
		return nil, fmt.Errorf("core: register %s: %w", o.class, err)
	}
	if err := o.apply(opts); err != nil {
		return nil, fmt.Errorf("core: register %s: %w", o.class, err)
	}
	o.describe()
	return o, nil
}

// named tells the methods which object they are of.
func (o *object) named(id string) {
	for _, m := range o.methods {
		m.object = id
	}
}

func (o *object) addMembers(s *Servant) error {
	for _, m := range s.Methods {
		if err := o.checkNew(m.Name); err != nil {
			return err
		}
		switch {
		case m.Func == nil && m.Direct == nil:
			return fmt.Errorf("method %q has no Func", m.Name)
		case m.Func != nil && m.Direct != nil:
			return fmt.Errorf("method %q has Func and Direct, want one of them", m.Name)
		}
		m.pace = new(pace)
		o.methods[m.Name] = &m
	}
	for _, a := range s.Attributes {
		if err := o.checkNew(a.Name); err != nil {
			return err
		}
		if a.Read == nil {
			return fmt.Errorf("attribute %q has no Read", a.Name)
		}
		o.attributes[a.Name] = &a
	}
	if len(o.methods)+len(o.attributes) == 0 {
		return fmt.Errorf("nothing to expose (no exported methods or fields)")
	}
	return nil
}

// checkNew reports whether a member can have that name.
func (o *object) checkNew(name string) error {
	if isPrivate(name) {
		return fmt.Errorf("%q: exposing private names (starting with _) is not allowed", name)
	}
	if !isIdentifier(name) {
		return fmt.Errorf("%q is not a name that Python can call", name)
	}
	if o.methods[name] != nil || o.attributes[name] != nil {
		return fmt.Errorf("two members are called %q", name)
	}
	return nil
}

// apply adds what the options say about methods.
func (o *object) apply(opts ObjectOptions) error {
	for _, name := range opts.Oneway {
		m := o.methods[name]
		if m == nil {
			return fmt.Errorf("option Oneway names the unknown method %q", name)
		}
		m.Oneway = true
	}
	for _, name := range slices.Sorted(maps.Keys(opts.Contracts)) {
		m := o.methods[name]
		if m == nil {
			return fmt.Errorf("option Contracts names the unknown method %q", name)
		}
		m.Contract = opts.Contracts[name]
	}
	return nil
}

// describe makes the metadata.
func (o *object) describe() {
	o.meta.Methods = slices.Sorted(maps.Keys(o.methods))
	o.meta.Attrs = slices.Sorted(maps.Keys(o.attributes))
	for _, name := range o.meta.Methods {
		m := o.methods[name]
		if m.Oneway {
			o.meta.Oneway = append(o.meta.Oneway, name)
		}
		if m.Contract != ContractPlain {
			o.meta.Contracts[name] = m.Contract
		}
	}
	o.contracts = appendContracts(nil, o.meta.Methods, o.meta.Contracts)
}

// wireMetadata is the value of "meta" in CONNECTOK, and of get_metadata.
func (o *object) wireMetadata() Dict {
	return Dict{
		{"methods", textSet(o.meta.Methods)},
		{"oneway", textSet(o.meta.Oneway)},
		{"attrs", textSet(o.meta.Attrs)},
	}
}

// wireMetadata4 is wireMetadata for Pyro4, whose first version that had it could not send sets.
func (o *object) wireMetadata4() Dict {
	return Dict{{"methods", o.meta.Methods}, {"oneway", o.meta.Oneway}, {"attrs", o.meta.Attrs}}
}

func textSet(names []string) Set {
	set := make(Set, len(names))
	for i, name := range names {
		set[i] = name
	}
	return set
}

// method finds what a call names; the errors are those of Pyro5's _get_attribute.
func (o *object) method(name string) (*Method, error) {
	if m := o.methods[name]; m != nil {
		return m, nil
	}
	switch {
	case isPrivate(name):
		return nil, AttributeError.New("attempt to access private attribute '%s'", name)
	case o.attributes[name] != nil:
		return nil, AttributeError.New("attempt to access unexposed attribute '%s'", name)
	}
	return nil, AttributeError.New("'%s' object has no attribute '%s'", o.class, name)
}

// attribute finds an attribute; the errors are those of Pyro5's _get_exposed_property_value.
func (o *object) attribute(name string) (*Attribute, error) {
	if a := o.attributes[name]; a != nil {
		return a, nil
	}
	if o.methods[name] != nil {
		return nil, errUnexposed(name)
	}
	return nil, AttributeError.New("type object '%s' has no attribute '%s'", o.class, name)
}

func errUnexposed(name string) error {
	return AttributeError.New("attempt to access unexposed or unknown remote attribute '%s'", name)
}

// privateDunders are the names with two underscores on both sides that Pyro5 never exposes (server.py, _private_dunder_methods).
var privateDunders = map[string]bool{
	"__init__": true, "__init_subclass__": true, "__class__": true, "__module__": true, "__weakref__": true, "__call__": true,
	"__new__": true, "__del__": true, "__repr__": true, "__str__": true, "__format__": true, "__nonzero__": true, "__bool__": true,
	"__coerce__": true, "__cmp__": true, "__eq__": true, "__ne__": true, "__hash__": true, "__ge__": true, "__gt__": true,
	"__le__": true, "__lt__": true, "__dir__": true, "__enter__": true, "__exit__": true, "__copy__": true, "__deepcopy__": true,
	"__sizeof__": true, "__getattr__": true, "__setattr__": true, "__hasattr__": true, "__getattribute__": true,
	"__delattr__": true, "__instancecheck__": true, "__subclasscheck__": true, "__getinitargs__": true, "__getnewargs__": true,
	"__getstate__": true, "__setstate__": true, "__reduce__": true, "__reduce_ex__": true, "__subclasshook__": true,
}

// isPrivate reports whether Pyro5 hides a member of that name whatever is asked for.
func isPrivate(name string) bool {
	if !strings.HasPrefix(name, "_") {
		return false
	}
	dunder := len(name) > 4 && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__")
	return !dunder || privateDunders[name]
}

// isIdentifier reports whether name is an identifier, as far as it matters: no dots, no blanks, nothing that breaks annotation PCCT.
func isIdentifier(name string) bool {
	for i, r := range name {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return name != ""
}

// bind makes the values of m's parameters from those of a call, with the TypeErrors of CPython (ceval.c, initialize_locals; there
// is no self to be counted).  args is returned as it is where it fits.
func (m *Method) bind(args []any, kwargs map[string]any) ([]any, error) {
	if len(kwargs) == 0 && (len(args) == len(m.Params) || len(args) > len(m.Params) && m.Variadic) {
		return args, nil
	}
	values := make([]any, len(m.Params), max(len(args), len(m.Params)))
	given := make([]bool, len(m.Params))
	for i := range copy(values, args) {
		given[i] = true
	}
	for _, name := range slices.Sorted(maps.Keys(kwargs)) {
		i := slices.IndexFunc(m.Params, func(p Param) bool { return p.Name == name && name != "" })
		switch {
		case i < 0:
			return nil, TypeError.New("%s() got an unexpected keyword argument '%s'", m.Name, name)
		case given[i]:
			return nil, TypeError.New("%s() got multiple values for argument '%s'", m.Name, name)
		}
		values[i], given[i] = kwargs[name], true
	}
	if len(args) > len(m.Params) {
		if !m.Variadic {
			return nil, m.errTooMany(len(args))
		}
		values = append(values, args[len(m.Params):]...)
	}
	return values, m.fillDefaults(values, given)
}

func (m *Method) fillDefaults(values []any, given []bool) error {
	var missing []string
	for i, p := range m.Params {
		switch {
		case given[i]:
		case p.Optional:
			values[i] = p.Default
		default:
			missing = append(missing, "'"+m.paramName(i)+"'")
		}
	}
	if missing == nil {
		return nil
	}
	return TypeError.New("%s() missing %d required positional argument%s: %s", m.Name, len(missing), plural(len(missing)), pythonList(missing))
}

func (m *Method) paramName(i int) string {
	if m.Params[i].Name != "" {
		return m.Params[i].Name
	}
	return "arg" + strconv.Itoa(i+1)
}

func (m *Method) errTooMany(given int) error {
	required := len(m.Params)
	for required > 0 && m.Params[required-1].Optional {
		required--
	}
	takes := strconv.Itoa(len(m.Params))
	if required < len(m.Params) {
		takes = fmt.Sprintf("from %d to %d", required, len(m.Params))
	}
	were := "were"
	if given == 1 {
		were = "was"
	}
	return TypeError.New("%s() takes %s positional argument%s but %d %s given", m.Name, takes, plural(len(m.Params)), given, were)
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// pythonList joins names as CPython does: 'a', 'b', and 'c'.
func pythonList(names []string) string {
	switch n := len(names); n {
	case 1:
		return names[0]
	case 2:
		return names[0] + " and " + names[1]
	default:
		return strings.Join(names[:n-1], ", ") + ", and " + names[n-1]
	}
}
