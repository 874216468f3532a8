// Command examples5 runs the example programs of Pyro5, unchanged, with the name server of pyro-cluster: a table says what each needs
// (table.go).  Those whose server examples/pyro5 has in Go run with that too, and their clients must print the same.
//
// The examples are those of Pyro5's source package, which pip fetches into a folder and whose checksum is pinned.  Everything runs on the
// loopback interface.  It prints a table, and ends with status 0 only if all went well.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "examples5:", err)
		os.Exit(1)
	}
}

// options are those of the command line; paths are absolute.
type options struct {
	program  string
	python   string
	servers  string
	cache    string
	only     *regexp.Regexp
	parallel int
	patience time.Duration
	verbose  bool
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("examples5", flag.ContinueOnError)
	flags.StringVar(&o.program, "program", "bin/pyro-cluster", "the pyro-cluster `program`")
	flags.StringVar(&o.python, "python", ".venv/bin/python", "a `python` that has Pyro5 and pip")
	flags.StringVar(&o.servers, "servers", "bin/pyro5", "`folder` of the programs of examples/pyro5")
	flags.StringVar(&o.cache, "cache", ".cache", "`folder` for the source package of Pyro5")
	only := flags.String("run", "", "run only examples whose name matches this `pattern`")
	flags.IntVar(&o.parallel, "parallel", 4, "how many run at the same time; most of them wait most of the time")
	flags.DurationVar(&o.patience, "timeout", 4*time.Minute, "for each example")
	flags.BoolVar(&o.verbose, "v", false, "show what the programs print")
	err := flags.Parse(args)
	if err != nil {
		return o, err
	}
	for _, path := range []*string{&o.program, &o.python, &o.servers, &o.cache} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	if o.parallel < 1 || flags.NArg() > 0 {
		return o, fmt.Errorf("wrong usage: -parallel %d, arguments %q", o.parallel, flags.Args())
	}
	o.only, err = regexp.Compile(*only)
	return o, err
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.cache, 0o755); err != nil {
		return err
	}
	source, err := fetchSource(ctx, o.python, o.cache)
	if err != nil {
		return err
	}
	t := &theatre{options: o}
	if err := t.open(ctx, source); err != nil {
		return errors.Join(err, t.close())
	}
	results, err := t.playAll(ctx)
	err = errors.Join(err, t.close())
	if err != nil {
		return err
	}
	return show(out, results)
}
