package peer

import (
	"context"
	"fmt"
	"net"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// PyroObject is the id of the object that the server of [Pyro] serves.
const PyroObject = "bench"

// Pyro is this project's object layer: package core at both ends, with msgpack, and a connection for each concurrent caller.  Its event server is that
// of one node which keeps its state in memory: events do not pass through the log of a cluster.
func Pyro() Peer {
	return Peer{Serve: servePyro, Dial: dialPyro, ServeBroker: serveEvents, DialBroker: dialEvents}
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

func pyroServant(s *Service) *core.Servant {
	return &core.Servant{Class: "Bench", Methods: []core.Method{
		{Name: "add", Params: []core.Param{{Name: "a"}, {Name: "b"}}, Func: func(_ context.Context, args []any) (any, error) {
			a, aOK := args[0].(int64)
			b, bOK := args[1].(int64)
			if !aOK || !bOK {
				return nil, fmt.Errorf("add: got %T and %T, want integers", args[0], args[1])
			}
			return s.Add(a, b), nil
		}},
		{Name: "echo", Params: []core.Param{{Name: "v"}}, Func: func(_ context.Context, args []any) (any, error) { return args[0], nil }},
		{Name: "note", Params: []core.Param{{Name: "v"}}, Oneway: true, Func: func(context.Context, []any) (any, error) {
			s.Note()
			return nil, nil
		}},
		{Name: "received", Func: func(context.Context, []any) (any, error) { return s.Received(), nil }},
	}}
}

func dialPyro(_ context.Context, address string) (Conn, error) {
	uri, err := core.ParseURI("PYRO:" + PyroObject + "@" + address)
	if err != nil {
		return nil, err
	}
	return pyroConn{core.NewProxy(uri, core.ProxyOptions{Serializer: "msgpack"})}, nil
}

// pyroConn is a proxy, which has one connection as long as one call at a time is made through it.
type pyroConn struct{ proxy *core.Proxy }

func (c pyroConn) Add(ctx context.Context, a, b int64) (sum int64, err error) {
	err = c.proxy.Call(ctx, "add", &sum, a, b)
	return sum, err
}

func (c pyroConn) EchoString(ctx context.Context, s string) (echo string, err error) {
	err = c.proxy.Call(ctx, "echo", &echo, s)
	return echo, err
}

func (c pyroConn) EchoBytes(ctx context.Context, p []byte) (echo []byte, err error) {
	err = c.proxy.Call(ctx, "echo", &echo, p)
	return echo, err
}

func (c pyroConn) Oneway(ctx context.Context, v int64) error {
	return c.proxy.CallOneway(ctx, "note", v)
}

func (c pyroConn) Flush(context.Context) error { return nil } // CallOneway has written the message

func (c pyroConn) Received(ctx context.Context) (n int64, err error) {
	err = c.proxy.Call(ctx, "received", &n)
	return n, err
}

func (c pyroConn) Close() error { return c.proxy.Close() }
