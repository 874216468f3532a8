// Command client calls the object group "greeter".
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"strings"

	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

var nodes = flag.String("ns", "localhost:9090,localhost:9190,localhost:9290", "name server nodes")

func main() {
	flag.Parse()
	ctx := context.Background()
	ns, err := naming.NewClient(strings.Split(*nodes, ","), naming.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	greeter := failover.New("greeter", ns, failover.Options{})
	var hello string
	if err := greeter.Call(ctx, "say_hello", &hello, "Irmen"); err != nil {
		log.Fatal(failover.OutcomeOf(err), ": ", err) // NotExecuted, Unknown or Executed
	}
	fmt.Println(hello)
}
