package core

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ClientInfo is a client whose connection has ended.
type ClientInfo struct {
	Peer      net.Addr
	TLS       *tls.ConnectionState // not to be changed; nil without TLS
	Principal string               // see [SetPrincipal]
}

// guard runs a function of the program, whose panic ends nothing but itself.
func (d *Daemon) guard(name string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			d.opts.Logger.LogAttrs(context.Background(), slog.LevelError, "panic in a hook", slog.String("hook", name),
				slog.Any("panic", p), slog.Any("stack", stackLines(3)))
		}
	}()
	f()
}

// callFailed tells of the error of a method.
func (d *Daemon) callFailed(ctx context.Context, err error) {
	if f := d.opts.CallFailed; f != nil {
		d.guard("CallFailed", func() { f(ctx, err) })
	}
}

// annotated adds the daemon's annotations to those of a reply.
func (d *Daemon) annotated(ctx context.Context, own Annotations) (all Annotations) {
	d.guard("ReplyAnnotations", func() {
		for id, data := range d.opts.ReplyAnnotations(ctx) {
			if len(id) != 4 || !isASCII(id) || isReserved(id) {
				continue
			}
			if all == nil {
				all = make(Annotations)
			}
			all[id] = data
		}
	})
	if all == nil {
		return own
	}
	maps.Copy(all, own)
	return all
}

// keepHouse calls Housekeeping from time to time until ctx ends.
func (d *Daemon) keepHouse(ctx context.Context) {
	if d.opts.Housekeeping == nil {
		return
	}
	d.running.Go(func() {
		tick := time.NewTicker(d.opts.HousekeepingInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				d.guard("Housekeeping", func() { d.opts.Housekeeping(ctx) })
			case <-ctx.Done():
				return
			}
		}
	})
}

// idleWatch unregisters an object that nobody calls.
type idleWatch struct {
	timeout time.Duration
	reaped  func(id string)
	running atomic.Int64
	last    atomic.Int64 // instant at which a call began or ended

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// start begins to watch; reap unregisters the object.
func (w *idleWatch) start(reap func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.Store(int64(now()))
	w.timer = time.AfterFunc(w.timeout, func() {
		w.mu.Lock()
		idle := time.Duration(int64(now()) - w.last.Load())
		switch {
		case w.stopped:
			w.mu.Unlock()
			return
		case w.running.Load() > 0:
			idle = 0
		}
		if idle < w.timeout {
			w.timer.Reset(w.timeout - idle)
			w.mu.Unlock()
			return
		}
		w.stopped = true
		w.mu.Unlock()
		reap()
	})
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// begin and end enclose a call.
func (w *idleWatch) begin() {
	w.running.Add(1)
	w.last.Store(int64(now()))
}

func (w *idleWatch) end() {
	w.last.Store(int64(now()))
	w.running.Add(-1)
}

// reap unregisters an idle object.
func (d *Daemon) reap(id string, o *object) {
	if !d.objects.CompareAndDelete(id, o) {
		return
	}
	d.retire(id, o)
	d.version.Add(1)
	if o.idle.reaped != nil {
		d.guard("OnIdle", func() { o.idle.reaped(id) })
	}
}

// serving returns the object that serves a call of o, and what is to be called when it has.
func (c *serverConn) serving(call *servedCall, o *object) (*object, func(), error) {
	idle := o.idle
	if idle == nil {
		return c.instance(call, o)
	}
	idle.begin()
	o, done, err := c.instance(call, o)
	if err != nil {
		idle.end()
		return nil, nil, err
	}
	return o, func() { done(); idle.end() }, nil
}

// ServeConn serves calls that come over a connection that is there already, such as one end of a socket pair, without a handshake (Pyro5 docs,
// "connected socket"; [NewProxyOnConn] is the other end).  It returns when the peer has ended the connection (nil), when ctx has ended, or the
// daemon was closed or shut down.  It does not close nc.  The daemon need not be served; its limits and hooks hold, those of handshakes and TLS aside.
func (d *Daemon) ServeConn(ctx context.Context, nc net.Conn) error {
	c := &serverConn{wire: newWire(nc, d.opts.MaxMessageBytes), d: d, peer: nc.RemoteAddr(), welcome: true}
	c.stepTimeout = messageTimeout
	defer c.recoverBug(ctx)
	d.mu.Lock()
	if d.closed || d.ending || d.draining.Load() {
		d.mu.Unlock()
		return fmt.Errorf("core: serve connection: %w", ErrClosed)
	}
	d.conns[c] = struct{}{}
	d.running.Add(1)
	d.mu.Unlock()
	defer d.running.Done()
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-d.stopped: // which closes nc
			cancel()
		case <-c.ctx.Done():
			nc.SetDeadline(longAgo)
		}
	}()
	d.observeConn(ConnOpened)
	c.answerAll()
	d.observeConn(ConnClosed)
	d.ended(c, false)
	err := context.Cause(ctx)
	cancel()
	<-watched
	return err
}
