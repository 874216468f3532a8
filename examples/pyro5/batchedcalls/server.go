// Command batchedcalls is the server of Pyro5's example "batchedcalls" in Go.  A batch is many calls in one message; nothing in the object
// is different for it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const zeroDivisionError core.ExceptionClass = "builtins.ZeroDivisionError"

// Thingy calculates.
type Thingy struct{}

func (Thingy) Multiply(a, b int) int { return a * b }

func (Thingy) Add(a, b int) int { return a + b }

// Divide rounds down, as Python's // does; an error in a batch ends it.
func (Thingy) Divide(a, b int) (int, error) {
	if b == 0 {
		return 0, zeroDivisionError.New("integer division or modulo by zero")
	}
	quotient := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		quotient--
	}
	return quotient, nil
}

// Delay waits, or gives up when its caller has: ctx ends with the call.
func (Thingy) Delay(ctx context.Context, seconds float64) (float64, error) {
	select {
	case <-time.After(time.Duration(seconds * float64(time.Second))):
		return seconds, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (Thingy) Printmessage(message string) int {
	fmt.Println(message)
	return 0
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	uri, err := d.Register("example.batched", Thingy{}, core.ObjectOptions{})
	if err != nil {
		return err
	}
	fmt.Println("uri =", uri)
	return d.Serve(ctx)
}
