package naming

import (
	"errors"
	"strings"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// The texts by which a client tells naming errors apart; Pyro's own.
const (
	textUnknownName       = "unknown name: "
	textAlreadyRegistered = "name already registered: "
)

var (
	// ErrUnknownName is returned by a [Client] for a name or group that is not registered.  It is a core.NamingError too.
	ErrUnknownName = errors.New("naming: unknown name")
	// ErrAlreadyRegistered is returned by [Client.Register] for a name that [RegisterOptions].Safe protects.  It is a
	// core.NamingError too.
	ErrAlreadyRegistered = errors.New("naming: name already registered")
	// ErrNoNameServer is returned by [Locate] when no name server answers.
	ErrNoNameServer = errors.New("naming: no name server answers")
)

// meanings maps the texts of naming errors to what callers branch on.
var meanings = []struct {
	prefix  string
	meaning error
}{
	{textUnknownName, ErrUnknownName},
	{textAlreadyRegistered, ErrAlreadyRegistered},
	{textUnknownNode, ErrUnknownNode},
}

// nameError is a NamingError of which the client knows what it means.
type nameError struct {
	*core.RemoteError
	meaning error
}

// Unwrap makes both known to errors.Is and errors.As.
func (e *nameError) Unwrap() []error { return []error{e.RemoteError, e.meaning} }

// withMeaning lets callers ask errors.Is for what Pyro says by a text.
func withMeaning(err error) error {
	e, ok := errors.AsType[*core.RemoteError](err)
	if !ok || e.Class != core.NamingError {
		return err
	}
	for _, m := range meanings {
		if strings.HasPrefix(e.Text(), m.prefix) {
			return &nameError{e, m.meaning}
		}
	}
	return err
}

// unavailable is the answer of a node that has none.  An exception that was chosen by the store itself stays as it is.
func unavailable(err error) *core.RemoteError {
	if e, ok := errors.AsType[*core.RemoteError](err); ok {
		return e
	}
	return core.ConnectionClosedError.New("name server: this node cannot answer now: %v", err)
}

func isRemote(err error) bool {
	_, ok := errors.AsType[*core.RemoteError](err)
	return ok
}

func unknownName(name string) error {
	return core.NamingError.New("%s%s", textUnknownName, name)
}

func alreadyRegistered(name string) error {
	return core.NamingError.New("%s%s", textAlreadyRegistered, name)
}

func noGroup(name string) error {
	return core.NamingError.New("cannot join group: the name is registered as a single object: %s", name)
}
