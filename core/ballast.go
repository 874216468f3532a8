package core

import (
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"time"
)

// A program that serves or makes many calls, or calls with large values, allocates a lot and keeps little of it.  The collector waits for the heap to
// double, at least to 4 MB: with a small heap it would run dozens of times a second, which costs more than the calls.  Hence a ballast is kept while
// the program allocates fast: memory that counts for the collector, but that is never touched and thus takes none of the machine's (unless the runtime
// has some left that it did not give back).  The garbage between two collections then takes up to ballastBytes more than it would.
//
// A program that has set GOGC, or a GOMEMLIMIT of less than ten times as much, or that has a heap of that size already, gets none.

const (
	ballastBytes  = 32 << 20
	fastAllocator = 64 << 20 // bytes a second from which on there is a ballast
	slowAllocator = 32 << 20 // below which there is none any more
	fastIntervals = 3        // between collections, as a single one may be a moment
)

var ballast struct {
	watched sync.Once

	mu        sync.Mutex
	memory    strings.Builder // which is what allocates without writing zeros
	fast      int             // intervals between collections, one after the other, in which the program allocated fast
	collected time.Time       // when reconsiderBallast was called last
	allocated uint64          // by then
}

// spareCollector is to be called by programs that make or serve calls.
func spareCollector() { ballast.watched.Do(afterCollection) }

// afterCollection has reconsiderBallast called once, after the next collection.
func afterCollection() {
	type sentinel struct{ _ *byte } // with a pointer, or it might share memory with other small values
	runtime.AddCleanup(new(sentinel), func(struct{}) { reconsiderBallast() }, struct{}{})
}

// reconsiderBallast takes the ballast, or drops it.
func reconsiderBallast() {
	ballast.mu.Lock()
	defer ballast.mu.Unlock()
	defer afterCollection()
	h, ok := readHeap()
	if !ok {
		return
	}
	at, allocated := time.Now(), h.allocated
	rate := float64(allocated-ballast.allocated) / at.Sub(ballast.collected).Seconds()
	if rate < fastAllocator || ballast.collected.IsZero() {
		ballast.fast = 0
	} else {
		ballast.fast++
	}
	switch {
	case ballast.memory.Cap() > 0:
		if rate < slowAllocator || !h.roomy || h.live >= 2*ballastBytes { // half of which is the ballast
			ballast.memory.Reset()
		}
	case ballast.fast >= fastIntervals && h.roomy && h.live < ballastBytes:
		ballast.memory.Grow(ballastBytes)
		allocated += ballastBytes
	}
	ballast.collected, ballast.allocated = at, allocated
}

// heap is what the runtime tells of it.
type heap struct {
	allocated uint64 // bytes, ever
	live      uint64 // in use at the last collection
	roomy     bool   // the settings of the collector leave room for a ballast
}

func readHeap() (h heap, ok bool) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"},
	}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return h, false
		}
	}
	h = heap{allocated: samples[0].Value.Uint64(), live: samples[1].Value.Uint64()}
	h.roomy = samples[2].Value.Uint64() == 100 && samples[3].Value.Uint64() >= 10*ballastBytes
	return h, true
}
