package naming

import (
	"context"
	"reflect"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

var ownEventsURI = core.URI{Protocol: "PYRO", Object: EventsID, Host: "n1", Port: 9090}

func TestEventServer(t *testing.T) {
	t.Parallel()
	ownEvents := ownEventsURI.String()
	madeUp := []step{
		call("lookup", ownEventsURI, EventsID),
		call("lookup", core.Tuple{ownEventsURI, core.Set{eventsTag}}, EventsID, true),
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"is found", madeUp},
		{"is no entry", []step{
			call("count", 1),
			call("list", dict{ObjectID: own}),
			call("list", dict{}, EventsID),
			call("list", dict{}, nil, ".*Event"),
			call("yplookup", dict{}, []any{eventsTag}),
			call("remove", 0, EventsID),
			call("remove", 0, nil, "Pyro."),
			call("leave", false, EventsID, ownEvents),
			fails("set_metadata", core.NamingError, "unknown name: "+EventsID, EventsID, []any{"x"}),
		}},
		{"a registration wins until it is removed", append([]step{
			call("register", nil, EventsID, uriA, true, []any{"x"}),
			call("lookup", core.Tuple{uri(uriA), core.Set{"x"}}, EventsID, true),
			call("members", group(EventsID, 1, member(uriA, uriA, "", 1, true, "")), EventsID),
			call("count", 2),
			call("list", dict{EventsID: uriA, ObjectID: own}),
			call("set_metadata", nil, EventsID, []any{"y"}),
			call("yplookup", dict{EventsID: uriA}, []any{"y"}, nil, false),
			fails("register", core.NamingError, "name already registered: "+EventsID, EventsID, uriB, true),
			fails("join", core.NamingError, "cannot join group: *", EventsID, uriB),
			call("remove", 1, EventsID),
			call("count", 1),
		}, madeUp...)},
		{"a group wins too", append([]step{
			call("join", "m", EventsID, uriA, "m"),
			call("lookup", uri(uriA), EventsID),
			call("members", group(EventsID, 1, member("m", uriA, "", 1, true, "")), EventsID),
			call("leave", true, EventsID, "m"),
		}, madeUp...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkSteps(t, newSubjectWith(ServerOptions{URI: ownURI, Events: ownEventsURI}), tt.steps)
		})
	}
	t.Run("is unknown where there is none", func(t *testing.T) {
		t.Parallel()
		checkSteps(t, newSubject(), []step{
			fails("lookup", core.NamingError, "unknown name: "+EventsID, EventsID),
			fails("members", core.NamingError, "unknown name: "+EventsID, EventsID),
		})
	})
}

// The members are the event servers of all nodes, once each, at a version that grows with every change.
func TestEventServersOfAllNodes(t *testing.T) {
	t.Parallel()
	s := newSubjectWith(ServerOptions{URI: ownURI, Events: ownEventsURI})
	alone := member(ownEventsURI.String(), ownEventsURI.String(), "", 1, true, "")
	other := member("PYRO:"+EventsID+"@n2:9090", "PYRO:"+EventsID+"@n2:9090", "", 1, true, "")
	put := func(id, address string) func() {
		return func() {
			s.store.do(t, fsm.Command{Kind: fsm.KindPutNode, Node: fsm.Node{ID: id, PyroAddress: address}})
		}
	}
	steps := []struct {
		name   string
		change func()
		want   dict
	}{
		{"no node is known yet", func() {}, group(EventsID, 0, alone)},
		{"this node", put("1", "n1:9090"), group(EventsID, 1, alone)},
		{"another", put("2", "n2:9090"), group(EventsID, 2, alone, other)},
		{"one without an address", put("3", ""), group(EventsID, 3, alone, other)},
		{"the other is removed", func() { s.store.do(t, fsm.Command{Kind: fsm.KindRemoveNode, Node: fsm.Node{ID: "2"}}) }, group(EventsID, 4, alone)},
	}
	for _, st := range steps {
		st.change()
		got, err := s.call(t, "members", EventsID)
		if err != nil || !reflect.DeepEqual(got, any(st.want)) {
			t.Errorf("%s: got %v, %v, want %v", st.name, got, err, st.want)
		}
	}
}

// A proxy over the name goes on at another node when one dies.
func TestEventServerFailover(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	nodes := map[string]*node{}
	for _, id := range []string{"1", "2"} {
		n := startNode(t, store)
		servant := &core.Servant{Class: "EventService", Methods: []core.Method{
			{Name: "who", Func: func(context.Context, []any) (any, error) { return id, nil }},
		}}
		if _, err := n.Register(EventsID, servant, core.ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		store.do(t, fsm.Command{Kind: fsm.KindPutNode, Node: fsm.Node{ID: id, PyroAddress: n.address}})
		nodes[id] = n
	}
	c := newClient(t, ClientOptions{}, nodes["1"].address, nodes["2"].address)
	for id, n := range nodes {
		want := n.URI(EventsID)
		if got, err := newClient(t, ClientOptions{}, n.address).Resolve(t.Context(), uri("PYRONAME:"+EventsID)); err != nil || got != want {
			t.Errorf("node %s: got %v, %v, want its own, %v", id, got, err, want)
		}
	}
	p := failover.New(EventsID, c, failover.Options{Contracts: map[string]core.Contract{"who": core.ContractIdempotent}})
	defer p.Close()
	who := func() (id string) {
		t.Helper()
		if err := p.Call(t.Context(), "who", &id); err != nil {
			t.Fatal(err)
		}
		return id
	}
	seen := map[string]bool{}
	for range 100 { // to miss one of two has a chance of 2^-99
		seen[who()] = true
	}
	if len(seen) != 2 {
		t.Errorf("got answers of %v, want both nodes'", seen)
	}
	nodes["1"].kill()
	for range 20 {
		if got := who(); got != "2" {
			t.Fatalf("after node 1 died: got an answer of %q", got)
		}
	}
	if e, err := c.Lookup(t.Context(), EventsID); err != nil || e.URI != nodes["2"].URI(EventsID) {
		t.Errorf("lookup: got %v, %v, want that of node 2", e.URI, err)
	}
}
