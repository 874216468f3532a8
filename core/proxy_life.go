package core

import (
	"context"
	"errors"
	"time"
)

// Release closes the connections that no call uses, and the others when their calls have ended; streams end with theirs.  The proxy can still be
// used: the next call connects, for which the URI is resolved anew (Pyro5: _pyroRelease).
func (p *Proxy) Release() {
	p.generation.Add(1)
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		p.drop(c)
	}
	if m := p.mux.Load(); m != nil && p.mux.CompareAndSwap(m, nil) {
		m.retire()
	}
}

// Bind resolves the URI once and for all: from then on [Proxy.URI] is the PYRO URI that was found, and calls go there wherever the name
// moves (Pyro5: _pyroBind).  It connects, too, and changes nothing if that fails.  Other connections are released.
func (p *Proxy) Bind(ctx context.Context) error {
	isNew := p.URI().Protocol != protocolObject
	if isNew {
		if err := p.bind(ctx); err != nil {
			return err
		}
	}
	_, err := p.Metadata(ctx)
	if err != nil && isNew {
		p.bound.Store(nil)
	}
	return err
}

func (p *Proxy) bind(ctx context.Context) error {
	uri, err := p.resolve(ctx)
	if err != nil {
		return err
	}
	select { // who makes a connection for all calls may still go to another address
	case p.first <- struct{}{}:
		defer func() { <-p.first }()
	case <-ctx.Done():
		return &TransportError{Endpoint: p.uri.String(), Op: opConnect, Err: contextError(ctx)}
	}
	p.bound.Store(&uri)
	p.Release()
	return nil
}

func (p *Proxy) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// Pauses between attempts to connect again; the last one is what Pyro5 always takes.
const (
	reconnectFirst = 50 * time.Millisecond
	reconnectMax   = 2 * time.Second
)

// Reconnect releases all connections and connects anew, as often as it takes, with pauses from 50 ms up to 2 s (Pyro5: _pyroReconnect).  It
// returns the last error when ctx ends or when it does not help to try again: the proxy is closed, or its options are wrong.
func (p *Proxy) Reconnect(ctx context.Context) error {
	p.Release()
	for pause := reconnectFirst; ; pause = min(2*pause, reconnectMax) {
		_, err := p.Metadata(ctx)
		if _, ok := errors.AsType[*TransportError](err); !ok || ctx.Err() != nil || errors.Is(err, ErrClosed) || errors.Is(err, errUsedUp) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// Copy returns a proxy of the same object with the same options and no connection.
func (p *Proxy) Copy() *Proxy {
	c := NewProxy(p.uri, p.opts)
	c.bound.Store(p.bound.Load())
	c.known.Store(p.known.Load())
	return c
}

// Proxy returns a proxy that calls the object.  The serializer and the handshake that came with the state hold where opts leaves them open;
// nothing else is taken from it, so that the address of an object, which may come from anybody, gets no secrets but those in opts.
func (s ProxyState) Proxy(opts ProxyOptions) *Proxy {
	if _, known := SerializerByName(s.Serializer); known && opts.Serializer == "" {
		opts.Serializer = s.Serializer
	}
	if opts.Handshake == nil {
		opts.Handshake = s.Handshake
	}
	p := NewProxy(s.URI, opts)
	p.known.Store(&members{Metadata: Metadata{Methods: s.Methods, Oneway: s.Oneway, Attrs: s.Attrs}})
	return p
}
