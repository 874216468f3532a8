package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

const group = "jokegen"

// The moments of the story, from the time when everything runs.
var plot = []struct {
	at   time.Duration
	what string
	do   func(*story, context.Context) error
}{
	{4 * time.Second, "kill -9 of a replica", (*story).killReplica},
	{9 * time.Second, "the replica starts again", (*story).restartReplica},
	{12 * time.Second, "kill -9 of the leader", (*story).killLeader},
	{18 * time.Second, "the node starts again", (*story).restartNode},
	{24 * time.Second, "the end", nil},
}

//go:embed server.py client.py
var scripts embed.FS

// story holds everything that runs.
type story struct {
	out                   io.Writer
	program, python, self string

	cluster      spawn.Cluster
	startReplica []func() (*spawn.Process, error)
	replicas     []*spawn.Process
	pyClient     *spawn.Process
	victim       int // the replica that was killed
	killed       int // the node that was the leader

	ns       *naming.Client
	goMeter  meter
	pyMeter  meter
	mu       sync.Mutex          // guards the following
	acked    map[string]core.URI // registrations that were acknowledged
	leader   string
	changes  int
	regError string
	pyMember string // the replica that answered the Python client last
}

func (s *story) tell(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "pyro-cluster-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stopAll(), os.RemoveAll(dir)) }()
	if err := s.cast(ctx, dir); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var clients sync.WaitGroup
	clients.Go(func() { s.callAll(ctx) })
	clients.Go(func() { s.registerAll(ctx) })
	clients.Go(func() { s.watchLeader(ctx) })
	clients.Go(func() { s.readPython(ctx) })
	err = s.play(ctx)
	interrupted := ctx.Err() != nil
	cancel()
	clients.Wait()
	if err != nil || interrupted {
		return err
	}
	return s.epilogue()
}

// cast starts everybody.
func (s *story) cast(ctx context.Context, dir string) error {
	if err := os.CopyFS(dir, scripts); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s.acked = map[string]core.URI{}
	s.say("starting three nodes")
	s.cluster = spawn.Cluster{Program: s.program, Dir: dir}
	if err := s.cluster.Start(ctx, 3); err != nil {
		return err
	}
	var err error
	if s.ns, err = naming.NewClient(s.cluster.Addresses(), naming.ClientOptions{}); err != nil {
		return err
	}
	s.say("starting three replicas of %q: two in Go, one stock Pyro5 server", group)
	s.startReplica = []func() (*spawn.Process, error){
		func() (*spawn.Process, error) { return s.goReplica("go1") },
		func() (*spawn.Process, error) { return s.goReplica("go2") },
		func() (*spawn.Process, error) { return s.pythonProgram("python1", dir+"/server.py", "python1") },
	}
	for i := range s.startReplica {
		s.replicas = append(s.replicas, nil)
		if err := s.launchReplica(ctx, i); err != nil {
			return err
		}
	}
	s.say("starting a Go client and a stock Pyro5 client")
	s.pyClient, err = s.pythonProgram("python client", dir+"/client.py")
	return err
}

func (s *story) goReplica(name string) (*spawn.Process, error) {
	return spawn.Start(name, exec.Command(s.self, "replica", name, strings.Join(s.cluster.Addresses(), ",")))
}

func (s *story) pythonProgram(name string, args ...string) (*spawn.Process, error) {
	cmd := exec.Command(s.python, args...)
	cmd.Env = append(os.Environ(), s.cluster.PyroEnv()...)
	return spawn.Start(name, cmd)
}

// launchReplica starts replica i and waits until it serves.
func (s *story) launchReplica(ctx context.Context, i int) error {
	p, err := s.startReplica[i]()
	if err != nil {
		return err
	}
	s.replicas[i] = p
	_, err = p.Line(ctx, "serving")
	return err
}

// stopAll ends everybody who runs.
func (s *story) stopAll() error {
	err := spawn.EndAll(syscall.SIGKILL, s.pyClient)
	err = errors.Join(err, spawn.EndAll(syscall.SIGTERM, s.replicas...), s.cluster.Stop(syscall.SIGTERM))
	if s.ns != nil {
		s.ns.Close()
	}
	return err
}

