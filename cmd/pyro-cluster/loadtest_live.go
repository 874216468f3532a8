package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/pyro-cluster/pyro-cluster/loadtest"
	"github.com/pyro-cluster/pyro-cluster/loadtest/fault"
	"github.com/pyro-cluster/pyro-cluster/loadtest/report"
)

const (
	liveEvery  = time.Second // between lines where there is no terminal
	liveFaults = 6           // of the latest, shown in a terminal
	liveRates  = 60          // of the latest intervals, in the little plot
)

// live shows a run under way: in a terminal a block that is drawn again and again, elsewhere lines.
type live struct {
	out      io.Writer
	terminal bool
	length   time.Duration

	mu     sync.Mutex // protects what follows
	drawn  int        // lines of the block in the terminal
	phase  string
	at     time.Duration
	shown  time.Duration // when the last line was printed
	last   figures
	rates  []float64
	faults []string
}

// figures are those of an interval.
type figures struct {
	rate, failed  float64
	p50, p99, max time.Duration
}

var _ loadtest.Progress = (*live)(nil)

func newLive(out io.Writer, cfg *loadtest.Config) *live {
	f, ok := out.(*os.File)
	return &live{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), length: cfg.Length()}
}

// Stage implements [loadtest.Progress].
func (l *live) Stage(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say("%s", text)
}

// Baseline implements [loadtest.Progress].
func (l *live) Baseline(b report.Baseline) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say("baseline %s: %.0f/s, p50 %v, p99 %v", b.Name, b.Rate, micros(b.Latency.P50), micros(b.Latency.P99))
}

// Fault implements [loadtest.Progress].
func (l *live) Fault(e fault.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := faultText(e)
	if !l.terminal {
		l.say("%s", text)
		return
	}
	l.faults = append(l.faults, text)
	l.faults = l.faults[max(0, len(l.faults)-liveFaults):]
	l.draw()
}

func faultText(e fault.Event) string {
	if e.Err != nil {
		return e.Err.Error()
	}
	done := "applied to"
	if e.Healed {
		done = "undone for"
	}
	return fmt.Sprintf("fault %s %s %s", e.Spec, done, strings.Join(e.Targets, ", "))
}

// Interval implements [loadtest.Progress].
func (l *live) Interval(i report.Interval, phase string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at, l.phase, l.last = seconds(i.To), phase, figuresOf(i)
	l.rates = append(l.rates, l.last.rate)
	l.rates = l.rates[max(0, len(l.rates)-liveRates):]
	if l.terminal {
		l.draw()
		return
	}
	if l.at-l.shown >= liveEvery {
		l.shown = l.at
		l.say("%s", l.line())
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func figuresOf(i report.Interval) figures {
	return figures{
		rate: i.Rate, failed: float64(i.Failed()) / (i.To - i.From),
		p50: micros(i.Latency.P50), p99: micros(i.Latency.P99), max: micros(i.Latency.Max),
	}
}

func micros(us float64) time.Duration {
	d := time.Duration(us * float64(time.Microsecond))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}

// line is the state in one line.
func (l *live) line() string {
	f := l.last
	return fmt.Sprintf("%5.1f of %.0f s  %-28s %9.0f/s  p50 %-9v p99 %-9v max %-9v failed %.0f/s",
		l.at.Seconds(), l.length.Seconds(), l.phase, f.rate, f.p50, f.p99, f.max, f.failed)
}

// draw replaces the block in the terminal.
func (l *live) draw() {
	lines := append([]string{l.line(), sparkline(l.rates)}, l.faults...)
	width := 80
	if f, ok := l.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", l.drawn) // up
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "\r%s\x1b[K\n", cut(line, width-1)) // and what the line before had beyond goes
	}
	l.drawn = len(lines)
	io.WriteString(l.out, b.String())
}

// cut shortens a line to what a terminal shows without wrapping.
func cut(line string, width int) string {
	runes := []rune(line)
	return string(runes[:min(len(runes), max(width, 0))])
}

// say prints a line for good, below a block that stays as it is.
func (l *live) say(format string, args ...any) {
	l.drawn = 0
	fmt.Fprintf(l.out, format+"\n", args...)
}

func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drawn = 0
}

// sparkline plots values in one line.
func sparkline(values []float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if top > 0 {
			i = int(v / top * 7)
		}
		b.WriteString(string([]rune(bars)[i]))
	}
	return b.String()
}
