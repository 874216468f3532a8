package gen

import (
	"cmp"
	"context"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// service is an interface that is to be called from afar.
type service struct {
	name    string
	doc     string
	pkg     *types.Package
	methods []*method // in the order of the source
}

// method is one of its methods.
type method struct {
	marks
	goName   string
	doc      string
	ctx      bool // the first parameter is a context, which is not among params
	params   []variable
	variadic bool       // the last of params is a slice
	results  []variable // without the error
	stream   types.Type // in place of results: of the items that it returns an iterator of; nil if it does not
	iterator types.Type // then
}

// variable is a parameter or a result.
type variable struct {
	name    string // in Go; may be empty or _
	keyword string // in Python; empty if it has none
	typ     types.Type
}

// newService looks an interface up and checks that all of it can be called from afar.
func newService(ctx context.Context, src *source, name string) (*service, error) {
	iface, err := src.iface(name)
	if err != nil {
		return nil, err
	}
	s := &service{name: name, pkg: src.types}
	f, spec, doc := src.declaration(name)
	if spec != nil {
		s.doc = doc
		if err := src.checkStrayMarks(f, spec); err != nil {
			return nil, err
		}
	}
	if err := s.checkNames(src); err != nil {
		return nil, err
	}
	for _, f := range slices.SortedStableFunc(iface.Methods(), func(a, b *types.Func) int { return cmp.Compare(a.Pos(), b.Pos()) }) {
		m, err := newMethod(src.types, f, src.field(ctx, f))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", src.at(f.Pos()), f.Name(), src.orBroken(err))
		}
		if i := slices.IndexFunc(s.methods, func(o *method) bool { return o.name == m.name }); i >= 0 {
			return nil, fmt.Errorf("%s: %s and %s are both called %s: choose another name with %sname", src.at(f.Pos()), s.methods[i].goName, m.goName, m.name, markPrefix)
		}
		s.methods = append(s.methods, m)
	}
	return s, nil
}

// iface finds an interface that has methods alone.
func (s *source) iface(name string) (*types.Interface, error) {
	obj := s.types.Scope().Lookup(name)
	if obj == nil {
		return nil, fmt.Errorf("package %s has no type %s", s.types.Name(), name)
	}
	iface, ok := obj.Type().Underlying().(*types.Interface)
	if _, isType := obj.(*types.TypeName); !isType || !ok {
		return nil, fmt.Errorf("%s: %s is not an interface", s.at(obj.Pos()), name)
	}
	if g, ok := obj.Type().(interface{ TypeParams() *types.TypeParamList }); ok && g.TypeParams().Len() > 0 {
		return nil, fmt.Errorf("%s: %s has type parameters: declare an interface without them, such as one that embeds %s[int]", s.at(obj.Pos()), name, name)
	}
	switch {
	case hasInvalid(iface):
		return nil, fmt.Errorf("%s: %s: %w", s.at(obj.Pos()), name, s.orBroken(errInvalid))
	case !iface.IsMethodSet():
		return nil, fmt.Errorf("%s: %s is a constraint, not an interface of methods alone", s.at(obj.Pos()), name)
	case iface.NumMethods() == 0:
		return nil, fmt.Errorf("%s: %s has no methods", s.at(obj.Pos()), name)
	}
	return iface, nil
}

// hasInvalid reports whether an interface embeds what could not be understood.
func hasInvalid(i *types.Interface) bool {
	for embedded := range i.EmbeddedTypes() {
		switch u := embedded.Underlying().(type) {
		case *types.Interface:
			if hasInvalid(u) {
				return true
			}
		case *types.Basic:
			if u.Kind() == types.Invalid {
				return true
			}
		}
	}
	return false
}

// errInvalid is a type that the type checker did not understand, for a reason that it has told.
var errInvalid = fmt.Errorf("a type is not known")

// orBroken replaces errInvalid by its reason.
func (s *source) orBroken(err error) error {
	if err == errInvalid && s.broken != nil {
		return fmt.Errorf("a type is not known: %s", oneLine(s.broken.Error()))
	}
	return err
}

