package link

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// lineBytes bounds what is under way in one direction of a connection; beyond it nothing more is read.
const lineBytes = 8 << 20

// parcelBytes is what a parcel takes beside its data.
const parcelBytes = 64

// parcel is something that arrives later.
type parcel struct {
	due  time.Time
	data []byte
	then func() // called after data has been written; nil mostly
}

func (p parcel) size() int { return parcelBytes + len(p.data) }

// line delays what goes through it, as a long wire does: the order is kept, and the delay does not bound how much is under way.  While
// something is, a goroutine delivers it.
type line struct {
	c    *conn
	dst  io.Writer
	busy atomic.Bool   // something is under way, or the line is dead; set by put, which only one goroutine calls
	room chan struct{} // size 1: something has been delivered

	mu    sync.Mutex // protects what follows
	queue []parcel
	bytes int
	dead  bool // the other side is gone
}

// put sends a parcel on its way.  It waits while the line is full, and reports whether there can be more.
func (l *line) put(ctx context.Context, p parcel) bool {
	for {
		l.mu.Lock()
		if l.dead {
			l.mu.Unlock()
			return false
		}
		if l.bytes < lineBytes {
			l.queue = append(l.queue, p)
			l.bytes += p.size()
			begin := !l.busy.Swap(true)
			l.mu.Unlock()
			if begin {
				l.c.pumps.Go(func() { l.deliver(ctx) })
			}
			return true
		}
		l.mu.Unlock()
		select {
		case <-l.room:
		case <-ctx.Done():
			return false
		}
	}
}

// deliver delivers parcels when they are due, until there are none left.
func (l *line) deliver(ctx context.Context) {
	for {
		p, ok := l.next()
		if !ok {
			return
		}
		if !l.hand(ctx, p) {
			l.die()
			return
		}
		l.mu.Lock()
		l.bytes -= p.size()
		l.mu.Unlock()
		l.signal()
	}
}

// next takes the first parcel; if there is none the line is idle from then on.
func (l *line) next() (parcel, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.queue = nil
		l.busy.Store(false)
		return parcel{}, false
	}
	p := l.queue[0]
	l.queue[0] = parcel{}
	l.queue = l.queue[1:]
	return p, true
}

// hand waits for the time of a parcel and hands it over.
func (l *line) hand(ctx context.Context, p parcel) bool {
	if wait := time.Until(p.due); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	}
	if p.then != nil && l.c.vanish(ctx) {
		return false // as if it had ended by then: nothing is passed on, that it ends neither
	}
	if l.c.lose() {
		return true
	}
	if len(p.data) > 0 {
		if _, err := l.dst.Write(p.data); err != nil {
			return false
		}
	}
	if p.then != nil {
		p.then()
	}
	return true
}

// die drops what is under way and refuses more.
func (l *line) die() {
	l.mu.Lock()
	l.dead, l.queue = true, nil
	l.mu.Unlock()
	l.signal()
}

func (l *line) signal() {
	select {
	case l.room <- struct{}{}:
	default:
	}
}
