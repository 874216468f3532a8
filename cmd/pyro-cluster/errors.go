package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pyro-cluster/pyro-cluster/cluster"
	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/core/auth"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// The exit codes, which scripts rely on.
const (
	exitOK          = 0
	exitFailed      = 1 // the operation failed: a remote error, a port in use
	exitUsage       = 2
	exitUnreachable = 3 // no node answers, or there is no majority
	exitNotFound    = 4 // no such name, group or node
	exitRefused     = 5 // permission, wrong cluster, removed node
	exitDamaged     = 6 // damaged data
)

// failure is an error whose exit code and advice are known where it was found.
type failure struct {
	code int
	err  error
	hint string // what to do; may be empty
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usageError(err error, hint string) error { return &failure{exitUsage, err, hint} }

func isFailure(err error) bool {
	_, ok := errors.AsType[*failure](err)
	return ok
}

// printError writes err as one line and returns the exit code.
func printError(stderr io.Writer, err error) int {
	code, hint := classify(err)
	if code == exitOK {
		return code
	}
	line := "pyro-cluster: " + err.Error()
	if hint != "" {
		line += ": " + hint
	}
	fmt.Fprintln(stderr, oneLine(line))
	return code
}

// oneLine keeps what others wrote into an error (a remote text, a path) from making more than one line of it.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

const (
	hintReach   = "check --ns, and that a majority of the nodes runs"
	hintServers = "check that its servers run"
	hintRemove  = "give it an empty --data-dir to join anew"
)

// codes maps what the packages below report to exit codes and advice.  The first match counts.
var codes = []struct {
	err  error
	code int
	hint string
}{
	{cluster.ErrDamaged, exitDamaged, ""}, // says itself what to do
	{cluster.ErrWrongCluster, exitRefused, "check --join and --data-dir"},
	{cluster.ErrRemoved, exitRefused, hintRemove},
	{cluster.ErrDiverged, exitFailed, ""},
	{cluster.ErrInUse, exitFailed, "stop the other process, or choose another --data-dir"},
	{naming.ErrUnknownName, exitNotFound, `see "pyro-cluster ns list"`},
	{naming.ErrUnknownNode, exitNotFound, `see "pyro-cluster cluster members"`},
	{naming.ErrAlreadyRegistered, exitFailed, "replace it with --force"},
	{cluster.ErrNoLeader, exitUnreachable, hintReach},
	{core.SecurityError, exitRefused, ""},
	{core.ConnectionClosedError, exitUnreachable, hintReach}, // how a node without a majority answers
	{context.DeadlineExceeded, exitUnreachable, hintReach},
	{context.Canceled, exitFailed, ""},
}

// classify finds the exit code and the advice for an error.
func classify(err error) (code int, hint string) {
	if err == nil {
		return exitOK, ""
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code, f.hint
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code, c.hint
		}
	}
	if _, ok := errors.AsType[*core.TransportError](err); ok {
		return exitUnreachable, hintReach
	}
	return exitFailed, ""
}

// unanswered returns the exit code and the advice for a server that did not let us in, or could not be reached.  secretFlag is the one for its secret,
// away the advice if it may not be there.
func unanswered(err error, secretFlag, away string) (code int, hint string) {
	text := err.Error() // partly the server's
	switch {
	case strings.Contains(text, " rejected: "+new(auth.Denied).Error()):
		return exitRefused, "check " + secretFlag + ", --tls-cert and --tls-key"
	case strings.Contains(text, " rejected: this server requires TLS"):
		return exitUnreachable, "say with --tls-ca whom to trust"
	case strings.Contains(text, "tls: "):
		return exitUnreachable, "check --tls-ca, --tls-cert and --tls-key"
	}
	return exitUnreachable, away
}

// namingError says what the name server at nodes answered, or that none of them did, without the layers in between.
func namingError(err error, nodes []string) error {
	call, ok := errors.AsType[*failover.CallError](err)
	if ok {
		code, hint := unanswered(rootCause(call), "--secret-file", hintReach)
		if call.Outcome == failover.Unknown && changes[call.Method] {
			hint += "; it may have been done all the same"
		}
		return &failure{code, fmt.Errorf("no answer from %s: %w", strings.Join(nodes, ","), rootCause(call)), hint}
	}
	if e, ok := errors.AsType[*core.RemoteError](err); ok && e.Is(core.NamingError) {
		code, hint := classify(err)
		return &failure{code, errors.New(e.Text()), hint}
	}
	return err
}

// changes are the name server's methods that change something.
var changes = map[string]bool{"register": true, "remove": true, "set_metadata": true, "join": true, "leave": true, "transfer": true}

// rootCause is what the last server that was tried had to say.
func rootCause(err error) error {
	if e, ok := errors.AsType[*core.TransportError](err); ok {
		return rootCause(e.Err) // that of a publisher who gave up has the one of its last try
	}
	if e, ok := errors.AsType[*core.RemoteError](err); ok {
		return errors.New(e.Text())
	}
	if e, ok := errors.AsType[*failover.CallError](err); ok {
		return e.Err
	}
	return err
}
