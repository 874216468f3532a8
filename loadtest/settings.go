package loadtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

// Settings are what a person says about a run: the flags of "loadtest run", and under the same names the keys of a scenario file.
type Settings struct {
	Name        string        `yaml:"name"`
	Target      string        `yaml:"target"`
	Call        string        `yaml:"call"`
	Spawn       string        `yaml:"spawn"`
	NS          []string      `yaml:"ns"`
	Work        string        `yaml:"work"`
	Callers     int           `yaml:"callers"`
	Connections int           `yaml:"connections"`
	Rate        string        `yaml:"rate"`
	Duration    time.Duration `yaml:"duration"`
	Warmup      time.Duration `yaml:"warmup"`
	Drain       time.Duration `yaml:"drain"`
	Timeout     time.Duration `yaml:"timeout"`
	Interval    time.Duration `yaml:"interval"`
	Seed        uint64        `yaml:"seed"`
	Contract    string        `yaml:"contract"`
	Serializer  string        `yaml:"serializer"`
	Fault       []string      `yaml:"fault"`
	Settle      time.Duration `yaml:"settle"`
	SLO         string        `yaml:"slo"`
	Baseline    []string      `yaml:"baseline"`
	Python      string        `yaml:"python"`
	Control     string        `yaml:"control"`
}

// Defaults are the settings of a run for which nothing was said.
func Defaults() Settings {
	return Settings{
		NS:       []string{"localhost:9090"},
		Work:     "add",
		Callers:  64,
		Duration: 10 * time.Second,
		Warmup:   2 * time.Second,
		Drain:    10 * time.Second,
		Timeout:  10 * time.Second,
		Contract: contractPlain,
		Settle:   2 * time.Second,
		Python:   "python3",
	}
}

// NewSeed returns a seed for a run that was not given one.  It is small, so that people can type it.
func NewSeed() uint64 { return 1 + rand.Uint64N(999_999_999) }

// maxScenarioBytes bounds a scenario file.
const maxScenarioBytes = 1 << 20

// ReadScenario reads a scenario file over s: what the file does not say stays.  A key that does not exist is an error.
func (s *Settings) ReadScenario(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxScenarioBytes+1))
	if err != nil {
		return err
	}
	if len(b) > maxScenarioBytes {
		return fmt.Errorf("%s: more than %d bytes", path, maxScenarioBytes)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(s); err != nil {
		return fmt.Errorf("%s: %w", path, scenarioError(err))
	}
	if err := d.Decode(new(yaml.Node)); err != io.EOF {
		return fmt.Errorf("%s: more than one document", path)
	}
	return nil
}

// scenarioError makes one line of what the parser says, without the names of Go types.
func scenarioError(err error) error {
	if err == io.EOF {
		return errors.New("empty")
	}
	text := err.Error()
	if e, ok := errors.AsType[*yaml.TypeError](err); ok {
		text = strings.Join(e.Errors, "; ")
	}
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.ReplaceAll(text, " not found in type loadtest.Settings", " is no setting")
	text = strings.ReplaceAll(text, " into loadtest.Settings", " as settings")
	return errors.New(text)
}

// The words for contracts.
const (
	contractPlain      = "plain"
	contractIdempotent = "idempotent"
	contractReadOnly   = "read-only"
)

var contracts = map[string]core.Contract{
	contractPlain: core.ContractPlain, contractIdempotent: core.ContractIdempotent, contractReadOnly: core.ContractReadOnly,
}

// Contracts are the words that [Settings.Contract] can be.
func Contracts() []string { return []string{contractPlain, contractIdempotent, contractReadOnly} }

// Spawn is a target that the run starts itself.
type Spawn struct {
	Nodes    int
	Replicas int // Go object servers
	Python   int // stock Pyro5 object servers
}

// Size limits: what still makes sense on one machine.
const (
	maxNodes    = 9
	maxReplicas = 64
	maxCallers  = 65_536
)

