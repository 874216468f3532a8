package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

func newNS(g *globals) *cobra.Command {
	return newGroup("ns", "Names and object groups",
		"ns reads and changes what is registered: names of objects, and object groups, which are several servers behind one name.",
		newNSList(g), newNSLookup(g), newNSRegister(g), newNSRemove(g), newNSSetMetadata(g), newNSYPLookup(g), newNSPing(g),
		newNSMembers(g), newNSJoin(g), newNSLeave(g))
}

// nameRow is a name as it is printed.
type nameRow struct {
	Name string   `json:"name"`
	URI  string   `json:"uri"`
	Tags []string `json:"tags"`
}

func rowOf(e naming.Entry) nameRow {
	return nameRow{e.Name, e.URI.String(), append([]string{}, e.Tags...)} // never null in JSON
}

func newNSList(g *globals) *cobra.Command {
	var q naming.Query
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List names",
		Example: `  pyro-cluster ns list
  pyro-cluster ns list --prefix shop.
  pyro-cluster ns list --regex '.*\.stock$' -o json`,
		Args: cobra.MatchAll(exactly(), exclusive("prefix", "regex", "all", "any")),
		RunE: func(cmd *cobra.Command, _ []string) error { return g.list(cmd, q) },
	}
	addPatternFlags(cmd, &q)
	addTagFlags(cmd, &q)
	return cmd
}

func newNSYPLookup(g *globals) *cobra.Command {
	var q naming.Query
	cmd := &cobra.Command{
		Use:   "yplookup --all|--any TAG,...",
		Short: "List names by their tags (yellow pages)",
		Example: `  pyro-cluster ns yplookup --all printer,floor:3
  pyro-cluster ns yplookup --any printer,plotter`,
		Args: cobra.MatchAll(exactly(), oneOf("all", "any")),
		RunE: func(cmd *cobra.Command, _ []string) error { return g.list(cmd, q) },
	}
	addTagFlags(cmd, &q)
	return cmd
}

func addPatternFlags(cmd *cobra.Command, q *naming.Query) {
	cmd.Flags().StringVar(&q.Prefix, "prefix", "", "names that begin with this `text`")
	cmd.Flags().StringVar(&q.Regex, "regex", "", "names that match this regular `expression` from their beginning")
}

func addTagFlags(cmd *cobra.Command, q *naming.Query) {
	cmd.Flags().StringSliceVar(&q.All, "all", nil, "names that have all these `tags`")
	cmd.Flags().StringSliceVar(&q.Any, "any", nil, "names that have any of these `tags`")
}

// list prints the names that q selects, sorted.
func (g *globals) list(cmd *cobra.Command, q naming.Query) error {
	return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
		names, err := c.List(ctx, q)
		if err != nil {
			return err
		}
		entries := maps.Collect(names)
		rows := make([]nameRow, 0, len(entries))
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			rows = append(rows, rowOf(entries[name]))
		}
		return g.printNames(cmd.OutOrStdout(), rows)
	})
}

func (g *globals) printNames(w io.Writer, rows []nameRow) error {
	return g.print(w, rows, func(w io.Writer) {
		row(w, "NAME", "URI", "TAGS")
		for _, r := range rows {
			row(w, r.Name, r.URI, tagList(r.Tags))
		}
	})
}

func newNSLookup(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "lookup NAME",
		Short: "Print the URI of a name; of a group, that of one live member",
		Example: `  pyro-cluster ns lookup bank
  pyro-cluster ns lookup bank -o json`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				e, err := c.Lookup(ctx, args[0])
				if err != nil {
					return err
				}
				return g.print(cmd.OutOrStdout(), rowOf(e), func(w io.Writer) { fmt.Fprintln(w, e.URI) })
			})
		},
	}
}

