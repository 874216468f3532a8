package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// TestNodeStopsInOrder keeps a call under way while the node is told to stop: the node is alive and not ready, the registry still works for
// the call, and the call gets its answer.
func TestNodeStopsInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	httpPort := freePorts(t, 0)
	ready := make(chan struct{})
	n, err := bindNode(nodeConfig{
		dataDir: t.TempDir(), host: "localhost", httpPort: httpPort, expect: 1, profile: cluster.ProfileLAN,
		log: slog.New(slog.DiscardHandler), onReady: func() { close(ready) },
	})
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := func(ctx context.Context, _ []any) (any, error) {
		close(entered)
		<-leave
		_, err := n.raft.Load().Apply(ctx, fsm.Command{Kind: fsm.KindRegister, Name: "late", URI: "PYRO:x@h:1"})
		return "done", err
	}
	uri, err := n.daemon.Register("slow", &core.Servant{Class: "Slow", Methods: []core.Method{{Name: "run", Func: slow}}}, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- n.run(ctx) }()
	wait(t, ready, "the node is ready")

	answer := make(chan error, 1)
	go func() {
		p := core.NewProxy(uri, core.ProxyOptions{})
		defer p.Close()
		answer <- p.Call(context.Background(), "run", nil)
	}()
	wait(t, entered, "the method runs")
	cancel()
	base := "http://" + join("localhost", httpPort)
	for end := time.Now().Add(deadline); strings.HasPrefix(fetch(t, base+"/readyz"), "200 "); {
		if time.Now().After(end) {
			t.Fatal("the node is still ready after it was told to stop")
		}
	}
	for path, want := range map[string]string{
		"/livez": "200 ok\n", "/readyz": "503 not ready: stopping\n", "/readyz?verbose": "503 [-] serving: stopping\n",
	} {
		if got := fetch(t, base+path); got != want {
			t.Errorf("%s while a call is under way: got %q, want %q", path, got, want)
		}
	}
	close(leave)
	if err := wait(t, answer, "the call's answer"); err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := wait(t, stopped, "the end"); err != nil {
		t.Errorf("run: %v", err)
	}
}

func wait[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(deadline):
		t.Fatalf("%s: not in %v", what, deadline)
		panic("not reached")
	}
}

func TestAdminError(t *testing.T) {
	t.Parallel()
	other := errors.New("no vote")
	tests := []struct {
		name      string
		err, want error
	}{
		{"none", nil, nil},
		{"unknown node", fmt.Errorf("transfer: %w", cluster.ErrUnknownNode), naming.ErrUnknownNode},
		{"no leader", fmt.Errorf("transfer: %w", cluster.ErrNoLeader), core.ConnectionClosedError},
		{"unknown outcome", fmt.Errorf("transfer: %w", cluster.ErrUnknownOutcome), core.ConnectionClosedError},
		{"other", other, other},
	}
	for _, tt := range tests {
		if got := adminError(tt.err); !errors.Is(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
