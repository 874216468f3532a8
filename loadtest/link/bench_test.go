package link

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// BenchmarkPingPong is what a proxy without faults costs per message and answer.
func BenchmarkPingPong(b *testing.B) {
	address := backend(b, echo)
	for _, bb := range []struct {
		name    string
		address string
	}{
		{"direct", address},
		{"bytes", listen(b, Options{Backend: address}).Addr()},
		{"frames", listen(b, Options{Backend: address, Frames: true}).Addr()},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c, err := net.Dial("tcp", bb.address)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			m := message(0, 60)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(m); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCall is what it costs per call.
func BenchmarkCall(b *testing.B) {
	_, uri, p := serve(b)
	for _, bb := range []struct {
		name string
		opts core.ProxyOptions
	}{
		{"direct", core.ProxyOptions{}},
		{"proxy", core.ProxyOptions{Dial: Dialer(func(string) (*Proxy, error) { return p, nil })}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			c := core.NewProxy(uri, bb.opts)
			defer c.Close()
			for b.Loop() {
				if err := callEcho(context.Background(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
