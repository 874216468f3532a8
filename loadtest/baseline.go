package loadtest

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
	"github.com/pyro-cluster/pyro-cluster/loadtest/traffic"
)

// The baselines: other ways to do the same work on the same machine, under the same load.
const (
	baselineRawTCP = "rawtcp" // the same bytes back and forth on a socket, nothing more
	baselinePyro5  = "pyro5"  // the same calls of a stock Pyro5 daemon in Python
)

var baselineNames = []string{baselineRawTCP, baselinePyro5}

// Baselines are the words that [Settings.Baseline] can have.
func Baselines() []string { return baselineNames }

// baselineTime is how long each is measured, if the run itself is not shorter.
const baselineTime = 3 * time.Second

// baselines measures what was asked for, one after the other, before the load begins.
func (r *run) baselines(ctx context.Context) ([]report.Baseline, error) {
	var all []report.Baseline
	for _, name := range r.cfg.Baseline {
		r.stage("measuring the baseline %s", name)
		b, err := r.baseline(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("baseline %s: %w", name, err)
		}
		all = append(all, b)
		r.mu.Lock()
		r.progress.Baseline(b)
		r.mu.Unlock()
	}
	return all, nil
}

func (r *run) baseline(ctx context.Context, name string) (report.Baseline, error) {
	var works []traffic.Work
	var stop func() error
	var err error
	if name == baselineRawTCP {
		works, stop, err = r.rawTCP(ctx)
	} else {
		works, stop, err = r.stockPyro5(ctx)
	}
	if err != nil {
		return report.Baseline{}, errors.Join(err, stop())
	}
	load := r.cfg.load()
	load.For, load.Warmup = min(baselineTime, load.For), min(time.Second, load.Warmup)
	if len(load.Steps) > 0 {
		load.Steps = []traffic.Step{{Rate: load.Steps[0].Rate, For: min(baselineTime, load.Steps[0].For)}}
	}
	rec := traffic.NewRecorder(traffic.RecorderOptions{Interval: r.cfg.interval(), Works: workNames(works), First: name})
	_, err = traffic.Run(ctx, load, works, rec, nil)
	if err = errors.Join(err, stop()); err != nil {
		return report.Baseline{}, err
	}
	total := rec.Record().Total
	b := report.Baseline{Name: name, Rate: rate(total.Good, total.To-total.From), Counts: countsOf(total.Counts)}
	if total.Good == 0 {
		return b, fmt.Errorf("no call was good: %v", total.Errors)
	}
	return b, nil
}

func workNames(works []traffic.Work) []string {
	var names []string
	for _, w := range works {
		names = append(names, w.Name)
	}
	return names
}

// stockPyro5 starts a servant in Python, without a name server, and calls it through a plain proxy.
func (r *run) stockPyro5(ctx context.Context) ([]traffic.Work, func() error, error) {
	dir, err := spawn.TempDir("pyro-cluster-loadtest-")
	if err != nil {
		return nil, func() error { return nil }, err
	}
	script := filepath.Join(dir.Path, "servant.py")
	if err := writeScript(script); err != nil {
		return nil, dir.Remove, err
	}
	p, err := spawn.Start(baselinePyro5, exec.Command(r.cfg.Python, script, "--member", baselinePyro5, "--host", "127.0.0.1"))
	if err != nil {
		return nil, dir.Remove, err
	}
	var proxy *core.Proxy
	stop := func() error {
		if proxy != nil {
			proxy.Close()
		}
		return errors.Join(p.End(syscall.SIGKILL), dir.Remove())
	}
	uri, err := r.serving(ctx, p)
	if err != nil {
		return nil, stop, err
	}
	proxy = core.NewProxy(uri, core.ProxyOptions{Serializer: r.cfg.Serializer, MaxConns: r.cfg.Connections, MaxIdle: r.cfg.Callers})
	var works []traffic.Work
	on := endpoints{object: &bounded{proxy, r.cfg.Timeout}, run: r.id}
	for _, w := range r.cfg.works {
		works = append(works, w.traffic(on))
	}
	return works, stop, nil
}

// serving waits for the line in which a servant says under which URI it serves.
func (r *run) serving(ctx context.Context, p *spawn.Process) (core.URI, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	line, err := p.Line(ctx, "serving")
	if err != nil {
		return core.URI{}, err
	}
	return core.ParseURI(line)
}

