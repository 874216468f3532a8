package loadtest

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

// Config is a run that has been checked; [Settings.Config] makes one.
type Config struct {
	Settings
	// Program is the pyro-cluster that is started for nodes, object servers and baselines.
	Program string
	// Command is how this program was called, and Version what it is, for the report.
	Command []string
	Version string

	nodes, objects core.ProxyOptions // how nodes and objects are connected to, see Secure

	spawn  *Spawn // nil: the target is ref
	ref    core.Reference
	method string // of --call
	args   []any
	works  []Work
	steps  []traffic.Step
	faults []fault.Spec
	slo    report.SLO
}

// Secure says how nodes and objects that run elsewhere are connected to: by TLS, with a handshake.
func (c *Config) Secure(nodes, objects core.ProxyOptions) error {
	if nodes.TLSSource == nil && nodes.Handshake == nil {
		return nil
	}
	if c.spawn != nil {
		return errors.New("--spawn starts servers without TLS and secret: leave out --tls-ca and --secret-file")
	}
	if objects.TLSSource != nil && c.linkFaults() {
		return errors.New("faults of connections need to see Pyro's messages, and TLS hides them: choose faults of processes, or leave out --tls-ca")
	}
	c.nodes, c.objects = nodes, objects
	return nil
}

// object returns options for the connections to objects.
func (c *Config) object() core.ProxyOptions {
	opts := c.objects
	opts.Serializer = c.Serializer
	return opts
}

// load is what the generator is asked to do.
func (c *Config) load() traffic.Load {
	return traffic.Load{Callers: c.Callers, Steps: c.steps, For: c.Duration, Warmup: c.Warmup, Drain: c.Drain, Seed: c.Seed}
}

// Length is how long calls are recorded.
func (c *Config) Length() time.Duration { return c.load().Duration() }

// Bounds of the interval that is chosen when none was.
const (
	minInterval   = 100 * time.Millisecond
	maxInterval   = 10 * time.Second
	wantIntervals = 240 // enough for a smooth plot
)

func (c *Config) interval() time.Duration {
	if c.Interval > 0 {
		return c.Interval
	}
	return min(max((c.Length()/wantIntervals).Round(10*time.Millisecond), minInterval), maxInterval)
}

// linkFaults reports whether calls have to go through proxies that can break them.
func (c *Config) linkFaults() bool {
	for _, f := range c.faults {
		if f.Kind.OnLink() {
			return true
		}
	}
	return false
}

// The words for targets of faults, and the beginnings of names.
const (
	targetReplica  = "replica"
	targetLeader   = "leader"
	targetFollower = "follower"
	targetReplicas = "replicas"
	targetNodes    = "nodes"
	targetAll      = "all"
	prefixNode     = "node"
	prefixReplica  = "replica"
	prefixPython   = "python"
)

// numbered returns the number in a name such as node3.
func numbered(name, prefix string) (int, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	n, err := strconv.Atoi(rest)
	return n, ok && err == nil && n > 0
}
