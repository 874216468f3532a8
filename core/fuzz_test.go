package core

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime/metrics"
	"strings"
	"testing"
)

func FuzzSerpent(f *testing.F) { fuzzSerializer(f, serpentSerializer{}) }
func FuzzMarshal(f *testing.F) { fuzzSerializer(f, marshalSerializer{}) }
func FuzzJSON(f *testing.F)    { fuzzSerializer(f, jsonSerializer{}) }
func FuzzMsgpack(f *testing.F) { fuzzSerializer(f, msgpackSerializer{}) }

// fuzzSerializer checks that s takes memory in proportion to the message, and that what it reads it also writes, to be read as the
// same.
func fuzzSerializer(f *testing.F, s Serializer) {
	for _, g := range goldenVectors(f) {
		if g.serializer == s && g.refused == "" {
			f.Add(g.data)
		}
	}
	for _, h := range hostileMessages() {
		if h.serializer == s && len(h.data) < 1000 {
			f.Add(h.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		kept := bytes.Clone(data)
		before := heapAllocs()
		v, err := s.ParseValue(data)
		// An empty dict takes 64 bytes for a byte; the growth of slices and the fuzzer itself take some more.
		if grown, limit := heapAllocs()-before, uint64(8<<20+512*len(data)); grown > limit {
			t.Errorf("%d bytes took %d bytes of memory, want at most %d", len(data), grown, limit)
		}
		if err == nil {
			fuzzValue(t, s, v)
		}
		if r, err := s.ParseRequest(data); err == nil {
			fuzzRequest(t, s, r)
		}
		if !bytes.Equal(kept, data) {
			t.Errorf("the message was changed")
		}
	})
}

func fuzzValue(t *testing.T, s Serializer, v any) {
	if fuzzSize(v) > 1e5 {
		return // references to references in marshal
	}
	written, err := s.AppendValue(nil, v)
	if errors.Is(err, errTooDeep) {
		return // serpent writes bytes as a dict, and an exception without arguments is written with empty ones
	}
	if err != nil {
		t.Fatalf("cannot write what was read: %s: %v", show(v), err)
	}
	again, err := s.ParseValue(written)
	if got, want := show(again), show(asRead(s.Name(), v)); err != nil || got != want {
		t.Fatalf("written as %q:\n got %s, %v\nwant %s", written, got, err, want)
	}
}

func fuzzRequest(t *testing.T, s Serializer, r Request) {
	if fuzzSize(r.Args)+fuzzSize(r.Kwargs) > 1e5 {
		return
	}
	written, err := s.AppendRequest(nil, r)
	if errors.Is(err, errTooDeep) {
		return
	}
	if err != nil {
		t.Fatalf("cannot write what was read: %s: %v", showRequest(r), err)
	}
	again, err := s.ParseRequest(written)
	r.Args = asRead(s.Name(), r.Args).([]any)
	if r.Kwargs != nil {
		r.Kwargs = asRead(s.Name(), r.Kwargs).(map[string]any)
	}
	if got, want := showRequest(again), showRequest(r); err != nil || got != want {
		t.Fatalf("written as %q:\n got %s, %v\nwant %s", written, got, err, want)
	}
}

// fuzzSize counts the values in v, up to some more than is of interest.
func fuzzSize(v any) int {
	n := 1
	add := func(x any) bool {
		n += fuzzSize(x)
		return n < 2e5
	}
	items, _ := sequence(v)
	for _, x := range items {
		if !add(x) {
			return n
		}
	}
	switch v := v.(type) {
	case map[string]any:
		for _, x := range v {
			if !add(x) {
				return n
			}
		}
	case Dict:
		for _, p := range v {
			if !add(p.Key) || !add(p.Value) {
				return n
			}
		}
	case ClassDict:
		add(v.Attrs)
	case ProxyState:
		add(v.Handshake)
	case *RemoteError:
		add(v.Args)
		add(v.Attributes)
	}
	return n
}

// heapAllocs is how many bytes the program has allocated.
func heapAllocs() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

type hostileMessage struct {
	name       string
	serializer Serializer
	data       []byte
	want       string // in the error
}

func hostileMessages() []hostileMessage {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		if err != nil {
			panic(err)
		}
		return b
	}
	many := func(s string, n int) []byte { return bytes.Repeat([]byte(s), n) }
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	m, p, j, s := msgpackSerializer{}, marshalSerializer{}, jsonSerializer{}, serpentSerializer{}
	return []hostileMessage{
		{"array of 2^31", m, unhex("dd7fffffff"), "too early"},
		{"array of 2^32", m, unhex("ddffffffff"), "too early"},
		{"map of 2^31", m, unhex("df7fffffff"), "too early"},
		{"map of 2^32", m, unhex("dfffffffff"), "too early"},
		{"text of 2^32", m, unhex("dbffffffff 61"), "too early"},
		{"bytes of 2^32", m, unhex("c6ffffffff 61"), "too early"},
		{"extension of 2^32", m, unhex("c9ffffffff 31"), "too early"},
		{"arrays in arrays", m, many("\x91", 8<<20), "deeper"},
		{"maps in maps", m, many("\x81\xa0", 4<<20), "deeper"},
		{"maps as keys", m, many("\x81", 8<<20), "deeper"},
		{"arrays that lie", m, many("\xdd\x00\x01\x00\x00", 1<<18), "deeper"},
		{"many values", m, join(unhex("dd01100000"), many("\xc0", 0x1100000)), "more than"},
		{"nothing", m, nil, "too early"},
		{"cut array", m, unhex("92c0"), "too early"},
		{"two values", m, unhex("c0c0"), "after the value"},
		{"unused code", m, unhex("c1"), "unknown code"},
		{"array as key", m, unhex("8190c0"), "unhashable"},
		{"not UTF-8", m, unhex("a1ff"), "UTF-8"},
		{"timestamp", m, unhex("d6ff00000000"), "extension type -1"},
		{"unknown extension", m, unhex("d42000"), "extension type 32"},
		{"short complex", m, unhex("d7300000000000000000"), "extension type 48"},
		{"integer of letters", m, unhex("d43141"), "no integer"},
		{"integer of 8 MB", m, join(unhex("c900800000 31"), many("9", 8<<20)), "digits"},
		{"year 10000", m, unhex("d732 00000040b9cc4d42"), "years"},
		{"nan time", m, unhex("d732 000000000000f87f"), "years"},
		{"date 0", m, unhex("d733 0000000000000000"), "years"},

		{"list of 2^31", p, unhex("5bffffff7f"), "too early"},
		{"list of 2^32", p, unhex("5bffffffff"), "too early"},
		{"tuple of 2^31", p, unhex("28ffffff7f"), "too early"},
		{"small tuple of 255", p, unhex("29ff4e"), "too early"},
		{"set of 2^31", p, unhex("3cffffff7f"), "too early"},
		{"text of 2^31", p, unhex("75ffffff7f61"), "too early"},
		{"bytes of 2^32", p, unhex("73ffffffff61"), "too early"},
		{"integer of 2^31 digits", p, unhex("6cffffff7f0100"), "too early"},
		{"integer of -2^31 digits", p, unhex("6c000000800100"), "too early"},
		{"lists in lists", p, many("[\x01\x00\x00\x00", 1<<20), "deeper"},
		{"dicts in dicts", p, many("{N", 4<<20), "deeper"},
		{"small tuples in small tuples", p, many(")\x01", 4<<20), "deeper"},
		{"lists that lie", p, many("[\x00\x00\x01\x00", 1<<17), "too early"},
		{"many values", p, join(unhex("5b00001001"), many("N", 0x1100000)), "more than"},
		{"code object", p, unhex("e3000000000000000000000000"), "unknown type 'c'"},
		{"StopIteration", p, unhex("53"), "unknown type 'S'"},
		{"null", p, unhex("30"), "unknown type '0'"},
		{"null in a list", p, unhex("5b0100000030"), "unknown type '0'"},
		{"reference to nothing", p, unhex("7200000000"), "reference to object 0 of 0"},
		{"reference to the list itself", p, unhex("db010000007200000000"), "contains it"},
		{"reference to the tuple itself", p, unhex("a9017200000000"), "contains it"},
		{"reference to the dict itself", p, unhex("fb4e720000000030"), "contains it"},
		{"references that multiply", p, marshalBomb(), "references to more than"},
		{"references that nest", p, marshalTower(), "deeper"},
		{"digit of 16 bits", p, unhex("6c01000000ffff"), "digit 65535"},
		{"zero in front", p, unhex("6c0200000001000000"), "zero in front"},
		{"list as key", p, unhex("7b5b000000004e30"), "unhashable"},
		{"list in a set", p, unhex("3c010000005b00000000"), "unhashable"},
		{"latin 1", p, unhex("7a01e9"), "UTF-8"},
		{"not UTF-8", p, unhex("7501000000ff"), "UTF-8"},
		{"float of letters", p, unhex("660161"), "no number"},
		{"two values", p, unhex("4e4e"), "after the value"},
		{"nothing", p, nil, "too early"},
		{"dict without end", p, unhex("7b4e4e"), "too early"},

		{"arrays in arrays", j, many("[", 8<<20), "deeper"},
		{"objects in objects", j, many(`{"":`, 2<<20), "deeper"},
		{"integer of 8 MB", j, many("9", 8<<20), "digits"},
		{"half of a pair", j, []byte(`"\ud800"`), "surrogate"},
		{"two halves of one kind", j, []byte(`"\ud800\ud800"`), "surrogate"},
		{"other half", j, []byte(`"\udc00\ud800"`), "surrogate"},
		{"raw surrogate", j, []byte("\"\xed\xa0\x80\""), "UTF-8"},
		{"control character", j, []byte("\"\n\""), `unexpected '\n'`},
		{"nothing", j, nil, "too early"},
		{"byte order mark", j, []byte("\ufeff1"), "unexpected"},
		{"two values", j, []byte("1 2"), "after the value"},
		{"zero in front", j, []byte("01"), "after the value"},
		{"no digit after the point", j, []byte("1."), "after the value"},
		{"plus", j, []byte("+1"), "unexpected '+'"},
		{"single quotes", j, []byte("'a'"), "unexpected"},
		{"comma at the end", j, []byte("[1,]"), "unexpected ']'"},
		{"key without quotes", j, []byte("{a:1}"), "unexpected 'a'"},
		{"no colon", j, []byte(`{"a" 1}`), "unexpected '1'"},
		{"cut", j, []byte(`{"a": [1, "b`), "too early"},
		{"unknown escape", j, []byte(`"\x41"`), "unexpected 'x'"},
		{"other case", j, []byte(`nan`), "unexpected 'n'"},

		{"parentheses", s, many("(", 8<<20), "deeper"},
		{"braces", s, many("{1:", 2<<20), "deeper"},
		{"brackets", s, many("[", 8<<20), "deeper"},
		{"signs", s, many("-", 8<<20), "unexpected '-'"},
		{"integer of 8 MB", s, many("9", 8<<20), "digits"},
		{"hexadecimal integer of 8 MB", s, join([]byte("0x"), many("f", 8<<20)), "digits"},
		{"character by name", s, []byte(`'\N{BULLET}'`), "not supported"},
		{"name of 8 MB", s, many("a", 8<<20), "no literal"},
		{"prefixes", s, many("b", 8<<20), "no literal"},

		{"class without state", j, []byte(`{"__class__": "Pyro5.core.URI"}`), "tuple of 5"},
		{"short state", j, []byte(`{"__class__": "Pyro5.core.URI", "state": [1]}`), "tuple of 5"},
		{"protocol of another type", j, []byte(`{"__class__": "Pyro5.core.URI", "state": [1, "o", null, "h", 1]}`), "protocol is int"},
		{"tags of another type", j, []byte(`{"__class__": "Pyro5.core.URI", "state": ["PYROMETA", [1], null, "h", 1]}`), "other than str"},
		{"port of another type", j, []byte(`{"__class__": "Pyro5.core.URI", "state": ["PYRO", "o", null, "h", "1"]}`), "port is str"},
		{"port too large", j, []byte(`{"__class__": "Pyro5.core.URI", "state": ["PYRO", "o", null, "h", 65536]}`), "port 65536"},
		{"proxy without state", j, []byte(`{"__class__": "Pyro5.client.Proxy", "state": {}}`), "tuple of 6"},
		{"proxy of no uri", j, []byte(`{"__class__": "Pyro5.client.Proxy", "state": ["x", [], [], [], null, null]}`), "invalid uri"},
		{"methods of another type", j, []byte(`{"__class__": "Pyro5.client.Proxy", "state": ["PYRO:o@h:1", [], "x", [], null, null]}`), "methods is str"},
		{"args of another type", j, []byte(`{"__class__": "ValueError", "__exception__": true, "args": 1}`), "int as args"},
		{"attributes of another type", j, []byte(`{"__class__": "ValueError", "__exception__": true, "attributes": 1}`), "int as attributes"},
	}
}

