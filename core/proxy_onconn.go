package core

import (
	"context"
	"errors"
	"net"
)

// connectedHost is the host that Pyro5 puts into the URI of an object behind a connected socket.
const connectedHost = "<<connected-socket>>"

// NewProxyOnConn returns a proxy of an object behind a connection that is there already, such as one half of a socket pair, and whose
// other end serves it alone (Pyro5 docs, "Using Pyro objects over an existing connected socket").  There is no handshake: the first call asks for
// the object's metadata.  Calls wait for each other.  Once the connection has failed all calls fail, since there is none to take its place.
//
// The caller closes nc, after Close, which leaves it open with a deadline that has passed.  Of opts, what is about connecting is not used: Resolver,
// Handshake, Credentials, ConnectTimeout, Dial and TLS; an empty Serializer means serpent, as there is no handshake to find out what the server has.
func NewProxyOnConn(nc net.Conn, object string, opts ProxyOptions) *Proxy {
	if opts.Serializer == "" {
		opts.Serializer = "serpent"
	}
	opts.MaxConns, opts.MaxIdle, opts.Plain = 1, 1, true
	p := NewProxy(URI{Protocol: protocolObject, Object: object, Host: connectedHost}, opts)
	p.given = &givenConn{nc: nc}
	return p
}

// givenConn is the connection of a proxy that must not make one.  The proxy's only slot guards it.
type givenConn struct {
	nc   net.Conn
	used bool
}

// errUsedUp is why a proxy on a connection cannot connect again.
var errUsedUp = errors.New("the connection that the proxy was made with has ended")

// connect makes the connection ready for calls.
func (g *givenConn) connect(ctx context.Context, p *Proxy) (*clientConn, error) {
	version := p.opts.version()
	s, err := serializerFor(version, p.opts.Serializer)
	if err != nil {
		return nil, err
	}
	if g.used {
		return nil, &TransportError{Endpoint: connectedHost, Op: opConnect, Err: errUsedUp}
	}
	c := newClientConn(p, g.nc, connectedHost, p.uri.Object, s)
	c.setVersion(version)
	c.nc = keptConn{g.nc}
	if err := c.askMetadata(ctx); err != nil {
		g.used = c.broken
		return nil, unwritten(err)
	}
	g.used = true
	c.opened.Store(true)
	p.observeConn(ConnOpened)
	return c, nil
}

// askMetadata is what there is in place of a handshake.
func (c *clientConn) askMetadata(ctx context.Context) error {
	const method = "get_metadata"
	m, err := c.request(ctx, Request{Object: daemonID, Method: method, Args: []any{c.object}, Kwargs: noKwargs}, 0)
	if err != nil {
		return err
	}
	var meta any
	if err := c.result(ctx, m, method, &meta); err != nil {
		return err
	}
	if c.members, err = newMembers(meta); err != nil {
		return c.badReply(err)
	}
	if c.members.isEmpty() {
		return c.badReply(c.errNothingExposed())
	}
	return nil
}

// unwritten says that the call, for which the metadata was asked, did not run.
func unwritten(err error) error {
	if e, ok := errors.AsType[*TransportError](err); ok {
		own := *e
		own.Op, own.Written = opHandshake, false
		return &own
	}
	if e, ok := errors.AsType[*RemoteError](err); ok {
		return &TransportError{Endpoint: connectedHost, Op: opHandshake, Err: e}
	}
	return err
}

// keptConn is a connection that belongs to somebody else: Close ends only what waits for it.
type keptConn struct{ net.Conn }

func (c keptConn) Close() error { return c.SetDeadline(longAgo) }
