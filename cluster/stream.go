package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Bounds of the port that nodes share.
const (
	maxConns         = 1024
	handshakeTimeout = 5 * time.Second
	keepAlive        = 5 * time.Second
)

// stream is the one listener of a node.  It tells raft's connections from those for requests by their preamble; to raft it is the
// stream layer.
type stream struct {
	opts      *Options
	listener  net.Listener
	advertise string
	// admit judges the preamble of another node, serve handles a connection for requests until it ends, refused hears of each
	// answer other than OK to a connection of raft.
	admit   func(*preamble) handshakeReply
	own     func(connKind) preamble
	serve   func(context.Context, net.Conn, *preamble)
	refused func(error)
	dialer  dialer

	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	raft   chan net.Conn
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool // of both directions
	closed bool
}

var _ raft.StreamLayer = (*stream)(nil)

// listen binds the address; Serve begins to accept.
func listen(ctx context.Context, opts *Options) (*stream, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster: listen for other nodes: %w", err)
	}
	s := &stream{opts: opts, listener: l, advertise: opts.Advertise, dialer: newDialer(opts.dial), raft: make(chan net.Conn), conns: map[net.Conn]bool{}}
	if s.advertise == "" {
		host, _, err := net.SplitHostPort(opts.Listen)
		_, port, err2 := net.SplitHostPort(l.Addr().String())
		if err = errors.Join(err, err2); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		s.advertise = net.JoinHostPort(host, port)
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

func (s *stream) start() { s.wg.Go(s.acceptLoop) }

func (s *stream) acceptLoop() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if s.ctx.Err() != nil {
				return
			}
			s.opts.Logger.Warn("cluster: accept", "err", err) // out of file descriptors, mostly
			select {
			case <-time.After(50 * time.Millisecond):
			case <-s.ctx.Done():
			}
			continue
		}
		if c, ok := s.track(conn); ok {
			s.wg.Go(func() { s.handle(c) })
		}
	}
}

// track counts a connection until it is closed, and refuses it if there are too many or the stream has ended.
func (s *stream) track(conn net.Conn) (net.Conn, bool) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxConns || s.opts.cut() {
		conn.Close()
		return nil, false
	}
	c := &trackedConn{Conn: conn, stream: s}
	s.conns[c] = true
	return c, true
}

type trackedConn struct {
	net.Conn
	stream *stream
}

func (c *trackedConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// handle answers the preamble of a connection and hands it on.
func (s *stream) handle(conn net.Conn) {
	p, secured, err := s.answer(conn)
	if err != nil {
		conn.Close()
		s.opts.Logger.Debug("cluster: connection refused", "from", conn.RemoteAddr(), "err", err)
		return
	}
	if p.kind == kindRequest {
		s.serve(s.ctx, secured, p)
		secured.Close()
		return
	}
	select {
	case s.raft <- secured:
	case <-s.ctx.Done():
		secured.Close()
	}
}

func (s *stream) answer(conn net.Conn) (*preamble, net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, nil, err
	}
	if s.opts.secured() {
		conn = tls.Server(conn, s.opts.serverTLS())
	}
	version, body, err := readHello(conn)
	if err != nil {
		return nil, nil, err
	}
	p := &preamble{}
	var reply handshakeReply
	switch {
	case version != protocolVersion:
		reply = handshakeReply{status: statusVersion, text: fmt.Sprintf("protocol version %d, want %d", version, protocolVersion)}
	case p.parse(body) != nil:
		reply = handshakeReply{status: statusRefused, text: "malformed preamble"}
	default:
		reply = s.admit(p)
	}
	if err := writeHello(conn, reply.append(nil)); err != nil {
		return nil, nil, err
	}
	if reply.status != statusOK {
		return nil, nil, fmt.Errorf("node %s: %s", p.id, reply.text)
	}
	return p, conn, conn.SetDeadline(time.Time{})
}

// connect dials a node and shakes hands.  Names are resolved anew each time, if they can be.  The target is the id of the node that is meant, empty for any.
func (s *stream) connect(ctx context.Context, kind connKind, address, target string) (net.Conn, *handshakeReply, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: dial %q: %w", address, err)
	}
	raw, err := s.dialer.connect(ctx, address)
	if err != nil {
		return nil, nil, fmt.Errorf("cluster: dial node: %w", err)
	}
	conn, ok := s.track(raw)
	if !ok {
		return nil, nil, fmt.Errorf("cluster: dial %s: %w", address, net.ErrClosed)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if s.opts.secured() {
		conn = tls.Client(conn, s.opts.clientTLS(host))
	}
	reply, err := s.greet(conn, kind, target)
	if err != nil {
		conn.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		} else {
			s.dialer.forget(address, raw)
		}
		return nil, reply, fmt.Errorf("cluster: dial %s: %w", address, err)
	}
	if !stop() {
		conn.Close()
		return nil, nil, fmt.Errorf("cluster: dial %s: %w", address, context.Cause(ctx))
	}
	s.dialer.remember(address, raw)
	return conn, reply, nil
}

