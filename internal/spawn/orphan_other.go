//go:build !linux

package spawn

import "syscall"

func NoOrphan() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
