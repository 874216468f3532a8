// Package node has the metrics of a cluster node: raft and the registry.  The figures of raft come from our own wrappers, not from
// hashicorp/raft's metrics: those go to one sink of the process and do not say which node they are of.
package node

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Source is what figures are read from at each scrape; a *cluster.Node is one.  Both methods must be quick.
type Source interface {
	Stats() cluster.Stats
	LocalView() *fsm.View
}

// Metrics are those of one node.  They are safe for concurrent use.
type Metrics struct {
	source atomic.Pointer[Source] // nil until Follow

	written, writtenBytes, writeErrors prometheus.Counter
	snapshotErrors                     prometheus.Counter
	snapshotBytes                      prometheus.Gauge
	write, commit, snapshot, commands  prometheus.Histogram
}

// New registers the metrics of a node with reg, of which a node needs one of its own.  What [Metrics.Follow] has to bring is left out
// until then.  ready is asked at each scrape and must be quick.
func New(reg prometheus.Registerer, ready func() bool) (*Metrics, error) {
	m := &Metrics{
		written:        counter("pyro_raft_log_entries_written_total", "Log entries written to this node's disk."),
		writtenBytes:   counter("pyro_raft_log_written_bytes_total", "Bytes of commands in the log entries written to this node's disk."),
		writeErrors:    counter("pyro_raft_log_write_errors_total", "Writes to the log that the disk refused; the node stops after one."),
		snapshotErrors: counter("pyro_raft_snapshot_errors_total", "Snapshots, own or from the leader, that could not be written or were given up."),
		snapshotBytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pyro_raft_snapshot_bytes", Help: "Size of the snapshot written last, 0 if none was since the start.",
		}),
		write: histogram("pyro_raft_log_write_duration_seconds", "Time of one write to the log, fsync included.",
			prometheus.ExponentialBuckets(.0001, 2, 16)),
		commit: histogram("pyro_raft_commit_duration_seconds", "On the leader: time from proposing a log entry until it is on a majority's disks and applied.",
			prometheus.ExponentialBuckets(.0001, 2, 18)),
		snapshot: histogram("pyro_raft_snapshot_duration_seconds", "Time to write a snapshot; of one from the leader, to receive it, too.",
			prometheus.ExponentialBuckets(.001, 2, 18)),
		commands: histogram("pyro_raft_entry_commands", "On the leader: commands in one log entry.", prometheus.ExponentialBuckets(1, 2, 13)),
	}
	isReady := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "pyro_node_ready", Help: "1 if the node was ready (/readyz) when it last looked, which it does every half second.",
	}, func() float64 { return boolean(ready()) })
	for _, c := range []prometheus.Collector{m, isReady, m.written, m.writtenBytes, m.writeErrors, m.snapshotErrors, m.snapshotBytes,
		m.write, m.commit, m.snapshot, m.commands} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	return m, nil
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Observer returns what [cluster.Options] takes.
func (m *Metrics) Observer() cluster.Observer {
	return cluster.Observer{
		LogWritten: func(took time.Duration, entries, bytes int, err error) {
			m.write.Observe(took.Seconds())
			if err != nil {
				m.writeErrors.Inc()
				return
			}
			m.written.Add(float64(entries))
			m.writtenBytes.Add(float64(bytes))
		},
		Committed: func(took time.Duration, commands int) {
			m.commit.Observe(took.Seconds())
			m.commands.Observe(float64(commands))
		},
		Snapshot: func(took time.Duration, bytes int64, err error) {
			if err != nil {
				m.snapshotErrors.Inc()
				return
			}
			m.snapshot.Observe(took.Seconds())
			m.snapshotBytes.Set(float64(bytes))
		},
	}
}

// Follow says where the other figures come from, once the node is open.
func (m *Metrics) Follow(s Source) { m.source.Store(&s) }

// The metrics that are read at a scrape.
var (
	raftState = desc("pyro_raft_state", "1 for the state that raft is in on this node, 0 for the others.", "state")
	hasLeader = desc("pyro_raft_has_leader", "1 if this node knows a leader.")
	term      = desc("pyro_raft_term", "Raft's term on this node.")
	last      = desc("pyro_raft_last_index", "Index of the last entry in this node's log.")
	commit    = desc("pyro_raft_commit_index", "Index of the last entry that this node knows to be committed.")
	applied   = desc("pyro_raft_applied_index", "Index of the last entry in this node's state.")
	leaders   = desc("pyro_raft_leader_changes_total", "Leaders that this node has seen since its start.")
	contact   = desc("pyro_raft_leader_last_contact_seconds", "Time since this node last heard of the leader, 0 on the leader.")
	members   = desc("pyro_raft_members", "Nodes in the configuration.", "suffrage")
	snapIndex = desc("pyro_raft_snapshot_index", "Index of the last entry in the newest snapshot, 0 if there is none.")
	snapTime  = desc("pyro_raft_snapshot_timestamp_seconds", "When the newest snapshot was begun, in Unix time; left out if there is none.")
	logBytes  = desc("pyro_raft_log_file_bytes", "Size of the file with the log.")
	changes   = desc("pyro_registry_changes_total", "Changes of the registry since it was made (its revision), as far as this node has applied them.")
	entries   = desc("pyro_registry_entries", "Names with an object, object groups not counted.")
	groups    = desc("pyro_registry_groups", "Object groups.")
	health    = desc("pyro_registry_members", "Members of object groups, by what the leader's probes say.", "health")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{raftState, hasLeader, term, last, commit, applied, leaders, contact, members, snapIndex, snapTime,
		logBytes, changes, entries, groups, health} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(c chan<- prometheus.Metric) {
	source := m.source.Load()
	if source == nil {
		return
	}
	collectRaft((*source).Stats(), c)
	collectRegistry((*source).LocalView(), c)
}

func gauge(c chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func collectRaft(s cluster.Stats, c chan<- prometheus.Metric) {
	for _, state := range []string{"leader", "follower", "candidate", "shutdown"} {
		gauge(c, raftState, boolean(s.State == state), state)
	}
	gauge(c, hasLeader, boolean(s.HasLeader))
	gauge(c, term, float64(s.Term))
	gauge(c, last, float64(s.LastIndex))
	gauge(c, commit, float64(s.CommitIndex))
	gauge(c, applied, float64(s.AppliedIndex))
	c <- prometheus.MustNewConstMetric(leaders, prometheus.CounterValue, float64(s.LeaderChanges))
	gauge(c, contact, s.LastContact.Seconds())
	gauge(c, members, float64(s.Voters), "voter")
	gauge(c, members, float64(s.Nonvoters), "nonvoter")
	gauge(c, snapIndex, float64(s.SnapshotIndex))
	if !s.SnapshotTime.IsZero() {
		gauge(c, snapTime, float64(s.SnapshotTime.UnixMilli())/1000)
	}
	gauge(c, logBytes, float64(s.LogBytes))
}

func collectRegistry(v *fsm.View, c chan<- prometheus.Metric) {
	count, alive, suspect := 0, 0, 0
	for g := range v.Groups("") {
		count++
		for _, m := range g.Members {
			if m.Health == fsm.Alive {
				alive++
			} else {
				suspect++
			}
		}
	}
	c <- prometheus.MustNewConstMetric(changes, prometheus.CounterValue, float64(v.Revision()))
	gauge(c, entries, float64(v.Count()-count))
	gauge(c, groups, float64(count))
	gauge(c, health, float64(alive), "alive")
	gauge(c, health, float64(suspect), "suspect")
}
