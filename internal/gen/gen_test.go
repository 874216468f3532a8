package gen

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// committed are the interfaces of this project whose files are committed.
var committed = []Options{
	{Dir: "testdata/kinds", Type: "Kinds", Stub: "testdata/kinds/kinds.pyi"},
	{Dir: "testdata/kinds", Type: "shelf", Stub: "testdata/kinds/shelf.pyi"},
	{Dir: "../../examples/calculator", Type: "Calculator", Stub: "../../examples/calculator/calculator.pyi"},
	{Dir: "../../loadtest/peer", Type: "bench"},
}

// TestGolden holds committed files to what the compiler makes: those of the tests and of the examples.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, o := range committed {
		t.Run(o.Type, func(t *testing.T) {
			t.Parallel()
			if *update {
				if err := Generate(t.Context(), o); err != nil {
					t.Fatal(err)
				}
			}
			files, err := generate(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if got, err := os.ReadFile(f.path); err != nil || !bytes.Equal(got, f.text) {
					t.Errorf("%s is not up to date (%v): run go generate, or this test with -update", f.path, err)
				}
				if formatted, err := format.Source(f.text); filepath.Ext(f.path) == ".go" && (err != nil || !bytes.Equal(formatted, f.text)) {
					t.Errorf("%s: gofmt would change it (%v)", f.path, err)
				}
			}
		})
	}
}

// TestVet holds the committed files to go vet, which does not look into testdata by itself.
func TestVet(t *testing.T) {
	t.Parallel()
	if out, err := exec.CommandContext(t.Context(), "go", "vet", "./testdata/kinds", "./testdata/kinds/shapes").CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}

