package naming_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// A client registers an object under a name and finds it again.
func ExampleClient() {
	address, stop := startNameServer()
	defer stop()
	ctx := context.Background()

	c, err := naming.NewClient([]string{address}, naming.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	uri, err := core.ParseURI("PYRO:bank@10.0.0.7:4001")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Register(ctx, "bank", uri, naming.RegisterOptions{Safe: true, Tags: []string{"money"}}))
	fmt.Println(c.Register(ctx, "bank", uri, naming.RegisterOptions{Safe: true}))

	e, err := c.Lookup(ctx, "bank")
	fmt.Println(e.URI, e.Tags, err)
	_, err = c.Lookup(ctx, "casino")
	fmt.Println(err, errors.Is(err, naming.ErrUnknownName))
	// Output:
	// <nil>
	// NamingError: name already registered: bank
	// PYRO:bank@10.0.0.7:4001 [money] <nil>
	// NamingError: unknown name: casino true
}

// Several servers stand behind one name: a group.
func ExampleClient_Join() {
	address, stop := startNameServer()
	defer stop()
	ctx := context.Background()

	c, err := naming.NewClient([]string{address}, naming.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for i, zone := range []string{"east", "west"} {
		uri := core.URI{Protocol: "PYRO", Object: "jokegen", Host: "10.0.0.7", Port: 4001 + i}
		if _, err := c.Join(ctx, "jokegen", uri, naming.JoinOptions{Zone: zone}); err != nil {
			log.Fatal(err)
		}
	}
	g, err := c.Group(ctx, "jokegen")
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range g.Members {
		fmt.Println(m.URI, m.Zone, m.Alive)
	}
	// Output:
	// PYRO:jokegen@10.0.0.7:4001 east true
	// PYRO:jokegen@10.0.0.7:4002 west true
}

// A proxy for a name looks it up whenever it connects.
func ExampleClient_Resolve() {
	address, stop := startNameServer()
	defer stop()
	ctx := context.Background()

	c, err := naming.NewClient([]string{address}, naming.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	p := core.NewProxy(core.URI{Protocol: "PYRONAME", Object: naming.ObjectID}, core.ProxyOptions{Resolver: c})
	defer p.Close()
	var count int
	err = p.Call(ctx, "count", &count)
	fmt.Println(count, err)
	// Output: 1 <nil>
}

// Nodes answer the broadcasts by which Pyro's clients search.
func ExampleRespond() {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		uri := core.URI{Protocol: "PYRO", Object: naming.ObjectID, Host: "n1.example", Port: 9090}
		if err := naming.Respond(ctx, conn, uri, func() bool { return true }); !errors.Is(err, context.Canceled) {
			log.Print(err)
		}
	})

	asker, err := net.Dial("udp4", conn.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer asker.Close()
	fmt.Fprint(asker, "GET_NSURI")
	reply := make([]byte, 100)
	n, err := asker.Read(reply)
	fmt.Println(string(reply[:n]), err)
	cancel()
	work.Wait()
	// Output: PYRO:Pyro.NameServer@n1.example:9090 <nil>
}

// startNameServer serves a registry that lives in memory; a node of package cluster is one that lasts.
func startNameServer() (address string, stop func()) {
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		log.Fatal(err)
	}
	server := naming.NewServer(&memory{state: fsm.New()}, naming.ServerOptions{URI: d.URI(naming.ObjectID)})
	if _, err := d.Register(naming.ObjectID, server.Servant(), core.ObjectOptions{}); err != nil {
		log.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		if err := d.Serve(context.Background()); err != nil {
			log.Print(err)
		}
	})
	return d.Addr().String(), func() { d.Close(); work.Wait() }
}

// memory is the least that can be a naming.Store.
type memory struct {
	state *fsm.State
	mu    sync.Mutex
	index uint64
}

func (m *memory) View(context.Context) (*fsm.View, error) { return m.state.View(), nil }

func (m *memory) Apply(_ context.Context, c fsm.Command) (fsm.Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := naming.Prepare(m.state.View(), c)
	if err != nil {
		return fsm.Result{}, err
	}
	entry, err := fsm.EncodeEntry([]fsm.Command{c})
	if err != nil {
		return fsm.Result{}, err
	}
	m.index++
	results, err := m.state.Apply(m.index, entry)
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}
