package core

import (
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
