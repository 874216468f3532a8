// Command attributes is the server of Pyro5's example "attributes" in Go.  Its object is spelled out member by member, as properties and
// special names have no counterpart in Go; where exported methods and fields are all that callers need, they can be left to
// [core.Daemon.Register].
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// thingy has more than callers can see.
type thingy struct {
	mu    sync.Mutex // protects value
	value int
	sub   map[string]string
}

// servant says what callers can see of t.
func (t *thingy) servant() *core.Servant {
	return &core.Servant{
		Class: "Thingy",
		Methods: []core.Method{
			{Name: "getValue", Func: func(context.Context, []any) (any, error) { return t.get(), nil }},
			{Name: "__dunder__", Func: func(context.Context, []any) (any, error) { return "yep", nil }},
			{Name: "__len__", Func: func(context.Context, []any) (any, error) { return 200, nil }},
		},
		Attributes: []core.Attribute{
			{
				Name:  "prop_value",
				Read:  func(context.Context) (any, error) { return t.get(), nil },
				Write: func(_ context.Context, value any) error { return t.set(value) },
			},
			{
				Name: "prop_sub", // read-only
				Read: func(context.Context) (any, error) { return t.sub, nil },
			},
		},
	}
}

func (t *thingy) get() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.value
}

func (t *thingy) set(value any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return core.Convert(&t.value, value)
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
	t := &thingy{value: 42, sub: map[string]string{"name": "value"}}
	uri, err := d.Register("example.attributes", t.servant(), core.ObjectOptions{})
	if err != nil {
		return err
	}
	fmt.Println("uri =", uri)
	return d.Serve(ctx)
}
