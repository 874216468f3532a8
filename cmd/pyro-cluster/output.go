package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// print writes value as JSON, or calls table for the form that people read.  Cells are separated by tabs.
func (g *globals) print(w io.Writer, value any, table func(w io.Writer)) error {
	if g.output == "json" {
		return printJSON(w, value)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	table(t)
	return t.Flush()
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// row writes the cells of one line of a table.  A tab or newline inside a cell would shift the others.
func row(w io.Writer, cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = strings.Map(printable, fmt.Sprint(c))
		if texts[i] == "" {
			texts[i] = "-"
		}
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '\uFFFD'
	}
	return r
}

// stream is a result whose items come one by one: a *core.Stream.
type stream interface {
	All(ctx context.Context) iter.Seq2[any, error]
}

// printResult writes what a call returned: text as it is, everything else as JSON, and of a stream each item when it comes.
func (g *globals) printResult(ctx context.Context, w io.Writer, v any) error {
	if s, ok := v.(stream); ok {
		for item, err := range s.All(ctx) {
			if err == nil {
				err = g.printResult(ctx, w, item)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if s, ok := v.(string); ok && g.output != "json" {
		_, err := fmt.Fprintln(w, s)
		return err
	}
	return printJSON(w, jsonable(v))
}

// jsonable returns v with everything replaced that JSON does not have: tuples and sets become lists, keys of dicts their text, bytes
// base64, and the rest the text that people know it by.
func jsonable(v any) any {
	switch v := v.(type) {
	case float64:
		return jsonFloat(v)
	case complex128:
		return fmt.Sprint(v)
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case core.Dict:
		m := make(map[string]any, len(v))
		for _, p := range v {
			m[fmt.Sprint(jsonable(p.Key))] = jsonable(p.Value)
		}
		return m
	case core.ClassDict:
		return withClass(v.Class, v.Attrs)
	case core.Date:
		return fmt.Sprintf("%04d-%02d-%02d", v.Year, v.Month, v.Day)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case core.URI:
		return v.String()
	case core.ProxyState:
		return v.URI.String()
	case *core.RemoteError:
		return withClass(string(v.Class), map[string]any{"args": v.Args})
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = jsonable(value)
		}
		return m
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.Slice { // []any, Tuple, Set, FrozenSet
		list := make([]any, r.Len())
		for i := range list {
			list[i] = jsonable(r.Index(i).Interface())
		}
		return list
	}
	return v
}

func withClass(class string, attrs map[string]any) any {
	m := map[string]any{"__class__": class}
	for key, value := range attrs {
		m[key] = jsonable(value)
	}
	return m
}

func jsonFloat(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprint(f)
	}
	return f
}

// tagList is how tags are printed: sorted, by commas.
func tagList(tags []string) string {
	return strings.Join(slices.Sorted(slices.Values(tags)), ",")
}
