package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

func remote(c core.ExceptionClass, notExecuted bool, traceback ...string) error {
	return &core.RemoteError{Class: c, Args: []any{"text"}, NotExecuted: notExecuted, Traceback: traceback}
}

func transport(written bool, cause error) error {
	return &core.TransportError{Endpoint: "h:1", Op: "op", Written: written, Err: cause}
}

func local(executed bool, cause error) error {
	return &core.LocalError{Executed: executed, Err: cause}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  error
		want class
	}{
		{"refused", transport(false, syscall.ECONNREFUSED), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"reset before writing", transport(false, syscall.ECONNRESET), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"reset after writing", transport(true, syscall.ECONNRESET), class{outcome: Unknown, elsewhere: true, fault: true}},
		{"end instead of a reply", transport(true, io.ErrUnexpectedEOF), class{outcome: Unknown, elsewhere: true, fault: true}},
		{"context ended before writing", transport(false, context.Canceled), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"context ended after writing", transport(true, context.DeadlineExceeded), class{outcome: Unknown, elsewhere: true, fault: true}},
		{"reply too large", transport(true, core.MessageTooLargeError), class{outcome: Executed}},
		{"name server raised", transport(false, remote(core.NamingError, false, "line")), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"name server's outcome", transport(false, &CallError{Outcome: Unknown, Err: io.EOF}), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"wrapped", fmt.Errorf("x: %w", transport(false, io.EOF)), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"joined", errors.Join(io.EOF, transport(false, io.EOF)), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"draining", remote(core.ConnectionClosedError, true), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"unknown object", remote(core.DaemonError, true), class{outcome: NotExecuted, elsewhere: true, fault: true}},
		{"remote connection closed", remote(core.ConnectionClosedError, false, "line"), class{outcome: Unknown, elsewhere: true, fault: true}},
		{"remote timeout", remote(core.TimeoutError, false), class{outcome: Unknown, elsewhere: true, fault: true}},
		{"remote communication", remote(core.CommunicationError, false), class{outcome: Unknown, elsewhere: true, fault: true}},
		{"remote cannot serialize", remote(core.SerializeError, false, "line"), class{outcome: Unknown}},
		{"request too large", remote(core.MessageTooLargeError, true), class{outcome: NotExecuted}},
		{"no such member, found here", local(false, core.AttributeError.New("no x")), class{outcome: NotExecuted}},
		{"argument that cannot be sent", local(false, errors.New("chan int")), class{outcome: NotExecuted}},
		{"argument that is too large", local(false, core.MessageTooLargeError), class{outcome: NotExecuted}},
		{"result that does not fit", local(true, errors.New("got str, want int")), class{outcome: Executed, answered: true}},
		{"result and what came after it", errors.Join(local(true, io.EOF), transport(false, io.EOF)), class{outcome: Executed, answered: true}},
		{"no such member, server says", remote(core.AttributeError, true), class{outcome: NotExecuted}},
		{"method raised AttributeError", remote(core.AttributeError, false, "line"), class{outcome: Executed, answered: true}},
		{"method raised ValueError", remote(core.ValueError, false), class{outcome: Executed, answered: true}},
		{"method raised own class", remote("bank.Overdrawn", false), class{outcome: Executed, answered: true}},
		{"naming error", remote(core.NamingError, false), class{outcome: Executed, answered: true}},
		{"closed", core.ErrClosed, class{outcome: NotExecuted, elsewhere: true}},
		{"context of somebody else", context.Canceled, class{outcome: Unknown}},
		{"another's error", errors.New("x"), class{outcome: Unknown}},
		{"call error, unknown", &CallError{Outcome: Unknown, Err: transport(false, io.EOF)}, class{outcome: Unknown}},
		{"call error, not executed", &CallError{Outcome: NotExecuted, Err: transport(true, io.EOF)}, class{outcome: NotExecuted}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := classify(tt.err); got != tt.want {
				t.Errorf("classify(%v):\n got %+v\nwant %+v", tt.err, got, tt.want)
			}
			if got := OutcomeOf(tt.err); got != tt.want.outcome {
				t.Errorf("OutcomeOf(%v): got %v, want %v", tt.err, got, tt.want.outcome)
			}
		})
	}
	if got := OutcomeOf(nil); got != Executed {
		t.Errorf("OutcomeOf(nil): got %v, want %v", got, Executed)
	}
}

func TestClassifyConnect(t *testing.T) {
	t.Parallel()
	elsewhere := class{outcome: NotExecuted, elsewhere: true, fault: true}
	tests := []struct {
		name string
		err  error
		want class
	}{
		{"refused", transport(false, syscall.ECONNREFUSED), elsewhere},
		{"no members", transport(false, core.PyroError), elsewhere},
		{"mistake in the options", local(false, errors.New("core: unknown serializer")), class{outcome: NotExecuted}},
		{"silent", transport(true, context.DeadlineExceeded), elsewhere},
		{"not admitted", notAdmitted, class{outcome: NotExecuted, elsewhere: true, fault: true, barred: true}},
	}
	for _, tt := range tests {
		if got := classifyConnect(tt.err); got != tt.want {
			t.Errorf("%s: classifyConnect(%v):\n got %+v\nwant %+v", tt.name, tt.err, got, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	err := &CallError{Group: "bank", Method: "deposit", Outcome: NotExecuted, Attempts: 3, Err: io.EOF}
	for _, tt := range []struct{ got, want string }{
		{err.Error(), "failover: call deposit of bank: not executed after 3 attempts: EOF"},
		{(&CallError{Group: "b", Method: "m", Attempts: 1, Err: io.EOF}).Error(), "failover: call m of b: unknown after 1 attempt: EOF"},
		{Executed.String(), "executed"},
		{Outcome(9).String(), "Outcome(9)"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("errors.Is(%v, io.EOF): got false", err)
	}
}
