package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

func smallLogs(c *raft.Config) {
	c.TrailingLogs = 2
	c.SnapshotInterval = time.Hour // the test says when
}

// dataOf leaves the directory of a stopped node of one, with a log and a snapshot.
func dataOf(t testing.TB) Options {
	t.Helper()
	n := newCluster(t, 1)[0]
	for i := range 300 {
		register(t, n, fmt.Sprint("name", i))
		if i == 200 {
			if err := n.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	n.Close()
	o := n.opts
	o.Listen = n.Address()
	return o
}

func overwrite(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedDirectory(t *testing.T) {
	t.Parallel()
	garbage := func(b []byte) []byte {
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		return b
	}
	zeros := func(from, to int) func([]byte) []byte {
		return func(b []byte) []byte { clear(b[from:to]); return b }
	}
	newest := func(name string) string { return "newest snapshot " + name }
	for _, test := range []struct {
		name, file string
		change     func([]byte) []byte // nil removes
	}{
		{"identity is garbage", identityFile, garbage},
		{"identity is empty", identityFile, func([]byte) []byte { return nil }},
		{"identity of another format", identityFile, func(b []byte) []byte { return bytes.Replace(b, []byte(`"format": 1`), []byte(`"format": 2`), 1) }},
		{"identity with another id", identityFile, func(b []byte) []byte { return bytes.Replace(b, []byte(`"id": "n-`), []byte(`"id": "m-`), 1) }},
		{"identity is missing", identityFile, nil},
		{"log is missing", logFile, nil},
		{"log is empty", logFile, func([]byte) []byte { return nil }},
		{"log is garbage", logFile, garbage},
		{"log is zeros", logFile, func(b []byte) []byte { clear(b); return b }},
		{"log is cut to a page", logFile, func(b []byte) []byte { return b[:4096] }},
		{"log is cut in the middle", logFile, func(b []byte) []byte { return b[:5*4096] }},
		{"log without both meta pages", logFile, zeros(0, 8192)},
		{"log without its other pages", logFile, func(b []byte) []byte { clear(b[8192:]); return b }},
		{"snapshot is garbage", newest("state.bin"), garbage},
		{"snapshot is cut", newest("state.bin"), func(b []byte) []byte { return b[:len(b)-1] }},
		{"snapshot is missing", newest("state.bin"), nil},
		{"snapshot's meta is garbage", newest("meta.json"), garbage},
		{"snapshot's meta is missing", newest("meta.json"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := dataOf(t)
			path := filepath.Join(o.DataDir, test.file)
			if name, ok := strings.CutPrefix(test.file, newest("")); ok {
				found, err := filepath.Glob(filepath.Join(o.DataDir, snapshotDir, "*", name))
				if err != nil || len(found) != 1 {
					t.Fatalf("snapshots: got %v, %v, want one", found, err)
				}
				path = found[0]
			}
			if test.change == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				overwrite(t, path, test.change)
			}
			err := openAndEnd(t, o)
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), o.DataDir) || !strings.Contains(err.Error(), "join anew") {
				t.Errorf("open: got %v, want %v with the file and what to do", err, ErrDamaged)
			}
		})
	}
}

// Whatever happens to single pages of the log, the process lives; and what comes through opens with all that was there.
func TestDamagedPages(t *testing.T) {
	t.Parallel()
	o := dataOf(t)
	path := filepath.Join(o.DataDir, logFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found int
	for i := range 150 {
		b := bytes.Clone(good)
		page := rand.N(len(b)/4096) * 4096
		switch i % 3 {
		case 0:
			clear(b[page : page+4096])
		case 1:
			for j := range 64 {
				b[page+j] = byte(rand.Uint32())
			}
		default:
			b[page+rand.N(4096)] ^= 1 << rand.N(8)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := openLogOnly(o); err != nil {
			found++
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("damage %d of page %d: got %v, want %v", i, page/4096, err, ErrDamaged)
			}
		}
	}
	if found == 0 {
		t.Error("no damage of 150 was found")
	}
}

// openLogOnly opens and verifies the log of a directory as Open does.
func openLogOnly(o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	n := &Node{opts: o}
	var err error
	if n.dir, err = openDirectory(o.DataDir); err != nil {
		return err
	}
	defer n.dir.close()
	if n.store, err = openLogStore(n.dir, &n.opts); err != nil {
		return err
	}
	defer n.store.Close()
	s, err := openSnapshots(n.dir, &n.opts)
	if err != nil {
		return err
	}
	return n.checkLog(s.end())
}

func TestDiskAtStart(t *testing.T) {
	t.Parallel()
	options := func(dir string) Options {
		o := testOptions(t, "127.0.0.1:0", 1, nil)
		o.DataDir = dir
		return o
	}
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.Symlink("/dev/full", filepath.Join(dir, identityFile+".tmp")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), options(dir)); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrDamaged) {
			t.Errorf("open on a full disk: got %v, want %v", err, syscall.ENOSPC)
		}
	})
	t.Run("full at raft's first write", func(t *testing.T) {
		t.Parallel()
		o := options(t.TempDir())
		o.disk = func(s raftStore) raftStore { return &faultyDisk{raftStore: s, broken: alwaysBroken()} }
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("open on a full disk: got %v, want %v", err, syscall.ENOSPC)
		}
	})
	t.Run("not a directory", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{file, filepath.Join(file, "below")} {
			if _, err := Open(t.Context(), options(dir)); !errors.Is(err, syscall.ENOTDIR) || errors.Is(err, ErrDamaged) {
				t.Errorf("open %s: got %v, want %v", dir, err, syscall.ENOTDIR)
			}
		}
	})
	t.Run("not writable", func(t *testing.T) {
		t.Parallel()
		if _, err := Open(t.Context(), options("/proc/self/pyro-cluster")); err == nil || errors.Is(err, ErrDamaged) {
			t.Errorf("open below /proc: got %v, want a plain error", err)
		}
	})
}

