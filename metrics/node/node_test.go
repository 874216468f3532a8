package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// fake is a source with what a test puts into it.
type fake struct {
	stats cluster.Stats
	state *fsm.State
}

func (f fake) Stats() cluster.Stats { return f.stats }
func (f fake) LocalView() *fsm.View { return f.state.View() }

func fakeState(t *testing.T) *fsm.State {
	t.Helper()
	s := fsm.New()
	commands := []fsm.Command{
		{Kind: fsm.KindRegister, Name: "a", URI: "PYRO:a@h:1"},
		{Kind: fsm.KindRegister, Name: "b", URI: "PYRO:b@h:1"},
		{Kind: fsm.KindRegister, Name: "c", URI: "PYRO:c@h:1"},
		{Kind: fsm.KindJoin, Name: "bank", Member: fsm.Member{ID: "m1", URI: "PYRO:x@h:1"}},
		{Kind: fsm.KindJoin, Name: "bank", Member: fsm.Member{ID: "m2", URI: "PYRO:x@h:2"}},
		{Kind: fsm.KindJoin, Name: "shop", Member: fsm.Member{ID: "m3", URI: "PYRO:x@h:3"}},
		{Kind: fsm.KindHealth, Verdicts: []fsm.Verdict{{Group: "bank", Member: "m2", Joined: 5, Health: fsm.Suspect}}},
	}
	entry, err := fsm.EncodeEntry(commands)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(1, entry); err != nil {
		t.Fatal(err)
	}
	return s
}

func gather(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf("{%s=%s}", l.GetName(), l.GetValue())
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetHistogram().GetSampleSum()
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m, err := New(reg, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	// Before the node is open there is nothing to say about it.
	if got := gather(t, reg); len(got) != 10 || got["pyro_node_ready"] != 1 {
		t.Errorf("before Follow: got %v", got)
	}
	at := time.UnixMilli(1_700_000_000_500)
	m.Follow(fake{cluster.Stats{
		State: "follower", HasLeader: true, Term: 3, LastIndex: 30, CommitIndex: 20, AppliedIndex: 10, LeaderChanges: 2,
		LastContact: 50 * time.Millisecond, Voters: 3, Nonvoters: 1, SnapshotIndex: 5, SnapshotTime: at, LogBytes: 4096,
	}, fakeState(t)})
	o := m.Observer()
	o.LogWritten(time.Second, 4, 100, nil)
	o.LogWritten(time.Second, 4, 100, errors.New("disk full"))
	o.Committed(2*time.Second, 7)
	o.Snapshot(3*time.Second, 1000, nil)
	o.Snapshot(3*time.Second, 1, errors.New("disk full"))
	want := map[string]float64{
		"pyro_node_ready":                       1,
		"pyro_raft_state{state=follower}":       1,
		"pyro_raft_state{state=leader}":         0,
		"pyro_raft_state{state=candidate}":      0,
		"pyro_raft_state{state=shutdown}":       0,
		"pyro_raft_has_leader":                  1,
		"pyro_raft_term":                        3,
		"pyro_raft_last_index":                  30,
		"pyro_raft_commit_index":                20,
		"pyro_raft_applied_index":               10,
		"pyro_raft_leader_changes_total":        2,
		"pyro_raft_leader_last_contact_seconds": .05,
		"pyro_raft_members{suffrage=voter}":     3,
		"pyro_raft_members{suffrage=nonvoter}":  1,
		"pyro_raft_snapshot_index":              5,
		"pyro_raft_snapshot_timestamp_seconds":  1_700_000_000.5,
		"pyro_raft_log_file_bytes":              4096,
		"pyro_raft_log_entries_written_total":   4,
		"pyro_raft_log_written_bytes_total":     100,
		"pyro_raft_log_write_errors_total":      1,
		"pyro_raft_log_write_duration_seconds":  2,
		"pyro_raft_commit_duration_seconds":     2,
		"pyro_raft_entry_commands":              7,
		"pyro_raft_snapshot_duration_seconds":   3,
		"pyro_raft_snapshot_bytes":              1000,
		"pyro_raft_snapshot_errors_total":       1,
		"pyro_registry_changes_total":           7,
		"pyro_registry_entries":                 3,
		"pyro_registry_groups":                  2,
		"pyro_registry_members{health=alive}":   2,
		"pyro_registry_members{health=suspect}": 1,
	}
	got := gather(t, reg)
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s: got %v (there: %v), want %v", name, g, ok, v)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("not expected: %v", got)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if _, err := New(reg, func() bool { return false }); err == nil {
		t.Error("a second node in the same registry: got no error")
	}
}

func TestNoSnapshotHasNoTime(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m, err := New(reg, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	m.Follow(fake{cluster.Stats{State: "leader"}, fsm.New()})
	got := gather(t, reg)
	if v, ok := got["pyro_raft_snapshot_timestamp_seconds"]; ok {
		t.Errorf("got a time of %v, which alerts would take for a snapshot of 1970", v)
	}
	if got["pyro_node_ready"] != 0 || got["pyro_raft_state{state=leader}"] != 1 {
		t.Errorf("got %v, want a leader that is not ready", got)
	}
}
