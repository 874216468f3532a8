package cluster

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// deadUntil is a stream layer whose other side is down for a number of attempts, and then a raft transport that answers.
type deadUntil struct {
	raft.StreamLayer
	attempts, up int
	dial         func() (net.Conn, error)
}

func (d *deadUntil) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) {
	if d.attempts++; d.attempts < d.up {
		return nil, &unreachableError{errors.New("refused")}
	}
	return d.dial()
}

// TestReplicationIsPatient: a leader that keeps a follower waiting after many failures, as raft's back-off does, leaves a node that came
// back without news for up to ten seconds.
func TestReplicationIsPatient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		leads    int // how often the node still leads when it looks
		running  int // how often the node still runs when it looks
		ok       bool
		attempts int
	}{
		{"leader waits", 1000, 1000, true, 100},
		{"follower does not", 0, 1000, false, 1},
		{"leader until it is deposed", 10, 1000, false, 11},
		{"leader until it stops", 1000, 10, false, 11},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			remote, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Second, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer remote.Close()
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				if test.ok {
					rpc := <-remote.Consumer()
					rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
				}
			}()
			layer := &deadUntil{up: 100, dial: func() (net.Conn, error) { return net.Dial("tcp", string(remote.LocalAddr())) }}
			local, err := listen(t.Context(), &Options{Listen: "127.0.0.1:0", Logger: testLogger(t), cut: func() bool { return false }})
			if err != nil {
				t.Fatal(err)
			}
			layer.StreamLayer = local
			transport := &namedTransport{
				NetworkTransport: raft.NewNetworkTransport(layer, 1, time.Second, io.Discard),
				current:          func(_ raft.ServerID, a raft.ServerAddress) raft.ServerAddress { return a },
				patient:          func(raft.ServerID) bool { test.leads--; return test.leads >= 0 },
				wait:             func() bool { test.running--; return test.running >= 0 },
			}
			defer transport.Close()
			defer transport.CloseStreams()
			var resp raft.AppendEntriesResponse
			err = transport.AppendEntries("n", "n:1", &raft.AppendEntriesRequest{}, &resp)
			if (err == nil) != test.ok || resp.Success != test.ok || layer.attempts != test.attempts {
				t.Errorf("got %v, success %t after %d attempts; want ok %t after %d", err, resp.Success, layer.attempts, test.ok, test.attempts)
			}
			<-answered
		})
	}
}
