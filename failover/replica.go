package failover

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	// latencyDecay is the time in which the memory of a slow reply fades to 1/e.  Much shorter and a replica that stalls now
	// and then is forgiven too soon; much longer and one that recovered stays idle.
	latencyDecay = 10 * time.Second
	// latencyForget is the age at which a measurement says nothing any more.
	latencyForget = 4 * latencyDecay
	// ejectBase is how long a replica is left out after its first failure.  It doubles with each further failure up to ejectMax.
	// A probe costs one PING, so even the longest need not be long.
	ejectBase = 100 * time.Millisecond
	ejectMax  = 3 * time.Second
)

// endpoint is what the group proxy needs of one replica; a *core.Proxy is one.
type endpoint interface {
	core.Caller
	core.Invoker
	core.BatchSender
	CallOneway(ctx context.Context, method string, args ...any) error
	Metadata(ctx context.Context) (core.Metadata, error)
	Ping(ctx context.Context) error
}

// replica is the state of one member, from when it appears in a list until it is gone from it.
//
// Picking reads it without a lock; mu serializes changes.  Times are nanoseconds since the proxy's epoch.
type replica struct {
	uri      core.URI
	endpoint endpoint

	contracts atomic.Pointer[map[string]core.Contract] // nil: not connected since the last failure
	underWay  atomic.Int64                             // calls
	retired   atomic.Bool                              // left the group
	probing   atomic.Bool                              // one probe at a time
	ejected   atomic.Int64                             // until when it is left out; 0: it is in
	latency   atomic.Uint64                            // bits of a float64, nanoseconds, peak EWMA; 0: not measured
	measured  atomic.Int64                             // when

	mu    sync.Mutex // held to change ejected, latency, measured, and what follows
	fails int        // ejections since the last call that succeeded
}

func newReplica(uri core.URI, e endpoint) *replica { return &replica{uri: uri, endpoint: e} }

// close is called after the last call, or by Proxy.Close in the midst of them.
func (r *replica) close() {
	// core.Proxy.Close has nothing to report that a caller could act on.
	_ = r.endpoint.Close()
}

// connect learns the contracts of the replica's methods, which takes a connection.
func (r *replica) connect(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(core.WithConnectTimeout(ctx, timeout), timeout)
	defer cancel()
	m, err := r.endpoint.Metadata(ctx)
	if err != nil {
		return err
	}
	r.contracts.Store(&m.Contracts)
	return nil
}

// contract is what the server declares of a method.
func (r *replica) contract(method string) core.Contract {
	if c := r.contracts.Load(); c != nil {
		return (*c)[method]
	}
	return core.ContractPlain
}

// cost is what one more call would cost, in nanoseconds: latency times the calls that share the replica.
func (r *replica) cost(now int64, weight int) float64 {
	calls := float64(r.underWay.Load())
	latency := r.estimate(now)
	if latency == 0 {
		if calls == 0 {
			return 0 // not measured: try it
		}
		// One call at a time finds out; meanwhile the others take every replica that is known to answer.
		return float64(time.Hour) * (1 + calls)
	}
	return latency * (1 + calls/float64(weight))
}

// estimate returns the latency in nanoseconds, 0 if nothing is known.  It fades while no calls are made, so that a replica that
// was slow once gets another chance.
func (r *replica) estimate(now int64) float64 {
	age := max(now-r.measured.Load(), 0)
	if age > int64(latencyForget) {
		return 0
	}
	return math.Float64frombits(r.latency.Load()) * math.Exp(-float64(age)/float64(latencyDecay))
}

// observe takes a call's duration into the peak EWMA (Finagle, PeakEwma): up at once, down slowly.
func (r *replica) observeLocked(now, nanos int64) {
	old := math.Float64frombits(r.latency.Load())
	sample := float64(max(nanos, 1))
	if age := float64(now - r.measured.Load()); sample < old {
		keep := math.Exp(-max(age, 0) / float64(latencyDecay))
		sample = old*keep + sample*(1-keep)
	}
	r.latency.Store(math.Float64bits(sample))
	r.measured.Store(now)
}

// succeed records a call that the replica answered.  It reports whether the replica had been ejected since the last one.
func (r *replica) succeed(now, nanos int64) (back bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.observeLocked(now, nanos)
	back = r.fails > 0
	r.fails = 0
	r.ejected.Store(0)
	return back
}

// fail ejects the replica.  Calls that fail together count once: while it is out, further failures are no news.  It reports
// whether this is the first ejection since the last success.
func (r *replica) fail(now int64) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.contracts.Store(nil) // what comes back may be another version of the server
	if now < r.ejected.Load() {
		return false
	}
	pause := min(ejectBase<<min(r.fails, 10), ejectMax)
	pause = pause/2 + rand.N(pause) // so that clients do not come back in step
	r.fails++
	r.ejected.Store(now + int64(pause))
	return r.fails == 1
}

// slow records a call that had no answer in that time.
func (r *replica) slow(now, nanos int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if float64(nanos) > r.estimate(now) {
		r.observeLocked(now, nanos)
	}
}

// readmit ends the ejection after a probe that succeeded.  Only a call shows that the object works as well, so the number of
// ejections stays and the next one is longer.
func (r *replica) readmit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ejected.Store(0)
}
