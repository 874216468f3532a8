package core

import (
	"net"
	"sync/atomic"
	"testing"
)

// What a server did to an idle connection is noticed before the next request is written to it, also if it goes on reading; that call is made with
// another connection.
func TestAskStale(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(c *rawClient){
		"closed":      func(c *rawClient) { c.nc.Close() },
		"half closed": func(c *rawClient) { c.nc.(*net.TCPConn).CloseWrite() },
		"stray byte":  func(c *rawClient) { c.sendBytes([]byte{0}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests, connects atomic.Int32
			spoiled := make(chan struct{}, 10)
			uri := fakeServer(t, func(c *rawClient) {
				connects.Add(1)
				if !c.welcome() {
					return
				}
				for answered := false; ; answered = true {
					m, err := c.readMessage()
					if err != nil {
						return
					}
					requests.Add(1)
					if answered {
						continue // a client that waited for this one would wait for ever
					}
					c.send(header{typ: msgResult, serializer: m.serializer, seq: m.seq}, nil, c.value(m.serializer, 1))
					spoil(c)
					spoiled <- struct{}{}
				}
			})
			p := proxyFor(t, uri, ProxyOptions{})
			for range 5 {
				if err := p.Call(t.Context(), "m", nil); err != nil {
					t.Fatal(err)
				}
				within(t, spoiled)
				eventually(t, func() bool {
					p.mu.Lock()
					defer p.mu.Unlock()
					return len(p.idle) == 0 || !p.idle[0].isQuiet()
				})
			}
			if err := p.CallOneway(t.Context(), "ow"); err != nil {
				t.Error(err)
			}
			eventually(t, func() bool { return requests.Load() == 6 })
			if n := connects.Load(); n != 6 {
				t.Errorf("%d connections, want one for each call", n)
			}
		})
	}
}

// Answers come in pieces, some of them at once.
func TestAskPieces(t *testing.T) {
	t.Parallel()
	uri := fakeServer(t, func(c *rawClient) {
		if !c.welcome() {
			return
		}
		for {
			m, err := c.readMessage()
			if err != nil {
				return
			}
			b, err := appendMessage(nil, header{typ: msgResult, serializer: m.serializer, seq: m.seq}, nil, c.value(m.serializer, int(m.seq)))
			if err != nil {
				t.Error(err)
				return
			}
			for step := 1 + int(m.seq)%len(b); len(b) > 0; b = b[min(step, len(b)):] {
				c.sendBytes(b[:min(step, len(b))])
			}
		}
	})
	p := proxyFor(t, uri, ProxyOptions{})
	var last int
	for i := range 500 {
		var got int
		if err := p.Call(t.Context(), "m", &got); err != nil || i > 0 && got != last+1 {
			t.Fatalf("call %d: got %d, %v, want %d", i, got, err, last+1)
		}
		last = got
	}
}
