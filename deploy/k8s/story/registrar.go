package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// registrar registers one new name after the other during the whole story, and remembers those whose registration was acknowledged.
type registrar struct {
	start  func(ctx context.Context) (*stream, error)
	every  time.Duration // a name
	answer time.Duration // how long one may take

	mu      sync.Mutex // protects what follows
	next    int
	acked   map[string]string // URIs by name
	figures registrations     // since they were last taken
	since   time.Time         // when the first name was begun of those without an answer since the last good one; zero if there is none
}

// stream is "ns register --from -" inside the cluster: it reads lines and answers each with one, until its input or ctx ends.
type stream struct {
	in   io.WriteCloser
	out  io.Reader
	wait func() error // called when out has ended
}

// registrations are what came of some names.
type registrations struct {
	good, failed int
	gap          time.Duration // the longest time without an acknowledgement, from when a registration began
	reason       string        // why the last one failed
}

// The names are below a prefix, so that they can be listed alone.
const namePrefix = "story."

const restartPause = 200 * time.Millisecond // before a stream that ended is begun again

func newRegistrar(every, answer time.Duration, start func(ctx context.Context) (*stream, error)) *registrar {
	return &registrar{start: start, every: every, answer: answer, acked: make(map[string]string)}
}

// run registers names until ctx ends.
func (r *registrar) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.session(ctx)
		pause(ctx, restartPause)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// session registers names over one stream until that or ctx ends, or an answer stays away.
func (r *registrar) session(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := r.start(ctx)
	if err != nil {
		r.failed(ctx, err.Error())
		return
	}
	lines := make(chan string)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(lines)
		for in := bufio.NewScanner(s.out); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done(): // nobody listens; the rest is read, so that the other end is not held up
			}
		}
		_ = s.wait() // how it ended was said in its output
	})
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for r.one(ctx, s.in, lines) {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	cancel()
	s.in.Close()
	reading.Wait()
}

// one registers a name, and returns false if the stream is of no more use.
func (r *registrar) one(ctx context.Context, feed io.Writer, lines <-chan string) bool {
	if ctx.Err() != nil {
		return false
	}
	name, uri := r.begin()
	if _, err := fmt.Fprintln(feed, name, uri); err != nil {
		r.failed(ctx, "the stream ended")
		return false
	}
	late := time.NewTimer(r.answer)
	defer late.Stop()
	for {
		select {
		case line, ok := <-lines:
			switch {
			case !ok:
				r.failed(ctx, "the stream ended")
				return false
			case line == "registered "+name:
				r.good(name, uri)
				return true
			case strings.HasPrefix(line, "pyro-cluster: "):
				r.failed(ctx, strings.TrimPrefix(line, "pyro-cluster: ns register: "))
				return !ends(lines)
			}
			// kubectl's own remarks are no answer
		case <-late.C:
			r.failed(ctx, fmt.Sprintf("no answer in %v", r.answer))
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// ends waits a moment whether a stream that refused a name ends with that, as it does when no node answers.
func ends(lines <-chan string) bool {
	t := time.NewTimer(restartPause)
	defer t.Stop()
	for {
		select {
		case _, ok := <-lines:
			if !ok {
				return true
			}
		case <-t.C:
			return false
		}
	}
}

func (r *registrar) begin() (name, uri string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	if r.since.IsZero() {
		r.since = time.Now()
	}
	name = fmt.Sprintf("%s%d", namePrefix, r.next)
	return name, fmt.Sprintf("PYRO:%s@localhost:1", name)
}

func (r *registrar) good(name, uri string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acked[name] = uri
	r.figures.good++
	r.figures.gap = max(r.figures.gap, time.Since(r.since))
	r.since = time.Time{}
}

// failed notes a registration without a good answer.  Its name may be registered or not; the story asks nothing of it.
func (r *registrar) failed(ctx context.Context, reason string) {
	if ctx.Err() != nil { // cut off by the story itself
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.figures.failed++
	r.figures.reason = reason
}

// take returns what came of the names since it was last called.  A wait that still goes on counts up to now.
func (r *registrar) take() registrations {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.figures
	if !r.since.IsZero() {
		f.gap = max(f.gap, time.Since(r.since))
	}
	r.figures = registrations{}
	return f
}

// noneYet says why no name has been registered yet; it is empty when one has.
func (r *registrar) noneYet() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.acked) > 0 {
		return ""
	}
	return "none yet: " + cmp.Or(r.figures.reason, "no answer")
}

// acknowledged are the names of which nothing may get lost any more, with their URIs.
func (r *registrar) acknowledged() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.acked)
}

// lost compares the names that were acknowledged with those that are there.
func lost(acked, there map[string]string) []string {
	var names []string
	for name, uri := range acked {
		if there[name] != uri {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