// declaration returns where a type is declared, and the comment above it.
func (s *source) declaration(name string) (f *ast.File, t *ast.TypeSpec, doc string) {
	for _, f := range s.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				if t := spec.(*ast.TypeSpec); t.Name.Name == name {
					return f, t, cmp.Or(t.Doc.Text(), g.Doc.Text())
				}
			}
		}
	}
	return nil, nil, ""
}

// checkStrayMarks looks for directives in an interface that are above none of its methods, and so would mean nothing.
func (s *source) checkStrayMarks(f *ast.File, t *ast.TypeSpec) error {
	i, ok := t.Type.(*ast.InterfaceType)
	if !ok {
		return nil
	}
	above := make(map[*ast.CommentGroup]bool)
	for _, field := range i.Methods.List {
		above[field.Doc] = len(field.Names) > 0
	}
	for _, group := range f.Comments {
		if group.Pos() < i.Pos() || group.End() > i.End() || above[group] {
			continue
		}
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, markPrefix) || misspelt(c.Text) != "" {
				return fmt.Errorf("%s: %q is above no method: write it into the line right above the one that it is for", s.at(c.Pos()), c.Text)
			}
		}
	}
	return nil
}

// What is generated is named after the interface, and exported if that is.
func (s *service) proxyName() string     { return s.name + "Proxy" }
func (s *service) servantName() string   { return s.name + "Servant" }
func (s *service) contractsName() string { return s.name + "Contracts" }

func (s *service) newProxyName() string {
	if token.IsExported(s.name) {
		return "New" + s.proxyName()
	}
	first, size := utf8.DecodeRuneInString(s.name)
	return "new" + string(unicode.ToUpper(first)) + s.name[size:] + "Proxy"
}

// checkNames looks for names of the package that those of the generated code would collide with.
func (s *service) checkNames(src *source) error {
	for _, name := range []string{s.proxyName(), s.newProxyName(), s.servantName(), s.contractsName()} {
		if other := s.pkg.Scope().Lookup(name); other != nil {
			return fmt.Errorf("%s: %s is declared already, and what is generated has that name: rename one of them", src.at(other.Pos()), name)
		}
	}
	for _, name := range []string{"context", "core"} {
		if other := s.pkg.Scope().Lookup(name); other != nil {
			return fmt.Errorf("%s: the package declares %s, and what is generated imports a package of that name: rename it", src.at(other.Pos()), name)
		}
	}
	return nil
}

func newMethod(own *types.Package, f *types.Func, field *ast.Field) (*method, error) {
	if !f.Exported() {
		return nil, fmt.Errorf("the method is not exported, so others cannot call it")
	}
	m := &method{goName: f.Name(), variadic: f.Signature().Variadic()}
	if field != nil {
		var err error
		if m.marks, err = parseMarks(field.Doc); err != nil {
			return nil, err
		}
		m.doc = field.Doc.Text()
	}
	if m.name == "" {
		m.name = snakeCase(m.goName)
	}
	if !isPythonName(m.name) {
		return nil, fmt.Errorf("%s is no name that Python could call: choose another with %sname", m.name, markPrefix)
	}
	if err := m.addParams(own, f.Signature().Params()); err != nil {
		return nil, err
	}
	if err := m.addResults(own, f.Signature().Results()); err != nil {
		return nil, err
	}
	return m, m.checkMarks()
}

func (m *method) addParams(own *types.Package, params *types.Tuple) error {
	for v := range params.Variables() {
		if len(m.params) == 0 && !m.ctx && isNamed(v.Type(), "context", "Context") {
			m.ctx = true
			continue
		}
		if err := checkType(own, v.Type()); err != nil {
			return wrap("parameter", v.Name(), err)
		}
		p := variable{v.Name(), keywordName(v.Name()), v.Type()}
		if i := slices.IndexFunc(m.params, func(o variable) bool { return o.keyword == p.keyword && p.keyword != "" }); i >= 0 {
			return fmt.Errorf("parameters %s and %s are both called %s", m.params[i].name, p.name, p.keyword)
		}
		m.params = append(m.params, p)
	}
	return nil
}

