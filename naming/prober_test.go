package naming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// leadership is switched by a test.
type leadership struct{ atomic.Bool }

func (l *leadership) IsLeader() bool { return l.Load() }

// proberBench is a prober in virtual time whose probes a test answers.
type proberBench struct {
	*Prober
	store  *fakeStore
	leader *leadership

	mu      sync.Mutex
	answers map[string]error // by object id; what is missing is alive
	probes  map[string]int
	slow    time.Duration // each probe takes so long
	current int
	most    int // at once
}

func newProberBench() *proberBench {
	b := &proberBench{store: newFakeStore(), leader: &leadership{}, answers: map[string]error{}, probes: map[string]int{}}
	b.leader.Store(true)
	b.Prober = &Prober{Store: b.store, Leader: b.leader, probe: b.answer}
	return b
}

func (b *proberBench) answer(ctx context.Context, uri core.URI) error {
	b.mu.Lock()
	b.probes[uri.Object]++
	b.current++
	b.most = max(b.most, b.current)
	err, slow := b.answers[uri.Object], b.slow
	b.mu.Unlock()
	if slow > 0 && !wait(ctx, slow) {
		err = ctx.Err()
	}
	b.mu.Lock()
	b.current--
	b.mu.Unlock()
	return err
}

func (b *proberBench) set(object string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers[object] = err
}

func (b *proberBench) count(object string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.probes[object]
}

func (b *proberBench) join(t *testing.T, group string, objects ...string) {
	t.Helper()
	for _, o := range objects {
		b.store.do(t, fsm.Command{Kind: fsm.KindJoin, Name: group, Member: fsm.Member{ID: o, URI: "PYRO:" + o + "@h:1"}})
	}
}

func (b *proberBench) health(t *testing.T, group, member string) fsm.Member {
	t.Helper()
	g, _ := b.store.state.View().Group(group)
	for _, m := range g.Members {
		if m.ID == member {
			return m
		}
	}
	t.Fatalf("no member %s in %+v", member, g)
	return fsm.Member{}
}

// run probes for so long in virtual time.
func (b *proberBench) run(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := b.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("run: got %v, want the context's cause", err)
	}
}

var (
	errRefused = &core.TransportError{Op: "connect", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	errSilent  = &core.TransportError{Op: "handshake", Err: context.DeadlineExceeded}
)

func TestProber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.join(t, "g", "alive", "refuses", "silent")
		b.set("refuses", errRefused)
		b.set("silent", errSilent)

		b.run(t, 490*time.Millisecond) // one round
		if m := b.health(t, "g", "refuses"); m.Health != fsm.Suspect || m.Reason != errRefused.Error() {
			t.Errorf("refusal: got %+v after one probe, want suspect with the reason", m)
		}
		if m := b.health(t, "g", "silent"); m.Health != fsm.Alive {
			t.Errorf("silence: got %+v after one probe, want alive", m)
		}
		b.run(t, 990*time.Millisecond) // two rounds
		if m := b.health(t, "g", "silent"); m.Health != fsm.Suspect {
			t.Errorf("silence: got %+v after two probes, want suspect", m)
		}
		if m := b.health(t, "g", "alive"); m.Health != fsm.Alive {
			t.Errorf("the living: got %+v, want alive", m)
		}
		if got := b.store.state.View().Revision(); got != 3+2 {
			t.Errorf("commands: got %d, want 3 joins and 2 verdicts: what stays as it is needs none", got)
		}

		b.set("refuses", nil)
		b.set("silent", nil)
		b.run(t, 490*time.Millisecond)
		for _, id := range []string{"refuses", "silent"} {
			if m := b.health(t, "g", id); m.Health != fsm.Alive || m.Reason != "" {
				t.Errorf("%s: got %+v after a success, want alive", id, m)
			}
		}
	})
}

// What a member says goes into the log of all nodes.
func TestReasonIsShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.join(t, "g", "a")
		b.set("a", fmt.Errorf("%s: %w", strings.Repeat("é", 1<<20), errRefused))
		b.run(t, 490*time.Millisecond)
		if m := b.health(t, "g", "a"); m.Health != fsm.Suspect || m.Reason != strings.Repeat("é", maxReason) {
			t.Errorf("got health %v and a reason of %d bytes, want suspect and %d characters", m.Health, len(m.Reason), maxReason)
		}
	})
}

