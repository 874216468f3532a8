package interop

import (
	"context"
	"errors"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// TestPythonClient calls Go objects with stock Pyro5 proxies.
//
// spec: A7 C1 C2 C3 C4 C5 C6 C7 C9 C11 O1 O2 O11 R1 R2 R3 R4 R5 R6 S8 S9 S10 S11 Z1 Z2 Z4 Z5 Z6 Z7 Z8
func TestPythonClient(t *testing.T) {
	t.Parallel()
	for _, serializer := range serializerNames {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			d := serve(t, core.DaemonOptions{MaxMessageBytes: maxMessageBytes, ValidateHandshake: validateHandshake, Compress: serializer == "json"}, func(d *core.Daemon) error {
				_, err := d.Register("thing", new(Thing), thingOptions)
				_, err2 := d.Register("servant", greeter(), core.ObjectOptions{})
				return errors.Join(err, err2)
			})
			runChecks(t, nil, "client.py", serializer, d.URI("thing").String())
		})
	}
}

// validateHandshake refuses one handshake, and answers "hello" with the same and others with what they were.
func validateHandshake(_ context.Context, handshake any) (any, error) {
	switch text, _ := handshake.(string); text {
	case "wrong":
		return nil, errors.New("go away")
	case "hello":
		return handshake, nil
	}
	return map[string]any{"you sent": handshake}, nil
}
