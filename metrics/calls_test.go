package metrics

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

func newServer(t testing.TB, opts Options) (*prometheus.Registry, *Calls) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	c, err := NewServer(reg, opts)
	if err != nil {
		t.Fatal(err)
	}
	return reg, c
}

// expect compares metrics of the given names with the text format, comments left out.
func expect(t *testing.T, reg prometheus.Gatherer, want string, names ...string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		for _, name := range names {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, fmt.Sprintf("%s=%s", l.GetName(), l.GetValue()))
				}
				value := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				if value != 0 {
					got[fmt.Sprintf("%s{%s} %v", name, strings.Join(labels, ","), value)] = true
				}
			}
		}
	}
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line != "" && !got[line] {
			t.Errorf("missing %s", line)
		}
		delete(got, line)
	}
	for line := range got {
		t.Errorf("not wanted: %s", line)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	reg, c := newServer(t, Options{})
	get := c.Method("bank", "get")
	get.ObserveCall(core.Observation{Took: time.Millisecond, Sent: 10, Received: 20})
	get.ObserveCall(core.Observation{Took: time.Millisecond, Outcome: core.CallException, Sent: 1, Received: 2})
	c.Method("bank", "").ObserveCall(core.Observation{Outcome: core.CallException})
	c.Method("", "").ObserveCall(core.Observation{Outcome: core.CallNotExecuted})
	c.Method("obj_0123456789abcdef0123456789abcdef", "get").ObserveCall(core.Observation{})
	c.Method("obj_fedcba98765432100123456789abcdef", "get").ObserveCall(core.Observation{})
	c.Method("obj_mine", "get").ObserveCall(core.Observation{})
	c.Method("b\xffd", "get").ObserveCall(core.Observation{Outcome: core.CallUnknown})
	c.Method("bank", "never called")
	for _, e := range []core.ConnEvent{core.ConnOpened, core.ConnOpened, core.ConnClosed, core.ConnFailed, core.ConnRefused} {
		c.ObserveConn(e)
	}
	expect(t, reg, `
		pyro_server_calls_total{method=get,object=bank,outcome=ok} 1
		pyro_server_calls_total{method=get,object=bank,outcome=exception} 1
		pyro_server_calls_total{method=unknown,object=bank,outcome=exception} 1
		pyro_server_calls_total{method=unknown,object=unknown,outcome=not_executed} 1
		pyro_server_calls_total{method=get,object=obj_*,outcome=ok} 2
		pyro_server_calls_total{method=get,object=obj_mine,outcome=ok} 1
		pyro_server_calls_total{method=get,object=b`+"\uFFFD"+`d,outcome=unknown} 1
	`, "pyro_server_calls_total")
	expect(t, reg, `
		pyro_server_sent_bytes_total{method=get,object=bank} 11
		pyro_server_received_bytes_total{method=get,object=bank} 22
		pyro_server_connections_opened_total{} 2
		pyro_server_connections_closed_total{} 1
		pyro_server_connections_failed_total{} 1
		pyro_server_connections_refused_total{} 1
	`, "pyro_server_sent_bytes_total", "pyro_server_received_bytes_total", "pyro_server_connections_opened_total",
		"pyro_server_connections_closed_total", "pyro_server_connections_failed_total", "pyro_server_connections_refused_total")
}

// TestLabelsAreBounded calls more objects and methods than have series of their own, from several goroutines.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	const limit, pairs, callers = 10, 300, 4
	reg, c := newServer(t, Options{MaxMethods: limit})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range pairs {
				c.Method(fmt.Sprint("object", i), fmt.Sprint("method", i)).ObserveCall(core.Observation{})
			}
		})
	}
	wg.Wait()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		want := limit + 1
		switch {
		case strings.Contains(f.GetName(), "connections"):
			continue
		case f.GetName() == "pyro_server_calls_total":
			want *= len(outcomes)
		}
		if got := len(f.GetMetric()); got != want {
			t.Errorf("%s: got %d series, want %d", f.GetName(), got, want)
		}
	}
	// No call is lost.
	rest := testutil.ToFloat64(c.calls.WithLabelValues(other, other, "ok"))
	if want := float64(callers * (pairs - limit)); rest != want {
		t.Errorf("calls of others: got %v, want %v", rest, want)
	}
}