// ParseSpawn parses "nodes=3,replicas=3,python=1".  Without nodes there are three, without object servers three in Go.
func ParseSpawn(text string) (Spawn, error) {
	s := Spawn{Nodes: 3, Replicas: -1}
	fields := map[string]*int{"nodes": &s.Nodes, "replicas": &s.Replicas, "python": &s.Python}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		field := fields[name]
		n, err := strconv.Atoi(value)
		if !ok || field == nil || err != nil || n < 0 {
			return Spawn{}, fmt.Errorf("--spawn has %q: write nodes=3,replicas=3,python=1", part)
		}
		*field = n
	}
	if s.Replicas < 0 {
		s.Replicas = 3
		if s.Python > 0 {
			s.Replicas = 0
		}
	}
	switch {
	case s.Nodes < 1 || s.Nodes > maxNodes:
		return Spawn{}, fmt.Errorf("--spawn nodes=%d: give 1 to %d", s.Nodes, maxNodes)
	case s.Replicas+s.Python < 1 || s.Replicas+s.Python > maxReplicas:
		return Spawn{}, fmt.Errorf("--spawn has %d object servers: give 1 to %d", s.Replicas+s.Python, maxReplicas)
	}
	return s, nil
}

// ParseRate parses "5000" or steps, "1000:10s,5000:10s".  A rate alone lasts for the duration.
func ParseRate(text string, duration time.Duration) ([]traffic.Step, error) {
	var steps []traffic.Step
	for part := range strings.SplitSeq(text, ",") {
		rate, length, hasLength := strings.Cut(strings.TrimSpace(part), ":")
		r, err := strconv.ParseFloat(rate, 64)
		if err != nil || r <= 0 || math.IsInf(r, 0) || math.IsNaN(r) {
			return nil, fmt.Errorf("--rate has %q: give calls per second above 0, such as 5000 or 1000:10s,5000:10s", part)
		}
		d := duration
		if hasLength {
			if d, err = time.ParseDuration(length); err != nil || d <= 0 {
				return nil, fmt.Errorf("--rate has %q: give a time above 0 behind the colon, such as 1000:10s", part)
			}
		}
		steps = append(steps, traffic.Step{Rate: r, For: d})
		if !hasLength && strings.Contains(text, ",") {
			return nil, fmt.Errorf("--rate has %q: say of each step how long it lasts, such as 1000:10s,5000:10s", part)
		}
	}
	return steps, nil
}

