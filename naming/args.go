package naming

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Arguments come from programs of another language, so they are judged as Python would: by truth value where Pyro's name
// server writes "if x", and with the exceptions that Python raises there.

// truthy is Python's bool(v).
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case int:
		return v != 0
	case float64:
		return v != 0
	case complex128:
		return v != 0
	case *big.Int:
		return v.Sign() != 0
	case string:
		return v != ""
	case []byte:
		return len(v) > 0
	}
	if n, ok := length(v); ok {
		return n > 0
	}
	return true
}

func length(v any) (int, bool) {
	switch v := v.(type) {
	case []any:
		return len(v), true
	case core.Tuple:
		return len(v), true
	case core.Set:
		return len(v), true
	case core.FrozenSet:
		return len(v), true
	case map[string]any:
		return len(v), true
	case core.Dict:
		return len(v), true
	}
	return 0, false
}

// pythonType is the name of v's type in Python's error texts.
func pythonType(v any) string {
	switch v.(type) {
	case nil:
		return "NoneType"
	case bool:
		return "bool"
	case int, int64, *big.Int:
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
	case core.Tuple:
		return "tuple"
	case core.Set:
		return "set"
	case core.FrozenSet:
		return "frozenset"
	case map[string]any, core.Dict:
		return "dict"
	case core.URI:
		return "URI"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", v), "core.")
}

func typeError(format string, args ...any) error { return core.TypeError.New(format, args...) }

// nameArg is a parameter that must be a str.
func nameArg(what string, v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", typeError("%s must be a str", what)
	}
	return s, nil
}

// uriArg is a URI, as text or as the class; the text is kept as it came, as Pyro does.
func uriArg(v any) (string, error) {
	switch v := v.(type) {
	case core.URI:
		return v.String(), nil
	case string:
		if _, err := core.ParseURI(v); err != nil {
			return "", asPyroError(err)
		}
		return v, nil
	}
	return "", typeError("only URIs or strings can be registered")
}

// asPyroError gives errors of parsing the class that Pyro's have.
func asPyroError(err error) error {
	if isRemote(err) {
		return err
	}
	return core.PyroError.New("%v", err)
}

// tagsArg is a collection of str, or None.  Pyro stores any collection; other members than str could not be kept.
func tagsArg(v any) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	if _, ok := v.(string); ok {
		return nil, typeError("metadata should not be a str, but another iterable (set, list, etc)")
	}
	items, err := members(v)
	if err != nil {
		return nil, err
	}
	tags := make([]string, 0, len(items))
	for _, item := range items {
		tag, ok := item.(string)
		if !ok {
			return nil, typeError("metadata must be strings, not %s", pythonType(item))
		}
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// searchArg is what yplookup is asked to find: the tags, and how many members are no str and so are found nowhere.
func searchArg(what string, v any) (tags []string, others int, err error) {
	if _, ok := v.(string); ok {
		return nil, 0, typeError("%s should not be a str, but another iterable (set, list, etc)", what)
	}
	items, err := members(v)
	if err != nil {
		return nil, 0, err
	}
	for _, item := range items {
		if tag, ok := item.(string); ok {
			tags = append(tags, tag)
		} else {
			others++
		}
	}
	slices.Sort(tags)
	return slices.Compact(tags), others, nil
}

// members is Python's set(v): the members of a collection, the keys of a dict.
func members(v any) ([]any, error) {
	var items []any
	switch v := v.(type) {
	case []any:
		items = v
	case core.Tuple:
		items = v
	case core.Set:
		return v, nil
	case core.FrozenSet:
		return v, nil
	case []byte:
		for _, b := range v {
			items = append(items, int64(b))
		}
	case map[string]any:
		for key := range v {
			items = append(items, key)
		}
	case core.Dict:
		for _, pair := range v {
			items = append(items, pair.Key)
		}
	default:
		return nil, typeError("'%s' object is not iterable", pythonType(v))
	}
	for _, item := range items {
		if err := hashable(item); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// hashable is the error of Python's hash(v), which its dicts ask for.
func hashable(v any) error {
	switch v.(type) {
	case []any, core.Set, map[string]any, core.Dict:
		return typeError("unhashable type: '%s'", pythonType(v))
	}
	return nil
}

// optionalText is a str or None.
func optionalText(what string, v any) (string, error) {
	if v == nil {
		return "", nil
	}
	return nameArg(what, v)
}

// maxWeight is far beyond any use and far from overflow in sums.
const maxWeight = 1_000_000

func weightArg(v any) (int, error) {
	n, ok := v.(int64)
	if i, isInt := v.(int); isInt {
		n, ok = int64(i), true
	}
	if !ok {
		return 0, typeError("weight must be an int")
	}
	if n < 0 || n > maxWeight {
		return 0, core.ValueError.New("weight must be between 0 and %d", maxWeight)
	}
	return int(n), nil
}
