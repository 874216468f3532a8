package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// Profile is a set of time-outs.
type Profile string

// The profiles.  The time-out is how long a follower waits for its leader before it starts an election; it is spread at random up
// to twice that.  A leader that does not reach a majority stops leading after the same time or less.
const (
	ProfileLAN     Profile = "lan"     // 250 ms: machines of one network
	ProfileDefault Profile = "default" // 500 ms; what the empty Profile means
	ProfileWAN     Profile = "wan"     // 2 s: nodes far apart
)

// Options describe a node.
type Options struct {
	DataDir     string
	Listen      string // host:port for raft and node-to-node requests; port 0 picks one
	Advertise   string // host:port under which the other nodes reach Listen; empty means Listen
	PyroAddress string // host:port for clients, published to clients and other nodes
	HTTPAddress string
	Version     string // of the program, published

	// Expect is how many fresh nodes form a new cluster; it only matters while DataDir is empty and no node of Join belongs to a
	// cluster.  Zero never forms one.  All nodes that are to form a cluster must be given the same Expect and the same Join, and
	// more than half of the nodes in Join must be expected: two halves could form two clusters.
	Expect int
	// Join lists node addresses (host:port, as their Advertise) to look for; the own address may be among them.  A name with
	// several addresses means all of them.
	Join    []string
	Profile Profile
	// TLS secures node-to-node traffic, mutually: it needs a certificate, and RootCAs and ClientCAs that tell which nodes to
	// trust.  Nil means plain TCP, which is refused on other than loopback addresses unless Insecure is set.
	TLS *tls.Config
	// TLSSource, when not nil, is asked for what TLS would be, at each handshake: for certificates that change.
	TLSSource func() *tls.Config
	Insecure  bool

	// Prepare is called by the leader for commands that need the current state before they enter the log
	// (fsm.KindRemoveMatching); v is exactly the state that the returned command will be applied to.
	Prepare func(v *fsm.View, c fsm.Command) (fsm.Command, error)
	Logger  *slog.Logger // nil discards
	// Message handles what other nodes sent with [Node.Send]; ctx ends when the sender waits no more, the body is Message's to keep.  Nil
	// refuses messages.  It may be called before Open has returned.
	Message func(ctx context.Context, from string, body []byte) ([]byte, error)
	// Changes is told what each log entry changed, see [fsm.State.Observe].  It may be called before Open has returned.
	Changes func(changes []fsm.Change)
	// Observer is told of what takes time; [Node.Stats] tells the rest.
	Observer Observer

	// For tests: timing replaces what Profile says, raftConfig changes what is made of it, cut isolates the node, disk puts faults between
	// the node and its log, dial connects to other nodes.
	timing     *timing
	raftConfig func(*raft.Config)
	cut        func() bool
	disk       func(raftStore) raftStore
	dial       dialFunc
}

// Errors of a node.  ErrNoLeader and ErrStopped: the command did not run.  ErrUnknownOutcome: it may have run.
var (
	ErrNoLeader       = errors.New("cluster: no leader is known, or it does not reach a majority")
	ErrUnknownOutcome = errors.New("cluster: leadership was lost while the command was under way")
	ErrStopped        = errors.New("cluster: node is stopped")
	ErrWrongCluster   = errors.New("cluster: the other node belongs to a different cluster")
	ErrRemoved        = errors.New("cluster: this node was removed from the cluster")
	ErrDamaged        = errors.New("cluster: the data directory is damaged")
	ErrInUse          = errors.New("cluster: the data directory is used by another process")
	ErrUnknownNode    = errors.New("cluster: no such node")
	// ErrDiverged stops a node that was sent the same snapshot again and again: its log has a tail that its leader's log
	// does not have (hashicorp/raft issue 697).  The next start repairs it.
	ErrDiverged = errors.New("cluster: the log does not fit the leader's, the next start repairs it")
)

// timing is what a profile means.
type timing struct {
	election time.Duration // heartbeat and election time-out
	lease    time.Duration // at most election
	request  time.Duration // of a raft message, and of one try of a node-to-node request
	patience time.Duration // how long a coordinator may be silent before its promise is given up
}

func (p Profile) timing() (timing, error) {
	switch p {
	case ProfileLAN:
		return timing{250 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second, 10 * time.Second}, nil
	case ProfileDefault, "":
		return timing{500 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second, 15 * time.Second}, nil
	case ProfileWAN:
		return timing{2 * time.Second, time.Second, 8 * time.Second, 30 * time.Second}, nil
	}
	return timing{}, fmt.Errorf("cluster: profile %q: want lan, default or wan", string(p))
}

