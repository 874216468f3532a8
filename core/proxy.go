package core

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Caller is what a [Proxy] of one endpoint and a proxy of an object group have in common.
type Caller interface {
	// Call runs a method and stores its result in out, which is nil or a pointer (see [Convert]).  A last argument of type
	// [Kwargs] holds keyword arguments.  Of a method that the server marks as oneway there is no result: None is stored.
	Call(ctx context.Context, method string, out any, args ...any) error
	// Attr reads an attribute into out.
	Attr(ctx context.Context, name string, out any) error
	// SetAttr writes an attribute.
	SetAttr(ctx context.Context, name string, value any) error
	// Close drops all connections.  Calls under way fail; later ones return [ErrClosed].
	Close() error
}

// Resolver turns a PYRONAME or PYROMETA URI into the PYRO URI of an object.
type Resolver interface {
	Resolve(ctx context.Context, uri URI) (URI, error)
}

// ProxyOptions set up a [Proxy]; the zero value is useful.
type ProxyOptions struct {
	// Serializer is "serpent", "marshal", "json" or "msgpack".  Empty means msgpack, or serpent with a server that hangs up
	// on msgpack in the handshake (a Python without that package), and with protocol 48.  "xml" is for daemons of this project with AcceptXML.
	Serializer string
	// Resolver is asked at every connect for a URI that is not PYRO; without one such a URI is an error.
	Resolver Resolver
	// Handshake is sent in CONNECT; nil means "hello", as in Pyro5.  It goes along when the proxy is passed to others, as in Pyro5.
	Handshake any
	// Credentials, when not nil, makes what is sent in place of Handshake, for each connection anew: tokens age.  It stays here
	// when the proxy is passed to others.
	Credentials func(ctx context.Context) (any, error)
	// ValidateHandshake sees the server's answer to Handshake; its error fails the connect.
	ValidateHandshake func(response any) error
	// Compress makes requests of more than 100 bytes go by zlib where that makes them shorter, as Pyro5 with COMPRESSION.  Replies are
	// understood either way.
	Compress bool
	// MaxMessageBytes bounds a reply, annotations included, compressed or not.  Zero means 1 GiB, as in Pyro5.
	MaxMessageBytes int
	// MaxConns bounds the connections in use, besides one that calls share; a call beyond it waits until another has ended (a stream, until it is closed).  Zero
	// means no bound: calls do not wait for each other.
	MaxConns int
	// MaxIdle is how many idle connections are kept; zero means 8, or MaxConns if that is set.
	MaxIdle int
	// ConnectTimeout bounds how long the server may take until a connection is ready for calls: dialing, TLS and handshake
	// together.  Zero means 10 s; negative means no bound but the call's context.  See also [WithConnectTimeout].
	ConnectTimeout time.Duration
	// Dial opens connections; nil means a net.Dialer with TCP_NODELAY and keep-alive.  A Write that fails has to say how many bytes
	// it sent: after none at all the method counts as not executed.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS makes the proxy connect by TLS 1.2 or later.  The server is verified as the host of the URI, unless ServerName is set; over
	// a unix socket it has to be.  Nil means plain connections.
	TLS *tls.Config
	// TLSSource, when not nil, is asked for the configuration of each connection in place of TLS ([TLSFiles.Config]); nil from it
	// means a plain connection.  What it returns is not changed.
	TLSSource func() *tls.Config
	// TLSCommonName accepts a certificate without DNS names whose common name is the host, as Python does.
	TLSCommonName bool
	// AwaitOneway lets Call wait for methods that the server marks as oneway, as it does for others: such a call has run when Call returns,
	// and calls made one after the other run in that order, which Python's servers do not promise otherwise.
	AwaitOneway bool
	// Protocol is the version of Pyro's protocol: 502 is Pyro5's, 48 is Pyro4's.  Zero means 502, or 48 with a server that answers in it.
	Protocol int
	// HMACKey signs messages of protocol 48, which is what it makes the proxy speak, and checks the signatures of replies: Pyro4's _pyroHmacKey.
	HMACKey []byte
	// Daemon is one whose objects become proxies of them when they are arguments of Call, such as callbacks.  Nil means that of the method, if
	// the call's context is one of a served call.  Generated proxies take a [ProxyState].
	Daemon *Daemon
	// Plain speaks plain Pyro with every server: one call at a time on a connection.  Otherwise many calls share one connection with servers that
	// take that, which those of this project do with msgpack.
	Plain bool
	// Observer is told of calls and connections.  Items of streams, pings and reading the metadata are no calls.  Nil costs nothing.
	Observer Observer
}

