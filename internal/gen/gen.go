// Package gen is the proxy compiler behind "pyro-cluster gen": it turns a Go interface into a proxy with that interface, a skeleton that serves a
// value of it, both without reflection, and a stub with type hints for Python.
//
//	type Calculator interface {
//		// Add returns the sum of two numbers.
//		//pyro:readonly
//		Add(ctx context.Context, a, b int) (int, error)
//	}
//
// becomes CalculatorProxy, NewCalculatorProxy and CalculatorServant.  From the bottom up: load.go reads a package, marks.go the directives above
// methods, model.go what the interface says, gocode.go and stub.go print it, write.go writes files.
package gen

import (
	"context"
	"fmt"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// Options say what to generate.
type Options struct {
	Dir  string // of the package; empty is the current directory
	Type string // the interface
	Out  string // the Go file, in Dir; empty is type_pyro.go there
	Stub string // the Python file, name.pyi; empty: none
}

// Generate writes the files, or none of them if there is an error, which is one line.  Files that would not change are left alone.
func Generate(ctx context.Context, o Options) error {
	files, err := generate(ctx, o)
	if err != nil {
		return err
	}
	return write(files)
}

// generate makes the files.
func generate(ctx context.Context, o Options) ([]file, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	src, err := load(ctx, o.Dir, ".", o.Out)
	if err != nil {
		return nil, err
	}
	s, err := newService(ctx, src, o.Type)
	if err != nil {
		return nil, err
	}
	code, err := goCode(s)
	if err != nil {
		return nil, err
	}
	files := []file{{o.Out, code}}
	if o.Stub != "" {
		files = append(files, file{o.Stub, stubCode(s, moduleName(o.Stub))})
	}
	return files, nil
}

// check looks for what would not work and fills in the defaults.
func (o *Options) check() error {
	if o.Dir == "" {
		o.Dir = "."
	}
	if !token.IsIdentifier(o.Type) {
		return fmt.Errorf("type %q is no name of a Go type", o.Type)
	}
	if o.Out == "" {
		o.Out = filepath.Join(o.Dir, snakeCase(o.Type)+"_pyro.go")
	}
	if filepath.Ext(o.Out) != ".go" {
		return fmt.Errorf("%s: the name of a Go file ends in .go", o.Out)
	}
	if !sameDir(filepath.Dir(o.Out), o.Dir) {
		return fmt.Errorf("%s is not in the directory of the package, %s", o.Out, o.Dir)
	}
	if err := mayWrite(o.Out); err != nil {
		return err
	}
	if o.Stub == "" {
		return nil
	}
	if name := moduleName(o.Stub); filepath.Ext(o.Stub) != ".pyi" || !isPythonName(name) {
		return fmt.Errorf("%s: want the name of a Python module and .pyi, such as calculator.pyi", o.Stub)
	}
	if !isPythonName(o.Type) {
		return fmt.Errorf("%s cannot be the name of a Python class", o.Type)
	}
	return mayWrite(o.Stub)
}

func moduleName(stub string) string { return strings.TrimSuffix(filepath.Base(stub), ".pyi") }

func sameDir(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
