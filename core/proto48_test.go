package core

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"strings"
	"testing"
	"testing/iotest"
)

// golden48Text is what Pyro4 writes, made by testdata/golden48.py.
//
//go:embed testdata/golden48.txt
var golden48Text string

// golden48Vector is a line of it.
type golden48Vector struct {
	kind, name string
	detail     string // the key of a frame, the serializer of a value
	data       []byte
}

func golden48Vectors(tb testing.TB) []golden48Vector {
	tb.Helper()
	var vectors []golden48Vector
	for line := range strings.Lines(golden48Text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 4 {
			tb.Fatalf("golden48.txt: %q", line)
		}
		vectors = append(vectors, golden48Vector{f[0], f[1], f[2], fromHex(tb, f[3])})
	}
	if len(vectors) < 50 {
		tb.Fatalf("golden48.txt has %d lines", len(vectors))
	}
	return vectors
}

// proto is what a connection has that reads the frame.
func (v golden48Vector) proto() *proto48 {
	if v.detail == "-" {
		return &proto48{}
	}
	return &proto48{key: []byte(v.detail)}
}

var golden48ID = [16]byte{0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78, 0x12, 0x34, 0x56, 0x78}

// golden48Frames are the frames of golden48.txt, as they would be with protocol 502.
var golden48Frames = map[string]struct {
	header      header
	annotations Annotations
	payload     string
	meta        bool
	deflated    bool // bytes that Go would not make of the same
}{
	"connect": {meta: true, header: header{typ: msgConnect, serializer: 1},
		payload: serpentHeader + "{'handshake':'hello','object':'o'}"},
	"connect without metadata": {header: header{typ: msgConnect, serializer: 3}, payload: `{"handshake": "hello"}`},
	"connectok": {meta: true, header: header{typ: msgConnectOK, serializer: 3, seq: 7, flags: flagCorrelationID, correlationID: golden48ID},
		payload: `{"handshake": "hello", "meta": {"methods": ["m"], "oneway": [], "attrs": []}}`},
	"connectfail": {header: header{typ: msgConnectFail, serializer: 1}, payload: serpentHeader + "'no'"},
	"invoke msgpack": {
		header:      header{typ: msgInvoke, serializer: msgpackID, seq: 0x1234, flags: flagCorrelationID, correlationID: golden48ID},
		annotations: Annotations{"ABCD": []byte("xyz")}, payload: "\x94\xa1o\xa1m\x92\x01\xa1x\x80"},
	"oneway batch": {header: header{typ: msgInvoke, serializer: 3, seq: 65535, flags: flagOneway | flagBatch},
		payload: `{"object": "o", "method": "<batch>", "params": [["m", [1], {}]], "kwargs": null}`},
	"invoke pickle": {header: header{typ: msgInvoke, serializer: 4 | unknown48}, payload: "\x80\x04N."},
	"blob":          {header: header{typ: msgInvoke, serializer: 1, flags: flagKeepSerialized}, payload: serpentHeader + "None"},
	"stream": {header: header{typ: msgResult, serializer: 1, seq: 3, flags: flagException | flagItemStream},
		annotations: Annotations{"STRM": []byte("id")}, payload: serpentHeader + "None"},
	"compressed": {deflated: true, header: header{typ: msgResult, serializer: 1, seq: 1}, payload: serpentHeader + "'" + strings.Repeat("a", 1000) + "'"},
	"signed": {header: header{typ: msgInvoke, serializer: 1, seq: 1, flags: flagCorrelationID, correlationID: golden48ID},
		annotations: Annotations{"ABCD": []byte("xyz"), "ZZZZ": []byte("last")}, payload: serpentHeader + "('o','m',(),{})"},
	"signed without annotations": {header: header{typ: msgPing, serializer: pingSerializer | unknown48}, payload: "ping"},
	"ping":                       {header: header{typ: msgPing, serializer: pingSerializer | unknown48}, payload: "ping"},
}

func TestGolden48Frames(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, g := range golden48Vectors(t) {
		if g.kind != "frame" {
			continue
		}
		want, ok := golden48Frames[g.name]
		if !ok {
			t.Errorf("golden48.txt: no frame %q is expected", g.name)
		}
		seen++
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			p := g.proto()
			m, rest, err := p.parse48(append(bytes.Clone(g.data), "next"...), 1<<20)
			if err != nil || string(rest) != "next" || p.meta != want.meta {
				t.Fatalf("parse: %v, %q left, metadata %v", err, rest, p.meta)
			}
			checkMessage(t, m, want.header, want.annotations, want.payload)
			if want.deflated {
				return
			}
			out, err := appendMessage([]byte("before"), want.header, want.annotations, []byte(want.payload))
			if err == nil {
				out, err = p.translate(out, len("before"))
			}
			if err != nil || !bytes.Equal(out, append([]byte("before"), g.data...)) {
				t.Fatalf("append: %v\n got %x\nwant %x", err, out, g.data)
			}
		})
	}
	if seen != len(golden48Frames) {
		t.Errorf("golden48.txt has %d of %d frames", seen, len(golden48Frames))
	}
}

