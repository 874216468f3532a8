package core

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

const mutatedInputs = 10000

// mutator spoils messages.
type mutator struct {
	*rand.Rand
	sources [][]byte
}

// next returns one of the sources with some changes.
func (m mutator) next() []byte {
	data := bytes.Clone(m.sources[m.IntN(len(m.sources))])
	for range 1 + m.IntN(4) {
		data = m.change(data)
	}
	return data
}

func (m mutator) change(data []byte) []byte {
	if len(data) == 0 {
		return []byte{byte(m.Uint32())}
	}
	i := m.IntN(len(data))
	j := min(len(data), i+1+m.IntN(16))
	switch m.IntN(8) {
	case 0:
		data[i] ^= 1 << m.IntN(8)
	case 1:
		data[i] = byte(m.Uint32())
	case 2:
		return append(data[:i], data[j:]...)
	case 3:
		return bytes.Join([][]byte{data[:j], data[i:]}, nil) // once more
	case 4:
		return data[:i]
	case 5:
		other := m.sources[m.IntN(len(m.sources))]
		return append(data[:i:i], other[min(i, len(other)):]...)
	case 6: // a length that lies, of either byte order
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], []uint32{1<<32 - 1, 1<<31 - 1, 1 << 31, 1 << 24, 0xff, 0xffffff7f}[m.IntN(6)])
		copy(data[i:], length[:])
	case 7:
		special := []string{"(", "[", "{", ")", "]", "}", "'", "\\", "\x00", "\xff", "-", "e", "9999999999", "__class__", "\xc1", "\x93", "c", "r\x00\x00\x00\x00",
			"<list>", "</list>", "<!DOCTYPE", "&a;", "\xed\xa0\x80", "1e999999999"}
		return bytes.Join([][]byte{data[:i], []byte(special[m.IntN(len(special))]), data[i:]}, nil)
	}
	return data
}

// valueSources are messages of a serializer.
func valueSources(t *testing.T, s Serializer) [][]byte {
	t.Helper()
	var sources [][]byte
	for _, g := range goldenVectors(t) {
		if g.serializer == s && g.refused == "" && len(g.data) < 2000 {
			sources = append(sources, g.data)
		}
	}
	corpus, err := os.ReadFile("testdata/values.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(corpus)) {
		if part := strings.Split(line, "\t"); part[0] == s.Name() {
			data, err := hex.DecodeString(part[1])
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, data)
		}
	}
	if s.Name() == "xml" {
		for _, v := range goldenValues() {
			data, err := s.AppendValue(nil, v)
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, data)
		}
	}
	return sources
}

// TestMutatedValues has no t.Parallel, as it measures the memory that the program takes.  What can be read of spoilt messages is also
// written, and read as the same.
//
// spec: Z1
func TestMutatedValues(t *testing.T) {
	for _, s := range []Serializer{serpentSerializer{}, marshalSerializer{}, jsonSerializer{}, msgpackSerializer{}, xmlSerializer{}} {
		t.Run(s.Name(), func(t *testing.T) {
			m := mutator{rand.New(rand.NewPCG(1, uint64(s.ID()))), valueSources(t, s)}
			refused := 0
			for range mutatedInputs {
				data := m.next()
				before := heapAllocs()
				v, err := s.ParseValue(data)
				if grown, limit := heapAllocs()-before, uint64(1<<20+1024*len(data)); grown > limit {
					t.Errorf("%q: reading %d bytes took %d bytes of memory, want at most %d", data, len(data), grown, limit)
				}
				if err != nil {
					refused++
				} else {
					fuzzValue(t, s, v)
				}
				if r, err := s.ParseRequest(data); err == nil {
					fuzzRequest(t, s, r)
				}
			}
			if refused < mutatedInputs/4 || refused > mutatedInputs*99/100 {
				t.Errorf("%d of %d refused", refused, mutatedInputs)
			}
		})
	}
}

// TestMutatedFrames does the same for whole messages, compressed ones too.  It has no t.Parallel, either.
func TestMutatedFrames(t *testing.T) {
	const limit = 1 << 20
	var sources [][]byte
	for _, payload := range [][]byte{nil, []byte("ping"), bytes.Repeat([]byte("payload "), 100)} {
		for _, a := range []Annotations{nil, {"TEST": []byte("data"), "LONG": make([]byte, 300)}} {
			plain, err := appendMessage(nil, header{typ: msgInvoke, serializer: 4, seq: 5}, a, payload)
			if err != nil {
				t.Fatal(err)
			}
			var z bytes.Buffer
			w := zlib.NewWriter(&z)
			w.Write(payload)
			w.Close()
			packed, err := appendMessage(nil, header{typ: msgResult, serializer: 1, flags: flagCompressed}, a, z.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			sources = append(sources, plain, packed)
		}
	}
	m := mutator{rand.New(rand.NewPCG(1, 502)), sources}
	accepted := 0
	for range mutatedInputs {
		data := m.next()
		before := heapAllocs()
		message, rest, err := parseMessage(data, limit)
		if grown := heapAllocs() - before; grown > limit+uint64(len(data)) {
			t.Errorf("%q: took %d bytes of memory", data, grown)
		}
		if err != nil {
			continue
		}
		accepted++
		again, err := appendMessage(nil, message.header, message.annotationMap(), message.payload)
		if err == nil {
			_, _, err = parseMessage(again, 2*limit)
		}
		if err != nil || len(rest) > len(data) {
			t.Errorf("%q: written as %q: %v", data, again, err)
		}
	}
	if accepted < mutatedInputs/50 {
		t.Errorf("%d of %d accepted", accepted, mutatedInputs)
	}
}

// TestZipBomb is a message that inflates to a thousand times its size.
//
// spec: Z2 Z4
func TestZipBomb(t *testing.T) {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	for range 24 {
		w.Write(make([]byte, 1<<20))
	}
	w.Close()
	data, err := appendMessage(nil, header{typ: msgInvoke, serializer: 4, flags: flagCompressed}, nil, z.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	before := heapAllocs()
	_, _, err = parseMessage(data, 1<<20)
	if grown := heapAllocs() - before; grown > 12<<20 {
		t.Errorf("refusing %d bytes took %d bytes of memory", len(data), grown)
	}
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v, want too large", err)
	}
	if m, _, err := parseMessage(data, 24<<20); err != nil || len(m.payload) != 24<<20 {
		t.Errorf("limit of its size: got %d bytes, %v", len(m.payload), err)
	}
}
