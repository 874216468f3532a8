package main

import (
	"fmt"
	"net"
	"testing"
)

func TestServeProbes(t *testing.T) {
	t.Parallel()
	node := start(t, oneNode(t.TempDir())...)
	ns := uriOf(t, node.line("URI = "))
	node.line("ready")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // a name server that does not answer
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ports := freePorts(t, 0, 1)
	serve := func(port int, ns string) *command {
		return start(t, "loadtest", "serve", "--group", "probed", "--ns", ns, "--http-port", fmt.Sprint(port))
	}

	waiting := serve(ports, silent.Addr().String())
	eventually(t, "readyz before it has joined", "503 not ready: not in the group\n", func() string { return probe(t, ports, "/readyz") })
	if got, want := probe(t, ports, "/livez"), "200 ok\n"; got != want {
		t.Errorf("livez before it has joined: got %q, want %q", got, want)
	}
	if r := waiting.stop(); r.code != exitOK {
		t.Errorf("stopped before it had joined: exit %d, stderr %q", r.code, r.stderr)
	}

	joined := serve(ports+1, join(ns.Host, ns.Port))
	joined.line("serving PYRO:loadtest@")
	if got, want := probe(t, ports+1, "/readyz"), "200 ok\n"; got != want {
		t.Errorf("readyz of a member: got %q, want %q", got, want)
	}
	// Leaving waits for the name server, which is not there any more.
	if r := node.stop(); r.code != exitOK {
		t.Fatalf("node: exit %d, stderr %q", r.code, r.stderr)
	}
	joined.cancel()
	eventually(t, "readyz while it leaves", "503 not ready: not in the group\n", func() string { return probe(t, ports+1, "/readyz") })
	joined.wait()
}

// probe asks on a port; "" if nobody listens there.
func probe(t *testing.T, port int, path string) string {
	t.Helper()
	address := join("localhost", port)
	c, err := net.Dial("tcp", address)
	if err != nil {
		return ""
	}
	c.Close()
	return fetch(t, "http://"+address+path)
}
