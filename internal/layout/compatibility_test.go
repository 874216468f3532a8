package layout

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rowCounts is how many rows the table of docs/compatibility.md has for each letter: A1 to A7, and so on.
var rowCounts = map[string]int{
	"A": 7, "N": 15, "H": 11, "D": 5, "T": 6, "E": 11, "O": 25, "C": 19, "S": 11, "Z": 8, "R": 6, "X": 8, "M": 4, "G": 11,
}

var (
	tableRow  = regexp.MustCompile(`(?m)^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \| ([^|]*)\|$`)
	specLine  = regexp.MustCompile(`(?m)(?://|#) spec: ?(.*)$`)
	specID    = regexp.MustCompile(`^[A-Z]\d+\b`)
	separator = regexp.MustCompile(`^[ ,]+`)
)

// TestCompatibility holds the table of docs/compatibility.md against the tests that name its rows.
func TestCompatibility(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, errs := parseRows(string(text))
	named := make(map[string][]string) // by row: the files whose tests name it
	for _, path := range testFiles(t) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ids, bad := namedRows(string(text))
		for _, line := range bad {
			errs = append(errs, fmt.Sprintf("%s: %q names no row", path, line))
		}
		for _, id := range ids {
			named[id] = append(named[id], path)
		}
	}
	for _, err := range append(errs, checkRows(rows, named)...) {
		t.Error(err)
	}
}

// parseRows returns what the table says about each row: works, differs or not offered.
func parseRows(text string) (rows map[string]string, errs []string) {
	rows = make(map[string]string)
	for _, m := range tableRow.FindAllStringSubmatch(text, -1) {
		id, here, how := m[1], m[3], strings.TrimSpace(m[4])
		switch {
		case rows[id] != "":
			errs = append(errs, fmt.Sprintf("row %s is there twice", id))
		case here != "works" && here != "differs" && here != "not offered":
			errs = append(errs, fmt.Sprintf("row %s: %q, want works, differs or not offered", id, here))
		case here != "works" && how == "":
			errs = append(errs, fmt.Sprintf("row %s %s, but not how or why", id, here))
		}
		rows[id] = here
	}
	for letter, count := range rowCounts {
		for i := range count {
			if id := fmt.Sprint(letter, i+1); rows[id] == "" {
				errs = append(errs, fmt.Sprintf("row %s is missing", id))
			}
		}
	}
	return rows, errs
}

// namedRows returns the rows that comments of a file name, and the comments that name none.
func namedRows(text string) (ids, bad []string) {
	for _, m := range specLine.FindAllStringSubmatch(text, -1) {
		rest, found := m[1], false
		for id := specID.FindString(rest); id != ""; id = specID.FindString(rest) {
			ids, found = append(ids, id), true
			rest = rest[len(id):]
			rest = rest[len(separator.FindString(rest)):]
		}
		if !found {
			bad = append(bad, m[0])
		}
	}
	return ids, bad
}

// checkRows compares the table with the tests.
func checkRows(rows map[string]string, named map[string][]string) (errs []string) {
	for id, here := range rows {
		letter, count := id[:1], 0
		if _, err := fmt.Sscan(id[1:], &count); err != nil || count < 1 || count > rowCounts[letter] {
			errs = append(errs, fmt.Sprintf("row %s is none of the list", id))
		}
		if here == "works" && named[id] == nil {
			errs = append(errs, fmt.Sprintf("row %s works, but no test names it", id))
		}
	}
	for id, paths := range named {
		if rows[id] == "" {
			slices.Sort(paths)
			errs = append(errs, fmt.Sprintf("%s names row %s, which the table does not have", strings.Join(slices.Compact(paths), ", "), id))
		}
	}
	slices.Sort(errs)
	return errs
}

// testFiles lists the files whose comments name rows: tests, the Python programs of tests, and the table of examples that are run.
func testFiles(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != "../.." && strings.HasPrefix(entry.Name(), ".") || entry.IsDir() && entry.Name() == "bin":
			return fs.SkipDir
		case entry.IsDir() || filepath.Base(path) == "compatibility_test.go":
			return nil
		case strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "internal/examples5/table.go"),
			strings.HasSuffix(path, ".py") && strings.Contains(path, "/testdata/"):
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestParseRows(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	for letter, count := range rowCounts {
		for i := range count {
			fmt.Fprintf(&table, "| %s%d | what | works | |\n", letter, i+1)
		}
	}
	whole := table.String()
	for _, tt := range []struct{ name, text, want string }{
		{"whole", whole, ""},
		{"a row less", strings.Replace(whole, "| C7 |", "| - |", 1), "row C7 is missing"},
		{"a row twice", whole + "| C7 | what | works | |\n", "row C7 is there twice"},
		{"another word", strings.Replace(whole, "| C7 | what | works |", "| C7 | what | perhaps |", 1), `row C7: "perhaps"`},
		{"no reason", strings.Replace(whole, "| C7 | what | works |", "| C7 | what | not offered |", 1), "row C7 not offered, but not how or why"},
		{"a reason", strings.Replace(whole, "| C7 | what | works | |", "| C7 | what | differs | so | ", 1), "row C7 is missing"}, // a column too many
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, errs := parseRows(tt.text); tt.want == "" && errs != nil || tt.want != "" && !strings.Contains(strings.Join(errs, "\n"), tt.want) {
				t.Errorf("got %q, want %q", errs, tt.want)
			}
		})
	}
}

func TestNamedRows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		ids, bad   []string
	}{
		{"none", "// a comment\nspec: C7\n", nil, nil},
		{"one", "// spec: C7\nfunc", []string{"C7"}, nil},
		{"several", "\t// spec: C7, O1 S9\n# spec: Z8; what is refused: A1\n", []string{"C7", "O1", "S9", "Z8"}, nil},
		{"a typing error", "// spec: 7C\n", nil, []string{"// spec: 7C"}},
		{"nothing", "// spec:\n", nil, []string{"// spec:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if ids, bad := namedRows(tt.text); !slices.Equal(ids, tt.ids) || !slices.Equal(bad, tt.bad) {
				t.Errorf("%q: got %q and %q, want %q and %q", tt.text, ids, bad, tt.ids, tt.bad)
			}
		})
	}
}

func TestCheckRows(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		rows  map[string]string
		named map[string][]string
		want  string
	}{
		{"good", map[string]string{"C7": "works", "C8": "differs"}, map[string][]string{"C7": {"a"}}, ""},
		{"no test", map[string]string{"C7": "works"}, nil, "row C7 works, but no test names it"},
		{"no row", nil, map[string][]string{"C7": {"b", "a", "b"}}, "a, b names row C7, which the table does not have"},
		{"a row that is none", map[string]string{"C77": "differs"}, nil, "row C77 is none of the list"},
		{"a letter that is none", map[string]string{"Q1": "differs"}, nil, "row Q1 is none of the list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := strings.Join(checkRows(tt.rows, tt.named), "\n"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
