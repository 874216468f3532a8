package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/events"
)

func newEvents(g *globals) *cobra.Command {
	return newGroup("events", "Publish events and subscribe to them",
		`events publishes events to topics and shows those that others publish.  Each node has an event server; what is published at one is heard at all.

An event is delivered at most once, to those who subscribe at that time.  See docs/events.md.`,
		newEventsPub(g), newEventsSub(g), newEventsTopics(g))
}

// withEvents runs f with a client of the event server.
func (g *globals) withEvents(ctx context.Context, f func(ctx context.Context, c *events.Client) error) error {
	proxy, err := g.secure.client()
	if err != nil {
		return err
	}
	proxy.ConnectTimeout = g.timeout
	c, err := events.NewClient(g.nodes, events.ClientOptions{Proxy: proxy})
	if err != nil {
		return usageError(err, "name the nodes as host:port,host:port")
	}
	defer c.Close()
	err = f(ctx, c)
	if local, ok := errors.AsType[*core.LocalError](err); ok {
		return usageError(local.Err, "see docs/events.md for topics and messages")
	}
	if _, ok := errors.AsType[*core.TransportError](err); ok || errors.Is(err, context.DeadlineExceeded) {
		code, hint := unanswered(err, "--secret-file", hintReach)
		return &failure{code, fmt.Errorf("no answer from %s: %w", strings.Join(g.nodes, ","), rootCause(err)), hint}
	}
	return err
}