// module writes a module, from texts by file name.
func module(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/bank\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestErrors: everything that cannot be generated is one line that says why, and leaves no file.
func TestErrors(t *testing.T) {
	t.Parallel()
	method := func(m string) string { return "type Bank interface {\n" + m + "\n}" }
	tests := []struct{ name, code, want string }{
		{"unknown type", "type Bench interface{ Sit() error }", "package bank has no type Bank"},
		{"a struct", "type Bank struct{}", "bank.go:3: Bank is not an interface"},
		{"a function", "func Bank() {}", "bank.go:3: Bank is not an interface"},
		{"no methods", "type Bank interface{}", "bank.go:3: Bank has no methods"},
		{"a constraint", "type Bank interface{ ~int; Sum() error }", "bank.go:3: Bank is a constraint, not an interface of methods alone"},
		{"type parameters", "type Bank[T any] interface{ Put(T) error }",
			"bank.go:3: Bank has type parameters: declare an interface without them, such as one that embeds Bank[int]"},
		{"not exported", method("put() error"), "bank.go:4: put: the method is not exported, so others cannot call it"},
		{"no error", method("Balance() int"), "bank.go:4: Balance: its last result is not an error, and every call from afar can fail: add one"},
		{"no result", method("Put(x int)"), "bank.go:4: Put: its last result is not an error, and every call from afar can fail: add one"},
		{"function", method("Each(f func(int)) error"), "bank.go:4: Each: parameter f: values of type func(int) cannot be sent"},
		{"channel", method("Watch() (updates chan int, err error)"), "bank.go:4: Watch: result updates: values of type chan int cannot be sent"},
		{"channel in a map", method("Watch(map[string][]chan int) error"), "bank.go:4: Watch: parameter: values of type chan int cannot be sent"},
		{"named function", "type F func()\n" + method("Each(f *F) error"), "bank.go:5: Each: parameter f: values of type bank.F cannot be sent"},
		{"unsafe pointer", "import \"unsafe\"\n" + method("Poke(p unsafe.Pointer) error"), "bank.go:5: Poke: parameter p: values of type unsafe.Pointer cannot be sent"},
		{"stream", "import \"iter\"\n" + method("All() (iter.Seq2[int, error], error)"), "bank.go:5: All: result: an item stream is a method with iter.Seq2[T, error] as its only result, as each item may fail to come"},
		{"late context", "import \"context\"\n" + method("Put(x int, ctx context.Context) error"),
			"bank.go:5: Put: parameter ctx: a context is the first parameter, or none"},
		{"unknown parameter type", method("Put(a Account) error"), "bank.go:4: Put: a type is not known: bank.go:4:7: undefined: Account"},
		{"unknown embedded type", "type Bank interface{ Account; Put() error }", "bank.go:3: Bank: a type is not known: bank.go:3:22: undefined: Account"},
		{"unknown import", "import \"example.com/nowhere\"\n" + method("Put(a nowhere.A) error"),
			"bank.go:5: Put: a type is not known: bank.go:3:8: could not import example.com/nowhere (package example.com/nowhere does not compile)"},
		{"syntax", "type Bank interface {", "bank.go:3:23: expected '}', found 'EOF'"},
		{"name clash of methods", method("GetBalance() error\nGet_balance() error"),
			"bank.go:5: GetBalance and Get_balance are both called get_balance: choose another name with //pyro:name"},
		{"name clash by mark", method("A() error\n//pyro:name a\nB() error"), "bank.go:6: A and B are both called a: choose another name with //pyro:name"},
		{"name clash of parameters", method("Put(userID, user_id int) error"), "bank.go:4: Put: parameters userID and user_id are both called user_id"},
		{"name clash in the package", method("Put() error") + "\ntype BankProxy struct{}",
			"bank.go:6: BankProxy is declared already, and what is generated has that name: rename one of them"},
		{"name clash with an import", method("Put() error") + "\nvar core int",
			"bank.go:6: the package declares core, and what is generated imports a package of that name: rename it"},
		{"keyword of Python", method("Import() error"), "bank.go:4: Import: import is no name that Python could call: choose another with //pyro:name"},
		{"oneway with a result", method("//pyro:oneway\nPut() (int, error)"), "bank.go:5: Put: //pyro:oneway has no answer, so error is the only result it can have"},
		{"unknown mark", method("//pyro:once\nPut() error"),
			"bank.go:5: Put: unknown mark //pyro:once, want one of oneway, readonly, idempotent, keywords, name"},
		{"mark with a space", method("// pyro:oneway\nPut() error"),
			`bank.go:5: Put: "// pyro:oneway" is a comment like any other: write //pyro:oneway, with nothing in front`},
		{"mark in a comment of C", method("/* pyro:oneway */\nPut() error"),
			`bank.go:5: Put: "/* pyro:oneway */" is a comment like any other: write //pyro:oneway, with nothing in front`},
		{"mark behind", method("Put() error //pyro:oneway"),
			`bank.go:4: "//pyro:oneway" is above no method: write it into the line right above the one that it is for`},
		{"mark with a line between", method("//pyro:oneway\n\nPut() error"),
			`bank.go:4: "//pyro:oneway" is above no method: write it into the line right above the one that it is for`},
		{"mark of an embedded interface", method("//pyro:oneway\nOther\nPut() error") + "\ntype Other interface{ Get() error }",
			`bank.go:4: "//pyro:oneway" is above no method: write it into the line right above the one that it is for`},
		{"mark with an argument", method("//pyro:oneway really\nPut() error"), `bank.go:5: Put: //pyro:oneway takes no argument, got "really"`},
		{"two contracts", method("//pyro:readonly\n//pyro:idempotent\nPut() error"),
			"bank.go:6: Put: two marks about repeating it: keep one (readonly implies idempotent)"},
		{"two names", method("//pyro:name a\n//pyro:name b\nPut() error"), "bank.go:6: Put: two names, a and b"},
		{"no name", method("//pyro:name\nPut() error"), `bank.go:5: Put: //pyro:name "" is no name in Python`},
		{"bad name", method("//pyro:name a-b\nPut() error"), `bank.go:5: Put: //pyro:name "a-b" is no name in Python`},
		{"private name", method("//pyro:name _put\nPut() error"), "bank.go:5: Put: //pyro:name _put is private, which Pyro does not expose"},
		{"keywords of a variadic", method("//pyro:keywords\nPut(x ...int) error"), "bank.go:5: Put: //pyro:keywords cannot send x..., which have no names"},
		{"keywords without names", method("//pyro:keywords\nPut(int) error"), "bank.go:5: Put: //pyro:keywords needs a name for each parameter"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, map[string]string{"bank.go": "package bank\n\n" + tc.code + "\n"})
			err := Generate(t.Context(), Options{Dir: dir, Type: "Bank", Stub: filepath.Join(dir, "bank.pyi")})
			if err == nil || err.Error() != tc.want {
				t.Errorf("%s:\n got %v\nwant %s", tc.code, err, tc.want)
			}
			holds(t, dir, "bank.go", "go.mod")
		})
	}
}

