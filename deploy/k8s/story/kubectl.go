package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// kubectl runs the program of that name in one namespace.
type kubectl struct {
	path      string
	namespace string
}

// findKubectl looks for the program and for a cluster that answers it, and returns the version of that.
func findKubectl(ctx context.Context, program, namespace string) (kubectl, string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return kubectl{}, "", fmt.Errorf("%w: install it, or say with -kubectl where it is", err)
	}
	k := kubectl{path, namespace}
	var v struct {
		ServerVersion struct {
			GitVersion string `json:"gitVersion"`
		} `json:"serverVersion"`
	}
	if err := k.get(ctx, &v, "version", "--request-timeout=10s"); err != nil {
		return kubectl{}, "", fmt.Errorf("no Kubernetes answers: %w: set KUBECONFIG", err)
	}
	return k, v.ServerVersion.GitVersion, nil
}

// kubectlError is what kubectl had to say when it failed.
type kubectlError struct {
	verb   string // and what it was done to
	stderr string
	err    error
}

// Error implements error in one line: the last thing that was said is the reason.
func (e *kubectlError) Error() string {
	lines := slices.DeleteFunc(strings.Split(e.stderr, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
	reason := e.err.Error()
	// The exit code of a remote command is no reason if the command gave one.
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "command terminated with exit code") })
	if len(lines) > 0 {
		reason = lines[len(lines)-1]
	}
	return fmt.Sprintf("kubectl %s: %s", e.verb, strings.TrimPrefix(reason, "error: "))
}

func (e *kubectlError) Unwrap() error { return e.err }

// killedAfter is how long a kubectl that was told to end may take.
const killedAfter = 3 * time.Second

// command is kubectl with these arguments.  It ends with ctx, by SIGTERM first.
func (k kubectl) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.path, append([]string{"--namespace", k.namespace}, args...)...)
	// Ctrl-C in the terminal is for the story, which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killedAfter
	return cmd
}

// run runs kubectl and returns its standard output.
func (k kubectl) run(ctx context.Context, args ...string) (string, error) {
	return k.feed(ctx, nil, args...)
}

// feed is run with a standard input.
func (k kubectl) feed(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := k.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), &kubectlError{verbOf(args), stderr.String(), cmp.Or(context.Cause(ctx), err)}
	}
	return stdout.String(), nil
}

// verbOf is the beginning of a command that tells which one it was.
func verbOf(args []string) string {
	words := args
	if i := slices.Index(args, "--"); i >= 0 { // of a remote command the program and what it does
		words = append([]string{args[0]}, args[i+1:min(len(args), i+5)]...)
	}
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.HasPrefix(w, "-") })
	return strings.Join(words[:min(len(words), 4)], " ")
}

// get runs kubectl for JSON and decodes what it prints.
func (k kubectl) get(ctx context.Context, into any, args ...string) error {
	out, err := k.run(ctx, append(args, "--output=json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("kubectl %s: read its JSON: %w", verbOf(args), err)
	}
	return nil
}