// check completes the options and refuses what cannot work.
func (o *Options) check() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.timing == nil {
		t, err := o.Profile.timing()
		if err != nil {
			return err
		}
		o.timing = &t
	}
	if o.cut == nil {
		o.cut = func() bool { return false }
	}
	if o.disk == nil {
		o.disk = func(s raftStore) raftStore { return s }
	}
	if o.dial == nil {
		o.dial = new(net.Dialer).DialContext
	}
	if o.DataDir == "" {
		return errors.New("cluster: no data directory given")
	}
	if o.Expect < 0 {
		return fmt.Errorf("cluster: expect %d: want zero or more", o.Expect)
	}
	listenHost, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("cluster: listen address %q: want host:port: %w", o.Listen, err)
	}
	if o.Advertise == "" && unspecified(listenHost) {
		return fmt.Errorf("cluster: listening on %q needs an address to advertise that other nodes can reach", o.Listen)
	}
	advertiseHost := listenHost
	if o.Advertise != "" {
		if advertiseHost, err = checkAddress(o.Advertise); err != nil {
			return fmt.Errorf("cluster: advertised %w", err)
		}
	}
	if unspecified(advertiseHost) {
		return fmt.Errorf("cluster: advertised address %q: other nodes cannot reach it", o.Advertise)
	}
	if !o.secured() && !o.Insecure && !(loopback(listenHost) && loopback(advertiseHost)) {
		return fmt.Errorf("cluster: node-to-node traffic at %s would be plain TCP: give certificates, or allow it explicitly (insecure)", net.JoinHostPort(listenHost, "…"))
	}
	return o.checkJoin()
}

func (o *Options) checkJoin() error {
	distinct := map[string]bool{}
	for _, a := range o.Join {
		if _, err := checkAddress(a); err != nil {
			return fmt.Errorf("cluster: join %w", err)
		}
		distinct[a] = true
	}
	if o.Expect > 1 && len(distinct) >= 2*o.Expect {
		return fmt.Errorf("cluster: expecting %d of %d nodes could form two clusters: expect at least %d", o.Expect, len(distinct), len(distinct)/2+1)
	}
	return nil
}

// checkAddress returns the host of a host:port address that can be dialled.
func checkAddress(a string) (host string, err error) {
	host, port, err := net.SplitHostPort(a)
	switch {
	case err != nil:
		return "", fmt.Errorf("address %q: want host:port: %w", a, err)
	case host == "" || port == "" || port == "0":
		return "", fmt.Errorf("address %q: want host:port", a)
	case len(a) > maxString:
		return "", fmt.Errorf("address of %d bytes: want at most %d", len(a), maxString)
	}
	return host, nil
}

func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap().IsUnspecified()
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

func (o *Options) secured() bool { return o.TLS != nil || o.TLSSource != nil }

// currentTLS returns a copy of what holds now.  Nodes have no need of versions before 1.3.
func (o *Options) currentTLS() *tls.Config {
	c := o.TLS
	if o.TLSSource != nil {
		c = o.TLSSource()
	}
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	return c
}

// serverTLS and clientTLS make both directions verify the other side.
func (o *Options) serverTLS() *tls.Config {
	c := o.currentTLS()
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c
}

func (o *Options) clientTLS(host string) *tls.Config {
	c := o.currentTLS()
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c
}

// raftConfig is hashicorp/raft's configuration for a node.
func (o *Options) newRaftConfig(id string, notify chan<- bool) *raft.Config {
	c := raft.DefaultConfig()
	c.ProtocolVersion = 3
	c.LocalID = raft.ServerID(id)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = o.timing.election, o.timing.election, o.timing.lease
	c.CommitTimeout = 20 * time.Millisecond // followers learn of the last commit so late when nothing follows
	c.MaxAppendEntries = 128                // of at most maxEntryBytes each
	// raft's own batching of waiting entries is not needed, since an entry holds many commands; and what waits in its buffered
	// channel is never answered when raft shuts down.
	c.BatchApplyCh = false
	c.ShutdownOnRemove = false // the node stops as a whole, see machine
	c.TrailingLogs = 10240
	c.SnapshotThreshold = 8192
	c.SnapshotInterval = 30 * time.Second
	c.NotifyCh = notify
	c.NoLegacyTelemetry = true
	c.Logger = newRaftLogger(o.Logger)
	if o.raftConfig != nil {
		o.raftConfig(c)
	}
	return c
}
