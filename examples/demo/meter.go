package main

import (
	"sync"
	"time"
)

// meter counts the calls of one client and the longest time it went without a good one.
type meter struct {
	mu       sync.Mutex // guards all below
	calls    int
	failed   int
	longest  time.Duration
	lastGood time.Time
	problem  string // the first failure
}

// done records the end of a call.
func (m *meter) done(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if err != nil {
		m.failed++
		if m.problem == "" {
			m.problem = err.Error()
		}
		return
	}
	now := time.Now()
	if !m.lastGood.IsZero() {
		m.longest = max(m.longest, now.Sub(m.lastGood))
	}
	m.lastGood = now
}

// set takes over what a client counted by itself.
func (m *meter) set(calls, failed int, longest time.Duration, problem string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls, m.failed, m.longest, m.problem = calls, failed, longest, problem
}

// reading is a meter's state at one moment.
type reading struct {
	calls, failed int
	longest       time.Duration
	problem       string
}

func (m *meter) read() reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return reading{m.calls, m.failed, m.longest, m.problem}
}