// Config checks the settings and makes a configuration of them.  value turns an argument of Call into what is sent.
func (s Settings) Config(value func(string) any) (*Config, error) {
	c := &Config{Settings: s}
	if err := s.checkNumbers(); err != nil {
		return nil, err
	}
	for _, parse := range []func() error{
		func() error { return c.parseTarget(value) },
		func() error { return c.parseLoad() },
		func() error { return c.parseFaults() },
		func() error { return c.parseJudgement() },
	} {
		if err := parse(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// shortestInterval is the least that can be told apart.
const shortestInterval = 10 * time.Millisecond

func (s Settings) checkNumbers() error {
	for _, n := range []struct {
		flag       string
		value, low time.Duration
	}{
		{"duration", s.Duration, 1}, {"warmup", s.Warmup, 0}, {"drain", s.Drain, 0}, {"timeout", s.Timeout, 1},
		{"settle", s.Settle, 0}, {"interval", s.Interval, 0},
	} {
		if n.value < n.low {
			return fmt.Errorf("--%s is %v: give a time such as 10s", n.flag, n.value)
		}
	}
	switch {
	case s.Callers < 1 || s.Callers > maxCallers:
		return fmt.Errorf("--callers is %d: give 1 to %d", s.Callers, maxCallers)
	case s.Interval > 0 && s.Interval < shortestInterval:
		return fmt.Errorf("--interval is %v: give %v or more", s.Interval, shortestInterval)
	case s.Connections < 0:
		return fmt.Errorf("--connections is %d: give how many at most to each server, or 0 for as many as are needed", s.Connections)
	case s.Control != "":
		return checkControl(s.Control)
	}
	return nil
}

func (c *Config) parseTarget(value func(string) any) error {
	given := 0
	for _, t := range []string{c.Target, c.Call, c.Spawn} {
		if t != "" {
			given++
		}
	}
	switch {
	case given == 0:
		return errors.New("there is no target: name an object or a group (PYRONAME:bank), or start one with --spawn nodes=3,replicas=3")
	case given > 1:
		return errors.New("TARGET, --call and --spawn exclude each other: give one of them")
	}
	if c.Spawn != "" {
		s, err := ParseSpawn(c.Spawn)
		c.spawn = &s
		return err
	}
	address := c.Target
	if c.Call != "" {
		words := strings.Fields(c.Call)
		if len(words) < 2 {
			return fmt.Errorf("--call %q: write OBJECT METHOD [ARG...], such as 'PYRONAME:bank deposit 1 2'", c.Call)
		}
		address, c.method = words[0], words[1]
		for _, w := range words[2:] {
			c.args = append(c.args, value(w))
		}
	}
	var err error
	if c.ref, err = core.ParseReference(address); err != nil {
		return fmt.Errorf("target %q is no URI: give one such as PYRONAME:bank or PYRO:bank@host:port", address)
	}
	if len(c.ref.Locations) > 0 && c.ref.Protocol != "PYRO" {
		c.NS = c.ref.Locations
	}
	return nil
}

func (c *Config) parseLoad() error {
	var err error
	if c.Rate != "" {
		if c.steps, err = ParseRate(c.Rate, c.Duration); err != nil {
			return err
		}
	}
	if c.works, err = c.parseWorks(); err != nil {
		return err
	}
	if _, ok := contracts[c.Contract]; !ok {
		return fmt.Errorf("--contract is %q: give %s", c.Contract, strings.Join(Contracts(), ", "))
	}
	if c.Serializer != "" {
		if _, ok := core.SerializerByName(c.Serializer); !ok {
			return fmt.Errorf("--serializer is %q: give serpent, marshal, json or msgpack", c.Serializer)
		}
	}
	return c.load().Validate()
}

func (c *Config) parseFaults() error {
	for _, text := range c.Fault {
		f, err := fault.Parse(text)
		if err != nil {
			return err
		}
		if err := c.canApply(f); err != nil {
			return err
		}
		if slices.Contains(c.faults, f) {
			return fmt.Errorf("--fault %s is given twice: aim at several targets (replicas, nodes), at one by its name, or at another time", f)
		}
		c.faults = append(c.faults, f)
	}
	_, err := fault.Plan(c.faults, c.Length())
	return err
}

// canApply refuses faults that this target cannot have.
func (c *Config) canApply(f fault.Spec) error {
	if c.spawn == nil {
		if !f.Kind.OnLink() {
			return fmt.Errorf("--fault %s: the processes of a target that runs elsewhere are not ours: use --spawn, or a fault of connections (slow, half-open, reset, cut, partition)", f)
		}
		if f.Target != targetReplica && f.Target != targetReplicas {
			return fmt.Errorf("--fault %s: only replica and replicas are known of a target that runs elsewhere", f)
		}
		return nil
	}
	n, isNode := numbered(f.Target, prefixNode)
	r, isReplica := numbered(f.Target, prefixReplica)
	p, isPython := numbered(f.Target, prefixPython)
	switch {
	case isNode && n > c.spawn.Nodes, isReplica && r > c.spawn.Replicas, isPython && p > c.spawn.Python,
		f.Target == targetFollower && c.spawn.Nodes == 1:
		return fmt.Errorf("--fault %s: --spawn %s has no %s", f, c.Spawn, f.Target)
	}
	return nil
}

func (c *Config) parseJudgement() error {
	if c.SLO != "" {
		slo, err := report.ParseSLO(c.SLO)
		if err != nil {
			return err
		}
		c.slo = slo
		if name, needs := slo.NeedsLedger(); needs {
			if why := c.unledgered(); why != "" {
				return fmt.Errorf("--slo has %s, which nobody can count: %s", name, why)
			}
		}
	}
	for i, b := range c.Baseline {
		if !slices.Contains(baselineNames, b) || slices.Contains(c.Baseline[:i], b) {
			return fmt.Errorf("--baseline has %q: give %s, each once", b, strings.Join(baselineNames, ", "))
		}
		for _, w := range c.works {
			if b == baselinePyro5 && !w.kind().ledger || w.kind().names {
				return fmt.Errorf("--baseline %s cannot do the work %s: leave one of them out", b, w.Kind)
			}
		}
	}
	return nil
}

// unledgered tells why there is no ledger for the works, if that is known before anything starts.
func (c *Config) unledgered() string {
	for _, w := range c.works {
		if !w.kind().ledger {
			return fmt.Sprintf("%s leaves no trace in a ledger; the works of the servants do (%s)", w.Kind, strings.Join(ledgerWorks(), ", "))
		}
	}
	return ""
}
