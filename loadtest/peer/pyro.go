package peer

import (
	"context"
	"net"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// PyroObject is the id of the object that the server of [Pyro] serves.
const PyroObject = "bench"

// Pyro is this project's object layer: package core at both ends, with msgpack, many calls at once on one connection.  Its event server is that
// of one node which keeps its state in memory: events do not pass through the log of a cluster.
func Pyro() Peer {
	return Peer{Mux: true, Serve: servePyro, Dial: dialPyro, ServeBroker: serveEvents, DialBroker: dialEvents}
}

func servePyro(ctx context.Context, ln net.Listener, s *Service) error {
	d, err := core.NewDaemon(ln, core.DaemonOptions{})
	if err != nil {
		return err
	}
	if _, err := d.Register(PyroObject, pyroServant(s), core.ObjectOptions{}); err != nil {
		d.Close()
		return err
	}
	return d.Serve(ctx)
}

// pyroServant is written as "pyro-cluster gen" does it.
func pyroServant(s *Service) *core.Servant {
	one := []core.Param{{Name: "v"}}
	return &core.Servant{Class: "Bench", Methods: []core.Method{
		{Name: "add", Params: []core.Param{{Name: "a"}, {Name: "b"}}, Direct: func(_ context.Context, args *core.Decoder, result *core.Encoder) error {
			a, b := args.Int64(), args.Int64()
			if err := args.Err(); err != nil {
				return err
			}
			result.Int64(s.Add(a, b))
			return nil
		}},
		{Name: "echo", Params: one, Direct: func(_ context.Context, args *core.Decoder, result *core.Encoder) error {
			text := args.String()
			if err := args.Err(); err != nil {
				return err
			}
			result.String(text)
			return nil
		}},
		{Name: "echo_bytes", Params: one, Direct: func(_ context.Context, args *core.Decoder, result *core.Encoder) error {
			b := args.Bytes()
			if err := args.Err(); err != nil {
				return err
			}
			result.Bytes(b)
			return nil
		}},
		{Name: "note", Params: one, Oneway: true, Direct: func(_ context.Context, args *core.Decoder, _ *core.Encoder) error {
			args.Int64()
			s.Note()
			return args.Err()
		}},
		{Name: "received", Direct: func(_ context.Context, _ *core.Decoder, result *core.Encoder) error {
			result.Int64(s.Received())
			return nil
		}},
	}}
}

func dialPyro(_ context.Context, address string) (Conn, error) {
	uri, err := core.ParseURI("PYRO:" + PyroObject + "@" + address)
	if err != nil {
		return nil, err
	}
	return pyroConn{core.NewProxy(uri, core.ProxyOptions{Serializer: "msgpack"})}, nil
}

// pyroConn is a proxy.
type pyroConn struct{ proxy *core.Proxy }

func (c pyroConn) Add(ctx context.Context, a, b int64) (int64, error) {
	call := core.NewInvocation("add")
	defer call.Free()
	call.Args.Int64(a)
	call.Args.Int64(b)
	if err := c.proxy.Invoke(ctx, call); err != nil {
		return 0, err
	}
	sum := call.Result.Int64()
	return sum, call.Result.Err()
}

func (c pyroConn) EchoString(ctx context.Context, s string) (string, error) {
	call := core.NewInvocation("echo")
	defer call.Free()
	call.Args.String(s)
	if err := c.proxy.Invoke(ctx, call); err != nil {
		return "", err
	}
	echo := call.Result.String()
	return echo, call.Result.Err()
}

func (c pyroConn) EchoBytes(ctx context.Context, p []byte) ([]byte, error) {
	call := core.NewInvocation("echo_bytes")
	defer call.Free()
	call.Args.Bytes(p)
	if err := c.proxy.Invoke(ctx, call); err != nil {
		return nil, err
	}
	echo := call.Result.Bytes()
	return echo, call.Result.Err()
}

func (c pyroConn) Oneway(ctx context.Context, v int64) error {
	call := core.NewInvocation("note")
	defer call.Free()
	call.Oneway()
	call.Args.Int64(v)
	return c.proxy.Invoke(ctx, call)
}

func (c pyroConn) Flush(context.Context) error { return nil } // messages are written soon, without being told

func (c pyroConn) Received(ctx context.Context) (int64, error) {
	call := core.NewInvocation("received")
	defer call.Free()
	if err := c.proxy.Invoke(ctx, call); err != nil {
		return 0, err
	}
	n := call.Result.Int64()
	return n, call.Result.Err()
}

func (c pyroConn) Close() error { return c.proxy.Close() }
