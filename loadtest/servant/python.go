package servant

import _ "embed"

// Python is the source of a program for a Python with stock Pyro5: the same object, as a member of the group, with the same ledger.
//
//	python servant.py --member NAME --group GROUP --ns-host HOST --ns-port PORT [--host HOST] [--port PORT] [--nat HOST:PORT] [--ledger FILE] [--threads N]
//
// --ns-host and --ns-port can be repeated, in pairs, for several nodes; without --group it is not registered.  --threads bounds the
// connections at a time (512).  It prints "serving URI" when it serves, and on SIGTERM removes its name, finishes the calls under way
// and exits with 0.  Bad options are exit code 2 with one line on standard error, everything else that keeps it from serving 1.
//
//go:embed servant.py
var Python []byte
