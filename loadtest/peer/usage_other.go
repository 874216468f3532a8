//go:build !linux

package peer

import "time"

// Elsewhere than on Linux these figures are not measured, and are 0 in the result.

func cpuTime(int) (time.Duration, error) { return 0, nil }

func residentMB(int) float64 { return 0 }

func readMachine() machineUsage { return machineUsage{} }
