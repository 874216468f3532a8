package peer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/metrics"
	"sync"
)

// serve is the server command.
func serve(ctx context.Context, p Peer, w work, stdout io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ln.Close()
		return err
	}
	// Clients that connect before Serve accepts wait in the listener's queue.
	if _, err := fmt.Fprintf(stdout, "ADDR %s pids=%d ctl=%s\n", ln.Addr(), os.Getpid(), ctl.Addr()); err != nil {
		ln.Close()
		ctl.Close()
		return err
	}
	counting, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { answerCounts(counting, ctl) })
	if w.events {
		err = p.ServeBroker(ctx, ln)
	} else {
		err = p.Serve(ctx, ln, new(Service))
	}
	stop()
	wg.Wait()
	if ctx.Err() != nil {
		return nil // asked to stop
	}
	return err
}

// answerCounts answers each line that a client of ln sends with the number of heap objects allocated.
func answerCounts(ctx context.Context, ln net.Listener) {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			ln.Close()
			return
		}
		wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if _, err := fmt.Fprintln(conn, heapObjects()); err != nil {
					return
				}
			}
		})
	}
}

// heapObjects is how many heap objects this process has allocated.
func heapObjects() uint64 {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/heap/tiny/allocs:objects"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}
