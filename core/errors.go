package core

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// ExceptionClass is the class of a remote exception, "Pyro5.errors.NamingError" or "builtins.ValueError".  It is an error so
// that errors.Is(err, core.NamingError) asks for a class; a class also matches the exceptions of its subclasses.
type ExceptionClass string

// Pyro5's exceptions (Pyro5.errors) and the builtins that this project raises.
const (
	PyroError             ExceptionClass = "Pyro5.errors.PyroError"
	CommunicationError    ExceptionClass = "Pyro5.errors.CommunicationError"
	ConnectionClosedError ExceptionClass = "Pyro5.errors.ConnectionClosedError"
	TimeoutError          ExceptionClass = "Pyro5.errors.TimeoutError"
	ProtocolError         ExceptionClass = "Pyro5.errors.ProtocolError"
	MessageTooLargeError  ExceptionClass = "Pyro5.errors.MessageTooLargeError"
	SerializeError        ExceptionClass = "Pyro5.errors.SerializeError"
	NamingError           ExceptionClass = "Pyro5.errors.NamingError"
	DaemonError           ExceptionClass = "Pyro5.errors.DaemonError"
	SecurityError         ExceptionClass = "Pyro5.errors.SecurityError"

	AttributeError ExceptionClass = "builtins.AttributeError"
	IndexError     ExceptionClass = "builtins.IndexError"
	KeyError       ExceptionClass = "builtins.KeyError"
	RuntimeError   ExceptionClass = "builtins.RuntimeError"
	TypeError      ExceptionClass = "builtins.TypeError"
	ValueError     ExceptionClass = "builtins.ValueError"
	StopIteration  ExceptionClass = "builtins.StopIteration"
)

// Error makes the class usable as a target of errors.Is.
func (c ExceptionClass) Error() string { return string(c) }

// Is reports whether target is c or a class above it.
func (c ExceptionClass) Is(target error) bool {
	want, ok := target.(ExceptionClass)
	if !ok {
		return false
	}
	for ; c != ""; c = parents[c] {
		if c == want {
			return true
		}
	}
	return false
}

// New returns an exception of class c with one argument, its text.
func (c ExceptionClass) New(format string, args ...any) *RemoteError {
	return &RemoteError{Class: c, Args: []any{fmt.Sprintf(format, args...)}}
}

// parents is Pyro5's hierarchy of exceptions.
var parents = map[ExceptionClass]ExceptionClass{
	CommunicationError:    PyroError,
	ConnectionClosedError: CommunicationError,
	TimeoutError:          CommunicationError,
	ProtocolError:         CommunicationError,
	MessageTooLargeError:  ProtocolError,
	SerializeError:        ProtocolError,
	NamingError:           PyroError,
	DaemonError:           PyroError,
	SecurityError:         PyroError,
}

// RemoteError is an exception that the remote side raised, or that a method here raises with a class of its choice (any
// other Go error travels as a builtins.RuntimeError with its text, unless its type is registered with [RegisterError]).
type RemoteError struct {
	Class      ExceptionClass
	Args       []any          // the arguments of the exception, its text first
	Attributes map[string]any // its other attributes, without the traceback
	Traceback  []string       // the remote stack, outermost call first; lines end in a newline

	// NotExecuted is set when the server says that it did not run the method, because it is draining or does not have the
	// object: the call can be sent again elsewhere, whatever the method does.  It is not sent on: a method that returns the
	// error of a call it made did run.
	NotExecuted bool

	cause error
}

// Unwrap returns the error of a registered type that the exception stands for (see [RegisterError]), or nil.
func (e *RemoteError) Unwrap() error { return e.cause }

// Error returns the short class name and the arguments: "NamingError: unknown name: x".
func (e *RemoteError) Error() string {
	class := string(e.Class)
	class = class[strings.LastIndexByte(class, '.')+1:]
	if text := e.Text(); text != "" {
		return class + ": " + text
	}
	return class
}

// Text returns the arguments as Python's str(exception) does: the text itself if it is the only one, else a tuple.
func (e *RemoteError) Text() string {
	switch len(e.Args) {
	case 0:
		return ""
	case 1:
		if e.Args[0] == nil {
			return "None"
		}
		return fmt.Sprint(e.Args[0])
	}
	args := make([]string, len(e.Args))
	for i, arg := range e.Args {
		switch arg := arg.(type) {
		case nil:
			args[i] = "None"
		case string:
			args[i] = "'" + arg + "'"
		default:
			args[i] = fmt.Sprint(arg)
		}
	}
	return "(" + strings.Join(args, ", ") + ")"
}

// Is reports whether target is e's class or a class above it.
func (e *RemoteError) Is(target error) bool { return e.Class.Is(target) }

// TransportError is a call that failed below the method: the name could not be resolved, the endpoint not be reached, the connection
// broke, the reply was no valid message, or the context ended.  Unwrap gives the cause; that of a failed "resolve" may be a
// *RemoteError of the name server, so look for a TransportError first.
type TransportError struct {
	Endpoint string // host:port, the path of a unix socket, or the URI that could not be resolved
	Op       string // what was being done: "resolve", "connect", "handshake", "send request", "read reply"
	// Written is set when any byte of the request may have reached the server: if not, the method surely did not run.
	Written bool
	Err     error
}