// The defaults of [ProxyOptions].
const (
	defaultMaxReplyBytes  = 1 << 30
	defaultMaxIdle        = 8
	defaultHandshake      = "hello"
	defaultConnectTimeout = 10 * time.Second
)

// Proxy calls one remote object.  It connects when first used, keeps idle connections, and connects anew after a failure.
// Its methods are safe for concurrent use; concurrent calls run in parallel, on one connection if the server takes that, else on connections of
// their own.
//
// An error is a *[TransportError] if there was no answer, a *[RemoteError] if the server answered with an exception, a
// *[LocalError] if the request could not be sent (an unknown method is an AttributeError, as in Pyro5) or its result not be stored
// in out, and [ErrClosed] after Close.
//
// Nothing is sent twice.  An idle connection that the server has closed meanwhile is replaced before the call is written, so that
// a restart of the server between two calls goes unnoticed.
type Proxy struct {
	uri        URI
	opts       ProxyOptions
	serpent    atomic.Bool                             // the server did not want msgpack
	pyro4      atomic.Pointer[URI]                     // an address of a server that answered in protocol 48; nil if there was none
	mux        atomic.Pointer[muxConn]                 // where calls go; nil if there is none, or the server takes one call at a time
	plain      atomic.Bool                             // the server takes one call at a time
	first      chan struct{}                           // held by who connects when it is not known what the server takes
	known      atomic.Pointer[members]                 // of the connection made last
	bound      atomic.Pointer[URI]                     // in place of uri; nil before Bind
	generation atomic.Int64                            // of connections; those of an earlier one are not kept
	given      *givenConn                              // the only connection; nil if the proxy makes its own
	observers  atomic.Pointer[map[string]CallObserver] // by method; replaced as a whole
	slots      chan struct{}                           // as many as MaxConns, one taken by each connection in use; nil without a bound
	done       chan struct{}                           // closed by Close, for those who wait for a slot; nil without a bound

	mu     sync.Mutex // protects what follows
	closed bool
	idle   []*clientConn          // the one used last is at the end
	open   map[io.Closer]struct{} // connections, idle or not, and connects under way
}

var _ Caller = (*Proxy)(nil)

// NewProxy makes a proxy; it does no I/O.  Mistakes in opts are reported when the proxy connects.
func NewProxy(uri URI, opts ProxyOptions) *Proxy {
	setDefault(&opts.MaxMessageBytes, defaultMaxReplyBytes)
	setDefault(&opts.MaxIdle, max(opts.MaxConns, 0))
	setDefault(&opts.MaxIdle, defaultMaxIdle)
	if opts.ConnectTimeout == 0 {
		opts.ConnectTimeout = defaultConnectTimeout
	}
	if opts.Handshake == nil {
		opts.Handshake = defaultHandshake
	}
	p := &Proxy{uri: uri, opts: opts, open: make(map[io.Closer]struct{}), first: make(chan struct{}, 1)}
	p.plain.Store(opts.Plain || opts.Serializer != "" && opts.Serializer != "msgpack" || opts.version() == version48)
	if opts.MaxConns > 0 {
		p.slots, p.done = make(chan struct{}, opts.MaxConns), make(chan struct{})
	}
	return p
}

// URI returns the address the proxy was made with, or that [Proxy.Bind] has found.  Proxies with equal ones are of the same object.
func (p *Proxy) URI() URI {
	if bound := p.bound.Load(); bound != nil {
		return *bound
	}
	return p.uri
}

// state is what a proxy is sent as: what it knows, but no connection.
func (p *Proxy) state() ProxyState {
	s := ProxyState{URI: p.URI(), Handshake: p.opts.Handshake, Serializer: p.opts.Serializer}
	if m := p.known.Load(); m != nil {
		s.Oneway, s.Methods, s.Attrs = m.Oneway, m.Methods, m.Attrs
	}
	return s
}

// Call implements [Caller].  ctx ends the wait for the reply, and a connection that is the call's own with it; the method may still run.  If the method
// returns a stream, out has to be a **[Stream], *[Stream] or *any.
func (p *Proxy) Call(ctx context.Context, method string, out any, args ...any) error {
	return p.call(ctx, member{method, isMethod}, methodRequest(method, args), 0, out)
}

// CallOneway sends a call and does not wait: nil says that it was written, or is about to be on a connection that calls share, no more.
func (p *Proxy) CallOneway(ctx context.Context, method string, args ...any) error {
	return p.call(ctx, member{method, isMethod}, methodRequest(method, args), flagOneway, nil)
}

