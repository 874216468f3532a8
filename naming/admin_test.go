package naming

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

type fakeAdmin struct {
	nodes []NodeInfo
	err   error // of everything

	mu    sync.Mutex
	calls []string
}

func (a *fakeAdmin) note(call string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, call)
	return a.err
}

func (a *fakeAdmin) Nodes(context.Context) ([]NodeInfo, error) { return a.nodes, a.err }

func (a *fakeAdmin) TransferLeadership(_ context.Context, to string) error {
	return a.note("transfer " + to)
}

func (a *fakeAdmin) RemoveNode(_ context.Context, id string) error {
	if id == "unknown" {
		return fmt.Errorf("cluster: %w", ErrUnknownNode)
	}
	return a.note("remove " + id)
}

func startAdmin(t *testing.T, a Admin) string {
	t.Helper()
	d := listen(t, core.DaemonOptions{})
	if _, err := d.Register(AdminID, AdminServant(a), core.ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	serve(t, d, make(chan struct{}))
	return d.Addr().String()
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	for _, serializer := range serializers {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			a := &fakeAdmin{nodes: []NodeInfo{
				{ID: "1", PyroAddress: "h1:1", RaftAddress: "h1:2", HTTPAddress: "h1:3", Role: "voter", Version: "v"},
				{ID: "2", PyroAddress: "h2:1", Role: RoleLeader},
			}}
			address := startAdmin(t, a)
			c := newClient(t, ClientOptions{}, address)
			nodes, err := c.Nodes(t.Context())
			if err != nil || !reflect.DeepEqual(nodes, a.nodes) {
				t.Errorf("nodes: got %+v, %v, want %+v", nodes, err, a.nodes)
			}
			if err := c.TransferLeadership(t.Context(), "1"); err != nil {
				t.Error(err)
			}
			if err := c.TransferLeadership(t.Context(), ""); err != nil {
				t.Error(err)
			}
			if err := c.RemoveNode(t.Context(), "2"); err != nil {
				t.Error(err)
			}
			if err := c.RemoveNode(t.Context(), "unknown"); !errors.Is(err, ErrUnknownNode) || !errors.Is(err, core.NamingError) {
				t.Errorf("unknown node: got %v, want ErrUnknownNode", err)
			}
			if want := []string{"transfer 1", "transfer ", "remove 2"}; !reflect.DeepEqual(a.calls, want) {
				t.Errorf("calls: got %q, want %q", a.calls, want)
			}
			p := core.NewProxy(core.URI{Protocol: "PYRO", Object: AdminID, Host: "127.0.0.1", Port: uri("PYRO:x@" + address).Port},
				core.ProxyOptions{Serializer: serializer})
			defer p.Close()
			var leader map[string]any
			if err := p.Call(t.Context(), "leader", &leader); err != nil || leader["id"] != "2" || leader["pyro"] != "h2:1" {
				t.Errorf("leader: got %v, %v, want node 2", leader, err)
			}
			if err := p.Call(t.Context(), "transfer", nil); err != nil {
				t.Errorf("transfer without an argument: %v", err)
			}
			checkException(t, p.Call(t.Context(), "remove", nil, 5), core.TypeError, "id must be a str")
			checkException(t, p.Call(t.Context(), "transfer", nil, 5), core.TypeError, "to must be a str")
		})
	}
}

func TestAdminFails(t *testing.T) {
	t.Parallel()
	a := &fakeAdmin{err: errDown}
	c := newClient(t, ClientOptions{Timeout: 100 * time.Millisecond}, startAdmin(t, a))
	if _, err := c.Nodes(t.Context()); !isCallError(err) {
		t.Errorf("nodes: got %v, want a CallError after asking everywhere", err)
	}
	checkException(t, c.TransferLeadership(t.Context(), "1"), core.PyroError, "no leader")
	checkException(t, c.RemoveNode(t.Context(), "1"), core.PyroError, "no leader")
	if len(a.calls) != 2 {
		t.Errorf("got %q, want each call once", a.calls)
	}
}

func isCallError(err error) bool {
	_, ok := errors.AsType[*failover.CallError](err)
	return ok
}

func TestNoLeader(t *testing.T) {
	t.Parallel()
	s := adminServant{&fakeAdmin{nodes: []NodeInfo{{ID: "1", Role: "voter"}}}}
	if got, err := s.leader(t.Context(), nil); got != nil || err != nil {
		t.Errorf("got %v, %v, want None", got, err)
	}
}
