package naming

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// node is a name server on a port of its own.
type node struct {
	*core.Daemon
	address string
	stopped chan struct{}
}

// startNode serves a store; the test's end stops it.
func startNode(t *testing.T, s Store) *node {
	t.Helper()
	d := listen(t, core.DaemonOptions{})
	server := NewServer(s, ServerOptions{URI: d.URI(ObjectID), Events: d.URI(EventsID)})
	if _, err := d.Register(ObjectID, server.Servant(), core.ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	n := &node{Daemon: d, address: d.Addr().String(), stopped: make(chan struct{})}
	serve(t, d, n.stopped)
	return n
}

// kill stops the node at once and returns when nothing of it is left.
func (n *node) kill() {
	n.Daemon.Close()
	<-n.stopped
}

func listen(t *testing.T, opts core.DaemonOptions) *core.Daemon {
	t.Helper()
	d, err := core.Listen("127.0.0.1:0", opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func serve(t *testing.T, d *core.Daemon, stopped chan struct{}) {
	t.Helper()
	go func() {
		defer close(stopped)
		if err := d.Serve(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(func() {
		d.Close()
		<-stopped
	})
}

func newClient(t *testing.T, opts ClientOptions, nodes ...string) *Client {
	t.Helper()
	c, err := NewClient(nodes, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// cutter is a TCP proxy that can lose replies: the request arrives, and instead of its result the connection ends.
type cutter struct {
	address string
	lose    atomic.Int32 // how many of the next results
	lost    atomic.Int32
}

const (
	headerBytes = 40
	typeOffset  = 6
	typeResult  = 5
)

func startCutter(t *testing.T, to string) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{address: ln.Addr().String()}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			closeBoth := func() { client.Close(); server.Close() }
			stop := context.AfterFunc(t.Context(), closeBoth)
			work.Go(func() { io.Copy(server, client); closeBoth() })
			work.Go(func() { c.replies(client, server); closeBoth(); stop() })
		}
	})
	t.Cleanup(func() { ln.Close(); work.Wait() })
	return c
}

func (c *cutter) replies(client io.Writer, server io.Reader) {
	header := make([]byte, headerBytes)
	for {
		if _, err := io.ReadFull(server, header); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(header[12:])+binary.BigEndian.Uint32(header[16:]))
		if _, err := io.ReadFull(server, body); err != nil {
			return
		}
		if header[typeOffset] == typeResult && c.lose.Add(-1) >= 0 {
			c.lost.Add(1)
			return
		}
		if _, err := client.Write(append(header, body...)); err != nil {
			return
		}
	}
}
