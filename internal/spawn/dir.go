package spawn

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// Dir is a temporary directory that goes away with this program, however it ends: a small process waits for that end, which it sees on
// a pipe, and removes the directory then.
type Dir struct {
	Path  string
	guard *exec.Cmd
	pipe  io.WriteCloser
}

// guardScript reads until the other end of the pipe is gone.  Children that are being killed may write once more, hence the second try.
const guardScript = `trap '' INT TERM HUP; cat >/dev/null; rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }`

// TempDir makes a directory.  The caller calls Remove.
func TempDir(prefix string) (*Dir, error) {
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path, guard: exec.Command("sh", "-c", guardScript, "sh", path)}
	d.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not among those that Ctrl-C ends
	if d.pipe, err = d.guard.StdinPipe(); err == nil {
		err = d.guard.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return d, nil
}

// Remove removes the directory.  Calling it again does nothing.
func (d *Dir) Remove() error {
	if d.pipe == nil {
		return nil
	}
	err := os.RemoveAll(d.Path)
	err = errors.Join(err, d.pipe.Close(), d.guard.Wait())
	d.pipe = nil
	return err
}
