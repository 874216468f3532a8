// Package pyvalues describes values in a text that internal/interop/testdata/values.py makes of Python's, too: two texts are equal if and
// only if type and value are.  It is for tests.
package pyvalues

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Text describes a value that was read, or could have been.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case int64:
		return "i" + strconv.FormatInt(v, 10)
	case *big.Int:
		return "i" + v.String()
	case float64:
		return float(v)
	case complex128:
		return "c" + float(real(v)) + float(imag(v))
	case string:
		return "s" + hex.EncodeToString([]byte(v))
	case []byte:
		return "b" + hex.EncodeToString(v)
	case []any:
		return "[" + strings.Join(texts(v), ",") + "]"
	case core.Tuple:
		return "(" + strings.Join(texts(v), ",") + ")"
	case core.Set:
		return "set{" + unique(v) + "}"
	case core.FrozenSet:
		return "frozenset{" + unique(v) + "}"
	case core.Ellipsis:
		return "..."
	case core.Date:
		return fmt.Sprintf("date%04d-%02d-%02d", v.Year, v.Month, v.Day)
	case time.Time:
		return "time" + strconv.FormatInt(v.UnixMicro(), 10)
	case core.URI:
		return "uri" + hex.EncodeToString([]byte(v.String()))
	}
	return object(v)
}

func object(v any) string {
	switch v := v.(type) {
	case map[string]any:
		return mapText(v)
	case core.Dict:
		items := make([]string, len(v)) // nan can be a key more than once
		for i, p := range v {
			items[i] = Text(p.Key) + ":" + Text(p.Value)
		}
		return dict(items)
	case core.ClassDict:
		return "object " + v.Class + mapText(v.Attrs)
	case core.ProxyState:
		methods := [][]string{v.Oneway, v.Methods, v.Attrs}
		for i, names := range methods {
			methods[i] = slices.Sorted(slices.Values(names))
		}
		return fmt.Sprintf("proxy %s %v %s %s", v.URI, methods, Text(v.Handshake), v.Serializer)
	case *core.RemoteError:
		attrs := make(map[string]any)
		for k, x := range v.Attributes {
			attrs[k] = x
		}
		if v.Traceback != nil {
			lines := make([]any, len(v.Traceback))
			for i, line := range v.Traceback {
				lines[i] = line
			}
			attrs["_pyroTraceback"] = lines
		}
		return "exception " + string(v.Class) + Text(core.Tuple(v.Args)) + mapText(attrs)
	}
	return fmt.Sprintf("unknown %T", v)
}

func float(f float64) string {
	if math.IsNaN(f) {
		return "fnan"
	}
	return fmt.Sprintf("f%016x", math.Float64bits(f))
}

func texts(items []any) []string {
	s := make([]string, len(items))
	for i, v := range items {
		s[i] = Text(v)
	}
	return s
}

// unique are the members of a set in an order of their own.
func unique(items []any) string {
	s := texts(items)
	slices.Sort(s)
	return strings.Join(slices.Compact(s), ",")
}

func mapText(m map[string]any) string {
	items := make([]string, 0, len(m))
	for k, v := range m {
		items = append(items, Text(k)+":"+Text(v))
	}
	return dict(items)
}

func dict(items []string) string {
	slices.Sort(items)
	return "{" + strings.Join(items, ",") + "}"
}
