// Package servant is the object that the works of a load test call, in Go and, as a script for stock Pyro5, in Python.
//
// Its methods are
//
//	add(a, b)             the sum of two numbers
//	echo(value)           the value unchanged
//	oneway(value)         nothing, and nobody waits for it
//	who()                 the id of the member
//	ledger(offset, size)  a part of its ledger file, at most 1 MiB; there only if it has a ledger, as the metadata shows
//
// The first three are the works: each writes the correlation id of the call to the ledger and then runs; see [NotRun] for when it cannot
// write.  (The calls of a batch share one id, so they look like one call that ran several times.)  No method declares a contract:
// the caller decides what may be sent again.
package servant

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Object is the id of the object on its daemon.
const Object = "loadtest"

// Options set up a servant.
type Options struct {
	Nodes     []string // of the name server, host:port; with none the servant is not registered
	Group     string   // to join; with none the servant is not registered
	Member    string   // its id in the group; empty means a new one
	Host      string   // to bind; empty means localhost
	Port      int      // 0 picks one
	Advertise string   // host:port under which clients reach it, if not that
	Ledger    string   // file to which the ids of calls are written before they run; empty: none

	TLS   *tls.Config       // of the servant; nil means plain connections
	Names core.ProxyOptions // of the connections to the name server
}

// goodbyeTimeout bounds leaving the group and finishing the calls under way.
const goodbyeTimeout = 5 * time.Second

// Serve serves until ctx ends, then leaves the group and drains, which takes 5 s at most.  ready, if not nil, gets the URI when calls
// can come.
//
// It is an error if the ledger cannot be opened, the port is taken, no name server answers for 10 s, or the member could not leave in
// the end; not that ctx ended.  A servant that was killed joins again under its Member with whatever address it has then.
func Serve(ctx context.Context, opts Options, ready func(core.URI)) (err error) {
	opts.Member = cmp.Or(opts.Member, "loadtest-"+rand.Text()[:8])
	o, err := newObject(opts.Member, opts.Ledger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	d, err := core.Listen(net.JoinHostPort(cmp.Or(opts.Host, "localhost"), strconv.Itoa(opts.Port)), core.DaemonOptions{Advertise: opts.Advertise, TLS: opts.TLS})
	if err != nil {
		return err
	}
	defer d.Close()
	uri, err := d.Register(Object, o.servant(), core.ObjectOptions{})
	if err != nil {
		return err
	}
	m, err := newMembership(opts)
	if err != nil {
		return err
	}
	defer m.close()
	return serve(ctx, d, m, uri, ready)
}

func serve(ctx context.Context, d *core.Daemon, m *membership, uri core.URI, ready func(core.URI)) error {
	var serveErr error
	served := make(chan struct{})
	go func() {
		defer close(served)
		serveErr = d.Serve(context.WithoutCancel(ctx)) // calls under way are finished after ctx's end
	}()
	err := m.join(ctx, uri)
	if err == nil {
		if ready != nil {
			ready(uri)
		}
		select {
		case <-ctx.Done():
		case <-served:
		}
	}
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	switch {
	case err == nil:
		err = m.leave(bye, uri)
	case ctx.Err() != nil:
		m.forget(bye, uri)
		err = nil
	}
	err = errors.Join(err, d.Shutdown(bye))
	<-served
	return errors.Join(err, serveErr)
}
