package failover

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
)

// Members are called in the order of their tiers, one of a higher tier only if none of a lower one is left.  Ejected members
// come last, but they are used when nothing else is left (a panic floor): then calls are the best probes.
const (
	tierOtherZone = 1
	tierSuspect   = 2
	tierEjected   = 4
)

func tierOf(m Member, zone string) int {
	tier := 0
	if zone != "" && m.Zone != zone {
		tier += tierOtherZone
	}
	if !m.Alive {
		tier += tierSuspect
	}
	return tier
}

// pick chooses the replica for an attempt: the cheaper of two that are drawn from the best tier, by their weights
// (Mitzenmacher, The Power of Two Choices).  It returns nil if all were tried.
//
// Whoever gets the smallest of exponentially distributed numbers with the weights as rates is a weighted draw, and the two
// smallest are two draws without replacement (Efraimidis and Spirakis, Weighted random sampling): one pass, no list.
func (p *Proxy) pick(v *view, tried []*replica, now int64) *replica {
	var first, second *candidate
	firstKey, secondKey := math.Inf(1), math.Inf(1)
	best := math.MaxInt
	for i := range v.candidates {
		c := &v.candidates[i]
		tier := c.tier
		if until := c.ejected.Load(); until != 0 {
			tier += tierEjected
			if now >= until {
				p.probe(c.replica)
			}
		}
		if tier > best || slices.Contains(tried, c.replica) {
			continue
		}
		if tier < best {
			best = tier
			first, second = nil, nil
			firstKey, secondKey = math.Inf(1), math.Inf(1)
		}
		switch key := rand.ExpFloat64() / float64(c.weight); {
		case first == nil || key < firstKey:
			first, second, firstKey, secondKey = c, first, key, firstKey
		case second == nil || key < secondKey:
			second, secondKey = c, key
		}
	}
	switch {
	case first == nil:
		return nil
	case second != nil && second.cost(now, second.weight) < first.cost(now, first.weight):
		return second.replica
	}
	return first.replica
}

// probe finds out in the background whether an ejected replica is back, so that no call has to wait for it.
func (p *Proxy) probe(r *replica) {
	if !r.probing.CompareAndSwap(false, true) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	started := p.backgroundLocked(p.opts.ConnectTimeout, func(ctx context.Context) {
		defer r.probing.Store(false)
		if err := r.endpoint.Ping(ctx); err != nil {
			r.fail(p.now())
			return
		}
		r.readmit()
	})
	if !started {
		r.probing.Store(false)
	}
}

// succeeded and failed keep the state of replicas.

func (p *Proxy) succeeded(ctx context.Context, r *replica, start int64) {
	now := p.now()
	if r.succeed(now, now-start) {
		p.observe(EventReturned)
		p.opts.Logger.LogAttrs(ctx, slog.LevelInfo, "member is back", slog.String("group", p.group), slog.String("member", r.uri.String()))
	}
}

func (p *Proxy) failed(ctx context.Context, r *replica, err error) {
	if r.fail(p.now()) {
		p.observe(EventEjected)
		p.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "member ejected",
			slog.String("group", p.group), slog.String("member", r.uri.String()), slog.Any("error", err))
	}
}
