package naming

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// fakeStore is a cluster of one that never fails unless told: a real state machine behind a lock.
type fakeStore struct {
	state *fsm.State

	mu       sync.Mutex
	index    uint64
	down     error // the answer to everything when set
	commands []fsm.Command
	changed  chan struct{} // closed and replaced at each change
}

func newFakeStore() *fakeStore { return &fakeStore{state: fsm.New(), changed: make(chan struct{})} }

func (s *fakeStore) View(ctx context.Context) (*fsm.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	return s.state.View(), ctx.Err()
}

func (s *fakeStore) Apply(_ context.Context, c fsm.Command) (fsm.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return fsm.Result{}, s.down
	}
	c, err := Prepare(s.state.View(), c)
	if err != nil {
		return fsm.Result{}, err
	}
	s.commands = append(s.commands, c)
	entry, err := fsm.EncodeEntry([]fsm.Command{c})
	if err != nil {
		return fsm.Result{}, err
	}
	s.index++
	results, err := s.state.Apply(s.index, entry)
	if err != nil {
		return fsm.Result{}, err
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return results[0], nil
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

// last returns the command that ran last.
func (s *fakeStore) last(t *testing.T) fsm.Command {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.commands) == 0 {
		t.Fatal("no command ran")
	}
	return s.commands[len(s.commands)-1]
}

func (s *fakeStore) do(t *testing.T, c fsm.Command) fsm.Result {
	t.Helper()
	r, err := s.Apply(t.Context(), c)
	if err != nil {
		t.Fatalf("apply %+v: %v", c, err)
	}
	return r
}

// suspect takes a member for dead.
func (s *fakeStore) suspect(t *testing.T, group, member string) {
	t.Helper()
	g, _ := s.state.View().Group(group)
	i := slices.IndexFunc(g.Members, func(m fsm.Member) bool { return m.ID == member })
	if i < 0 {
		t.Fatalf("no member %q in %+v", member, g)
	}
	s.do(t, fsm.Command{Kind: fsm.KindHealth, Verdicts: []fsm.Verdict{
		{Group: group, Member: member, Joined: g.Members[i].Joined, Health: fsm.Suspect, Reason: "test"},
	}})
}

var errDown = errors.New("no leader")

var ownURI = core.URI{Protocol: "PYRO", Object: ObjectID, Host: "n1", Port: 9090}

// subject is a name server whose methods a test calls without a network.
type subject struct {
	*Server
	store   *fakeStore
	methods map[string]core.Method
}

func newSubject() *subject { return newSubjectWith(ServerOptions{URI: ownURI}) }

func newSubjectWith(opts ServerOptions) *subject {
	store := newFakeStore()
	s := &subject{Server: NewServer(store, opts), store: store, methods: map[string]core.Method{}}
	for _, m := range s.Servant().Methods {
		s.methods[m.Name] = m
	}
	return s
}

// call binds arguments as a daemon does: by position, then by keyword.
func (s *subject) call(t *testing.T, method string, args ...any) (any, error) {
	t.Helper()
	m, ok := s.methods[method]
	if !ok {
		t.Fatalf("no method %s", method)
	}
	var kwargs core.Kwargs
	if n := len(args); n > 0 {
		if k, ok := args[n-1].(core.Kwargs); ok {
			kwargs, args = k, args[:n-1]
		}
	}
	bound := make([]any, len(m.Params))
	for i, p := range m.Params {
		switch value, named := kwargs[p.Name]; {
		case i < len(args):
			bound[i] = args[i]
		case named:
			bound[i] = value
		case p.Optional:
			bound[i] = p.Default
		default:
			t.Fatalf("%s: no argument for %s", method, p.Name)
		}
	}
	return m.Func(t.Context(), bound)
}

func (s *subject) must(t *testing.T, method string, args ...any) any {
	t.Helper()
	v, err := s.call(t, method, args...)
	if err != nil {
		t.Fatalf("%s(%v): %v", method, args, err)
	}
	return v
}
