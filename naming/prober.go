package naming

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

const (
	probeInterval  = 500 * time.Millisecond
	probeTimeout   = time.Second
	maxProbes      = 64  // at once
	maxVerdicts    = 256 // of one command
	maxReason      = 200 // characters of a verdict's reason, of which the member wrote a part
	probesToSilent = 2   // probes in a row without an answer until a member is suspected
)

// Leadership is what the [Prober] needs to know: only the leader probes.
type Leadership interface{ IsLeader() bool }

// Prober watches the health of group members and writes verdicts into the log (FT-CORBA's fault detector).
//
// A probe is what any client would do first, so it works with every Pyro server: connect, CONNECT for the member's object id, PING,
// disconnect.  It does not keep the connection: Python's servers have a limited number of workers and each connection holds one.
//
// A member is suspected as soon as its machine refuses the connection or its daemon does not know the object: both answers are
// certain.  Silence and whatever else may be chance must come twice in a row.  A daemon that is too busy for another client ("no free
// workers") or that turns this one away lives.  One success ends the suspicion.  Entries without a group are not probed, nor are
// members whose URI is not of the form PYRO:object@host:port.
type Prober struct {
	Store    Store
	Leader   Leadership
	Interval time.Duration     // between two probes of a member; zero means 500 ms
	Timeout  time.Duration     // of a probe; zero means 1 s
	Proxy    core.ProxyOptions // of the connections, for TLS; Serializer and MaxMessageBytes are not used
	Logger   *slog.Logger      // gets each verdict, and failures to read or write the store; nil discards them

	probe func(ctx context.Context, uri core.URI) error // for tests
}

// Run probes while the node is the leader, until ctx ends, and returns ctx's cause.
func (p *Prober) Run(ctx context.Context) error {
	r := proberRun{Prober: *p, verdicts: make(chan fsm.Verdict, maxVerdicts), slots: make(chan struct{}, maxProbes)}
	r.setDefaults()
	var writing sync.WaitGroup
	writing.Go(func() { r.write(ctx) })
	for ctx.Err() == nil {
		if r.Leader.IsLeader() {
			r.round(ctx)
		} else {
			r.forget()
			wait(ctx, r.Interval)
		}
	}
	r.probes.Wait()
	writing.Wait()
	return context.Cause(ctx)
}

// proberRun is the state of one Run.
type proberRun struct {
	Prober
	verdicts chan fsm.Verdict // to write
	slots    chan struct{}    // one for each probe under way
	probes   sync.WaitGroup

	mu       sync.Mutex
	failures map[target]int // in a row, of members with any; nil when not leading
	busy     map[target]bool
}

// target is one life of a member.
type target struct {
	group, member string
	joined        uint64
}

func (r *proberRun) setDefaults() {
	if r.Interval <= 0 {
		r.Interval = probeInterval
	}
	if r.Timeout <= 0 {
		r.Timeout = probeTimeout
	}
	r.Logger = loggerOr(r.Logger)
	if r.probe == nil {
		r.probe = r.connect
	}
	r.busy = map[target]bool{}
}

// forget drops what was counted: a node that leads again begins anew.
func (r *proberRun) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = nil
}

// job is a member to probe.
type job struct {
	target
	uri    core.URI
	health fsm.Health
}

// round probes every member once.  The probes begin evenly spread over the interval and in a new order each time, so that neither this
// node nor a machine with many members gets them all at once.
func (r *proberRun) round(ctx context.Context) {
	start := time.Now()
	jobs, err := r.jobs(ctx)
	if err != nil && ctx.Err() == nil {
		r.Logger.LogAttrs(ctx, slog.LevelWarn, "no probing: the registry cannot be read", slog.Any("error", err))
	}
	rand.Shuffle(len(jobs), func(i, j int) { jobs[i], jobs[j] = jobs[j], jobs[i] })
	for i, j := range jobs {
		due := start.Add(r.Interval * time.Duration(i) / time.Duration(len(jobs)))
		if !wait(ctx, time.Until(due)) || !r.Leader.IsLeader() {
			return
		}
		if !r.start(ctx, j) {
			return
		}
	}
	wait(ctx, time.Until(start.Add(r.Interval)))
}

