package core

import (
	"context"
	"errors"
	"fmt"
)

// version is the protocol to begin with.
func (o *ProxyOptions) version() int {
	switch {
	case o.Protocol != 0:
		return o.Protocol
	case len(o.HMACKey) > 0:
		return version48
	}
	return protocolVersion
}

// serializerFor returns a serializer as a protocol has it.
func serializerFor(version int, name string) (Serializer, error) {
	find := SerializerByName
	switch version {
	case protocolVersion:
	case version48:
		find = pyro4SerializerByName
	default:
		return nil, &LocalError{Err: fmt.Errorf("core: unknown protocol %d, want %d or %d", version, protocolVersion, version48)}
	}
	s, ok := find(name)
	if !ok {
		return nil, &LocalError{Err: fmt.Errorf("core: unknown serializer %q", name)}
	}
	return s, nil
}

// setVersion makes a new connection speak a protocol.
func (c *clientConn) setVersion(version int) {
	if version == version48 {
		c.pyro4 = &proto48{key: c.proxy.opts.HMACKey, meta: true}
	}
}

// connectVersion makes a connection of the protocol that the options say, or else of the one that the server speaks.  Stock servers answer a
// CONNECT of the other protocol in their own, which tells.
func (p *Proxy) connectVersion(ctx context.Context, uri URI) (*clientConn, error) {
	version := p.opts.version()
	if version == version48 || p.opts.Protocol != 0 {
		return p.connectBy(ctx, uri, version)
	}
	server := uri
	server.Object = ""
	if known := p.pyro4.Load(); known != nil && *known == server {
		c, err := p.connectBy(ctx, uri, version48)
		if !errors.Is(err, errVersion502) {
			return c, err
		}
	}
	c, err := p.connectBy(ctx, uri, protocolVersion)
	if !errors.Is(err, errVersion48) {
		return c, err
	}
	if c, err = p.connectBy(ctx, uri, version48); err == nil {
		p.pyro4.Store(&server)
	}
	return c, err
}

func (p *Proxy) connectBy(ctx context.Context, uri URI, version int) (*clientConn, error) {
	switch version {
	case version48:
	case protocolVersion:
		return p.connect502(ctx, uri)
	default:
		_, err := serializerFor(version, "")
		return nil, err
	}
	serializer := p.opts.Serializer
	if serializer == "" {
		serializer = "serpent" // Pyro4's default; msgpack is not accepted by default
	}
	return p.dialAndShake(ctx, uri, serializer, version48)
}
