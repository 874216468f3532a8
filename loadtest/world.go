package loadtest

import (
	"context"
	"errors"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
	"github.com/pyro-cluster/pyro-cluster/loadtest/link"
	"github.com/pyro-cluster/pyro-cluster/loadtest/servant"
)

// spawnedGroup is the object group of a spawned target.
const spawnedGroup = "loadtest"

// world is a target that the run started: nodes and object servers as child processes, their data in a directory of its own.
type world struct {
	cfg   *Config
	dir   *spawn.Dir
	nodes *spawn.Cluster

	mu       sync.Mutex // protects the maps and nodeLink; not held while a process starts or ends
	down     map[string]bool
	paused   map[string]bool
	nodeLink []nodeLinks // in front of the nodes; empty without faults of connections
	servers  []*server
}

// server is one object server.
type server struct {
	name    string
	python  bool
	port    int // chosen at its first start and kept
	process *spawn.Process
	link    *link.Proxy // in front of it; nil without faults of connections
}

// nodeLinks are the proxies in front of a node's two ports.
type nodeLinks struct{ clients, nodes *link.Proxy }

// startWorld starts everything.  The caller calls close, also after an error.
func startWorld(ctx context.Context, cfg *Config) (*world, error) {
	w := &world{cfg: cfg, down: map[string]bool{}, paused: map[string]bool{}}
	var err error
	if w.dir, err = spawn.TempDir("pyro-cluster-loadtest-"); err != nil {
		return w, err
	}
	w.nodes = &spawn.Cluster{Program: cfg.Program, Dir: w.dir.Path}
	if cfg.linkFaults() {
		w.nodes.Front = w.frontNode
	}
	if err := w.nodes.Start(ctx, cfg.spawn.Nodes); err != nil {
		return w, err
	}
	if err := writeScript(w.script()); err != nil {
		return w, err
	}
	for i := range cfg.spawn.Replicas {
		w.servers = append(w.servers, &server{name: prefixReplica + strconv.Itoa(i+1)})
	}
	for i := range cfg.spawn.Python {
		w.servers = append(w.servers, &server{name: prefixPython + strconv.Itoa(i+1), python: true})
	}
	return w, w.startServers(ctx)
}