// readAll48 reads a message from r through a wire.
func readAll48(p *proto48, r io.Reader) (message, error) {
	w := newWire(readOnlyConn{Reader: r}, 1<<20)
	w.pyro4 = p
	return w.readMessage()
}

// TestCut48Frames cuts every golden frame at every offset, and reads what is left byte by byte.
func TestCut48Frames(t *testing.T) {
	t.Parallel()
	for _, g := range golden48Vectors(t) {
		if g.kind != "frame" {
			continue
		}
		for cut := range g.data {
			if _, _, err := g.proto().parse48(g.data[:cut], 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: parse of the first %d bytes: got %v, want %v", g.name, cut, err, io.ErrUnexpectedEOF)
			}
			_, err := readAll48(g.proto(), iotest.OneByteReader(bytes.NewReader(g.data[:cut])))
			want := io.ErrUnexpectedEOF
			if cut == 0 {
				want = io.EOF
			}
			if err != want {
				t.Errorf("%s: read of the first %d bytes: got %v, want %v", g.name, cut, err, want)
			}
		}
		m, err := readAll48(g.proto(), iotest.OneByteReader(bytes.NewReader(g.data)))
		if want := golden48Frames[g.name].payload; err != nil || string(m.payload) != want {
			t.Errorf("%s: one byte at a time: got %q, %v, want %q", g.name, m.payload, err, want)
		}
	}
}

// frame48 makes a message by hand: of what is right, and of what changes make of it before the checksum is.
func frame48(typ, flags, serializer uint16, annotations, payload []byte, change ...func(b []byte)) []byte {
	b := append([]byte(headerTag), make([]byte, header48Bytes-len(headerTag))...)
	for at, v := range map[int]uint16{4: version48, 6: typ, 8: flags, 16: serializer, 18: uint16(len(annotations))} {
		binary.BigEndian.PutUint16(b[at:], v)
	}
	binary.BigEndian.PutUint32(b[12:], uint32(len(payload)))
	for _, f := range change {
		f(b)
	}
	sum := uint32(checksum48)
	for _, at := range []int{4, 6, 8, 10, 16, 18} {
		sum += uint32(binary.BigEndian.Uint16(b[at:]))
	}
	sum += binary.BigEndian.Uint32(b[12:])
	binary.BigEndian.PutUint16(b[22:], uint16(sum&0xffff))
	return append(append(b, annotations...), payload...)
}

