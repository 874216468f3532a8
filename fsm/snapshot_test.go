package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// smallState has one of everything, so that its snapshot is short.
func smallState(t testing.TB) *State {
	s := stateOfVersion1(t)
	apply(t, s,
		Command{Kind: KindSubscribe, Subscriber: Subscriber{URI: "u", Serializer: "s", Patterns: []string{"a"}, Policy: "p", Queue: 3, Owner: "o"}},
		Command{Kind: KindAssign, Assignments: []Assignment{{"u", 8, "n"}}},
	)
	return s
}

// stateOfVersion1 has one of everything that snapshots of version 1 could hold.
func stateOfVersion1(t testing.TB) *State {
	s := New()
	apply(t, s,
		Command{Kind: KindInit, ClusterID: "c", Time: 5},
		Command{Kind: KindRegister, Name: "e", URI: "u", Tags: []string{"t", "group:g"}, Session: "s", Sequence: 2, Floor: 1},
		Command{Kind: KindJoin, Name: "g", Member: Member{ID: "m", URI: "v", Zone: "z", Weight: 2}},
		Command{Kind: KindSetTags, Name: "g", Tags: []string{"k"}},
		Command{Kind: KindHealth, Verdicts: []Verdict{{"g", "m", 3, Suspect, "r"}}},
		Command{Kind: KindPutNode, Node: Node{ID: "n", PyroAddress: "p", RaftAddress: "r", HTTPAddress: "h", Version: "w"}},
		Command{Kind: KindRemoveNode, Node: Node{ID: "o"}},
	)
	return s
}

// goldenSnapshot is what smallState is written as, goldenVersion1 what stateOfVersion1 was: they must be readable for ever.
const goldenSnapshot = "7079726f66736d020b990209a1630501010102011295a165a17592a767726f75703a67a17402020995a16791a16b0205020c99a165a175a000c300a005020e99a16da176a17a02c201a17205030c96a16ea170a172a168a177c20896a16fa0a0a0a0c30795a17301010501069502000002a0039201091199a175a17391a161a17003a16ea16f090890049df2"

const goldenVersion1 = "7079726f66736d010b990107a1630501010102011295a165a17592a767726f75703a67a17402020995a16791a16b0205020c99a165a175a000c300a005020e99a16da176a17a02c201a17205030c96a16ea170a172a168a177c20896a16fa0a0a0a0c30795a17301010501069502000002a0d4a2d601"

func TestSnapshotGolden(t *testing.T) {
	t.Parallel()
	got := persist(t, smallState(t).View())
	if h := hex.EncodeToString(got); h != goldenSnapshot {
		t.Errorf("got\n%s\nwant\n%s", h, goldenSnapshot)
	}
	for _, row := range []struct {
		golden string
		state  *State
	}{{goldenSnapshot, smallState(t)}, {goldenVersion1, stateOfVersion1(t)}} {
		golden, err := hex.DecodeString(row.golden)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := dump(restore(t, golden).View()), dump(row.state.View()); got != want {
			t.Errorf("restored: %s", firstDifference(got, want))
		}
	}
}

// Snapshot and restore is the identity, and the state goes on alike after it.
func TestSnapshotRestore(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewSource(*seed))
	for round := range 20 {
		s := New()
		var now int64
		for range round * 10 {
			apply(t, s, randomEntry(r, &now)...)
		}
		snapshot := persist(t, s.View())
		other := New()
		apply(t, other, Command{Kind: KindRegister, Name: "old", URI: "u"}) // is replaced
		if err := other.Restore(iotest.OneByteReader(bytes.NewReader(snapshot))); err != nil {
			t.Fatalf("seed %d round %d: %v", *seed, round, err)
		}
		checkInvariants(t, other.View())
		for range 50 {
			commands := randomEntry(r, &now)
			if got, want := apply(t, other, commands...), apply(t, s, commands...); !slices.Equal(got, want) {
				t.Fatalf("seed %d round %d: %+v: got %v, want %v", *seed, round, commands, got, want)
			}
		}
		if got, want := dump(other.View()), dump(s.View()); got != want {
			t.Fatalf("seed %d round %d: %s", *seed, round, firstDifference(got, want))
		}
	}
}

