// Command streaming is the server of Pyro5's example "streaming" in Go: methods that return iterators, whose items come one by one.
package main

import (
	"context"
	"fmt"
	"iter"
	"log"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

var digits = []int{1, 2, 3, 4, 5, 6, 7, 8, 9}

// Streamer has the same numbers in many ways.
type Streamer struct {
	PropIter, PropGenerator iter.Seq[int] // attributes
}

func (Streamer) List() []int { return digits }

func (Streamer) Iterator() iter.Seq[int] { return slices.Values(digits) }

// Generator yields numbers that it makes as they are asked for.
func (Streamer) Generator() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 1; i < 10; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// SlowGenerator stops when nobody wants the items any more: that ends its context.
func (Streamer) SlowGenerator(ctx context.Context) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for i := 1; i < 10; i++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if !yield(i, nil) {
				return
			}
		}
	}
}

// Fibonacci never ends by itself.
func (Streamer) Fibonacci() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for a, b := uint64(0), uint64(1); yield(a); a, b = b, a+b {
		}
	}
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
	streamer := &Streamer{
		PropIter:      slices.Values([]int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
		PropGenerator: slices.Values([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}),
	}
	uri, err := d.Register("example.streamer", streamer, core.ObjectOptions{})
	if err != nil {
		return err
	}
	fmt.Println("Object <Streamer>:\n    uri =", uri)
	return d.Serve(ctx)
}
