package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

const (
	drainTimeout    = 10 * time.Second       // for the calls under way when the node is told to stop
	handOverTimeout = 5 * time.Second        // for the transfer of leadership
	probeTimeout    = time.Second            // for one answer about readiness
	startPoll       = 10 * time.Millisecond  // between looks until the node is ready for the first time
	readyPoll       = 500 * time.Millisecond // and afterwards
)

// nodeConfig describes a node.  Port and raftPort 0 pick a free one; udpPort and httpPort 0 leave that service out.
type nodeConfig struct {
	dataDir                           string
	host                              string
	port, udpPort, raftPort, httpPort int
	advertise, raftAdvertise          string // host or host:port; empty means host and the port that is bound
	expect                            int
	join                              []string
	profile                           cluster.Profile
	tls                               func() *tls.Config // between nodes; nil means plain TCP
	clients                           core.DaemonOptions // TLS and ValidateHandshake alone
	others                            core.ProxyOptions  // for members that are probed and callbacks
	insecure                          bool
	pprof                             bool
	log                               *slog.Logger

	onServe func(core.URI) // called when clients are served; may be nil
	onReady func()         // called when the node is ready for the first time; may be nil
}

// node is one node of the cluster with all that it serves.  Its sockets are bound by [bindNode]; run does the rest.
type node struct {
	cfg    nodeConfig
	daemon *core.Daemon
	uri    core.URI       // of the name server, advertised
	udp    net.PacketConn // nil if off
	http   net.Listener   // nil if off
	watch  *watch
	events *events.Broker

	raft    atomic.Pointer[cluster.Node] // nil until opened
	stage   atomic.Pointer[string]       // why the node is not ready, when that is not the cluster's doing
	inTouch atomic.Bool                  // was ready when last looked
}

// bindNode binds the sockets that clients use.  That comes before anything else, so that a port in use leaves no trace on disk and no
// half-started node behind.
func bindNode(cfg nodeConfig) (*node, error) {
	n := &node{cfg: cfg, events: events.NewBroker(events.BrokerOptions{Proxy: cfg.others, Logger: cfg.log})}
	n.enter("starting")
	var err error
	if n.watch, err = newWatch(n.isReady, n.events); err != nil {
		return nil, err
	}
	if err := n.bind(); err != nil {
		n.closeSockets()
		return nil, err
	}
	return n, nil
}

func (n *node) bind() error {
	ln, err := net.Listen("tcp", join(n.cfg.host, n.cfg.port))
	if err != nil {
		return bindError(err, "--port")
	}
	advertised := address(n.cfg.advertise, n.cfg.host, ln.Addr().(*net.TCPAddr).Port)
	opts := n.cfg.clients
	opts.Advertise, opts.Logger, opts.Observer = advertised, n.cfg.log, n.watch.served
	if n.daemon, err = core.NewDaemon(ln, opts); err != nil {
		return err
	}
	n.uri = n.daemon.URI(naming.ObjectID)
	if n.cfg.udpPort != 0 {
		if n.udp, err = net.ListenPacket("udp", join(n.cfg.host, n.cfg.udpPort)); err != nil {
			return bindError(err, "--udp-port")
		}
	}
	if n.cfg.httpPort != 0 {
		if n.http, err = net.Listen("tcp", join(n.cfg.host, n.cfg.httpPort)); err != nil {
			return bindError(err, "--http-port")
		}
	}
	return nil
}

func (n *node) closeSockets() {
	if n.daemon != nil {
		n.daemon.Close()
	}
	if n.udp != nil {
		n.udp.Close()
	}
	if n.http != nil {
		n.http.Close()
	}
}

// run runs the node until ctx ends, which is a clean stop, or until it stops by itself, which is an error.  When it returns
// everything the node had is closed.
func (n *node) run(ctx context.Context) error {
	defer n.closeSockets()
	// What is served does not end with ctx but in the order that stop says.
	background, fail := context.WithCancelCause(context.WithoutCancel(ctx))
	var services sync.WaitGroup
	defer services.Wait()
	defer fail(nil)

	// HTTP comes first and goes last: a node that reads a long log, or that drains, is alive, and says why it is not ready.
	server := n.serveHTTP(&services, fail)
	defer server.Close()

	raft, err := cluster.Open(ctx, n.clusterOptions())
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it had started
		}
		return dataError(bindError(err, "--raft-port"))
	}
	defer raft.Close()
	n.raft.Store(raft)
	n.watch.node.Follow(raft)

	// Clients come next: from now on a name server without a leader answers that it has none, and they try another node.
	if err := n.serveClients(background, &services, fail); err != nil {
		return err
	}
	// Last what works by itself: it needs the store, and nobody waits for it.
	n.startBackground(background, &services, fail)
	n.enter("")

	select {
	case <-ctx.Done():
		n.cfg.log.Info("stopping", "reason", context.Cause(ctx))
	case <-background.Done():
	case <-raft.Done():
		fail(cmp.Or(dataError(raft.Err()), cluster.ErrStopped))
	}
	return errors.Join(context.Cause(background), n.stop(fail))
}

