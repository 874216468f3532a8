package gen

import (
	"bytes"
	"fmt"
	"go/types"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// stubWriter prints the Python file.
type stubWriter struct {
	s       *service
	imports map[string]bool // of modules
	typing  map[string]bool // names from typing
	classes names
	structs map[types.Type]string // classes of structs
	dicts   []string              // their definitions, in the order of first use
	within  []*types.Named        // types whose hints are being made
}

// pythonTypes are names of types that hints have, which no class may take.
var pythonTypes = []string{"bool", "builtins", "bytes", "complex", "dict", "float", "int", "list", "str", "tuple", "Exception"}

// stubCode returns the Python file of a module.
func stubCode(s *service, module string) []byte {
	w := &stubWriter{
		s:       s,
		imports: make(map[string]bool),
		typing:  map[string]bool{"Protocol": true},
		classes: names{s.name: true, "Any": true, "Iterator": true, "Protocol": true, "TypedDict": true},
		structs: make(map[types.Type]string),
	}
	for _, name := range slices.Concat(pythonTypes, pythonKeywords) {
		w.classes[name] = true
	}
	var class bytes.Buffer
	fmt.Fprintf(&class, "class %s(Protocol):\n", s.name)
	if s.doc != "" {
		fmt.Fprintf(&class, "%s\n", docstring(s.doc, "    "))
	}
	for _, m := range s.methods {
		fmt.Fprintf(&class, "    def %s(%s) -> %s:", m.name, strings.Join(w.params(m), ", "), w.results(m))
		if m.doc == "" {
			class.WriteString(" ...\n\n")
		} else {
			fmt.Fprintf(&class, "\n%s\n", docstring(m.doc, "        "))
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n#\n", generatedBy(s))
	fmt.Fprintf(&b, usage, s.name, module, variableName(s.name))
	for _, module := range slices.Sorted(maps.Keys(w.imports)) {
		fmt.Fprintf(&b, "import %s\n", module)
	}
	fmt.Fprintf(&b, "from typing import %s\n\n", strings.Join(slices.Sorted(maps.Keys(w.typing)), ", "))
	for _, dict := range w.dicts {
		b.WriteString(dict)
	}
	b.Write(bytes.TrimRight(class.Bytes(), "\n"))
	b.WriteByte('\n')
	return b.Bytes()
}

// usage is the comment for a class, a module and a variable.
const usage = `# Type hints for programs that call a %[1]s, or serve one, with Pyro:
#
#     from typing import TYPE_CHECKING
#     from Pyro5.api import Proxy
#     if TYPE_CHECKING:
#         from %[2]s import %[1]s
#
#     %[3]s: "%[1]s" = Proxy("PYRONAME:%[3]s")

`

// variableName is a name for a value of a class that is not that of a keyword.
func variableName(class string) string { return keywordName(class) }

func docstring(text, indent string) string {
	text = strings.TrimSpace(text)
	body := strings.TrimRight(text, `"`) // what is behind it must not end the string
	text = strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`).Replace(body) + strings.Repeat(`\"`, len(text)-len(body))
	lines := strings.Split(strings.ReplaceAll(text, "\t", "    "), "\n")
	if len(lines) == 1 {
		return indent + `"""` + text + "\"\"\"\n"
	}
	for i, line := range lines[1:] {
		if line != "" {
			lines[i+1] = indent + line
		}
	}
	return indent + `"""` + strings.Join(lines, "\n") + "\n" + indent + "\"\"\"\n"
}

// params returns the parameters of a method.  Those in front of one without a name can only be given by position.
func (w *stubWriter) params(m *method) []string {
	list := []string{"self"}
	positional := 0
	for i, p := range m.params {
		name := p.keyword
		if m.variadic && i == len(m.params)-1 {
			if name == "" {
				name = "args"
			}
			list = append(list, fmt.Sprintf("*%s: %s", name, w.hint(p.typ.Underlying().(*types.Slice).Elem())))
			break
		}
		if name == "" {
			name = fmt.Sprint("arg", i+1)
			positional = len(list) + 1
		}
		list = append(list, name+": "+w.hint(p.typ))
	}
	if positional > 0 {
		list = slices.Insert(list, positional, "/")
	}
	return list
}

func (w *stubWriter) results(m *method) string {
	if m.stream != nil {
		w.typing["Iterator"] = true
		return "Iterator[" + w.hint(m.stream) + "]"
	}
	switch len(m.results) {
	case 0:
		return "None"
	case 1:
		return w.hint(m.results[0].typ)
	}
	var list []string
	for _, v := range m.results {
		list = append(list, w.hint(v.typ))
	}
	return w.builtin("tuple") + "[" + strings.Join(list, ", ") + "]"
}

// knownHints are those of types that do not travel as what they are made of, as docs/values.md says.
var knownHints = map[string]string{
	"time.Time":               "datetime.datetime | str", // text with most serializers
	"time.Duration":           "float",
	"math/big.Int":            "int",
	"math/big.Rat":            "str",
	"math/big.Float":          "str",
	corePath + ".Date":        "datetime.date | str",
	corePath + ".Tuple":       "tuple[Any, ...]",
	corePath + ".Set":         "set[Any]",
	corePath + ".FrozenSet":   "frozenset[Any]",
	corePath + ".Dict":        "dict[Any, Any]",
	corePath + ".Kwargs":      "dict[str, Any]",
	corePath + ".URI":         "Pyro5.api.URI",
	corePath + ".Proxy":       "Pyro5.api.Proxy",
	corePath + ".ProxyState":  "Pyro5.api.Proxy",
	corePath + ".RemoteError": "Exception",
	corePath + ".ClassDict":   "Any",
	corePath + ".Ellipsis":    "Any",
}

// hint returns the type of what Python sees.
func (w *stubWriter) hint(t types.Type) string {
	if named, ok := types.Unalias(t).(*types.Named); ok {
		if hint, ok := w.namedHint(named); ok {
			return hint
		}
		if slices.ContainsFunc(w.within, func(t *types.Named) bool { return types.Identical(t, named) }) {
			return w.any() // a type that has itself in it
		}
		w.within = append(w.within, named)
		defer func() { w.within = w.within[:len(w.within)-1] }()
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return w.builtin(basicName(u))
	case *types.Pointer:
		return w.pointerHint(u)
	case *types.Slice:
		return w.listHint(u.Elem())
	case *types.Array:
		return w.listHint(u.Elem())
	case *types.Map:
		return w.builtin("dict") + "[" + w.hint(u.Key()) + ", " + w.itemHint(u.Elem()) + "]"
	case *types.Struct:
		return w.builtin("dict") + "[" + w.builtin("str") + ", " + w.any() + "]"
	}
	return w.any()
}

func (w *stubWriter) any() string {
	w.typing["Any"] = true
	return "Any"
}

// builtin returns the name of a builtin type, which is a longer one if a method of the class is called like it.
func (w *stubWriter) builtin(name string) string {
	if slices.ContainsFunc(w.s.methods, func(m *method) bool { return m.name == name }) {
		w.imports["builtins"] = true
		return "builtins." + name
	}
	return name
}

func basicName(t *types.Basic) string {
	switch info := t.Info(); {
	case info&types.IsBoolean != 0:
		return "bool"
	case info&types.IsInteger != 0:
		return "int"
	case info&types.IsFloat != 0:
		return "float"
	case info&types.IsComplex != 0:
		return "complex"
	}
	return "str"
}

func (w *stubWriter) pointerHint(p *types.Pointer) string {
	hint := w.hint(p.Elem())
	if hint == "Any" || strings.HasSuffix(hint, " | None") {
		return hint
	}
	return hint + " | None"
}

// itemHint is hint for what is in a list or dict, where Go has pointers for other reasons than that they may be nil.
func (w *stubWriter) itemHint(t types.Type) string {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		return w.hint(p.Elem())
	}
	return w.hint(t)
}

func (w *stubWriter) listHint(elem types.Type) string {
	if basic, ok := elem.Underlying().(*types.Basic); ok && basic.Kind() == types.Byte {
		return w.builtin("bytes")
	}
	return w.builtin("list") + "[" + w.itemHint(elem) + "]"
}

// namedHint is hint for types with a name that says more than what they are made of.
func (w *stubWriter) namedHint(t *types.Named) (hint string, ok bool) {
	if t.Obj().Pkg() == nil {
		return "Exception | None", true // error
	}
	if hint, ok := knownHints[t.Obj().Pkg().Path()+"."+t.Obj().Name()]; ok {
		return w.expand(hint), true
	}
	if obj, _, _ := types.LookupFieldOrMethod(t, true, nil, "MarshalText"); obj != nil {
		return w.builtin("str"), true
	}
	if u, ok := t.Underlying().(*types.Struct); ok {
		return w.dict(t, u), true
	}
	return "", false
}

var hintNames = regexp.MustCompile(`[A-Za-z][A-Za-z0-9.]*`)

// expand imports what a hint of knownHints needs.
func (w *stubWriter) expand(hint string) string {
	return hintNames.ReplaceAllStringFunc(hint, func(name string) string {
		if i := strings.LastIndexByte(name, '.'); i >= 0 {
			w.imports[name[:i]] = true
			return name
		}
		if name == "Any" {
			return w.any()
		}
		return w.builtin(name)
	})
}

// dict returns the class of a struct, which it defines.
func (w *stubWriter) dict(t *types.Named, u *types.Struct) string {
	for known, class := range w.structs {
		if types.Identical(known, t) {
			return class
		}
	}
	class := w.classes.take(t.Obj().Name())
	w.structs[t] = class // before its fields, which may be of the same type
	w.typing["TypedDict"] = true
	place := len(w.dicts)
	w.dicts = append(w.dicts, "")
	keys, values := w.fields(u, make(map[*types.Struct]bool))
	if slices.ContainsFunc(keys, func(key string) bool { return !isPythonName(key) }) {
		w.dicts[place] = functionalDict(class, keys, values)
		return class
	}
	var b strings.Builder
	fmt.Fprintf(&b, "class %s(TypedDict):\n", class)
	for i, key := range keys {
		fmt.Fprintf(&b, "    %s: %s\n", key, values[i])
	}
	if len(keys) == 0 {
		b.WriteString("    pass\n")
	}
	w.dicts[place] = b.String() + "\n"
	return class
}

// functionalDict is a TypedDict with keys that are no identifiers.
func functionalDict(class string, keys, values []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s = TypedDict(%q, {\n", class, class)
	for i, key := range keys {
		fmt.Fprintf(&b, "    %q: %q,\n", key, values[i])
	}
	return b.String() + "})\n\n"
}

// fields returns the keys of a struct and the hints of their values, those of embedded structs included.
func (w *stubWriter) fields(u *types.Struct, seen map[*types.Struct]bool) (keys, values []string) {
	seen[u] = true
	for i := range u.NumFields() {
		f, tag := u.Field(i), reflect.StructTag(u.Tag(i)).Get("pyro")
		if inner := embedded(f); inner != nil && tag == "" {
			if !seen[inner] {
				k, v := w.fields(inner, seen)
				for i := range k {
					if !slices.Contains(keys, k[i]) {
						keys, values = append(keys, k[i]), append(values, v[i])
					}
				}
			}
			continue
		}
		if !f.Exported() || tag == "-" {
			continue
		}
		if tag == "" {
			tag = snakeCase(f.Name())
		}
		if i := slices.Index(keys, tag); i >= 0 {
			keys, values = slices.Delete(keys, i, i+1), slices.Delete(values, i, i+1) // the outer one counts
		}
		keys, values = append(keys, tag), append(values, w.hint(f.Type()))
	}
	return keys, values
}

// embedded returns the struct that a field embeds; nil if it does not.
func embedded(f *types.Var) *types.Struct {
	if !f.Embedded() {
		return nil
	}
	t := f.Type().Underlying()
	if p, ok := t.(*types.Pointer); ok {
		t = p.Elem().Underlying()
	}
	u, _ := t.(*types.Struct)
	return u
}
