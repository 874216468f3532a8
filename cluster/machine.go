package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/klauspost/compress/zstd"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// machine is the state machine as raft sees it.
type machine struct {
	state *fsm.State
	// fail stops the node; changed is told of each new state.  Both are called by raft's goroutine and must be quick.
	fail    func(error)
	changed func(*fsm.View)
	now     func() time.Time

	mu       sync.Mutex
	applied  uint64        // index of the last entry in state: also those that only raft understands
	wake     chan struct{} // closed when applied changes; nil if nobody waits
	failed   error         // why nothing is applied any more
	restored []restore     // in the last minute
}

var _ raft.BatchingFSM = (*machine)(nil)

type restore struct {
	index uint64
	at    time.Time
}

// More restores of one snapshot than this in that time mean that the node will never catch up (see logStore.repair).
const (
	maxRestores    = 3
	restoresWithin = time.Minute
)

// applied is what raft hands from the state machine to the one who proposed an entry.
type applied struct {
	results []fsm.Result
	term    uint64
	err     error
}

func newMachine(fail func(error), changed func(*fsm.View)) *machine {
	return &machine{state: fsm.New(), fail: fail, changed: changed, now: time.Now}
}

// Apply implements raft.FSM.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM.  After an entry that cannot be applied nothing is, since a replica that skips one is no replica.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	m.mu.Lock()
	failed := m.failed
	m.mu.Unlock()
	answers := make([]any, len(logs))
	last := uint64(0)
	for i, l := range logs {
		a := applied{term: l.Term, err: failed}
		if failed == nil && l.Type == raft.LogCommand {
			if a.results, a.err = m.state.Apply(l.Index, l.Data); a.err != nil {
				failed = a.err
			}
		}
		if failed == nil {
			last = l.Index
		}
		answers[i] = a
	}
	m.advance(last, failed)
	return answers
}

func (m *machine) advance(index uint64, failed error) {
	m.changed(m.state.View())
	m.mu.Lock()
	first := failed != nil && m.failed == nil
	m.failed = failed
	if index > 0 {
		m.applied = index
		m.wakeLocked()
	}
	m.mu.Unlock()
	if first {
		m.fail(failed)
	}
}

func (m *machine) wakeLocked() {
	if m.wake != nil {
		close(m.wake)
		m.wake = nil
	}
}

// index is the index of the last entry in the state.
func (m *machine) index() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// wait returns when the state has the entry of that index.
func (m *machine) wait(ctx context.Context, index uint64) error {
	for {
		m.mu.Lock()
		if m.applied >= index {
			m.mu.Unlock()
			return nil
		}
		if m.wake == nil {
			m.wake = make(chan struct{})
		}
		wake := m.wake
		m.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return fmt.Errorf("cluster: applied entry %d, waiting for %d: %w", m.index(), index, context.Cause(ctx))
		}
	}
}

// A snapshot is a header and the state as a zstd frame with a checksum; the file store puts another checksum over it all.
//
//	8 bytes  snapshotMagic
//	8 bytes  index of the last entry, big endian
//	4 bytes  CRC-32C of the above, big endian
//	zstd     fsm.View.Persist
const (
	snapshotMagic  = "pyrosnp\x01"
	snapshotHeader = 20
)

type snapshot struct {
	view  *fsm.View
	index uint64
}

// Snapshot implements raft.FSM in constant time.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return nil, m.failed
	}
	return snapshot{m.state.View(), m.applied}, nil
}

func (s snapshot) Release() {}

// Persist implements raft.FSMSnapshot.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.write(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (s snapshot) write(w io.Writer) error {
	h := append(make([]byte, 0, snapshotHeader), snapshotMagic...)
	h = binary.BigEndian.AppendUint64(h, s.index)
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
	if _, err := w.Write(h); err != nil {
		return fmt.Errorf("cluster: write snapshot: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderCRC(true), zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return fmt.Errorf("cluster: write snapshot: %w", err)
	}
	b := bufio.NewWriterSize(z, 64<<10)
	if err := errors.Join(s.view.Persist(b), b.Flush(), z.Close()); err != nil {
		return fmt.Errorf("cluster: write snapshot: %w", err)
	}
	return nil
}

// Restore implements raft.FSM.  On error the state is what it was.
func (m *machine) Restore(r io.ReadCloser) error {
	index, err := m.restore(r)
	if err != nil {
		m.mu.Lock()
		m.failed = err
		m.mu.Unlock()
		m.fail(err)
		return err
	}
	m.changed(m.state.View())
	m.mu.Lock()
	m.applied, m.failed = index, nil
	m.wakeLocked()
	repeated := m.countLocked(index)
	m.mu.Unlock()
	if repeated {
		m.fail(fmt.Errorf("%w: snapshot %d was installed more than %d times within %v", ErrDiverged, index, maxRestores, restoresWithin))
	}
	return nil
}

func (m *machine) restore(r io.Reader) (index uint64, err error) {
	h := make([]byte, snapshotHeader)
	if _, err := io.ReadFull(r, h); err != nil {
		return 0, fmt.Errorf("cluster: read snapshot: header: %w", err)
	}
	if string(h[:8]) != snapshotMagic || crc32.Checksum(h[:16], castagnoli) != binary.BigEndian.Uint32(h[16:]) {
		return 0, fmt.Errorf("%w: snapshot: header % x", ErrDamaged, h)
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return 0, fmt.Errorf("cluster: read snapshot: %w", err)
	}
	defer z.Close()
	if err := m.state.Restore(bufio.NewReaderSize(z, 64<<10)); err != nil {
		return 0, fmt.Errorf("%w: snapshot: %w", ErrDamaged, err)
	}
	return binary.BigEndian.Uint64(h[8:]), nil
}

// countLocked counts a restore and reports whether there were too many of the same snapshot.
func (m *machine) countLocked(index uint64) bool {
	now, same := m.now(), 0
	m.restored = append(m.restored, restore{index, now})
	recent := m.restored[:0]
	for _, r := range m.restored {
		if now.Sub(r.at) < restoresWithin {
			recent = append(recent, r)
			if r.index == index {
				same++
			}
		}
	}
	m.restored = recent
	return same > maxRestores
}
