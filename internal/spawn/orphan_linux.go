package spawn

import "syscall"

// noOrphan makes the kernel kill the child when this program dies, however it does.  The signal comes when the thread that
// started the child ends, which Go's threads do with the program.
func noOrphan() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