func TestBad48Frames(t *testing.T) {
	t.Parallel()
	put := func(at int, v uint32) func(b []byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) }
	}
	changed := func(at int, v byte) []byte {
		b := frame48(msgPing, 0, 1, nil, []byte("ping"))
		b[at] = v
		return b
	}
	signed := func(key string, annotations, payload string) []byte {
		p := &proto48{key: []byte(key)}
		chunks, err := parseChunks48([]byte(annotations))
		if err != nil {
			t.Fatal(err)
		}
		return frame48(msgPing, 0, 1, append([]byte(annotations+"HMAC\x00\x14"), p.sign(chunks, []byte(payload))...), []byte(payload))
	}
	for _, test := range []struct {
		name  string
		frame []byte
		key   string
		want  string // empty: it is right
		class ExceptionClass
	}{
		{name: "right", frame: frame48(msgPing, 0, 1, nil, []byte("ping"))},
		{name: "unknown flags", frame: frame48(msgPing, 0xff80, 1, nil, []byte("ping"))},
		{name: "tag", frame: changed(0, 'X'), want: "invalid data"},
		{name: "version 47", frame: changed(5, 47), want: "invalid protocol version: 47"},
		{name: "version 502", frame: append([]byte("PYRO\x01\xf6"), changed(0, 'P')[6:]...), want: "invalid protocol version: 502"},
		{name: "checksum", frame: changed(23, 1), want: "header checksum mismatch"},
		{name: "sequence without checksum", frame: changed(11, 1), want: "header checksum mismatch"},
		{name: "type", frame: frame48(0x105, 0, 1, nil, nil), want: "invalid msg type 261 received"},
		{name: "serializer", frame: frame48(msgPing, 0, 0x101, nil, nil), want: "invalid serializer 257"},
		{name: "serializer that would be another", frame: frame48(msgPing, 0, unknown48|1, nil, nil), want: "invalid serializer 129"},
		{name: "negative payload", frame: frame48(msgPing, 0, 1, nil, nil, put(12, 0xffffffff)), want: "invalid message size (outside range 0..2Gb)"},
		{name: "large payload", frame: frame48(msgPing, 0, 1, nil, nil, put(12, 0x7fffffff)), want: "message too large (2147483647, max=1000)"},
		{name: "large together", frame: frame48(msgPing, 0, 1, nil, nil, put(12, 600), func(b []byte) { binary.BigEndian.PutUint16(b[18:], 500) }),
			want: "message too large (1100, max=1000)"},
		{name: "chunk header", frame: frame48(msgPing, 0, 1, []byte("ABCD\x00"), nil), want: "annotation chunk length exceeds remaining data"},
		{name: "chunk length", frame: frame48(msgPing, 0, 1, []byte("ABCD\x00\x02x"), nil), want: "annotation chunk length exceeds remaining data"},
		{name: "chunk of 64 KiB", frame: frame48(msgPing, 0, 1, []byte("ABCD\xff\xffx"), nil), want: "annotation chunk length exceeds remaining data"},
		{name: "annotation id", frame: frame48(msgPing, 0, 1, []byte("\xffBCD\x00\x00"), nil), want: `annotation id "\xffBCD" is not ascii`},
		{name: "correlation id", frame: frame48(msgPing, 0, 1, []byte("CORR\x00\x01x"), nil), want: "correlation id has 1 bytes, want 16"},
		{name: "no zlib", frame: frame48(msgPing, flagCompressed, 1, nil, []byte("plain")), want: "compressed payload: zlib: invalid header"},
		{name: "zip bomb", frame: frame48(msgPing, flagCompressed, 1, nil, deflate(t, 100<<10)), want: "message too large (inflated, max=1000)"},

		{name: "signed", frame: signed("key", "ABCD\x00\x01x", "ping"), key: "key"},
		{name: "another key", frame: signed("other", "", "ping"), key: "key", want: "message hmac mismatch", class: SecurityError},
		{name: "another payload", frame: append(signed("key", "", "ping")[:50], "pong"...), key: "key", want: "message hmac mismatch", class: SecurityError},
		{name: "another annotation", frame: bytes.Replace(signed("key", "ABCD\x00\x01x", "p"), []byte("\x01x"), []byte("\x01y"), 1), key: "key",
			want: "message hmac mismatch", class: SecurityError},
		{name: "not signed", frame: frame48(msgPing, 0, 1, nil, []byte("ping")), key: "key", want: "hmac key config not symmetric", class: SecurityError},
		{name: "signed for nobody", frame: signed("key", "", "ping"), want: "hmac key config not symmetric", class: SecurityError},
		{name: "short signature", frame: frame48(msgPing, 0, 1, []byte("HMAC\x00\x00"), nil), key: "key", want: "message hmac mismatch", class: SecurityError},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			class := test.class
			if class == "" {
				class = ProtocolError
			}
			check := func(how string, err error) {
				t.Helper()
				switch {
				case test.want == "":
					if err != nil {
						t.Errorf("%s: %v", how, err)
					}
				case err == nil || err.Error() != test.want || !errors.Is(err, class):
					t.Errorf("%s: got %v, want %s", how, err, test.want)
				}
			}
			frame := append(bytes.Clone(test.frame), make([]byte, 100)...)
			_, _, err := (&proto48{key: []byte(test.key)}).parse48(frame, 1000)
			check("parse", err)
			w := newWire(readOnlyConn{Reader: bytes.NewReader(frame)}, 1000)
			w.pyro4 = &proto48{key: []byte(test.key)}
			_, err = w.readMessage()
			check("read", err)
		})
	}
}

func TestDuplicate48Annotations(t *testing.T) {
	t.Parallel()
	m, _, err := new(proto48).parse48(frame48(msgPing, 0, 1, []byte("BBBB\x00\x012AAAA\x00\x011BBBB\x00\x013"), nil), 1000)
	if got, want := m.annotationMap(), (Annotations{"AAAA": []byte("1"), "BBBB": []byte("3")}); err != nil || !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("got %q, %v, want %q: the last one counts", got, err, want)
	}
}