// Attr implements [Caller].
func (p *Proxy) Attr(ctx context.Context, name string, out any) error {
	return p.call(ctx, member{name, isAttribute}, Request{Method: "__getattr__", Args: []any{name}}, 0, out)
}

// SetAttr implements [Caller].
func (p *Proxy) SetAttr(ctx context.Context, name string, value any) error {
	return p.call(ctx, member{name, isAttribute}, Request{Method: "__setattr__", Args: []any{name, value}}, 0, nil)
}

// Metadata returns what the object offers, connecting if need be.
func (p *Proxy) Metadata(ctx context.Context) (Metadata, error) {
	m, err := p.muxed(ctx)
	if err != nil {
		return Metadata{}, err
	}
	if m != nil {
		return m.c.members.copied(), nil
	}
	var meta Metadata
	err = p.with(ctx, func(c *clientConn) error {
		meta = c.members.copied()
		return nil
	})
	return meta, err
}

// Ping connects if need be and sends Pyro's PING message.
func (p *Proxy) Ping(ctx context.Context) error {
	for {
		m, err := p.muxed(ctx)
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		if err = m.ping(ctx); err == errFull {
			break
		}
		if !m.again(ctx, err) {
			return err
		}
	}
	return p.with(ctx, func(c *clientConn) error { return c.ping(ctx) })
}

// Close implements [Caller].
func (p *Proxy) Close() error {
	p.mu.Lock()
	open := p.open
	if !p.closed && p.done != nil {
		close(p.done)
	}
	p.closed, p.idle, p.open = true, nil, nil
	p.mu.Unlock()
	for c := range open { // without the lock: TLS says goodbye, for which the peer may take its time
		c.Close() // of a socket that is given up: its error says nothing
	}
	return nil
}

// methodRequest makes the request of an ordinary call.
func methodRequest(method string, args []any) Request {
	r := Request{Method: method, Args: args, Kwargs: noKwargs}
	if n := len(args); n > 0 {
		if kwargs, ok := args[n-1].(Kwargs); ok {
			r.Args = args[:n-1]
			if kwargs != nil {
				r.Kwargs = kwargs
			}
		}
	}
	if r.Args == nil {
		r.Args = []any{}
	}
	return r
}

// noKwargs is the empty dict: None would say that there is no call.
var noKwargs = map[string]any{}

func (p *Proxy) call(ctx context.Context, m member, r Request, flags uint16, out any) error {
	if p.opts.Observer == nil {
		return p.send(ctx, m, r, flags, out, nil)
	}
	start := time.Now()
	var o Observation
	err := p.send(ctx, m, r, flags, out, &o)
	o.Took, o.Outcome = time.Since(start), OutcomeOf(err)
	p.observer(r.Method).ObserveCall(o)
	return err
}

// send makes a call and counts its bytes in o, unless that is nil.
func (p *Proxy) send(ctx context.Context, x member, r Request, flags uint16, out any, o *Observation) error {
	if b, err := blobOf(r); err != nil {
		return err
	} else if b != nil {
		return p.sendAlone(ctx, x, r, flags, out, o)
	}
	for {
		m, err := p.muxed(ctx)
		if err != nil {
			return err
		}
		if m == nil {
			return p.sendAlone(ctx, x, r, flags, out, o)
		}
		if err = m.callBoxed(ctx, x, r, flags, out, o); err == errFull {
			return p.sendAlone(ctx, x, r, flags, out, o)
		}
		if !m.again(ctx, err) {
			return err
		}
	}
}

// sendAlone makes a call on a connection of its own.
func (p *Proxy) sendAlone(ctx context.Context, m member, r Request, flags uint16, out any, o *Observation) error {
	return p.with(ctx, func(c *clientConn) error {
		own, err := p.flags(m, c.members)
		if err != nil {
			return err
		}
		flags := flags | own
		r.Object = c.object
		c.sent, c.received = 0, 0
		err = c.invoke(ctx, r, flags, out)
		if o != nil {
			o.Sent, o.Received = o.Sent+c.sent, o.Received+c.received
		}
		return err
	})
}

// with runs f with a connection of its own.  It runs it again with another one if an idle connection broke before anything was written.
func (p *Proxy) with(ctx context.Context, f func(c *clientConn) error) error {
	for {
		c, wasIdle, err := p.take(ctx)
		if err != nil {
			return err
		}
		err = f(c)
		again := wasIdle && c.broken && isUnwritten(err) && ctx.Err() == nil
		p.release(c) // from here on it may be another caller's
		if !again {
			return err
		}
	}
}

