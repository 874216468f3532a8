package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// snapshotStore is raft's file store, which writes to a temporary directory, syncs its files, renames it, and keeps a checksum that it
// compares before it hands a snapshot out.  What it does not do: sync the directory of a snapshot itself, without which the
// files' names may be lost, and say when a snapshot is damaged: it falls back to an older one in silence.
type snapshotStore struct {
	*raft.FileSnapshotStore
	path string
	logs raft.LogStore                                    // set before raft runs
	done func(took time.Duration, bytes int64, err error) // may be nil

	mu     sync.Mutex // guards what follows
	newest snapshotEnd
	at     time.Time // when the newest was begun
}

// snapshotEnd is the last entry that a snapshot has; zero if there is none.
type snapshotEnd struct{ index, term uint64 }

const snapshotsKept = 2

// openSnapshots opens the snapshots of a data directory, of which the newest must be sound.
func openSnapshots(d *directory, opts *Options) (*snapshotStore, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(d.path, snapshotsKept, newRaftLogger(opts.Logger))
	if err != nil {
		return nil, fmt.Errorf("cluster: open snapshots: %w", err)
	}
	s := &snapshotStore{FileSnapshotStore: files, path: d.file(snapshotDir), done: opts.Observer.Snapshot}
	if err := s.check(); err != nil {
		return nil, err
	}
	list, err := files.List()
	if err != nil {
		return nil, fmt.Errorf("cluster: list snapshots: %w", err)
	}
	if len(list) == 0 {
		return s, nil
	}
	_, r, err := files.Open(list[0].ID)
	if err != nil {
		return nil, damaged(filepath.Join(s.path, list[0].ID), err.Error())
	}
	s.newest, s.at = snapshotEnd{list[0].Index, list[0].Term}, snapshotTime(list[0].ID)
	return s, r.Close()
}

// end returns the end of the newest snapshot.
func (s *snapshotStore) end() snapshotEnd {
	end, _ := s.latest()
	return end
}

// latest returns the end of the newest snapshot and when it was begun.
func (s *snapshotStore) latest() (snapshotEnd, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest, s.at
}

// check finds snapshots that the file store would leave out, and removes what a crash left of unfinished ones.
func (s *snapshotStore) check() error {
	dirs, err := os.ReadDir(s.path)
	if err != nil {
		return fmt.Errorf("cluster: list snapshots: %w", err)
	}
	for _, d := range dirs {
		path := filepath.Join(s.path, d.Name())
		switch {
		case !d.IsDir():
		case strings.HasSuffix(d.Name(), ".tmp"):
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("cluster: remove unfinished snapshot: %w", err)
			}
		default:
			if err := checkSnapshotMeta(filepath.Join(path, "meta.json"), d.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSnapshotMeta(path, id string) error {
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cluster: read snapshot: %w", err)
	}
	var meta raft.SnapshotMeta
	if err == nil {
		err = json.Unmarshal(b, &meta)
	}
	if err != nil {
		return damaged(path, err.Error())
	}
	if meta.ID != id || meta.Version != 1 || meta.Index == 0 {
		return damaged(path, fmt.Sprintf("snapshot %q of version %d to entry %d", meta.ID, meta.Version, meta.Index))
	}
	return nil
}

// Create implements raft.SnapshotStore.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, configIndex uint64,
	t raft.Transport) (raft.SnapshotSink, error) {
	start := time.Now()
	sink, err := s.FileSnapshotStore.Create(version, index, term, c, configIndex, t)
	if err != nil {
		if s.done != nil {
			s.done(time.Since(start), 0, err)
		}
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, store: s, end: snapshotEnd{index, term}, start: start}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	store *snapshotStore
	end   snapshotEnd
	start time.Time
	bytes int64
	ended bool // raft ends it twice
}

// Write implements io.Writer.
func (s *snapshotSink) Write(b []byte) (int, error) {
	n, err := s.SnapshotSink.Write(b)
	s.bytes += int64(n)
	return n, err
}

// Cancel implements raft.SnapshotSink.
func (s *snapshotSink) Cancel() error {
	s.finish(errCancelled)
	return s.SnapshotSink.Cancel()
}

// errCancelled is a snapshot that was given up.
var errCancelled = errors.New("cluster: snapshot given up")

// Close makes the snapshot durable.
func (s *snapshotSink) Close() error {
	err := s.close()
	s.finish(err)
	return err
}

// finish tells the observer, once.
func (s *snapshotSink) finish(err error) {
	if !s.ended && s.store.done != nil {
		s.store.done(time.Since(s.start), s.bytes, err)
	}
	s.ended = true
}

// close makes the snapshot durable before raft deletes the log entries that it replaces.
//
// A snapshot that the leader sent may contradict the log.  Raft keeps the log all the same; here goes what the paper says (figure 13) as far as
// it may while raft runs: if the log has not the snapshot's last entry, nothing in it up to there is known to be right, and must not be
// sent to others if this node comes to lead.  What follows stays for the leader to overwrite (see namedTransport.fit).
func (s *snapshotSink) close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(s.store.path, s.ID())); err != nil {
		return err
	}
	s.store.mu.Lock()
	s.store.newest, s.store.at = s.end, snapshotTime(s.ID())
	s.store.mu.Unlock()
	var last raft.Log
	err := s.store.logs.GetLog(s.end.index, &last)
	if err == nil && last.Term == s.end.term {
		return nil
	}
	if err != nil && err != raft.ErrLogNotFound {
		return err
	}
	return s.store.logs.DeleteRange(0, s.end.index)
}
