// Package servant is the object that the works of a load test call, in Go and, as a script for stock Pyro5, in Python.
package servant

import (
	"context"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Object is the id of the object on its daemon.
const Object = "loadtest"

// Options set up a servant.
type Options struct {
	Nodes     []string // of the name server, host:port; with none the servant is not registered
	Group     string   // to join
	Member    string   // its id in the group; empty means a new one
	Host      string   // to bind; empty means localhost
	Port      int      // 0 picks one
	Advertise string   // host:port under which clients reach it, if not that
	Ledger    string   // file to which the ids of calls are written before they run; empty: none
}

// Serve serves until ctx ends, then leaves the group and drains.  ready, if not nil, gets the URI when calls can come.
func Serve(ctx context.Context, opts Options, ready func(core.URI)) error { panic("stub") }

// Python is the source of a program for a Python with stock Pyro5: the same object, as a member of the group, with the same ledger.
//
//	python servant.py --member NAME --group GROUP --ns-host HOST --ns-port PORT [--host HOST] [--port PORT] [--nat HOST:PORT] [--ledger FILE]
//
// It prints "serving URI" when it serves, and on SIGTERM removes its name, finishes the calls under way and exits with 0.
var Python []byte
