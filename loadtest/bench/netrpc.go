package main

import (
	"context"
	"net"
	"net/rpc"

	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

// netRPC is the standard library's net/rpc with its own codec, gob.
func netRPC() peer.Peer {
	return peer.Peer{
		Mux: true,
		Serve: func(ctx context.Context, ln net.Listener, s *peer.Service) error {
			server := rpc.NewServer()
			if err := server.RegisterName("Bench", &RPCService{s}); err != nil {
				return err
			}
			return acceptAll(ctx, ln, func(conn net.Conn) { server.ServeConn(conn) })
		},
		Dial: func(ctx context.Context, address string) (peer.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return &rpcConn{client: rpc.NewClient(conn), done: make(chan *rpc.Call, onewayWindow)}, nil
		},
	}
}

// RPCService has its methods called by net/rpc, which wants exported names.
type RPCService struct{ service *peer.Service }

// AddArgs are the arguments of Add.
type AddArgs struct{ A, B int64 }

// Add adds.
func (s *RPCService) Add(a AddArgs, sum *int64) error {
	*sum = s.service.Add(a.A, a.B)
	return nil
}

// EchoString returns a text.
func (s *RPCService) EchoString(text string, echo *string) error {
	*echo = text
	return nil
}

// EchoBytes returns bytes.
func (s *RPCService) EchoBytes(p []byte, echo *[]byte) error {
	*echo = p
	return nil
}

// Note counts a message.
func (s *RPCService) Note(int64, *bool) error {
	s.service.Note()
	return nil
}

// Received returns the count.
func (s *RPCService) Received(_ int64, n *int64) error {
	*n = s.service.Received()
	return nil
}

// onewayWindow is how many calls whose answers nobody waits for are under way, since net/rpc has no one-way calls.
const onewayWindow = 1024

type rpcConn struct {
	client   *rpc.Client
	done     chan *rpc.Call // of onewayWindow, so that net/rpc never finds it full
	underWay int            // used by Oneway and Flush alone, which one goroutine calls
}

func (c *rpcConn) Add(_ context.Context, a, b int64) (sum int64, err error) {
	err = c.client.Call("Bench.Add", AddArgs{a, b}, &sum)
	return sum, err
}

func (c *rpcConn) EchoString(_ context.Context, s string) (echo string, err error) {
	err = c.client.Call("Bench.EchoString", s, &echo)
	return echo, err
}

func (c *rpcConn) EchoBytes(_ context.Context, p []byte) (echo []byte, err error) {
	err = c.client.Call("Bench.EchoBytes", p, &echo)
	return echo, err
}

func (c *rpcConn) Oneway(_ context.Context, v int64) error {
	if c.underWay == onewayWindow {
		if err := c.await(); err != nil {
			return err
		}
	}
	c.client.Go("Bench.Note", v, new(bool), c.done)
	c.underWay++
	return nil
}

// await waits for one answer.
func (c *rpcConn) await() error {
	c.underWay--
	return (<-c.done).Error
}

func (c *rpcConn) Flush(context.Context) error {
	for c.underWay > 0 {
		if err := c.await(); err != nil {
			return err
		}
	}
	return nil
}

func (c *rpcConn) Received(context.Context) (n int64, err error) {
	err = c.client.Call("Bench.Received", int64(0), &n)
	return n, err
}

func (c *rpcConn) Close() error { return c.client.Close() }
