package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// logStore is raft-boltdb for raft's log and its few other values, such that a damaged or full disk stops the node instead of the process.
type logStore struct {
	path string
	bolt raftStore
	// fail stops the node; it is nil until raft runs.
	fail    atomic.Pointer[func(error)]
	written func(took time.Duration, entries, bytes int, err error) // may be nil
	// broken is set by a panic inside bbolt, which may still hold its locks.
	broken atomic.Bool
}

// raftStore is what raft needs of a disk; *raftboltdb.BoltStore.
type raftStore interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

var (
	_ raft.LogStore    = (*logStore)(nil)
	_ raft.StableStore = (*logStore)(nil)
)

// openLogStore opens the log of a data directory, after it was checked for damage.
func openLogStore(d *directory, opts *Options) (*logStore, error) {
	path := d.file(logFile)
	if d.identity().LogCreated {
		if err := checkBolt(path); errors.Is(err, fs.ErrNotExist) {
			return nil, damaged(path, "missing")
		} else if err != nil {
			return nil, damaged(path, err.Error())
		}
	} else if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// A crash interrupted its making: raft has not yet written to it.
		return nil, fmt.Errorf("cluster: make log: %w", err)
	}
	s := &logStore{path: path, written: opts.Observer.LogWritten}
	err := s.guard("open", func() error {
		bolt, err := raftboltdb.New(raftboltdb.Options{
			Path: path,
			BoltOptions: &bbolt.Options{
				Timeout:        time.Second, // a lock that somebody else took, who does not know of LOCK
				NoFreelistSync: true,
				FreelistType:   bbolt.FreelistMapType,
			},
			MsgpackUseNewTimeFormat: true,
		})
		if err == nil {
			s.bolt = opts.disk(bolt)
		}
		return err
	})
	if err == nil && !d.identity().LogCreated {
		err = errors.Join(syncDir(d.path), d.update(func(id *identity) error { id.LogCreated = true; return nil }))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cluster: open log: %w", err), s.Close())
	}
	return s, nil
}

// guard turns panics of bbolt, and faults of reading its mapping, into errors.
func (s *logStore) guard(op string, f func() error) (err error) {
	if s.broken.Load() {
		return damaged(s.path, op+" after an earlier fault")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.broken.Store(true)
			err = damaged(s.path, fmt.Sprintf("%s: %v", op, r))
		}
	}()
	return f()
}

// check stops the node if err is not nil.
func (s *logStore) check(op string, err error) error {
	if err == nil {
		return nil
	}
	if fail := s.fail.Load(); fail != nil {
		(*fail)(fmt.Errorf("cluster: %s: %s: %w", s.path, op, err))
	}
	return err
}

// must is check for what raft answers with a panic: its goroutine ends here, so that the process lives and the node can say why it
// stops.  The deferred functions of raft run, which is all that it needs to be shut down.
func (s *logStore) must(op string, err error) error {
	if s.check(op, err) != nil && s.fail.Load() != nil {
		runtime.Goexit()
	}
	return err
}

func (s *logStore) FirstIndex() (i uint64, err error) {
	err = s.guard("first index", func() (err error) { i, err = s.bolt.FirstIndex(); return err })
	return i, s.check("first index", err)
}

func (s *logStore) LastIndex() (i uint64, err error) {
	err = s.guard("last index", func() (err error) { i, err = s.bolt.LastIndex(); return err })
	return i, s.check("last index", err)
}

func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	err := s.guard("read", func() error { return s.bolt.GetLog(index, l) })
	if err == raft.ErrLogNotFound {
		return err // an answer, not a fault
	}
	// Damage is found before the entry goes anywhere.
	if err == nil && (l.Index != index || l.Type == raft.LogCommand && fsm.CheckEntry(l.Data) != nil) {
		err = damaged(s.path, fmt.Sprintf("entry %d", index))
	}
	return s.must("read", err)
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *logStore) StoreLogs(logs []*raft.Log) error {
	start := time.Now()
	err := s.guard("write", func() error { return s.bolt.StoreLogs(logs) })
	if s.written != nil {
		bytes := 0
		for _, l := range logs {
			bytes += len(l.Data)
		}
		s.written(time.Since(start), len(logs), bytes, err)
	}
	return s.check("write", err)
}

func (s *logStore) DeleteRange(low, high uint64) error {
	return s.check("delete", s.guard("delete", func() error { return s.bolt.DeleteRange(low, high) }))
}

func (s *logStore) Set(key, value []byte) error {
	return s.must("write", s.guard("write", func() error { return s.bolt.Set(key, value) }))
}

func (s *logStore) SetUint64(key []byte, value uint64) error {
	return s.must("write", s.guard("write", func() error { return s.bolt.SetUint64(key, value) }))
}

func (s *logStore) Get(key []byte) (value []byte, err error) {
	err = s.guard("read", func() (err error) { value, err = s.bolt.Get(key); return err })
	return value, s.found(err)
}

func (s *logStore) GetUint64(key []byte) (value uint64, err error) {
	err = s.guard("read", func() (err error) { value, err = s.bolt.GetUint64(key); return err })
	return value, s.found(err)
}

func (s *logStore) found(err error) error {
	if err == raftboltdb.ErrKeyNotFound {
		return err
	}
	return s.must("read", err)
}

// Close closes the file, unless bbolt is in no state to do so: then it stays open until the process ends.
func (s *logStore) Close() error {
	if s.bolt == nil || s.broken.Load() {
		return nil
	}
	return s.guard("close", s.bolt.Close)
}

// verify reads the whole log, which must go on without a gap where the snapshot ends.
func (s *logStore) verify(snapshotIndex uint64) error {
	first, err := s.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	var term uint64
	for i := first; last > 0 && i <= last; i++ {
		var l raft.Log
		err := s.GetLog(i, &l)
		switch {
		case err == raft.ErrLogNotFound && i <= snapshotIndex:
			continue // left over from before a snapshot of the leader was installed
		case err != nil:
			return damaged(s.path, fmt.Sprintf("entry %d: %v", i, err))
		case i > snapshotIndex && l.Term < term:
			return damaged(s.path, fmt.Sprintf("entry %d: term %d after %d", i, l.Term, term))
		}
		if i >= snapshotIndex {
			term = l.Term
		}
	}
	if last > snapshotIndex && first > snapshotIndex+1 {
		return damaged(s.path, fmt.Sprintf("begins with entry %d, the newest snapshot ends with %d", first, snapshotIndex))
	}
	return nil
}

// repair deletes the log if it cannot be the one that the newest snapshot was made of or goes on with: a node that got a snapshot from its
// leader while its own log was longer and different keeps that (hashicorp/raft issue 697).
//
// The entry at the snapshot's end tells, if it is there.  Else the first one above: terms never fall along a log, so if its term is
// lower it was never committed.  In both cases all entries that count are in the snapshot.
func (s *logStore) repair(snapshot snapshotEnd) (deleted bool, err error) {
	index, term := snapshot.index, snapshot.term
	if index == 0 {
		return false, nil
	}
	last, err := s.LastIndex()
	if err != nil || last < index {
		return false, err
	}
	differs := false
	for i := index; i <= min(last, index+1) && !differs; i++ {
		var l raft.Log
		switch err := s.GetLog(i, &l); {
		case err == raft.ErrLogNotFound:
		case err != nil:
			return false, err
		default:
			differs = l.Term < term || i == index && l.Term != term
		}
	}
	if !differs {
		return false, nil
	}
	return true, s.DeleteRange(0, math.MaxUint64)
}
