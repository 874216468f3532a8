package naming

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// spec: D3 G1
func TestReadEnvironment(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		vars map[string]string
		want environment
		bad  bool
	}{
		{"none set", nil, environment{"localhost", 9090, []string{"255.255.255.255", "0.0.0.0"}, 9091}, false},
		{"all set", map[string]string{
			"PYRO_NS_HOST": "h", "PYRO_NS_PORT": "1", "PYRO_NS_BCPORT": "2", "PYRO_BROADCAST_ADDRS": "10.0.0.1, 10.0.0.2,,<broadcast>",
		}, environment{"h", 1, []string{"10.0.0.1", "10.0.0.2", "255.255.255.255"}, 2}, false},
		{"port", map[string]string{"PYRO_NS_PORT": "x"}, environment{}, true},
		{"port 0", map[string]string{"PYRO_NS_PORT": "0"}, environment{}, true},
		{"broadcast port", map[string]string{"PYRO_NS_BCPORT": "70000"}, environment{}, true},
	}
	for _, tt := range tests {
		got, err := readEnvironment(func(name string) string { return tt.vars[name] })
		if tt.bad {
			if err == nil {
				t.Errorf("%s: got no error", tt.name)
			}
		} else if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestLocateNodes(t *testing.T) {
	t.Parallel()
	n := startNode(t, newFakeStore())
	c, err := Locate(t.Context(), []string{freeAddress(t), n.address}, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if count, err := c.Count(t.Context()); err != nil || count != 1 {
		t.Errorf("count: got %d, %v, want 1", count, err)
	}
	if _, err := Locate(t.Context(), []string{"h:x"}, ClientOptions{}); err == nil || errors.Is(err, ErrNoNameServer) {
		t.Errorf("bad address: got %v, want its error", err)
	}
	_, err = Locate(t.Context(), []string{freeAddress(t)}, ClientOptions{Timeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrNoNameServer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody there: got %v, want ErrNoNameServer for the deadline", err)
	}
}

// directly returns an environment in which the direct way leads to address, and nobody is asked.
func directly(t *testing.T, address string) environment {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return environment{host: host, port: n}
}

func TestLocateOnThisHost(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]string{
		"node":              startNode(t, newFakeStore()).address,
		"stock name server": startStock(t, nil),
	} {
		c, err := directly(t, address).locate(t.Context(), ClientOptions{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !c.addresses[address] || len(c.addresses) != 1 {
			t.Errorf("%s: got %v, want %s", name, c.addresses, address)
		}
		c.Close()
	}
}

// The node that answers the broadcast tells of the other, so the client goes on when it dies.
//
// spec: D3
func TestLocateByBroadcast(t *testing.T) {
	t.Parallel()
	store := newFakeStore()
	first, second := startNode(t, store), startNode(t, store)
	admin := &fakeAdmin{nodes: []NodeInfo{{ID: "1", PyroAddress: first.address}, {ID: "2", PyroAddress: second.address}, {ID: "3"}}}
	if _, err := first.Register(AdminID, AdminServant(admin), core.ObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	env := directly(t, freeAddress(t))
	env.broadcast = []string{"::1", "127.0.0.1"}
	env.broadcastPort = startResponder(t, first.URI(ObjectID), always).Port
	c, err := env.locate(t.Context(), ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if want := map[string]bool{first.address: true, second.address: true}; !reflect.DeepEqual(c.addresses, want) {
		t.Errorf("nodes: got %v, want %v", c.addresses, want)
	}
	first.kill()
	if err := c.Ping(t.Context()); err != nil {
		t.Errorf("after the death of the first node: %v", err)
	}
}

func TestLocateNothing(t *testing.T) {
	t.Parallel()
	_, err := directly(t, freeAddress(t)).locate(t.Context(), ClientOptions{Timeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrNoNameServer) {
		t.Errorf("got %v, want ErrNoNameServer", err)
	}
}

func TestReceiveIgnoresOthers(t *testing.T) {
	t.Parallel()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	sender, err := net.Dial("udp4", conn.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for _, text := range []string{"", "nonsense", "PYRO:other@h:1", "PYRONAME:Pyro.NameServer@h", "PYRO:Pyro.NameServer@./u:x", "PYRO:Pyro.NameServer@good:7"} {
		if _, err := sender.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if node, ok := receive(conn, time.Now().Add(10*time.Second)); !ok || node != "good:7" {
		t.Errorf("got %q, %v, want good:7", node, ok)
	}
}
