// Package peer measures one remote-call system in works that are the same for all of them, so that systems can be compared.  A system
// is a [Peer]: how it serves, and how a client connects.  [Main] makes a server command and a client command of it, which a driver
// starts as two processes, and which talk to the driver in one line and one JSON object:
//
//	server -work W2
//	    prints "ADDR token pids=1234 ctl=127.0.0.1:4001" and serves until it gets SIGTERM
//	client -work W2 -addr token -duration 3s -warmup 800ms -server-pids 1234 -ctl 127.0.0.1:4001
//	    prints a Result
//
// The token says where the server is.  pids are the processes whose CPU and memory are the server's.  ctl is an address that answers each line
// with the number of heap objects that the server has allocated.
//
// [Pyro] is the peer that this project's own object layer and event server are.
package peer

import (
	"context"
	"net"
	"sync/atomic"
)

// Conn is a client's connection to the peer's server.
//
// The contexts that a client passes never end, since one that can end costs some systems a timer or a goroutine each call and others
// nothing: Close is what ends a call that hangs.  Close may be called at any time, and more than once; it is called by another goroutine than
// the methods.  The methods are called by several goroutines at once if Peer.Mux is set, otherwise by one.
type Conn interface {
	// Add returns a+b, computed by the server.
	Add(ctx context.Context, a, b int64) (int64, error)
	// EchoString returns s, from the server.
	EchoString(ctx context.Context, s string) (string, error)
	// EchoBytes returns what p holds, from the server.  The result may be overwritten by the next call on the connection.
	EchoBytes(ctx context.Context, p []byte) ([]byte, error)
	// Oneway sends v to be counted there, and does not wait for an answer.  It may leave v in a buffer.
	Oneway(ctx context.Context, v int64) error
	// Flush sends what Oneway left in buffers.
	Flush(ctx context.Context) error
	// Received returns how many Oneway messages the server has counted.
	Received(ctx context.Context) (int64, error)
	Close() error
}

// Broker is a client's connection to the peer's event server, on which it either publishes or subscribes, to one topic that all use.  Contexts
// and Close are as those of [Conn].
type Broker interface {
	// Publish sends p, which it does not keep, to all who subscribe.  It may leave it in a buffer.
	Publish(ctx context.Context, p []byte) error
	// Flush sends what Publish left in buffers.
	Flush(ctx context.Context) error
	// Subscribe returns when events that are published from then on are heard.
	Subscribe(ctx context.Context) error
	// Next returns the next event, which may be overwritten by the call after it.  Events that the system has lost it leaves out.
	Next(ctx context.Context) ([]byte, error)
	Close() error
}

// Service is what a server does for its clients, whatever the system.  Its methods are safe for concurrent use.
type Service struct{ received atomic.Int64 }

// Add returns a+b.
func (s *Service) Add(a, b int64) int64 { return a + b }

// Note counts a one-way message.
func (s *Service) Note() { s.received.Add(1) }

// Received is how often Note was called.
func (s *Service) Received() int64 { return s.received.Load() }

// Peer is a system that is measured.
type Peer struct {
	// Mux says that many callers share one connection.  Otherwise each has a connection of its own.
	Mux bool
	// Serve serves clients that connect to ln, which it closes.  It returns when ctx ends, or serving fails, and has ended its goroutines
	// then.
	Serve func(ctx context.Context, ln net.Listener, s *Service) error
	// Dial connects to the server at address, host:port.  It may put off connecting until the first call.  ctx bounds Dial, not the connection.
	Dial func(ctx context.Context, address string) (Conn, error)
	// ServeBroker and DialBroker are the same for events; nil if the system has none.
	ServeBroker func(ctx context.Context, ln net.Listener) error
	DialBroker  func(ctx context.Context, address string) (Broker, error)
	// Dynamic is the system with calls by name, in place of calls by code that was generated; nil if it has no such choice.
	Dynamic *Peer
	// Plain is the system with a connection for each caller; nil if it has no such choice.
	Plain *Peer
}
