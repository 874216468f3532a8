// Package link is a TCP proxy that breaks connections in the ways in which networks do: slow, silent, reset, cut in the midst of a
// message, partitioned.  It knows the frames of the Pyro protocol (40-byte header, see package core), so that it can cut a message in
// its midst rather than between two of them.
//
// Without a fault in effect bytes are passed on as they come, one direction of a connection by one goroutine, which does not read on
// before what it read has been taken by the other side: a slow reader slows its writer, as without the proxy.  The end of one
// direction (FIN) is passed on and leaves the other open; a reset is passed on as a reset.
package link

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options set up a [Proxy].
type Options struct {
	// Listen is where to listen, host:port, such as "127.0.0.1:0".
	Listen string
	// Backend is where connections go, host:port; it may be empty until [Proxy.SetBackend].
	Backend string
	// Frames says that the connections carry the Pyro protocol, which [Proxy.Cut] needs.  A connection with anything else than messages
	// of protocol 502 is passed on as bytes.
	Frames bool
	// From, if not nil, gets the first bytes that a dialling side sent and returns a name for it, for [Proxy.Partition] between two.  As
	// long as it returns "" it is asked again when more has come, up to 1 KiB.  It is called by several goroutines at a time.
	From func(first []byte) string
}

// Proxy forwards connections to a backend.  Its methods are safe for concurrent use.
//
// Faults can be in effect together, also several of one kind; each lasts until it is healed itself.  Each method that begins one returns
// a function that ends it; calling that twice is the same as once, and after Close it does nothing.
type Proxy struct {
	opts   Options
	ln     net.Listener
	done   chan struct{}  // closed by Close
	active sync.WaitGroup // the goroutines of the proxy

	delay atomic.Int64 // nanoseconds by which bytes are late
	armed atomic.Int32 // how many cuts wait for a message: len(cuts)

	mu         sync.Mutex // protects what follows, and what conn says
	backend    string
	closed     bool
	conns      map[*conn]struct{}
	partitions map[*silence]struct{}
	cuts       []*cut
}

// Listen starts a proxy.  The caller closes it.
func Listen(opts Options) (*Proxy, error) {
	ln, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	p := &Proxy{
		opts: opts, ln: ln, done: make(chan struct{}), backend: opts.Backend,
		conns: map[*conn]struct{}{}, partitions: map[*silence]struct{}{},
	}
	p.active.Go(p.accept)
	return p, nil
}

// Addr is the address to dial, host:port.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// SetBackend sets where later connections go.
func (p *Proxy) SetBackend(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backend = address
}

// Connections is the number of open connections: those of clients, whether their backend answers or not.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Close ends the proxy and its connections, and returns when all of it has ended.  Closing it twice is the same as once.
func (p *Proxy) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	var err error
	if first {
		close(p.done)
		err = p.ln.Close()
		for _, c := range p.open() {
			c.close()
		}
	}
	p.active.Wait()
	return err
}

// open returns the connections that are open now.
func (p *Proxy) open() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.conns))
}

// acceptPause is how long to wait when a connection cannot be accepted, for lack of file descriptors mostly.
const acceptPause = 20 * time.Millisecond

func (p *Proxy) accept() {
	for {
		client, err := p.ln.Accept()
		switch {
		case err == nil:
			p.serve(client.(*net.TCPConn))
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select {
			case <-time.After(acceptPause):
			case <-p.done:
				return
			}
		}
	}
}

// serve starts what forwards a new connection.
func (p *Proxy) serve(client *net.TCPConn) {
	ctx, cancel := context.WithCancel(context.Background()) // a connection lives until it ends or Close, whoever started the proxy
	c := &conn{p: p, client: client, cancel: cancel}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		cancel()
		client.Close()
		return
	}
	p.conns[c] = struct{}{}
	for s := range p.partitions {
		if s.from == "" {
			s.addLocked(c)
			c.held = true
		}
	}
	backend := p.backend
	p.mu.Unlock()
	p.active.Go(func() { c.run(ctx, backend) })
}
