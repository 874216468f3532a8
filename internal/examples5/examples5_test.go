package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCompare(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		want, got string
		differs   []difference
		err       string
	}{
		{"the same", "a\nb\n", "a\nb\n", nil, ""},
		{"another line", "a\nb\n", "a\nc\n", nil, "line 2"},
		{"a line too many", "a", "a\nb", nil, "nothing more"},
		{"addresses and ids", "PYRO:obj_0123456789abcdef0123456789abcdef@localhost:1", "PYRO:obj_00000000000000000000000000000000@127.0.0.1:2", nil, ""},
		{"other objects", "PYRO:a@localhost:1", "PYRO:b@localhost:1", nil, "line 1"},
		{"dates", "c=2026-01-02 03:04:05.6", "c=2027-01-02T03:04:05", []difference{dates}, ""},
		{"dates count unless told", "c=2026-01-02 03:04:05.6", "c=2027-01-02 03:04:05.6", nil, "line 1"},
		{"speeds", "that took 1.25 seconds (32000 calls/sec)", "that took 3 seconds (1 calls/sec)", []difference{speeds}, ""},
		{"order", "b\na", "a\nb", []difference{sorted}, ""},
		{
			"tracebacks of servers", " | Traceback (most recent call last):\n |   File x\n | ValueError: v\n", " |   File y\n | ValueError: v\n",
			[]difference{traceback}, "",
		},
		{"errors of servers", " |   File x\n | ValueError: v\n", " |   File y\n | ValueError: w\n", []difference{traceback}, "line 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := compare(tt.want, tt.got, tt.differs)
			if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("compare(%q, %q): got %v, want an error with %q", tt.want, tt.got, err, tt.err)
			}
		})
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	const text = `-----PERCALL -----
139000001
139000001
-----SESSION -----
(139000001, None)
(139000001, None)
 ..new proxy..
(139000002, None)
-----SINGLE -----
139000007
139000008
`
	const want = `-----PERCALL -----
#
#
-----SESSION -----
(#1, None)
(#1, None)
 ..new proxy..
(#1, None)
-----SINGLE -----
#1
#2
`
	if got := instances(text); got != want {
		t.Errorf("instances(%q):\ngot  %q\nwant %q", text, got, want)
	}
}

// TestTable checks what the compiler does not.
func TestTable(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	servers := make(map[string]bool)
	for _, e := range examples {
		if names[e.name] {
			t.Errorf("two examples are called %q", e.name)
		}
		names[e.name] = true
		if e.why == "" && e.play == nil {
			t.Errorf("%s has neither a play nor a reason", e.name)
		}
		if e.inGo {
			servers[e.folder()] = true
		}
	}
	folders, err := filepath.Glob("../../examples/pyro5/*/server.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range folders {
		if folder := filepath.Base(filepath.Dir(path)); !servers[folder] {
			t.Errorf("%s is played in no example", path)
		}
		delete(servers, filepath.Base(filepath.Dir(path)))
	}
	for folder := range servers {
		t.Errorf("examples/pyro5/%s/server.go is missing", folder)
	}
}

// shellStage is a stage whose Python is sh.
func shellStage(t *testing.T, patience time.Duration) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	s := &stage{ctx: ctx, dir: t.TempDir(), env: os.Environ(), python: "sh"}
	t.Cleanup(func() { s.end(); cancel() })
	return s
}

func TestPlay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		play func(s *stage)
		err  string
	}{
		{"talks", func(s *stage) {
			s.run("-c", `read a; echo "got $a"; read b; echo "and $b"`).types("x").prints("got x").types("y").prints("and y").ends(0)
		}, ""},
		{"prints to standard error", func(s *stage) { s.run("-c", "echo oops >&2").prints("oops").ends(0) }, ""},
		{"prints something else", func(s *stage) { s.run("-c", "echo this").prints("that") }, `without printing "that"`},
		{"another exit code", func(s *stage) { s.run("-c", "exit 3").ends(0) }, "exit status 3, want exit code 0"},
		{"asks too much", func(s *stage) { s.run("-c", "read a; read b || exit 4").types("x").ends(4) }, ""},
		{"is interrupted", func(s *stage) {
			s.run("-c", `trap "echo bye; exit 0" INT; echo up; while :; do sleep 0.01; done`).prints("up").interrupt().prints("bye").ends(0)
		}, ""},
		{"is not there", func(s *stage) { s.start("nobody", "./nobody").prints("x").ends(0) }, "start nobody"},
		{"nothing happens after an error", func(s *stage) {
			s.run("-c", "echo this").prints("that")
			s.run("-c", "echo other > other").ends(0)
			if _, err := os.Stat(filepath.Join(s.dir, "other")); err == nil {
				s.err = errors.New("a second program ran")
			}
		}, `without printing "that"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := shellStage(t, time.Minute)
			tt.play(s)
			if (tt.err == "") != (s.err == nil) || s.err != nil && !strings.Contains(s.err.Error(), tt.err) {
				t.Errorf("got %v, want an error with %q; output:\n%s", s.err, tt.err, s.report())
			}
		})
	}
}

// TestLate checks that waiting ends.
func TestLate(t *testing.T) {
	t.Parallel()
	s := shellStage(t, 50*time.Millisecond)
	s.run("-c", "sleep 1000 & wait").prints("never")
	if s.err == nil || !strings.Contains(s.err.Error(), "in time") {
		t.Errorf("got %v, want an error that it is late", s.err)
	}
}

// TestEnd checks that what a program started ends with it.
func TestEnd(t *testing.T) {
	t.Parallel()
	s := shellStage(t, time.Minute)
	a := s.run("-c", "sleep 1000 & echo child $!; wait")
	child := a.sees(`child (\d+)`)
	s.end()
	args, err := os.ReadFile(filepath.Join("/proc", child, "cmdline")) // empty when it has ended and nobody asked how
	if s.err != nil || err == nil && len(args) > 0 {
		t.Errorf("process %s still runs (%v)", child, s.err)
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := show(&out, []result{
		{name: "good", server: "Python"},
		{name: "good", server: "Go"},
		{name: "window", why: "draws windows"},
		{name: "bad", server: "Python", err: errors.New("it broke\nhere"), report: "--- server\nboom\n"},
	})
	for _, want := range []string{"good     Python  ok", "good     Go      same", "window   -       not run", "draws windows", "bad      Python  FAILED", "boom", "\n2 passed, 1 failed\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if err == nil || err.Error() != "1 of 3 failed" {
		t.Errorf("got error %v, want that 1 of 3 failed", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-parallel", "0"}, {"-run", "("}, {"more"}, {"-nothing"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("parse(%q): want an error", args)
		}
	}
}

func TestWrongSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sourceName), []byte("not it"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetchSource(t.Context(), "false", dir); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("got %v, want an error about the checksum", err)
	}
	if _, err := fetchSource(t.Context(), "false", t.TempDir()); err == nil || !strings.Contains(err.Error(), "pip download") {
		t.Errorf("got %v, want an error about pip", err)
	}
}
