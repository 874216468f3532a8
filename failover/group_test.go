package failover

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// members returns the hosts of the list in use.
func members(p *Proxy) (hosts []string) {
	for _, c := range p.view.Load().candidates {
		hosts = append(hosts, c.uri.Host)
	}
	slices.Sort(hosts)
	return hosts
}

func TestStatic(t *testing.T) {
	t.Parallel()
	g, err := Static(uriOf("a"), uriOf("b")).Group(t.Context(), "x")
	if err != nil || g.Name != "x" || len(g.Members) != 2 || g.Members[1].URI != uriOf("b") || !g.Members[1].Alive ||
		g.Members[1].ID != "PYRO:obj@b:9" {
		t.Errorf("got %+v, %v", g, err)
	}
}

func TestFirstCallersShareOneFetch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		g.block = make(chan struct{})
		p := g.proxy(t, Options{})
		time.AfterFunc(time.Second, func() { close(g.block) })
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { mustCall(t, p, "plain") })
		}
		wg.Wait()
		if got := g.fetched(); got != 1 {
			t.Errorf("fetches: got %d, want 1", got)
		}
	})
}

func TestNoMembers(t *testing.T) {
	t.Parallel()
	unknownName := core.NamingError.New("unknown name: bank")
	tests := []struct {
		name  string
		group *fakeGroup
		want  error
	}{
		{"empty group", newFakeGroup(), ErrNoMembers},
		{"resolver fails", &fakeGroup{err: unknownName}, core.NamingError},
	}
	for _, tt := range tests {
		p := tt.group.proxy(t, Options{})
		e := callError(t, p.Call(t.Context(), "plain", nil), NotExecuted)
		if !errors.Is(e, tt.want) || e.Attempts != 0 {
			t.Errorf("%s: got %v, want no attempt and %v", tt.name, e, tt.want)
		}
		// Nothing is kept of the failure.
		tt.group.set(func(g *fakeGroup) { g.err = nil; g.replicas = make(map[core.URI]*fakeReplica) })
		tt.group.add("a")
		if from := mustCall(t, p, "plain"); from != "a" {
			t.Errorf("%s: next call: answered by %q, want a", tt.name, from)
		}
	}
}

func TestResolverThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		g.block = make(chan struct{})
		p := g.proxy(t, Options{CallTimeout: 2 * time.Second})
		var err error
		if d := elapsed(func() { err = p.Call(t.Context(), "plain", nil) }); d != 2*time.Second {
			t.Errorf("call took %v, want 2 s", d)
		}
		callError(t, err, NotExecuted)
		// With a list in use, a resolver that hangs delays nobody.
		close(g.block)
		pass(time.Second)
		mustCall(t, p, "plain")
		g.set(func(g *fakeGroup) { g.block = make(chan struct{}) })
		for range 30 {
			if d := elapsed(func() { mustCall(t, p, "plain") }); d != 0 {
				t.Errorf("call took %v", d)
			}
			pass(time.Second)
		}
	})
}

func TestListIsRenewedWhileCallsAreMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		p := g.proxy(t, Options{Refresh: time.Second})
		for range 100 {
			mustCall(t, p, "plain")
			pass(100 * time.Millisecond)
		}
		if got := g.fetched(); got < 9 || got > 11 {
			t.Errorf("fetches in 10 s: got %d, want about 10", got)
		}
		pass(time.Hour)
		if got := g.fetched(); got > 11 {
			t.Errorf("fetches without calls: got %d", got-11)
		}
		g.add("b")
		mustCall(t, p, "plain")
		synctest.Wait()
		if got := members(p); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("members: got %v, want a and b", got)
		}
	})
}

func TestFailuresRenewTheListButNotTooOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a", "b")
		p := g.proxy(t, Options{Refresh: time.Hour, CallTimeout: 10 * time.Second})
		mustCall(t, p, "plain")
		pass(time.Second)
		g.replica("a").set(refuse)
		g.replica("b").set(refuse)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { callError(t, p.Call(t.Context(), "plain", nil), NotExecuted) })
		}
		synctest.Wait()
		if got := g.fetched(); got != 2 {
			t.Errorf("fetches right after a failure: got %d, want 2", got)
		}
		wg.Wait()
		if got, most := g.fetched(), 2+int(10*time.Second/refetchDelay); got < 20 || got > most {
			t.Errorf("fetches in 10 s of failures: got %d, want 20 to %d", got, most)
		}
	})
}

func TestInstall(t *testing.T) {
	t.Parallel()
	list := func(version uint64, hosts ...string) Group {
		g := Group{Version: version}
		for _, h := range hosts {
			g.Members = append(g.Members, Member{ID: h, URI: uriOf(h), Alive: true})
		}
		return g
	}
	tests := []struct {
		name  string
		after time.Duration
		next  Group
		err   error
		want  []string
	}{
		{"newer", 0, list(6, "b", "c"), nil, []string{"b", "c"}},
		{"same version", 0, list(5, "a", "c"), nil, []string{"a", "c"}},
		{"older, of a stale node", 0, list(4, "c"), nil, []string{"a", "b"}},
		{"older for long, after a restore", staleLimit, list(4, "c"), nil, []string{"c"}},
		{"empty", 0, list(6), nil, []string{"a", "b"}},
		{"resolver fails", 0, list(6, "c"), errors.New("no name server"), []string{"a", "b"}},
		{"one twice", 0, list(6, "c", "c", "a"), nil, []string{"a", "c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newFakeGroup("a", "b", "c")
				g.group = list(5, "a", "b")
				p := g.proxy(t, Options{})
				mustCall(t, p, "plain")
				kept := p.view.Load()
				pass(tt.after)
				g.set(func(g *fakeGroup) { g.group, g.err = tt.next, tt.err })
				p.startFetch()
				synctest.Wait()
				if got := members(p); !slices.Equal(got, tt.want) {
					t.Errorf("members: got %v, want %v", got, tt.want)
				}
				for _, c := range kept.candidates {
					if in := slices.Contains(tt.want, c.uri.Host); g.replica(c.uri.Host).isClosed() == in {
						t.Errorf("%s: in the group %v, closed %v", c.uri, in, !in)
					}
					for _, now := range p.view.Load().candidates {
						if now.uri == c.uri && now.replica != c.replica {
							t.Errorf("%s: lost its connections and its state", c.uri)
						}
					}
				}
			})
		})
	}
}

func TestMemberThatLeavesFinishesItsCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		p := g.proxy(t, Options{Refresh: time.Second})
		a := g.replica("a")
		a.set(takes(5 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() {
			if from := mustCall(t, p, "plain"); from != "a" {
				t.Errorf("answered by %q, want a", from)
			}
		})
		pass(2 * time.Second)
		g.add("b")
		g.remove("a")
		p.startFetch()
		synctest.Wait()
		if a.isClosed() {
			t.Error("the member was closed while it served a call")
		}
		if from := mustCall(t, p, "plain"); from != "b" {
			t.Errorf("answered by %q, want b", from)
		}
		wg.Wait()
		if !a.isClosed() {
			t.Error("the member was not closed after its last call")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.retired) != 0 {
			t.Errorf("%d members that left are still kept", len(p.retired))
		}
	})
}

// Close drops the connections of members that left, too.
func TestCloseWithMembersThatLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("a")
		p := g.proxy(t, Options{Refresh: time.Second})
		a := g.replica("a")
		a.set(takes(5 * time.Second))
		var wg sync.WaitGroup
		wg.Go(func() { p.Call(t.Context(), "plain", nil) })
		pass(2 * time.Second)
		g.add("b")
		g.remove("a")
		p.startFetch()
		synctest.Wait()
		p.Close()
		if !a.isClosed() {
			t.Error("the member that left was not closed")
		}
		wg.Wait()
	})
}
