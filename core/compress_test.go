package core

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
)

// spec: Z2
func TestCompressMessage(t *testing.T) {
	t.Parallel()
	random := make([]byte, 1000)
	source := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(source.Uint32())
	}
	for _, tt := range []struct {
		name    string
		payload string
		smaller bool
	}{
		{"empty", "", false}, {"100 bytes", strings.Repeat("a", 100), false}, {"101 bytes", strings.Repeat("a", 101), true},
		{"does not get shorter", string(random), false}, {"long", strings.Repeat("text ", 1<<18), true},
	} {
		for _, a := range []Annotations{nil, {"TEST": []byte("data")}} {
			plain, err := appendMessage([]byte("before"), header{typ: msgInvoke, serializer: 4, seq: 7, flags: flagOneway}, a, []byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			length := len(plain)
			packed := compressMessage(plain, len("before"))
			if smaller := len(packed) < length; smaller != tt.smaller || string(packed[:6]) != "before" {
				t.Errorf("%s: %d bytes became %d", tt.name, length, len(packed))
			}
			m, rest, err := parseMessage(packed[6:], 1<<21)
			if err != nil || len(rest) != 0 || string(m.payload) != tt.payload || m.seq != 7 || m.flags != flagOneway || len(m.annotationMap()) != len(a) {
				t.Errorf("%s: got %+v, %v", tt.name, m.header, err)
			}
		}
	}
}

// sizeObserver adds up what calls take.
type sizeObserver struct{ sent, received atomic.Int64 }

func (o *sizeObserver) Method(string, string) CallObserver { return o }
func (o *sizeObserver) ObserveConn(ConnEvent)              {}

func (o *sizeObserver) ObserveCall(x Observation) {
	o.sent.Add(int64(x.Sent))
	o.received.Add(int64(x.Received))
}

// TestCompressedCalls counts what the requests and replies of calls take.
//
// spec: Z2
func TestCompressedCalls(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("text ", 1000)
	for _, s := range []string{"serpent", "marshal", "json", "msgpack"} {
		for _, compress := range []bool{false, true} {
			observer := &sizeObserver{}
			_, _, p := serveAccount(t, DaemonOptions{Compress: compress}, ProxyOptions{Serializer: s, Compress: compress, Observer: observer})
			for range 3 {
				var got string
				if err := p.Call(t.Context(), "echo", &got, text); err != nil || got != text {
					t.Errorf("%s: got %d bytes, %v", s, len(got), err)
				}
			}
			for _, n := range []int64{observer.sent.Load(), observer.received.Load()} {
				if small := n < 3*1000; small != compress {
					t.Errorf("%s: compress %v: 3 messages of %d bytes took %d", s, compress, len(text), n)
				}
			}
		}
	}
}

// byteCounter remembers the calls that it observes.
type byteCounter struct{ last Observation }

func (c *byteCounter) Method(string, string) CallObserver { return c }
func (c *byteCounter) ObserveConn(ConnEvent)              {}
func (c *byteCounter) ObserveCall(o Observation)          { c.last = o }

// TestCompressedWays makes calls whose messages are compressed by none, one or both sides, on all ways that messages take.
//
// spec: Z2
func TestCompressedWays(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("text ", 200)
	direct := Method{Name: "direct", Params: []Param{{Name: "v"}}, Direct: func(ctx context.Context, args *Decoder, result *Encoder) error {
		v := args.String()
		if v == "annotate" {
			AnnotateReply(ctx, "TEST", []byte("x"))
			v = text
		}
		result.String(v)
		return args.Err()
	}}
	boxed := Method{Name: "boxed", Params: direct.Params, Func: func(_ context.Context, args []any) (any, error) { return args[0], nil }}
	failing := Method{Name: "failing", Func: func(context.Context, []any) (any, error) { return nil, ValueError.New("%s", text) }}
	for _, client := range []bool{false, true} {
		for _, server := range []bool{false, true} {
			d := serve(t, DaemonOptions{Compress: server})
			uri, err := d.Register("o", &Servant{Class: "O", Methods: []Method{direct, boxed, failing}}, ObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, opts := range []ProxyOptions{{}, {Plain: true}, {Serializer: "serpent"}, {Serializer: "json"}} {
				name := fmt.Sprintf("client %v, server %v, %+q plain %v", client, server, opts.Serializer, opts.Plain)
				counter := new(byteCounter)
				opts.Compress, opts.Observer = client, counter
				p := proxyFor(t, uri, opts)
				check := func(what string, got string, err error) {
					t.Helper()
					if err != nil || got != text {
						t.Errorf("%s, %s: got %.20q..., %v", name, what, got, err)
					}
					if o := counter.last; (o.Sent < len(text)) != client || (o.Received < len(text)) != server {
						t.Errorf("%s, %s: sent %d, received %d bytes", name, what, o.Sent, o.Received)
					}
				}
				for _, method := range []string{"direct", "boxed"} {
					var got string
					err := p.Call(t.Context(), method, &got, text)
					check(method, got, err)
				}
				v := NewInvocation("direct")
				v.Args.String(text)
				err := p.Invoke(t.Context(), v)
				check("invocation", v.Result.String(), err)
				v.Free()
				if client != server {
					continue // the others send no more than a few bytes
				}
				var got string
				if err := p.Call(t.Context(), "direct", &got, "annotate"); err != nil || got != text || (counter.last.Received < len(text)) != server {
					t.Errorf("%s, annotated: got %.20q..., %v, %d bytes", name, got, err, counter.last.Received)
				}
				if err := p.Call(t.Context(), "failing", nil); err == nil || err.Error() != "ValueError: "+text {
					t.Errorf("%s: exception: got %.30v...", name, err)
				}
				if err := p.CallOneway(t.Context(), "boxed", text); err != nil || (counter.last.Sent < len(text)) != client {
					t.Errorf("%s, oneway: %v, sent %d bytes", name, err, counter.last.Sent)
				}
			}
		}
	}
}