func TestRestoreDamaged(t *testing.T) {
	t.Parallel()
	snapshot := persist(t, smallState(t).View())
	s := New()
	apply(t, s, Command{Kind: KindRegister, Name: "old", URI: "u"})
	before := s.View()
	check := func(what string, data []byte, want ...error) {
		t.Helper()
		err := s.Restore(bytes.NewReader(data))
		if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(err, w) }) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
		if s.View() != before {
			t.Errorf("%s: the state changed", what)
		}
	}
	for n := range snapshot {
		check(fmt.Sprint("cut at ", n), snapshot[:n], ErrCorrupt)
		for bit := range 8 {
			damaged := slices.Clone(snapshot)
			damaged[n] ^= 1 << bit
			if what := fmt.Sprintf("byte %d bit %d flipped", n, bit); n == len(snapshotMagic) { // the version
				check(what, damaged, ErrUnknownCommand)
			} else {
				check(what, damaged, ErrCorrupt)
			}
		}
	}
	check("a byte more", append(slices.Clone(snapshot), 0), ErrCorrupt)
	check("twice", slices.Concat(snapshot, snapshot), ErrCorrupt)
	check("nothing", nil, ErrCorrupt)
}

// record frames fields as in a snapshot.
func record(fields string) string {
	raw, err := hex.DecodeString(fields)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(binary.AppendUvarint(nil, uint64(len(raw)))) + fields
}

// Snapshots with a right checksum that are strange all the same.
func TestRestoreStrange(t *testing.T) {
	t.Parallel()
	const start = "7079726f66736d01"
	headOf := func(tickets, counts string) string { return start + record("990101a000"+tickets+counts) }
	entry := func(name string) string { return record("95a1" + name + "a0900101") }
	group := func(name, members string) string { return record("95a1" + name + "900101" + members) }
	member := func(id string) string { return record("99a1" + id + "a0a000c200a00001") }
	const start2 = "7079726f66736d02"
	subscribers := func(count string) string { return start2 + record("990101a0000000000000") + record("92"+count+"01") }
	subscriber := func(uri string) string { return record("99a1" + uri + "a091a161a000a0a00101") }
	session := func(id, ticket, results string) string { return record("95a1" + id + "00" + ticket + "00" + results) }
	for name, row := range map[string]struct{ body, text string }{
		"nothing in it":                  {headOf("00", "00000000"), ""},
		"other magic":                    {"7079726f66736e01", "begins with"},
		"entries out of order":           {headOf("00", "02000000") + entry("62") + entry("61"), `"a" after "b"`},
		"an entry twice":                 {headOf("00", "02000000") + entry("61") + entry("61"), `"a" after "a"`},
		"more entries than there are":    {headOf("00", "cf7fffffffffffffff000000") + entry("61"), ""},
		"fewer entries than there are":   {headOf("00", "00000000") + entry("61"), "checksum"},
		"an empty group":                 {headOf("00", "00010000") + group("61", "00"), "no member"},
		"members out of order":           {headOf("00", "00010000") + group("61", "02") + member("62") + member("61"), `"a" after "b"`},
		"a member twice":                 {headOf("00", "00010000") + group("61", "02") + member("61") + member("61"), `"a" after "a"`},
		"more members than there are":    {headOf("00", "00010000") + group("61", "cf7fffffffffffffff") + member("62"), ""},
		"an entry and a group":           {headOf("00", "01010000") + entry("61") + group("61", "01") + member("62"), "entry and a group"},
		"a ticket of two sessions":       {headOf("02", "00000002") + session("61", "01", "00") + session("62", "01", "00"), "ticket 1 of 2"},
		"a session without a ticket":     {headOf("02", "00000001") + session("61", "00", "00"), "ticket 0 of 2"},
		"a ticket never given":           {headOf("02", "00000001") + session("61", "03", "00"), "ticket 3 of 2"},
		"a record with a field more":     {start + record("9a0101a000000000000000"), "10 fields"},
		"a record with bytes left":       {start + record("990101a000000000000000"), "bytes left"},
		"a record of 16 EiB":             {start + "ffffffffffffffffff01", "record of 18446744073709551615"},
		"a length beyond 64 bits":        {start + "ffffffffffffffffff02", "impossible length"},
		"a length without an end":        {start + "ffffffffffffffffffffffff", "impossible length"},
		"a record longer than what is":   {start + "ffffffff0f" + "99", "too early"},
		"a health that nobody knows":     {headOf("00", "00010000") + group("61", "01") + record("99a161a0a000c207a00001"), "health 7"},
		"subscribers out of order":       {subscribers("02") + subscriber("62") + subscriber("61"), `"a" after "b"`},
		"a subscriber twice":             {subscribers("02") + subscriber("61") + subscriber("61"), `"a" after "a"`},
		"too few subscribers":            {subscribers("cf7fffffffffffffff") + subscriber("61"), ""},
		"too many subscribers":           {subscribers("00") + subscriber("61"), "checksum"},
		"subscribers in version 1":       {headOf("00", "00000000") + record("920001"), "checksum"},
		"no subscribers in version 2":    {start2 + record("990101a0000000000000"), ""},
		"a subscriber with a field more": {subscribers("01") + record("9aa161a091a161a000a0a0010100"), "10 fields"},
		"a session's results disordered": {headOf("02", "00000001") + session("61", "01", "02") + record("95020000"+"01a0") + record("95010000"+"01a0"), "after"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := hex.DecodeString(row.body)
			if err != nil {
				t.Fatal(err)
			}
			err = New().Restore(bytes.NewReader(sealed(body)))
			if name == "nothing in it" {
				if err != nil {
					t.Errorf("%s: got %v, want none", row.body, err)
				}
				return
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%s: got %v, want ErrCorrupt with %q", row.body, err, row.text)
			}
		})
	}
}

