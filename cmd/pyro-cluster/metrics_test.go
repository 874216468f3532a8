package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// scrape returns the samples of a node, by name and labels.
func scrape(t *testing.T, port int) (samples map[string]float64, text string) {
	t.Helper()
	text, ok := strings.CutPrefix(fetch(t, "http://"+join("localhost", port)+"/metrics"), "200 ")
	if !ok {
		t.Fatalf("scrape: got %s", text)
	}
	samples = map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") || !found {
			continue
		}
		if i := strings.LastIndex(line, "} "); i >= 0 { // a label may have blanks
			name, value = line[:i+1], strings.TrimSpace(line[i+2:])
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		samples[name] = v
	}
	return samples, text
}

func TestServerMetrics(t *testing.T) {
	t.Parallel()
	httpPort := freePorts(t, 0)
	c := start(t, oneNode(t.TempDir(), "--http-port", fmt.Sprint(httpPort))...)
	uri := uriOf(t, c.line("URI = "))
	c.line("ready")
	ns := join(uri.Host, uri.Port)
	for _, name := range []string{"bank", "shop"} {
		must(t, "ns", "register", name, "PYRO:x@localhost:7000", "--ns", ns)
	}
	must(t, "ns", "join", "group", "PYRO:x@localhost:7000", "--ns", ns)
	cli(t, "call", "PYRO:Pyro.NameServer@"+ns, "lookup", "nowhere")

	got, text := scrape(t, httpPort)
	calls := func(method, outcome string) string {
		return fmt.Sprintf(`pyro_server_calls_total{method="%s",object="Pyro.NameServer",outcome="%s"}`, method, outcome)
	}
	for name, want := range map[string]float64{
		`pyro_raft_state{state="leader"}`:       1,
		`pyro_raft_state{state="follower"}`:     0,
		`pyro_raft_members{suffrage="voter"}`:   1,
		"pyro_raft_has_leader":                  1,
		"pyro_registry_entries":                 2,
		"pyro_registry_groups":                  1,
		"pyro_node_ready":                       1,
		calls("register", "ok"):                 2,
		calls("lookup", "exception"):            1,
		"pyro_raft_leader_last_contact_seconds": 0,
		"pyro_raft_log_write_errors_total":      0,
		`pyro_server_connections_refused_total`: 0,
	} {
		if v, there := got[name]; !there || v != want {
			t.Errorf("%s: got %v (there: %v), want %v", name, v, there, want)
		}
	}
	for _, name := range []string{"pyro_raft_commit_index", "pyro_raft_log_write_duration_seconds_count", "pyro_raft_commit_duration_seconds_sum",
		"pyro_raft_entry_commands_count", "pyro_raft_log_file_bytes", "pyro_server_connections_opened_total", "go_goroutines",
		"process_resident_memory_bytes", `pyro_server_call_duration_seconds_count{method="register",object="Pyro.NameServer"}`} {
		if got[name] <= 0 {
			t.Errorf("%s: got %v, want more than zero", name, got[name])
		}
	}
	if want := fmt.Sprintf("version=%q} 1", programVersion()); !strings.Contains(text, want) {
		t.Errorf("no pyro_build_info with %s", want)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "pyro_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if got := fetch(t, "http://"+join("localhost", httpPort)+"/debug/pprof/cmdline"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("profiles without --pprof: got %q, want 404", got)
	}
}

// TestDevMetrics looks at three nodes of one process, each of which has to tell about itself.
func TestDevMetrics(t *testing.T) {
	t.Parallel()
	_, base := startDev(t, "--data-dir", t.TempDir(), "--pprof", "--log-format", "json")
	must(t, "ns", "register", "bank", "PYRO:x@localhost:7000", "--ns", devAddresses(base)[1])
	eventually(t, "one leader, and a call of register at one node", "1 leader, 2 followers, 1 register", func() string {
		leaders, followers, registered := 0., 0., 0.
		for i := range devNodes {
			got, _ := scrape(t, base+i*devStep+3)
			leaders += got[`pyro_raft_state{state="leader"}`]
			followers += got[`pyro_raft_state{state="follower"}`]
			registered += got[`pyro_server_calls_total{method="register",object="Pyro.NameServer",outcome="ok"}`]
		}
		return fmt.Sprintf("%v leader, %v followers, %v register", leaders, followers, registered)
	})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/symbol", "/debug/pprof/heap?debug=1"} {
		if got := fetch(t, "http://"+join("localhost", base+3)+path); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s with --pprof: got %.80q, want 200", path, got)
		}
	}
}

func panics(context.Context, []any) (any, error) { panic("bug") }

func TestLogsNameTheCall(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log := newLogger(&out, "info", format)
		d, err := core.Listen("localhost:0", core.DaemonOptions{Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		uri, err := d.Register("bank", &core.Servant{Class: "Bank", Methods: []core.Method{{Name: "fail", Func: panics}}}, core.ObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- d.Serve(t.Context()) }()
		p := core.NewProxy(uri, core.ProxyOptions{})
		if err := p.Call(core.WithCorrelationID(t.Context(), [16]byte{0xab}), "fail", nil); err == nil {
			t.Error("a method that panics: got no error")
		}
		p.Close()
		d.Close()
		<-done
		if !strings.Contains(out.String(), "panic in a method") || !strings.Contains(out.String(), "ab000000000000000000000000000000") {
			t.Errorf("%s: got %s, want the panic and the call's id", format, out.String())
		}
	}
}
