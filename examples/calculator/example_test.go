package calculator_test

import (
	"context"
	"fmt"
	"log"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/examples/calculator"
)

// simple implements a part of calculator.Calculator.
type simple struct{ calculator.Calculator }

func (simple) Add(_ context.Context, terms ...float64) (sum float64, err error) {
	for _, term := range terms {
		sum += term
	}
	return sum, nil
}

func (simple) Divide(_ context.Context, dividend, divisor int) (quotient, remainder int, err error) {
	if divisor == 0 {
		return 0, 0, core.ValueError.New("%d / 0", dividend)
	}
	return dividend / divisor, dividend % divisor, nil
}

// A daemon serves any Calculator, and the proxy is one.
func Example() {
	ctx := context.Background()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	uri, err := d.Register("calculator", calculator.CalculatorServant(simple{}), core.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	go d.Serve(ctx)

	proxy := core.NewProxy(uri, core.ProxyOptions{})
	defer proxy.Close()
	var c calculator.Calculator = calculator.NewCalculatorProxy(proxy)
	fmt.Println(c.Add(ctx, 1, 2, 3.5))
	fmt.Println(c.Divide(ctx, 17, 5))
	fmt.Println(c.Divide(ctx, 1, 0))
	// Output:
	// 6.5 <nil>
	// 3 2 <nil>
	// 0 0 ValueError: 1 / 0
}
