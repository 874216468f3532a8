// Package link is a TCP proxy that breaks connections in the ways in which networks do: slow, silent, reset, cut in the midst of a
// message, partitioned.  It knows the frames of the Pyro protocol (40-byte header, docs of core), so that it can delay and cut messages
// rather than whatever bytes happen to arrive together.
package link

import (
	"context"
	"net"
	"time"
)

// Options set up a Proxy.
type Options struct {
	Listen  string // host:port, such as "127.0.0.1:0"
	Backend string // host:port; may be empty until SetBackend
	// Frames says that the connections carry the Pyro protocol; otherwise bytes are passed on as they come.
	Frames bool
	// From, if not nil, gets the first bytes that a dialling side sent and returns a name for it, for [Proxy.Partition] between two.
	From func(first []byte) string
}

// Proxy forwards connections to a backend.  Its methods are safe for concurrent use.
//
// Faults can be in effect together.  Each function that begins one returns a function that ends it; calling that twice is the same as once.
type Proxy struct{}

// Listen starts a proxy.  The caller closes it.
func Listen(opts Options) (*Proxy, error) { panic("stub") }

// Addr is the address to dial, host:port.
func (p *Proxy) Addr() string { panic("stub") }

// SetBackend sets where later connections go.
func (p *Proxy) SetBackend(address string) { panic("stub") }

// Connections is the number of open connections.
func (p *Proxy) Connections() int { panic("stub") }

// Slow delays every message by d in each direction, without changing their order or how many are under way.
func (p *Proxy) Slow(d time.Duration) (heal func()) { panic("stub") }

// HalfOpen makes everything vanish that is sent on the connections open now, in both directions, while new connections work.  Healing
// resets those connections, since bytes are missing in them.  Without a connection it is an error.
func (p *Proxy) HalfOpen() (heal func(), err error) { panic("stub") }

// Partition makes everything vanish: on open connections, and new ones get no answer.  With a name, only connections from there.  Healing
// resets the connections that lost bytes.
func (p *Proxy) Partition(from string) (heal func()) { panic("stub") }

// Reset resets all open connections (RST, not FIN).  Without a connection it is an error.
func (p *Proxy) Reset() error { panic("stub") }

// Cut waits for the next message, in either direction, of at least two bytes, passes on a part of it, and resets its connection.  The
// error is ctx's cause if none came.  It needs Frames.
func (p *Proxy) Cut(ctx context.Context) error { panic("stub") }

// Close ends the proxy and its connections.
func (p *Proxy) Close() error { panic("stub") }

// Dialer returns a dial function (as core.ProxyOptions.Dial) that goes through proxies of its own, one per address, made when needed by
// open.
func Dialer(open func(address string) (*Proxy, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	panic("stub")
}
