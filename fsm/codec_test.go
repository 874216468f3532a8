package fsm

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"math/rand"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// header is a command's header with every field set, as long numbers.
func header(kind Kind) Command {
	return Command{Kind: kind, Session: "s", Sequence: math.MaxUint64, Floor: 1 << 40, Time: math.MinInt64, Actor: "127.0.0.1:1", Reason: "ü\x00\xff"}
}

// commandsOfAllKinds uses every field of every kind, and has bytes as they are written to disk: such an entry must mean the same for ever.
func commandsOfAllKinds() map[string]struct {
	command Command
	golden  string
} {
	with := func(kind Kind, set func(*Command)) Command {
		c := header(kind)
		set(&c)
		return c
	}
	type row = struct {
		command Command
		golden  string
	}
	const h = "d38000000000000000" + "a173" + "cfffffffffffffffff" + "cf0000010000000000" + "ab3132372e302e302e313a31" + "a4c3bc00ff"
	return map[string]row{
		"init":            {with(KindInit, func(c *Command) { c.ClusterID = "c" }), "0191920197" + h + "a163"},
		"register":        {with(KindRegister, func(c *Command) { c.Name, c.URI, c.Tags, c.Safe = "n", "u", []string{"t", "group:g"}, true }), "019192029a" + h + "a16ea17592a174a767726f75703a67c3"},
		"remove":          {with(KindRemove, func(c *Command) { c.Names = []string{"a", "b"} }), "0191920397" + h + "92a161a162"},
		"remove prefix":   {with(KindRemovePrefix, func(c *Command) { c.Name = "p" }), "0191920497" + h + "a170"},
		"remove matching": {with(KindRemoveMatching, func(c *Command) { c.Name = "p.*" }), "0191920597" + h + "a3702e2a"},
		"set tags":        {with(KindSetTags, func(c *Command) { c.Name, c.Tags = "n", []string{"t"} }), "0191920698" + h + "a16e91a174"},
		"join":            {with(KindJoin, func(c *Command) { c.Name, c.Member = "g", Member{ID: "m", URI: "u", Zone: "z", Weight: 300} }), "019192079b" + h + "a167a16da175a17acd012c"},
		"leave":           {with(KindLeave, func(c *Command) { c.Name, c.Member.ID = "g", "m" }), "0191920898" + h + "a167a16d"},
		"health":          {with(KindHealth, func(c *Command) { c.Verdicts = []Verdict{{"g", "m", 7, Suspect, "r"}, {"g", "n", 8, Alive, ""}} }), "0191920997" + h + "9295a167a16d0701a17295a167a16e0800a0"},
		"put node": {with(KindPutNode, func(c *Command) {
			c.Node = Node{ID: "i", PyroAddress: "p", RaftAddress: "r", HTTPAddress: "h", Version: "v"}
		}), "0191920a9b" + h + "a169a170a172a168a176"},
		"remove node": {with(KindRemoveNode, func(c *Command) { c.Node.ID = "i" }), "0191920b97" + h + "a169"},
		"subscribe": {with(KindSubscribe, func(c *Command) {
			c.Subscriber = Subscriber{URI: "u", Serializer: "s", Patterns: []string{"a", "b"}, Policy: "p", Queue: 300, Owner: "o"}
		}), "0191920d9c" + h + "a175a17392a161a162a170cd012ca16f"},
		"unsubscribe": {with(KindUnsubscribe, func(c *Command) { c.Name, c.Names, c.IfModified = "u", []string{"a"}, 7 }), "0191920e99" + h + "a17591a16107"},
		"assign": {with(KindAssign, func(c *Command) { c.Assignments = []Assignment{{"u", 7, "o"}, {"v", 8, "p"}} }),
			"0191920f97" + h + "9293a17507a16f93a17608a170"},
		"noop":       {header(KindNoop), "0191920c96" + h},
		"noop, bare": {Command{Kind: KindNoop}, "0191920c96" + "00a00000a0a0"},
	}
}