func (w *world) startServers(ctx context.Context) error {
	errs := make([]error, len(w.servers))
	var wg sync.WaitGroup
	for i, s := range w.servers {
		wg.Go(func() { errs[i] = w.startServer(ctx, s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startTimeout bounds how long a process may take until it serves.
const startTimeout = 30 * time.Second

func writeScript(path string) error { return os.WriteFile(path, servant.Python, 0o600) }

func (w *world) script() string { return filepath.Join(w.dir.Path, "servant.py") }

func (w *world) ledgerPath(name string) string { return filepath.Join(w.dir.Path, name+".ledger") }

// frontNode puts proxies in front of a node.
func (w *world) frontNode(i int, clients, nodes string) (frontClients, frontNodes string, err error) {
	host, _, _ := net.SplitHostPort(clients)
	var l nodeLinks
	if l.clients, err = link.Listen(link.Options{Listen: net.JoinHostPort(host, "0"), Backend: clients, Frames: true}); err != nil {
		return "", "", err
	}
	if l.nodes, err = link.Listen(link.Options{Listen: net.JoinHostPort(host, "0"), Backend: nodes, From: w.dialler}); err != nil {
		return "", "", errors.Join(err, l.clients.Close())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodeLink = append(w.nodeLink, l)
	return l.clients.Addr(), l.nodes.Addr(), nil
}

// dialler tells which node a connection between nodes comes from: it begins with the address that the one who dialled advertises.
func (w *world) dialler(first []byte) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.nodeLink {
		if strings.Contains(string(first), l.nodes.Addr()) {
			return nodeName(i)
		}
	}
	return ""
}

func nodeName(i int) string { return prefixNode + strconv.Itoa(i+1) }

// startServer starts an object server and waits until it serves.
func (w *world) startServer(ctx context.Context, s *server) error {
	if s.port == 0 {
		port, err := freePort()
		if err != nil {
			return err
		}
		s.port = port
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port))
	if s.link == nil && w.cfg.linkFaults() {
		var err error
		if s.link, err = link.Listen(link.Options{Listen: "127.0.0.1:0", Backend: address, Frames: true}); err != nil {
			return err
		}
	}
	var advertise string
	if s.link != nil {
		advertise = s.link.Addr()
	}
	p, err := spawn.Start(s.name, w.command(s, advertise))
	if err != nil {
		return err
	}
	s.process = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	_, err = p.Line(ctx, "serving")
	return err
}

func (w *world) command(s *server, advertise string) *exec.Cmd {
	if s.python {
		return w.pythonCommand(s, advertise)
	}
	args := []string{"loadtest", "serve", "--group", spawnedGroup, "--member", s.name, "--ns", strings.Join(w.nodes.Addresses(), ","),
		"--host", "127.0.0.1", "--port", strconv.Itoa(s.port), "--ledger", w.ledgerPath(s.name)}
	if advertise != "" {
		args = append(args, "--advertise", advertise)
	}
	return exec.Command(w.cfg.Program, args...)
}

func (w *world) pythonCommand(s *server, advertise string) *exec.Cmd {
	args := []string{w.script(), "--group", spawnedGroup, "--member", s.name, "--host", "127.0.0.1", "--port", strconv.Itoa(s.port),
		"--ledger", w.ledgerPath(s.name)}
	for _, address := range w.nodes.Addresses() {
		host, port, _ := net.SplitHostPort(address)
		args = append(args, "--ns-host", host, "--ns-port", port)
	}
	if advertise != "" {
		args = append(args, "--nat", advertise)
	}
	cmd := exec.Command(w.cfg.Python, args...)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// freePort finds a port that is free now, for a server that has to have the same one after a restart.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// reference is the address of the group.
func (w *world) reference() core.Reference {
	return core.Reference{Protocol: "PYRONAME", Object: spawnedGroup}
}

// ledgers returns the ledgers of all object servers, which have ended.
func (w *world) ledgers() []iter.Seq2[ledger.ID, error] {
	var all []iter.Seq2[ledger.ID, error]
	for _, s := range w.servers {
		all = append(all, ledger.ReadFile(w.ledgerPath(s.name)))
	}
	return all
}

// stopServers ends the object servers in order, so that they finish what they run.
func (w *world) stopServers() error {
	var ps []*spawn.Process
	for _, s := range w.servers {
		if !w.isDown(s.name) {
			ps = append(ps, s.process)
		}
		w.mark(w.down, s.name, true)
	}
	return spawn.EndAll(syscall.SIGTERM, ps...)
}

// stopNodes ends the nodes in order.
func (w *world) stopNodes() error { return w.nodes.Stop(syscall.SIGTERM) }

// close ends what still runs, at once, and removes what was written.
func (w *world) close() error {
	var ps []*spawn.Process
	for _, s := range w.servers {
		if s.process != nil {
			ps = append(ps, s.process)
		}
	}
	errs := []error{spawn.EndAll(syscall.SIGKILL, ps...)}
	if w.nodes != nil {
		errs = append(errs, w.nodes.Stop(syscall.SIGKILL))
	}
	for _, s := range w.servers {
		if s.link != nil {
			errs = append(errs, s.link.Close())
		}
	}
	for _, l := range w.nodeLink {
		errs = append(errs, l.clients.Close(), l.nodes.Close())
	}
	if w.dir != nil {
		errs = append(errs, w.dir.Remove())
	}
	return errors.Join(errs...)
}

func (w *world) isDown(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down[name]
}

func (w *world) mark(set map[string]bool, name string, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	set[name] = is
}
