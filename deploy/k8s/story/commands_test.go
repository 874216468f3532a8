package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		of         []string
		want       string // of the error
	}{
		{"none", "", []string{"the node"}, ""},
		{"one place", "docker kill %s", []string{"the node"}, ""},
		{"two places", "docker exec %s crictl stop -t 0 %s", []string{"the node", "the container's id"}, ""},
		{"no place", "docker kill n1", []string{"the node"}, `NODE_CRASH is "docker kill n1", with 0 %s: write one %s for the node`},
		{"a place too many", "docker kill %s %s", []string{"the node"}, `NODE_CRASH is "docker kill %s %s", with 2 %s: write one %s for the node`},
		{"a place too few", "kill %s", []string{"the node", "the id"}, `NODE_CRASH is "kill %s", with 1 %s: write one %s for the node, then one for the id`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, err := parseCommand("NODE_CRASH", test.text, test.of...)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != test.want || err == nil && c.text != test.text {
				t.Errorf("%q: got %+v, %q, want the error %q", test.text, c, got, test.want)
			}
		})
	}
}

// TestCommandRun: what is told is told as it is, whatever a shell would make of it.
func TestCommandRun(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out")
	c := command{"X", "printf '%%s|' %s %s > " + file}
	c.text = strings.Replace(c.text, "'%%s|'", `'%b|'`, 1)
	hostile := `n'1"; $(touch x) %s`
	if err := c.run(t.Context(), hostile, "n2"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if want := hostile + "|n2|"; err != nil || string(got) != want {
		t.Errorf("the command was told %q, %v, want %q", got, err, want)
	}
}

func TestCommandFails(t *testing.T) {
	t.Parallel()
	err := command{"NODE_CRASH", "echo first; echo no such node %s >&2; exit 3"}.run(t.Context(), "n9")
	want := "NODE_CRASH: echo first; echo no such node 'n9' >&2; exit 3: exit status 3: no such node n9"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (command{"X", "exec sleep 1000 # %s"}).run(ctx, "n"); err == nil {
		t.Error("a command whose time is over succeeded")
	}
}

// TestCommandLeavesTheBackground: a command that starts a machine leaves that running, and is done all the same.
func TestCommandLeavesTheBackground(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := (command{"NODE_START", "cat %s &"}).run(ctx, fifo); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // there is a reader, so the command's child is alive
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // which ends it
}

func TestMissing(t *testing.T) {
	t.Parallel()
	a, b, c := command{"A", "x"}, command{"B", ""}, command{"C", ""}
	for _, test := range []struct {
		commands []command
		want     string
	}{{nil, ""}, {[]command{a}, ""}, {[]command{a, b}, "set B"}, {[]command{b, a, c}, "set B and C"}} {
		if got := missing(test.commands); got != test.want {
			t.Errorf("%v: got %q, want %q", test.commands, got, test.want)
		}
	}
}