func (m *method) addResults(own *types.Package, results *types.Tuple) error {
	if results.Len() == 1 && isStream(results.At(0).Type()) {
		m.iterator = results.At(0).Type()
		m.stream = types.Unalias(m.iterator).(*types.Named).TypeArgs().At(0)
		return wrap("item of the result", "", checkType(own, m.stream))
	}
	last := results.Len() - 1
	if last < 0 || !types.Identical(results.At(last).Type(), errorType) {
		return fmt.Errorf("its last result is not an error, and every call from afar can fail: add one")
	}
	for i := range last {
		v := results.At(i)
		if err := checkType(own, v.Type()); err != nil {
			return wrap("result", v.Name(), err)
		}
		m.results = append(m.results, variable{name: v.Name(), typ: v.Type()})
	}
	return nil
}

func (m *method) checkMarks() error {
	switch {
	case m.oneway && (len(m.results) > 0 || m.stream != nil):
		return fmt.Errorf("%soneway has no answer, so error is the only result it can have", markPrefix)
	case m.keywords && m.variadic:
		return fmt.Errorf("%skeywords cannot send %s..., which have no names", markPrefix, m.params[len(m.params)-1].name)
	case m.keywords && slices.ContainsFunc(m.params, func(p variable) bool { return p.keyword == "" }):
		return fmt.Errorf("%skeywords needs a name for each parameter", markPrefix)
	}
	return nil
}

func (m *method) hasParam(name string) bool {
	return slices.ContainsFunc(m.params, func(p variable) bool { return p.name == name })
}

var errorType = types.Universe.Lookup("error").Type()

// isStream reports whether a method that has this result alone is an item stream.
func isStream(t types.Type) bool {
	return isNamed(t, "iter", "Seq2") && types.Identical(types.Unalias(t).(*types.Named).TypeArgs().At(1), errorType)
}

// checkType says why values of a type cannot travel, or why the package own cannot name it.  What only shows at run time, such as the fields of a
// struct, is left to the serializers.
func checkType(own *types.Package, t types.Type) error {
	if isNamed(t, "context", "Context") {
		return fmt.Errorf("a context is the first parameter, or none")
	}
	if isNamed(t, "iter", "Seq") || isNamed(t, "iter", "Seq2") {
		return fmt.Errorf("an item stream is a method with iter.Seq2[T, error] as its only result, as each item may fail to come")
	}
	switch u := t.Underlying().(type) {
	case *types.Chan, *types.Signature:
		return fmt.Errorf("values of type %s cannot be sent", types.TypeString(t, packageName))
	case *types.Basic:
		switch u.Kind() {
		case types.Invalid:
			return errInvalid
		case types.UnsafePointer:
			return fmt.Errorf("values of type %s cannot be sent", t)
		}
	}
	switch t := types.Unalias(t).(type) {
	case *types.Pointer:
		return checkType(own, t.Elem())
	case *types.Slice:
		return checkType(own, t.Elem())
	case *types.Array:
		return checkType(own, t.Elem())
	case *types.Map:
		return cmp.Or(checkType(own, t.Key()), checkType(own, t.Elem()))
	case *types.Named:
		return checkNamed(own, t)
	}
	return nil
}

// checkNamed looks for names that other packages keep to themselves, which methods of embedded interfaces may have.
func checkNamed(own *types.Package, t *types.Named) error {
	obj := t.Obj()
	if obj.Pkg() == nil || obj.Pkg() == own {
		return nil
	}
	path := "/" + obj.Pkg().Path() + "/"
	internal := strings.LastIndex(path, "/internal/")
	switch {
	case !obj.Exported():
		return fmt.Errorf("type %s is not exported, so package %s cannot name it", types.TypeString(t, packageName), own.Name())
	case internal >= 0 && !strings.HasPrefix("/"+own.Path()+"/", path[:internal+1]):
		return fmt.Errorf("type %s is of an internal package, %s, that package %s cannot import", types.TypeString(t, packageName), obj.Pkg().Path(), own.Name())
	}
	return nil
}

func packageName(p *types.Package) string { return p.Name() }

// isNamed reports whether t is the type of that name, whatever its arguments.
func isNamed(t types.Type, path, name string) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Name() == name && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == path
}

// wrap says what an error is about; errInvalid stays what it is.
func wrap(what, name string, err error) error {
	if err == nil || err == errInvalid {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimSpace(what+" "+name), err)
}