func TestProberCountsInARow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.join(t, "g", "flaky")
		answers := []error{errSilent, nil, errSilent, nil, errSilent, errSilent}
		b.Prober.probe = func(context.Context, core.URI) error {
			i := b.count("flaky")
			b.answer(t.Context(), core.URI{Object: "flaky"})
			if h := b.health(t, "g", "flaky").Health; h != fsm.Alive && i < len(answers) {
				t.Errorf("probe %d: got suspect after one silence", i)
			}
			return answers[min(i, len(answers)-1)]
		}
		b.run(t, 6*time.Second)
		if h := b.health(t, "g", "flaky").Health; h != fsm.Suspect {
			t.Error("got alive after two silences in a row")
		}
	})
}

func TestOnlyTheLeaderProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.join(t, "g", "a")
		b.leader.Store(false)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); b.Run(ctx) }()
		advance := func() { wait(t.Context(), 10*time.Second); synctest.Wait() }
		if advance(); b.count("a") != 0 {
			t.Errorf("follower: got %d probes, want none", b.count("a"))
		}
		b.leader.Store(true)
		if advance(); b.count("a") < 18 || b.count("a") > 21 {
			t.Errorf("leader for 10 s: got %d probes, want 20", b.count("a"))
		}
		b.leader.Store(false)
		advance()
		before := b.count("a")
		if advance(); b.count("a") != before {
			t.Errorf("follower again: got %d more probes", b.count("a")-before)
		}
		cancel()
		<-stopped
	})
}

func TestWhoIsProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.store.do(t, fsm.Command{Kind: fsm.KindRegister, Name: "single", URI: "PYRO:single@h:1"})
		b.store.do(t, fsm.Command{Kind: fsm.KindRegister, Name: "tagged", URI: "PYRO:tagged@h:1", Tags: []string{"group:g"}})
		for _, uri := range []string{"PYRONAME:byname", "PYRONAME:byname@h", "PYROMETA:bytag", "PYRO:unix@./u:path"} {
			b.store.do(t, fsm.Command{Kind: fsm.KindJoin, Name: "g", Member: fsm.Member{ID: uri, URI: uri}})
		}
		b.run(t, time.Second)
		if b.probes["tagged"] == 0 || len(b.probes) != 1 {
			t.Errorf("got probes %v, want of the member by tag only", b.probes)
		}
	})
}

// A verdict speaks of the life of the member that was probed, not of one that joined meanwhile.
func TestVerdictOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.join(t, "g", "a")
		once := sync.OnceFunc(func() {
			b.store.do(t, fsm.Command{Kind: fsm.KindLeave, Name: "g", Member: fsm.Member{ID: "a"}})
			b.join(t, "g", "a")
		})
		b.Prober.probe = func(context.Context, core.URI) error {
			defer once()
			if b.health(t, "g", "a").Joined == 1 {
				return errRefused
			}
			return nil
		}
		b.run(t, 2*time.Second)
		if m := b.health(t, "g", "a"); m.Health != fsm.Alive {
			t.Errorf("got %+v, want alive: it joined anew", m)
		}
	})
}

func TestProbesAreBoundedAndSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		for i := range 1000 {
			b.join(t, fmt.Sprint("g", i%10), fmt.Sprint("o", i))
		}
		b.slow = 400 * time.Microsecond // the last probe of a round, after 499.5 ms, ends before the next round: a member under probe is left out
		b.run(t, 10*time.Second)
		if b.most > 4 { // 1000 probes of 0.4 ms in 500 ms
			t.Errorf("fast probes: got %d at once, want them spread over the interval", b.most)
		}
		for o, n := range b.probes {
			if n < 19 || n > 21 {
				t.Errorf("%s: got %d probes in 10 s, want 20", o, n)
			}
		}
		b.slow = time.Hour
		b.run(t, 10*time.Second)
		if b.most != maxProbes {
			t.Errorf("hanging probes: got %d at once, want %d", b.most, maxProbes)
		}
	})
}

