package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
)

// cut is a Cut that waits for a message.  It is one of p.cuts until a direction takes it.
type cut struct {
	done      chan struct{} // closed when the connection is gone
	performed bool          // the message has been cut; protected by p.mu
	withdrawn bool          // nobody waits for it any more; protected by p.mu
}

// Cut waits for the next message, in either direction, passes on the first half of it (for a message with little in it that is a part of
// the header), and resets its connection on both sides; the reset may overtake what a slow reader has not read.  The error is ctx's cause
// if none came, and [net.ErrClosed] after Close.  It needs [Options.Frames].  Several at a time cut a message each.
func (p *Proxy) Cut(ctx context.Context) error {
	if !p.opts.Frames {
		return errors.New("link: cut: messages are not known without Options.Frames")
	}
	c := &cut{done: make(chan struct{})}
	p.arm(c)
	select {
	case <-c.done:
		return nil
	case <-p.done:
		return fmt.Errorf("link: cut: %w", net.ErrClosed)
	case <-ctx.Done():
	}
	if !p.withdraw(c) {
		return nil // it is too late to take it back
	}
	return fmt.Errorf("link: cut: no message came: %w", context.Cause(ctx))
}

func (p *Proxy) arm(c *cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = append(p.cuts, c)
	p.armed.Store(int32(len(p.cuts)))
}

// withdraw takes a cut back, unless it has been performed.
func (p *Proxy) withdraw(c *cut) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = slices.DeleteFunc(p.cuts, func(other *cut) bool { return other == c })
	p.armed.Store(int32(len(p.cuts)))
	c.withdrawn = !c.performed
	return c.withdrawn
}

// takeCut returns the cut that waits longest; nil if there is none.
func (p *Proxy) takeCut() *cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cuts) == 0 {
		return nil
	}
	c := p.cuts[0]
	p.cuts = p.cuts[1:]
	p.armed.Store(int32(len(p.cuts)))
	return c
}

// perform notes that a message has been cut.  False means that it is not to be cut any more.
func (p *Proxy) perform(c *cut) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.performed = !c.withdrawn
	return c.performed
}

// settle is called when a connection with a cut has ended: if it ended before the message was cut, the next message is.
func (p *Proxy) settle(c *cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case c.performed:
		close(c.done)
	case !c.withdrawn:
		p.cuts = append(p.cuts, c)
		p.armed.Store(int32(len(p.cuts)))
	}
}
