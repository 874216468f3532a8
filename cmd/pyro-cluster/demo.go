package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// demoGroup is the object group that dev serves.
const demoGroup = "jokegen"

// jokes is one replica of the demo object, the one of Pyro's own tutorial.
type jokes struct {
	replica string
	told    atomic.Int64
}

// Joke tells a joke about name.
func (j *jokes) Joke(name string) string {
	n := j.told.Add(1)
	return fmt.Sprintf("%s walks into a cluster and asks for the leader. \"Which one?\" say two of three nodes: \"we agreed on a new one.\" (%s, joke %d)",
		name, j.replica, n)
}

// Who tells which replica answers.
func (j *jokes) Who() string { return j.replica }

// newReplica returns a daemon that serves the demo object on a free port of this machine.
func newReplica(id string) (*core.Daemon, core.URI, error) {
	d, err := core.Listen("localhost:0", core.DaemonOptions{Advertise: "localhost"})
	if err != nil {
		return nil, core.URI{}, err
	}
	uri, err := d.Register(demoGroup, &jokes{replica: id}, core.ObjectOptions{
		Params: map[string][]string{"joke": {"name"}},
		// A joke may be told twice, so that a call whose answer got lost is made again with another replica.
		Contracts: map[string]core.Contract{"joke": core.ContractIdempotent, "who": core.ContractReadOnly},
	})
	if err != nil {
		d.Close()
		return nil, core.URI{}, err
	}
	return d, uri, nil
}

// checkNode asks one node for the group and calls what it names, as a stock Pyro5 program does.
func (g *globals) checkNode(ctx context.Context, address string) error {
	c, err := g.clientOf([]string{address})
	if err != nil {
		return err
	}
	defer c.Close()
	entry, err := c.Lookup(ctx, demoGroup)
	if err != nil {
		return fmt.Errorf("look up %s at %s: %w", demoGroup, address, err)
	}
	p := core.NewProxy(entry.URI, core.ProxyOptions{})
	defer p.Close()
	var joke string
	if err := p.Call(ctx, "joke", &joke, "Irmen"); err != nil {
		return fmt.Errorf("call %s: %w", entry.URI, err)
	}
	return nil
}
