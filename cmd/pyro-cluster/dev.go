package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

const (
	devNodes = 3
	devStep  = 100 // between the ports of two nodes
)

// dev is a whole cluster in one process: real nodes with real raft over TCP, and a group of demo replicas.
type dev struct {
	g       *globals
	port    int
	dataDir string // empty means a temporary one
	log     string
	format  string // of the log
	pprof   bool
	out     io.Writer
}

func newDev(g *globals) *cobra.Command {
	d := &dev{g: g, log: "error", format: "text"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run three nodes and a demo object group in this process",
		Long: `dev runs a cluster of three nodes in one process, each with its own data directory and real raft over TCP, and the object group "jokegen" of
three replicas.  It prints what to try, and a line that begins with "ready" when calls work through each node.

The nodes' Pyro ports are P, P+100 and P+200, with UDP, raft and HTTP on the three ports after each.`,
		Example: "  pyro-cluster dev\n  pyro-cluster dev --port 19090 --data-dir ./data",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&d.port, "port", core.DefaultPort, "Pyro `port` of the first node")
	flags.StringVar(&d.dataDir, "data-dir", "", "`directory` that is kept and used again at the next start (default: a temporary one)")
	flags.Var(&enum{&d.log, []string{"debug", "info", "warn", "error"}}, "log-level", "the least that is logged")
	flags.Var(&enum{&d.format, []string{"text", "json"}}, "log-format", "how it is logged")
	flags.BoolVar(&d.pprof, "pprof", false, "serve profiles of the program under /debug/pprof on the HTTP ports")
	return without(cmd, append(securityFlags, "ns", "output")...)
}

func (d *dev) run(cmd *cobra.Command) (err error) {
	if last := d.port + (devNodes-1)*devStep + 3; d.port < 1 || last > 65535 {
		return usageError(fmt.Errorf("--port is %d, and ports up to %d are needed", d.port, last), "give a port from 1 to 65332")
	}
	began := time.Now()
	nodes, err := d.bind(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if d.dataDir == "" {
		if d.dataDir, err = os.MkdirTemp("", "pyro-cluster-dev-"); err != nil {
			closeAll(nodes)
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.dataDir)) }()
	} else if err := d.claimDir(); err != nil {
		closeAll(nodes)
		return err
	}
	for i, n := range nodes {
		n.cfg.dataDir = filepath.Join(d.dataDir, fmt.Sprintf("node%d", i+1))
	}
	return d.serve(cmd.Context(), nodes, began)
}

// address is the Pyro host:port of node i.
func (d *dev) address(i int) string { return join("localhost", d.port+i*devStep) }

func (d *dev) addresses() []string {
	list := make([]string, devNodes)
	for i := range list {
		list[i] = d.address(i)
	}
	return list
}

