package main

import (
	"context"
	"net"
	"sync"
)

// acceptAll gives each connection a goroutine, and closes the connection when that ends, or when ctx does.  It returns when ctx ends or
// accepting fails, after the last of them.
func acceptAll(ctx context.Context, ln net.Listener, serve func(net.Conn)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			serve(conn)
		})
	}
}