// marshalBomb is a list of eight references to a list of eight references to...
func marshalBomb() []byte {
	data := []byte("[\x0a\x00\x00\x00\xdb\x01\x00\x00\x00N")
	for i := range byte(9) {
		data = append(data, "\xdb\x08\x00\x00\x00"...)
		for range 8 {
			data = append(data, 'r', i, 0, 0, 0)
		}
	}
	return data
}

// marshalTower has lists that nest 150 deep, the innermost with a reference to the list before.
func marshalTower() []byte {
	data := []byte("[\x02\x00\x00\x00\xdb\x00\x00\x00\x00")
	data[5] = 'N' | 0x80 // which is not remembered
	data = data[:6]
	data = append(data, "\xdb\x01\x00\x00\x00"...)
	for range 150 {
		data = append(data, "[\x01\x00\x00\x00"...)
	}
	data = append(data, 'N')
	data[1] = 3
	for range 150 {
		data = append(data, "[\x01\x00\x00\x00"...)
	}
	return append(data, 'r', 0, 0, 0, 0)
}

// TestHostileMessages has no t.Parallel: it measures the memory that the program takes.  Among what is refused is code (marshal's).
//
// spec: X6
func TestHostileMessages(t *testing.T) {
	const limit = 1 << 20
	for _, h := range hostileMessages() {
		before := heapAllocs()
		v, err := h.serializer.ParseValue(h.data)
		grown := heapAllocs() - before
		if err == nil || !strings.Contains(err.Error(), h.want) {
			t.Errorf("%s %s: %.40q: got %T, %v, want %q", h.serializer.Name(), h.name, h.data, v, err, h.want)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s %s: error of %d bytes", h.serializer.Name(), h.name, len(err.Error()))
		}
		// These are read up to the point where they get too large.
		if h.name != "references that multiply" && h.name != "lists that lie" && grown > limit {
			t.Errorf("%s %s: refusing %d bytes took %d bytes of memory, want at most %d", h.serializer.Name(), h.name, len(h.data), grown, limit)
		}
		if grown > limit+64*uint64(len(h.data)) {
			t.Errorf("%s %s: %d bytes took %d bytes of memory", h.serializer.Name(), h.name, len(h.data), grown)
		}
		if _, err := h.serializer.ParseRequest(h.data); err == nil {
			t.Errorf("%s %s: %.40q is a request", h.serializer.Name(), h.name, h.data)
		}
	}
}