// take returns a connection for the caller alone, an idle one or a new one, until release.
func (p *Proxy) take(ctx context.Context) (c *clientConn, wasIdle bool, err error) {
	if err := p.takeSlot(ctx); err != nil {
		return nil, false, err
	}
	c, err = p.idleConn()
	wasIdle = c != nil
	if c == nil && err == nil {
		c, err = p.connect(ctx)
	}
	if err != nil {
		p.freeSlot()
		return nil, false, err
	}
	return c, wasIdle, nil
}

// takeSlot waits until a connection may be used.
func (p *Proxy) takeSlot(ctx context.Context) error {
	if p.slots == nil {
		return nil
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-p.done:
		return ErrClosed
	case <-ctx.Done():
		return &TransportError{Endpoint: p.uri.String(), Op: "wait for a connection", Err: context.Cause(ctx)}
	}
}

func (p *Proxy) freeSlot() {
	if p.slots != nil {
		<-p.slots
	}
}

func isUnwritten(err error) bool {
	e, ok := errors.AsType[*TransportError](err)
	return ok && !e.Written
}

// idleConn takes the connection used last that is still good; nil if there is none.
func (p *Proxy) idleConn() (*clientConn, error) {
	for {
		c, err := p.popIdle()
		if c == nil || err != nil || c.isGood() {
			return c, err
		}
		p.drop(c)
	}
}

func (p *Proxy) popIdle() (*clientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	n := len(p.idle)
	if n == 0 {
		return nil, nil
	}
	c := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	return c, nil
}