// rawTCP starts a server that answers bytes with bytes, and passes as many to and fro as each work's messages have.
func (r *run) rawTCP(ctx context.Context) (works []traffic.Work, stop func() error, err error) {
	p, err := spawn.Start(baselineRawTCP, exec.Command(r.cfg.Program, "loadtest", "rawtcp"))
	if err != nil {
		return nil, func() error { return nil }, err
	}
	var clients []*rawClient
	stop = func() error {
		for _, c := range clients {
			c.close()
		}
		return p.End(syscall.SIGKILL)
	}
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	address, err := p.Line(startCtx, "serving")
	if err != nil {
		return nil, stop, err
	}
	for _, w := range r.cfg.works {
		request, reply, err := r.messageBytes(ctx, w)
		if err != nil {
			return nil, stop, err
		}
		c := newRawClient(address, request, reply, r.cfg.Callers, r.cfg.Connections)
		clients = append(clients, c)
		works = append(works, traffic.Work{Name: w.String(), Weight: w.Weight, Call: func(ctx context.Context, _ ledger.ID) traffic.Result {
			if err := c.call(ctx, r.cfg.Timeout); err != nil {
				return traffic.Result{Fate: ledger.Unknown, Error: "raw: " + cause(err, nil)}
			}
			return traffic.Result{Fate: ledger.Acked}
		}})
	}
	return works, stop, nil
}

// messageBytes measures how many bytes the request and the reply of a work have.
func (r *run) messageBytes(ctx context.Context, w Work) (request, reply int, err error) {
	kind := w.kind()
	members, err := r.target.members(ctx)
	if err == nil && len(members) == 0 {
		err = failover.ErrNoMembers
	}
	if err != nil {
		return 0, 0, err
	}
	var sent, received atomic.Int64
	opts := r.target.proxy
	opts.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &countingConn{conn, &sent, &received}, err
	}
	p := core.NewProxy(members[0].URI, opts)
	defer p.Close()
	on := endpoints{object: &bounded{p, r.cfg.Timeout}, method: r.cfg.method, args: r.cfg.args}
	call := kind.make(w, on)
	var before [2]int64
	for range 2 { // the first one connects
		before = [2]int64{sent.Load(), received.Load()}
		if err := call(core.WithCorrelationID(ctx, ledger.ID{}), ledger.ID{}); err != nil {
			return 0, 0, err
		}
	}
	return int(sent.Load() - before[0]), int(received.Load() - before[1]), nil
}

// countingConn counts bytes.
type countingConn struct {
	net.Conn
	sent, received *atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

// A connection of the raw baseline begins with the sizes of a request and of a reply, 4 bytes each, big-endian.  After that the server
// answers every request's worth of bytes with a reply's worth.
const maxRawBytes = 1 << 28

// ServeRawTCP serves the raw baseline until ctx ends.
func ServeRawTCP(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go serveRaw(ctx, conn)
	}
}

func serveRaw(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := bufio.NewReaderSize(conn, 64<<10)
	var sizes [8]byte
	if _, err := io.ReadFull(in, sizes[:]); err != nil {
		return
	}
	request, reply := binary.BigEndian.Uint32(sizes[:4]), binary.BigEndian.Uint32(sizes[4:])
	if max(request, reply) > maxRawBytes {
		return
	}
	answer := make([]byte, reply)
	question := make([]byte, request)
	for {
		if _, err := io.ReadFull(in, question); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// rawClient is the other side: a pool of connections, as the proxies have.
type rawClient struct {
	address        string
	request, reply int
	slots          chan struct{} // nil without a bound
	idle           chan *rawConn
}

type rawConn struct {
	net.Conn
	in       *bufio.Reader
	out, ans []byte
}

func newRawClient(address string, request, reply, callers, connections int) *rawClient {
	c := &rawClient{address: address, request: request, reply: reply, idle: make(chan *rawConn, callers)}
	if connections > 0 {
		c.slots = make(chan struct{}, connections)
	}
	return c
}

func (c *rawClient) call(ctx context.Context, timeout time.Duration) error {
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	conn, err := c.take(ctx)
	if err != nil {
		return err
	}
	if err := conn.exchange(timeout); err != nil {
		conn.Close()
		return err
	}
	c.idle <- conn
	return nil
}

func (c *rawClient) take(ctx context.Context) (*rawConn, error) {
	select {
	case conn := <-c.idle:
		return conn, nil
	default:
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	sizes := binary.BigEndian.AppendUint32(nil, uint32(c.request))
	sizes = binary.BigEndian.AppendUint32(sizes, uint32(c.reply))
	if _, err := conn.Write(sizes); err != nil {
		conn.Close()
		return nil, err
	}
	return &rawConn{conn, bufio.NewReaderSize(conn, 64<<10), make([]byte, c.request), make([]byte, c.reply)}, nil
}

func (c *rawConn) exchange(timeout time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := c.Write(c.out); err != nil {
		return err
	}
	_, err := io.ReadFull(c.in, c.ans)
	return err
}

func (c *rawClient) close() {
	for {
		select {
		case conn := <-c.idle:
			conn.Close()
		default:
			return
		}
	}
}
