package failover_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

type Greeter struct{}

func (Greeter) Hello(name string) string { return "Hello " + name }

// serve starts a server of a Greeter.
func serve() (*core.Daemon, core.URI) {
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		log.Fatal(err)
	}
	uri, err := d.Register("greeter", Greeter{}, core.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	go d.Serve(context.Background())
	return d, uri
}

// Two servers, one of which dies: the client does not notice.
func Example() {
	first, uri1 := serve()
	second, uri2 := serve()
	defer second.Close()

	greeter := failover.New("greeter", failover.Static(uri1, uri2), failover.Options{})
	defer greeter.Close()

	ctx := context.Background()
	var text string
	for _, name := range []string{"Alice", "Bob", "Carol"} {
		if err := greeter.Call(ctx, "hello", &text, name); err != nil {
			log.Fatal(err)
		}
		fmt.Println(text)
		first.Close()
	}
	// Output:
	// Hello Alice
	// Hello Bob
	// Hello Carol
}

// A call without an answer says what is known of it.
func ExampleCallError() {
	d, uri := serve()
	d.Close()

	greeter := failover.New("greeter", failover.Static(uri), failover.Options{CallTimeout: 100e6})
	defer greeter.Close()

	err := greeter.Call(context.Background(), "hello", nil, "Alice")
	if e, ok := errors.AsType[*failover.CallError](err); ok && e.Outcome == failover.NotExecuted {
		fmt.Println("nothing happened, it can be called again later")
	}
	fmt.Println(failover.OutcomeOf(err))
	// Output:
	// nothing happened, it can be called again later
	// not executed
}

// What the servers do not declare, as stock Python servers, the caller can.
func ExampleOptions() {
	_ = failover.Options{Contracts: map[string]core.Contract{
		"hello": core.ContractReadOnly,
	}}
}