// Many members of one machine die at once: few commands carry all the verdicts.
func TestVerdictsShareCommands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		r := proberRun{Prober: *b.Prober, verdicts: make(chan fsm.Verdict, maxVerdicts)}
		r.setDefaults()
		for i := range 100 {
			b.join(t, "g", fmt.Sprint(i))
			r.verdicts <- fsm.Verdict{Group: "g", Member: fmt.Sprint(i), Joined: uint64(i + 1), Health: fsm.Suspect}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.write(ctx)
		if c := b.store.last(t); len(c.Verdicts) != 100 || b.store.state.View().Revision() != 101 {
			t.Errorf("got a command with %d verdicts and revision %d, want 100 in one", len(c.Verdicts), b.store.state.View().Revision())
		}
	})
}

func TestProberOutlivesTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newProberBench()
		b.join(t, "g", "a")
		b.set("a", errRefused)
		b.store.fail(errDown)
		b.run(t, 5*time.Second)
		if b.count("a") != 0 {
			t.Errorf("got %d probes without a registry", b.count("a"))
		}
		b.store.fail(nil)
		b.run(t, time.Second)
		if m := b.health(t, "g", "a"); m.Health != fsm.Suspect {
			t.Errorf("got %+v when the store is back, want suspect", m)
		}
	})
}

// TestSigns probes real servers of every kind.
func TestSigns(t *testing.T) {
	t.Parallel()
	good := listen(t, core.DaemonOptions{})
	guarded := listen(t, core.DaemonOptions{ValidateHandshake: func(context.Context, any) (any, error) {
		return nil, errors.New("no password")
	}})
	full := listen(t, core.DaemonOptions{MaxConnections: 1})
	for _, d := range []*core.Daemon{good, guarded, full} {
		if _, err := d.Register("o", &core.Servant{Class: "O", Methods: newSubject().Servant().Methods}, core.ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		serve(t, d, make(chan struct{}))
	}
	holder := core.NewProxy(full.URI("o"), core.ProxyOptions{})
	defer holder.Close()
	if err := holder.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := func(address string) core.URI { return uri("PYRO:o@" + address) }
	tests := []struct {
		name string
		uri  core.URI
		want sign
	}{
		{"alive", good.URI("o"), lives},
		{"another object took the port", good.URI("other"), gone},
		{"nobody listens", at(freeAddress(t)), gone},
		{"accepts and says nothing", at(startRaw(t, func(net.Conn) {})), silent},
		{"hangs up", at(startRaw(t, func(c net.Conn) { c.Close() })), silent},
		{"speaks otherwise", at(startRaw(t, func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"+string(make([]byte, 100))) })), silent},
		{"no free workers", full.URI("o"), lives},
		{"another handshake", guarded.URI("o"), lives},
	}
	for _, tt := range tests {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if tt.name == "accepts and says nothing" {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		err := new(Prober).connect(ctx, tt.uri)
		cancel()
		if got := signOf(err); got != tt.want {
			t.Errorf("%s: got sign %d of %v, want %d", tt.name, got, err, tt.want)
		}
	}
}

// startRaw serves connections that are no Pyro.
func startRaw(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			serve(c)
		}
	})
	t.Cleanup(func() { ln.Close(); work.Wait() })
	return ln.Addr().String()
}

// From the death of a real daemon to the answer that stock clients get.
//
// spec: H4
func TestDeathIsSeen(t *testing.T) {
	t.Parallel()
	store, leader := newFakeStore(), &leadership{}
	leader.Store(true)
	first, second := startNode(t, newFakeStore()), startNode(t, newFakeStore()) // any objects would do
	name := startNode(t, store)
	c := newClient(t, ClientOptions{}, name.address)
	for _, n := range []*node{first, second} {
		if _, err := c.Join(t.Context(), "g", n.URI(ObjectID), JoinOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	prober := &Prober{Store: store, Leader: leader, Interval: 10 * time.Millisecond, Timeout: 5 * time.Second}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- prober.Run(ctx) }()
	first.kill()
	deadline := time.After(20 * time.Second)
	for alive := 2; alive != 1; {
		store.mu.Lock()
		changed := store.changed
		store.mu.Unlock()
		g, err := c.Group(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		if alive = 0; g.Members[0].Alive {
			alive++
		}
		if g.Members[1].Alive {
			alive++
		}
		if alive == 1 {
			break
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("the death of a member was not seen")
		}
	}
	e, err := c.Lookup(t.Context(), "g")
	if err != nil || e.URI != second.URI(ObjectID) {
		t.Errorf("lookup: got %v, %v, want the living %v", e.URI, err, second.URI(ObjectID))
	}
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("run: got %v, want canceled", err)
	}
}