func TestEntryGolden(t *testing.T) {
	t.Parallel()
	for name, row := range commandsOfAllKinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry := encode(t, row.command)
			if got := hex.EncodeToString(entry[:len(entry)-crcBytes]); got != row.golden {
				t.Errorf("encode %+v:\ngot  %s\nwant %s", row.command, got, row.golden)
			}
			golden, err := hex.DecodeString(row.golden)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeEntry(sealed(golden))
			if want := []Command{row.command}; err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("decode %s:\ngot  %+v, %v\nwant %+v", row.golden, got, err, want)
			}
		})
	}
}

// sealed adds the checksum.
func sealed(body []byte) []byte {
	return binary.BigEndian.AppendUint32(slices.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewSource(*seed))
	var now int64
	for range 2000 {
		want := randomEntry(r, &now)
		got, err := DecodeEntry(encode(t, want...))
		if err != nil {
			t.Fatalf("seed %d: decode %+v: %v", *seed, want, err)
		}
		for i := range want { // what the kind does not use is not packed
			want[i].Node.Removed = false
			if len(want[i].Names) == 0 {
				want[i].Names = nil
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d:\ngot  %+v\nwant %+v", *seed, got, want)
		}
	}
}

func TestEntryLongFields(t *testing.T) {
	t.Parallel()
	want := Command{Kind: KindRemove, Reason: strings.Repeat("r", 100_000)}
	for i := range 70_000 {
		want.Names = append(want.Names, strings.Repeat("n", i%300))
	}
	got, err := DecodeEntry(encode(t, want))
	if err != nil || !reflect.DeepEqual(got, []Command{want}) {
		t.Errorf("got %d commands, %v", len(got), err)
	}
}

func TestEncodeEntryRefuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		commands []Command
		want     error
	}{
		"nothing":        {nil, nil},
		"kind 0":         {[]Command{{}}, ErrUnknownCommand},
		"kind 16":        {[]Command{{Kind: KindNoop}, {Kind: KindAssign + 1}}, ErrUnknownCommand},
		"unknown health": {[]Command{{Kind: KindHealth, Verdicts: []Verdict{{Health: 2}}}}, ErrUnknownCommand},
	} {
		entry, err := EncodeEntry(row.commands)
		if err == nil || row.want != nil && !errors.Is(err, row.want) {
			t.Errorf("%s: got %x, %v, want %v", name, entry, err, row.want)
		}
	}
}