// faultyDisk fails every write while broken is set.
type faultyDisk struct {
	raftStore
	broken *atomic.Bool
}

func alwaysBroken() *atomic.Bool { b := new(atomic.Bool); b.Store(true); return b }

func (d *faultyDisk) fault() error {
	if d.broken.Load() {
		return &os.PathError{Op: "write", Path: "raft.db", Err: syscall.ENOSPC}
	}
	return nil
}

func (d *faultyDisk) StoreLogs(logs []*raft.Log) error {
	return errors.Join(d.fault(), d.raftStore.StoreLogs(logs))
}

func (d *faultyDisk) SetUint64(k []byte, v uint64) error {
	if err := d.fault(); err != nil {
		return err
	}
	return d.raftStore.SetUint64(k, v)
}

// A disk that fills up stops the node, not the process, whatever it was doing, and the others go on.
func TestDiskFailsWhileRunning(t *testing.T) {
	t.Parallel()
	for _, leader := range []bool{true, false} {
		t.Run(fmt.Sprintf("leader=%v", leader), func(t *testing.T) {
			t.Parallel()
			broken := make([]atomic.Bool, 3)
			nodes := newCluster(t, 3, func(i int, o *Options) {
				o.disk = func(s raftStore) raftStore { return &faultyDisk{s, &broken[i]} }
			})
			victim := leaderOf(t, nodes...)
			if !leader {
				victim = others(nodes, victim)[0]
			}
			rest := others(nodes, victim)
			for i, n := range nodes {
				broken[i].Store(n == victim)
			}
			register(t, rest[0], "one")
			register(t, rest[1], "two")
			if err := ended(t, victim); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("node with a full disk ended with %v, want %v", err, syscall.ENOSPC)
			}
			broken[0].Store(false)
			broken[1].Store(false)
			broken[2].Store(false)
			again := reopen(t, victim)
			waitServing(t, again)
			mustSee(t, again, "two")
		})
	}
}

// A panic inside the log store, which is what bbolt does about damage, and a fault while reading its mapping, are errors.
func TestLogStorePanics(t *testing.T) {
	t.Parallel()
	var reported error
	s := &logStore{path: "raft.db", bolt: panicking{}}
	fail := func(err error) { reported = err }
	s.fail.Store(&fail)
	if _, err := s.LastIndex(); !errors.Is(err, ErrDamaged) || !errors.Is(reported, ErrDamaged) {
		t.Errorf("panic: got %v, reported %v, want %v", err, reported, ErrDamaged)
	}
	if _, err := s.FirstIndex(); !errors.Is(err, ErrDamaged) {
		t.Errorf("after a panic: got %v, want %v", err, ErrDamaged)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close after a panic: %v", err)
	}
}

type panicking struct{ raftStore }

func (panicking) LastIndex() (uint64, error) { panic("page 7: not a leaf") }

