package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
)

// serverFlags are the flags of a node.
type serverFlags struct {
	node      nodeConfig
	profile   string
	logLevel  string
	logFormat string
	nodeCert  string
	nodeKey   string
	nodeCA    string
	clientCA  string
	secure    *security
}

func newServer(g *globals) *cobra.Command {
	f := &serverFlags{secure: &g.secure, profile: string(cluster.ProfileDefault), logLevel: "info", logFormat: "text"}
	cmd := &cobra.Command{
		Use:   "server --data-dir DIR",
		Short: "Run one node",
		Long: `server runs one node of the cluster until it gets SIGTERM or SIGINT; then it drains, hands leadership over and exits with 0.

A new cluster is formed by --expect nodes that find each other through --join, and only if their data directories are empty; later starts
need no other flags and change nothing.  A node with an empty directory and --join alone joins the cluster that it finds.

With --tls-cert and --tls-key clients connect by TLS, with --tls-client-ca they need a certificate of that authority.  --tls-ca is for those whom the
node connects to (members of groups, callbacks of subscribers): they speak TLS then.  Files that change are read again.  See docs/security.md.

It prints "URI = ..." when clients are served and "ready" when it has caught up with a leader.  The log goes to stderr.`,
		Example: `  # a cluster of one
  pyro-cluster server --data-dir /var/lib/pyro-cluster --expect 1

  # one of three; the same command with another --host on the other two
  pyro-cluster server --data-dir /var/lib/pyro-cluster --host n1.example.org --expect 3 \
      --join n1.example.org:9092,n2.example.org:9092,n3.example.org:9092 \
      --node-cert n1.pem --node-key n1.key --node-ca ca.pem`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.config(cmd)
			if err != nil {
				return err
			}
			return runServer(cmd, cfg)
		},
	}
	f.add(cmd)
	return without(cmd, "ns", "output", "timeout")
}

func (f *serverFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.node.dataDir, "data-dir", "", "`directory` of the node's log and snapshots (required)")
	flags.StringVar(&f.node.host, "host", "localhost", "`host` to bind and to advertise")
	flags.IntVar(&f.node.port, "port", core.DefaultPort, "TCP port for Pyro clients; 0 picks one")
	flags.IntVar(&f.node.udpPort, "udp-port", 9091, "UDP port for broadcast lookups; 0 turns them off, as does a loopback --host unless this flag is given")
	flags.IntVar(&f.node.raftPort, "raft-port", 9092, "TCP port for the other nodes; 0 picks one")
	flags.IntVar(&f.node.httpPort, "http-port", 9093, "TCP port for /livez, /readyz and /metrics; 0 turns it off")
	flags.BoolVar(&f.node.pprof, "pprof", false, "serve profiles of the program under /debug/pprof on --http-port")
	flags.IntVar(&f.node.expect, "expect", 0, "`number` of fresh nodes that form a new cluster")
	flags.StringSliceVar(&f.node.join, "join", nil, "nodes to look for, `host:raftport,...`; the own address may be among them")
	flags.StringVar(&f.node.advertise, "advertise", "", "`host[:port]` under which clients reach this node, if not --host")
	flags.StringVar(&f.node.raftAdvertise, "raft-advertise", "", "`host[:port]` under which the other nodes reach this one, if not that of --advertise")
	flags.Var(&enum{&f.profile, []string{"lan", "default", "wan"}}, "profile", "time-outs for nodes in one network, in between, or far apart")
	flags.BoolVar(&f.node.insecure, "insecure", false, "allow plain TCP between nodes of different machines")
	flags.StringVar(&f.nodeCert, "node-cert", "", "PEM `file` with this node's certificate, for mutual TLS between nodes")
	flags.StringVar(&f.nodeKey, "node-key", "", "PEM `file` with the key of --node-cert")
	flags.StringVar(&f.nodeCA, "node-ca", "", "PEM `file` with the authority that signed the certificates of all nodes")
	flags.StringVar(&f.clientCA, "tls-client-ca", "", "PEM `file` or directory with the authorities that sign certificates of clients, who need one then")
	flags.Var(&enum{&f.logLevel, []string{"debug", "info", "warn", "error"}}, "log-level", "the least that is logged")
	flags.Var(&enum{&f.logFormat, []string{"text", "json"}}, "log-format", "how it is logged")
}

// config checks the flags, and completes what depends on others.
func (f *serverFlags) config(cmd *cobra.Command) (nodeConfig, error) {
	cfg := f.node
	cfg.profile = cluster.Profile(f.profile)
	cfg.log = newLogger(cmd.ErrOrStderr(), f.logLevel, f.logFormat)
	if isLoopback(cfg.host) && !cmd.Flags().Changed("udp-port") {
		cfg.udpPort = 0
	}
	if err := f.configSecurity(&cfg); err != nil {
		return cfg, err
	}
	return cfg, cfg.validate()
}

// configSecurity reads the files for TLS, and the secret.
func (f *serverFlags) configSecurity(cfg *nodeConfig) (err error) {
	if cfg.tls, err = nodeTLS(f.nodeCert, f.nodeKey, f.nodeCA, cfg.log); err != nil {
		return err
	}
	if err := f.secure.server(f.clientCA, cfg.log, &cfg.clients); err != nil {
		return err
	}
	cfg.others.TLSCommonName = f.secure.commonName
	cfg.others.TLSSource, err = f.secure.source(cfg.log)
	return err
}

