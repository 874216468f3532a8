package interop

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
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
				_, err3 := d.Register("session", sessions(), core.ObjectOptions{})
				return errors.Join(err, err2, err3)
			})
			runChecks(t, nil, "client.py", serializer, d.URI("thing").String())
		})
	}
}

// numbered is an object of a session.
type numbered struct{ number int64 }

func (n *numbered) Number() int64 { return n.number }

func sessions() *core.Factory {
	var made atomic.Int64
	return &core.Factory{Like: new(numbered), New: func(context.Context) (any, error) { return &numbered{made.Add(1)}, nil }}
}

// TestPythonConnectedSocket serves a stock proxy that was given its socket.
//
// spec: O19
func TestPythonConnectedSocket(t *testing.T) {
	t.Parallel()
	d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
		_, err := d.Register("thing", new(Thing), thingOptions)
		return err
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		ln.Close()
		if err == nil {
			err = errors.Join(d.ServeConn(context.Background(), nc), nc.Close())
		}
		done <- err
	}()
	const program = `import socket, sys, Pyro5.api
host, port = sys.argv[1].rsplit(":", 1)
with Pyro5.api.Proxy("thing", connected_socket=socket.create_connection((host, int(port)))) as p:
    print(p.add(1, 2), p.count)`
	stdout, stderr, code := run(t, nil, "", "-c", program, ln.Addr().String())
	if stdout != "3 0\n" || code != 0 {
		t.Errorf("printed %q, exit code %d, stderr:\n%s", stdout, code, stderr)
	}
	ln.Close()
	if err := <-done; err != nil {
		t.Error(err)
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
