package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// maxOutput bounds what is kept of a program's output, in bytes; the rest is read and dropped.
const maxOutput = 4 << 20

// process is a running program whose output is kept and whose input is written step by step.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    output
	errs   output
	done   chan struct{} // closed when the program has ended and its output was read
	killed bool
}

// startProcess starts cmd in a process group of its own, so that what it starts ends with it.  The caller calls kill.
func startProcess(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	p.out.news, p.errs.news = make(chan struct{}), make(chan struct{})
	cmd.Stdout, cmd.Stderr = &p.out, &p.errs
	cmd.SysProcAttr = spawn.NoOrphan()
	cmd.WaitDelay = 5 * time.Second // for what it started and that holds its output
	var err error
	if p.stdin, err = cmd.StdinPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// await waits until the output, or what went to standard error, matches, and returns the first group, or all of the match if there is none.
func (p *process) await(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	for {
		ended := p.ended() // before looking, so that nothing comes after the look
		news, errNews := p.out.changed(), p.errs.changed()
		for _, text := range []string{p.out.String(), p.errs.String()} {
			if m := pattern.FindStringSubmatch(text); m != nil {
				return m[min(1, len(m)-1)], nil
			}
		}
		if ended {
			return "", fmt.Errorf("%s ended (%v) without printing %q", p.name, p.cmd.ProcessState, pattern)
		}
		select {
		case <-news:
		case <-errNews:
		case <-p.done:
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not print %q in time", p.name, pattern)
		}
	}
}

// wait waits for the end of the program.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s did not end in time", p.name)
	}
}

// kill ends the program and what it started, and waits.  Calling it again does nothing.
func (p *process) kill() {
	if p.killed {
		return // the number of the group may be somebody else's by now
	}
	p.killed = true
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // a group that is gone is no error
	<-p.done
	p.stdin.Close()
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// output collects what a program writes.
type output struct {
	mu   sync.Mutex // protects the following
	text strings.Builder
	news chan struct{} // closed and replaced when text grows
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b[:min(len(b), maxOutput-o.text.Len())])
	close(o.news)
	o.news = make(chan struct{})
	return len(b), nil
}

func (o *output) changed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.news
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
