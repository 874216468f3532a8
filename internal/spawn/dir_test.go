package spawn

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// ownerEnv lets the test's program be one that makes a directory and is killed.
const ownerEnv = "SPAWN_TEST_OWNER"

func ownDirectory() {
	d, err := TempDir("spawn-test-")
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path, "file"), []byte("x"), 0o600); err != nil {
		panic(err)
	}
	os.Stdout.WriteString("dir " + d.Path + "\n")
	select {}
}

func TestDirRemove(t *testing.T) {
	t.Parallel()
	d, err := TempDir("spawn-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Remove(), d.Remove()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat: got %v, want that it does not exist", err)
	}
}

// TestDirOfTheKilled: a program that cannot clean up leaves nothing behind either.
func TestDirOfTheKilled(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ownerEnv+"=1")
	p, err := Start("owner", cmd)
	if err != nil {
		t.Fatal(err)
	}
	path, err := p.Line(t.Context(), "dir")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "file")); err != nil {
		t.Fatal(err)
	}
	if err := p.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s is still there", path)
		}
	}
}
