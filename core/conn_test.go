package core

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// readOnlyConn is a connection that only reads, without deadlines.
type readOnlyConn struct {
	io.Reader
	net.Conn
}

func (c readOnlyConn) Read(p []byte) (int, error)       { return c.Reader.Read(p) }
func (c readOnlyConn) SetReadDeadline(time.Time) error  { return nil }
func (c readOnlyConn) SetWriteDeadline(time.Time) error { return nil }

// tcpPair returns two ends of a TCP connection.
func tcpPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestReadSizes reads messages around the sizes of the buffers, twice, so that the second finds the buffer of the first.
func TestReadSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, minReadBuffer - headerBytes, minReadBuffer, firstStepBytes, firstStepBytes + 1, 3*firstStepBytes + 7, 1<<20 + 1} {
		payload := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7}, n/7+1)[:n]
		frame, err := appendMessage(nil, header{typ: msgPing}, nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		frame, err = appendMessage(frame, header{typ: msgPing, seq: 1}, nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(readOnlyConn{Reader: bytes.NewReader(frame)}, 2<<20)
		w.stepTimeout = time.Minute
		for seq := range uint16(2) {
			m, err := w.readMessage()
			if err != nil || m.seq != seq || !bytes.Equal(m.payload, payload) {
				t.Errorf("message %d with %d bytes: got %d bytes, %v", seq, n, len(m.payload), err)
			}
		}
		if _, err := w.readMessage(); err != io.EOF {
			t.Errorf("behind the last message: got %v, want %v", err, io.EOF)
		}
		w.trim()
		if cap(w.body) > keepBufferBytes {
			t.Errorf("%d bytes kept", cap(w.body))
		}
	}
}

// TestSlowSender stops in the middle of a message.
func TestSlowSender(t *testing.T) {
	t.Parallel()
	frame := fromHex(t, golden[0].frame)
	for _, cut := range []int{1, 5, 6, 39, 40, 41, len(frame) - 1} {
		a, b := tcpPair(t)
		w := newWire(b, 1000)
		w.stepTimeout = 10 * time.Millisecond
		if _, err := a.Write(frame[:cut]); err != nil {
			t.Fatal(err)
		}
		if _, err := w.readMessage(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %d bytes: got %v, want %v", cut, err, os.ErrDeadlineExceeded)
		}
	}
}

// TestDeadlineOfStepEnds reads a message in two parts: the connection must not keep the deadline afterwards.
func TestDeadlineOfStepEnds(t *testing.T) {
	t.Parallel()
	frame := fromHex(t, golden[0].frame)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	deadlines := &deadlineConn{Conn: b}
	w := newWire(deadlines, 1000)
	w.stepTimeout = time.Hour
	go func() {
		a.Write(frame[:10])
		a.Write(frame[10:])
	}()
	if _, err := w.readMessage(); err != nil {
		t.Fatal(err)
	}
	if len(deadlines.read) < 2 || !deadlines.read[len(deadlines.read)-1].IsZero() {
		t.Errorf("deadlines: %v, want the last one to be none", deadlines.read)
	}
}

// deadlineConn notes the read deadlines that are set.
type deadlineConn struct {
	net.Conn
	read []time.Time
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	c.read = append(c.read, t)
	return c.Conn.SetReadDeadline(t)
}

// TestWriteToDeafPeer writes to somebody who never reads.
func TestWriteToDeafPeer(t *testing.T) {
	t.Parallel()
	a, _ := tcpPair(t)
	w := newWire(a, 1000)
	w.stepTimeout = 5 * time.Millisecond
	n, err := w.write(make([]byte, 64<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 64<<20 {
		t.Errorf("got %d bytes written, %v, want %v", n, err, os.ErrDeadlineExceeded)
	}
}

func TestQuietCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		do   func(peer net.Conn) error
		want bool
	}{
		{"idle", func(net.Conn) error { return nil }, true},
		{"closed", func(peer net.Conn) error { return peer.Close() }, false},
		{"half closed", func(peer net.Conn) error { return peer.(*net.TCPConn).CloseWrite() }, false},
		{"unasked bytes", func(peer net.Conn) error { _, err := peer.Write([]byte("x")); return err }, false},
		{"reset", func(peer net.Conn) error { return errors.Join(peer.(*net.TCPConn).SetLinger(0), peer.Close()) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := tcpPair(t)
			quiet := quietCheck(a)
			if quiet == nil {
				t.Fatal("no check for TCP connections on this system")
			}
			if err := a.SetDeadline(longAgo); err != nil {
				t.Fatal(err)
			}
			if err := test.do(b); err != nil {
				t.Fatal(err)
			}
			if !test.want {
				eventually(t, func() bool { return !quiet() })
			}
			if got := quiet(); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	t.Run("in memory", func(t *testing.T) {
		t.Parallel()
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		if quietCheck(a) != nil {
			t.Error("got a check for a pipe")
		}
	})
}

// eventually waits for something that another goroutine or the kernel does.
func eventually(t testing.TB, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("timeout")
		}
	}
}
