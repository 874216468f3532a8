package interop

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// node is a cluster of one, put together as the program does it.
type node struct {
	uri     core.URI // of the name server
	host    string
	port    string
	udpPort string
}

// address is the node's host:port.
func (n *node) address() string { return net.JoinHostPort(n.host, n.port) }

// startNode runs a node with a data directory of its own until the test ends.
func startNode(t *testing.T) *node {
	t.Helper()
	return startNodeWith(t, core.DaemonOptions{}, core.ProxyOptions{})
}

// startNodeWith is startNode with other options for clients, and those with which they get in.
func startNodeWith(t *testing.T, opts core.DaemonOptions, client core.ProxyOptions) *node {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d, err := core.NewDaemon(ln, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	uri := d.URI(naming.ObjectID)
	n := &node{uri: uri, host: uri.Host, port: strconv.Itoa(uri.Port), udpPort: strconv.Itoa(udp.LocalAddr().(*net.UDPAddr).Port)}
	raft, err := cluster.Open(patient(t), cluster.Options{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0", PyroAddress: n.address(), Version: "test",
		Expect: 1, Profile: cluster.ProfileLAN, Prepare: naming.Prepare,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raft.Close() })
	names := naming.NewServer(raft, naming.ServerOptions{URI: uri, Events: d.URI(naming.EventsID)})
	publish := func(context.Context, []any) (any, error) { return nil, nil }
	for id, servant := range map[string]*core.Servant{
		naming.ObjectID: names.Servant(),
		naming.EventsID: {Class: "EventService", Methods: []core.Method{{Name: "publish", Func: publish}}}, // to be found, no more
	} {
		if _, err := d.Register(id, servant, core.ObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithCancel(context.Background())
	var services sync.WaitGroup
	t.Cleanup(services.Wait)
	t.Cleanup(cancel) // runs before the others
	services.Go(func() {
		if err := d.Serve(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("serve: %v", err)
		}
	})
	services.Go(func() {
		if err := naming.Respond(ctx, udp, uri, func() bool { return true }); err != nil && ctx.Err() == nil {
			t.Errorf("respond: %v", err)
		}
	})
	services.Go(func() {
		prober := naming.Prober{Store: raft, Leader: raft}
		if err := prober.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("probe: %v", err)
		}
	})
	n.awaitReady(t, client)
	return n
}

// awaitReady returns when the name server answers.
func (n *node) awaitReady(t *testing.T, opts core.ProxyOptions) {
	t.Helper()
	ctx := patient(t)
	p := newProxy(t, n.uri, opts)
	for {
		err := p.Call(ctx, "ping", nil) // waits for a leader itself, for a while
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no name server: %v", err)
		}
	}
}

// client returns a Go client of the node.
func (n *node) client(t *testing.T) *naming.Client {
	t.Helper()
	c, err := naming.NewClient([]string{n.address()}, naming.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// portText is the port of a URI.
func portText(uri core.URI) string { return strconv.Itoa(uri.Port) }
