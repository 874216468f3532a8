package naming

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

func TestClient(t *testing.T) {
	t.Parallel()
	for _, serializer := range serializers {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			store := newFakeStore()
			c := newClient(t, ClientOptions{Proxy: core.ProxyOptions{Serializer: serializer}}, startNode(t, store).address)
			ctx := t.Context()
			ok := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			ok(c.Ping(ctx))
			ok(c.Register(ctx, "a", uri(uriA), RegisterOptions{Safe: true, Tags: []string{"y", "x", "y"}}))
			ok(c.Register(ctx, "b", uri(uriB), RegisterOptions{}))
			if err := c.Register(ctx, "a", uri(uriB), RegisterOptions{Safe: true}); !errors.Is(err, ErrAlreadyRegistered) || !errors.Is(err, core.NamingError) {
				t.Errorf("register again: got %v, want ErrAlreadyRegistered", err)
			}
			n, err := c.Count(ctx)
			if ok(err); n != 3 {
				t.Errorf("count: got %d, want 3", n)
			}
			e, err := c.Lookup(ctx, "a")
			if want := (Entry{"a", uri(uriA), []string{"x", "y"}}); err != nil || !reflect.DeepEqual(e, want) {
				t.Errorf("lookup: got %+v, %v, want %+v", e, err, want)
			}
			_, err = c.Lookup(ctx, "none")
			if !errors.Is(err, ErrUnknownName) || !errors.Is(err, core.NamingError) || err.Error() != "NamingError: unknown name: none" {
				t.Errorf("lookup of nothing: got %v, want ErrUnknownName", err)
			}
			queries := []struct {
				q    Query
				want []string
			}{
				{Query{}, []string{ObjectID, "a", "b"}},
				{Query{Prefix: "a"}, []string{"a"}},
				{Query{Regex: "[ab]"}, []string{"a", "b"}},
				{Query{All: []string{"x", "y"}}, []string{"a"}},
				{Query{Any: []string{"y", "z"}}, []string{"a"}},
			}
			for _, tt := range queries {
				if got := names(t, c, tt.q); !slices.Equal(got, tt.want) {
					t.Errorf("list %+v: got %v, want %v", tt.q, got, tt.want)
				}
			}
			ok(c.SetTags(ctx, "b", []string{"z"}))
			if err := c.SetTags(ctx, "none", nil); !errors.Is(err, ErrUnknownName) {
				t.Errorf("tags of nothing: got %v, want ErrUnknownName", err)
			}
			if got := names(t, c, Query{All: []string{"z"}}); !slices.Equal(got, []string{"b"}) {
				t.Errorf("list of tag z: got %v, want b", got)
			}
			removed, err := c.Remove(ctx, "a")
			if ok(err); !removed {
				t.Error("remove: got false")
			}
			if removed, err = c.Remove(ctx, "a"); err != nil || removed {
				t.Errorf("remove again: got %v, %v, want false", removed, err)
			}
			ok(c.Register(ctx, "b2", uri(uriB), RegisterOptions{}))
			if n, err := c.RemoveAll(ctx, Query{Regex: "b."}); err != nil || n != 1 {
				t.Errorf("remove by regex: got %d, %v, want 1", n, err)
			}
			if n, err := c.RemoveAll(ctx, Query{Prefix: "b"}); err != nil || n != 1 {
				t.Errorf("remove by prefix: got %d, %v, want 1", n, err)
			}
			testClientGroup(t, c, store)
			if got := store.last(t).Actor; got == "" || got == "@" {
				t.Errorf("actor of the last command: got %q, want an address", got)
			}
		})
	}
}

