package events

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Standalone is a [Cluster] of one node that keeps its state in memory: for a program that has an event server of its own, and for tests.
type Standalone struct {
	state *fsm.State

	mu    sync.Mutex // guards applying
	index uint64
}

// NewStandalone returns an empty one.  The broker that runs on it is told of changes, [Broker.Changes], by changes; it may be nil.
func NewStandalone(changes func([]fsm.Change)) *Standalone {
	s := &Standalone{state: fsm.New()}
	if changes != nil {
		s.state.Observe(changes)
	}
	return s
}

// ID implements [Cluster].
func (s *Standalone) ID() string { return "standalone" }

// IsLeader implements [Cluster].
func (s *Standalone) IsLeader() bool { return true }

// LocalView implements [Cluster].
func (s *Standalone) LocalView() *fsm.View { return s.state.View() }

// View implements [Cluster].
func (s *Standalone) View(context.Context) (*fsm.View, error) { return s.state.View(), nil }

// Apply implements [Cluster].
func (s *Standalone) Apply(_ context.Context, c fsm.Command) (fsm.Result, error) {
	c.Time = time.Now().UnixNano()
	entry, err := fsm.EncodeEntry([]fsm.Command{c})
	if err != nil {
		return fsm.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	results, err := s.state.Apply(s.index, entry)
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

// Send implements [Cluster]; there is no other node.
func (s *Standalone) Send(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("events: no other node")
}
