package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/naming"
)

func newCluster(g *globals) *cobra.Command {
	return newGroup("cluster", "The nodes of the cluster", "cluster shows and manages the nodes of the name server.",
		newClusterMembers(g), newClusterLeader(g), newClusterTransfer(g), newClusterRemove(g))
}

func newClusterMembers(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Short:   "List the nodes",
		Example: "  pyro-cluster cluster members\n  pyro-cluster cluster members -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				nodes, err := c.Nodes(ctx)
				if err != nil {
					return err
				}
				slices.SortFunc(nodes, func(a, b naming.NodeInfo) int { return cmp.Compare(a.PyroAddress, b.PyroAddress) })
				return g.print(cmd.OutOrStdout(), nodes, func(w io.Writer) {
					row(w, "ID", "ROLE", "PYRO", "RAFT", "HTTP", "VERSION")
					for _, n := range nodes {
						row(w, n.ID, n.Role, n.PyroAddress, n.RaftAddress, n.HTTPAddress, n.Version)
					}
				})
			})
		},
	}
}

func newClusterLeader(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "leader",
		Short:   "Print the leader's host:port for clients",
		Example: "  pyro-cluster cluster leader --ns n1:9090,n2:9090,n3:9090",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				leader, err := findLeader(ctx, c)
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), leader, func(w io.Writer) { fmt.Fprintln(w, leader.PyroAddress) })
			})
		},
	}
}

// findLeader asks until there is a leader that is known to clients: the nodes of a new cluster lead first and publish their addresses
// then.
func findLeader(ctx context.Context, c *naming.Client) (naming.NodeInfo, error) {
	for {
		nodes, err := c.Nodes(ctx)
		if err != nil {
			return naming.NodeInfo{}, err
		}
		for _, n := range nodes {
			if n.Role == naming.RoleLeader && n.PyroAddress != "" {
				return n, nil
			}
		}
		select {
		case <-ctx.Done():
			return naming.NodeInfo{}, &failure{exitUnreachable, errors.New("there is no leader now"), "check that a majority of the nodes runs"}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func newClusterTransfer(g *globals) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "transfer",
		Short: "Hand leadership to another node",
		Example: `  pyro-cluster cluster transfer
  pyro-cluster cluster transfer --to n-7e537397`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				if err := c.TransferLeadership(ctx, to); err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), map[string]bool{"ok": true}, func(w io.Writer) { fmt.Fprintln(w, "leadership handed over") })
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`id` of the node to lead (default: the voter that is most up to date)")
	return cmd
}

func newClusterRemove(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "Take a node out of the cluster for good",
		Long: `remove takes a node out of the cluster.  It stops by itself, if it runs, and its id is never accepted again: to come back it needs an
empty data directory.  A removal that would leave too few nodes for a majority is refused.`,
		Example: "  pyro-cluster cluster remove n-7e537397",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				if err := c.RemoveNode(ctx, args[0]); err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), map[string]string{"removed": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "removed %s\n", args[0]) })
			})
		},
	}
}
