package naming

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// failingConn is a socket whose reads fail at once.
type failingConn struct {
	net.PacketConn
	reads int
}

func (c *failingConn) ReadFrom([]byte) (int, net.Addr, error) {
	c.reads++
	if c.reads > 1000 {
		return 0, nil, net.ErrClosed
	}
	return 0, nil, errors.New("no buffer space")
}

func (c *failingConn) SetReadDeadline(time.Time) error { return nil }

func TestRespondPausesWhenReadingFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &failingConn{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		uri := core.URI{Protocol: "PYRO", Object: ObjectID, Host: "localhost", Port: 9090}
		if err := Respond(ctx, c, uri, func() bool { return true }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the end of the context", err)
		}
		if c.reads < 2 || c.reads > 30 {
			t.Errorf("read %d times in a second, want about 20", c.reads)
		}
	})
}