// play runs the plot, with a line per second.
func (s *story) play(ctx context.Context) error {
	start := time.Now()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var lastGo, lastPy int
	for _, scene := range plot {
		at := time.NewTimer(time.Until(start.Add(scene.at)))
		defer at.Stop()
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-at.C:
				waiting = false
			case <-second.C:
				g, p := s.goMeter.read(), s.pyMeter.read()
				s.mu.Lock()
				leader, names := s.leader, len(s.acked)
				s.mu.Unlock()
				s.say("%3.0fs  go %5d calls/s, %d failed   python %5d calls/s, %d failed   %4d names   leader %s",
					time.Since(start).Seconds(), g.calls-lastGo, g.failed, p.calls-lastPy, p.failed, names, leader)
				lastGo, lastPy = g.calls, p.calls
			}
		}
		s.say("%3.0fs  --- %s", time.Since(start).Seconds(), scene.what)
		if scene.do != nil {
			if err := scene.do(s, ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// killReplica kills the replica that the stock client is connected to: that client has no other at hand.
func (s *story) killReplica(context.Context) error {
	s.mu.Lock()
	name := s.pyMember
	s.mu.Unlock()
	s.victim = slices.IndexFunc(s.replicas, func(p *spawn.Process) bool { return p.Name == name })
	if s.victim < 0 {
		return fmt.Errorf("the Python client is served by %q, which is none of the replicas", name)
	}
	s.say("      %s, which serves the Python client", name)
	return s.replicas[s.victim].End(syscall.SIGKILL)
}

func (s *story) restartReplica(ctx context.Context) error { return s.launchReplica(ctx, s.victim) }

func (s *story) killLeader(ctx context.Context) error {
	leader, err := leaderOf(ctx, s.ns)
	if err != nil {
		return err
	}
	if s.killed = s.cluster.Index(leader); s.killed < 0 {
		return fmt.Errorf("the leader %s is none of the nodes %v", leader, s.cluster.Addresses())
	}
	return s.cluster.Kill(s.killed)
}

func (s *story) restartNode(ctx context.Context) error {
	if err := s.cluster.Launch(s.killed); err != nil {
		return err
	}
	return s.cluster.AwaitReady(ctx, s.killed)
}

// callAll is the Go client.
func (s *story) callAll(ctx context.Context) {
	p := failover.New(group, s.ns, failover.Options{
		Contracts: map[string]core.Contract{"joke": core.ContractReadOnly}, // the Python replica cannot say so
	})
	defer p.Close()
	for ctx.Err() == nil {
		var joke string
		err := p.Call(ctx, "joke", &joke, "Irmen")
		if err == nil && !strings.Contains(joke, "Irmen") {
			err = fmt.Errorf("wrong answer %q", joke)
		}
		if ctx.Err() == nil {
			s.goMeter.done(err)
		}
	}
}

// readPython takes the reports of the Python client.
func (s *story) readPython(ctx context.Context) {
	for {
		line, err := s.pyClient.Line(ctx, "")
		if err != nil {
			return
		}
		var r struct {
			Calls, Failed int
			Gap           float64
			Errors        map[string]int
			Member        string
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			continue
		}
		var kinds []string
		for _, kind := range slices.Sorted(maps.Keys(r.Errors)) {
			kinds = append(kinds, fmt.Sprintf("%d %s", r.Errors[kind], kind))
		}
		s.pyMeter.set(r.Calls, r.Failed, time.Duration(r.Gap*float64(time.Second)), strings.Join(kinds, ", "))
		s.mu.Lock()
		s.pyMember = r.Member
		s.mu.Unlock()
	}
}

// registerAll registers one name after the other and remembers those that were acknowledged.
func (s *story) registerAll(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		name := fmt.Sprintf("demo.%05d", i)
		uri := core.URI{Protocol: "PYRO", Object: "obj" + strconv.Itoa(i), Host: "localhost", Port: 1}
		err := s.ns.Register(ctx, name, uri, naming.RegisterOptions{Safe: true})
		s.mu.Lock()
		if err == nil {
			s.acked[name] = uri
		} else if ctx.Err() == nil && s.regError == "" {
			s.regError = err.Error()
		}
		s.mu.Unlock()
	}
}

// watchLeader counts the changes of leadership.
func (s *story) watchLeader(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		if leader, err := leaderOf(ctx, s.ns); err == nil {
			s.mu.Lock()
			if s.leader != "" && s.leader != leader {
				s.changes++
			}
			s.leader = leader
			s.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func leaderOf(ctx context.Context, ns *naming.Client) (string, error) {
	nodes, err := ns.Nodes(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if n.Role == "leader" {
			return n.PyroAddress, nil
		}
	}
	return "", errors.New("no node leads")
}

// epilogue asks every node for every acknowledged registration, prints the table and judges.
func (s *story) epilogue() error {
	missing := 0
	for _, address := range s.cluster.Addresses() {
		m, err := s.missingAt(address)
		if err != nil {
			return fmt.Errorf("ask %s for the registered names: %w", address, err)
		}
		missing += m
	}
	g, p := s.goMeter.read(), s.pyMeter.read()
	w := tabwriter.NewWriter(s.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "\nclient\tcalls\tfailed\tlongest gap\tfailures")
	for _, row := range []struct {
		name string
		reading
	}{{"Go", g}, {"stock Python", p}} {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d ms\t%s\n", row.name, row.calls, row.failed, row.longest.Milliseconds(), row.problem)
	}
	w.Flush()
	fmt.Fprintf(s.out, "\nregistrations acknowledged: %d, missing on any node: %d\nleader changes: %d\n", len(s.acked), missing, s.changes)
	switch {
	case g.calls == 0 || p.calls == 0 || len(s.acked) == 0:
		return errors.New("a client did nothing at all")
	case g.failed > 0:
		return fmt.Errorf("%d calls of the Go client failed, the first: %s", g.failed, g.problem)
	case missing > 0:
		return fmt.Errorf("%d acknowledged registrations are missing", missing)
	case s.regError != "":
		return fmt.Errorf("a registration failed: %s", s.regError)
	}
	return nil
}

// missingAt counts the acknowledged registrations that one node does not have.
func (s *story) missingAt(address string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ns, err := naming.NewClient([]string{address}, naming.ClientOptions{})
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	entries, err := ns.List(ctx, naming.Query{Prefix: "demo."})
	if err != nil {
		return 0, err
	}
	there := map[string]core.URI{}
	for name, e := range entries {
		there[name] = e.URI
	}
	missing := 0
	for name, uri := range s.acked {
		if there[name] != uri {
			missing++
		}
	}
	return missing, nil
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }
