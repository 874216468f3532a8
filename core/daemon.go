package core

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
)

// DaemonOptions set up a [Daemon]; the zero value is useful.
type DaemonOptions struct {
	// Advertise is the host:port in the URIs that the daemon hands out; a host alone keeps the listener's port.  Empty means the
	// listener's own address, which must then not be an unspecified one (0.0.0.0 means nothing to others).
	Advertise string
	// MaxMessageBytes bounds a request, annotations included, compressed or not.  Zero means 64 MiB.
	MaxMessageBytes int
	// MaxConnections refuses further clients with Pyro's "no free workers, increase server threadpool size".  Zero means 10,000.
	MaxConnections int
	// Compress makes replies of more than 100 bytes go by zlib where that makes them shorter, as Pyro5 with COMPRESSION.  Requests are
	// understood either way.
	Compress bool
	// MaxOneway bounds the oneway calls that run at once; beyond it the connection waits.  Zero means 1,000.
	MaxOneway int
	// HandshakeTimeout is how long a new client may take until it is accepted: TLS, its CONNECT message and ValidateHandshake.  Zero
	// means 10 s.
	HandshakeTimeout time.Duration
	// IdleTimeout closes a connection that sends nothing for so long.  Zero means never, as in Pyro5.
	IdleTimeout time.Duration
	// DrainTimeout is how long Shutdown leaves idle connections open, so that requests already on their way are answered
	// rather than cut off.  Zero means 250 ms.
	DrainTimeout time.Duration
	// ValidateHandshake sees what the client sent; the value it returns goes back to the client, its error refuses the client
	// with that text.  ctx has a [CallInfo] and ends with HandshakeTimeout.  Package core/auth has validators.  Nil answers "hello".
	ValidateHandshake func(ctx context.Context, handshake any) (any, error)
	// ClientGone is told of the end of a connection whose handshake had succeeded; its streams and session have ended by then.
	ClientGone func(c ClientInfo)
	// ReplyAnnotations returns annotations for each reply; those that the method sets come first.
	ReplyAnnotations func(ctx context.Context) Annotations
	// CallFailed is told of each error of a method, also of those whose caller does not wait.
	CallFailed func(ctx context.Context, err error)
	// Housekeeping is called every HousekeepingInterval while the daemon is served; zero means 2 s, as in Pyro5.
	Housekeeping         func(ctx context.Context)
	HousekeepingInterval time.Duration
	// TLS makes clients connect by TLS 1.2 or later.  It needs a certificate; ClientAuth and ClientCAs ask clients for theirs.
	// [TLSFiles.Server] follows files that change.  Nil means plain connections.
	TLS *tls.Config
	// Methods and fields that are iterators (iter.Seq, iter.Seq2) are item streams for callers (Pyro5 docs, "Item streaming").  An iterator
	// runs only while an item is asked for; it stops, and the context of its method ends, when the client closes the stream or is gone.
	//
	// StreamLifetime ends item streams so long after they began.  Zero means never, as in Pyro5.
	StreamLifetime time.Duration
	// StreamLinger is how long an item stream outlives the connection that used it last: a client that connects again may go on with it.
	// Zero means 30 s, as in Pyro5; negative means not at all.
	StreamLinger time.Duration
	// MaxStreams bounds the item streams; beyond it methods that return an iterator fail.  Zero means 10,000.
	MaxStreams int
	// NoStreams gives callers of methods that return an iterator an error.
	NoStreams bool
	// NoPyro4 refuses clients of Pyro4, which speak protocol 48, as Pyro5's daemons do.  Otherwise they are served like those of Pyro5.
	NoPyro4 bool
	// HMACKey is the key that messages of protocol 48 have to be signed with, Pyro4's _pyroHmacKey.  It keeps nobody out who speaks protocol 502,
	// which has no such thing: TLS and ValidateHandshake are for all.  Nil means that they must not be signed.
	HMACKey []byte
	// AcceptXML lets clients use the serializer "xml", which only programs of this project know.
	AcceptXML bool
	// Logger gets errors that no caller sees; nil discards them.
	Logger *slog.Logger
	// Observer is told of calls and connections; nil costs nothing.
	Observer Observer
}

