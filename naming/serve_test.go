package naming

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// greeting is an object.
type greeting struct{ Text string }

func (g *greeting) Greet() string { return g.Text }

// spec: O24
func TestServe(t *testing.T) {
	t.Parallel()
	n := startNode(t, newFakeStore())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ready := make(chan map[string]core.URI, 1)
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, map[string]any{"a": &greeting{"hello"}, "b": &greeting{"goodbye"}}, ServeOptions{
			Address: "127.0.0.1:0", Nodes: []string{n.address}, Ready: func(uris map[string]core.URI) { ready <- uris },
		})
	}()
	var uris map[string]core.URI
	select {
	case uris = <-ready:
	case err := <-served:
		t.Fatal(err)
	}
	c := newClient(t, ClientOptions{}, n.address)
	for name, want := range map[string]string{"a": "hello", "b": "goodbye"} {
		e, err := c.Lookup(t.Context(), name)
		if err != nil || e.URI != uris[name] || e.URI.Object != name {
			t.Fatalf("%s: got %v, %v, want %s", name, e, err, uris[name])
		}
		p := core.NewProxy(e.URI, core.ProxyOptions{})
		var got string
		if err := p.Call(t.Context(), "greet", &got); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
		p.Close()
	}
	stop()
	if err := <-served; err != nil {
		t.Errorf("after the end of its context: got %v, want nil", err)
	}

	for name, tc := range map[string]struct {
		objects map[string]any
		opts    ServeOptions
	}{
		"no object":      {map[string]any{"a": nil}, ServeOptions{Nodes: []string{n.address}}},
		"no address":     {nil, ServeOptions{Address: "nowhere:x"}},
		"no name server": {map[string]any{"a": &greeting{}}, ServeOptions{Nodes: []string{freeAddress(t)}, Client: ClientOptions{Timeout: 100 * time.Millisecond}}},
	} {
		if err := Serve(t.Context(), tc.objects, tc.opts); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want an error", name, err)
		}
	}
}