// holds checks what is in a directory.
func holds(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
}

const bank = "package bank\n\ntype Bank interface { Close() error }\n"

// TestBadFiles: what cannot be read or written.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opts Options
		want string // DIR is the directory
	}{
		{"no type", Options{}, `type "" is no name of a Go type`},
		{"a type elsewhere", Options{Type: "other.Bank"}, `type "other.Bank" is no name of a Go type`},
		{"no directory", Options{Type: "Bank", Dir: "DIR/none"}, "DIR/none/bank_pyro.go is not in the directory of the package, DIR/none"},
		{"no Go file", Options{Type: "Bank", Dir: "DIR/empty"}, "no Go files in DIR/empty"},
		{"no name of a Go file", Options{Type: "Bank", Out: "DIR/bank.txt"}, "DIR/bank.txt: the name of a Go file ends in .go"},
		{"another directory", Options{Type: "Bank", Out: "DIR/empty/bank.go"}, "DIR/empty/bank.go is not in the directory of the package, DIR"},
		{"no name of a stub", Options{Type: "Bank", Stub: "DIR/bank.py"}, "DIR/bank.py: want the name of a Python module and .pyi, such as calculator.pyi"},
		{"no module", Options{Type: "Bank", Stub: "DIR/my-bank.pyi"}, "DIR/my-bank.pyi: want the name of a Python module and .pyi, such as calculator.pyi"},
		{"the Go file is a directory", Options{Type: "Bank", Out: "DIR/dir.go"}, "DIR/dir.go is not a regular file"},
		{"the stub is a directory", Options{Type: "Bank", Stub: "DIR/dir.pyi"}, "DIR/dir.pyi is not a regular file"},
		{"no Python class", Options{Type: "None", Stub: "DIR/bank.pyi"}, "None cannot be the name of a Python class"},
		{"a Go file of somebody", Options{Type: "Bank", Out: "DIR/bank.go"}, "DIR/bank.go was not generated by pyro-cluster gen: choose another name, or move it away"},
		{"a stub of somebody", Options{Type: "Bank", Stub: "DIR/hand.pyi"}, "DIR/hand.pyi was not generated by pyro-cluster gen: choose another name, or move it away"},
		{"the stub is nowhere", Options{Type: "Bank", Stub: "DIR/none/bank.pyi"}, "DIR/none/bank.pyi cannot be written: open DIR/none/"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, map[string]string{"bank.go": bank, "hand.pyi": "class Bank: ...\n"})
			for _, sub := range []string{"empty", "dir.go", "dir.pyi"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			in := func(path string) string { return strings.ReplaceAll(path, "DIR", dir) }
			o := Options{Dir: in(tc.opts.Dir), Type: tc.opts.Type, Out: in(tc.opts.Out), Stub: in(tc.opts.Stub)}
			if o.Dir == "" {
				o.Dir = dir
			}
			err := Generate(t.Context(), o)
			if err == nil || !strings.HasPrefix(err.Error(), in(tc.want)) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%+v:\n got %v\nwant %s", tc.opts, err, in(tc.want))
			}
			holds(t, dir, "bank.go", "dir.go", "dir.pyi", "empty", "go.mod", "hand.pyi")
		})
	}
}