func testClientGroup(t *testing.T, c *Client, store *fakeStore) {
	t.Helper()
	ctx := t.Context()
	for i := range 3 {
		uri := core.URI{Protocol: "PYRO", Object: "o", Host: "h", Port: i + 1}
		id, err := c.Join(ctx, "g", uri, JoinOptions{Member: fmt.Sprint("m", i), Zone: "z", Weight: i})
		if want := fmt.Sprint("m", i); err != nil || id != want {
			t.Fatalf("join: got %q, %v, want %q", id, err, want)
		}
	}
	if _, err := c.Join(ctx, "g", uri("PYRONAME:other"), JoinOptions{Member: "indirect"}); err != nil {
		t.Fatal(err)
	}
	store.suspect(t, "g", "m1")
	g, err := c.Group(ctx, "g")
	want := failover.Group{Name: "g", Version: store.state.View().Revision(), Members: []failover.Member{
		{ID: "m0", URI: uri("PYRO:o@h:1"), Zone: "z", Weight: 1, Alive: true},
		{ID: "m1", URI: uri("PYRO:o@h:2"), Zone: "z", Weight: 1},
		{ID: "m2", URI: uri("PYRO:o@h:3"), Zone: "z", Weight: 2, Alive: true},
	}}
	if err != nil || !reflect.DeepEqual(g, want) {
		t.Errorf("group: got %+v, %v, want %+v", g, err, want)
	}
	if left, err := c.Leave(ctx, "g", "PYRO:o@h:1"); err != nil || !left {
		t.Errorf("leave: got %v, %v, want true", left, err)
	}
	if left, err := c.Leave(ctx, "g", "m0"); err != nil || left {
		t.Errorf("leave again: got %v, %v, want false", left, err)
	}
	if _, err := c.Group(ctx, "none"); !errors.Is(err, ErrUnknownName) {
		t.Errorf("group none: got %v, want ErrUnknownName", err)
	}
}

func names(t *testing.T, c *Client, q Query) []string {
	t.Helper()
	list, err := c.List(t.Context(), q)
	if err != nil {
		t.Fatalf("list %+v: %v", q, err)
	}
	return slices.Sorted(maps.Keys(maps.Collect(list)))
}

func TestClientMisuse(t *testing.T) {
	t.Parallel()
	c := newClient(t, ClientOptions{}, "localhost:1")
	if _, err := c.List(t.Context(), Query{Prefix: "a", Regex: "b"}); !errors.Is(err, core.ValueError) {
		t.Errorf("two filters: got %v, want ValueError", err)
	}
	for _, q := range []Query{{}, {All: []string{"x"}}, {Prefix: "a", Regex: "b"}} {
		if _, err := c.RemoveAll(t.Context(), q); !errors.Is(err, core.ValueError) {
			t.Errorf("remove %+v: got %v, want ValueError", q, err)
		}
	}
	if removed, err := c.Remove(t.Context(), ""); err != nil || removed {
		t.Errorf("remove of nothing: got %v, %v, want false", removed, err)
	}
	c.Close()
	if err := c.Ping(t.Context()); !errors.Is(err, core.ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
}

func TestNodeAddress(t *testing.T) {
	t.Parallel()
	tests := []struct{ node, want string }{
		{"h", "PYRO:Pyro.NameServer@h:9090"},
		{" h:1 ", "PYRO:Pyro.NameServer@h:1"},
		{"10.0.0.1", "PYRO:Pyro.NameServer@10.0.0.1:9090"},
		{"[::1]", "PYRO:Pyro.NameServer@[::1]:9090"},
		{"[::1]:7", "PYRO:Pyro.NameServer@[::1]:7"},
		{"::1", "PYRO:Pyro.NameServer@[::1]:9090"},
		{"./u:/tmp/x", "PYRO:Pyro.NameServer@./u:/tmp/x"},
		{"", ""}, {"h:x", ""}, {"h:0", ""}, {"h:70000", ""}, {"[::1", ""}, {"[[::1]]", ""}, {"h:1:2", ""}, {"./u:", ""},
	}
	for _, tt := range tests {
		uri, err := nodeURI(tt.node)
		if tt.want == "" {
			if err == nil {
				t.Errorf("%q: got %v, want an error", tt.node, uri)
			}
		} else if err != nil || uri.String() != tt.want {
			t.Errorf("%q: got %v, %v, want %s", tt.node, uri, err, tt.want)
		}
	}
	if _, err := NewClient(nil, ClientOptions{}); err == nil {
		t.Error("no nodes: got no error")
	}
}

// One of two nodes dies under load; no call fails and nothing is lost or done twice.
//
// spec: H3
func TestNodeDies(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	first, second := startNode(t, store), startNode(t, store)
	c := newClient(t, ClientOptions{}, first.address, second.address)
	const workers, rounds = 8, 100
	var done atomic.Int32
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("%d-%d", w, i)
				if err := c.Register(t.Context(), name, uri(uriA), RegisterOptions{Safe: true}); err != nil {
					t.Errorf("register %s: %v", name, err)
				}
				if _, err := c.Lookup(t.Context(), name); err != nil {
					t.Errorf("lookup %s: %v", name, err)
				}
				if done.Add(1) == workers*rounds/2 {
					first.kill()
				}
			}
		})
	}
	work.Wait()
	if n, err := c.Count(t.Context()); err != nil || n != workers*rounds+1 {
		t.Errorf("count: got %d, %v, want %d", n, err, workers*rounds+1)
	}
	if got := store.state.View().Revision(); got != workers*rounds {
		t.Errorf("commands that ran: got %d, want %d", got, workers*rounds)
	}
}

