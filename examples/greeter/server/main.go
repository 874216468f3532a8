// Command server serves a greeter as a member of the object group "greeter".
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// Greeter is an ordinary Go type; callers see its exported methods under Python's kind of names.
type Greeter struct{}

func (Greeter) SayHello(name string) string { return "Hello, " + name + ", says Go." }

var nodes = flag.String("ns", "localhost:9090,localhost:9190,localhost:9290", "name server nodes")

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	check(err)
	uri, err := d.Register("", Greeter{}, core.ObjectOptions{
		Contracts: map[string]core.Contract{"say_hello": core.ContractReadOnly}, // may be retried
	})
	check(err)
	go d.Serve(context.Background())
	ns, err := naming.NewClient(strings.Split(*nodes, ","), naming.ClientOptions{})
	check(err)
	member, err := ns.Join(ctx, "greeter", uri, naming.JoinOptions{})
	check(err)
	fmt.Println("serving", uri)

	<-ctx.Done() // leave the group, finish the calls under way, then stop
	bye, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = ns.Leave(bye, "greeter", member)
	check(err)
	check(d.Shutdown(bye))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