func TestGroupsAreBounded(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	f, err := NewFailover(reg, Options{MaxMethods: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		f.Group(fmt.Sprint("group", i)).ObserveEvent(failover.EventRetry)
	}
	expect(t, reg, `
		pyro_failover_retries_total{group=group0} 1
		pyro_failover_retries_total{group=group1} 1
		pyro_failover_retries_total{group=group2} 1
		pyro_failover_retries_total{group=other} 47
	`, "pyro_failover_retries_total")
}

func TestFailover(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	f, err := NewFailover(reg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := f.Group("bank")
	for e, times := range map[failover.Event]int{failover.EventAttempt: 5, failover.EventRetry: 4, failover.EventBudgetEmpty: 3,
		failover.EventEjected: 2, failover.EventReturned: 1} {
		for range times {
			g.ObserveEvent(e)
		}
	}
	g.ObserveCall(core.Observation{Outcome: core.CallUnknown, Took: time.Second})
	expect(t, reg, `
		pyro_failover_attempts_total{group=bank} 5
		pyro_failover_retries_total{group=bank} 4
		pyro_failover_budget_exhausted_total{group=bank} 3
		pyro_failover_ejections_total{group=bank} 2
		pyro_failover_returns_total{group=bank} 1
		pyro_failover_calls_total{group=bank,outcome=unknown} 1
		pyro_failover_call_duration_seconds{group=bank} 1
	`, "pyro_failover_attempts_total", "pyro_failover_retries_total", "pyro_failover_budget_exhausted_total", "pyro_failover_ejections_total",
		"pyro_failover_returns_total", "pyro_failover_calls_total", "pyro_failover_call_duration_seconds")
}

// TestHandlesAreBounded registers very many objects, none of which is called.
func TestHandlesAreBounded(t *testing.T) {
	t.Parallel()
	_, c := newServer(t, Options{})
	for i := range 2 * maxHandles {
		c.Method(fmt.Sprint("object", i), "get")
	}
	if got := len(c.handles.values); got != maxHandles+1 {
		t.Errorf("handles: got %d, want %d and one for all others", got, maxHandles)
	}
	if a, b := c.Method("obj_0123456789abcdef0123456789abcdef", "get"), c.Method("late", "get"); a != b {
		t.Errorf("two of the others have handles of their own: %p and %p", a, b)
	}
}

// TestAConflictRegistersNothing keeps half a set of metrics out of a registry.
func TestAConflictRegistersNothing(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	taken := counter("pyro_server_connections_failed_total", "Connections of clients that ended before or with a failed handshake.")
	reg.MustRegister(taken)
	if _, err := NewServer(reg, Options{}); err == nil || !strings.HasPrefix(err.Error(), "metrics: ") {
		t.Fatalf("NewServer beside a metric of the same name: got %v, want an error", err)
	}
	reg.Unregister(taken)
	if _, err := NewServer(reg, Options{}); err != nil {
		t.Errorf("once it is gone: %v", err)
	}
	if _, err := NewServer(reg, Options{}); err == nil {
		t.Error("a second one in the same registry: got no error")
	}
}

func TestBadBuckets(t *testing.T) {
	t.Parallel()
	for _, buckets := range [][]float64{{2, 1}, {1, 1}, {math.NaN()}} {
		opts := Options{Buckets: buckets}
		_, server := NewServer(prometheus.NewRegistry(), opts)
		_, group := NewFailover(prometheus.NewRegistry(), opts)
		for _, err := range []error{server, group} {
			if err == nil || !strings.Contains(err.Error(), "want rising numbers") {
				t.Errorf("buckets %v: got %v, want an error", buckets, err)
			}
		}
	}
}

// TestNames lints what all of the package's metrics are called and how they are described, as promtool does.
func TestNames(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	server, err := NewServer(reg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := NewClient(reg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	group, err := NewFailover(reg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := RegisterProcess(reg, "v1"); err != nil {
		t.Fatal(err)
	}
	server.Method("bank", "get").ObserveCall(core.Observation{})
	client.Method("bank", "get").ObserveCall(core.Observation{})
	group.Group("bank").ObserveCall(core.Observation{})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestNothingIsGlobal looks into the default registry.
func TestNothingIsGlobal(t *testing.T) {
	t.Parallel()
	newServer(t, Options{})
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "pyro_") {
			t.Errorf("%s is in the default registry", f.GetName())
		}
	}
}
