package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"

	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

// rawTCP is a ping-pong on a bare connection: what calls with one request at a time on a connection cannot be faster than.  Its messages
// are as long as those of the same calls through pyro-cluster:
//
//	 0        4           5       9         40
//	+--------+-----------+-------+---------+------ - -
//	| length | operation | reply | nothing | body
//	+--------+-----------+-------+---------+------ - -
//
// length is that of the body, reply that of the body of the answer (big-endian both).  The answer is length, 36 bytes of nothing, and its body.
func rawTCP() peer.Peer {
	return peer.Peer{
		Serve: func(ctx context.Context, ln net.Listener, s *peer.Service) error {
			return acceptAll(ctx, ln, func(conn net.Conn) { serveRaw(conn, s) })
		},
		Dial: func(ctx context.Context, address string) (peer.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return &rawConn{conn: conn, in: bufio.NewReader(conn)}, nil
		},
	}
}

const (
	rawHeader = 40      // as in Pyro's protocol
	rawMax    = 4 << 20 // of a body
)

const (
	rawAdd byte = iota
	rawEcho
	rawNote
	rawReceived
)

// Lengths of bodies: those of Pyro's calls with msgpack.  A request is an array of object ("bench"), method, arguments and an empty map.
const (
	rawNumber      = 9                                 // an integer of 8 bytes
	rawAddBody     = 1 + 6 + 4 + 1 + rawNumber + 3 + 1 // "add", and 12345
	rawEchoBody    = 1 + 6 + 5 + 1 + 1                 // "text" or "blob", beside its argument
	rawNoteBody    = 1 + 6 + 5 + 1 + rawNumber + 1
	rawReceiveBody = 1 + 6 + 9 + 1 + 1
	rawTextHead    = 3 // of a text of 1 KiB
	rawBytesHead   = 5 // of 1 MiB
)

type rawHead struct {
	length, reply int
	operation     byte
}

func (h rawHead) put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(h.length))
	b[4] = h.operation
	binary.BigEndian.PutUint32(b[5:], uint32(h.reply))
}

func parseRawHead(b []byte) (rawHead, error) {
	h := rawHead{int(binary.BigEndian.Uint32(b)), int(binary.BigEndian.Uint32(b[5:])), b[4]}
	if h.length > rawMax || h.reply > rawMax {
		return h, fmt.Errorf("rawtcp: bodies of %d and %d bytes, want %d at most", h.length, h.reply, rawMax)
	}
	return h, nil
}

// readRaw reads a message into buf, which it enlarges if need be, and returns all of it.
func readRaw(in *bufio.Reader, buf []byte) (rawHead, []byte, error) {
	buf = resized(buf, rawHeader)
	if _, err := io.ReadFull(in, buf); err != nil {
		return rawHead{}, nil, err
	}
	h, err := parseRawHead(buf)
	if err != nil {
		return h, nil, err
	}
	buf = resized(buf, rawHeader+h.length)
	_, err = io.ReadFull(in, buf[rawHeader:])
	return h, buf, err
}

// resized keeps what buf holds.
func resized(buf []byte, n int) []byte { return slices.Grow(buf, max(0, n-len(buf)))[:n] }

// serveRaw answers until the client hangs up, or sends what is no request.
func serveRaw(conn net.Conn, s *peer.Service) {
	in := bufio.NewReader(conn)
	var buf []byte
	for {
		h, request, err := readRaw(in, buf)
		if err != nil {
			return
		}
		buf = request
		if h.operation == rawNote {
			s.Note()
			continue
		}
		reply, ok := rawReply(h, request, s)
		if !ok {
			return
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

// rawReply makes the answer of the end of the request, so that an echo is not copied.
func rawReply(h rawHead, request []byte, s *peer.Service) ([]byte, bool) {
	if h.reply > h.length || h.reply < 8 {
		return nil, false
	}
	body := request[rawHeader:]
	reply := request[len(request)-h.reply-rawHeader:]
	switch h.operation {
	case rawAdd:
		if h.length < 16 {
			return nil, false
		}
		sum := s.Add(int64(binary.BigEndian.Uint64(body)), int64(binary.BigEndian.Uint64(body[8:])))
		binary.BigEndian.PutUint64(reply[rawHeader:], uint64(sum))
	case rawReceived:
		binary.BigEndian.PutUint64(reply[rawHeader:], uint64(s.Received()))
	case rawEcho:
	default:
		return nil, false
	}
	rawHead{length: h.reply}.put(reply)
	return reply, true
}

// rawConn is used by one caller.
type rawConn struct {
	conn    net.Conn
	in      *bufio.Reader
	out     []byte // the request
	inBytes []byte // the answer
}

// request prepares a message; the caller fills in its body.
func (c *rawConn) request(operation byte, length, reply int) (body []byte) {
	c.out = resized(c.out, rawHeader+length)
	rawHead{length, reply, operation}.put(c.out)
	return c.out[rawHeader:]
}

// exchange sends the request and returns the body of the answer.
func (c *rawConn) exchange() ([]byte, error) {
	if _, err := c.conn.Write(c.out); err != nil {
		return nil, err
	}
	_, answer, err := readRaw(c.in, c.inBytes)
	if err != nil {
		return nil, err
	}
	c.inBytes = answer
	return answer[rawHeader:], nil
}

func (c *rawConn) number() (int64, error) {
	body, err := c.exchange()
	if err != nil {
		return 0, err
	}
	if len(body) < 8 {
		return 0, fmt.Errorf("rawtcp: answer of %d bytes, want a number", len(body))
	}
	return int64(binary.BigEndian.Uint64(body)), nil
}

// rawEchoOf sends data, with as many bytes around it as Pyro's message has, and head before it in both directions.
func rawEchoOf[T string | []byte](c *rawConn, head int, data T) ([]byte, error) {
	body := c.request(rawEcho, rawEchoBody+head+len(data), head+len(data))
	copy(body[rawEchoBody+head:], data)
	answer, err := c.exchange()
	if err != nil {
		return nil, err
	}
	if len(answer) < head {
		return nil, fmt.Errorf("rawtcp: answer of %d bytes, want %d at least", len(answer), head)
	}
	return answer[head:], nil
}

func (c *rawConn) Add(_ context.Context, a, b int64) (int64, error) {
	body := c.request(rawAdd, rawAddBody, rawNumber)
	binary.BigEndian.PutUint64(body, uint64(a))
	binary.BigEndian.PutUint64(body[8:], uint64(b))
	return c.number()
}

func (c *rawConn) EchoString(_ context.Context, s string) (string, error) {
	echo, err := rawEchoOf(c, rawTextHead, s)
	return string(echo), err
}

func (c *rawConn) EchoBytes(_ context.Context, p []byte) ([]byte, error) {
	return rawEchoOf(c, rawBytesHead, p)
}

func (c *rawConn) Oneway(_ context.Context, v int64) error {
	body := c.request(rawNote, rawNoteBody, 0)
	binary.BigEndian.PutUint64(body, uint64(v))
	_, err := c.conn.Write(c.out)
	return err
}

func (c *rawConn) Flush(context.Context) error { return nil } // Oneway has written the message

func (c *rawConn) Received(context.Context) (int64, error) {
	c.request(rawReceived, rawReceiveBody, rawNumber)
	return c.number()
}

func (c *rawConn) Close() error { return c.conn.Close() }
