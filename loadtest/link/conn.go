package link

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a client's connection and the one to the backend that belongs to it.
type conn struct {
	p      *Proxy
	client *net.TCPConn
	cancel func()         // ends its context
	pumps  sync.WaitGroup // its goroutines but the one of run
	silent atomic.Bool    // silences > 0: looked at for every read, without the lock

	// Protected by p.mu.
	backend  *net.TCPConn // nil until it is dialled
	ended    bool         // both are closed, or about to be
	from     string       // who dialled, as Options.From says
	silences int          // faults that make its bytes vanish
	lost     bool         // bytes, or the end of them, have vanished: it cannot go on after that
	held     bool         // it came during a partition; the backend is not dialled
}

// dialTimeout is how long a backend may take to accept a connection.
const dialTimeout = 10 * time.Second

// run forwards until both directions have ended.
func (c *conn) run(ctx context.Context, backend string) {
	defer c.close()
	if c.held {
		c.swallow()
		return
	}
	d := net.Dialer{Timeout: dialTimeout}
	b, err := d.DialContext(ctx, "tcp", backend)
	if err != nil {
		c.vanish(ctx)
		c.reset()
		return
	}
	if !c.attach(b.(*net.TCPConn)) {
		b.Close()
		return
	}
	up := newDirection(c, c.client, c.backend)
	down := newDirection(c, c.backend, c.client)
	if c.p.opts.From != nil {
		up.who = &caller{}
	}
	c.pumps.Go(func() { down.run(ctx) })
	up.run(ctx)
	c.pumps.Wait()
	if up.failed || down.failed {
		c.reset()
	}
	c.close()
	up.settleCut()
	down.settleCut()
}

// swallow reads a connection that is not to get an answer, so that its end is noticed.  Clients that give up and come back would
// use up the file descriptors otherwise.
func (c *conn) swallow() {
	buf := make([]byte, 4<<10)
	for {
		if _, err := c.client.Read(buf); err != nil {
			return
		}
	}
}

// attach notes the connection to the backend, unless c has ended.
func (c *conn) attach(backend *net.TCPConn) bool {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.ended {
		return false
	}
	c.backend = backend
	return true
}

// vanish reports whether the end of something has to stay unknown to the other side.  If so it first waits until the connection has
// been ended otherwise: nothing can come any more.
func (c *conn) vanish(ctx context.Context) bool {
	if !c.lose() {
		return false
	}
	<-ctx.Done()
	return true
}

// lose reports whether what was just read vanishes.  It takes the lock, so that healing either sees the loss or comes before it.
func (c *conn) lose() bool {
	if !c.silent.Load() {
		return false
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.silences == 0 {
		return false
	}
	c.lost = true
	return true
}

// reset ends the connection on both sides with RST, close with FIN.  Only the first one that is called counts.
func (c *conn) reset() { c.end(true) }
func (c *conn) close() { c.end(false) }

func (c *conn) end(rst bool) {
	c.p.mu.Lock()
	if c.ended {
		c.p.mu.Unlock()
		return
	}
	c.ended = true
	delete(c.p.conns, c)
	for s := range c.p.partitions {
		delete(s.conns, c)
	}
	backend := c.backend
	c.p.mu.Unlock()
	c.cancel()
	hangUp(c.client, rst)
	if backend != nil {
		hangUp(backend, rst)
	}
}

// hangUp closes a socket.  It has no use for errors: the other side may have gone first.
func hangUp(t *net.TCPConn, rst bool) {
	if rst {
		t.SetLinger(0)
	}
	t.Close()
}
