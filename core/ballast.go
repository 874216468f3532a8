package core

import (
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
)

// A large value is memory of its own, which goes to the program and is garbage soon.  In a program whose heap is small, the collector would run for every few of
// them (it waits for the heap to double, at least to 4 MB), which takes longer than to send and receive them.  Hence a ballast is kept while large values come:
// memory that counts for the collector, but that is never touched and thus takes none of the machine's.  The garbage between two collections then
// takes up to ballastBytes more than it would.
//
// A program that has set GOGC, or a GOMEMLIMIT of less than ten times as much, or that has a heap of that size already, gets none.

const ballastBytes = 32 << 20

var ballast struct {
	wanted atomic.Bool // a large value came since the last collection

	mu     sync.Mutex
	memory strings.Builder // which is what allocates without writing zeros
	armed  bool            // reconsiderBallast will be called
}

// spareCollector is to be called for each large value that the program gets.
func spareCollector() {
	if !ballast.wanted.Load() && !ballast.wanted.Swap(true) {
		takeBallast()
	}
}

func takeBallast() {
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	if ballast.memory.Cap() == 0 && ballastHelps() {
		ballast.memory.Grow(ballastBytes)
	}
	if !ballast.armed {
		armBallast()
	}
}

// armBallast has reconsiderBallast called once, after the next collection.
func armBallast() {
	type sentinel struct{ _ *byte } // with a pointer, or it might share memory with other small values
	ballast.armed = true
	runtime.AddCleanup(new(sentinel), func(struct{}) { reconsiderBallast() }, struct{}{})
}

// reconsiderBallast drops the ballast if no large value came since it was called last.
func reconsiderBallast() {
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	ballast.armed = false
	if ballast.wanted.Swap(false) {
		armBallast()
	} else {
		ballast.memory.Reset()
	}
}

// ballastHelps reports whether the collector's settings leave room, and what it found in use the last time was less than the ballast.
func ballastHelps() bool {
	samples := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return false
		}
	}
	return samples[0].Value.Uint64() == 100 && samples[1].Value.Uint64() >= 10*ballastBytes && samples[2].Value.Uint64() < ballastBytes
}
