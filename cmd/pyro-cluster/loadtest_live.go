package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
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
	sum    figures       // since the last line
	last   string        // that line, in a terminal
	rates  []float64
	faults []string
}

// figures are those of one or several intervals.
type figures struct {
	length       float64 // seconds
	good, failed int64
	latency      *hdrhistogram.PackedHistogram // nil: no good call
}

func (f *figures) add(i report.Interval) {
	f.length += i.To - i.From
	f.good += i.Good
	f.failed += i.Failed()
	h, err := i.Latency.Decode() // of this program's own making
	switch {
	case err != nil || h == nil:
	case f.latency == nil:
		f.latency = h
	default:
		f.latency.Merge(h)
	}
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
	l.at, l.phase = seconds(i.To), phase
	l.sum.add(i)
	l.rates = append(l.rates, i.Rate)
	l.rates = l.rates[max(0, len(l.rates)-liveRates):]
	if l.terminal {
		l.last, l.sum = l.line(), figures{}
		l.draw()
	} else if l.at-l.shown >= liveEvery {
		l.say("%s", l.line())
		l.shown, l.sum = l.at, figures{}
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

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

// line is the state in one line; in a terminal, where it could be too long, in two.
func (l *live) line() string {
	separator := "  "
	if l.terminal {
		separator = "\n"
	}
	phase := l.phase
	if l.at > l.length+liveEvery {
		phase = "waiting for late calls"
	}
	lat := report.LatencyOf(l.sum.latency, false)
	per := 1 / max(l.sum.length, 1e-9)
	return fmt.Sprintf("%5.1f of %.0f s  %-28s%s%9.0f/s  p50 %-9v p99 %-9v max %-9v failed %.0f/s",
		l.at.Seconds(), l.length.Seconds(), phase, separator,
		float64(l.sum.good)*per, micros(lat.P50), micros(lat.P99), micros(lat.Max), float64(l.sum.failed)*per)
}

// draw replaces the block in the terminal.
func (l *live) draw() {
	lines := append(strings.Split(l.last, "\n"), sparkline(l.rates))
	lines = append(lines, l.faults...)
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
