package peer

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is the CPU time of all threads of a process, by the process's own clock (clock_getcpuclockid(3)): exact, where /proc counts ticks.
func cpuTime(pid int) (time.Duration, error) {
	const scheduled = 2 // the clock of time on a CPU
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("its clock cannot be read, does it run: %w", err)
	}
	return time.Duration(ts.Nano()), nil
}

// residentMB is a process's resident memory in 2^20 bytes; 0 for one that is not there.
func residentMB(pid int) float64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmRSS:" {
			kilobytes, _ := strconv.ParseFloat(f[1], 64)
			return kilobytes / 1024
		}
	}
	return 0
}

// readMachine reads /proc/stat (proc_stat(5)).
func readMachine() machineUsage {
	const tick = 10 * time.Millisecond // of the figures, whatever the kernel's own
	stat, _ := os.ReadFile("/proc/stat")
	var u machineUsage
	for line := range strings.Lines(string(stat)) {
		f := strings.Fields(line)
		switch {
		case len(f) < 9 || !strings.HasPrefix(f[0], "cpu"):
		case f[0] == "cpu":
			for i, field := range f[1:9] {
				if i == 3 || i == 4 { // idle, waiting for a disk
					continue
				}
				ticks, _ := strconv.ParseInt(field, 10, 64)
				u.busy += time.Duration(ticks) * tick
			}
		default:
			u.cpus++
		}
	}
	return u
}
