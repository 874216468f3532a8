package core_test

import (
	"context"
	"fmt"
	"iter"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Counter counts.
type Counter struct{}

// Countdown is an item stream for its callers, as a generator of Python's is.
func (Counter) Countdown(from int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := from; i > 0 && yield(i); i-- {
		}
	}
}

// Methods that return iterators send their items one by one, as callers ask for them.
func ExampleStream() {
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- d.Serve(ctx) }()
	defer func() { stop(); <-served }()
	uri, err := d.Register("counter", Counter{}, core.ObjectOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}

	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()
	var stream *core.Stream
	if err := p.Call(ctx, "countdown", &stream, 1_000_000); err != nil {
		fmt.Println(err)
		return
	}
	for item, err := range stream.All(ctx) {
		if err != nil || item == int64(999_997) {
			break // which closes the stream
		}
		fmt.Println(item)
	}
	// Output:
	// 1000000
	// 999999
	// 999998
}