// validate finds contradictions before anything is bound or written.
func (cfg *nodeConfig) validate() error {
	if cfg.dataDir == "" {
		return usageError(errors.New("no --data-dir"), "name a directory of this node's own for its log")
	}
	ports := []struct {
		flag string
		port int
	}{{"--port", cfg.port}, {"--udp-port", cfg.udpPort}, {"--raft-port", cfg.raftPort}, {"--http-port", cfg.httpPort}}
	for _, p := range ports {
		if p.port < 0 || p.port > 65535 {
			return usageError(fmt.Errorf("%s is %d", p.flag, p.port), "give a port from 0 to 65535")
		}
	}
	if isUnspecified(cfg.host) && cfg.advertise == "" {
		return usageError(fmt.Errorf("--host %q means all addresses, which is none that others could use", cfg.host),
			"say with --advertise under which name this node is reached")
	}
	for _, a := range []struct{ flag, address string }{{"--advertise", cfg.advertise}, {"--raft-advertise", cfg.raftAdvertise}} {
		if err := checkAdvertised(a.flag, a.address); err != nil {
			return err
		}
	}
	if err := cfg.validatePeers(); err != nil {
		return err
	}
	if cfg.tls == nil && !cfg.insecure && !isLoopback(cfg.host) {
		return usageError(fmt.Errorf("nodes would talk plain TCP on --host %s", cfg.host), "give --node-cert, --node-key and --node-ca, or --insecure")
	}
	if cfg.pprof && cfg.httpPort == 0 {
		return usageError(errors.New("--pprof with --http-port 0"), "give a --http-port, which serves the profiles")
	}
	return cfg.validateStart()
}

// validatePeers checks the addresses that nodes use among themselves.
func (cfg *nodeConfig) validatePeers() error {
	distinct := map[string]bool{}
	for _, a := range cfg.join {
		if _, _, err := net.SplitHostPort(a); err != nil || !canBeReached(a) {
			return usageError(fmt.Errorf("--join has %q", a), "give host:port,host:port with the others' --raft-port")
		}
		distinct[a] = true
	}
	if n := len(distinct); cfg.expect > 1 && n >= 2*cfg.expect {
		return usageError(fmt.Errorf("--expect %d of the %d nodes in --join could form two clusters", cfg.expect, n),
			fmt.Sprintf("expect at least %d", n/2+1))
	}
	_, _, err := net.SplitHostPort(cfg.raftAdvertise)
	if cfg.raftPort == 0 && (cfg.raftAdvertise != "" && err != nil || cfg.raftAdvertise == "" && cfg.advertise != "") {
		return usageError(errors.New("--raft-port 0 cannot be advertised"), "give a --raft-port, or a port with --raft-advertise")
	}
	return nil
}

func checkAdvertised(flag, address string) error {
	if address != "" && !canBeReached(address) {
		return usageError(fmt.Errorf("%s is %q", flag, address), "give a host or host:port that others can reach")
	}
	return nil
}

// canBeReached tells whether an address, host or host:port, means something to others.
func canBeReached(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "1"
	}
	n, err := strconv.Atoi(port)
	return err == nil && n >= 1 && n <= 65535 && !isUnspecified(host)
}

// validateStart refuses what would wait for ever: a node with an empty directory that neither forms a cluster nor joins one.
func (cfg *nodeConfig) validateStart() error {
	if cfg.expect < 0 {
		return usageError(fmt.Errorf("--expect is %d", cfg.expect), "give the number of nodes of the new cluster")
	}
	entries, err := os.ReadDir(cfg.dataDir)
	if (err != nil && !errors.Is(err, fs.ErrNotExist)) || len(entries) > 0 {
		return nil // old data knows its cluster; a directory that cannot be read is reported by who needs it
	}
	switch {
	case cfg.expect == 0 && len(cfg.join) == 0:
		return usageError(fmt.Errorf("%s is empty and there is neither --expect nor --join", cfg.dataDir),
			"give --expect 1 for a cluster of one, or the addresses of others with --join")
	case cfg.expect > 1 && len(cfg.join) == 0:
		return usageError(fmt.Errorf("--expect %d without --join", cfg.expect), "name the nodes that form the cluster with --join")
	}
	return nil
}

// runServer runs a node until the command's context ends.
func runServer(cmd *cobra.Command, cfg nodeConfig) error {
	out := cmd.OutOrStdout()
	cfg.onServe = func(uri core.URI) { fmt.Fprintf(out, "URI = %s\n", uri) } // as pyro5-ns does
	cfg.onReady = func() { fmt.Fprintln(out, "ready") }
	n, err := bindNode(cfg)
	if err != nil {
		return err
	}
	return n.run(cmd.Context())
}

func newLogger(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		panic(err) // the flag allows only slog's words
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(core.NewLogHandler(slog.NewJSONHandler(w, opts)))
	}
	return slog.New(core.NewLogHandler(slog.NewTextHandler(w, opts)))
}

// nodeTLS returns where the configuration for mutual TLS between nodes comes from; nil if there are no files.
func nodeTLS(cert, key, ca string, log *slog.Logger) (func() *tls.Config, error) {
	if cert == "" && key == "" && ca == "" {
		return nil, nil
	}
	if cert == "" || key == "" || ca == "" {
		return nil, usageError(errors.New("--node-cert, --node-key and --node-ca belong together"), "give all three or none")
	}
	files, err := tlsFiles("--node-cert, --node-key and --node-ca", core.TLSFileOptions{Cert: cert, Key: key, CA: ca, Logger: log})
	if err != nil {
		return nil, err
	}
	return files.Config, nil
}
