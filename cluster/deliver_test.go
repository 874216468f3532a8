package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// mailbox handles messages.
type mailbox struct {
	mu  sync.Mutex // guards got
	got []string
}

func (m *mailbox) handle(_ context.Context, from string, body []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, from+": "+string(body))
	if string(body) == "refuse" {
		return nil, errors.New("not this one")
	}
	return append([]byte("answer to "), body...), nil
}

func TestSend(t *testing.T) {
	t.Parallel()
	boxes := make([]mailbox, 3)
	nodes := newCluster(t, 3, func(i int, o *Options) { o.Message = boxes[i].handle })
	for i, from := range nodes {
		for j, to := range nodes {
			if i == j {
				continue
			}
			body := fmt.Sprintf("%d to %d", i, j)
			answer, err := from.Send(t.Context(), to.ID(), []byte(body))
			if err != nil || string(answer) != "answer to "+body {
				t.Errorf("%s: got %q, %v", body, answer, err)
			}
			if want := from.ID() + ": " + body; !slices.Contains(boxes[j].got, want) {
				t.Errorf("node %d got %q, want %q", j, boxes[j].got, want)
			}
		}
	}
	if _, err := nodes[0].Send(t.Context(), nodes[1].ID(), []byte("refuse")); err == nil || !strings.Contains(err.Error(), "not this one") ||
		errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("refused message: got %v, want the error of who handled it", err)
	}
	large := bytes.Repeat([]byte("x"), MaxMessage-len("answer to "))
	if answer, err := nodes[0].Send(t.Context(), nodes[1].ID(), large); err != nil || len(answer) != MaxMessage {
		t.Errorf("largest message: got %d bytes, %v", len(answer), err)
	}
}

func TestSendRefuses(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 2, func(i int, o *Options) {
		if i == 0 {
			o.Message = new(mailbox).handle
		}
	})
	tests := []struct {
		name string
		to   string
		body []byte
		want string
	}{
		{"unknown node", "nobody", nil, ErrUnknownNode.Error()},
		{"too large", nodes[1].ID(), make([]byte, MaxMessage+1), "want at most"},
		{"answer too large", nodes[0].ID(), make([]byte, MaxMessage), "answer of"},
		{"takes none", nodes[1].ID(), nil, "takes no messages"},
	}
	for _, tc := range tests {
		from := nodes[0]
		if tc.to == nodes[0].ID() {
			from = nodes[1]
		}
		_, err := from.Send(t.Context(), tc.to, tc.body)
		if err == nil || !strings.Contains(err.Error(), tc.want) || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

// The sender of a message to a node that ends does not hang; one to a node that is down was surely not handled.
func TestSendToDeadNode(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{}, 1)
	nodes := newCluster(t, 3, func(i int, o *Options) {
		o.Message = func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			entered <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		_, err := nodes[0].Send(ctx, nodes[1].ID(), []byte("hello"))
		sent <- err
	}()
	<-entered
	nodes[1].Close()
	if err := <-sent; err == nil {
		t.Error("message under way: got no error")
	}
	eventually(t, "message to a node that is known to be down", func() error {
		if _, err := nodes[0].Send(ctx, nodes[1].ID(), []byte("hello")); err == nil || errors.Is(err, ErrUnknownOutcome) {
			return fmt.Errorf("got %v, want that it was not handled", err)
		}
		return nil
	})
}

// Who sets no deadline gives the other node the time it needs.
func TestSendWithoutDeadline(t *testing.T) {
	t.Parallel()
	deadline := make(chan time.Time, 1)
	nodes := newCluster(t, 2, func(_ int, o *Options) {
		o.Message = func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			d, _ := ctx.Deadline()
			deadline <- d
			return nil, ctx.Err()
		}
	})
	if _, err := nodes[0].Send(t.Context(), nodes[1].ID(), nil); err != nil {
		t.Fatal(err)
	}
	if d := <-deadline; time.Until(d) < time.Hour {
		t.Errorf("the handler has until %v, want no end in sight", d)
	}
}

// A node that is not part of a cluster yet neither sends nor remembers a connection that could not say where it belongs.
func TestSendBeforeFormation(t *testing.T) {
	t.Parallel()
	addresses := freeAddresses(t, 3)
	n := open(t, testOptions(t, addresses[0], 3, addresses))
	if _, err := n.Send(t.Context(), "other", nil); err == nil || !strings.Contains(err.Error(), "not part of a cluster yet") ||
		errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v, want that it is not part of a cluster yet", err)
	}
}

// A node that was started again, at another address too, gets messages.
func TestSendAfterRestart(t *testing.T) {
	t.Parallel()
	nodes := newCluster(t, 3, func(_ int, o *Options) { o.Message = new(mailbox).handle })
	if _, err := nodes[0].Send(t.Context(), nodes[1].ID(), nil); err != nil {
		t.Fatal(err)
	}
	nodes[1].Close()
	again := reopen(t, nodes[1])
	eventually(t, "message to the node that was restarted", func() error {
		_, err := nodes[0].Send(t.Context(), again.ID(), nil)
		return err
	})
}

func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	told := make([][]fsm.Change, 2)
	nodes := newCluster(t, 2, func(i int, o *Options) {
		o.Changes = func(changes []fsm.Change) {
			mu.Lock()
			defer mu.Unlock()
			told[i] = append(told[i], changes...)
		}
	})
	register(t, nodes[0], "told")
	for i := range nodes {
		eventually(t, "change at a node", func() error {
			mu.Lock()
			defer mu.Unlock()
			if !slices.ContainsFunc(told[i], func(c fsm.Change) bool { return c.Kind == fsm.ChangeNameSet && c.Name == "told" }) {
				return fmt.Errorf("node %d was told of %d changes, none of the name", i, len(told[i]))
			}
			return nil
		})
	}
}
