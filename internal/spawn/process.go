// Package spawn runs nodes and other programs as child processes that can be killed and started again: for the demo, and for tests of
// what happens when processes die.
package spawn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxTail  = 16 << 10 // bytes kept of the output, for error texts
	maxLines = 10_000   // lines kept for Line
)

// Process is a running child.  Its methods are safe for concurrent use.
type Process struct {
	Name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended and its output was read

	mu    sync.Mutex    // guards the following
	lines []string      // of the standard output, not taken by Line yet
	tail  []byte        // the end of standard output and standard error
	news  chan struct{} // closed and replaced when lines grows
}

// Start starts cmd, whose standard output and standard error it reads.  Whoever starts a process must call End.
func Start(name string, cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: name, cmd: cmd, done: make(chan struct{}), news: make(chan struct{})}
	cmd.Stderr = p
	cmd.SysProcAttr = NoOrphan()
	cmd.WaitDelay = 5 * time.Second // for grandchildren that hold the pipe
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go p.read(out)
	return p, nil
}

func (p *Process) read(out io.Reader) {
	defer close(p.done)
	in := bufio.NewScanner(out)
	for in.Scan() {
		p.Write([]byte(in.Text() + "\n"))
		p.mu.Lock()
		if len(p.lines) == maxLines {
			p.lines = p.lines[1:]
		}
		p.lines = append(p.lines, in.Text())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
	io.Copy(io.Discard, out) // after a line that is too long
	p.cmd.Wait()             // how it ended is in ProcessState
}

// Write keeps the end of the output.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, b...)
	if len(p.tail) > 2*maxTail {
		p.tail = append(p.tail[:0], p.tail[len(p.tail)-maxTail:]...)
	}
	return len(b), nil
}

// Tail returns the end of what the child printed.
func (p *Process) Tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.tail[max(0, len(p.tail)-maxTail):])
}

// Line waits for a line of the standard output that begins with prefix and returns the rest of it; lines before it are skipped.
func (p *Process) Line(ctx context.Context, prefix string) (string, error) {
	for {
		ended := p.ended()
		line, news, ok := p.take(prefix)
		switch {
		case ok:
			return line, nil
		case ended:
			return "", fmt.Errorf("%s ended without a line %q: %s\n%s", p.Name, prefix, p.cmd.ProcessState, p.Tail())
		}
		select {
		case <-news:
		case <-p.done:
		case <-ctx.Done():
			return "", fmt.Errorf("%s: no line %q: %w\n%s", p.Name, prefix, context.Cause(ctx), p.Tail())
		}
	}
}

func (p *Process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *Process) take(prefix string) (rest string, news <-chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, line := range p.lines {
		if rest, ok = strings.CutPrefix(line, prefix); ok {
			p.lines = p.lines[i+1:]
			return strings.TrimSpace(rest), nil, true
		}
	}
	p.lines = nil
	return "", p.news, false
}

// Signal sends a signal; to a child that has ended it is an error.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: %v: %w", p.Name, s, err)
	}
	return nil
}

// End sends a signal and waits for the child's end; one that takes more than 20 s is killed, which is an error.  So is an exit code
// other than 0 after a SIGTERM.
func (p *Process) End(s syscall.Signal) error {
	_ = p.cmd.Process.Signal(s) // one that has ended already is no error here
	late := time.NewTimer(20 * time.Second)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within 20 s of %v:\n%s", p.Name, s, p.Tail())
	}
	if s == syscall.SIGTERM && p.cmd.ProcessState.ExitCode() != 0 {
		return fmt.Errorf("%s: %v after %v:\n%s", p.Name, p.cmd.ProcessState, s, p.Tail())
	}
	return nil
}

// EndAll ends several at the same time.
func EndAll(s syscall.Signal, ps ...*Process) error {
	errs := make([]error, len(ps))
	var wg sync.WaitGroup
	for i, p := range ps {
		if p != nil {
			wg.Go(func() { errs[i] = p.End(s) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}
