package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
	"github.com/pyro-cluster/pyro-cluster/loadtest/peer"
)

// cell is one run of a work by a system.
type cell struct {
	Peer   string       `json:"peer"`
	Work   string       `json:"work"`
	Round  int          `json:"round"` // from 1
	Error  string       `json:"error,omitempty"`
	Result *peer.Result `json:"result,omitempty"` // nil if there is an error
}

// comparison is what -json writes.
type comparison struct {
	Date     time.Time `json:"date"`
	Machine  string    `json:"machine"`
	Duration string    `json:"duration"`
	Warmup   string    `json:"warmup"`
	Cells    []cell    `json:"cells"`
}

// compare runs all cells and prints the tables.  A system that fails does not keep the others from being measured, but is an error at the
// end.
func compare(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	save, err := newSaver(s.json)
	if err != nil {
		return err
	}
	defer save.Close()
	c := comparison{Date: time.Now(), Machine: machine(), Duration: s.duration.String(), Warmup: s.warmup.String()}
	failed := 0
	for round := range s.rounds {
		for _, work := range s.works {
			for i := range s.systems {
				// Each round starts with another system, so that none always follows the same one.
				one := runCell(ctx, s, s.systems[(i+round)%len(s.systems)], work, round+1)
				if ctx.Err() != nil {
					return errors.New("interrupted")
				}
				if one.Error != "" {
					failed++
				}
				c.Cells = append(c.Cells, one)
				fmt.Fprintln(stderr, progress(one, s.rounds))
			}
		}
	}
	if err := printTables(stdout, s, c); err != nil {
		return err
	}
	if err := save.write(c); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d runs failed: see above", failed, len(c.Cells))
	}
	return nil
}

func progress(c cell, rounds int) string {
	head := fmt.Sprintf("round %d/%d  %s  %-12s", c.Round, rounds, c.Work, c.Peer)
	if c.Error != "" {
		return head + "  failed: " + c.Error
	}
	r := c.Result
	line := fmt.Sprintf("%s  %9.0f/s  others used %2.0f %% of the machine", head, r.Rate, 100*r.OthersCPU)
	if r.P50 == 0 {
		return line // one-way messages have no latency
	}
	return fmt.Sprintf("%s  p50 %.1f µs  p99 %.1f µs", line, r.P50, r.P99)
}

func runCell(ctx context.Context, s settings, sys system, work string, round int) cell {
	c := cell{Peer: sys.name, Work: work, Round: round}
	r, err := measure(ctx, s, sys.name, work)
	if err != nil {
		c.Error = strings.Join(strings.Fields(err.Error()), " ") // the children's words may have several lines
		return c
	}
	c.Result = r
	return c
}

const (
	startTimeout = 15 * time.Second
	cellTimeout  = time.Minute // beyond the time for calls
)

// measure starts a server and a client, and ends both.
func measure(ctx context.Context, s settings, name, work string) (r *peer.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.warmup+s.duration+cellTimeout)
	defer cancel()
	server, err := s.start(name, "server", "-work", work)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.End(syscall.SIGTERM)) }()
	starting, cancelStart := context.WithTimeout(ctx, startTimeout)
	defer cancelStart()
	line, err := server.Line(starting, "ADDR ")
	if err != nil {
		return nil, err
	}
	client, err := s.start(name, append([]string{"client", "-work", work, "-duration", s.duration.String(), "-warmup", s.warmup.String(),
		"-idle", strconv.Itoa(s.idle)}, clientArgs(line)...)...)
	if err != nil {
		return nil, err
	}
	answer, err := client.Line(ctx, "{")
	if err != nil {
		return nil, errors.Join(err, client.End(syscall.SIGKILL))
	}
	if err := client.End(syscall.SIGTERM); err != nil {
		return nil, err
	}
	r = new(peer.Result)
	if err := json.Unmarshal([]byte("{"+answer), r); err != nil {
		return nil, fmt.Errorf("%s client printed {%s: %w", name, answer, err)
	}
	return r, nil
}

// clientArgs makes arguments of what the server printed: "token pids=1 ctl=host:port".
func clientArgs(line string) []string {
	token, rest, _ := strings.Cut(line, " ")
	args := []string{"-addr", token}
	for _, field := range strings.Fields(rest) {
		if pids, ok := strings.CutPrefix(field, "pids="); ok {
			args = append(args, "-server-pids", pids)
		}
		if ctl, ok := strings.CutPrefix(field, "ctl="); ok {
			args = append(args, "-ctl", ctl)
		}
	}
	return args
}

// start starts this program as a peer.  Two threads run Go code in each process on every machine: what is compared is the same then.
func (s settings) start(name string, args ...string) (*spawn.Process, error) {
	cmd := exec.Command(s.program, append([]string{"peer", name}, args...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	return spawn.Start(name+" "+args[0], cmd)
}

// saver writes a file that is there whole or not at all.
type saver struct {
	path string // empty: nothing is written
	temp *os.File
}

// newSaver finds out whether the file can be written before anything is measured for it.
func newSaver(path string) (*saver, error) {
	if path == "" {
		return &saver{}, nil
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("-json: %w", err)
	}
	return &saver{path, temp}, nil
}

func (s *saver) write(c comparison) error {
	if s.temp == nil {
		return nil
	}
	e := json.NewEncoder(s.temp)
	e.SetIndent("", " ")
	err := e.Encode(c)
	if err == nil {
		err = s.temp.Chmod(0o644)
	}
	if err == nil {
		err = os.Rename(s.temp.Name(), s.path)
	}
	if err != nil {
		return fmt.Errorf("-json: %w", err)
	}
	return nil
}

// Close removes what was not finished.
func (s *saver) Close() {
	if s.temp == nil {
		return
	}
	s.temp.Close()
	os.Remove(s.temp.Name()) // after write it is no longer there
}
