package naming

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	broadcastTries   = 3
	broadcastTimeout = 700 * time.Millisecond
	peersTimeout     = 500 * time.Millisecond
)

// Locate finds a name server as Pyro5's locate_ns does (Pyro5 docs, "Name Server"), and returns a client of it that got an answer.
//
// With nodes given, these are asked and nothing else.  Without, the variables that Pyro5 reads decide: PYRO_NS_HOST (localhost) and
// PYRO_NS_PORT (9090) if the host is this one, then a datagram to each of PYRO_BROADCAST_ADDRS (<broadcast>,0.0.0.0) at
// PYRO_NS_BCPORT (9091), three times with 700 ms to answer, then PYRO_NS_HOST wherever it is.  A node that was found so is asked
// for the others, so that the client can go on without it.
//
// The error is [ErrNoNameServer], with the last node's error.
func Locate(ctx context.Context, nodes []string, opts ClientOptions) (*Client, error) {
	if len(nodes) > 0 {
		return reach(ctx, nodes, opts)
	}
	env, err := readEnvironment(os.Getenv)
	if err != nil {
		return nil, err
	}
	return env.locate(ctx, opts)
}

// reach returns a client of these nodes if one answers.
func reach(ctx context.Context, nodes []string, opts ClientOptions) (*Client, error) {
	c, err := NewClient(nodes, opts)
	if err != nil {
		return nil, err
	}
	if err := c.Ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w at %s: %w", ErrNoNameServer, strings.Join(nodes, ", "), err), c.Close())
	}
	return c, nil
}

// environment is what Pyro5's configuration says of where name servers are.
type environment struct {
	host          string
	port          int
	broadcast     []string
	broadcastPort int
}

func readEnvironment(get func(string) string) (environment, error) {
	env := environment{host: cmp.Or(get("PYRO_NS_HOST"), "localhost")}
	var err1, err2 error
	env.port, err1 = portVariable(get, "PYRO_NS_PORT", core.DefaultPort)
	env.broadcastPort, err2 = portVariable(get, "PYRO_NS_BCPORT", core.DefaultPort+1)
	for address := range strings.SplitSeq(cmp.Or(get("PYRO_BROADCAST_ADDRS"), "<broadcast>,0.0.0.0"), ",") {
		switch address = strings.TrimSpace(address); address {
		case "":
		case "<broadcast>":
			env.broadcast = append(env.broadcast, net.IPv4bcast.String())
		default:
			env.broadcast = append(env.broadcast, address)
		}
	}
	return env, errors.Join(err1, err2)
}

func portVariable(get func(string) string, name string, standard int) (int, error) {
	text := get(name)
	if text == "" {
		return standard, nil
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("naming: %s is %q, want a port", name, text)
	}
	return int(port), nil
}

func (e environment) locate(ctx context.Context, opts ClientOptions) (*Client, error) {
	for _, host := range e.localHosts() {
		node := hostPort(host, e.port)
		if answers(ctx, node, opts) {
			return reachAll(ctx, node, opts)
		}
	}
	if found, ok := e.ask(ctx); ok {
		return reachAll(ctx, found, opts)
	}
	return reachAll(ctx, hostPort(e.host, e.port), opts)
}

func hostPort(host string, port int) string {
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// localHosts returns the hosts to try before asking around: some systems have 127.0.1.1 for their own name.
func (e environment) localHosts() []string {
	switch {
	case e.host == "localhost", strings.HasPrefix(e.host, "127.") && e.host != ownNameHost:
		return []string{e.host, ownNameHost}
	case e.isLocal():
		return []string{e.host}
	}
	return nil
}

const ownNameHost = "127.0.1.1"

// answers tries once whether a name server is there.
func answers(ctx context.Context, node string, opts ClientOptions) bool {
	uri, err := nodeURI(node)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	p := core.NewProxy(uri, opts.withDefaults().Proxy)
	defer p.Close()
	return p.Ping(ctx) == nil
}

func (e environment) isLocal() bool {
	return e.host == "localhost" || e.host == "::1" || strings.HasPrefix(e.host, "127.")
}

// ask sends out Pyro's question and returns the address in the first good answer.
func (e environment) ask(ctx context.Context) (node string, ok bool) {
	var dialer net.ListenConfig
	conn, err := dialer.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return "", false
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for range broadcastTries {
		if ctx.Err() != nil {
			return "", false
		}
		if !e.send(ctx, conn) {
			return "", false
		}
		if node, ok := receive(conn, time.Now().Add(broadcastTimeout)); ok {
			return node, true
		}
	}
	return "", false
}

// send asks every address, and reports whether there is hope for an answer; who cannot be reached does not answer.
func (e environment) send(ctx context.Context, conn net.PacketConn) (sent bool) {
	for _, host := range e.broadcast {
		ips, err := net.DefaultResolver.LookupIPAddr(ctx, strings.Trim(host, "[]"))
		if err != nil || len(ips) == 0 {
			continue
		}
		to := &net.UDPAddr{IP: ips[0].IP, Zone: ips[0].Zone, Port: e.broadcastPort}
		if _, err := conn.WriteTo([]byte(broadcastRequest), to); err == nil {
			sent = true
		}
	}
	return sent
}

func receive(conn net.PacketConn, deadline time.Time) (node string, ok bool) {
	if err := conn.SetReadDeadline(deadline); err != nil {
		return "", false
	}
	buf := make([]byte, maxBroadcastReply)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return "", false
		}
		uri, err := core.ParseURI(string(buf[:n]))
		if err == nil && uri.Protocol == "PYRO" && uri.Object == ObjectID && uri.Socket == "" {
			return location(uri), true
		}
	}
}

// reachAll returns a client of the node and, if it belongs to a cluster, of all its nodes.
func reachAll(ctx context.Context, node string, opts ClientOptions) (*Client, error) {
	return reach(ctx, append([]string{node}, peers(ctx, node, opts)...), opts)
}

// peers asks a node for the addresses of all.  A stock name server does not know, which is no error.
func peers(ctx context.Context, node string, opts ClientOptions) []string {
	uri, err := nodeURI(node)
	if err != nil {
		return nil
	}
	uri.Object = AdminID
	ctx, cancel := context.WithTimeout(ctx, peersTimeout)
	defer cancel()
	p := core.NewProxy(uri, opts.withDefaults().Proxy)
	defer p.Close()
	var nodes []NodeInfo
	if err := p.Call(ctx, "nodes", &nodes); err != nil {
		return nil
	}
	var addresses []string
	for _, n := range nodes {
		if _, err := nodeURI(n.PyroAddress); err == nil {
			addresses = append(addresses, n.PyroAddress)
		}
	}
	return addresses
}
