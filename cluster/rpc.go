package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Requests between nodes share one connection per pair of nodes and direction; answers come in any order.  A frame, big endian:
//
//	4 bytes  length of the rest
//	8 bytes  number of the request, which its answer repeats
//	1 byte   requestKind, or code of the answer
//	4 bytes  of a request: milliseconds that the caller waits
//	         body
const (
	frameHeader     = 4 + 8 + 1
	maxFrame        = maxCommandBytes + 4<<10
	maxRequestsConn = 512 // of one connection under way
	maxWaitMs       = 1 << 31
)

type requestKind uint8

const (
	requestStatus    requestKind = 1
	requestPromise   requestKind = 2
	requestRefuse    requestKind = 3
	requestJoin      requestKind = 4
	requestApply     requestKind = 5
	requestReadIndex requestKind = 6
	requestTerm      requestKind = 7
	requestTransfer  requestKind = 8
	requestRemove    requestKind = 9
	requestAnnounce  requestKind = 10
	requestMessage   requestKind = 11
)

// code is the outcome of a request.
type code uint8

const codeOK code = 0

// codes maps errors to the wire and back.
var codes = []struct {
	code code
	err  error
}{
	{1, errNotRun},
	{2, ErrUnknownOutcome},
	{3, ErrNoLeader},
	{4, ErrWrongCluster},
	{5, ErrRemoved},
	{6, ErrUnknownNode},
	{7, ErrStopped},
	{codeOther, errAnswer},
}

const codeOther code = 8

// errNotRun is a command that surely did not run, and may be tried again.
var errNotRun = errors.New("cluster: not the leader")

// errAnswer is any other error of the node that answered; it is final.
var errAnswer = errors.New("cluster")

func codeOf(err error) code {
	if err == nil {
		return codeOK
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codeOther
}

// answerError is an error of another node: it matches its sentinel and has the other node's text.
type answerError struct {
	kind error
	text string
}

func (e *answerError) Error() string { return e.text }
func (e *answerError) Unwrap() error { return e.kind }

func errorOf(c code, text string) error {
	for _, known := range codes {
		if known.code == c {
			return &answerError{known.err, text}
		}
	}
	return &answerError{errAnswer, fmt.Sprintf("cluster: answer of unknown code %d: %s", c, text)}
}

type frame struct {
	number uint64
	kind   byte
	body   []byte
}

func readFrame(r *bufio.Reader) (frame, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return frame{}, err
	}
	n := binary.BigEndian.Uint32(h[:])
	if n < frameHeader-4 || n > maxFrame {
		return frame{}, fmt.Errorf("%w: frame of %d bytes, want %d to %d", errProtocol, n, frameHeader-4, maxFrame)
	}
	f := frame{number: binary.BigEndian.Uint64(h[4:]), kind: h[12], body: make([]byte, n-(frameHeader-4))}
	_, err := io.ReadFull(r, f.body)
	return f, err
}

// frameWriter writes frames of several goroutines.
type frameWriter struct {
	conn    net.Conn
	timeout time.Duration

	mu  sync.Mutex // guards what follows and the writing
	buf []byte
}

