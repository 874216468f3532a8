package core

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// hasBallast reports whether there is one.
func hasBallast() bool {
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	return ballast.memory.Cap() != 0
}

var churned []byte

// churn allocates fast until the condition holds.
func churn(t *testing.T, cond func() bool) {
	t.Helper()
	eventually(t, func() bool {
		for range 64 {
			churned = make([]byte, 1<<20)
		}
		churned = nil
		return cond()
	})
}

// The ballast is there while the program allocates fast, and goes when it does not any more.
func TestBallast(t *testing.T) { // not parallel: it is the whole program's
	percent := debug.SetGCPercent(100)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		eventually(t, func() bool { runtime.GC(); return !hasBallast() })
	})
	limit := debug.SetMemoryLimit(10 * ballastBytes)
	t.Cleanup(func() { debug.SetMemoryLimit(limit) })
	d := serve(t, DaemonOptions{})
	eventually(t, func() bool { runtime.GC(); return !hasBallast() })
	debug.FreeOSMemory() // or the ballast may lie where earlier tests wrote
	churn(t, hasBallast)
	churn(t, func() bool { return checkUntouched(t) })
	calm := func() bool { runtime.GC(); return !hasBallast() }
	eventually(t, calm)
	churn(t, hasBallast) // it comes again
	d.Close()
	eventually(t, calm)

	churn(t, hasBallast)
	grown := make([]byte, 2*ballastBytes)
	churn(t, func() bool { return !hasBallast() })
	runtime.KeepAlive(grown)

	debug.SetMemoryLimit(10*ballastBytes - 1)
	collections := 0
	churn(t, func() bool {
		runtime.GC()
		collections++
		if hasBallast() {
			t.Error("a ballast beside a small GOMEMLIMIT")
		}
		return collections > 5
	})
}