// downStore is a node that lost its leader.
type downStore struct{}

func (downStore) View(context.Context) (*fsm.View, error) { return nil, errDown }
func (downStore) Apply(context.Context, fsm.Command) (fsm.Result, error) {
	return fsm.Result{}, errDown
}

// A node that answers but cannot decide must not be believed.
func TestNodeWithoutLeader(t *testing.T) {
	t.Parallel()
	c := newClient(t, ClientOptions{}, startNode(t, downStore{}).address, startNode(t, newFakeStore()).address)
	for i := range 20 {
		if err := c.Register(t.Context(), fmt.Sprint(i), uri(uriA), RegisterOptions{}); err != nil {
			t.Fatalf("register: %v", err)
		}
		if _, err := c.Lookup(t.Context(), fmt.Sprint(i)); err != nil {
			t.Fatalf("lookup: %v", err)
		}
	}
}

func TestNoNodeAnswers(t *testing.T) {
	t.Parallel()
	c := newClient(t, ClientOptions{Timeout: 50 * time.Millisecond}, startNode(t, downStore{}).address, freeAddress(t))
	err := c.Ping(t.Context())
	if e, ok := errors.AsType[*failover.CallError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v (%v), want a CallError for the deadline", err, e)
	}
	if errors.Is(err, core.NamingError) {
		t.Errorf("got a NamingError: %v", err)
	}
}

// freeAddress is one where nobody listens: the port is taken, so that no other test gets it, but not listened on.
func freeAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// The reply to a write is lost; the write is sent again and happens once.
func TestLostReply(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	cut := startCutter(t, startNode(t, store).address)
	c := newClient(t, ClientOptions{}, cut.address)
	writes := []struct {
		name string
		run  func() error
	}{
		{"register", func() error { return c.Register(t.Context(), "a", uri(uriA), RegisterOptions{Safe: true}) }},
		{"join", func() error {
			_, err := c.Join(t.Context(), "g", uri(uriA), JoinOptions{Member: "m"})
			return err
		}},
		{"leave", func() error { return wasThere(c.Leave(t.Context(), "g", uriA)) }},
		{"set tags", func() error { return c.SetTags(t.Context(), "a", []string{"x"}) }},
		{"remove", func() error { return wasThere(c.Remove(t.Context(), "a")) }},
	}
	for i, w := range writes {
		cut.lose.Store(2)
		if err := w.run(); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		if got := store.state.View().Revision(); got != uint64(i+1) {
			t.Errorf("%s: got %d commands that ran, want %d", w.name, got, i+1)
		}
	}
	if want := 2 * int32(len(writes)); cut.lost.Load() != want {
		t.Errorf("got %d lost replies, want %d", cut.lost.Load(), want)
	}

	// Without numbers the same register finds its own traces.
	plain := failover.New(ObjectID, failover.Static(uri("PYRO:"+ObjectID+"@"+cut.address)), failover.Options{Contracts: nameContracts})
	defer plain.Close()
	if err := plain.Call(t.Context(), "ping", nil); err != nil {
		t.Fatal(err)
	}
	cut.lose.Store(1)
	checkException(t, plain.Call(t.Context(), "register", nil, "b", uriA, true), core.NamingError, "name already registered: b")
}