// TestTranslate tells what protocol 48 cannot express, and what is not the caller's to say.
func TestTranslate(t *testing.T) {
	t.Parallel()
	large := make([]byte, 40_000)
	for _, test := range []struct {
		name string
		a    Annotations
		want string // of the error
		sent Annotations
	}{
		{name: "largest", a: Annotations{"AAAA": make([]byte, max48Annotation-6)}, sent: Annotations{"AAAA": make([]byte, max48Annotation-6)}},
		{name: "too large", a: Annotations{"AAAA": make([]byte, max48Annotation+1)}, want: "annotation AAAA of 65536 bytes, want at most 65535 with protocol 48"},
		{name: "too large together", a: Annotations{"AAAA": large, "BBBB": large}, want: "annotations of 80012 bytes, want at most 65535 with protocol 48"},
		{name: "reserved", a: Annotations{"CORR": []byte("x"), "HMAC": []byte("y"), "AAAA": []byte("z")}, sent: Annotations{"AAAA": []byte("z")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b, err := appendMessage(nil, header{typ: msgPing, serializer: 1}, test.a, []byte("ping"))
			if err != nil {
				t.Fatal(err)
			}
			out, err := new(proto48).translate(bytes.Clone(b), 0)
			if test.want != "" {
				if err == nil || err.Error() != test.want || !errors.Is(err, ProtocolError) || !bytes.Equal(out, b) {
					t.Errorf("got %v, want %s, and the bytes as they were", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m, _, err := new(proto48).parse48(out, 1<<20)
			if got := m.annotationMap(); err != nil || !maps.EqualFunc(got, test.sent, bytes.Equal) {
				t.Errorf("got %d annotations, %v, want %d", len(got), err, len(test.sent))
			}
		})
	}
}

// TestMemoryOf48Lies reads a message that claims to be long and is not.
func TestMemoryOf48Lies(t *testing.T) {
	frame := frame48(msgPing, 0, 1, nil, nil, func(b []byte) { b[12] = 0x3f })
	var err error
	n := allocated(func() {
		w := newWire(readOnlyConn{Reader: bytes.NewReader(frame)}, 1<<30)
		w.pyro4 = new(proto48)
		_, err = w.readMessage()
	})
	if err != io.ErrUnexpectedEOF || n > 1<<20 {
		t.Errorf("1 GiB claimed, nothing sent: got %v and %d bytes allocated, want %v and less than 1 MiB", err, n, io.ErrUnexpectedEOF)
	}
}

// FuzzParse48 checks that what is parsed means the same when it is written again, with and without a signature, and that the size bound holds.
func FuzzParse48(f *testing.F) {
	for _, g := range golden48Vectors(f) {
		if g.kind == "frame" {
			f.Add(g.data, g.detail == "secret")
		}
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, data []byte, signed bool) {
		p := new(proto48)
		if signed {
			p.key = []byte("secret")
		}
		kept := bytes.Clone(data)
		m, rest, err := p.parse48(data, limit)
		if !bytes.Equal(kept, data) {
			t.Fatal("the message was changed")
		}
		if err != nil {
			return
		}
		if len(rest) >= len(data) || len(m.payload) > limit {
			t.Fatalf("%d bytes left of %d, payload of %d bytes, limit %d", len(rest), len(data), len(m.payload), limit)
		}
		again, err := appendMessage(nil, m.header, m.annotationMap(), m.payload)
		if err == nil {
			again, err = p.translate(again, 0)
		}
		if err != nil {
			t.Fatalf("translate %x: %v", data, err)
		}
		q := &proto48{key: p.key}
		m2, _, err := q.parse48(again, 2*limit)
		if err != nil {
			t.Fatalf("parse what was written: %v", err)
		}
		same := m2.header
		same.payloadLen, same.annotationsLen = m.payloadLen, m.annotationsLen
		if same != m.header || !bytes.Equal(m2.payload, m.payload) || !maps.EqualFunc(m2.annotationMap(), m.annotationMap(), bytes.Equal) || q.meta != p.meta {
			t.Fatalf("got %+v, want %+v", m2, m)
		}
	})
}

// TestSerializers48 maps every id there and back.
func TestSerializers48(t *testing.T) {
	t.Parallel()
	for id := range uint16(0x200) {
		ours, ok := serializerFrom48(id)
		if !ok {
			if id < unknown48 {
				t.Errorf("id %d is refused", id)
			}
			continue
		}
		if got := serializerTo48(ours); got != id {
			t.Errorf("id %d: got %d back", id, got)
		}
		s, known := pyro4SerializerByID(ours)
		want := map[uint16]string{1: "serpent", 2: "json", 3: "marshal", 6: "msgpack"}[id]
		if known != (want != "") || known && s.Name() != want {
			t.Errorf("id %d: got %v, want %q", id, s, want)
		}
	}
}

func pyro4SerializerByID(id uint8) (Serializer, bool) {
	for _, s := range pyro4Serializers {
		if s.ID() == id {
			return s, true
		}
	}
	return nil, false
}
