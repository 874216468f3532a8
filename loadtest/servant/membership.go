package servant

import (
	"context"
	"fmt"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// membership is the place of a servant in its group; the zero value is that of one which joins none.
type membership struct {
	client        *naming.Client // nil if it joins none
	group, member string
}

func newMembership(opts Options) (*membership, error) {
	if len(opts.Nodes) == 0 || opts.Group == "" {
		return &membership{}, nil
	}
	client, err := naming.NewClient(opts.Nodes, naming.ClientOptions{Proxy: opts.Names})
	if err != nil {
		return nil, err
	}
	return &membership{client: client, group: opts.Group, member: opts.Member}, nil
}

func (m *membership) join(ctx context.Context, uri core.URI) error {
	if m.client == nil {
		return nil
	}
	if _, err := m.client.Join(ctx, m.group, uri, naming.JoinOptions{Member: m.member}); err != nil {
		return fmt.Errorf("servant: join group %s: %w", m.group, err)
	}
	return nil
}

// leave takes the member out, by its URI: a successor with the same id at another address stays.
func (m *membership) leave(ctx context.Context, uri core.URI) error {
	if m.client == nil {
		return nil
	}
	if _, err := m.client.Leave(ctx, m.group, uri.String()); err != nil {
		return fmt.Errorf("servant: leave group %s: %w", m.group, err)
	}
	return nil
}

// forget undoes a join that was broken off and may have happened.  If nobody answers soon there most likely is no name server; else the
// name server will find out that the member is dead.
func (m *membership) forget(ctx context.Context, uri core.URI) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = m.leave(ctx, uri)
}

func (m *membership) close() error {
	if m.client == nil {
		return nil
	}
	return m.client.Close()
}
