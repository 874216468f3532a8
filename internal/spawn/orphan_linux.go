package spawn

import "syscall"

// NoOrphan makes the kernel kill the child when this program dies, however it does.  The signal comes when the thread that
// started the child ends, which Go's threads do with the program.  In a process group of its own the child does not get the
// terminal's Ctrl-C: this program does, and ends its children in order.
func NoOrphan() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
