package cluster

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// watcher keeps what an observer is told.
type watcher struct {
	mu                            sync.Mutex
	writes, entries, commits      int
	commands, snapshots, failures int
	failedWrites                  int
	bytes                         int64
	shortest                      time.Duration
}

func (w *watcher) observer() Observer {
	told := func(took time.Duration, f func()) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.shortest = min(w.shortest, took)
		f()
	}
	return Observer{
		LogWritten: func(took time.Duration, entries, bytes int, err error) {
			told(took, func() {
				w.writes, w.entries, w.bytes = w.writes+1, w.entries+entries, w.bytes+int64(bytes)
				if err != nil {
					w.failedWrites++
				}
			})
		},
		Committed: func(took time.Duration, commands int) {
			told(took, func() { w.commits, w.commands = w.commits+1, w.commands+commands })
		},
		Snapshot: func(took time.Duration, bytes int64, err error) {
			told(took, func() {
				w.bytes += bytes
				if w.snapshots++; err != nil {
					w.failures++
				}
			})
		},
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	watchers := []*watcher{{}, {}, {}}
	nodes := newCluster(t, 3, func(i int, o *Options) {
		o.Observer, o.raftConfig = watchers[i].observer(), smallLogs
	})
	leader := leaderOf(t, nodes...)
	const names = 20
	for i := range names {
		register(t, leader, fmt.Sprint("name", i))
	}
	waitServing(t, nodes...) // all have applied all
	for i, n := range nodes {
		s := n.Stats()
		want := "follower"
		if n == leader {
			want = "leader"
		}
		if s.State != want || !s.HasLeader || s.Term == 0 || s.LeaderChanges == 0 || s.Voters != 3 || s.Nonvoters != 0 || s.LogBytes == 0 {
			t.Errorf("node %d: got %+v, want %s, a leader, a term, 3 voters and a log", i, s, want)
		}
		if s.AppliedIndex < names || s.CommitIndex < s.AppliedIndex || s.LastIndex < s.CommitIndex {
			t.Errorf("node %d: got indexes %d applied, %d committed, %d last, want at least %d and in order", i, s.AppliedIndex, s.CommitIndex, s.LastIndex, names)
		}
		if (s.LastContact == 0) != (n == leader) {
			t.Errorf("node %d, a %s: last contact %v ago", i, want, s.LastContact)
		}
		if s.SnapshotIndex != 0 || !s.SnapshotTime.IsZero() {
			t.Errorf("node %d: got snapshot %d of %v, want none", i, s.SnapshotIndex, s.SnapshotTime)
		}
		w := watchers[i]
		w.mu.Lock()
		if w.writes == 0 || w.entries < names || w.bytes == 0 || w.failedWrites > 0 || w.shortest < 0 {
			t.Errorf("node %d: told %+v, want writes of at least %d entries", i, w, names)
		}
		if n == leader && w.commands < names || n != leader && w.commits > 0 {
			t.Errorf("node %d, a %s: told of %d commands in %d entries, want %d by the leader alone", i, want, w.commands, w.commits, names)
		}
		w.mu.Unlock()
	}

	began := time.Now().Add(-time.Second)
	if err := leader.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	check := func(n *Node) {
		t.Helper()
		if s := n.Stats(); s.SnapshotIndex < names || s.SnapshotTime.Before(began) || s.SnapshotTime.After(time.Now()) {
			t.Errorf("snapshot: got %d of %v, want one just made of %d entries or more", s.SnapshotIndex, s.SnapshotTime, names)
		}
	}
	check(leader)
	for i, n := range nodes {
		if w := watchers[i]; n == leader && (w.snapshots != 1 || w.failures != 0) {
			t.Errorf("told of %d snapshots, %d failed, want one that worked", w.snapshots, w.failures)
		}
	}
	leader.Close()
	if got := leader.Stats().State; got != "shutdown" {
		t.Errorf("a stopped node: got %q, want shutdown", got)
	}
	check(reopen(t, leader)) // read from the disk
}

func TestFailedLogWriteIsObserved(t *testing.T) {
	t.Parallel()
	w := &watcher{}
	s := &logStore{bolt: brokenStore{}, written: w.observer().LogWritten}
	if err := s.StoreLog(&raft.Log{Index: 1, Data: []byte("four")}); err == nil {
		t.Fatal("no error from a disk that is full")
	}
	if w.failedWrites != 1 || w.bytes != 4 {
		t.Errorf("told %+v, want one failed write of 4 bytes", w)
	}
}

type brokenStore struct{ raftStore }

func (brokenStore) StoreLogs([]*raft.Log) error { return errors.New("disk full") }

func TestSnapshotThatIsGivenUp(t *testing.T) {
	t.Parallel()
	w := &watcher{}
	sink := &snapshotSink{SnapshotSink: &raft.DiscardSnapshotSink{}, store: &snapshotStore{done: w.observer().Snapshot}, start: time.Now()}
	for range 2 { // as raft does
		if err := sink.Cancel(); err != nil {
			t.Fatal(err)
		}
	}
	if w.snapshots != 1 || w.failures != 1 {
		t.Errorf("told of %d snapshots, %d failed, want one that failed", w.snapshots, w.failures)
	}
}

func TestSnapshotTime(t *testing.T) {
	t.Parallel()
	if got := snapshotTime("2-17-1700000000123"); !got.Equal(time.UnixMilli(1700000000123)) {
		t.Errorf("got %v", got)
	}
	if got := snapshotTime("nonsense"); !got.IsZero() {
		t.Errorf("nonsense: got %v, want no time", got)
	}
}
