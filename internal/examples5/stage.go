package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/naming"
)

// stage is where one example plays: its folder, the environment of its programs, and those that run.  After the first error its
// methods, and those of its actors, do nothing; so that a play reads as what is meant to happen.
type stage struct {
	ctx      context.Context
	dir      string   // of the example
	env      []string // of its programs
	python   string
	goServer string // the program that takes the place of the Python servers; empty if those run

	names *naming.Client

	err    error
	why    string // it cannot play here
	actors []*actor
}

// actor is a program on a stage.
type actor struct {
	*process
	s      *stage
	client bool // what it prints must be the same with a server in Go
}

func (s *stage) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// server starts an example's server, args[0] being its script.  If the stage has a Go server, that is started, with the arguments
// after the script's name.
func (s *stage) server(args ...string) *actor {
	if s.goServer != "" {
		return s.start(filepath.Base(s.goServer)+" (Go)", s.goServer, args[1:]...)
	}
	return s.start(args[0], s.python, args...)
}

// client starts a program whose output is to be the same with each kind of server.
func (s *stage) client(args ...string) *actor {
	a := s.start(args[0], s.python, args...)
	a.client = true
	return a
}

// run starts any other Python program of the example.
func (s *stage) run(args ...string) *actor { return s.start(args[0], s.python, args...) }

// in is a view of the same stage with a subfolder as the folder of the programs that it starts.
func (s *stage) in(folder string, start func(...string) *actor, args ...string) *actor {
	dir := s.dir
	s.dir = filepath.Join(dir, folder)
	defer func() { s.dir = dir }()
	return start(args...)
}

func (s *stage) start(name, program string, args ...string) *actor {
	if name == "-m" {
		name = args[1] // a module
	}
	a := &actor{s: s}
	if s.err != nil {
		return a
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = s.dir, s.env
	p, err := startProcess(name, cmd)
	if err != nil {
		s.fail(err)
		return a
	}
	a.process = p
	s.actors = append(s.actors, a)
	return a
}

// end ends all programs, the last one first.
func (s *stage) end() {
	for i := len(s.actors) - 1; i >= 0; i-- {
		s.actors[i].kill()
	}
}

// types writes lines to the program, as a person would.
func (a *actor) types(lines ...string) *actor {
	for _, line := range lines {
		if a.s.err != nil {
			return a
		}
		if _, err := io.WriteString(a.stdin, line+"\n"); err != nil {
			a.s.fail(fmt.Errorf("%s takes no input: %w", a.name, err))
		}
	}
	return a
}

// sees waits for output that matches the pattern, and returns its first group, or all of the match.
func (a *actor) sees(pattern string) string {
	if a.s.err != nil {
		return ""
	}
	text, err := a.await(a.s.ctx, regexp.MustCompile(pattern))
	if err != nil {
		a.s.fail(err)
	}
	return text
}

// prints waits for each of the texts; their order does not matter.
func (a *actor) prints(texts ...string) *actor {
	for _, text := range texts {
		a.sees(regexp.QuoteMeta(text))
	}
	return a
}

// uri is the first address that the program prints.
func (a *actor) uri() string { return a.sees(`PYRO:[^\s'"]+@[^\s'"]+`) }

// ready waits until a server says that it is up.
func (a *actor) ready() *actor {
	a.sees(`(?i)\b(ready|running|started|available)\b`)
	return a
}

// ends waits for the program to end by itself with an exit code.
func (a *actor) ends(code int) {
	if a.s.err != nil {
		return
	}
	a.stdin.Close() // a question too many is an error, not a wait
	if err := a.wait(a.s.ctx); err != nil {
		a.s.fail(err)
		return
	}
	if got := a.cmd.ProcessState.ExitCode(); got != code {
		a.s.fail(fmt.Errorf("%s: %v, want exit code %d", a.name, a.cmd.ProcessState, code))
	}
}

// interrupt sends what Ctrl-C sends.
func (a *actor) interrupt() *actor {
	if a.s.err != nil {
		return a
	}
	if err := a.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.s.fail(err)
	}
	return a
}

// dies kills the program, as a crash would.
func (a *actor) dies() {
	if a.s.err == nil {
		a.kill()
	}
}

// printed is all that the clients printed, one after the other.
func (s *stage) printed() string {
	var b strings.Builder
	for _, a := range s.actors {
		if a.client {
			fmt.Fprintf(&b, "--- %s\n%s\n", a.name, a.out.String())
		}
	}
	return b.String()
}

// report is what everybody printed, for a play that failed.
func (s *stage) report() string {
	var b strings.Builder
	for _, a := range s.actors {
		for _, part := range []struct{ name, text string }{{"", a.out.String()}, {" (standard error)", a.errs.String()}} {
			if part.text != "" {
				fmt.Fprintf(&b, "--- %s%s\n%s\n", a.name, part.name, strings.TrimRight(tail(part.text), "\n"))
			}
		}
	}
	return b.String()
}

func tail(text string) string {
	const most = 4000
	if len(text) <= most {
		return text
	}
	return "...\n" + text[len(text)-most:]
}