// The defaults of [DaemonOptions].
const (
	defaultMaxRequestBytes  = 64 << 20
	defaultMaxConnections   = 10_000
	defaultMaxOneway        = 1_000
	defaultHandshakeTimeout = 10 * time.Second
	defaultDrainTimeout     = 250 * time.Millisecond
	defaultHousekeeping     = 2 * time.Second
)

const (
	// messageTimeout is for each step of a message that a client began to send, or of a reply that it does not take.
	messageTimeout = 30 * time.Second
	// maxConnectBytes bounds CONNECT, which comes from clients that nobody has approved of yet.
	maxConnectBytes = 1 << 20
	// maxRefusing is how many clients beyond MaxConnections are told so at once; others are just hung up on.
	maxRefusing = 64
	// daemonID is the id of the object that every daemon has.
	daemonID = "Pyro.Daemon"
)

func (o DaemonOptions) withDefaults() DaemonOptions {
	setDefault(&o.MaxMessageBytes, defaultMaxRequestBytes)
	setDefault(&o.MaxConnections, defaultMaxConnections)
	setDefault(&o.MaxOneway, defaultMaxOneway)
	setDefault(&o.MaxStreams, defaultMaxStreams)
	if o.StreamLinger == 0 {
		o.StreamLinger = defaultStreamLinger
	}
	setDefault(&o.HandshakeTimeout, defaultHandshakeTimeout)
	setDefault(&o.DrainTimeout, defaultDrainTimeout)
	setDefault(&o.HousekeepingInterval, defaultHousekeeping)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Daemon serves objects on one listener.  Every connection has a goroutine of its own.  The calls of a Python client's connection run in order, those of
// a client that makes many calls at once concurrently, as those of different connections do.  All methods are safe for concurrent use.
type Daemon struct {
	ln      net.Listener
	opts    DaemonOptions
	base    URI          // of every object, but for its id
	unknown CallObserver // of calls of objects that are not here; nil without an Observer

	objects  sync.Map             // id to *object
	version  atomic.Uint64        // of objects, changes with each change
	pointers sync.Map             // what was registered to its id
	formats  map[uint8]Serializer // by id; they make proxies of objects
	formats4 map[uint8]Serializer // the same for Pyro4
	oneway   chan struct{}        // a token for each oneway call that runs
	stopped  chan struct{}        // closed by Close
	served   chan struct{}        // closed when Serve has returned
	draining atomic.Bool
	running  sync.WaitGroup // connections and oneway calls
	watchdog watchdog
	latest   atomic.Pointer[serverConn] // that has made aloneCalls
	streams  itemStreams

	mu       sync.Mutex // protects what follows
	serving  bool
	closed   bool
	lnClosed bool
	ending   bool // Serve waits for running
	conns    map[*serverConn]struct{}
	refusing int
}

// Listen announces on a TCP address ("localhost:0", ":9090") and returns a daemon for it.
func Listen(address string, opts DaemonOptions) (*Daemon, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("core: %w", err)
	}
	return NewDaemon(ln, opts)
}

// NewDaemon returns a daemon that will accept from ln, which it owns from now on, also when it returns an error.
func NewDaemon(ln net.Listener, opts DaemonOptions) (*Daemon, error) {
	base, err := advertised(ln.Addr(), opts.Advertise)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	opts = opts.withDefaults()
	if opts.TLS, err = checkServerTLS(opts.TLS); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	d := &Daemon{
		ln:      ln,
		opts:    opts,
		base:    base,
		oneway:  make(chan struct{}, opts.MaxOneway),
		stopped: make(chan struct{}),
		served:  make(chan struct{}),
		conns:   make(map[*serverConn]struct{}),
	}
	d.watchdog.running = &d.running
	d.streams.d = d
	d.makeFormats()
	own, err := newObject(d.servant(), ObjectOptions{})
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	own.named(daemonID)
	d.observe(daemonID, own)
	if opts.Observer != nil {
		d.unknown = opts.Observer.Method("", "")
	}
	d.objects.Store(daemonID, own)
	spareCollector()
	return d, nil
}

