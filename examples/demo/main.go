// Command demo tells what pyro-cluster is for: three name server nodes, three replicas of one object (two in Go, one a stock Python
// Pyro5 server), a Go client and a stock Python client that call all the time, and a program that registers names all the time. While
// they do, a replica and then the leader of the name servers are killed with SIGKILL and started again.
//
// It ends by itself, with status 0 only if no call of the Go client failed and no acknowledged registration is missing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == "replica" {
		return serveReplica(ctx, args[1:], stdout)
	}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	program := flags.String("program", "bin/pyro-cluster", "the pyro-cluster `program`")
	python := flags.String("python", "python3", "a `python` that has Pyro5")
	if err := flags.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s := &story{out: stdout, program: *program, python: *python, self: self}
	return s.tell(ctx)
}