// jobs returns the members to probe, and forgets the failures of those that are gone.
func (r *proberRun) jobs(ctx context.Context) ([]job, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v, err := r.Store.View(ctx)
	if err != nil {
		return nil, err
	}
	var jobs []job
	failures := map[target]int{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range v.Groups("") {
		for _, m := range g.Members {
			uri, err := core.ParseURI(m.URI)
			if err != nil || uri.Protocol != "PYRO" || uri.Host == "" {
				continue
			}
			t := target{g.Name, m.ID, m.Joined}
			if n := r.failures[t]; n > 0 {
				failures[t] = n
			}
			if !r.busy[t] {
				jobs = append(jobs, job{t, uri, m.Health})
			}
		}
	}
	r.failures = failures
	return jobs, nil
}

// start begins a probe when a slot is free; false if ctx ended before.
func (r *proberRun) start(ctx context.Context, j job) bool {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	r.mu.Lock()
	r.busy[j.target] = true
	r.mu.Unlock()
	r.probes.Go(func() {
		defer func() { <-r.slots }()
		r.examine(ctx, j)
		r.mu.Lock()
		delete(r.busy, j.target)
		r.mu.Unlock()
	})
	return true
}

// examine probes a member and hands on a verdict if its health changed.
func (r *proberRun) examine(ctx context.Context, j job) {
	probing, cancel := context.WithTimeout(ctx, r.Timeout)
	err := r.probe(probing, j.uri)
	cancel()
	if ctx.Err() != nil {
		return
	}
	sign := signOf(err)
	health, decided := r.count(j.target, sign)
	if !decided || health == j.health {
		return
	}
	v := fsm.Verdict{Group: j.group, Member: j.member, Joined: j.joined, Health: health}
	if health == fsm.Suspect {
		v.Reason = fmt.Sprintf("%.*s", maxReason, err)
	}
	select {
	case r.verdicts <- v:
	case <-ctx.Done():
	}
}

// count takes a sign into account and returns what it means for the member, if anything.
func (r *proberRun) count(t target, s sign) (health fsm.Health, decided bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s == lives {
		delete(r.failures, t)
		return fsm.Alive, true
	}
	if r.failures == nil { // leadership was lost during the probe
		return 0, false
	}
	r.failures[t]++
	return fsm.Suspect, s == gone || r.failures[t] >= probesToSilent
}

// write writes verdicts until ctx ends: those that wait go into one command.
func (r *proberRun) write(ctx context.Context) {
	for {
		var verdicts []fsm.Verdict
		select {
		case v := <-r.verdicts:
			verdicts = append(verdicts, v)
		case <-ctx.Done():
			return
		}
		for len(verdicts) < maxVerdicts && len(r.verdicts) > 0 {
			verdicts = append(verdicts, <-r.verdicts)
		}
		r.apply(ctx, verdicts)
	}
}

// apply writes one command.  When it fails nothing is lost: the next round comes to the same verdicts.
func (r *proberRun) apply(ctx context.Context, verdicts []fsm.Verdict) {
	if !r.Leader.IsLeader() {
		return
	}
	applying, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, err := r.Store.Apply(applying, fsm.Command{Kind: fsm.KindHealth, Verdicts: verdicts, Actor: "prober"})
	if err != nil {
		r.Logger.LogAttrs(ctx, slog.LevelWarn, "verdicts not written", slog.Int("count", len(verdicts)), slog.Any("error", err))
		return
	}
	for _, v := range verdicts {
		r.Logger.LogAttrs(ctx, slog.LevelInfo, "member", slog.String("group", v.Group), slog.String("member", v.Member),
			slog.Bool("alive", v.Health == fsm.Alive), slog.String("reason", v.Reason))
	}
}

// connect is a probe: it connects, asks for the object and pings.
func (p *Prober) connect(ctx context.Context, uri core.URI) error {
	opts := p.Proxy
	// Every Pyro server reads serpent, not every one has msgpack.
	opts.Serializer, opts.MaxMessageBytes = "serpent", 1<<20
	proxy := core.NewProxy(uri, opts)
	// Nothing of a connection that was only for this matters.
	defer func() { _ = proxy.Close() }()
	return proxy.Ping(ctx)
}

// sign is what a probe says of a member.
type sign int

const (
	lives  sign = iota
	silent      // or something that may be chance
	gone        // for certain, at this moment
)

// signOf reads the outcome of a probe.
func signOf(err error) sign {
	switch {
	case err == nil:
		return lives
	case errors.Is(err, syscall.ECONNREFUSED):
		return gone
	}
	reason, ok := refusal(err)
	switch {
	case !ok:
		return silent
	case strings.Contains(reason, "unknown object"):
		return gone
	}
	return lives // "no free workers", or a daemon that wants another handshake
}

// refusal returns the text with which a daemon answered the CONNECT message, if it did.
func refusal(err error) (string, bool) {
	_, reason, ok := strings.Cut(err.Error(), " rejected: ")
	return reason, ok && errors.Is(err, core.CommunicationError)
}
