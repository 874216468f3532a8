package gen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// source is a package: its syntax with comments, and its types.
type source struct {
	dir    string
	fset   *token.FileSet
	files  []*ast.File
	types  *types.Package
	broken error // the first type error, which matters only if it is about the interface

	fields map[token.Pos]*ast.Field // methods of interfaces, by the position of their names
	others map[string]*source       // packages whose interfaces are embedded, by path
}

// listed is what "go list" says about a package.
type listed struct {
	Dir               string
	ImportPath        string
	Name              string
	GoFiles, CgoFiles []string
	Imports           []string
	Export            string // a file with the compiled types
	Error             *struct{ Err string }
}

// load reads a package, which go finds in dir by its pattern.  The file skip is left out: it is about to be replaced.  Packages that are imported are
// compiled if need be; the package itself need not compile, since what is generated may be missing in it.
func load(ctx context.Context, dir, pattern, skip string) (*source, error) {
	packages, err := goList(ctx, dir, "-json=Dir,ImportPath,Name,GoFiles,CgoFiles,Imports,Error", pattern)
	if err != nil {
		return nil, err
	}
	if len(packages) != 1 {
		return nil, fmt.Errorf("%s: %d packages, want one", pattern, len(packages))
	}
	p := packages[0]
	if len(p.GoFiles)+len(p.CgoFiles) == 0 {
		if p.Error != nil {
			return nil, errors.New(oneLine(p.Error.Err))
		}
		return nil, fmt.Errorf("no Go files in %s", p.Dir)
	}
	s := &source{dir: dir, fset: token.NewFileSet(), fields: make(map[token.Pos]*ast.Field), others: make(map[string]*source)}
	if err := s.parse(p, skip); err != nil {
		return nil, err
	}
	return s, s.check(ctx, p)
}

// goList runs "go list" in dir.
func goList(ctx context.Context, dir string, args ...string) ([]listed, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-e"}, args...)...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if text := oneLine(stderr.String()); text != "" {
			return nil, fmt.Errorf("go list: %s", text)
		}
		return nil, fmt.Errorf("go list: %w", err)
	}
	var packages []listed
	for d := json.NewDecoder(&stdout); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		packages = append(packages, p)
	}
}

func (s *source) parse(p listed, skip string) error {
	skipped, _ := os.Stat(skip) // nil if it is not there yet
	for _, name := range append(p.GoFiles, p.CgoFiles...) {
		path := filepath.Join(p.Dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if os.SameFile(info, skipped) {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return errors.New(oneLine(err.Error()))
		}
		s.files = append(s.files, file)
		ast.Inspect(file, s.addFields)
	}
	return nil
}

// addFields remembers where methods of interfaces are declared.
func (s *source) addFields(n ast.Node) bool {
	if i, ok := n.(*ast.InterfaceType); ok {
		for _, f := range i.Methods.List {
			for _, name := range f.Names {
				s.fields[name.Pos()] = f
			}
		}
	}
	return true
}

// check finds the types.
func (s *source) check(ctx context.Context, p listed) error {
	exports, err := s.exports(ctx, p.Imports)
	if err != nil {
		return err
	}
	open := func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("package %s does not compile", path)
		}
		return os.Open(exports[path])
	}
	config := types.Config{
		Importer:         importer.ForCompiler(s.fset, "gc", open),
		FakeImportC:      true,
		IgnoreFuncBodies: true,
		Error: func(err error) {
			if s.broken == nil {
				s.broken = err
			}
		},
	}
	s.types, _ = config.Check(p.ImportPath, s.fset, s.files, nil) // its error is s.broken
	return nil
}

// exports returns the files with the types of packages, which go compiles unless it has them.
func (s *source) exports(ctx context.Context, paths []string) (map[string]string, error) {
	files := make(map[string]string)
	args := []string{"-export", "-json=ImportPath,Export", "--"}
	for _, path := range paths {
		if path != "C" && path != "unsafe" {
			args = append(args, path)
		}
	}
	if len(args) == 3 {
		return files, nil
	}
	packages, err := goList(ctx, s.dir, args...)
	for _, p := range packages {
		files[p.ImportPath] = p.Export
	}
	return files, err
}

// field returns the declaration of a method of an interface; nil if it is not to be found.
func (s *source) field(ctx context.Context, m *types.Func) *ast.Field {
	if m.Pkg() == s.types {
		return s.fields[m.Pos()]
	}
	named, ok := m.Signature().Recv().Type().(*types.Named)
	if m.Pkg() == nil || !ok {
		return nil // error's method
	}
	other, ok := s.others[m.Pkg().Path()]
	if !ok {
		other, _ = load(ctx, s.dir, m.Pkg().Path(), "") // it compiled a moment ago
		s.others[m.Pkg().Path()] = other
	}
	if other == nil {
		return nil
	}
	declared, _, _ := types.LookupFieldOrMethod(other.types.Scope().Lookup(named.Obj().Name()).Type(), false, other.types, m.Name())
	if declared == nil {
		return nil
	}
	return other.fields[declared.Pos()]
}

// at is the beginning of an error about a place in the package.
func (s *source) at(pos token.Pos) string {
	p := s.fset.Position(pos)
	return fmt.Sprintf("%s:%d", filepath.Base(p.Filename), p.Line)
}

// oneLine joins what others wrote into an error.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(strings.TrimSpace(text), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