func wasThere(there bool, err error) error {
	if err == nil && !there {
		err = errors.New("got false, want true")
	}
	return err
}

// spec: D5
func TestLookupDelay(t *testing.T) {
	t.Parallel()
	unknown := withMeaning(unknownName("a"))
	tests := []struct {
		name  string
		delay time.Duration
		known time.Duration // when the name appears
		want  error
		calls int
		took  time.Duration
	}{
		{"no delay", 0, time.Hour, unknown, 1, 0},
		{"there at once", 5 * time.Second, 0, nil, 1, 0},
		{"appears", 5 * time.Second, 1500 * time.Millisecond, nil, 3, 2 * time.Second},
		{"never", 5 * time.Second, time.Hour, unknown, 6, 5 * time.Second},
		{"a short delay is asked for every 200 ms", 500 * time.Millisecond, time.Hour, unknown, 4, 500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &Client{opts: ClientOptions{LookupDelay: tt.delay}}
				start, calls := time.Now(), 0
				err := c.patiently(t.Context(), func() error {
					calls++
					if time.Since(start) < tt.known {
						return unknown
					}
					return nil
				})
				if err != tt.want || calls != tt.calls || time.Since(start) != tt.took {
					t.Errorf("got %v after %d calls and %v, want %v, %d, %v", err, calls, time.Since(start), tt.want, tt.calls, tt.took)
				}
			})
		})
	}
}

func TestLookupDelayEndsWithContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, start := &Client{opts: ClientOptions{LookupDelay: time.Hour}}, time.Now()
		err := c.patiently(ctx, func() error { return withMeaning(unknownName("a")) })
		if !errors.Is(err, ErrUnknownName) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v, want ErrUnknownName after 1s", err, time.Since(start))
		}
	})
}

// spec: A2 A3 H3
func TestResolve(t *testing.T) {
	t.Parallel()
	here, there := newFakeStore(), newFakeStore()
	node, other := startNode(t, here), startNode(t, there)
	c := newClient(t, ClientOptions{Timeout: 5 * time.Second}, node.address)
	register := func(s *fakeStore, name, uri string, tags ...string) {
		s.do(t, fsm.Command{Kind: fsm.KindRegister, Name: name, URI: uri, Tags: tags})
	}
	register(here, "a", uriA, "x", "y")
	register(there, "a", uriB, "x")
	here.do(t, fsm.Command{Kind: fsm.KindJoin, Name: "g", Member: fsm.Member{ID: "1", URI: "PYRO:o@h:1"}})
	here.do(t, fsm.Command{Kind: fsm.KindJoin, Name: "g", Member: fsm.Member{ID: "2", URI: "PYRO:o@h:2"}})
	here.suspect(t, "g", "1")
	// A URI that names one of the nodes is for all of them: here that one is dead.
	dead := freeAddress(t)
	both := newClient(t, ClientOptions{Timeout: 5 * time.Second}, dead, node.address)
	if got, err := both.Resolve(t.Context(), uri("PYRONAME:a@"+dead)); err != nil || got.String() != uriA {
		t.Errorf("at a dead node: got %v, %v, want %s", got, err, uriA)
	}
	tests := []struct{ uri, want string }{
		{"PYRO:direct@h:1", "PYRO:direct@h:1"},
		{"PYRONAME:a", uriA},
		{"PYRONAME:a@" + node.address, uriA},
		{"PYRONAME:a@" + other.address, uriB},
		{"PYRONAME:g", "PYRO:o@h:2"},
		{"PYROMETA:x,y", uriA},
		{"PYROMETA:x@" + other.address, uriB},
		{"PYRONAME:none", ""},
		{"PYROMETA:x,none", ""},
		{"PYRONAME:g@" + other.address, ""},
	}
	for _, tt := range tests {
		got, err := c.Resolve(t.Context(), uri(tt.uri))
		if tt.want == "" {
			if !errors.Is(err, ErrUnknownName) {
				t.Errorf("%s: got %v, %v, want ErrUnknownName", tt.uri, got, err)
			}
		} else if err != nil || got.String() != tt.want {
			t.Errorf("%s: got %v, %v, want %s", tt.uri, got, err, tt.want)
		}
	}
	if _, err := c.Resolve(t.Context(), core.URI{Protocol: "PYROLOC", Object: "x"}); !errors.Is(err, core.PyroError) {
		t.Errorf("PYROLOC: got %v, want PyroError", err)
	}
}

