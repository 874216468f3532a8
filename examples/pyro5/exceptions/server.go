// Command exceptions is the server of Pyro5's example "exceptions" in Go: errors that become exceptions in Python.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

const zeroDivisionError core.ExceptionClass = "builtins.ZeroDivisionError"

//lint:ignore ST1005 it is the text of the example
var errBroken = errors.New("a runtime error!")

// TestClass fails in all the ways there are.
type TestClass struct{}

func (TestClass) Div(a, b float64) (float64, error) {
	if b == 0 {
		return 0, zeroDivisionError.New("division by zero")
	}
	return a / b, nil
}

// Error fails with an exception of a class of its choice.
func (TestClass) Error() error { return core.ValueError.New("a valueerror! Great!") }

// Error2 does not fail: an exception is a value like others.
func (TestClass) Error2() any { return core.ValueError.New("a valueerror! Great!") }

// Othererr fails with an error of no class, which is a RuntimeError in Python.
func (TestClass) Othererr() error { return errBroken }

// Onewayerr fails where nobody hears of it: the daemon logs the error.
func (TestClass) Onewayerr() error { return core.ValueError.New("error in oneway call!") }

// Unserializable returns what cannot be sent; the caller gets an exception that says so.
func (TestClass) Unserializable() any { return func() {} }

// Complexerror fails further down.  The exception has the Go stack for its traceback.
func (TestClass) Complexerror() error { return crash() }

func crash() error { return core.TypeError.New("unsupported operand type(s) for //: 'str' and 'int'") }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	ns, err := naming.Locate(ctx, nil, naming.ClientOptions{})
	if err != nil {
		return err
	}
	defer ns.Close()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	uri, err := d.Register("", TestClass{}, core.ObjectOptions{Oneway: []string{"onewayerr"}})
	if err != nil {
		return err
	}
	if err := ns.Register(ctx, "example.exceptions", uri, naming.RegisterOptions{}); err != nil {
		return err
	}
	fmt.Printf("uri = %s\nname = example.exceptions\n", uri)
	return d.Serve(ctx)
}
