package naming

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// ServeOptions set up [Serve]; the zero value is useful.
type ServeOptions struct {
	Address string // to listen on; empty means localhost:0
	Daemon  core.DaemonOptions
	Object  core.ObjectOptions // of each object
	// Nodes are those of the name server; none means what [Locate] finds.
	Nodes  []string
	Client ClientOptions
	// Ready is called with the addresses of the objects, by name, when they can be called.
	Ready func(uris map[string]core.URI)
	// ShutdownTimeout is how long calls under way may go on when ctx has ended; zero means 10 s.
	ShutdownTimeout time.Duration
}

// Serve serves objects, registered by name at the name server, until ctx ends, and then lets the calls under way finish (Pyro5 docs, "serve").  Each
// object has its name for id, so that its address is the same after a restart if Address has a port.  The names stay registered.  The error is
// that of listening, of an object, of the name server, or of the daemon; nil after ctx has ended and the daemon has shut down.
func Serve(ctx context.Context, objects map[string]any, opts ServeOptions) error {
	address := opts.Address
	if address == "" {
		address = "localhost:0"
	}
	d, err := core.Listen(address, opts.Daemon)
	if err != nil {
		return err
	}
	uris, err := registerAll(ctx, d, objects, opts)
	if err != nil {
		return errors.Join(err, d.Close())
	}
	if opts.Ready != nil {
		opts.Ready(uris)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.WithoutCancel(ctx)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	timeout := opts.ShutdownTimeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	return errors.Join(d.Shutdown(late), <-served)
}

// registerAll registers objects with the daemon and then all of them with the name server.
func registerAll(ctx context.Context, d *core.Daemon, objects map[string]any, opts ServeOptions) (map[string]core.URI, error) {
	uris := make(map[string]core.URI, len(objects))
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		uri, err := d.Register(name, objects[name], opts.Object)
		if err != nil {
			return nil, fmt.Errorf("naming: serve %q: %w", name, err)
		}
		uris[name] = uri
	}
	ns, err := Locate(ctx, opts.Nodes, opts.Client)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	for name, uri := range uris {
		if err := ns.Register(ctx, name, uri, RegisterOptions{}); err != nil {
			return nil, fmt.Errorf("naming: serve %q: %w", name, err)
		}
	}
	return uris, nil
}
