package cluster

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// namePatience is how long a name may take before the node is tried where it was last.  Names that can be resolved are much faster.
const namePatience = 100 * time.Millisecond

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialer connects to nodes by name, and remembers where names led.  The machine that is lost with the leader may have been the one that resolved
// names, and without names the others could not elect a new one.  An address that is not the node's any more does no harm: the handshake tells,
// and then it is forgotten.
type dialer struct {
	dial dialFunc

	mu  sync.Mutex
	led map[string]string // the IP address and port of an address with a name
}

func newDialer(dial dialFunc) dialer { return dialer{dial: dial, led: map[string]string{}} }

// remember that an address led to the node that was meant.
func (d *dialer) remember(address string, conn net.Conn) {
	if _, err := netip.ParseAddrPort(address); err == nil {
		return // needs no resolving
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.led[address] = conn.RemoteAddr().String()
}

// forget that an address led there: another one answered.
func (d *dialer) forget(address string, conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.led[address] == conn.RemoteAddr().String() {
		delete(d.led, address)
	}
}

// connect dials an address; also where it led last if resolving it fails or takes long.
func (d *dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	d.mu.Lock()
	last := d.led[address]
	d.mu.Unlock()
	if last == "" {
		return d.dial(ctx, "tcp", address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		named bool // dialled by name
		conn  net.Conn
		err   error
	}
	outcomes := make(chan outcome, 2) // room for both, so that none hangs
	underWay := 0
	try := func(address string, named bool) {
		underWay++
		go func() {
			conn, err := d.dial(ctx, "tcp", address)
			outcomes <- outcome{named, conn, err}
		}()
	}
	defer func() { // the other one is given up
		go func() {
			for range underWay {
				if o := <-outcomes; o.conn != nil {
					o.conn.Close()
				}
			}
		}()
	}()
	try(address, true)
	late := time.NewTimer(namePatience)
	defer late.Stop()
	var unresolved error
	for {
		select {
		case <-late.C:
			try(last, false)
		case o := <-outcomes:
			underWay--
			_, isUnresolved := errors.AsType[*net.DNSError](o.err)
			switch {
			case o.err == nil, o.named && !isUnresolved:
				return o.conn, o.err
			case o.named:
				unresolved = o.err
				if late.Stop() {
					try(last, false)
				}
			}
			if underWay == 0 {
				return nil, unresolved
			}
		}
	}
}
