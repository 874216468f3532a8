package core

import (
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	pollFor    = 50 * time.Microsecond // about what it costs to sleep and to be woken where that is dear
	pollBatch  = 8                     // polls between two looks at the clock
	longYield  = 5 * time.Microsecond  // a yield that takes longer let somebody else run
	longYields = 8                     // so many in a row are no chance
	maxPollGap = 10                    // waits that are not polled after that many in vain, as a power of two
)

// pollers is how many goroutines poll: not more than there are processors to spare.
var pollers atomic.Int32

// poller waits for bytes by asking again and again, for a moment: where two programs call each other one call at a time, sleeping and waking takes
// longer than anything else (on a virtual machine up to 40 µs).  Between two polls it yields the processor, as the other program may need this very
// one; and it is given up for longer and longer when nothing comes in time, or when yielding does let somebody else run: where the other program
// has the same processor, sleeping costs no more, and the runtime is spared being woken beside.
type poller struct {
	conn syscall.RawConn
	buf  []byte
	n    int
	read func(fd uintptr) bool // kept, so that it is not allocated anew

	long int // polls whose one yield was long, one after the other
	vain int // polls in vain, one after the other
	skip int // waits that are not polled
}

// newPoller returns nil for connections that cannot be polled: those with TLS, or without a file descriptor.
func newPoller(nc net.Conn) *poller {
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
	p := &poller{conn: conn}
	p.read = p.poll
	return p
}

// wait reads what comes soon into b; 0 if nothing does, or what is to be said is an error, which the next ordinary read finds.
func (p *poller) wait(b []byte) int {
	switch {
	case p == nil:
		return 0
	case p.skip > 0:
		p.skip--
		return 0
	}
	defer pollers.Add(-1)
	if spare := int32(max(runtime.GOMAXPROCS(0)/2, 1)); pollers.Add(1) > spare {
		return 0
	}
	p.buf, p.n = b, 0
	if p.conn.Read(p.read) != nil {
		return 0
	}
	p.buf = nil
	if p.n == 0 || p.long >= longYields {
		p.vain = min(p.vain+1, maxPollGap)
		p.skip = 1 << p.vain
	} else {
		p.vain = 0
	}
	return p.n
}

// poll always reports that it is done: the connection is not to be waited for here.
func (p *poller) poll(fd uintptr) bool {
	start := time.Now()
	for i := 1; ; i++ {
		n, err := syscall.Read(int(fd), p.buf)
		if err == nil {
			p.n = n
			switch {
			case i == 2 && time.Since(start) > longYield:
				p.long++
			case i > 1:
				p.long = 0
			}
			return true
		}
		if err != syscall.EAGAIN || i%pollBatch == 0 && time.Since(start) > pollFor {
			return true
		}
		syscall.Syscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
	}
}
