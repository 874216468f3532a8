package core

import (
	"errors"
	"fmt"
	"testing"
)

// TestExceptionHierarchy is Pyro5's errors.py.
//
// spec: R1 R6
func TestExceptionHierarchy(t *testing.T) {
	t.Parallel()
	above := map[ExceptionClass][]ExceptionClass{
		PyroError:             nil,
		CommunicationError:    {PyroError},
		ConnectionClosedError: {CommunicationError, PyroError},
		TimeoutError:          {CommunicationError, PyroError},
		ProtocolError:         {CommunicationError, PyroError},
		MessageTooLargeError:  {ProtocolError, CommunicationError, PyroError},
		SerializeError:        {ProtocolError, CommunicationError, PyroError},
		NamingError:           {PyroError},
		DaemonError:           {PyroError},
		SecurityError:         {PyroError},
		ValueError:            nil,
	}
	for class, supers := range above {
		is := map[ExceptionClass]bool{class: true}
		for _, super := range supers {
			is[super] = true
		}
		for other := range above {
			for _, err := range []error{class, class.New("x"), fmt.Errorf("wrapped: %w", class.New("x"))} {
				if got := errors.Is(err, other); got != is[other] {
					t.Errorf("%T of %s is %s: got %v, want %v", err, class, other, got, is[other])
				}
			}
		}
	}
}

// TestExceptionClasses reads the names under which Python sends exceptions, and those that Python cannot be sent.
//
// spec: R1 R2
func TestExceptionClasses(t *testing.T) {
	t.Parallel()
	for sent, want := range map[string]ExceptionClass{
		"builtins.ValueError":      ValueError,
		"exceptions.ValueError":    ValueError,
		"ValueError":               ValueError,
		"NamingError":              NamingError,
		"Pyro5.errors.NamingError": NamingError,
		"sqlite3.OperationalError": "sqlite3.OperationalError",
		"struct.error":             "struct.error",
		"mine.MyError":             "mine.MyError",
	} {
		if got := exceptionClass(sent); got != want {
			t.Errorf("%s: read as %s, want %s", sent, got, want)
		}
	}
	for class, want := range map[ExceptionClass]ExceptionClass{
		"":                       RuntimeError,
		NamingError:              NamingError,
		"Pyro5.errors.Unheardof": PyroError,
		"builtins.KeyError":      KeyError,
		"mine.MyError":           "mine.MyError",
	} {
		if got := methodError(class.New("x")).Class; got != want {
			t.Errorf("%s: sent as %s, want %s", class, got, want)
		}
	}
}
