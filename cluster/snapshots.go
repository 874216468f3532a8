package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// snapshotStore is raft's file store, which writes to a temporary directory, syncs its files, renames it, and keeps a checksum that it
// compares before it hands a snapshot out.  What it does not do: sync the directory of a snapshot itself, without which the
// files' names may be lost, and say when a snapshot is damaged: it falls back to an older one in silence.
type snapshotStore struct {
	*raft.FileSnapshotStore
	path string
}

const snapshotsKept = 2

// openSnapshots opens the snapshots of a data directory and returns the index and term of the newest, zero if there is none.
func openSnapshots(d *directory, opts *Options) (s *snapshotStore, index, term uint64, err error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(d.path, snapshotsKept, newRaftLogger(opts.Logger))
	if err != nil {
		return nil, 0, 0, fmt.Errorf("cluster: open snapshots: %w", err)
	}
	s = &snapshotStore{files, d.file(snapshotDir)}
	if err := s.check(); err != nil {
		return nil, 0, 0, err
	}
	list, err := files.List()
	if err != nil {
		return nil, 0, 0, fmt.Errorf("cluster: list snapshots: %w", err)
	}
	if len(list) == 0 {
		return s, 0, 0, nil
	}
	_, r, err := files.Open(list[0].ID)
	if err != nil {
		return nil, 0, 0, damaged(filepath.Join(s.path, list[0].ID), err.Error())
	}
	return s, list[0].Index, list[0].Term, r.Close()
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
	return &snapshotSink{sink, s.path}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	path string
}

// Close makes the snapshot durable before raft deletes the log entries that it replaces.
func (s *snapshotSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	return syncDir(filepath.Join(s.path, s.ID()))
}
