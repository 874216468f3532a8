package events

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// TestFencedConn has a node that was stopped, as by SIGSTOP, between making sure that a callback is its own, and calling it.
func TestFencedConn(t *testing.T) {
	t.Parallel()
	l := newListener(t)
	b := NewBroker(BrokerOptions{})
	w := &worker{b: b, uri: l.uri}
	w.proxy = core.NewProxy(l.uri, core.ProxyOptions{Dial: w.fenced(nil), Plain: true})
	t.Cleanup(func() { w.proxy.Close() })
	call := func(n int64) error {
		return w.proxy.Call(t.Context(), "event", nil, map[string]any{"msg": n, "subject": "t", "time": 1.5})
	}
	w.lease(time.Now())
	w.fence.Store(true)
	if err := call(1); err != nil {
		t.Fatal(err)
	}
	l.await(t, int64(1)) // the method may be oneway
	w.lease(time.Now().Add(-2 * ownerLease))
	for range 2 { // on the connection that there is, and on a new one
		if err := call(2); core.OutcomeOf(err) != core.CallNotExecuted || !errors.Is(err, errFenced) {
			t.Errorf("got %v, want that the call was not made", err)
		}
	}
	w.fence.Store(false)
	if err := w.proxy.Ping(t.Context()); err != nil {
		t.Errorf("ping without the lease: %v", err)
	}
	w.fence.Store(true)
	w.lease(time.Now())
	if err := call(3); err != nil {
		t.Fatal(err)
	}
	l.await(t, int64(1), int64(3))
	if _, err := (&fencedConn{Conn: &net.TCPConn{}}).SyscallConn(); err == nil {
		t.Error("a connection that is none has a descriptor")
	}
}