// stockServant is what of a stock name server a group proxy needs.
func stockServant(entries map[string]core.URI) *core.Servant {
	return &core.Servant{Class: "NameServer", Methods: []core.Method{
		{Name: "ping", Func: func(context.Context, []any) (any, error) { return nil, nil }},
		{
			Name: "lookup", Params: []core.Param{{Name: "name"}, {Name: "return_metadata", Optional: true}},
			Func: func(_ context.Context, args []any) (any, error) {
				uri, ok := entries[args[0].(string)]
				if !ok {
					return nil, unknownName(args[0].(string))
				}
				return core.Tuple{uri, core.Set{}}, nil
			},
		},
	}}
}

func startStock(t *testing.T, entries map[string]core.URI) string {
	t.Helper()
	d := listen(t, core.DaemonOptions{})
	if _, err := d.Register(ObjectID, stockServant(entries), core.ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	serve(t, d, make(chan struct{}))
	return d.Addr().String()
}

func TestGroupOfStockNameServer(t *testing.T) {
	t.Parallel()
	c := newClient(t, ClientOptions{}, startStock(t, map[string]core.URI{"a": uri(uriA)}))
	g, err := c.Group(t.Context(), "a")
	want := failover.Group{Name: "a", Members: []failover.Member{{ID: uriA, URI: uri(uriA), Alive: true}}}
	if err != nil || !reflect.DeepEqual(g, want) {
		t.Errorf("got %+v, %v, want %+v", g, err, want)
	}
	if _, err := c.Group(t.Context(), "none"); !errors.Is(err, ErrUnknownName) {
		t.Errorf("got %v, want ErrUnknownName", err)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	var s sessions
	a, b := s.begin(), s.begin()
	if a.session != b.session || a.sequence != 1 || b.sequence != 2 {
		t.Fatalf("got %+v and %+v, want 1 and 2 of one session", a, b)
	}
	floor := func() uint64 { return a.session.floor }
	if s.end(b); floor() != 1 {
		t.Errorf("floor while 1 is under way: got %d, want 1", floor())
	}
	if s.end(a); floor() != 3 {
		t.Errorf("floor when all ended: got %d, want 3", floor())
	}
	slow := s.begin()
	for range maxUnderWay {
		s.end(s.begin())
	}
	next := s.begin()
	if next.session == slow.session || next.session.id == slow.session.id {
		t.Errorf("got no new session while %d waits and %d was given", slow.sequence, slow.session.last)
	}
	s.end(slow)
	if len(slow.session.underWay) != 0 || slow.session.floor != slow.session.last+1 {
		t.Errorf("old session: got floor %d and %d under way, want %d and 0", slow.session.floor, len(slow.session.underWay), slow.session.last+1)
	}
}

func TestAnnotationRoundTrip(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	c := newClient(t, ClientOptions{}, startNode(t, store).address)
	for want := uint64(1); want <= 3; want++ {
		if err := c.Register(t.Context(), "a", uri(uriA), RegisterOptions{}); err != nil {
			t.Fatal(err)
		}
		got := store.last(t)
		if got.Session != string(c.sessions.current.id[:]) || got.Sequence != want || got.Floor != want {
			t.Errorf("got session %x, sequence %d, floor %d, want %x, %d, %d",
				got.Session, got.Sequence, got.Floor, c.sessions.current.id, want, want)
		}
	}
}