// advertised returns the location that URIs give for a listener at addr.
func advertised(addr net.Addr, advertise string) (URI, error) {
	u := URI{Protocol: protocolObject}
	if addr.Network() == "unix" {
		path := addr.String()
		if name, ok := strings.CutPrefix(path, "@"); ok {
			path = "\x00" + name
		}
		return u, u.parseLocation(unixPrefix+path, 0)
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil { // a listener in memory
		host, port = addr.String(), "0"
	}
	if advertise != "" {
		h, p, err := net.SplitHostPort(advertise)
		if err != nil { // a host alone
			h, p = strings.Trim(advertise, "[]"), ""
		}
		host = h
		if p != "" && p != "0" {
			port = p
		}
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return URI{}, fmt.Errorf("core: others cannot reach %q: set DaemonOptions.Advertise", net.JoinHostPort(host, port))
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strings.ContainsAny(host, "@[] \n") {
		return URI{}, fmt.Errorf("core: advertise %q: want host or host:port", advertise)
	}
	u.Host, u.Port = host, int(n)
	return u, nil
}

// Register makes obj callable under id; an empty id means a new one, "obj_" and 32 hexadecimal digits.  obj is a *[Servant]
// or any Go value, described by opts, or a *[Factory] of such.  An id that is taken, or reserved ("Pyro.Daemon"), is a DaemonError; with Force one that is taken is not.
func (d *Daemon) Register(id string, obj any, opts ObjectOptions) (URI, error) {
	if id == "" {
		var random [16]byte
		rand.Read(random[:])
		id = "obj_" + hex.EncodeToString(random[:])
	}
	if strings.ContainsFunc(id, func(r rune) bool { return r == '@' || unicode.IsSpace(r) }) {
		return URI{}, DaemonError.New("object id %q cannot be part of a uri", id)
	}
	o, err := newObject(obj, opts)
	if err != nil {
		return URI{}, err
	}
	o.named(id)
	d.observe(id, o)
	o.pointer = identity(obj)
	switch {
	case opts.Force && id != daemonID:
		if old, replaced := d.objects.Swap(id, o); replaced {
			d.retire(id, old.(*object))
		}
	default:
		if _, taken := d.objects.LoadOrStore(id, o); taken {
			return URI{}, DaemonError.New("an object or class is already registered with that id")
		}
	}
	if o.pointer != nil {
		d.pointers.LoadOrStore(o.pointer, id)
	}
	if o.idle != nil {
		o.idle.start(func() { d.reap(id, o) })
	}
	d.version.Add(1)
	return d.URI(id), nil
}

// Unregister ends the service of id.  Calls under way finish.  An unknown id is no error; "Pyro.Daemon" stays.
func (d *Daemon) Unregister(id string) {
	if id == daemonID {
		return
	}
	if o, ok := d.objects.LoadAndDelete(id); ok {
		d.retire(id, o.(*object))
	}
	d.version.Add(1)
}

// retireAll is for a daemon that serves no more.
func (d *Daemon) retireAll() {
	for id, o := range d.objects.Range {
		d.retire(id.(string), o.(*object))
	}
}

// retire is for what is not registered under that id any more.
func (d *Daemon) retire(id string, o *object) {
	if o.idle != nil {
		o.idle.stop()
	}
	if o.pointer != nil && d.pointers.CompareAndDelete(o.pointer, id) {
		for other, v := range d.objects.Range { // it may have another id, too
			if v.(*object).pointer == o.pointer {
				d.pointers.LoadOrStore(o.pointer, other)
			}
		}
	}
	if o.instances != nil {
		o.instances.retire(d)
	}
}

// object returns what is registered under id, or nil.
func (d *Daemon) object(id string) *object {
	o, ok := d.objects.Load(id)
	if !ok {
		return nil
	}
	return o.(*object)
}

// URI returns the address of an object id on this daemon.
func (d *Daemon) URI(id string) URI {
	u := d.base
	u.Object = id
	return u
}

// Addr is the listener's address.
func (d *Daemon) Addr() net.Addr { return d.ln.Addr() }

// Serve accepts connections until ctx ends (then it shuts down as Close does and returns ctx's cause), Shutdown or Close is
// called (nil), or accepting fails.  When it returns no goroutine of the daemon is left.  It can be called once.
func (d *Daemon) Serve(ctx context.Context) error {
	d.mu.Lock()
	again := d.serving
	d.serving = true
	d.mu.Unlock()
	if again {
		return errors.New("core: daemon is served already")
	}
	defer close(d.served)
	calls, cancel := context.WithCancelCause(ctx)
	defer cancel(ErrClosed)
	watched := make(chan struct{})
	go func() { // ends with calls, which ends below
		defer close(watched)
		select {
		case <-calls.Done():
			d.Close()
		case <-d.stopped:
			cancel(ErrClosed)
		}
	}()
	house, leave := context.WithCancel(calls)
	d.keepHouse(house)
	err := d.accept(calls)
	leave()
	if err != nil {
		d.Close()
	}
	d.mu.Lock()
	d.ending = true
	d.mu.Unlock()
	d.running.Wait()
	d.streams.shut()
	d.retireAll()
	cancel(ErrClosed)
	<-watched
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// accept starts a goroutine for each connection until the listener is closed, which is no error.
func (d *Daemon) accept(ctx context.Context) error {
	var delay time.Duration
	for {
		nc, err := d.ln.Accept()
		switch {
		case err == nil:
			delay = 0
			d.start(ctx, nc)
		case d.isLnClosed():
			return nil
		case isTemporary(err):
			// As net/http: no more descriptors for now; connections wait in the kernel.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			d.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "accept", slog.Any("error", err), slog.Duration("again_in", delay))
			if !d.pause(delay) {
				return nil
			}
		default:
			return fmt.Errorf("core: accept: %w", err)
		}
	}
}

func isTemporary(err error) bool {
	for _, temporary := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, temporary) {
			return true
		}
	}
	return false
}

// pause waits; false means that the daemon was closed meanwhile.
func (d *Daemon) pause(delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.stopped:
		return false
	}
}