// The states of a log beside a snapshot that ends with entry 10 of term 3, and whether the log must go (hashicorp/raft issue 697).
func TestRepair(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		first   uint64
		terms   []uint64 // of the entries from first on
		deleted bool
	}{
		{"empty log", 1, nil, false},
		{"shorter than the snapshot", 5, []uint64{2, 2, 2}, false},
		{"ends with it", 8, []uint64{3, 3, 3}, false},
		{"goes on in the same term", 8, []uint64{3, 3, 3, 3, 3}, false},
		{"goes on in a higher term", 8, []uint64{3, 3, 3, 4, 5}, false},
		{"begins after it", 11, []uint64{3, 3}, false},
		{"begins after it, with a higher term", 11, []uint64{4}, false},
		{"other term at its end", 8, []uint64{2, 2, 2, 2, 2}, true},
		{"other term at its end, and nothing after", 8, []uint64{2, 2, 2}, true},
		{"higher term at its end", 8, []uint64{3, 3, 4, 4}, true},
		{"begins after it, with a lower term", 11, []uint64{2, 2, 2}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, err := openDirectory(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			o := testOptions(t, "127.0.0.1:0", 1, nil)
			if err := o.check(); err != nil {
				t.Fatal(err)
			}
			s, err := openLogStore(d, &o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for i, term := range test.terms {
				if err := s.StoreLog(&raft.Log{Index: test.first + uint64(i), Term: term, Type: raft.LogNoop}); err != nil {
					t.Fatal(err)
				}
			}
			deleted, err := s.repair(snapshotEnd{10, 3})
			if err != nil || deleted != test.deleted {
				t.Errorf("repair: got %v, %v, want %v", deleted, err, test.deleted)
			}
			last, err := s.LastIndex()
			if err != nil || (last == 0) != (test.deleted || len(test.terms) == 0) {
				t.Errorf("last index after repair: got %d, %v", last, err)
			}
			if err := s.verify(10); err != nil {
				t.Errorf("verify after repair: %v", err)
			}
		})
	}
}

func TestVerifyFindsGaps(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		indexes []uint64
		bad     bool
	}{
		{"no log", nil, false},
		{"all within the snapshot, with a gap", []uint64{3, 4, 8}, false},
		{"old entries, then those after the snapshot", []uint64{3, 4, 11, 12}, false},
		{"a gap after the snapshot", []uint64{12}, true},
		{"a gap later", []uint64{10, 11, 13}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := &logStore{path: "raft.db", bolt: struct {
				*raft.InmemStore
				io.Closer
			}{raft.NewInmemStore(), io.NopCloser(nil)}}
			for _, i := range test.indexes {
				if err := s.StoreLog(&raft.Log{Index: i, Term: 1, Type: raft.LogNoop}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.verify(10); errors.Is(err, ErrDamaged) != test.bad {
				t.Errorf("verify: got %v, want damaged: %v", err, test.bad)
			}
		})
	}
}