// TestStubsOfOddTypes: what Python would not read, or would never end.
func TestStubsOfOddTypes(t *testing.T) {
	t.Parallel()
	dir := module(t, map[string]string{"odd.go": `package odd

type Tree map[string]Tree

type Self *Self

type Lists []Lists

type None struct{ X int }

type str struct{ Next *str }

// Odd is what some call """odd""".
type Odd interface {
	// Get has "quotes"
	Get(t Tree, s Self, l Lists) (str, error)
	// Put has \"\"
	Put(n None) error
}
`})
	stub := filepath.Join(dir, "odd.pyi")
	if err := Generate(t.Context(), Options{Dir: dir, Type: "Odd", Stub: stub}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(stub)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"class None_(TypedDict):", "class str_(TypedDict):", "dict[str, Any]", "list[Any]",
		`"""Odd is what some call \"\"\"odd\"\"\".`, `"""Get has "quotes\""""`, `"""Put has \\"\\\""""`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the stub has no %q", want)
		}
	}
	python := cmp.Or(os.Getenv("PCLUSTER_PYTHON"), filepath.Join("..", "..", ".venv", "bin", "python"))
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import sys; compile(open(sys.argv[1]).read(), 'stub', 'exec')", stub).CombinedOutput(); err != nil {
		t.Errorf("Python: %v\n%s\n%s", err, out, text)
	}
}

// A package that needs what is generated, or has an old version of it, is no obstacle.
func TestRegenerate(t *testing.T) {
	t.Parallel()
	dir := module(t, map[string]string{
		"bank.go":      bank + "\nvar _ Bank = NewBankProxy(nil)\n",
		"bank_pyro.go": "// Code generated by \"pyro-cluster gen --type Bank\". DO NOT EDIT.\n\npackage bank\n\nimport \"example.com/gone\"\n\ntype BankProxy struct { gone.Gone }\n",
	})
	o := Options{Dir: dir, Type: "Bank"}
	if err := Generate(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, "bank_pyro.go"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Generate(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Join(dir, "bank_pyro.go"))
	if err != nil || !os.SameFile(before, after) || before.Mode().Perm() != 0o644 {
		t.Errorf("the file was written again although nothing changed (%v), or has mode %v", err, before.Mode())
	}
	holds(t, dir, "bank.go", "bank_pyro.go", "go.mod")
}

// Interfaces of others may have types that cannot be named where they are embedded.
func TestForeignTypes(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, embedded, want string }{
		{"not exported", "other.Hidden", "other.go:6: Hide: parameter: type other.secret is not exported, so package bank cannot name it"},
		{"internal", "other.Inner", "other.go:8: Put: parameter: type deep.Deep is of an internal package, example.com/bank/other/internal/deep, that package bank cannot import"},
		{"marks of others", "other.Marked", "other.go:12: Drop: unknown mark //pyro:drop, want one of oneway, readonly, idempotent, keywords, name"},
		{"not exported method", "other.Private", "other.go:16: private: the method is not exported, so others cannot call it"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, map[string]string{
				"bank.go":                     "package bank\n\nimport \"example.com/bank/other\"\n\ntype Bank interface { " + tc.embedded + " }\n",
				"other/internal/deep/deep.go": "package deep\n\ntype Deep struct{}\n",
				"other/other.go": `package other

import "example.com/bank/other/internal/deep"

type secret struct{}
type Hidden interface { Hide([]secret) error }

type Inner interface { Put(deep.Deep) error }

type Marked interface {
	//pyro:drop
	Drop() error
}

type Private interface {
	private()
}
`,
			})
			if err := Generate(t.Context(), Options{Dir: dir, Type: "Bank"}); err == nil || err.Error() != tc.want {
				t.Errorf("got %v\nwant %s", err, tc.want)
			}
		})
	}
}

// The names of packages that are imported do not collide.
func TestImportNames(t *testing.T) {
	t.Parallel()
	dir := module(t, map[string]string{"bank.go": `package bank

import (
	"html/template"
	random "math/rand"
	text "text/template"
)

type rand int

type Bank interface {
	Render(h template.HTML, t *text.Template, r *random.Rand) error
}
`})
	files, err := generate(t.Context(), Options{Dir: dir, Type: "Bank"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\t\"html/template\"\n", "\ttemplate_ \"text/template\"\n", "\trand_ \"math/rand\"\n",
		"h template.HTML, t *template_.Template, r *rand_.Rand) error"} {
		if !bytes.Contains(files[0].text, []byte(want)) {
			t.Errorf("got %s\nwant it to have %q", files[0].text, want)
		}
	}
}
