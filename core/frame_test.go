package core

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var zeroID = strings.Repeat(" 00", 16)

// golden are messages as Pyro5 5.17 (CPython 3.11) sends them: protocol.SendingMessage(...).data in hexadecimal.
var golden = []struct {
	name        string
	frame       string
	header      header // without lengths
	annotations Annotations
	payload     string
	rewritten   bool // the bytes come out the same when written again (deflate's may not)
}{
	{
		name: "CONNECT in serpent",
		frame: "50 59 52 4f 01 f6 01 01 00 00 00 00 00 00 00 4a 00 00 00 00" + zeroID + "00 00 4d c5" +
			hex.EncodeToString([]byte("# serpent utf-8 python3.2\n{'handshake':'hello','object':'Pyro.NameServer'}")),
		header:    header{typ: msgConnect, serializer: 1},
		payload:   "# serpent utf-8 python3.2\n{'handshake':'hello','object':'Pyro.NameServer'}",
		rewritten: true,
	},
	{
		name: "INVOKE in msgpack with annotation and correlation id",
		frame: "50 59 52 4f 01 f6 04 04 00 40 12 34 00 00 00 07 00 00 00 0b 12 34 56 78 12 34 56 78 12 34 56 78 12 34 56 78 " +
			"00 00 4d c5 41 42 43 44 00 00 00 03 78 79 7a 94 a1 6f a1 6d 90 80",
		header: header{typ: msgInvoke, serializer: 4, flags: flagCorrelationID, seq: 0x1234, correlationID: [16]byte{
			0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78}},
		annotations: Annotations{"ABCD": []byte("xyz")},
		payload:     "\x94\xa1o\xa1m\x90\x80",
		rewritten:   true,
	},
	{
		name:      "PING",
		frame:     "50 59 52 4f 01 f6 06 2a 00 00 00 00 00 00 00 04 00 00 00 00" + zeroID + "00 00 4d c5 70 69 6e 67",
		header:    header{typ: msgPing, serializer: pingSerializer},
		payload:   "ping",
		rewritten: true,
	},
	{
		name: "RESULT, compressed",
		frame: "50 59 52 4f 01 f6 05 01 00 02 00 01 00 00 00 0c 00 00 00 00" + zeroID +
			"00 00 4d c5 78 5e 4b 4c a4 03 00 00 a0 8d 26 46",
		header:  header{typ: msgResult, serializer: 1, seq: 1},
		payload: strings.Repeat("a", 101),
	},
}

func TestGoldenFrames(t *testing.T) {
	t.Parallel()
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			frame := fromHex(t, g.frame)
			m, rest, err := parseMessage(frame, 1<<20)
			if err != nil || len(rest) != 0 {
				t.Fatalf("parse: %v, %d bytes left", err, len(rest))
			}
			checkMessage(t, m, g.header, g.annotations, g.payload)
			if !g.rewritten {
				return
			}
			out, err := appendMessage(nil, g.header, g.annotations, []byte(g.payload))
			if err != nil || !bytes.Equal(out, frame) {
				t.Fatalf("append: %v\n got %x\nwant %x", err, out, frame)
			}
		})
	}
}

func checkMessage(t *testing.T, m message, h header, a Annotations, payload string) {
	t.Helper()
	h.payloadLen, h.annotationsLen = m.payloadLen, m.annotationsLen
	if m.header != h {
		t.Errorf("header:\n got %+v\nwant %+v", m.header, h)
	}
	if got := m.annotationMap(); !maps.EqualFunc(got, a, bytes.Equal) {
		t.Errorf("annotations: got %q, want %q", got, a)
	}
	if string(m.payload) != payload {
		t.Errorf("payload: got %q, want %q", m.payload, payload)
	}
}

// TestCutFrames cuts every golden frame at every offset, and reads what is left byte by byte.
func TestCutFrames(t *testing.T) {
	t.Parallel()
	for _, g := range golden {
		frame := fromHex(t, g.frame)
		for cut := range frame {
			_, _, err := parseMessage(frame[:cut], 1<<20)
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: parse of the first %d bytes: got %v, want %v", g.name, cut, err, io.ErrUnexpectedEOF)
			}
			_, err = readAll(iotest.OneByteReader(bytes.NewReader(frame[:cut])))
			want := io.ErrUnexpectedEOF
			if cut == 0 {
				want = io.EOF
			}
			if err != want {
				t.Errorf("%s: read of the first %d bytes: got %v, want %v", g.name, cut, err, want)
			}
		}
		m, err := readAll(iotest.OneByteReader(bytes.NewReader(frame)))
		if err != nil || string(m.payload) != g.payload {
			t.Errorf("%s: one byte at a time: got %q, %v, want %q", g.name, m.payload, err, g.payload)
		}
	}
}

