// Command client calls the calculator at the URI that it is given.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/examples/calculator"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: client URI")
	}
	uri, err := core.ParseURI(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	proxy := core.NewProxy(uri, core.ProxyOptions{})
	defer proxy.Close()
	if err := use(context.Background(), calculator.NewCalculatorProxy(proxy)); err != nil {
		log.Fatal(err)
	}
}

// use sees no difference between a calculator here and one elsewhere.
func use(ctx context.Context, c calculator.Calculator) error {
	sum, err := c.Add(ctx, 1, 2, 3.5)
	if err != nil {
		return err
	}
	fmt.Println("1 + 2 + 3.5 =", sum)
	quotient, remainder, err := c.Divide(ctx, 17, 5)
	if err != nil {
		return err
	}
	fmt.Println("17 / 5 =", quotient, "remainder", remainder)
	_, _, err = c.Divide(ctx, 1, 0)
	fmt.Println("1 / 0:", err)
	entries, err := c.History(ctx, 10)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Println(entry.Text, "was", entry.Result)
	}
	return c.Clear(ctx)
}