// release gives a connection back after a call; a stream keeps its own.
func (p *Proxy) release(c *clientConn) {
	if c.streaming {
		return
	}
	c.trim()
	p.mu.Lock()
	keep := !c.broken && !p.closed && c.generation == p.generation.Load() && len(p.idle) < p.opts.MaxIdle
	if keep {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	if !keep {
		p.drop(c)
	}
	p.freeSlot()
}

func (p *Proxy) drop(c *clientConn) {
	c.Close()
	p.untrack(c)
}

// track makes Close close c, too.
func (p *Proxy) track(c io.Closer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.open[c] = struct{}{}
	return nil
}

func (p *Proxy) untrack(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// connecting is a connect under way.
type connecting struct{ cancel context.CancelCauseFunc }

func (c *connecting) Close() error {
	c.cancel(ErrClosed)
	return nil
}

// connect makes a connection that is ready for calls.
func (p *Proxy) connect(ctx context.Context) (*clientConn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pending := &connecting{cancel}
	if err := p.track(pending); err != nil {
		return nil, err
	}
	defer p.untrack(pending)
	generation := p.generation.Load()
	c, err := p.connectOnce(ctx)
	if err != nil {
		return nil, err
	}
	c.generation = generation
	if err := p.track(c); err != nil {
		c.Close()
		return nil, err
	}
	p.known.Store(c.members)
	if c.mux {
		p.plain.Store(p.opts.Plain) // whatever the server was before
	}
	return c, nil
}

// connectOnce resolves the address and connects.
func (p *Proxy) connectOnce(ctx context.Context) (*clientConn, error) {
	if p.given != nil {
		return p.given.connect(ctx, p)
	}
	uri, err := p.resolve(ctx)
	if err != nil {
		return nil, err
	}
	return p.connectTo(ctx, uri)
}

// muxed returns the connection for many calls at once, which it makes if need be; nil if the server takes one call at a time.
func (p *Proxy) muxed(ctx context.Context) (*muxConn, error) {
	if m := p.mux.Load(); m != nil {
		return m, nil
	}
	if p.plain.Load() {
		return nil, nil
	}
	select {
	case p.first <- struct{}{}:
		defer func() { <-p.first }()
	case <-ctx.Done():
		return nil, &TransportError{Endpoint: p.uri.String(), Op: opConnect, Err: contextError(ctx)}
	}
	if m := p.mux.Load(); m != nil || p.plain.Load() {
		return m, nil
	}
	if err := p.takeSlot(ctx); err != nil {
		return nil, err
	}
	c, err := p.connect(ctx)
	if err != nil {
		p.freeSlot()
		return nil, err
	}
	if !c.mux {
		p.plain.Store(true)
		p.release(c)
		return nil, nil
	}
	p.freeSlot() // it does not count: it serves all
	if err := c.bound(context.Background()); err != nil {
		c.Close()
		return nil, err
	}
	m := newMuxConn(c)
	if err := p.track(m); err != nil {
		m.Close()
		return nil, err
	}
	p.untrack(c)
	p.mux.Store(m)
	if err := m.stillOpen(); err != nil {
		p.leave(m)
		return nil, err
	}
	return m, nil
}

// leave takes a connection out of use.
func (p *Proxy) leave(m *muxConn) {
	p.mux.CompareAndSwap(m, nil)
	p.untrack(m)
}

// resolve asks for the address of the object, at every connect, because it moves.
func (p *Proxy) resolve(ctx context.Context) (URI, error) {
	if uri := p.URI(); uri.Protocol == protocolObject {
		return uri, nil
	}
	fault := &TransportError{Endpoint: p.uri.String(), Op: opResolve}
	if p.opts.Resolver == nil {
		fault.Err = errors.New("no resolver for a URI that is not PYRO")
		return URI{}, fault
	}
	uri, err := p.opts.Resolver.Resolve(ctx, p.uri)
	switch {
	case err != nil:
		fault.Err = err
	case uri.Protocol != protocolObject:
		fault.Err = fmt.Errorf("resolved to %s, which is no PYRO uri", uri)
	default:
		return uri, nil
	}
	return URI{}, fault
}

// errConnectTimeout is the cause of a context that ends with ConnectTimeout.
var errConnectTimeout = errors.New("ConnectTimeout")

// connectTo makes a connection within ConnectTimeout.
func (p *Proxy) connectTo(ctx context.Context, uri URI) (*clientConn, error) {
	timeout, ok := ctx.Value(connectTimeoutKey{}).(time.Duration)
	if !ok {
		timeout = p.opts.ConnectTimeout
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, errConnectTimeout)
		defer cancel()
	}
	return p.connectVersion(ctx, uri)
}

// connect502 makes a connection of protocol 502.
func (p *Proxy) connect502(ctx context.Context, uri URI) (*clientConn, error) {
	switch {
	case p.opts.Serializer != "":
		return p.dialAndShake(ctx, uri, p.opts.Serializer, protocolVersion)
	case p.serpent.Load():
		return p.dialAndShake(ctx, uri, "serpent", protocolVersion)
	}
	c, err := p.dialAndShake(ctx, uri, "msgpack", protocolVersion)
	if err != nil && hungUp(err) {
		return p.fallBack(ctx, uri)
	}
	return c, err
}

// fallBack connects with serpent to a server that hung up on msgpack, as one does, without a word, that does not know the
// serializer of a CONNECT.  A server that is being restarted hangs up as well; so msgpack is tried again once serpent worked.
func (p *Proxy) fallBack(ctx context.Context, uri URI) (*clientConn, error) {
	c, err := p.dialAndShake(ctx, uri, "serpent", protocolVersion)
	if err != nil {
		return nil, err
	}
	again, err := p.dialAndShake(ctx, uri, "msgpack", protocolVersion)
	if err == nil {
		c.Close()
		return again, nil
	}
	if hungUp(err) {
		p.serpent.Store(true)
	}
	return c, nil
}

// hungUp reports whether the server closed during the handshake.
func hungUp(err error) bool {
	e, ok := errors.AsType[*TransportError](err)
	return ok && e.Op == opHandshake && (errors.Is(e.Err, io.EOF) || errors.Is(e.Err, syscall.ECONNRESET))
}

func (p *Proxy) dialAndShake(ctx context.Context, uri URI, serializer string, version int) (*clientConn, error) {
	s, err := serializerFor(version, serializer)
	if err != nil {
		return nil, err
	}
	network, address := uri.Address()
	nc, err := p.dial(ctx, network, address)
	if err != nil {
		p.observeConn(ConnFailed)
		if ctx.Err() != nil {
			err = contextError(ctx)
		}
		return nil, &TransportError{Endpoint: address, Op: opConnect, Err: err}
	}
	c := newClientConn(p, nc, address, uri.Object, s)
	c.setVersion(version)
	data, err := p.handshakeData(ctx)
	if err == nil {
		err = c.handshake(ctx, data, p.opts.ValidateHandshake)
	}
	if err != nil {
		c.Close()
		p.observeConn(ConnFailed)
		return nil, err
	}
	c.opened.Store(true)
	p.observeConn(ConnOpened)
	return c, nil
}

// handshakeData is what goes into CONNECT.
func (p *Proxy) handshakeData(ctx context.Context) (any, error) {
	if p.opts.Credentials == nil {
		return p.opts.Handshake, nil
	}
	data, err := p.opts.Credentials(ctx)
	if err != nil {
		return nil, &LocalError{Err: fmt.Errorf("core: credentials: %w", err)}
	}
	return data, nil
}

// dial opens the connection, TLS included.  The system's own connections have TCP_NODELAY and keep-alive by Go's default.
func (p *Proxy) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dial := p.opts.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return p.opts.clientTLS(ctx, nc, address)
}
