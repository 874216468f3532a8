package report

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestSchemaDocument holds docs/loadtest-report.md against the structs: a section for each, and in it a row for each field, in order.
func TestSchemaDocument(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/loadtest-report.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string][]string{}
	section := ""
	for line := range strings.SplitSeq(string(b), "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = name
		}
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			field, _, _ := strings.Cut(rest, "`")
			documented[section] = append(documented[section], field)
		}
	}
	for _, v := range []any{
		Report{}, Environment{}, Target{}, Load{}, Step{}, Generator{}, Latency{}, Phase{}, Work{}, Interval{}, Fault{}, Ledger{}, Baseline{}, Check{},
	} {
		typ := reflect.TypeOf(v)
		if got, want := documented[typ.Name()], jsonFields(typ); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: the document has %v, the struct %v", typ.Name(), got, want)
		}
		delete(documented, typ.Name())
	}
	for name := range documented {
		t.Errorf("the document has a section %q, and there is no such struct", name)
	}
}

func jsonFields(typ reflect.Type) []string {
	var names []string
	for f := range typ.Fields() {
		if f.Anonymous {
			names = append(names, jsonFields(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
