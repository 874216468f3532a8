//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package core

import (
	"net"
	"syscall"
)

// quietCheck returns a function that reports whether an idle connection is as it should be: open, and nothing to read.  It looks at the
// first byte without waiting and without taking it (one system call, under a microsecond), so that a connection that the server
// closed since its last call is replaced before anything is written to it: a failure then would leave the outcome of the call open.
// It is nil for connections without a file descriptor.
func quietCheck(nc net.Conn) func() bool {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn() // TLS: bytes at rest are an alert that announces the end, or nothing that is missed
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	var quiet bool
	peek := func(fd uintptr) { quiet = isQuiet(fd) }
	// Control, not Read: Read refuses once a deadline has passed.
	return func() bool { return raw.Control(peek) == nil && quiet }
}

func isQuiet(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || err == syscall.EINTR
}