// The follower of hashicorp/raft issue 697: its uncommitted tail goes beyond the snapshot that the new leader sends it.  Raft alone would be
// sent that snapshot for ever.
func TestDivergedFollowerRecovers(t *testing.T) {
	t.Parallel()
	wires := make([]wire, 3)
	nodes := newCluster(t, 3, func(i int, o *Options) {
		o.cut = wires[i].down.Load
		o.raftConfig = func(c *raft.Config) {
			c.TrailingLogs = 1
			c.SnapshotInterval = time.Hour
			c.LeaderLeaseTimeout = c.HeartbeatTimeout
		}
	})
	old := leaderOf(t, nodes...)
	rest := others(nodes, old)
	var w *wire
	for i, n := range nodes {
		if n == old {
			w = &wires[i]
		}
	}
	for i := range 10 {
		register(t, old, fmt.Sprint("before", i))
	}
	w.cut(old)
	entry, err := fsm.EncodeEntry([]fsm.Command{{Kind: fsm.KindNoop, Reason: "lost"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 40 { // an uncommitted tail: raft takes them until its lease is over
		old.raft.ApplyLog(raft.Log{Data: entry}, time.Second)
	}
	for i := range 10 {
		register(t, rest[i%2], fmt.Sprint("after", i))
	}
	for _, n := range rest {
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
	}
	// The leader may hold the next entries ready for the one who is away; the next leader has only the snapshot.
	if err := rest[0].TransferLeadership(t.Context(), others(rest, leaderOf(t, rest...))[0].ID()); err != nil {
		t.Fatal(err)
	}
	if tail, now := old.raft.LastIndex(), rest[0].raft.LastIndex(); tail <= now {
		t.Fatalf("tail of the old leader ends at %d, the cluster is at %d: the test proves nothing", tail, now)
	}
	w.down.Store(false)
	waitServing(t, old)
	old.machine.mu.Lock()
	if n := len(old.machine.restored); n == 0 {
		t.Error("caught up without a snapshot: the test proves nothing")
	}
	old.machine.mu.Unlock()
	old.Close()
	again := reopen(t, old)
	waitServing(t, again)
	for i := range 10 {
		mustSee(t, again, fmt.Sprint("before", i))
		mustSee(t, again, fmt.Sprint("after", i))
	}
}

// A follower that got a snapshot and entries after it, and stopped before the leader heard so, has a log that begins after the snapshot: raft
// alone would refuse what follows the snapshot's last entry for ever.
func TestPreviousEntryIsInSnapshot(t *testing.T) {
	t.Parallel()
	transport := &namedTransport{snapshot: func() snapshotEnd { return snapshotEnd{56, 2} }}
	for _, test := range []struct {
		index, term, want uint64
	}{{56, 2, 0}, {56, 3, 56}, {55, 2, 55}, {57, 2, 57}, {0, 0, 0}} {
		r := &raft.AppendEntriesRequest{PrevLogEntry: test.index, PrevLogTerm: test.term}
		transport.fit(&raft.RPC{Command: r})
		if r.PrevLogEntry != test.want {
			t.Errorf("previous entry %d of term %d: got %d, want %d", test.index, test.term, r.PrevLogEntry, test.want)
		}
	}
}

func TestRestoresAreCounted(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	m := newMachine(func(error) {}, func(*fsm.View) {})
	for i, test := range []struct {
		after    time.Duration
		index    uint64
		repeated bool
	}{
		{0, 5, false}, {time.Second, 5, false}, {time.Second, 5, false}, {time.Second, 5, true},
		{time.Second, 6, false}, {time.Minute, 5, false}, {time.Second, 5, false}, {58 * time.Second, 5, false}, {time.Second, 5, false},
	} {
		now = now.Add(test.after)
		m.now = func() time.Time { return now }
		if got := m.countLocked(test.index); got != test.repeated {
			t.Errorf("restore %d of snapshot %d: got %v, want %v", i, test.index, got, test.repeated)
		}
	}
}

func TestSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	var failed error
	m := newMachine(func(err error) { failed = err }, func(*fsm.View) {})
	entry, err := fsm.EncodeEntry([]fsm.Command{{Kind: fsm.KindInit, ClusterID: "c"}, {Kind: fsm.KindRegister, Name: "n", URI: "PYRO:n@h:1"}})
	if err != nil {
		t.Fatal(err)
	}
	m.ApplyBatch([]*raft.Log{{Index: 3, Type: raft.LogCommand, Data: entry}, {Index: 4, Type: raft.LogConfiguration}})
	s, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.(snapshot).write(&b); err != nil {
		t.Fatal(err)
	}
	restored := newMachine(func(err error) { t.Error(err) }, func(*fsm.View) {})
	if err := restored.Restore(io.NopCloser(bytes.NewReader(b.Bytes()))); err != nil {
		t.Fatal(err)
	}
	if _, ok := restored.state.View().Entry("n"); !ok || restored.index() != 4 {
		t.Errorf("restored: got index %d, entry there: %v; want 4, true", restored.index(), ok)
	}
	for i := range b.Len() {
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 0x40
		if err := m.Restore(io.NopCloser(bytes.NewReader(bad))); err == nil && i < snapshotHeader {
			t.Errorf("byte %d flipped: got nil, want an error", i)
		}
		if err := m.Restore(io.NopCloser(bytes.NewReader(b.Bytes()[:i]))); err == nil || failed == nil {
			t.Errorf("cut at %d: got %v, reported %v, want an error", i, err, failed)
		}
	}
}

// An entry that cannot be applied stops the node, and nothing after it is applied.
func TestUnknownEntryStops(t *testing.T) {
	t.Parallel()
	var failed error
	m := newMachine(func(err error) { failed = err }, func(*fsm.View) {})
	good, err := fsm.EncodeEntry([]fsm.Command{{Kind: fsm.KindNoop}})
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[1] ^= 1
	m.ApplyBatch([]*raft.Log{{Index: 1, Data: good}, {Index: 2, Data: bad}, {Index: 3, Data: good}})
	if !errors.Is(failed, fsm.ErrCorrupt) || m.index() != 1 {
		t.Errorf("after a damaged entry 2: got index %d, %v, want 1, %v", m.index(), failed, fsm.ErrCorrupt)
	}
	m.Apply(&raft.Log{Index: 4, Data: good})
	if m.index() != 1 {
		t.Errorf("index after an entry behind it: got %d, want 1", m.index())
	}
	if _, err := m.Snapshot(); err == nil {
		t.Error("snapshot of a failed machine: got nil, want an error")
	}
}

func FuzzParseIdentity(f *testing.F) {
	id := identity{Format: identityFormat, ID: "n-1", Log: logKind, Promise: &promise{Cluster: "c", Members: []peer{{"n-1", "h:1"}}}}
	id.Checksum, _ = id.sum()
	good, _ := json.Marshal(id)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b)
		if err == nil && (id.ID == "" || id.Format != identityFormat) {
			t.Errorf("parse %q: got %+v without an error", b, id)
		}
	})
}

// A directory is free once it is closed, also while a child of this process has its files open: a fork copies them until the child runs its
// program.
func TestDirectoryFreeDespiteChild(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	d, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(d.lock.Fd())) // has the lock, too, as a child's would
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	again, err := openDirectory(path)
	if err != nil {
		t.Fatalf("after it was closed: %v", err)
	}
	again.close()
}