// stop ends the node in the reverse of the order in which it started.
func (n *node) stop(cancel context.CancelCauseFunc) error {
	// Not ready, before anything stops working: load balancers and those who broadcast for a node turn to the others.
	n.enter("stopping")

	// Subscribers go to other nodes while everything still works.
	drain, done := context.WithTimeout(context.Background(), drainTimeout)
	defer done()
	n.events.Drain(drain)

	// Clients next, while the registry still works: the calls under way get their answers, later ones are told that they were not
	// executed and go elsewhere.
	if err := n.daemon.Shutdown(drain); err != nil {
		n.cfg.log.Warn("calls were cut off", "error", err)
	}
	// The prober writes verdicts: it ends before what it writes to.
	cancel(nil)

	// Leadership goes to another node before raft stops, so that the cluster does not have to find out by a time-out.
	hand, done := context.WithTimeout(context.Background(), handOverTimeout)
	defer done()
	if err := n.raft.Load().Shutdown(hand); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return nil
}

func (n *node) clusterOptions() cluster.Options {
	opts := cluster.Options{
		DataDir:     n.cfg.dataDir,
		Listen:      join(n.cfg.host, n.cfg.raftPort),
		PyroAddress: join(n.uri.Host, n.uri.Port),
		Version:     programVersion(),
		Expect:      n.cfg.expect,
		Join:        n.cfg.join,
		Profile:     n.cfg.profile,
		TLSSource:   n.cfg.tls,
		Insecure:    n.cfg.insecure,
		Prepare:     naming.Prepare,
		Logger:      n.cfg.log,
		Observer:    n.watch.node.Observer(),
		Message:     n.events.Message,
		Changes:     n.events.Changes,
	}
	switch {
	case n.cfg.raftAdvertise != "":
		opts.Advertise = address(n.cfg.raftAdvertise, "", n.cfg.raftPort)
	case n.cfg.advertise != "":
		opts.Advertise = join(n.uri.Host, n.cfg.raftPort)
	}
	if n.http != nil {
		opts.HTTPAddress = join(n.uri.Host, n.cfg.httpPort)
	}
	return opts
}

func (n *node) serveClients(ctx context.Context, services *sync.WaitGroup, fail context.CancelCauseFunc) error {
	raft := n.raft.Load()
	names := naming.NewServer(raft, naming.ServerOptions{URI: n.uri, Events: n.daemon.URI(events.ObjectID), Logger: n.cfg.log})
	for id, servant := range map[string]*core.Servant{
		naming.ObjectID: names.Servant(),
		naming.AdminID:  naming.AdminServant(admin{raft}),
		events.ObjectID: n.events.Servant(),
	} {
		if _, err := n.daemon.Register(id, servant, core.ObjectOptions{}); err != nil {
			return err
		}
	}
	services.Go(func() {
		if err := n.daemon.Serve(context.WithoutCancel(ctx)); err != nil { // ended by Shutdown
			fail(fmt.Errorf("serve clients: %w", err))
		}
	})
	if n.cfg.onServe != nil {
		n.cfg.onServe(n.uri)
	}
	return nil
}

func (n *node) startBackground(ctx context.Context, services *sync.WaitGroup, fail context.CancelCauseFunc) {
	raft := n.raft.Load()
	services.Go(func() { n.lookReady(ctx) })
	services.Go(func() { n.events.Run(ctx, raft) }) // its error is that ctx ended
	services.Go(func() {
		prober := naming.Prober{Store: raft, Leader: raft, Proxy: n.cfg.others, Logger: n.cfg.log}
		if err := prober.Run(ctx); err != nil && ctx.Err() == nil {
			fail(fmt.Errorf("probe members: %w", err))
		}
	})
	if n.udp == nil {
		return
	}
	services.Go(func() {
		if err := naming.Respond(ctx, n.udp, n.uri, n.isReady); err != nil && ctx.Err() == nil {
			// The name server works without: programs that are told where it is do not need broadcasts.
			n.cfg.log.Warn("broadcast lookups are not answered", "error", err)
		}
	})
}

