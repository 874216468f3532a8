package failover

import (
	"errors"
	"fmt"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Outcome says what is known of a failed call.
type Outcome uint8

// The outcomes (CORBA's completion status maybe, no, yes).
const (
	Unknown     Outcome = iota // the request was written, no reply came: the method may have run
	NotExecuted                // the method did not run
	Executed                   // the method ran, and raised an exception
)

// String returns "unknown", "not executed" or "executed".
func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "unknown"
	case NotExecuted:
		return "not executed"
	case Executed:
		return "executed"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// OutcomeOf classifies any error of a core.Proxy or of a [Proxy].  No error counts as Executed, an error of another origin
// as Unknown.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Executed
	}
	return classify(err).outcome
}

// CallError is a call that failed on every replica that was tried.  It wraps the last error, and the context's if that ended
// the call.  An exception that the method itself raised is no CallError: it is returned as the *core.RemoteError it is, and
// so is a mistake that was found before anything was sent.
type CallError struct {
	Group    string
	Method   string
	Outcome  Outcome // NotExecuted or Unknown
	Attempts int     // 0 if no replica was known
	Err      error
}

// Error tells what was called, what is known of it and the last error.
func (e *CallError) Error() string {
	attempts := "attempts"
	if e.Attempts == 1 {
		attempts = "attempt"
	}
	return fmt.Sprintf("failover: call %s of %s: %v after %d %s: %v", e.Method, e.Group, e.Outcome, e.Attempts, attempts, e.Err)
}

// Unwrap returns the last error.
func (e *CallError) Unwrap() error { return e.Err }

// class is what an error of one attempt means for the call and for the replica.
type class struct {
	outcome   Outcome
	elsewhere bool // another replica may do better
	fault     bool // it speaks against the replica
	answered  bool // the server answered: the replica works
	barred    bool // the replica would not let us in the next time either
}

// classify is the only place that knows what errors mean (CORBA 3.0, 23.2.6).  The outermost error counts: the cause of a
// TransportError may be what a name server raised, and that of a LocalError looks like an exception, but the method raised neither.
func classify(err error) class {
	switch e := outermost(err).(type) {
	case *CallError:
		// A group proxy below already tried all there is.
		return class{outcome: e.Outcome}
	case *core.TransportError:
		return classifyTransport(e)
	case *core.RemoteError:
		return classifyRemote(e)
	case *core.LocalError:
		// Found here by core; it will be the same with every replica.
		if e.Executed {
			return class{outcome: Executed, answered: true}
		}
		return class{outcome: NotExecuted}
	}
	if errors.Is(err, core.ErrClosed) {
		// The proxy of a member that left the group meanwhile.  Nothing was sent, and the replica is not to blame.
		return class{outcome: NotExecuted, elsewhere: true}
	}
	// Not from core: nobody knows what was sent.
	return class{outcome: Unknown}
}

// outermost returns the first error in err's tree that tells how a call failed; nil if there is none.
func outermost(err error) error {
	switch e := err.(type) {
	case *CallError, *core.TransportError, *core.RemoteError, *core.LocalError:
		return e
	case interface{ Unwrap() error }:
		return outermost(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if found := outermost(err); found != nil {
				return found
			}
		}
	}
	return nil
}

// classifyTransport classifies a call without an answer.
func classifyTransport(e *core.TransportError) class {
	switch {
	case !e.Written:
		// Not a byte of the request left, so no server can have run it: no connection, a refused handshake, a connection
		// found dead before writing, a context that ended before.
		return class{outcome: NotExecuted, elsewhere: true, fault: true, barred: errors.Is(e, core.ErrNotAdmitted)}
	case errors.Is(e.Err, core.MessageTooLargeError):
		// There was an answer, of a size that is not wanted here.  Other replicas would send the same.
		return class{outcome: Executed}
	}
	// The request, or a part of it, left this machine; whether it arrived and ran cannot be known.
	return class{outcome: Unknown, elsewhere: true, fault: true}
}

// classifyRemote classifies an exception.
func classifyRemote(e *core.RemoteError) class {
	// The message or the member is at fault, not the server: every replica would say the same.
	hopeless := e.Is(core.AttributeError) || e.Is(core.ProtocolError)
	switch {
	case e.NotExecuted:
		// The server is draining, or does not have the object, and says that it did not run the method.
		return class{outcome: NotExecuted, elsewhere: !hopeless, fault: !hopeless}
	case e.Is(core.ProtocolError):
		// The server could not read the arguments, or could not send the result.
		return class{outcome: Unknown}
	case e.Is(core.CommunicationError):
		// ConnectionClosedError and TimeoutError among them.  The method, or the server on its behalf, lost somebody that it
		// depends on; how far it had come is not said.  By Pyro's convention the caller may try another server.
		return class{outcome: Unknown, elsewhere: true, fault: true}
	}
	// The method ran and raised it.
	return class{outcome: Executed, answered: true}
}

// classifyConnect classifies an error of connecting to a replica, before the request was sent to it.
func classifyConnect(err error) class {
	result := classify(err)
	result.outcome = NotExecuted
	return result
}
