//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package core

import (
	"net"
	"syscall"
)

// maxAsk is up to how many bytes a request is sent by an asker.
const maxAsk = 32 << 10

// asker sends a request and waits for what comes in answer, with three system calls: a look at whether the connection is still good, a write, and a
// read when something has come.  Reading first, as a connection's Read does, would be in vain.
//
// All of it happens in one Read of a raw connection.  That one forgets what the runtime knew of bytes that came before, and nothing came between
// then and the look, so that the wait cannot miss anything.
type asker struct {
	conn syscall.RawConn
	step func(fd uintptr) bool // kept, so that it is not allocated anew

	out, in []byte
	looked  bool
	stale   bool // something came, or the end, before the request was sent
	sent    int  // of out
	got     int  // in in
}

// newAsker returns nil for connections without a file descriptor, and those with TLS.
func newAsker(nc net.Conn) *asker {
	var sc syscall.Conn
	switch c := nc.(type) {
	case *net.TCPConn:
		sc = c
	case *net.UnixConn:
		sc = c
	default:
		return nil
	}
	conn, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	a := &asker{conn: conn}
	a.step = a.next
	return a
}

// ask sends out and reads into in.  It may do less than that, or nothing: the rest is for ordinary writes and reads, which also find out about errors.
func (a *asker) ask(out, in []byte) (sent, got int, stale bool) {
	a.out, a.in = out, in
	a.looked, a.stale, a.sent, a.got = false, false, 0, 0
	a.conn.Read(a.step)
	a.out, a.in = nil, nil
	return a.sent, a.got, a.stale
}

// next reports whether there is nothing to wait for.
func (a *asker) next(fd uintptr) bool {
	if a.looked {
		n, err := syscall.Read(int(fd), a.in)
		a.got = max(n, 0)
		return err != syscall.EAGAIN // other errors are found again by who reads on
	}
	a.looked = true
	if a.stale = !isQuiet(fd); a.stale {
		return true
	}
	n, err := syscall.Write(int(fd), a.out)
	a.sent = max(n, 0)
	return err != nil || n < len(a.out)
}
