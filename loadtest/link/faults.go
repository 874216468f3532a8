package link

import (
	"errors"
	"sync"
	"time"
)

// Slow makes every byte arrive d later, in both directions, without changing the order or how much is under way (up to 8 MiB per
// direction of a connection; beyond it the sender is slowed): every message is late by d, and no message waits for the delay of
// another.  The delays of several faults add up.  After healing, what is under way still arrives at its time.
func (p *Proxy) Slow(d time.Duration) (heal func()) {
	d = max(d, 0)
	p.delay.Add(int64(d))
	return sync.OnceFunc(func() { p.delay.Add(-int64(d)) })
}

// HalfOpen makes everything vanish that is sent on the connections open now, in both directions, while new connections work.  What is
// sent is read and dropped, so that senders notice nothing; that a side closes its connection is not passed on either.  Healing
// resets those connections, since bytes are missing in them.  Without a connection it is an error.
func (p *Proxy) HalfOpen() (heal func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.conns) == 0 {
		return nil, errors.New("link: half-open: there is no connection")
	}
	s := &silence{p: p, conns: map[*conn]struct{}{}}
	for c := range p.conns {
		s.addLocked(c)
		c.lost = true
	}
	return sync.OnceFunc(s.heal), nil
}

// Partition makes everything vanish, as HalfOpen does, on open connections and on new ones: those are accepted, as the kernel does that,
// but get no answer, and the backend does not hear of them.  With a name, only connections from there ([Options.From]); a new one counts
// from its first bytes on.  Healing resets the connections that lost bytes, and those that were new.
func (p *Proxy) Partition(from string) (heal func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &silence{p: p, from: from, conns: map[*conn]struct{}{}}
	p.partitions[s] = struct{}{}
	for c := range p.conns {
		if from == "" || c.from == from {
			s.addLocked(c)
		}
	}
	return sync.OnceFunc(s.heal)
}

// Reset resets all open connections (RST, not FIN) on both sides.  Without a connection it is an error.
func (p *Proxy) Reset() error {
	conns := p.open()
	if len(conns) == 0 {
		return errors.New("link: reset: there is no connection")
	}
	for _, c := range conns {
		c.reset()
	}
	return nil
}

// identified notes who dialled, which may be one that a partition is about.
func (p *Proxy) identified(c *conn, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.from = name
	if c.ended {
		return
	}
	for s := range p.partitions {
		if s.from != "" && s.from == name {
			s.addLocked(c)
		}
	}
}

// silence is a fault that makes the bytes of connections vanish.
type silence struct {
	p     *Proxy
	from  string             // of a partition: whose connections; empty for all
	conns map[*conn]struct{} // protected by p.mu
}

func (s *silence) addLocked(c *conn) {
	s.conns[c] = struct{}{}
	c.silences++
	c.silent.Store(true)
}

// heal lets bytes pass again, and resets the connections in which some are missing, unless another fault keeps them silent.
func (s *silence) heal() {
	var broken []*conn
	s.p.mu.Lock()
	delete(s.p.partitions, s)
	for c := range s.conns {
		c.silences--
		switch {
		case c.silences > 0:
		case c.lost || c.held:
			broken = append(broken, c)
		default:
			c.silent.Store(false)
		}
	}
	s.p.mu.Unlock()
	for _, c := range broken {
		c.reset()
	}
}