// TestMemoryOfDenseMessages takes the valid messages with most values for their size.  It has no t.Parallel as above.
func TestMemoryOfDenseMessages(t *testing.T) {
	const n = 1 << 19
	many := func(head, item, tail string) []byte { return []byte(head + strings.Repeat(item, n) + tail) }
	tests := []struct {
		name       string
		serializer Serializer
		data       []byte
	}{
		{"nils", msgpackSerializer{}, many("\xdd\x00\x08\x00\x00", "\xc0", "")},
		{"empty maps", msgpackSerializer{}, many("\xdd\x00\x08\x00\x00", "\x80", "")},
		{"empty arrays", msgpackSerializer{}, many("\xdd\x00\x08\x00\x00", "\x90", "")},
		{"empty dicts", marshalSerializer{}, many("[\x00\x00\x08\x00", "{0", "")},
		{"empty tuples", marshalSerializer{}, many("[\x00\x00\x08\x00", ")\x00", "")},
		{"zeros", jsonSerializer{}, many("[0", ",0", "]")},
		{"empty objects", jsonSerializer{}, many("[0", ",{}", "]")},
		{"empty tuples", serpentSerializer{}, many("[0", ",()", "]")},
		{"empty dicts", serpentSerializer{}, many("[0", ",{}", "]")},
		{"items", serpentSerializer{}, many("{0:0", ",0:0", "}")},
	}
	for _, tt := range tests {
		before := heapAllocs()
		_, err := tt.serializer.ParseValue(tt.data)
		grown := heapAllocs() - before
		if limit := 100 * uint64(len(tt.data)); err != nil || grown > limit {
			t.Errorf("%s %s: %v, %d bytes took %d, want at most %d", tt.serializer.Name(), tt.name, err, len(tt.data), grown, limit)
		}
	}
}

func TestTooManyValuesOfText(t *testing.T) {
	t.Parallel()
	r := newTextReader([]byte("[1]"))
	r.count = maxValues - 1
	if _, err := (serpentReader{r}).value(0); !errors.Is(err, errTooMany) {
		t.Errorf("got %v, want %v", err, errTooMany)
	}
}
