package naming

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// responder answers on a port of its own until the test ends.
func startResponder(t *testing.T, uri core.URI, ready func() bool) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	stopped, cause := make(chan error, 1), errors.New("the test ends")
	go func() { stopped <- Respond(ctx, conn, uri, ready) }()
	t.Cleanup(func() {
		cancel(cause)
		if err := <-stopped; !errors.Is(err, cause) {
			t.Errorf("respond: got %v, want the context's cause", err)
		}
		if err := conn.Close(); err != nil {
			t.Errorf("the connection is the caller's: %v", err)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr)
}

func always() bool { return true }

// ask sends datagrams and returns what comes back first.
func ask(t *testing.T, to net.Addr, datagrams ...string) string {
	t.Helper()
	conn, err := net.Dial("udp4", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, d := range datagrams {
		if _, err := conn.Write([]byte(d)); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 1000)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// spec: D2
func TestRespond(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, uri, want string }{
		{"as advertised", "PYRO:Pyro.NameServer@n1:9090", "PYRO:Pyro.NameServer@n1:9090"},
		{"unspecified IPv4", "PYRO:Pyro.NameServer@0.0.0.0:9090", "PYRO:Pyro.NameServer@127.0.0.1:9090"},
		{"unspecified IPv6", "PYRO:Pyro.NameServer@[::]:9090", "PYRO:Pyro.NameServer@127.0.0.1:9090"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			to := startResponder(t, uri(tt.uri), always)
			if got := ask(t, to, broadcastRequest); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Only the exact question is answered.  Datagrams of one sender over loopback stay in order, so an answer to one of the others
// would come first, and be the wrong one.
//
// spec: D1
func TestRespondKeepsSilent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	ready := func() bool { return calls.Add(1) > 2 }
	to := startResponder(t, ownURI, ready)
	got := ask(t, to, "", "x", "GET_NSUR", "get_nsuri", "GET_NSURI ", "GET_NSURI\n", strings.Repeat("GET_NSURI", 1000),
		broadcastRequest, broadcastRequest, broadcastRequest)
	if want := ownURI.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if calls.Load() != 3 {
		t.Errorf("got %d questions, want the 3 exact ones, of which two came too early", calls.Load())
	}
}

// spec: D1
func TestRespondRefusesLongURI(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	long := core.URI{Protocol: "PYRO", Object: ObjectID, Host: strings.Repeat("h", 80), Port: 9090}
	if err := Respond(t.Context(), conn, long, always); err == nil || !strings.Contains(err.Error(), "106 bytes") {
		t.Errorf("got %v, want an error with the length", err)
	}
}

func TestRespondEndsWithConnection(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := Respond(t.Context(), conn, ownURI, always); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}
