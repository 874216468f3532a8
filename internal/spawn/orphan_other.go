//go:build !linux

package spawn

import "syscall"

func noOrphan() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