// readAll reads a message from r through a wire.
func readAll(r io.Reader) (message, error) {
	return newWire(readOnlyConn{Reader: r}, 1<<20).readMessage()
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	ping := fromHex(t, golden[2].frame)
	annotated := fromHex(t, golden[1].frame)
	change := func(frame []byte, at int, b ...byte) []byte {
		frame = bytes.Clone(frame)
		copy(frame[at:], b)
		return frame
	}
	compressed := func(payload []byte) []byte {
		b, err := appendMessage(nil, header{typ: msgResult, flags: flagCompressed}, nil, payload)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, test := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"tag", change(ping, 0, 'X'), "invalid data"},
		{"version 503", change(ping, 4, 0x01, 0xf7), "invalid protocol version: 503"},
		{"protocol 48", change(ping, 4, 0x00, 0x30), "invalid protocol version: 48"},
		{"magic", change(ping, 38, 0), "invalid message or protocol version"},
		{"payload of 4 GiB", change(ping, 12, 0xff, 0xff, 0xff, 0xff), "message too large (4294967295, max=1000)"},
		{"annotations of 4 GiB", change(ping, 16, 0xff, 0xff, 0xff, 0xff), "message too large (4294967299, max=1000)"},
		{"both too large together", change(change(ping, 12, 0, 0, 2), 16, 0, 0, 2), "message too large (1028, max=1000)"},
		{"chunk longer than the annotations", change(annotated, 47, 4), "annotation chunk length exceeds remaining data"},
		{"chunk of 4 GiB", change(annotated, 44, 0xff, 0xff, 0xff, 0xff), "annotation chunk length exceeds remaining data"},
		{"chunk shorter than the annotations", change(annotated, 47, 2), "annotation chunk length exceeds remaining data"},
		{"annotation id", change(annotated, 40, 0xff), `annotation id "\xffBCD" is not ascii`},
		{"no zlib", compressed([]byte("plain")), "compressed payload: zlib: invalid header"},
		{"zlib cut", compressed([]byte{0x78, 0x5e, 0x4b}), "compressed payload: unexpected EOF"},
		{"zip bomb", compressed(deflate(t, 100<<10)), "message too large (inflated, max=1000)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			frame := test.frame
			if len(frame) < 1000 {
				frame = append(bytes.Clone(frame), make([]byte, 1000)...)
			}
			_, _, err := parseMessage(frame, 1000)
			if err == nil || err.Error() != test.want || !errors.Is(err, ProtocolError) {
				t.Errorf("parse: got %v, want %s", err, test.want)
			}
			w := newWire(readOnlyConn{Reader: bytes.NewReader(frame)}, 1000)
			if _, err := w.readMessage(); err == nil || err.Error() != test.want {
				t.Errorf("read: got %v, want %s", err, test.want)
			}
		})
	}
}

// deflate compresses n zeros.
func deflate(t testing.TB, n int) []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// allocated is how many bytes f takes, whether it keeps them or not.  No other test may run meanwhile.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestMemoryOfLies reads messages that claim to be long and are not.
func TestMemoryOfLies(t *testing.T) {
	t.Run("lengths", func(t *testing.T) {
		frame := fromHex(t, golden[2].frame)
		copy(frame[12:], []byte{0x3f, 0xff, 0xff, 0xff}) // 1 GiB
		var err error
		n := allocated(func() {
			_, err = newWire(readOnlyConn{Reader: bytes.NewReader(frame)}, 1<<30).readMessage()
		})
		if err != io.ErrUnexpectedEOF || n > 1<<20 {
			t.Errorf("1 GiB claimed, 4 bytes sent: got %v and %d bytes allocated, want %v and less than 1 MiB", err, n, io.ErrUnexpectedEOF)
		}
	})
	t.Run("zip bomb", func(t *testing.T) {
		bomb := deflate(t, 32<<20)
		frame, err := appendMessage(nil, header{typ: msgInvoke, flags: flagCompressed}, nil, bomb)
		if err != nil {
			t.Fatal(err)
		}
		n := allocated(func() { _, _, err = parseMessage(frame, 1<<20) })
		if !errors.Is(err, ProtocolError) || n > 12<<20 {
			t.Errorf("32 MiB in %d bytes: got %v and %d bytes allocated, want an error and less than 12 MiB", len(bomb), err, n)
		}
	})
}

