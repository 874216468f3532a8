package core_test

import (
	"context"
	"fmt"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Printer is called back.
type Printer struct{ prefix string }

// Print is what others call.
func (p *Printer) Print(text string) { fmt.Println(p.prefix + text) }

// Worker calls its callers back.
type Worker struct{}

// Work gets a proxy of whatever object its caller passes.
func (Worker) Work(ctx context.Context, callback core.ProxyState) error {
	p := callback.Proxy(core.ProxyOptions{})
	defer p.Close()
	return p.Call(ctx, "print", nil, "half done")
}

// An object of a program's own daemon can be an argument: the other side gets a proxy, and calls back.
func ExampleProxyOptions_callback() {
	ctx, stop := context.WithCancel(context.Background())
	serve := func(id string, object any) (*core.Daemon, core.URI, chan error) {
		d, err := core.Listen("localhost:0", core.DaemonOptions{})
		if err != nil {
			panic(err)
		}
		uri, err := d.Register(id, object, core.ObjectOptions{})
		if err != nil {
			panic(err)
		}
		served := make(chan error)
		go func() { served <- d.Serve(ctx) }()
		return d, uri, served
	}
	_, worker, served1 := serve("worker", Worker{})
	printer := &Printer{"progress: "}
	mine, _, served2 := serve("printer", printer)
	defer func() { stop(); <-served1; <-served2 }()

	p := core.NewProxy(worker, core.ProxyOptions{Daemon: mine})
	defer p.Close()
	if err := p.Call(ctx, "work", nil, printer); err != nil {
		fmt.Println(err)
	}
	// Output: progress: half done
}