// start serves a connection, or refuses it.
func (d *Daemon) start(ctx context.Context, nc net.Conn) {
	c := newServerConn(d, nc)
	d.mu.Lock()
	full := len(d.conns)-d.refusing >= d.opts.MaxConnections
	drop := d.closed || full && d.refusing >= maxRefusing
	if !drop {
		d.conns[c] = struct{}{}
		d.running.Add(1)
		if full {
			d.refusing++
		}
	}
	d.mu.Unlock()
	if full {
		d.observeConn(ConnRefused)
	}
	if drop {
		nc.Close()
		return
	}
	go func() {
		defer d.running.Done()
		defer d.forget(c, full)
		if full {
			c.refuse(ctx, "no free workers, increase server threadpool size")
		} else {
			c.serve(ctx)
		}
	}()
}

func (d *Daemon) forget(c *serverConn, refused bool) {
	c.nc.Close()
	d.ended(c, refused)
}

// ended is called when a connection serves no calls any more.
func (d *Daemon) ended(c *serverConn, refused bool) {
	d.streams.leave(c)
	d.latest.CompareAndSwap(c, nil)
	c.session.end(d)
	if gone := d.opts.ClientGone; gone != nil && c.welcome {
		d.guard("ClientGone", func() { gone(ClientInfo{Peer: c.peer, TLS: c.tls, Principal: c.principal}) })
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if refused {
		d.refusing--
	}
}

func (d *Daemon) isLnClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lnClosed
}

// closeListener closes it once; also a daemon that never served has one.
func (d *Daemon) closeListener() error {
	d.mu.Lock()
	again := d.lnClosed
	d.lnClosed = true
	d.mu.Unlock()
	if again {
		return nil
	}
	return d.ln.Close()
}