func (s *stream) greet(conn net.Conn, kind connKind, target string) (*handshakeReply, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	p := s.own(kind)
	p.target = target
	if err := writeHello(conn, p.append(nil)); err != nil {
		return nil, err
	}
	version, body, err := readHello(conn)
	if err != nil {
		return nil, err
	}
	reply := &handshakeReply{}
	if version != protocolVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errProtocol, version, protocolVersion)
	}
	if err := reply.parse(body); err != nil {
		return nil, err
	}
	if err := reply.err(p.cluster); err != nil {
		return reply, err
	}
	return reply, conn.SetDeadline(time.Time{})
}

// Accept implements net.Listener for raft.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.raft:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer; the address is one of namedTransport.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	id, host, ok := strings.Cut(string(address), "@")
	if !ok {
		id, host = "", string(address)
	}
	conn, reply, err := s.connect(ctx, kindRaft, host, id)
	switch {
	case err == nil:
		return conn, nil
	case reply != nil:
		s.refused(err)
		return nil, err
	}
	return nil, &unreachableError{err}
}

// unreachableError is that of a node that is down, or cut off.
type unreachableError struct{ error }

func (e *unreachableError) Unwrap() error { return e.error }

// Addr implements net.Listener with the advertised name, which need not be resolvable yet.
func (s *stream) Addr() net.Addr { return nodeAddr(s.advertise) }

type nodeAddr string

func (a nodeAddr) Network() string { return "tcp" }
func (a nodeAddr) String() string  { return string(a) }

// Close implements net.Listener: it ends all connections of both kinds and directions.
func (s *stream) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	conns := make([]net.Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// wait returns when all goroutines of the stream have ended; it must be closed.
func (s *stream) wait() { s.wg.Wait() }

// namedTransport is raft's transport with the id of the node that is meant beside its address, which the preamble carries: a node that
// answers at an address that was another's would count as that one, twice even.  Also it puts in the addresses that nodes told since
// the configuration was written, and makes up for a check that raft lacks (fit).
type namedTransport struct {
	*raft.NetworkTransport
	current func(id raft.ServerID, configured raft.ServerAddress) raft.ServerAddress
	// patient reports whether this node leads and that one is among those that it leads; wait waits a little, or returns false when
	// the node stops.
	patient func(id raft.ServerID) bool
	wait    func() bool

	snapshot func() snapshotEnd // of this node
	rpcs     chan raft.RPC
}

// Consumer implements raft.Transport.
func (t *namedTransport) Consumer() <-chan raft.RPC { return t.rpcs }

// pump hands raft what comes from other nodes, until ctx ends.
func (t *namedTransport) pump(ctx context.Context) {
	for {
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			t.fit(&rpc)
			select {
			case t.rpcs <- rpc:
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// fit takes the leader's word that its previous entry is the last one of this node's snapshot.  Raft looks for that entry in the log only, where
// it is not, or is another, if the snapshot came from a leader and the log goes on behind it: because its end is wrong and was never
// committed (hashicorp/raft issue 697), or because this node got entries after the snapshot and stopped before it said so.  Raft then
// refuses, is sent the snapshot again, and so on for ever.  The snapshot's last entry is committed and the leader has it at the same
// place, so what it sends fits on; entries that contradict it are deleted as ever.
func (t *namedTransport) fit(rpc *raft.RPC) {
	r, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || r.PrevLogEntry == 0 {
		return
	}
	if (snapshotEnd{r.PrevLogEntry, r.PrevLogTerm}) == t.snapshot() {
		r.PrevLogEntry, r.PrevLogTerm = 0, 0 // raft does not look then
	}
}

var (
	_ raft.Transport   = (*namedTransport)(nil)
	_ raft.WithPreVote = (*namedTransport)(nil)
	_ raft.WithClose   = (*namedTransport)(nil)
)

func (t *namedTransport) named(id raft.ServerID, a raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + t.current(id, a)
}

// AppendEntriesPipeline implements raft.Transport with a pipeline that ends at the first refusal.
func (t *namedTransport) AppendEntriesPipeline(id raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, t.named(id, a))
	if err != nil {
		return nil, err
	}
	return newPipeline(p), nil
}

// AppendEntries waits for a node that is down as long as this one leads it.  Raft's replication would itself wait after each failure, up
// to ten seconds when there were many, and a node that comes back would learn nothing for so long.
func (t *namedTransport) AppendEntries(id raft.ServerID, a raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for {
		err := t.NetworkTransport.AppendEntries(id, t.named(id, a), req, resp)
		if _, down := errors.AsType[*unreachableError](err); !down || !t.patient(id) || !t.wait() {
			return err
		}
	}
}

func (t *namedTransport) RequestVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, t.named(id, a), req, resp)
}

func (t *namedTransport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, t.named(id, a), req, resp)
}

func (t *namedTransport) TimeoutNow(id raft.ServerID, a raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, t.named(id, a), req, resp)
}

func (t *namedTransport) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, r io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, t.named(id, a), req, resp, r)
}
