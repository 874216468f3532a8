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

	"github.com/hashicorp/raft"
)

// snapshotStore is raft's file store, which writes to a temporary directory, syncs its files, renames it, and keeps a checksum that it
// compares before it hands a snapshot out.  What it does not do: sync the directory of a snapshot itself, without which the
// files' names may be lost, and say when a snapshot is damaged: it falls back to an older one in silence.
type snapshotStore struct {
	*raft.FileSnapshotStore
	path string
	logs raft.LogStore // set before raft runs

	mu     sync.Mutex // guards newest
	newest snapshotEnd
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
	s := &snapshotStore{FileSnapshotStore: files, path: d.file(snapshotDir)}
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
	s.newest = snapshotEnd{list[0].Index, list[0].Term}
	return s, r.Close()
}

// end returns the end of the newest snapshot.
func (s *snapshotStore) end() snapshotEnd {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
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
	sink, err := s.FileSnapshotStore.Create(version, index, term, c, configIndex, t)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{sink, s, snapshotEnd{index, term}}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	store *snapshotStore
	end   snapshotEnd
}

// Close makes the snapshot durable before raft deletes the log entries that it replaces.
//
// A snapshot that the leader sent may contradict the log.  Raft keeps the log all the same; here goes what the paper says (figure 13) as far as
// it may while raft runs: if the log has not the snapshot's last entry, nothing in it up to there is known to be right, and must not be
// sent to others if this node comes to lead.  What follows stays for the leader to overwrite (see namedTransport.fit).
func (s *snapshotSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	if err := syncDir(filepath.Join(s.store.path, s.ID())); err != nil {
		return err
	}
	s.store.mu.Lock()
	s.store.newest = s.end
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