// write reports whether any byte may have reached the other side.
func (w *frameWriter) write(number uint64, kind byte, parts ...[]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := frameHeader - 4
	for _, p := range parts {
		n += len(p)
	}
	if n > maxFrame {
		return fmt.Errorf("cluster: message of %d bytes: want at most %d", n, maxFrame)
	}
	b := binary.BigEndian.AppendUint32(w.buf[:0], uint32(n))
	b = binary.BigEndian.AppendUint64(b, number)
	b = append(b, kind)
	for _, p := range parts {
		b = append(b, p...)
	}
	if w.buf = b; cap(b) > 64<<10 {
		w.buf = nil
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	_, err := w.conn.Write(b)
	return err
}

// link is a connection to another node for requests.
type link struct {
	conn net.Conn
	peer handshakeReply
	w    frameWriter
	done chan struct{} // closed when reading has ended

	mu      sync.Mutex // guards what follows
	number  uint64
	pending map[uint64]chan frame
	heard   uint64 // answers so far
	closed  bool
}

func newLink(conn net.Conn, peer *handshakeReply, timeout time.Duration) *link {
	return &link{conn: conn, peer: *peer, w: frameWriter{conn: conn, timeout: timeout}, done: make(chan struct{}), pending: map[uint64]chan frame{}}
}

// read hands out answers until the connection ends.
func (l *link) read() {
	defer close(l.done)
	defer l.conn.Close()
	r := bufio.NewReader(l.conn)
	for {
		f, err := readFrame(r)
		l.mu.Lock()
		if err != nil {
			l.closed = true
			for _, c := range l.pending {
				close(c)
			}
			clear(l.pending)
			l.mu.Unlock()
			return
		}
		c := l.pending[f.number]
		delete(l.pending, f.number)
		l.heard++
		l.mu.Unlock()
		if c != nil {
			c <- f // has room for the one answer
		}
	}
}

// errLost is a connection that broke, or a time that ran out, while a request was under way.
var errLost = errors.New("cluster: no answer from the other node")

// call sends a request and gives up waiting when ctx ends or giveUp is closed.  An error that wraps errNotRun means that it was not
// sent, one that wraps errLost that it may have run.
func (l *link) call(ctx context.Context, kind requestKind, body []byte, giveUp <-chan struct{}) ([]byte, error) {
	c := make(chan frame, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, fmt.Errorf("%w: connection closed", errNotRun)
	}
	l.number++
	number, heard := l.number, l.heard
	l.pending[number] = c
	l.mu.Unlock()

	ms := int64(maxWaitMs)
	if deadline, ok := ctx.Deadline(); ok {
		ms = min(max(time.Until(deadline).Milliseconds(), 1), maxWaitMs)
	}
	var wait [4]byte
	binary.BigEndian.PutUint32(wait[:], uint32(ms))
	if err := l.w.write(number, byte(kind), wait[:], body); err != nil {
		l.forget(number)
		l.conn.Close()
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	select {
	case f, ok := <-c:
		if !ok {
			return nil, fmt.Errorf("%w: connection closed", errLost)
		}
		if code(f.kind) == codeOK {
			return f.body, nil
		}
		return nil, errorOf(code(f.kind), string(f.body))
	case <-giveUp:
		l.forget(number)
		return nil, fmt.Errorf("%w: given up", errLost)
	case <-ctx.Done():
		if l.forget(number) == heard && ctx.Err() == context.DeadlineExceeded {
			l.conn.Close() // nothing was heard since: the way may be dead, a new connection finds out
		}
		return nil, fmt.Errorf("%w: %w", errLost, context.Cause(ctx))
	}
}

func (l *link) forget(number uint64) (heard uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, number)
	return l.heard
}

func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

// links are the connections of a node to others, made when needed and kept.
type links struct {
	stream  *stream
	timeout time.Duration // of connecting
	wg      sync.WaitGroup

	mu     sync.Mutex // guards byKey
	byKey  map[string]*dialing
	closed bool
}

func newLinks(s *stream, timeout time.Duration) *links {
	return &links{stream: s, timeout: timeout, byKey: map[string]*dialing{}}
}

// dialing is a link, or the attempt to get one, that callers share.
type dialing struct {
	ready chan struct{}
	link  *link
	err   error
}

// get returns a link to the node at that address, which must have that id if it is not empty.
func (p *links) get(ctx context.Context, address, id string) (*link, error) {
	key := id + "@" + address
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: %w", errNotRun, ErrStopped)
	}
	d := p.byKey[key]
	if d == nil || d.over() {
		d = &dialing{ready: make(chan struct{})}
		p.byKey[key] = d
		p.wg.Go(func() { p.dial(d, address, id) })
	}
	p.mu.Unlock()
	select {
	case <-d.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: dial %s: %w", errNotRun, address, context.Cause(ctx))
	}
	return d.link, d.err
}

// over reports whether it failed or its link has ended.
func (d *dialing) over() bool {
	select {
	case <-d.ready:
		return d.err != nil || !d.link.alive()
	default:
		return false
	}
}

func (p *links) dial(d *dialing, address, id string) {
	ctx, cancel := context.WithTimeout(p.stream.ctx, p.timeout)
	defer cancel()
	conn, reply, err := p.stream.connect(ctx, kindRequest, address, id)
	if err != nil {
		d.err = fmt.Errorf("%w: %w", errNotRun, err)
		close(d.ready)
		return
	}
	d.link = newLink(conn, reply, p.timeout)
	close(d.ready)
	d.link.read()
}

// call sends a request to the node at that address.
func (p *links) call(ctx context.Context, address, id string, kind requestKind, body []byte, giveUp <-chan struct{}) ([]byte, error) {
	l, err := p.get(ctx, address, id)
	if err != nil {
		return nil, err
	}
	return l.call(ctx, kind, body, giveUp)
}

// close returns when all connections have ended; the stream must be closed.
func (p *links) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.wg.Wait()
}

// serveRequests answers the requests of a connection until it ends or ctx does.  Requests run at the same time, but those that never
// wait run one after the other.
func serveRequests(ctx context.Context, conn net.Conn, timeout time.Duration,
	handle func(ctx context.Context, kind requestKind, body []byte) ([]byte, error)) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &frameWriter{conn: conn, timeout: timeout}
	room := make(chan struct{}, maxRequestsConn)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(errors.New("cluster: connection closed"))
	r := bufio.NewReader(conn)
	for {
		f, err := readFrame(r)
		if err != nil || len(f.body) < 4 {
			return
		}
		answer := func() {
			wait := time.Duration(binary.BigEndian.Uint32(f.body)) * time.Millisecond
			ctx, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			body, err := handle(ctx, requestKind(f.kind), f.body[4:])
			if err != nil {
				body = []byte(err.Error())
				body = body[:min(len(body), maxPreamble)]
			}
			if w.write(f.number, byte(codeOf(err)), body) != nil {
				conn.Close()
			}
		}
		if kind := requestKind(f.kind); kind == requestTerm || kind == requestStatus {
			answer()
			continue
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-room }()
			answer()
		})
	}
}