func newEventsPub(g *globals) *cobra.Command {
	var allText bool
	cmd := &cobra.Command{
		Use:   "pub TOPIC MESSAGE...|-",
		Short: "Publish an event for each message, or for each line of standard input",
		Long: `pub publishes one event for each MESSAGE; with - one for each line of standard input.  It ends when a node has them all.

A message that is JSON is sent as what it means (5, true, null, [1,2], {"a":1}, "5"), every other one as text; --string sends all as text.`,
		Example: `  pyro-cluster events pub news "hello, world"
  pyro-cluster events pub prices.stock.eur '{"symbol": "ABC", "price": 12.5}'
  tail -f access.log | pyro-cluster events pub log.access - --string`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) < 2:
				return usageError(fmt.Errorf("got %s, want a TOPIC and at least one MESSAGE", count(len(args), "argument")), seeHelp(cmd))
			case args[1] == "-" && len(args) > 2:
				return usageError(errors.New("- and messages exclude each other"), "give one of them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f := callFlags{allText: allText}
			if args[1] == "-" {
				return g.withEvents(cmd.Context(), func(ctx context.Context, c *events.Client) error {
					return f.publishLines(ctx, c, args[0], cmd.InOrStdin())
				})
			}
			ctx, cancel, err := g.context(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			return g.withEvents(ctx, func(ctx context.Context, c *events.Client) error {
				for _, message := range f.values(args[1:]) {
					if err := c.Publish(ctx, args[0], message); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&allText, "string", false, "send all messages as text")
	return without(cmd, "output")
}

// publishLines publishes each line as soon as it is there.
func (f *callFlags) publishLines(ctx context.Context, c *events.Client, topic string, in io.Reader) error {
	lines, failed := readLines(ctx, in)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				if err := <-failed; err != nil {
					return usageError(fmt.Errorf("standard input: %w", err), fmt.Sprintf("give lines of at most %d bytes", events.MaxEventBytes))
				}
				return c.Flush(ctx)
			}
			if err := c.PublishAsync(ctx, topic, f.value(line)); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readLines reads beside its caller, since nothing interrupts a read of a terminal.
func readLines(ctx context.Context, in io.Reader) (lines <-chan string, failed <-chan error) {
	out, end := make(chan string), make(chan error, 1)
	go func() {
		defer close(out)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, events.MaxEventBytes)
		for scanner.Scan() {
			select {
			case out <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
		end <- scanner.Err()
	}()
	return out, end
}

// subFlags are the flags of events sub.
type subFlags struct {
	regex  bool
	count  int
	policy string
	queue  int
}

func newEventsSub(g *globals) *cobra.Command {
	f := &subFlags{policy: string(events.DropOldest)}
	cmd := &cobra.Command{
		Use:   "sub PATTERN...",
		Short: "Print events until interrupted",
		Long: `sub prints the events of topics: time, topic and message, or with -o json one object a line.

A PATTERN is a topic, in which the token * stands for any one token and > at the end for one or more: prices.*.eur, prices.>.  With --regex it is a
regular expression, matched at the beginning of topics.  Case makes no difference.  $cluster.name and $cluster.member have what happens to
names, groups and nodes.  When its node dies, sub goes on with another one of --ns.

Lost events are told on standard error.  --timeout is for the beginning only.`,
		Example: `  pyro-cluster events sub news 'prices.>'
  pyro-cluster events sub --regex '(news|alerts)$' -o json
  pyro-cluster events sub '$cluster.name' '$cluster.member'
  pyro-cluster events sub jobs --count 1 --policy block --queue 10`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError(errors.New("got no arguments, want at least one PATTERN"), seeHelp(cmd))
			case f.count < 0:
				return usageError(fmt.Errorf("--count is %d", f.count), "give a number of events, or 0 for no end")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(g, cmd, args) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.regex, "regex", false, "patterns are regular expressions")
	flags.IntVar(&f.count, "count", 0, "end after this `number` of events; 0 means never")
	flags.Var(&enum{&f.policy, []string{"drop-oldest", "drop-new", "block", "disconnect"}}, "policy", "what happens when the queue is full")
	flags.IntVar(&f.queue, "queue", events.DefaultQueue, "`events` that a node keeps while they are not read")
	return cmd
}

func (f *subFlags) run(g *globals, cmd *cobra.Command, patterns []string) error {
	opts := events.SubscribeOptions{Policy: events.Policy(f.policy), Queue: f.queue}
	if f.regex {
		opts.Expressions = patterns
	} else {
		opts.Topics = patterns
	}
	beginning, cancel, err := g.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	return g.withEvents(cmd.Context(), func(ctx context.Context, c *events.Client) error {
		s, err := c.Subscribe(beginning, opts)
		if err != nil {
			return err
		}
		defer s.Close()
		seen := 0
		for e, err := range s.All(ctx) {
			if lost, ok := errors.AsType[*events.LostError](err); ok {
				fmt.Fprintln(cmd.ErrOrStderr(), "pyro-cluster:", oneLine(lost.Error()))
				continue
			}
			if err != nil {
				return err
			}
			if err := g.printEvent(cmd.OutOrStdout(), &e); err != nil {
				return err
			}
			if seen++; seen == f.count {
				return nil
			}
		}
		return nil
	})
}

// printEvent writes one line.
func (g *globals) printEvent(w io.Writer, e *events.Event) error {
	v, err := e.Message()
	if err != nil {
		return err
	}
	message := jsonable(v)
	if g.output == "json" {
		return encodeLine(w, struct {
			Time    time.Time `json:"time"`
			Topic   string    `json:"topic"`
			Message any       `json:"message"`
		}{e.Time.UTC(), e.Topic, message})
	}
	text, ok := message.(string)
	if _, isText := v.(string); !ok || !isText {
		raw, err := json.Marshal(message)
		if err != nil {
			return err
		}
		text = string(raw)
	}
	_, err = fmt.Fprintf(w, "%s  %s  %s\n", e.Time.Format("15:04:05.000"), strings.Map(printable, e.Topic), strings.Map(printable, text))
	return err
}

func encodeLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// topicRow is a topic or pattern as it is printed.
type topicRow struct {
	Pattern   string `json:"pattern"`
	Kind      string `json:"kind"`
	Streams   int    `json:"streams"`
	Callbacks int    `json:"callbacks"`
	Nodes     int    `json:"nodes"`
	Published uint64 `json:"published"`
}

func newEventsTopics(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "topics",
		Short: "List what is subscribed to and published",
		Long: `topics asks one node.  STREAMS are subscribers of that node, CALLBACKS those of the whole cluster, NODES the other nodes that have streams, PUBLISHED the
events that the node got for the topic since its start.`,
		Example: `  pyro-cluster events topics
  pyro-cluster events topics --ns n2:9090 -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel, err := g.context(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			return g.withEvents(ctx, func(ctx context.Context, c *events.Client) error {
				topics, err := c.Topics(ctx)
				if err != nil {
					return err
				}
				rows := make([]topicRow, len(topics))
				for i, t := range topics {
					rows[i] = topicRow(t)
				}
				return g.print(cmd.OutOrStdout(), rows, func(w io.Writer) {
					row(w, "PATTERN", "KIND", "STREAMS", "CALLBACKS", "NODES", "PUBLISHED")
					for _, r := range rows {
						row(w, r.Pattern, r.Kind, r.Streams, r.Callbacks, r.Nodes, r.Published)
					}
				})
			})
		},
	}
}