// bind binds the sockets of all nodes before anything is written.
func (d *dev) bind(stderr io.Writer) ([]*node, error) {
	log := newLogger(stderr, d.log, d.format)
	peers := make([]string, devNodes)
	for i := range peers {
		peers[i] = join("localhost", d.port+i*devStep+2)
	}
	var nodes []*node
	for i := range devNodes {
		port := d.port + i*devStep
		n, err := bindNode(nodeConfig{
			host: "localhost", port: port, udpPort: port + 1, raftPort: port + 2, httpPort: port + 3,
			raftAdvertise: peers[i],
			expect:        devNodes, join: peers, profile: cluster.ProfileLAN,
			pprof: d.pprof, log: log.With("node", i+1),
		})
		if err != nil {
			closeAll(nodes)
			if f, ok := errors.AsType[*failure](err); ok {
				f.hint = fmt.Sprintf("stop its user, or choose another --port; %d to %d are needed", d.port, d.port+(devNodes-1)*devStep+3)
			}
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func closeAll(nodes []*node) {
	for _, n := range nodes {
		n.closeSockets()
	}
}

// claimDir remembers in the directory for which port it is.  The nodes know each other by address, so that all three of them under new
// ones would not find each other again.
func (d *dev) claimDir() error {
	var kept struct {
		Port int `json:"port"`
	}
	file := filepath.Join(d.dataDir, "dev.json")
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(d.dataDir, 0o700); err != nil {
			return err
		}
		kept.Port = d.port
		text, err := json.Marshal(kept)
		if err != nil {
			return err
		}
		return os.WriteFile(file, append(text, '\n'), 0o600)
	case err != nil:
		return err
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		return &failure{exitDamaged, fmt.Errorf("read %s: %w", file, err), "choose another --data-dir"}
	}
	if kept.Port != d.port {
		return usageError(fmt.Errorf("%s belongs to a cluster on port %d", d.dataDir, kept.Port), fmt.Sprintf("give --port %d, or another --data-dir", kept.Port))
	}
	return nil
}

// serve runs everything until ctx ends or a part fails.
func (d *dev) serve(ctx context.Context, nodes []*node, began time.Time) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all sync.WaitGroup
	ready := make(chan struct{}, len(nodes)) // room for all: nobody waits to say it
	for _, n := range nodes {
		n.cfg.onReady = func() { ready <- struct{}{} }
		all.Go(func() {
			if err := n.run(running); err != nil {
				fail(err)
			}
		})
	}
	fmt.Fprintf(d.out, "three nodes: %s (data in %s)\n", strings.Join(d.addresses(), ", "), d.dataDir)
	err := d.serveDemo(running, fail, ready, began)
	fail(err) // what ended the demo ends the nodes
	all.Wait()
	if ctx.Err() != nil { // the request to stop, however far the start had come
		return nil
	}
	return context.Cause(running)
}

// serveDemo serves the replicas of the demo group and tells when all of it works.
func (d *dev) serveDemo(ctx context.Context, fail context.CancelCauseFunc, ready <-chan struct{}, began time.Time) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	members := make(map[string]core.URI, devNodes)
	for i := range devNodes {
		// Ids are the same in every life: joining replaces the member that the last one left behind in a kept directory.
		id := fmt.Sprintf("replica-%d", i+1)
		daemon, uri, err := newReplica(id)
		if err != nil {
			return err
		}
		// Nobody is left to call when the command ends, so the replicas stop at once instead of draining.
		defer daemon.Close()
		serving.Go(func() {
			if err := daemon.Serve(context.WithoutCancel(ctx)); err != nil {
				fail(fmt.Errorf("serve %s: %w", id, err))
			}
		})
		members[id] = uri
	}
	if err := d.start(ctx, members, ready); err != nil {
		return err
	}
	d.printReady(time.Since(began))
	<-ctx.Done()
	return nil
}

// start waits for the nodes, makes the replicas members of the group, and checks that calls work through each node.
func (d *dev) start(ctx context.Context, members map[string]core.URI, ready <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, d.g.timeout)
	defer cancel()
	for range devNodes {
		select {
		case <-ready:
		case <-ctx.Done():
			return fmt.Errorf("the nodes did not get ready: %w", context.Cause(ctx))
		}
	}
	c, err := d.g.clientOf(d.addresses())
	if err != nil {
		return err
	}
	defer c.Close()
	for id, uri := range members {
		if _, err := c.Join(ctx, demoGroup, uri, naming.JoinOptions{Member: id}); err != nil {
			return fmt.Errorf("join %s: %w", demoGroup, namingError(err, d.addresses()))
		}
	}
	fmt.Fprintf(d.out, "object group %s: %d replicas\n", demoGroup, len(members))
	for i := range devNodes {
		if err := d.g.checkNode(ctx, d.address(i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *dev) printReady(took time.Duration) {
	all := strings.Join(d.addresses(), ",")
	fmt.Fprintf(d.out, `ready after %d ms: calls work through each node

Try, in another terminal:

  pyro-cluster call PYRONAME:%[2]s@%[3]s joke Irmen
  pyro-cluster ns members %[2]s --ns %[3]s
  pyro-cluster cluster members --ns %[3]s
  curl http://localhost:%[5]d/readyz?verbose
  curl http://localhost:%[5]d/metrics

Python (pip install Pyro5):

  from Pyro5.api import Proxy
  print(Proxy("PYRONAME:%[2]s@%[4]s").joke("Irmen"))

Go:

  names, err := naming.NewClient([]string{"%[6]s"}, naming.ClientOptions{})
  jokes := failover.New("%[2]s", names, failover.Options{})
  var joke string
  err = jokes.Call(ctx, "joke", &joke, "Irmen")

Ctrl-C stops it.
`, took.Milliseconds(), demoGroup, all, d.address(0), d.port+3, strings.Join(d.addresses(), `", "`))
}
