package peer

import (
	"context"
	"net"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// PyroObject is the id of the object that the server of [Pyro] serves.
const PyroObject = "bench"

// Pyro is this project's object layer: package core at both ends with a generated proxy and skeleton, msgpack, many calls at once on one connection;
// or, as its Dynamic, calls by name of an object that reflection describes, or, as its Plain, the protocol of Python's programs.  Its event server is that of one node which keeps its state in memory: events
// do not pass through the log of a cluster.
func Pyro() Peer {
	typed := Peer{Mux: true, Serve: serveTyped, Dial: dialTyped, ServeBroker: serveEvents, DialBroker: dialEvents}
	dynamic := typed
	dynamic.Serve, dynamic.Dial = serveDynamic, dialDynamic
	plain := typed
	plain.Mux, plain.Dial = false, dialPlain
	typed.Dynamic, typed.Plain = &dynamic, &plain
	return typed
}

func serveTyped(ctx context.Context, ln net.Listener, s *Service) error {
	return servePyro(ctx, ln, benchServant(object{s}), core.ObjectOptions{})
}

func serveDynamic(ctx context.Context, ln net.Listener, s *Service) error {
	return servePyro(ctx, ln, object{s}, core.ObjectOptions{
		Names:  map[string]string{"EchoString": "text", "EchoBytes": "blob"},
		Oneway: []string{"note"},
	})
}

func servePyro(ctx context.Context, ln net.Listener, obj any, opts core.ObjectOptions) error {
	d, err := core.NewDaemon(ln, core.DaemonOptions{})
	if err != nil {
		return err
	}
	if _, err := d.Register(PyroObject, obj, opts); err != nil {
		d.Close()
		return err
	}
	return d.Serve(ctx)
}

func dialPyro(address string, plain bool) (*core.Proxy, error) {
	uri, err := core.ParseURI("PYRO:" + PyroObject + "@" + address)
	if err != nil {
		return nil, err
	}
	return core.NewProxy(uri, core.ProxyOptions{Serializer: "msgpack", Plain: plain}), nil
}

func dialTyped(_ context.Context, address string) (Conn, error) { return dialProxy(address, false) }

func dialPlain(_ context.Context, address string) (Conn, error) { return dialProxy(address, true) }

func dialProxy(address string, plain bool) (Conn, error) {
	proxy, err := dialPyro(address, plain)
	if err != nil {
		return nil, err
	}
	return typedConn{newBenchProxy(proxy), proxy}, nil
}

// typedConn calls through a generated proxy.
type typedConn struct {
	*benchProxy
	proxy *core.Proxy
}

func (c typedConn) Oneway(ctx context.Context, v int64) error { return c.Note(ctx, v) }
func (c typedConn) Flush(context.Context) error               { return nil } // messages are written soon, without being told
func (c typedConn) Close() error                              { return c.proxy.Close() }

func dialDynamic(_ context.Context, address string) (Conn, error) {
	proxy, err := dialPyro(address, false)
	if err != nil {
		return nil, err
	}
	return dynamicConn{proxy}, nil
}

// dynamicConn calls by name.
type dynamicConn struct{ proxy *core.Proxy }

func (c dynamicConn) Add(ctx context.Context, a, b int64) (sum int64, err error) {
	err = c.proxy.Call(ctx, "add", &sum, a, b)
	return sum, err
}

func (c dynamicConn) EchoString(ctx context.Context, s string) (echo string, err error) {
	err = c.proxy.Call(ctx, "text", &echo, s)
	return echo, err
}

func (c dynamicConn) EchoBytes(ctx context.Context, p []byte) (echo []byte, err error) {
	err = c.proxy.Call(ctx, "blob", &echo, p)
	return echo, err
}

func (c dynamicConn) Oneway(ctx context.Context, v int64) error {
	return c.proxy.CallOneway(ctx, "note", v)
}

func (c dynamicConn) Flush(context.Context) error { return nil }

func (c dynamicConn) Received(ctx context.Context) (n int64, err error) {
	err = c.proxy.Call(ctx, "received", &n)
	return n, err
}

func (c dynamicConn) Close() error { return c.proxy.Close() }
