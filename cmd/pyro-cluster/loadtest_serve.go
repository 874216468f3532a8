package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/servant"
)

// serveFlags are the flags of an object server.
type serveFlags struct {
	opts     servant.Options
	alone    bool
	httpPort int
}

func newLoadtestServe(g *globals) *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:     "serve",
		Aliases: []string{"targets"},
		Short:   "Serve the object that the works of a load test call",
		Long: `serve is an object server for load tests: it joins the object group, so that "loadtest run PYRONAME:GROUP" calls it, and on SIGTERM leaves it and
finishes the calls under way. Start as many as there are to be replicas, on as many machines.

With --ledger it writes the id of every call to a file before it runs the call. Then a run can tell how many calls ran twice or were lost, also when
servers were killed; a server that is started again has to be given the same file.

With --tls-ca it connects to the nodes by TLS; with --tls-cert and --tls-key, too, it serves by TLS.

With --http-port it answers /livez, and /readyz, which is well while the server is in the group.`,
		Example: `  pyro-cluster loadtest serve --group loadtest --ns n1:9090,n2:9090,n3:9090 --host 10.0.0.5 --ledger /var/tmp/ledger
  pyro-cluster loadtest serve --alone --port 7000`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(g.nodes); err != nil {
				return err
			}
			if err := f.secure(&g.secure); err != nil {
				return err
			}
			return f.serve(cmd, g.nodes)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.opts.Group, "group", "", "object `group` to join")
	flags.BoolVar(&f.alone, "alone", false, "serve without a name server")
	flags.StringVar(&f.opts.Member, "member", "", "`id` in the group; the same after a restart takes the old one's place (default: a new one)")
	flags.StringVar(&f.opts.Host, "host", "localhost", "`host` to bind and to advertise")
	flags.IntVar(&f.opts.Port, "port", 0, "TCP port; 0 picks one")
	flags.StringVar(&f.opts.Advertise, "advertise", "", "`host[:port]` under which clients reach it, if not --host")
	flags.StringVar(&f.opts.Ledger, "ledger", "", "`file` for the ids of calls")
	flags.IntVar(&f.httpPort, "http-port", 0, "TCP port for /livez and /readyz; 0 turns it off")
	return without(cmd, "output", "timeout")
}

func (f *serveFlags) check(nodes []string) error {
	if !f.alone {
		f.opts.Nodes = nodes
	}
	switch {
	case f.alone && (f.opts.Group != "" || f.opts.Member != ""):
		return usageError(errors.New("--alone excludes --group and --member"), "leave it out to join a group")
	case !f.alone && f.opts.Group == "":
		return usageError(errors.New("no --group"), "name the object group to join, or serve without a name server with --alone")
	case f.opts.Port < 0 || f.opts.Port > 65535:
		return usageError(fmt.Errorf("--port is %d", f.opts.Port), "give a port from 0 to 65535")
	case f.httpPort < 0 || f.httpPort > 65535:
		return usageError(fmt.Errorf("--http-port is %d", f.httpPort), "give a port from 0 to 65535")
	}
	return nil
}

// secure lets the object be called by TLS, if there is a certificate, and the nodes be.
func (f *serveFlags) secure(s *security) (err error) {
	if !f.alone {
		if f.opts.Names, err = s.client(); err != nil {
			return err
		}
	}
	if err := s.check(); err != nil || s.cert == "" {
		return err
	}
	files, err := tlsFiles("--tls-cert and --tls-key", core.TLSFileOptions{Cert: s.cert, Key: s.key})
	if err == nil {
		f.opts.TLS = files.Server()
	}
	return err
}

func (f *serveFlags) serve(cmd *cobra.Command, nodes []string) error {
	ctx := cmd.Context()
	var joined atomic.Bool
	if f.httpPort != 0 {
		ln, err := net.Listen("tcp", join(f.opts.Host, f.httpPort))
		if err != nil {
			return bindError(err, "--http-port")
		}
		defer serveProbes(ln, func() bool { return joined.Load() && ctx.Err() == nil })()
	}
	err := servant.Serve(ctx, f.opts, func(uri core.URI) {
		joined.Store(true)
		fmt.Fprintln(cmd.OutOrStdout(), "serving", uri)
	})
	return bindError(namingError(err, nodes), "--port")
}

// serveProbes answers probes until it is told to stop.
func serveProbes(ln net.Listener, ready func() bool) (stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready: not in the group", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln) // ends by Close; and without probes the object is served still
	}()
	return func() {
		server.Close()
		<-served
	}
}