// Shutdown stops accepting, lets the calls under way finish, answers further ones as not executed (a ConnectionClosedError, upon
// which clients go elsewhere) and closes all connections, each when it has been silent for DrainTimeout.  It returns ctx's cause if
// that ends first; then everything is cut off.  A method must not wait for the Shutdown of its own daemon.
func (d *Daemon) Shutdown(ctx context.Context) error {
	d.draining.Store(true)
	err := d.closeListener()
	// Connections that wait for a request see a deadline; those that are busy look at d.draining before they wait.
	d.mu.Lock()
	for c := range d.conns {
		c.nc.SetReadDeadline(time.Now().Add(d.opts.DrainTimeout))
		if s := c.mux.Load(); s != nil {
			d.running.Go(s.announceDrain) // c is still a part of it
		}
	}
	serving := d.serving
	d.mu.Unlock()
	if serving {
		select {
		case <-d.served:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err, d.Close())
		}
	}
	return errors.Join(err, d.Close())
}

// Close stops at once: connections are cut, the contexts of running methods end.  It does not wait for them, Serve does.
func (d *Daemon) Close() error {
	err := d.closeListener()
	conns, serving := d.stop()
	for _, c := range conns {
		c.cut()
	}
	if !serving { // else Serve does when it returns
		d.streams.shut()
		d.retireAll()
	}
	return err
}

// stop makes the daemon closed and returns the connections that it had, and whether it is served.
func (d *Daemon) stop() (conns []*serverConn, serving bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, d.serving
	}
	d.closed = true
	close(d.stopped)
	return slices.Collect(maps.Keys(d.conns)), d.serving
}

// servant is the object "Pyro.Daemon" (Pyro5 server.py, DaemonObject).
func (d *Daemon) servant() *Servant {
	id := []Param{{Name: "objectId"}}
	stream := []Param{{Name: "streamId"}}
	return &Servant{Class: "DaemonObject", Methods: []Method{
		{Name: "registered", Contract: ContractReadOnly, Func: func(context.Context, []any) (any, error) {
			return d.registered(), nil
		}},
		{Name: "ping", Contract: ContractReadOnly, Func: func(context.Context, []any) (any, error) { return nil, nil }},
		{Name: "info", Contract: ContractReadOnly, Func: func(context.Context, []any) (any, error) {
			advertised := "None"
			if d.opts.Advertise != "" {
				advertised = d.base.location()
			}
			return fmt.Sprintf("%s bound on %s, NAT %s, %d objects registered. Servertype: goroutine per connection",
				daemonID, d.Addr(), advertised, len(d.registered())), nil
		}},
		{Name: "get_metadata", Params: id, Contract: ContractReadOnly, Func: func(_ context.Context, args []any) (any, error) {
			objectID, _ := args[0].(string)
			o := d.object(objectID)
			if o == nil {
				return nil, errUnknownObject()
			}
			return o.wireMetadata(), nil
		}},
		{Name: "get_next_stream_item", Params: stream, Func: func(ctx context.Context, args []any) (any, error) {
			id, _ := args[0].(string)
			call, ok := ctx.Value(servedCallKey{}).(*servedCall)
			if !ok {
				return nil, errStreamEnded()
			}
			return d.streams.item(call, id)
		}},
		{Name: "close_stream", Params: stream, Contract: ContractIdempotent, Func: func(_ context.Context, args []any) (any, error) {
			id, _ := args[0].(string)
			d.streams.close(id)
			return nil, nil
		}},
	}}
}

// registered lists the ids, the daemon's own first.
func (d *Daemon) registered() []string {
	ids := make(map[string]bool)
	for id := range d.objects.Range {
		ids[id.(string)] = true
	}
	delete(ids, daemonID)
	return append([]string{daemonID}, slices.Sorted(maps.Keys(ids))...)
}

func errUnknownObject() error { return DaemonError.New("unknown object") }