// Failures of the reader or writer are told as such, not as damage.
func TestSnapshotInputOutputErrors(t *testing.T) {
	t.Parallel()
	v := smallState(t).View()
	snapshot := persist(t, v)
	broken := errors.New("disk on fire")
	for n := range len(snapshot) + 1 {
		err := New().Restore(io.MultiReader(bytes.NewReader(snapshot[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, ErrCorrupt) {
			t.Errorf("reader fails after %d bytes: got %v, want %v", n, err, broken)
		}
		if n < len(snapshot) {
			if err := v.Persist(&failingWriter{left: n, err: broken}); !errors.Is(err, broken) {
				t.Errorf("writer fails after %d bytes: got %v, want %v", n, err, broken)
			}
		}
	}
}

type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(p []byte) (int, error) {
	n := min(len(p), w.left)
	if w.left -= n; n < len(p) {
		return n, w.err
	}
	return n, nil
}

// Not parallel: it counts what the process allocates.
func TestRestoreMemory(t *testing.T) {
	for name, body := range map[string]string{
		"long record": "7079726f66736d01" + "ffffffffff0f",
		"many":        "7079726f66736d01" + record("990101a00000"+"cf7fffffffffffffff000000"),
		"subscribers": "7079726f66736d02" + record("990101a0000000000000") + record("92cf7fffffffffffffff01"),
	} {
		raw, err := hex.DecodeString(body)
		if err != nil {
			t.Fatal(err)
		}
		if got := allocated(func() { err = New().Restore(bytes.NewReader(sealed(raw))) }); err == nil || got > 1<<20 {
			t.Errorf("%s: %v, %d bytes allocated", name, err, got)
		}
	}
}

// FuzzRestore feeds bytes as they are and with a right checksum; what restores must persist to something that restores to the same.
func FuzzRestore(f *testing.F) {
	version1, err := hex.DecodeString(goldenVersion1)
	if err != nil {
		f.Fatal(err)
	}
	for _, snapshot := range [][]byte{persist(f, New().View()), persist(f, smallState(f).View()), version1} {
		f.Add(snapshot)
		f.Add(snapshot[:len(snapshot)-crcBytes])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, snapshot := range [][]byte{data, sealed(data)} {
			s := New()
			if err := s.Restore(bytes.NewReader(snapshot)); err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnknownCommand) {
					t.Fatalf("%x: %v", snapshot, err)
				}
				continue
			}
			if got, want := dump(restore(t, persist(t, s.View())).View()), dump(s.View()); got != want {
				t.Fatalf("%x: %s", snapshot, firstDifference(got, want))
			}
		}
	})
}
