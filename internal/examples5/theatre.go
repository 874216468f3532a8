package main

import (
	"context"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

//go:embed loopback.py
var loopback string

// theatre has what all examples share: their files and a cluster of three name server nodes.
type theatre struct {
	options
	dir      *spawn.Dir
	examples string
	cluster  *spawn.Cluster
	names    *naming.Client
}

func (t *theatre) open(ctx context.Context, source string) error {
	var err error
	if t.dir, err = spawn.TempDir("pyro-cluster-examples-"); err != nil {
		return err
	}
	if t.examples, err = unpack(source, t.dir.Path); err != nil {
		return err
	}
	if err := checkComplete(t.examples); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.dir.Path, "sitecustomize.py"), []byte(loopback), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	t.cluster = &spawn.Cluster{Program: t.program, Dir: t.dir.Path}
	if err := t.cluster.Start(ctx, 3); err != nil {
		return err
	}
	t.names, err = naming.NewClient(t.cluster.Addresses(), naming.ClientOptions{LookupDelay: time.Second})
	return err
}

func (t *theatre) close() error {
	var err error
	if t.names != nil {
		t.names.Close()
	}
	if t.cluster != nil {
		err = t.cluster.Stop(syscall.SIGTERM)
	}
	if t.dir != nil {
		err = errors.Join(err, t.dir.Remove())
	}
	return err
}

// checkComplete checks that the table has each folder of the package.
func checkComplete(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var missing []string
	for _, entry := range entries {
		if entry.IsDir() && !slices.ContainsFunc(examples, func(e example) bool { return e.folder() == entry.Name() }) {
			missing = append(missing, entry.Name())
		}
	}
	if missing != nil {
		return fmt.Errorf("the table lacks the examples %s", strings.Join(missing, ", "))
	}
	return nil
}

// environ is the environment of an example's programs: none of the user's settings of Pyro or Python.
func (t *theatre) environ() []string {
	var env []string
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "PYRO") && !strings.HasPrefix(setting, "PYTHON") {
			env = append(env, setting)
		}
	}
	env = append(env, t.cluster.PyroEnv()...)
	return append(env, "PYTHONPATH="+t.dir.Path, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1", "TERM=dumb", "TZ=UTC")
}

// result is what became of an example.
type result struct {
	name   string
	server string // its language
	why    string // it did not play
	took   time.Duration
	err    error
	report string // what the programs printed
}

// playAll plays what was chosen, and returns the results in the order of the table.
func (t *theatre) playAll(ctx context.Context) ([]result, error) {
	var folders [][]*example // those of a folder use the same names and files, so they play one after the other
	var alone []*example
	for i := range examples {
		e := &examples[i]
		last := len(folders) - 1
		switch {
		case !t.only.MatchString(e.name):
		case e.alone:
			alone = append(alone, e)
		case last >= 0 && folders[last][0].folder() == e.folder():
			folders[last] = append(folders[last], e)
		default:
			folders = append(folders, []*example{e})
		}
	}
	results := make(map[*example][]result)
	var mu sync.Mutex // protects results
	perform := func(es []*example) {
		for _, e := range es {
			rs := t.perform(ctx, e)
			mu.Lock()
			results[e] = rs
			mu.Unlock()
		}
	}
	each(t.parallel, folders, perform)
	perform(alone)
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	var all []result
	for i := range examples {
		all = append(all, results[&examples[i]]...)
	}
	if all == nil {
		return nil, fmt.Errorf("no example is called %q", t.only)
	}
	return all, nil
}

// each calls do with each item, n at a time, and waits.
func each[T any](n int, items []T, do func(T)) {
	queue := make(chan T)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for item := range queue {
				do(item)
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	wg.Wait()
}

// perform plays an example with its own server, and with the one in Go if there is one.
func (t *theatre) perform(ctx context.Context, e *example) []result {
	if e.why != "" {
		return []result{{name: e.name, why: e.why}}
	}
	stock, want := t.play(ctx, e, "")
	if !e.inGo {
		return []result{stock}
	}
	inGo, got := t.play(ctx, e, filepath.Join(t.servers, e.folder()))
	if inGo.err == nil && stock.err == nil {
		inGo.err = compare(want, got, e.differs)
	}
	return []result{stock, inGo}
}

// play plays an example once, and returns what its clients printed too.
func (t *theatre) play(ctx context.Context, e *example, goServer string) (result, string) {
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	s := &stage{ctx: ctx, dir: filepath.Join(t.examples, e.folder()), env: t.environ(), python: t.python, goServer: goServer, names: t.names}
	r := result{name: e.name, server: "Python"}
	if goServer != "" {
		r.server = "Go"
	}
	start := time.Now()
	e.play(s)
	s.end()
	r.took, r.err, r.why = time.Since(start), s.err, s.why
	if r.err != nil || t.verbose {
		r.report = s.report()
	}
	return r, s.printed()
}

// show prints the table.  The error says how many failed.
func show(out io.Writer, results []result) error {
	failed, passed := 0, 0
	for _, r := range results {
		if r.report != "" {
			fmt.Fprintf(out, "=== %s, server in %s\n%s", r.name, r.server, r.report)
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "EXAMPLE\tSERVER\tRESULT\tTOOK\tWHY NOT")
	for _, r := range results {
		switch {
		case r.why != "":
			fmt.Fprintf(table, "%s\t-\tnot run\t\t%s\n", r.name, r.why)
		case r.err != nil:
			failed++
			why, _, _ := strings.Cut(r.err.Error(), "\n")
			fmt.Fprintf(table, "%s\t%s\tFAILED\t%.1fs\t%s\n", r.name, r.server, r.took.Seconds(), why)
		default:
			passed++
			ok := "ok"
			if r.server == "Go" {
				ok = "same"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%.1fs\t\n", r.name, r.server, ok, r.took.Seconds())
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.err != nil {
			fmt.Fprintf(out, "\n%s, server in %s: %v\n", r.name, r.server, r.err)
		}
	}
	fmt.Fprintf(out, "\n%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d failed", failed, failed+passed)
	}
	return nil
}

// awaitName waits until a name is registered.
func (s *stage) awaitName(name string) {
	if s.err != nil {
		return
	}
	for {
		_, err := s.names.Lookup(s.ctx, name) // waits a second for it
		switch {
		case err == nil:
			return
		case s.ctx.Err() != nil || !errors.Is(err, naming.ErrUnknownName):
			s.fail(fmt.Errorf("%s is not registered: %w", name, err))
			return
		}
	}
}

// cannot says why the example cannot play here.
func (s *stage) cannot(why string) { s.why = why }

// certificatesEnd is the day on which the first of some certificates has ended; empty if none has.
func (s *stage) certificatesEnd(paths ...string) string {
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Join(s.dir, path))
		block, _ := pem.Decode(data)
		if err != nil || block == nil {
			s.fail(fmt.Errorf("no certificate in %s: %w", path, errors.Join(err, fs.ErrInvalid)))
			return ""
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			s.fail(fmt.Errorf("%s: %w", path, err))
			return ""
		}
		if time.Now().After(cert.NotAfter) {
			return cert.NotAfter.Format(time.DateOnly)
		}
	}
	return ""
}
