package cluster

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Observer is told what a node does, for metrics: hashicorp/raft's own belong to the process, and cannot be told apart by node.  Functions
// that are nil are not called; the others are called by several goroutines, and must be quick.
type Observer struct {
	// LogWritten is told of entries that were written to the log and synced, or could not be.
	LogWritten func(took time.Duration, entries, bytes int, err error)
	// Committed is told, on the leader, of a log entry with that many commands, once it is committed and applied.
	Committed func(took time.Duration, commands int)
	// Snapshot is told of a snapshot that was written, this node's or one that the leader sent, or could not be.
	Snapshot func(took time.Duration, bytes int64, err error)
}

// Stats is what a node knows about itself and raft at one moment.
type Stats struct {
	State                                      string // "leader", "follower", "candidate" or "shutdown"
	HasLeader                                  bool   // some node is known to lead
	Term, LastIndex, CommitIndex, AppliedIndex uint64
	LeaderChanges                              uint64        // leaders seen since the node was opened
	LastContact                                time.Duration // since a follower heard of its leader, or since it started if it never did; 0 on the leader
	Voters, Nonvoters                          int           // in the configuration
	SnapshotIndex                              uint64        // 0 if there is no snapshot
	SnapshotTime                               time.Time     // when the newest one was begun; zero if there is none
	LogBytes                                   int64         // size of the log's file; 0 if that cannot be told
}

// Stats returns the node's figures.  It takes no lock for long and waits for nobody.
func (n *Node) Stats() Stats {
	state := n.raft.State()
	s := Stats{
		State:         strings.ToLower(state.String()),
		HasLeader:     n.currentLeader().ID != "",
		Term:          n.raft.CurrentTerm(),
		LastIndex:     n.raft.LastIndex(),
		CommitIndex:   n.raft.CommitIndex(),
		AppliedIndex:  n.machine.index(),
		LeaderChanges: n.leaderChanges.Load(),
	}
	if state != raft.Leader {
		since := n.raft.LastContact()
		if since.IsZero() {
			since = n.opened
		}
		s.LastContact = time.Since(since)
	}
	for _, server := range n.servers() {
		if server.Suffrage == raft.Voter {
			s.Voters++
		} else {
			s.Nonvoters++
		}
	}
	end, at := n.snapshots.latest()
	s.SnapshotIndex, s.SnapshotTime = end.index, at
	if info, err := os.Stat(n.store.path); err == nil {
		s.LogBytes = info.Size()
	}
	return s
}

// snapshotTime reads when a snapshot was begun from its id, "term-index-milliseconds".
func snapshotTime(id string) time.Time {
	millis, err := strconv.ParseInt(id[strings.LastIndexByte(id, '-')+1:], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(millis)
}
