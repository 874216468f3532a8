package events

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// hangListener is a network that carries nothing any more once frozen is closed, as that of a process that was stopped.
type hangListener struct {
	net.Listener
	frozen, thawed chan struct{}
}

func (l *hangListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hangConn{conn, l}, nil
}

type hangConn struct {
	net.Conn
	l *hangListener
}

func (c *hangConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	select {
	case <-c.l.frozen:
		<-c.l.thawed
	default:
	}
	return n, err
}

// TestPublishAtNodeThatHangs has a node that takes long, and one that does not do anything any more.
func TestPublishAtNodeThatHangs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		hangs   bool
		outcome core.CallOutcome
		want    string // in the error
	}{
		{"takes long", false, core.CallOK, ""},
		{"hangs", true, core.CallUnknown, "hangs"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			hang := &hangListener{Listener: ln, frozen: make(chan struct{}), thawed: make(chan struct{})}
			d, err := core.NewDaemon(hang, core.DaemonOptions{DrainTimeout: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			publish := func(ctx context.Context, _ []any) (any, error) {
				if row.hangs {
					close(hang.frozen)
					<-hang.thawed
				} else {
					pause(ctx, pulseInterval+pulseTimeout+pulseInterval/2) // as with a slow subscriber of the policy block
				}
				return nil, nil
			}
			servant := &core.Servant{Class: "Fake", Methods: []core.Method{
				{Name: "publish_events", Params: []core.Param{{Name: "p"}, {Name: "f"}, {Name: "e"}}, Func: publish}}}
			if _, err := d.Register(ObjectID, servant, core.ObjectOptions{}); err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() { d.Serve(context.WithoutCancel(t.Context())) })
			t.Cleanup(func() {
				close(hang.thawed)
				d.Close()
				serving.Wait()
			})
			ctx, cancel := context.WithTimeout(t.Context(), publishTimeout-time.Second)
			defer cancel()
			err = newTestClient(t, d.Addr().String()).Publish(ctx, "t", 1)
			if core.OutcomeOf(err) != row.outcome || row.want != "" && !strings.Contains(err.Error(), row.want) || ctx.Err() != nil {
				t.Errorf("got %v, want outcome %v and %q, before the time is up", err, row.outcome, row.want)
			}
		})
	}
}