func (e *TransportError) Error() string {
	return fmt.Sprintf("core: %s %s: %v", e.Op, e.Endpoint, e.Err)
}

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Is makes it an exception of Pyro's classes, as which a Python program would see it: a [CommunicationError], unless the URI could not be resolved;
// a [TimeoutError] if the time was over; and a [ConnectionClosedError] if a connection that was ready for calls broke.  See also [ErrNotAdmitted].
func (e *TransportError) Is(target error) bool {
	class := CommunicationError
	switch {
	case target == ErrNotAdmitted:
		return (e.Op == opConnect || e.Op == opHandshake) && notAdmitted(e.Err)
	case e.Op == opResolve:
		return false // the cause says it
	case errors.Is(e.Err, context.DeadlineExceeded) || errors.Is(e.Err, errConnectTimeout):
		class = TimeoutError
	case e.Op != opConnect && e.Op != opHandshake && !errors.Is(e.Err, ProtocolError) && !errors.Is(e.Err, context.Canceled):
		class = ConnectionClosedError
	}
	return class.Is(target)
}

// LocalError is a mistake that was found on this side: a request that cannot be sent, or a result that does not fit into the
// variable for it.  Every server would be answered in the same way.  Unwrap gives the cause; that of a member which the object does
// not have is an AttributeError, as in Pyro.
type LocalError struct {
	// Executed is set when the server answered, and only its result could not be stored.  If not, nothing of the request was sent.
	Executed bool
	Err      error
}

func (e *LocalError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *LocalError) Unwrap() error { return e.Err }

// ErrClosed is returned by a Proxy or Daemon that was closed.
var ErrClosed = errors.New("core: closed")

// ErrNotAdmitted is what [errors.Is] finds in a [TransportError] of a connection for which trying again is of no use before somebody changes credentials,
// certificates or settings: a validator of package core/auth denies access, the server requires TLS or has none, or one side does not trust the
// certificate of the other.
var ErrNotAdmitted = errors.New("core: not admitted")

// What servers tell such clients, where TLS does not.  Other refusals may have reasons that pass.
const (
	reasonDenied = "access denied"
	reasonNoTLS  = "this server requires TLS (SSL)"
)

func notAdmitted(err error) bool {
	if e, ok := errors.AsType[*refusedError](err); ok {
		return e.reason == reasonDenied || e.reason == reasonNoTLS
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert of TLS
		return true
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return untrusted || noTLS
}

// wireError is a message that breaks the protocol, or a server that refuses one.  errors.Is finds its class, but it is no
// *RemoteError, because nobody raised it.
type wireError struct {
	class ExceptionClass
	text  string
}

func (e *wireError) Error() string { return e.text }

func (e *wireError) Is(target error) bool { return e.class.Is(target) }

// refusedError is the answer of a server that refuses the handshake.
type refusedError struct {
	endpoint string
	reason   string
}

func (e *refusedError) Error() string {
	return "connection to " + e.endpoint + " rejected: " + e.reason
}

func (e *refusedError) Is(target error) bool { return CommunicationError.Is(target) }

func protocolError(format string, args ...any) error {
	return &wireError{ProtocolError, fmt.Sprintf(format, args...)}
}

// methodError is the exception that an error of a method travels as: the one it wraps, or a RuntimeError with its text, or
// Python's own TimeoutError for a deadline.  (Pyro's TimeoutError would say that the connection to this server is in trouble.)
func methodError(err error) (e *RemoteError) {
	defer func() {
		if recover() != nil { // a nil pointer became an error
			e = RuntimeError.New("%T without text", err)
		}
	}()
	if e := registeredError(err); e != nil {
		e.Class = sendableClass(e.Class)
		return e
	}
	if raised, ok := errors.AsType[*RemoteError](err); ok {
		sent := *raised
		sent.Class = sendableClass(raised.Class)
		return &sent
	}
	class := RuntimeError
	if c, ok := errors.AsType[ExceptionClass](err); ok {
		class = sendableClass(c)
	} else if errors.Is(err, context.DeadlineExceeded) {
		class = "builtins.TimeoutError"
	}
	return &RemoteError{Class: class, Args: []any{err.Error()}}
}

// sendableClass replaces names that no Python client can make an exception of.
func sendableClass(c ExceptionClass) ExceptionClass {
	switch {
	case c == "":
		return RuntimeError
	case c == PyroError || parents[c] != "" || !strings.HasPrefix(string(c), "Pyro5.errors."):
		return c
	}
	return PyroError
}

// traceback is what Python's printers show: a first line, where, and the exception itself.  Each line ends in a newline.
func traceback(e *RemoteError, where []string) []string {
	lines := make([]string, 0, len(where)+2)
	lines = append(lines, "Traceback (most recent call last):\n")
	for _, w := range where {
		lines = append(lines, "  "+w+"\n")
	}
	return append(lines, e.Error()+"\n")
}
