package failover

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// shares picks n times and returns how often each member was picked, in parts of one.
func shares(p *Proxy, n int) map[string]float64 {
	got := make(map[string]float64)
	for range n {
		got[p.pick(p.view.Load(), nil, p.now()).uri.Host] += 1 / float64(n)
	}
	return got
}

func checkShares(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for name := range got {
		if math.Abs(got[name]-want[name]) > 0.03 {
			t.Errorf("share of %s: got %.3f, want %.3f", name, got[name], want[name])
		}
	}
}

// spec: C19
func TestPickByTier(t *testing.T) {
	t.Parallel()
	member := func(name, zone string, alive bool, weight int) Member {
		return Member{ID: name, URI: uriOf(name), Zone: zone, Alive: alive, Weight: weight}
	}
	tests := []struct {
		name    string
		zone    string
		members []Member
		ejected []string
		want    map[string]float64
	}{
		{"equal", "", []Member{member("a", "", true, 0), member("b", "", true, 1)}, nil, map[string]float64{"a": 0.5, "b": 0.5}},
		{"weights", "", []Member{member("a", "", true, 3), member("b", "", true, 1)}, nil, map[string]float64{"a": 0.75, "b": 0.25}},
		{"senseless weight", "", []Member{member("a", "", true, -3), member("b", "", true, 1)}, nil, map[string]float64{"a": 0.5, "b": 0.5}},
		{"suspect last", "", []Member{member("a", "", false, 9), member("b", "", true, 1)}, nil, map[string]float64{"b": 1}},
		{"only suspects", "", []Member{member("a", "", false, 1), member("b", "", false, 1)}, nil, map[string]float64{"a": 0.5, "b": 0.5}},
		{"zone first", "z", []Member{member("a", "z", true, 0), member("b", "y", true, 0), member("c", "", true, 0)}, nil, map[string]float64{"a": 1}},
		{"no zone wanted", "", []Member{member("a", "z", true, 0), member("b", "y", true, 0)}, nil, map[string]float64{"a": 0.5, "b": 0.5}},
		{"zone ejected", "z", []Member{member("a", "z", true, 0), member("b", "y", true, 0)}, []string{"a"}, map[string]float64{"b": 1}},
		{"zone suspect", "z", []Member{member("a", "z", false, 0), member("b", "y", true, 0)}, nil, map[string]float64{"b": 1}},
		{"suspect before ejected", "", []Member{member("a", "", false, 0), member("b", "", true, 0)}, []string{"b"}, map[string]float64{"a": 1}},
		{"all ejected", "", []Member{member("a", "", true, 0), member("b", "", true, 0)}, []string{"a", "b"}, map[string]float64{"a": 0.5, "b": 0.5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newFakeGroup("a", "b", "c")
			g.group.Members = tt.members
			p := g.proxy(t, Options{Zone: tt.zone})
			<-waitView(p)
			for _, name := range tt.ejected {
				for _, c := range p.view.Load().candidates {
					if c.uri.Host == name {
						c.ejected.Store(math.MaxInt64)
					}
				}
			}
			checkShares(t, shares(p, 20000), tt.want)
		})
	}
}

func TestPickSkipsTheTried(t *testing.T) {
	t.Parallel()
	p := newFakeGroup("a", "b", "c").proxy(t, Options{})
	<-waitView(p)
	v := p.view.Load()
	var tried []*replica
	for range 3 {
		r := p.pick(v, tried, 0)
		if r == nil {
			t.Fatalf("after %d: got nil", len(tried))
		}
		for _, other := range tried {
			if r == other {
				t.Fatalf("%s picked twice", r.uri)
			}
		}
		tried = append(tried, r)
	}
	if r := p.pick(v, tried, 0); r != nil {
		t.Errorf("all were tried: got %s, want nil", r.uri)
	}
}