func newNSRegister(g *globals) *cobra.Command {
	var tags []string
	var force bool
	var from string
	cmd := &cobra.Command{
		Use:   "register NAME URI | --from FILE",
		Short: "Register a name, or many",
		Long: `register gives an object a name.  A name that exists is left alone, as by pyro5-nsc, unless --force is given.

With --from it registers the names in a file, or in standard input (-): lines of NAME URI [TAG...].  Each is reported as soon as it is registered, so
that another program can feed it; --timeout is that of each name.  Lines that are refused do not stop it, a missing answer does.`,
		Example: `  pyro-cluster ns register bank PYRO:bank@db1.example.org:7000
  pyro-cluster ns register bank PYRO:bank@db2.example.org:7000 --force --tag branch:1
  pyro-cluster ns register --from names.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from") {
				return exactly()(cmd, args)
			}
			return exactly("NAME", "URI")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts := naming.RegisterOptions{Safe: !force, Tags: tags}
			if cmd.Flags().Changed("from") {
				return g.registerFrom(cmd, from, opts)
			}
			return g.register(cmd, args[0], args[1], opts)
		},
	}
	cmd.Flags().StringSliceVar(&tags, "tag", nil, "`tags` of the name")
	cmd.Flags().BoolVar(&force, "force", false, "replace the name if it exists")
	cmd.Flags().StringVar(&from, "from", "", "register the names in the lines of a `file`; - is standard input")
	return cmd
}

func (g *globals) register(cmd *cobra.Command, name, address string, opts naming.RegisterOptions) error {
	uri, err := parseURI(address)
	if err != nil {
		return err
	}
	return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
		if err := c.Register(ctx, name, uri, opts); err != nil {
			return err
		}
		row := nameRow{name, uri.String(), append([]string{}, opts.Tags...)}
		return g.print(cmd.OutOrStdout(), row, func(w io.Writer) { fmt.Fprintf(w, "registered %s\n", name) })
	})
}

// parseURI reads a URI in any form that people type, as long as a Python program can be given it.
func parseURI(s string) (core.URI, error) {
	ref, err := core.ParseReference(s)
	if err != nil {
		return core.URI{}, usageError(badReference(s, err), "give a URI such as PYRO:object@host:port")
	}
	if len(ref.Locations) > 1 {
		return core.URI{}, usageError(fmt.Errorf("%s has several locations", s), `register one of them, or make a group with "pyro-cluster ns join"`)
	}
	return ref.URIs()[0], nil
}

// badReference says what is wrong with an object's address, without the class that Pyro gives the error.
func badReference(s string, err error) error {
	if e, ok := errors.AsType[*core.RemoteError](err); ok {
		err = errors.New(e.Text())
	}
	return fmt.Errorf("%q: %w", s, err)
}

func newNSRemove(g *globals) *cobra.Command {
	var q naming.Query
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove NAME | --prefix TEXT | --regex EXPRESSION",
		Short: "Remove names",
		Example: `  pyro-cluster ns remove bank
  pyro-cluster ns remove --prefix test. --yes`,
		Args: exclusive("prefix", "regex"), // how many arguments depends on the flags
		RunE: func(cmd *cobra.Command, args []string) error {
			if q.Prefix == "" && q.Regex == "" {
				if err := exactly("NAME")(cmd, args); err != nil {
					return err
				}
				return g.removeName(cmd, args[0])
			}
			if err := exactly()(cmd, args); err != nil {
				return err
			}
			return g.removeMatching(cmd, q, yes)
		},
	}
	addPatternFlags(cmd, &q)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask before removing several names")
	return cmd
}

func (g *globals) removeName(cmd *cobra.Command, name string) error {
	return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
		removed, err := c.Remove(ctx, name)
		if err != nil {
			return err
		}
		if !removed {
			return &failure{exitNotFound, fmt.Errorf("unknown name: %s", name), `see "pyro-cluster ns list"`}
		}
		return g.printRemoved(cmd, 1)
	})
}

func (g *globals) printRemoved(cmd *cobra.Command, n int) error {
	value := struct {
		Removed int `json:"removed"`
	}{n}
	return g.print(cmd.OutOrStdout(), value, func(w io.Writer) { fmt.Fprintf(w, "removed %s\n", count(n, "name")) })
}

func (g *globals) removeMatching(cmd *cobra.Command, q naming.Query, yes bool) error {
	if !yes {
		if err := g.confirmRemoval(cmd, q); err != nil {
			return err
		}
	}
	return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
		n, err := c.RemoveAll(ctx, q)
		if err != nil {
			return err
		}
		return g.printRemoved(cmd, n)
	})
}

// confirmRemoval shows how many names would go and asks.  The time for the answer does not count against --timeout.
func (g *globals) confirmRemoval(cmd *cobra.Command, q naming.Query) error {
	found := 0
	err := g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
		names, err := c.List(ctx, q)
		if err != nil {
			return err
		}
		for range names {
			found++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if found == 0 {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "remove %s? [y/N] ", count(found, "name"))
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr()) // the input has ended, and nobody typed the end of the line; no answer is a no
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{exitFailed, errors.New("nothing removed"), "answer y, or give --yes"}
}

func newNSSetMetadata(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "set-metadata NAME [TAG...]",
		Short: "Replace the tags of a name; without tags, clear them",
		Example: `  pyro-cluster ns set-metadata bank branch:1 open
  pyro-cluster ns set-metadata bank`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError(errors.New("got 0 arguments, want NAME [TAG...]"), seeHelp(cmd))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				name, tags := args[0], slices.Compact(slices.Sorted(slices.Values(args[1:])))
				if err := c.SetTags(ctx, name, tags); err != nil {
					return err
				}
				value := struct {
					Name string   `json:"name"`
					Tags []string `json:"tags"`
				}{name, append([]string{}, tags...)}
				return g.print(cmd.OutOrStdout(), value, func(w io.Writer) { fmt.Fprintf(w, "%s has %s\n", name, count(len(tags), "tag")) })
			})
		},
	}
}

func newNSPing(g *globals) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "ping",
		Short: "Exit with 0 if the name server works",
		Long:  "ping does a linearizable read, which takes a leader and a majority of the nodes.  With --wait it tries until that works.",
		Example: `  pyro-cluster ns ping
  pyro-cluster ns ping --wait 30s --ns n1:9090,n2:9090,n3:9090`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.ping(cmd, wait); err != nil {
				return err
			}
			return g.print(cmd.OutOrStdout(), map[string]bool{"ok": true}, func(w io.Writer) { fmt.Fprintln(w, "ok") })
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "`how long` to try; 0 means once, within --timeout")
	return cmd
}

// ping asks until there is an answer or wait is over.
func (g *globals) ping(cmd *cobra.Command, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for {
		err := g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
			if wait > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, deadline)
				defer cancel()
			}
			return c.Ping(ctx)
		})
		if code, _ := classify(err); err == nil || code != exitUnreachable || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return context.Cause(cmd.Context())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// memberRow is a member of a group as it is printed.
type memberRow struct {
	Member string `json:"member"`
	URI    string `json:"uri"`
	Zone   string `json:"zone"`
	Weight int    `json:"weight"`
	Alive  bool   `json:"alive"`
}

func newNSMembers(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "members GROUP",
		Short:   "List the members of an object group",
		Example: "  pyro-cluster ns members jokegen",
		Args:    exactly("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				group, err := c.Group(ctx, args[0])
				if err != nil {
					return err
				}
				rows := make([]memberRow, len(group.Members))
				for i, m := range group.Members {
					rows[i] = memberRow{m.ID, m.URI.String(), m.Zone, max(m.Weight, 1), m.Alive}
				}
				return g.print(cmd.OutOrStdout(), rows, func(w io.Writer) {
					row(w, "MEMBER", "URI", "ZONE", "WEIGHT", "ALIVE")
					for _, r := range rows {
						row(w, r.Member, r.URI, r.Zone, r.Weight, r.Alive)
					}
				})
			})
		},
	}
}

func newNSJoin(g *globals) *cobra.Command {
	var opts naming.JoinOptions
	cmd := &cobra.Command{
		Use:   "join GROUP URI",
		Short: "Add a server to an object group; the first one makes the group",
		Example: `  pyro-cluster ns join bank PYRO:bank@db1.example.org:7000 --member db1
  pyro-cluster ns join bank PYRO:bank@db2.example.org:7000 --member db2 --zone east`,
		Args: exactly("GROUP", "URI"),
		RunE: func(cmd *cobra.Command, args []string) error {
			uri, err := parseURI(args[1])
			if err != nil {
				return err
			}
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				member, err := c.Join(ctx, args[0], uri, opts)
				if err != nil {
					return err
				}
				value := map[string]string{"group": args[0], "member": member}
				return g.print(cmd.OutOrStdout(), value, func(w io.Writer) { fmt.Fprintln(w, member) })
			})
		},
	}
	cmd.Flags().StringVar(&opts.Member, "member", "", "`id` of the member; a second join with it replaces the first (default: the URI)")
	cmd.Flags().StringVar(&opts.Zone, "zone", "", "`zone` in which the server runs")
	cmd.Flags().IntVar(&opts.Weight, "weight", 1, "its share of the calls")
	return cmd
}

func newNSLeave(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "leave GROUP MEMBER",
		Short:   "Take a server out of an object group",
		Example: "  pyro-cluster ns leave bank db1",
		Args:    exactly("GROUP", "MEMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.withClient(cmd, func(ctx context.Context, c *naming.Client) error {
				left, err := c.Leave(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				if !left {
					return &failure{exitNotFound, fmt.Errorf("group %s has no member %s", args[0], args[1]),
						fmt.Sprintf(`see "pyro-cluster ns members %s"`, args[0])}
				}
				value := map[string]string{"group": args[0], "member": args[1]}
				return g.print(cmd.OutOrStdout(), value, func(w io.Writer) { fmt.Fprintf(w, "%s left %s\n", args[1], args[0]) })
			})
		},
	}
}
