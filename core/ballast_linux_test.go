package core

import (
	"syscall"
	"testing"
	"unsafe"
)

// checkUntouched checks that the ballast takes no memory of the machine's (mincore(2)); false means that there is none.
func checkUntouched(t *testing.T) bool {
	t.Helper()
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	if ballast.memory.Cap() == 0 {
		return false
	}
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
	if n > ballastBytes/8 {
		t.Errorf("the ballast takes %d bytes of memory", n)
	}
	return true
}