// Of three that are equal but for one that is slower or busier, the two draws have that one in two of three pairs, and it
// always loses.
//
// spec: C19
func TestPickOfTwoChoices(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		load func(r *replica)
		want float64 // share of the odd one
	}{
		{"slower", func(r *replica) { r.succeed(2, int64(20*time.Millisecond)) }, 0},
		{"busier", func(r *replica) { r.underWay.Add(5) }, 0},
		{"faster", func(r *replica) { r.latency.Store(math.Float64bits(float64(time.Microsecond))) }, 2.0 / 3},
		{"not measured", func(r *replica) { r.latency.Store(0) }, 2.0 / 3},
		{"not measured, one call finds out", func(r *replica) { r.latency.Store(0); r.underWay.Add(1) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newFakeGroup("a", "b", "odd").proxy(t, Options{})
			<-waitView(p)
			for _, c := range p.view.Load().candidates {
				c.succeed(1, int64(time.Millisecond))
				if c.uri.Host == "odd" {
					tt.load(c.replica)
				}
			}
			rest := (1 - tt.want) / 2
			checkShares(t, shares(p, 20000), map[string]float64{"a": rest, "b": rest, "odd": tt.want})
		})
	}
}

// Under concurrent load a replica that takes ten times as long gets few of the calls, one of twice the weight more of them.
func TestLoadFollowsLatencyAndWeight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newFakeGroup("slow", "b", "c", "heavy")
		g.group.Members[3].Weight = 2
		p := g.proxy(t, Options{})
		for _, r := range g.replicas {
			r.set(takes(time.Millisecond))
		}
		g.replica("slow").set(takes(10 * time.Millisecond))
		const callers, seconds = 20, 2
		done := make(chan struct{})
		for range callers {
			go func() {
				defer func() { done <- struct{}{} }()
				for end := time.Now().Add(seconds * time.Second); time.Now().Before(end); {
					mustCall(t, p, "plain")
				}
			}()
		}
		for range callers {
			<-done
		}
		slow, b, c, heavy := g.replica("slow"), g.replica("b"), g.replica("c"), g.replica("heavy")
		if got, fair := slow.ran, (b.ran+c.ran)/2; got == 0 || got > fair/5 {
			t.Errorf("calls to the slow replica: got %d, the others have %d", got, fair)
		}
		if got, fair := heavy.ran, (b.ran+c.ran)/2; got < fair*3/2 || got > fair*5/2 {
			t.Errorf("calls to the replica of weight 2: got %d, the others have %d", got, fair)
		}
	})
}

func TestLatencyIsForgotten(t *testing.T) {
	t.Parallel()
	r := newReplica(core.URI{}, nil)
	r.succeed(0, int64(time.Second))
	var last float64 = math.Inf(1)
	for age := time.Duration(0); age <= latencyForget; age += latencyDecay {
		got := r.estimate(int64(age))
		if got >= last || got <= 0 {
			t.Errorf("after %v: got %v, want less than %v and more than 0", age, got, last)
		}
		last = got
	}
	if got := r.estimate(int64(latencyForget) + 1); got != 0 {
		t.Errorf("after %v: got %v, want 0", latencyForget, got)
	}
	// Slow replies count at once, fast ones over time, and one that never came for what it took to give up.
	r.succeed(1, int64(time.Millisecond))
	r.succeed(2, int64(time.Second))
	if got := time.Duration(r.estimate(2)); got != time.Second {
		t.Errorf("after a slow reply: got %v, want 1 s", got)
	}
	r.succeed(3, int64(time.Millisecond))
	if got := time.Duration(r.estimate(3)); got < 990*time.Millisecond {
		t.Errorf("right after a fast reply: got %v, want nearly 1 s", got)
	}
	r.slow(4, int64(10*time.Second))
	r.slow(5, int64(time.Second))
	if got := time.Duration(r.estimate(5)); got < 9*time.Second {
		t.Errorf("after a call without a reply: got %v, want nearly 10 s", got)
	}
}
