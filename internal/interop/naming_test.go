package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// member is a Go object that says who it is, on a daemon of its own.
type member struct {
	name   string
	daemon *core.Daemon
	uri    core.URI
	calls  atomic.Int64
	hold   atomic.Pointer[hold] // of the next call
}

// hold stops a call on its way.
type hold struct{ entered, release chan struct{} }

func (m *member) Who(ctx context.Context) string {
	m.calls.Add(1)
	if h := m.hold.Swap(nil); h != nil {
		close(h.entered)
		select {
		case <-h.release:
		case <-ctx.Done():
		}
	}
	return m.name
}

// serveMember runs a daemon with a member on it.
func serveMember(t *testing.T, name string) *member {
	t.Helper()
	m := &member{name: name}
	m.daemon = serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
		_, err := d.Register("member", m, core.ObjectOptions{})
		return err
	})
	m.uri = m.daemon.URI("member")
	return m
}

// shutdownDuringCall shuts the daemon down while it runs a call, which goes on when it listens no more.
func (m *member) shutdownDuringCall(ctx context.Context, t *testing.T) {
	t.Helper()
	h := &hold{make(chan struct{}), make(chan struct{})}
	m.hold.Store(h)
	select {
	case <-h.entered:
	case <-ctx.Done():
		t.Fatalf("%s is not called", m.name)
	}
	down := make(chan error, 1)
	go func() { down <- m.daemon.Shutdown(ctx) }()
	for { // until nobody listens
		conn, err := net.Dial("tcp", m.daemon.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	close(h.release)
	if err := <-down; err != nil {
		t.Errorf("shut %s down: %v", m.name, err)
	}
}

// TestPythonLocates finds the name server as stock programs do.
//
// spec: A2 A3 D1 D3 D4 D5
func TestPythonLocates(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	env := []string{
		"PYRO_NS_HOST=192.0.2.1", // not local, so that it is looked for by broadcast; nobody has this address
		"PYRO_NS_BCPORT=" + n.udpPort,
		"PYRO_BROADCAST_ADDRS=127.0.0.2,127.0.0.1", // the first does not answer
	}
	runChecks(t, env, "locate.py", n.host, n.port, n.udpPort)
}

// TestPythonGroups has stock clients join, leave and use object groups.
func TestPythonGroups(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	first, second := serveMember(t, "first"), serveMember(t, "second")
	for _, serializer := range serializerNames {
		t.Run(serializer, func(t *testing.T) {
			runChecks(t, nil, "groups.py", n.host, n.port, serializer, first.uri.String(), second.uri.String())
		})
	}
}

// TestPythonServersRegister calls stock servers by the names under which they registered themselves.
//
// spec: A2 A3 N3 N7 N8
func TestPythonServersRegister(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	ctx := patient(t)
	plain := start(t, nil, "member.py", n.host, n.port, "plain", "plain one")
	one := start(t, nil, "member.py", n.host, n.port, "replica.1", "one", "group:replicas", "odd")
	two := start(t, nil, "member.py", n.host, n.port, "replica.2", "two", "group:replicas")
	plainURI := parseURI(t, plain.expect(t, "uri "))
	one.expect(t, "uri ")
	two.expect(t, "uri ")
	names := n.client(t)

	t.Run("name", func(t *testing.T) {
		entry, err := names.Lookup(ctx, "plain")
		if err != nil || entry.URI != plainURI || len(entry.Tags) != 0 {
			t.Errorf("lookup: got %+v, %v, want %v", entry, err, plainURI)
		}
		for _, serializer := range serializerNames {
			p := newProxy(t, parseURI(t, "PYRONAME:plain"), core.ProxyOptions{Serializer: serializer, Resolver: names})
			if got := call(ctx, t, p, "who"); got != "plain one" {
				t.Errorf("%s: who: got %v", serializer, got)
			}
		}
	})
	t.Run("metadata", func(t *testing.T) {
		entry, err := names.Lookup(ctx, "replica.1")
		if want := []string{"group:replicas", "odd"}; err != nil || !slices.Equal(entry.Tags, want) {
			t.Errorf("lookup: got %+v, %v, want tags %q", entry, err, want)
		}
		p := newProxy(t, parseURI(t, "PYROMETA:odd"), core.ProxyOptions{Resolver: names})
		if got := call(ctx, t, p, "who"); got != "one" {
			t.Errorf("who: got %v", got)
		}
		found, err := names.List(ctx, naming.Query{All: []string{"group:replicas", "odd"}})
		if err != nil {
			t.Fatal(err)
		}
		for name := range found {
			if name != "replica.1" && name != "replicas" {
				t.Errorf("found %q by its tags", name)
			}
		}
	})
	t.Run("group", func(t *testing.T) { testGroupFailover(ctx, t, names, one) })
}

// testGroupFailover calls a group of two stock servers while one of them dies.
func testGroupFailover(ctx context.Context, t *testing.T, names *naming.Client, victim *process) {
	group, err := names.Group(ctx, "replicas")
	if err != nil || len(group.Members) != 2 {
		t.Fatalf("group: got %+v, %v, want two members", group, err)
	}
	p := failover.New("replicas", names, failover.Options{Contracts: map[string]core.Contract{"who": core.ContractIdempotent}})
	defer p.Close()
	answers := make(map[any]int)
	for range 200 {
		answers[call(ctx, t, p, "who")]++
	}
	if answers["one"] == 0 || answers["two"] == 0 {
		t.Errorf("answers %v, want some of each", answers)
	}
	victim.kill()
	for range 50 {
		if got := call(ctx, t, p, "who"); got != "two" {
			t.Fatalf("after one died: got %v", got)
		}
	}
	// The prober finds out by itself, and then stock clients are sent to the living one alone.
	for dead := false; !dead; {
		group, err := names.Group(ctx, "replicas")
		if err != nil {
			t.Fatal(err)
		}
		dead = slices.ContainsFunc(group.Members, func(m failover.Member) bool { return !m.Alive })
	}
	for range 50 {
		entry, err := names.Lookup(ctx, "replicas")
		if err != nil {
			t.Fatal(err)
		}
		p := core.NewProxy(entry.URI, core.ProxyOptions{})
		if got := call(ctx, t, p, "who"); got != "two" {
			t.Errorf("lookup led to %v", got)
		}
		p.Close()
	}
}

// TestStockClientDuringDrain moves a name from one Go daemon to another while a stock client with MAX_RETRIES=1 calls it: no
// call may fail, and none may run twice.
//
// spec: C8 O20
func TestStockClientDuringDrain(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	ctx := patient(t)
	names := n.client(t)
	members := []*member{serveMember(t, "first"), serveMember(t, "second"), serveMember(t, "third")}
	var caller *process
	for i, m := range members {
		if err := names.Register(ctx, "moving", m.uri, naming.RegisterOptions{}); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			caller = start(t, nil, "caller.py", n.host, n.port, "moving")
		} else {
			members[i-1].shutdownDuringCall(ctx, t)
		}
		caller.expect(t, "answers "+m.name)
	}
	if err := caller.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	ran := int64(0)
	made := caller.expect(t, "made ")
	for _, m := range members {
		ran += m.calls.Load()
	}
	if want := fmt.Sprintf("%d calls, failed 0", ran); made != want {
		t.Errorf("the client made %s, want %s, as many as ran", made, want)
	}
}

// TestGoClientOfStockNameServer uses Pyro5's own name server from Go.
//
// spec: N3 N4 N5 N6 N7 N8 N9
func TestGoClientOfStockNameServer(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	stock := start(t, nil, "module.py", "Pyro5.nameserver", "-n", "127.0.0.1", "-p", "0", "-x")
	uri := parseURI(t, stock.expect(t, "URI = "))
	n := &node{uri: uri, host: uri.Host, port: portText(uri)}
	names := n.client(t)
	memberURI := serveMember(t, "go").uri
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("ping", names.Ping(ctx))
	check("register", names.Register(ctx, "member", memberURI, naming.RegisterOptions{Tags: []string{"b", "a"}}))
	if err := names.Register(ctx, "member", memberURI, naming.RegisterOptions{Safe: true}); !errors.Is(err, naming.ErrAlreadyRegistered) {
		t.Errorf("register again: got %v, want ErrAlreadyRegistered", err)
	}
	if entry, err := names.Lookup(ctx, "member"); err != nil || entry.URI != memberURI || !slices.Equal(entry.Tags, []string{"a", "b"}) {
		t.Errorf("lookup: got %+v, %v", entry, err)
	}
	if _, err := names.Lookup(ctx, "nobody"); !errors.Is(err, naming.ErrUnknownName) || !errors.Is(err, core.NamingError) {
		t.Errorf("lookup of nobody: got %v, want ErrUnknownName", err)
	}
	check("set tags", names.SetTags(ctx, "member", []string{"c"}))
	for name, q := range map[string]naming.Query{
		"all": {}, "prefix": {Prefix: "mem"}, "regex": {Regex: "m.*r"}, "all tags": {All: []string{"c"}}, "any tag": {Any: []string{"c", "d"}},
	} {
		found, err := names.List(ctx, q)
		check("list by "+name, err)
		if err != nil {
			continue
		}
		seen := false
		for _, entry := range found {
			seen = seen || entry.Name == "member" && entry.URI == memberURI && slices.Equal(entry.Tags, []string{"c"})
		}
		if !seen {
			t.Errorf("list by %s: no member with its tag", name)
		}
	}
	group, err := names.Group(ctx, "member")
	if err != nil || len(group.Members) != 1 || group.Members[0].URI != memberURI {
		t.Errorf("group: got %+v, %v, want the one member", group, err)
	}
	p := failover.New("member", names, failover.Options{})
	defer p.Close()
	if got := call(ctx, t, p, "who"); got != "go" {
		t.Errorf("who: got %v", got)
	}
	if count, err := names.Count(ctx); err != nil || count != 2 {
		t.Errorf("count: got %d, %v, want 2", count, err)
	}
	if removed, err := names.Remove(ctx, "member"); err != nil || !removed {
		t.Errorf("remove: got %v, %v", removed, err)
	}
	if removed, err := names.RemoveAll(ctx, naming.Query{Prefix: "mem"}); err != nil || removed != 0 {
		t.Errorf("remove by prefix: got %d, %v", removed, err)
	}
}