// Damage is found, wherever it is.
func TestDecodeEntryDamaged(t *testing.T) {
	t.Parallel()
	entry := encode(t, Command{Kind: KindRegister, Name: "n", URI: "PYRO:o@h:1", Tags: []string{"t"}}, Command{Kind: KindNoop})
	for n := range entry {
		if c, err := DecodeEntry(entry[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: got %+v, %v, want ErrCorrupt", n, c, err)
		}
		for bit := range 8 {
			damaged := slices.Clone(entry)
			damaged[n] ^= 1 << bit
			if c, err := DecodeEntry(damaged); !errors.Is(err, ErrCorrupt) {
				t.Errorf("byte %d bit %d flipped: got %+v, %v, want ErrCorrupt", n, bit, c, err)
			}
		}
	}
	if c, err := DecodeEntry(append(slices.Clone(entry), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte more: got %+v, %v, want ErrCorrupt", c, err)
	}
}

// Bytes with a right checksum that are strange all the same.
func TestDecodeEntryStrange(t *testing.T) {
	t.Parallel()
	const noop = "920c9600a00000a0a0"
	for name, row := range map[string]struct {
		body string
		want error
		text string // in the error
	}{
		"newer version":              {"0291" + noop, ErrUnknownCommand, "version 2, want 1"},
		"newer kind":                 {"0191921090", ErrUnknownCommand, "kind 16"},
		"kind beyond a byte":         {"019192cd010090", ErrUnknownCommand, "number 256"},
		"more fields":                {"0191920c9700a00000a0a000", ErrUnknownCommand, "7 fields, want 6"},
		"fewer fields":               {"0191920c9500a00000a0", ErrUnknownCommand, "5 fields, want 6"},
		"newer health":               {"019192099700a00000a0a09195a0a00002a0", ErrUnknownCommand, "health 2"},
		"no commands":                {"0190", ErrCorrupt, "no command"},
		"nil for commands":           {"01c0", ErrCorrupt, "list of -1"},
		"a map for commands":         {"0180", ErrCorrupt, ""},
		"bytes left":                 {"0191" + noop + "00", ErrCorrupt, "1 bytes left"},
		"only the version":           {"01", ErrCorrupt, "EOF"},
		"cut":                        {"0191920c9600a000", ErrCorrupt, ""},
		"more commands than bytes":   {"01dd7fffffff" + noop, ErrCorrupt, "list of 2147483647"},
		"string longer than message": {"0191920c9600db7fffffff0000a0a0", ErrCorrupt, "string of 2147483647"},
		"nil for a string":           {"0191920c9600c00000a0a0", ErrCorrupt, "string of -1"},
		"names longer than message":  {"0191920397" + "00a00000a0a0" + "dd7fffffff", ErrCorrupt, "list of 2147483647"},
		"nested":                     {"01" + strings.Repeat("91", 100_000), ErrUnknownCommand, "1 fields, want 2"},
		"a float for a number":       {"0191920c96ca00000000a00000a0a0", ErrCorrupt, "invalid code"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := hex.DecodeString(row.body)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeEntry(sealed(body))
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%s: got %+v, %v, want %v with %q", row.body, got, err, row.want, row.text)
			}
		})
	}
}

// Bytes that claim much do not get much memory.  Not parallel: it counts what the process allocates.
func TestDecodeEntryMemory(t *testing.T) {
	lies := []string{"01dd7fffffff", "0191920397" + "00a00000a0a0" + "ddffffffff", "019192db7fffffff"}
	for _, lie := range lies {
		body, err := hex.DecodeString(lie)
		if err != nil {
			t.Fatal(err)
		}
		entry := sealed(body)
		if got := allocated(func() { _, _ = DecodeEntry(entry) }); got > 1<<20 {
			t.Errorf("%s: %d bytes allocated", lie, got)
		}
	}
	honest := encode(t, Command{Kind: KindRemove, Names: make([]string, 1<<20)})
	if got, limit := allocated(func() { _, _ = DecodeEntry(honest) }), uint64(20*len(honest)); got > limit {
		t.Errorf("entry of %d bytes: %d bytes allocated, want at most %d", len(honest), got, limit)
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzDecodeEntry feeds bytes as they are and with a right checksum; what decodes must encode to something that decodes to the same.
func FuzzDecodeEntry(f *testing.F) {
	for _, row := range commandsOfAllKinds() {
		entry := encode(f, row.command)
		f.Add(entry)
		f.Add(entry[:len(entry)-crcBytes])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, entry := range [][]byte{data, sealed(data)} {
			commands, err := DecodeEntry(entry)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownCommand) {
					t.Fatalf("%x: %v", entry, err)
				}
				continue
			}
			again, err := DecodeEntry(encode(t, commands...))
			if err != nil || !reflect.DeepEqual(commands, again) {
				t.Fatalf("%x:\ngot  %+v, %v\nwant %+v", entry, again, err, commands)
			}
			s := New()
			_, err = s.Apply(1, entry)
			if matching := slices.ContainsFunc(commands, func(c Command) bool { return c.Kind == KindRemoveMatching }); matching != (err != nil) {
				t.Fatalf("apply %+v: %v", commands, err)
			}
			checkInvariants(t, s.View())
		}
	})
}
