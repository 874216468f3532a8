package core

import (
	"context"
	"io"
	"net"
	"testing"
)

// BenchmarkCall compares calls between two Go programs' ends, over loopback, with a ping-pong of messages of the same length on a bare
// TCP connection: the floor of what a connection with one call at a time can do.
//
//	go test -run - -bench Call -benchmem ./core
func BenchmarkCall(b *testing.B) {
	servant := &Servant{Class: "Echo", Methods: []Method{
		{Name: "echo", Params: []Param{{Name: "v"}}, Func: func(_ context.Context, args []any) (any, error) { return args[0], nil }},
		{Name: "add", Params: []Param{{Name: "a"}, {Name: "b"}}, Func: func(_ context.Context, args []any) (any, error) {
			return args[0].(int64) + args[1].(int64), nil
		}},
	}}
	d := serve(b, DaemonOptions{})
	uri, err := d.Register("echo", servant, ObjectOptions{})
	if err != nil {
		b.Fatal(err)
	}
	reflected, err := d.Register("reflected", newAccount(), ObjectOptions{})
	if err != nil {
		b.Fatal(err)
	}
	text := "a text of thirty-two characters."
	requestBytes, replyBytes := messageBytes(b, text)
	b.Run("rawTCP", func(b *testing.B) { benchmarkRaw(b, requestBytes, replyBytes) })
	b.Run("echo", func(b *testing.B) {
		benchmarkProxy(b, uri, func(ctx context.Context, p *Proxy) error {
			var out string
			return p.Call(ctx, "echo", &out, text)
		})
	})
	b.Run("echoDeadline", func(b *testing.B) {
		benchmarkProxy(b, uri, func(ctx context.Context, p *Proxy) error {
			ctx, cancel := context.WithTimeout(ctx, 1<<40)
			defer cancel()
			var out string
			return p.Call(ctx, "echo", &out, text)
		})
	})
	b.Run("echoReflected", func(b *testing.B) {
		benchmarkProxy(b, reflected, func(ctx context.Context, p *Proxy) error {
			var out string
			return p.Call(ctx, "echo", &out, text)
		})
	})
	b.Run("add", func(b *testing.B) {
		benchmarkProxy(b, uri, func(ctx context.Context, p *Proxy) error {
			var out int
			return p.Call(ctx, "add", &out, 20, 22)
		})
	})
	b.Run("oneway", func(b *testing.B) {
		benchmarkProxy(b, uri, func(ctx context.Context, p *Proxy) error { return p.CallOneway(ctx, "echo", text) })
	})
	b.Run("parallel8", func(b *testing.B) {
		p := NewProxy(uri, ProxyOptions{})
		defer p.Close()
		b.ReportAllocs()
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				var out string
				if err := p.Call(context.Background(), "echo", &out, text); err != nil {
					b.Error(err)
					return
				}
			}
		})
		reportRate(b)
	})
}

func benchmarkProxy(b *testing.B, uri URI, call func(ctx context.Context, p *Proxy) error) {
	p := NewProxy(uri, ProxyOptions{})
	defer p.Close()
	ctx := context.Background()
	if err := call(ctx, p); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := call(ctx, p); err != nil {
			b.Fatal(err)
		}
	}
	reportRate(b)
}

func reportRate(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s") }

// messageBytes is how long the messages of an echo are.
func messageBytes(b *testing.B, text string) (request, reply int) {
	s, _ := SerializerByName("msgpack")
	payload, err := s.AppendRequest(nil, Request{Object: "echo", Method: "echo", Args: []any{text}, Kwargs: noKwargs})
	if err != nil {
		b.Fatal(err)
	}
	result, err := s.AppendValue(nil, text)
	if err != nil {
		b.Fatal(err)
	}
	return headerBytes + len(payload), headerBytes + len(result)
}

// benchmarkRaw plays ping-pong.
func benchmarkRaw(b *testing.B, requestBytes, replyBytes int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		in, out := make([]byte, requestBytes), make([]byte, replyBytes)
		for {
			if _, err := io.ReadFull(nc, in); err != nil {
				return
			}
			if _, err := nc.Write(out); err != nil {
				return
			}
		}
	}()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	out, in := make([]byte, requestBytes), make([]byte, replyBytes)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nc.Write(out); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(nc, in); err != nil {
			b.Fatal(err)
		}
	}
	reportRate(b)
	nc.Close()
	<-done
}
