package peer

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// meter reads what client, server and the machine have used.  It is not safe for concurrent use.
type meter struct {
	serverPIDs []int
	ctl        net.Conn // nil: the server does not count its allocations
	lines      *bufio.Reader
}

type usageSample struct {
	at                           time.Time
	client, server               time.Duration // CPU
	clientObjects, serverObjects uint64
	machine                      machineUsage
}

// machineUsage is the CPU time that all processes together have used since the machine started; zero where that is not known.
type machineUsage struct {
	busy time.Duration
	cpus int
}

func newMeter(ctx context.Context, o options) (*meter, error) {
	m := &meter{serverPIDs: o.serverPIDs}
	if _, err := m.serverCPU(); err != nil {
		return nil, err
	}
	if o.ctl == "" {
		return m, nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", o.ctl)
	if err != nil {
		return nil, fmt.Errorf("-ctl: %v", err)
	}
	m.ctl, m.lines = conn, bufio.NewReader(conn)
	return m, nil
}

func (m *meter) Close() error {
	if m.ctl == nil {
		return nil
	}
	return m.ctl.Close()
}

func (m *meter) sample() (usageSample, error) {
	objects, err := m.serverObjects()
	if err != nil {
		return usageSample{}, err
	}
	server, err := m.serverCPU()
	if err != nil {
		return usageSample{}, err
	}
	client, err := cpuTime(os.Getpid())
	if err != nil {
		return usageSample{}, err
	}
	return usageSample{
		at: time.Now(), client: client, server: server, machine: readMachine(),
		clientObjects: heapObjects(), serverObjects: objects,
	}, nil
}

func (m *meter) serverCPU() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range m.serverPIDs {
		t, err := cpuTime(pid)
		if err != nil {
			return 0, fmt.Errorf("-server-pids: process %d: %v", pid, err)
		}
		sum += t
	}
	return sum, nil
}

func (m *meter) serverRSS() (megabytes float64) {
	for _, pid := range m.serverPIDs {
		megabytes += residentMB(pid)
	}
	return megabytes
}

const ctlTimeout = 5 * time.Second

func (m *meter) serverObjects() (uint64, error) {
	if m.ctl == nil {
		return 0, nil
	}
	if err := m.ctl.SetDeadline(time.Now().Add(ctlTimeout)); err != nil {
		return 0, fmt.Errorf("-ctl: %v", err)
	}
	if _, err := fmt.Fprintln(m.ctl, "count"); err != nil {
		return 0, fmt.Errorf("-ctl: %v", err)
	}
	line, err := m.lines.ReadSlice('\n') // of no more than the reader's buffer
	if err != nil {
		return 0, fmt.Errorf("-ctl: %v", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(line)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("-ctl: got %q, want the number of allocations", line)
	}
	return n, nil
}

// othersCPU is the part of the machine that neither client nor server used.
func othersCPU(before, after usageSample) float64 {
	all := after.machine.busy - before.machine.busy
	own := after.client - before.client + after.server - before.server
	there := after.at.Sub(before.at) * time.Duration(after.machine.cpus)
	if there <= 0 {
		return 0
	}
	return max(0, float64(all-own)/float64(there))
}
