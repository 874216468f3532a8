package core

import (
	"runtime"
	"syscall"
	"testing"
	"unsafe"
)

// hasBallast reports whether there is one.
func hasBallast() bool {
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	return ballast.memory.Cap() != 0
}

// The ballast is there while large values come, takes no memory of the machine's, and goes when no more come.
func TestBallast(t *testing.T) { // not parallel: it is the whole program's
	eventually(t, func() bool { runtime.GC(); return !hasBallast() })
	d := serve(t, DaemonOptions{})
	uri, err := d.Register("o", &account{}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	call := func(n int) {
		t.Helper()
		var got []byte
		if err := p.Call(t.Context(), "echo", &got, make([]byte, n)); err != nil || len(got) != n {
			t.Fatalf("got %d bytes, %v, want %d", len(got), err, n)
		}
	}
	call(largeBytes / 2)
	if hasBallast() {
		t.Error("a ballast for small values")
	}
	eventually(t, func() bool { runtime.GC(); call(1 << 20); return hasBallast() }) // the last one may still count as memory in use
	resident := residentBytes(t)
	if resident > ballastBytes/8 {
		t.Errorf("the ballast takes %d bytes of memory", resident)
	}
	for range 3 {
		call(1 << 20)
		runtime.GC()
		if !hasBallast() {
			t.Error("no ballast while large values come")
		}
	}
	eventually(t, func() bool { runtime.GC(); return !hasBallast() })
	eventually(t, func() bool { runtime.GC(); call(1 << 20); return hasBallast() })
}

// residentBytes returns how much of the ballast is in memory (mincore(2)).
func residentBytes(t *testing.T) int {
	t.Helper()
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	ballast.memory.WriteByte(0) // or its text has no address
	page := syscall.Getpagesize()
	pages := make([]byte, ballastBytes/page)
	start := uintptr(unsafe.Pointer(unsafe.StringData(ballast.memory.String()))) &^ uintptr(page-1)
	if _, _, errno := syscall.Syscall(syscall.SYS_MINCORE, start, ballastBytes, uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	n := 0
	for _, p := range pages {
		n += int(p&1) * page
	}
	return n
}