// lookReady looks from time to time whether the node is ready, so that a datagram can be answered without asking the leader.
func (n *node) lookReady(ctx context.Context) {
	wait, before := startPoll, errors.New("starting")
	timer := time.NewTimer(0)
	defer timer.Stop()
	for seen := false; ; timer.Reset(wait) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := n.ready(ctx)
		n.inTouch.Store(err == nil)
		if (err == nil) != (before == nil) {
			n.logReadiness(err)
			before = err
		}
		if err == nil && !seen {
			seen, wait = true, readyPoll
			if n.cfg.onReady != nil {
				n.cfg.onReady()
			}
		}
	}
}

func (n *node) logReadiness(err error) {
	if err != nil {
		n.cfg.log.Info("not ready", "reason", err)
		return
	}
	n.cfg.log.Info("ready")
}

// enter says that the node is in a stage in which it is not ready; the empty one leaves the answer to the cluster.
func (n *node) enter(stage string) { n.stage.Store(&stage) }

// isReady reports whether the node was ready when last looked.
func (n *node) isReady() bool { return n.inTouch.Load() && *n.stage.Load() == "" }

// ready returns nil if the node is ready, else the reason.
func (n *node) ready(ctx context.Context) error {
	if stage := *n.stage.Load(); stage != "" {
		return errors.New(stage)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := n.raft.Load().Ready(ctx); err != nil {
		return err
	}
	if !n.events.Running() {
		return errors.New("the event server is starting")
	}
	return nil
}

func (n *node) serveHTTP(services *sync.WaitGroup, fail context.CancelCauseFunc) *http.Server {
	server := &http.Server{
		Handler:           n.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(n.cfg.log.Handler(), slog.LevelDebug),
	}
	if n.http != nil {
		services.Go(func() {
			if err := server.Serve(n.http); !errors.Is(err, http.ErrServerClosed) {
				fail(fmt.Errorf("serve HTTP: %w", err))
			}
		})
	}
	return server
}

// handler answers probes and scrapes.  Liveness never depends on the other nodes: to restart a node that lost its leader makes it worse.
func (n *node) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.watch.handler(n.cfg.log))
	if n.cfg.pprof {
		handlePprof(mux)
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := n.ready(r.Context())
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		switch {
		case r.URL.Query().Has("verbose"):
			n.writeChecks(w, err)
		case err != nil:
			fmt.Fprintln(w, "not ready:", err)
		default:
			fmt.Fprintln(w, "ok")
		}
	})
	return mux
}

// writeChecks lists what readiness consists of, a line each.
func (n *node) writeChecks(w http.ResponseWriter, err error) {
	if stage := *n.stage.Load(); stage != "" {
		fmt.Fprintf(w, "[-] serving: %s\n", stage)
		return
	}
	fmt.Fprintln(w, "[+] serving")
	if err != nil {
		fmt.Fprintf(w, "[-] cluster: %v\n", err)
		return
	}
	fmt.Fprintln(w, "[+] cluster: a leader is known, and what it had committed is applied")
}

// admin lets operators manage the cluster through the name server's clients.
type admin struct{ *cluster.Node }

func (a admin) Nodes(ctx context.Context) ([]naming.NodeInfo, error) {
	members, err := a.Members(ctx)
	if err != nil {
		return nil, err
	}
	infos := make([]naming.NodeInfo, len(members))
	for i, m := range members {
		infos[i] = naming.NodeInfo{
			ID: m.ID, PyroAddress: m.PyroAddress, RaftAddress: m.RaftAddress, HTTPAddress: m.HTTPAddress,
			Role: role(m), Version: m.Version,
		}
	}
	return infos, nil
}

func (a admin) TransferLeadership(ctx context.Context, to string) error {
	return adminError(a.Node.TransferLeadership(ctx, to))
}

func (a admin) RemoveNode(ctx context.Context, id string) error {
	return adminError(a.RemoveMember(ctx, id))
}

// adminError translates what naming and its clients tell apart.
func adminError(err error) error {
	switch {
	case errors.Is(err, cluster.ErrUnknownNode):
		return naming.ErrUnknownNode
	case errors.Is(err, cluster.ErrNoLeader), errors.Is(err, cluster.ErrUnknownOutcome):
		return core.ConnectionClosedError.New("%v", err) // no answer, as without a node
	}
	return err
}

func role(m cluster.Member) string {
	switch {
	case m.Leader:
		return naming.RoleLeader
	case m.Voter:
		return "voter"
	}
	return "nonvoter"
}

// join returns host:port.
func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// address returns the host:port that others use: override, which may be a host alone, else host, with port where none is given.
func address(override, host string, port int) string {
	if override == "" {
		return join(host, port)
	}
	if _, _, err := net.SplitHostPort(override); err == nil {
		return override
	}
	return join(override, port)
}
