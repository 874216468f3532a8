package failover

import (
	"context"
	"net"
	"time"
)

// dialFunc is the type of core.ProxyOptions.Dial.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// impatient returns a dial function that gives up after timeout, and whose connections break unless something is received on
// them within timeout: a stopped process still accepts, by its kernel's hand, but does not answer the handshake.
func impatient(dial dialFunc, timeout time.Duration) dialFunc {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		start := time.Now()
		ctx, cancel := context.WithDeadline(ctx, start.Add(timeout))
		defer cancel()
		nc, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &silentConn{Conn: nc}
		c.timer = time.AfterFunc(timeout-time.Since(start), func() { nc.SetDeadline(time.Unix(1, 0)) })
		return c, nil
	}
}

// silentConn is a connection on which nothing was received yet.
type silentConn struct {
	net.Conn
	timer   *time.Timer
	greeted bool // something was received; core reads from one goroutine at a time
}

func (c *silentConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.greeted {
		c.greeted = true
		c.timer.Stop()
	}
	return n, err
}

// NetConn lets core look at the socket.
func (c *silentConn) NetConn() net.Conn { return c.Conn }

func (c *silentConn) Close() error {
	c.timer.Stop()
	return c.Conn.Close()
}
