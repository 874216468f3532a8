package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// addressedConn is a connection of which only where it leads and whether it was closed matter.
type addressedConn struct {
	net.Conn
	address string
	closed  *atomic.Int32
}

func (c addressedConn) RemoteAddr() net.Addr { return nodeAddr(c.address) }
func (c addressedConn) Close() error         { c.closed.Add(1); return nil }

func TestDialer(t *testing.T) {
	const name, ip = "node-1.test:9092", "192.0.2.1:9092"
	unresolved := &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "i/o timeout", Name: "node-1.test", IsTimeout: true}}
	refused := errors.New("connection refused")
	type answer struct {
		after time.Duration
		err   error
	}
	const never = time.Hour
	tests := []struct {
		name        string
		known       bool
		byName, old answer
		took        time.Duration
		err         error
		closed      int32 // connections that lost
	}{
		{"nothing known", false, answer{50 * time.Millisecond, nil}, answer{}, 50 * time.Millisecond, nil, 0},
		{"nothing known, no name", false, answer{50 * time.Millisecond, unresolved}, answer{}, 50 * time.Millisecond, unresolved, 0},
		{"quick name", true, answer{50 * time.Millisecond, nil}, answer{0, nil}, 50 * time.Millisecond, nil, 0},
		{"slow name", true, answer{never, nil}, answer{time.Millisecond, nil}, namePatience + time.Millisecond, nil, 0},
		{"name in the end", true, answer{time.Second, nil}, answer{never, nil}, time.Second, nil, 0},
		{"no name", true, answer{time.Millisecond, unresolved}, answer{time.Millisecond, nil}, 2 * time.Millisecond, nil, 0},
		{"no name after a while", true, answer{time.Second, unresolved}, answer{time.Minute, nil}, namePatience + time.Minute, nil, 0},
		{"refused", true, answer{time.Millisecond, refused}, answer{0, nil}, time.Millisecond, refused, 0},
		{"refused after a while", true, answer{time.Second, refused}, answer{never, nil}, time.Second, refused, 0},
		{"neither", true, answer{time.Millisecond, unresolved}, answer{time.Millisecond, refused}, 2 * time.Millisecond, unresolved, 0},
		{"old address refuses, name in the end", true, answer{time.Second, nil}, answer{0, refused}, time.Second, nil, 0},
		{"both at once", true, answer{namePatience + time.Millisecond, nil}, answer{time.Millisecond, nil}, namePatience + time.Millisecond, nil, 1},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed atomic.Int32
				d := newDialer(func(ctx context.Context, _, address string) (net.Conn, error) {
					a := tc.byName
					if address == ip {
						a = tc.old
					}
					select {
					case <-time.After(a.after):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					if a.err != nil {
						return nil, a.err
					}
					return addressedConn{nil, ip, &closed}, nil
				})
				if tc.known {
					d.remember(name, addressedConn{nil, ip, &closed})
				}
				began := time.Now()
				conn, err := d.connect(t.Context(), name)
				if took := time.Since(began); took != tc.took || !errors.Is(err, tc.err) || (conn == nil) != (err != nil) {
					t.Errorf("got %v, %v after %v, want error %v after %v", conn, err, took, tc.err, tc.took)
				}
				synctest.Wait()
				if got := closed.Load(); got != tc.closed {
					t.Errorf("%d connections closed, want %d", got, tc.closed)
				}
			})
		})
	}
}

// Only names are remembered, and only as long as they led to the right one.
func TestDialerRemembers(t *testing.T) {
	d := newDialer(nil)
	at := func(address string) net.Conn { return addressedConn{address: address} }
	d.remember("192.0.2.1:9092", at("192.0.2.1:9092"))
	d.remember("[2001:db8::1]:9092", at("[2001:db8::1]:9092"))
	d.remember("a.test:9092", at("192.0.2.1:9092"))
	d.remember("b.test:9092", at("192.0.2.2:9092"))
	d.forget("b.test:9092", at("192.0.2.3:9092")) // was reached under its new address
	d.remember("c.test:9092", at("192.0.2.3:9092"))
	d.forget("c.test:9092", at("192.0.2.3:9092"))
	if got, want := fmt.Sprint(d.led), "map[a.test:9092:192.0.2.1:9092 b.test:9092:192.0.2.2:9092]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The loss of a leader and of the names at the same time, as of a machine where both were: the others elect a leader.
func TestElectionWithoutNames(t *testing.T) {
	t.Parallel()
	var lost atomic.Bool
	names := map[string]string{}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, err := netip.ParseAddrPort(address); err != nil {
			if lost.Load() {
				<-ctx.Done()
				return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "i/o timeout", Name: address, IsTimeout: true}}
			}
			address = names[address]
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	addresses := freeAddresses(t, 3)
	var join []string
	for i, a := range addresses {
		name := fmt.Sprintf("node-%d.test:%s", i, a[strings.LastIndex(a, ":")+1:])
		names[name] = a
		join = append(join, name)
	}
	nodes := make([]*Node, 3)
	for i, a := range addresses {
		o := testOptions(t, a, 3, join)
		o.Advertise, o.Insecure, o.dial = join[i], true, dial
		nodes[i] = open(t, o)
	}
	waitServing(t, nodes...)
	for _, from := range nodes { // each has reached each: so do the messages of event servers
		for _, to := range nodes {
			if from != to {
				eventually(t, "connection", func() error { _, err := from.statusOf(t.Context(), peer{to.ID(), to.Address()}); return err })
			}
		}
	}
	leader := leaderOf(t, nodes...)
	lost.Store(true)
	leader.Close()
	var rest []*Node
	for _, n := range nodes {
		if n != leader {
			rest = append(rest, n)
		}
	}
	waitServing(t, rest...)
	register(t, rest[0], "after")
}
