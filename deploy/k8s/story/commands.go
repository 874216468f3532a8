package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// command is a shell command that the user's environment gives, with a %s for each thing it has to be told.
type command struct {
	variable string
	text     string // empty: not given
}

// parseCommand checks that a command has as many places as there are things to be told.
func parseCommand(variable, text string, of ...string) (command, error) {
	if got := strings.Count(text, "%s"); text != "" && got != len(of) {
		return command{}, fmt.Errorf("%s is %q, with %d %%s: write one %%s for %s", variable, text, got, strings.Join(of, ", then one for "))
	}
	return command{variable, text}, nil
}

// missing says which commands have to be given; it is empty if all are.
func missing(commands []command) string {
	var variables []string
	for _, c := range commands {
		if c.text == "" {
			variables = append(variables, c.variable)
		}
	}
	if len(variables) == 0 {
		return ""
	}
	return "set " + strings.Join(variables, " and ")
}

// filled returns the command with args, quoted, in its places.
func (c command) filled(args ...string) string {
	parts := strings.Split(c.text, "%s")
	var b strings.Builder
	for i, part := range parts {
		b.WriteString(part)
		if i < len(args) {
			b.WriteString("'" + strings.ReplaceAll(args[i], "'", `'\''`) + "'")
		}
	}
	return b.String()
}

// run runs the command.  What it leaves running in the background, as the start of a machine may, is left alone.
func (c command) run(ctx context.Context, args ...string) error {
	// A file, not a pipe: a pipe is at its end only when all who inherited it have ended.
	out, err := os.CreateTemp("", "story-command-")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.CommandContext(ctx, "sh", "-c", c.filled(args...))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killedAfter
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("%s: %s: %w: %s", c.variable, c.filled(args...), err, lastLine(string(text)))
	}
	return nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
