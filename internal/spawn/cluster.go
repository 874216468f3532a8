package spawn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Cluster is a cluster whose nodes are processes on loopback addresses of their own, 127.0.0.1 and up, with the same ports on each, as
// on machines of a network.
type Cluster struct {
	Program string // pyro-cluster
	Dir     string // for the nodes' data directories
	Profile string // of time-outs; empty means lan
	// Front, if not nil, is told the addresses of node i for clients and for other nodes, and returns those that it advertises instead.
	Front func(i int, clients, nodes string) (frontClients, frontNodes string, err error)

	port  int
	hosts []string
	front []front
	nodes []*Process // nil while a node is down
}

// front are the addresses that a node advertises.
type front struct{ clients, nodes string }

// Start starts size nodes and waits until all are ready.
func (c *Cluster) Start(ctx context.Context, size int) error {
	for i := range size {
		c.hosts = append(c.hosts, fmt.Sprintf("127.0.0.%d", i+1))
	}
	port, err := freePorts(c.hosts)
	if err != nil {
		return err
	}
	c.port = port
	for i, host := range c.hosts {
		f := front{net.JoinHostPort(host, strconv.Itoa(port)), net.JoinHostPort(host, strconv.Itoa(port+2))}
		if c.Front != nil {
			if f.clients, f.nodes, err = c.Front(i, f.clients, f.nodes); err != nil {
				return err
			}
		}
		c.front = append(c.front, f)
	}
	c.nodes = make([]*Process, size)
	for i := range size {
		if err := c.Launch(i); err != nil {
			return err
		}
	}
	for i := range size {
		if err := c.AwaitReady(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// Launch starts node i, which is down, and does not wait.
func (c *Cluster) Launch(i int) error {
	var peers []string
	for _, f := range c.front {
		peers = append(peers, f.nodes)
	}
	profile := c.Profile
	if profile == "" {
		profile = "lan"
	}
	name := fmt.Sprintf("node%d", i+1)
	p, err := Start(name, exec.Command(c.Program, "server", "--data-dir", filepath.Join(c.Dir, name), "--host", c.hosts[i],
		"--port", strconv.Itoa(c.port), "--udp-port", strconv.Itoa(c.port+1), "--raft-port", strconv.Itoa(c.port+2),
		"--http-port", strconv.Itoa(c.port+3), "--advertise", c.front[i].clients, "--raft-advertise", c.front[i].nodes, "--expect", strconv.Itoa(len(c.hosts)), "--join", strings.Join(peers, ","), "--profile", profile))
	c.nodes[i] = p
	return err
}

// AwaitReady waits until node i says that it is ready.
func (c *Cluster) AwaitReady(ctx context.Context, i int) error {
	_, err := c.nodes[i].Line(ctx, "ready")
	return err
}

// Kill ends node i with SIGKILL.
func (c *Cluster) Kill(i int) error { return c.End(i, syscall.SIGKILL) }

// End ends node i with a signal, as [Process.End] does.
func (c *Cluster) End(i int, s syscall.Signal) error {
	p := c.nodes[i]
	c.nodes[i] = nil
	return p.End(s)
}

// Signal sends a signal to node i.
func (c *Cluster) Signal(i int, s syscall.Signal) error { return c.nodes[i].Signal(s) }

// Stop ends all nodes with a signal.
func (c *Cluster) Stop(s syscall.Signal) error {
	err := EndAll(s, c.nodes...)
	clear(c.nodes)
	return err
}

// Size is the number of nodes.
func (c *Cluster) Size() int { return len(c.nodes) }

// Tail is the end of node i's output.
func (c *Cluster) Tail(i int) string {
	if c.nodes[i] == nil {
		return "(down)"
	}
	return c.nodes[i].Tail()
}

// Addresses are the nodes' host:port for clients.
func (c *Cluster) Addresses() []string {
	var a []string
	for _, f := range c.front {
		a = append(a, f.clients)
	}
	return a
}

// Index returns which node has an address for clients; -1 if none has.
func (c *Cluster) Index(address string) int { return slices.Index(c.Addresses(), address) }

// PyroEnv is what a stock Pyro5 program needs in its environment to find any living node: plain addresses to ask by UDP (Pyro5 docs,
// "Name Server").
func (c *Cluster) PyroEnv() []string {
	return []string{
		"PYRO_NS_HOST=" + c.hosts[0],
		"PYRO_NS_PORT=" + strconv.Itoa(c.port),
		"PYRO_NS_BCPORT=" + strconv.Itoa(c.port+1),
		"PYRO_BROADCAST_ADDRS=" + strings.Join(c.hosts, ","),
	}
}

// freePorts finds a port such that it and the three after it are free on all hosts.
func freePorts(hosts []string) (int, error) {
	for range 100 {
		port := 20000 + 4*rand.IntN(2500) // below the ports that the kernel gives to clients
		if portsFree(hosts, port) {
			return port, nil
		}
	}
	return 0, errors.New("found no four free ports in a row")
}

func portsFree(hosts []string, port int) bool {
	for _, host := range hosts {
		for p := port; p < port+4; p++ {
			ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(p)))
			if err != nil {
				return false
			}
			ln.Close()
		}
	}
	return true
}