func TestAppendMessage(t *testing.T) {
	t.Parallel()
	t.Run("annotation ids", func(t *testing.T) {
		t.Parallel()
		for _, id := range []string{"", "ABC", "ABCDE", "ÄBC"} {
			b, err := appendMessage([]byte("kept"), header{}, Annotations{id: nil}, nil)
			if err == nil || string(b) != "kept" {
				t.Errorf("id %q: got %q, %v, want an error", id, b, err)
			}
		}
	})
	t.Run("order", func(t *testing.T) {
		t.Parallel()
		a := Annotations{"BBBB": []byte("2"), "AAAA": []byte("1"), "CCCC": nil}
		b, err := appendMessage(nil, header{}, a, []byte("p"))
		if err != nil {
			t.Fatal(err)
		}
		if want := "AAAA\x00\x00\x00\x011BBBB\x00\x00\x00\x012CCCC\x00\x00\x00\x00p"; string(b[headerBytes:]) != want {
			t.Errorf("got %q, want %q", b[headerBytes:], want)
		}
	})
	t.Run("the last of several counts", func(t *testing.T) {
		t.Parallel()
		m := message{annotations: []byte("AAAA\x00\x00\x00\x011AAAA\x00\x00\x00\x012")}
		if data, ok := m.annotation("AAAA"); !ok || string(data) != "2" {
			t.Errorf("got %q, %v, want 2", data, ok)
		}
		if got := m.annotationMap(); string(got["AAAA"]) != "2" {
			t.Errorf("got %q, want 2", got)
		}
	})
}

func TestContractsAnnotation(t *testing.T) {
	t.Parallel()
	contracts := map[string]Contract{"get": ContractReadOnly, "put": ContractIdempotent, "post": ContractPlain}
	data := appendContracts(nil, []string{"get", "post", "put"}, contracts)
	if want := "get=2\nput=1\n"; string(data) != want {
		t.Errorf("got %q, want %q", data, want)
	}
	delete(contracts, "post")
	if got := parseContracts(data); !maps.Equal(got, contracts) {
		t.Errorf("got %v, want %v", got, contracts)
	}
	if got := parseContracts([]byte("a=9\nb\nc=12\nd=0\n=\n\nget=2")); !maps.Equal(got, map[string]Contract{"get": ContractReadOnly}) {
		t.Errorf("unknown numbers and nonsense: got %v, want only get", got)
	}
}

// FuzzParseMessage checks that what is parsed is written to the same bytes again, and that the size bound holds.
func FuzzParseMessage(f *testing.F) {
	for _, g := range golden {
		f.Add(fromHex(f, g.frame))
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, data []byte) {
		m, rest, err := parseMessage(data, limit)
		if err != nil {
			return
		}
		if len(m.payload)+len(m.annotations) > limit {
			t.Fatalf("%d bytes, limit %d", len(m.payload)+len(m.annotations), limit)
		}
		again, err := appendMessage(nil, m.header, m.annotationMap(), m.payload)
		if err != nil {
			t.Fatalf("append: %v", err)
		}
		m2, _, err := parseMessage(again, limit+headerBytes)
		if err != nil {
			t.Fatalf("parse what was appended: %v", err)
		}
		if !bytes.Equal(m2.payload, m.payload) || !maps.EqualFunc(m2.annotationMap(), m.annotationMap(), bytes.Equal) {
			t.Fatalf("got %+v, want %+v", m2, m)
		}
		if len(rest) >= len(data) {
			t.Fatalf("%d bytes left of %d", len(rest), len(data))
		}
	})
}

// compress is what Pyro5 does to a payload with COMPRESSION.
func compress(t testing.TB, payload []byte) []byte {
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFrameAllocs reads and writes messages with buffers that are there already.
func TestFrameAllocs(t *testing.T) {
	frame := fromHex(t, golden[0].frame)
	source := bytes.NewReader(frame)
	w := newWire(readOnlyConn{Reader: source}, 1000)
	payload := []byte(golden[0].payload)
	n := testing.AllocsPerRun(100, func() {
		source.Reset(frame)
		m, err := w.readMessage()
		if err != nil {
			t.Fatal(err)
		}
		if w.out, err = appendMessage(w.out[:0], m.header, nil, payload); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 || !bytes.Equal(w.out, frame) {
		t.Errorf("%v allocations per message, want 0", n)
	}
}
