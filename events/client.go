package events

import (
	"context"
	"iter"
	"log/slog"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// ClientOptions set up a [Client]; the zero value is useful.
type ClientOptions struct {
	// Proxy is for the connections to nodes; Serializer, Resolver and MaxConns are not used.
	Proxy core.ProxyOptions
	// Logger gets changes of the node; nil discards them.
	Logger *slog.Logger
}

// Client publishes and subscribes.  It is given several nodes of one cluster and works with any that answers: when its node dies, it goes on
// with another one.  Its methods are safe for concurrent use.
type Client struct{}

// NewClient returns a client for nodes given as host or host:port (the port of Pyro clients, 9090 by default); it does no I/O.
func NewClient(nodes []string, opts ClientOptions) (*Client, error) { panic("stub") }

// Publish publishes a message, any value that [core.Proxy.Call] takes as an argument, and waits until a node has it.  Calls of several goroutines
// share messages to the node.  The order of a program's events is that in which it calls Publish.
//
// On error the event may have been published: a *[core.TransportError] with Written says so.  It is never sent twice: what a node surely
// did not get goes to another one until ctx ends.
func (c *Client) Publish(ctx context.Context, topic string, message any) error { panic("stub") }

// PublishAsync is Publish without the wait; it waits only for room in the client's buffer.  Flush tells the first error.
func (c *Client) PublishAsync(ctx context.Context, topic string, message any) error { panic("stub") }

// Flush waits until nodes have all that was published before, and returns the first error since the last Flush.
func (c *Client) Flush(ctx context.Context) error { panic("stub") }

// SubscribeOptions say what to subscribe to.
type SubscribeOptions struct {
	Topics      []string // exact, or with wildcard tokens: "prices.*.eur", "prices.>"
	Expressions []string // regular expressions of Python, case-insensitive, matched at the beginning of a topic
	Policy      Policy   // empty means DropOldest
	Queue       int      // events; zero means DefaultQueue
}

// Subscribe returns a subscription once a node has it: events published from then on, through any node of the cluster, are heard.
func (c *Client) Subscribe(ctx context.Context, opts SubscribeOptions) (*Subscription, error) {
	panic("stub")
}

// Topics lists what is subscribed to and published, as far as the node that is asked knows.
func (c *Client) Topics(ctx context.Context) ([]TopicInfo, error) { panic("stub") }

// Close ends all subscriptions.
func (c *Client) Close() error { panic("stub") }

// TopicInfo describes a pattern that is subscribed to, or a topic that was published to.
type TopicInfo struct {
	Pattern   string // "news", "prices.>" or a regular expression
	Kind      string // "topic", "wildcard" or "expression"
	Streams   int    // subscribers of this node
	Callbacks int    // subscribers of the cluster
	Nodes     int    // other nodes with streams for it
	Published uint64 // events that this node got from publishers, for a topic
}

// Subscription is a stream of events.  Next and All are for one goroutine at a time; Close may be called by any.
type Subscription struct{}

// Next returns the next event.  A *[LostError] tells of events that were lost at this place, and is not the end.  Other errors are: ctx's when
// it ended (the subscription goes on), [core.ErrClosed] after Close, and a *[EndedError] when the policy Disconnect ended it.
// While no node answers, Next waits.
func (s *Subscription) Next(ctx context.Context) (Event, error) { panic("stub") }

// All returns the events until ctx ends, or the subscription; the last error is yielded if it is not that of ctx.  After a *[LostError] the
// loop can go on.
func (s *Subscription) All(ctx context.Context) iter.Seq2[Event, error] { panic("stub") }

// Close ends the subscription.
func (s *Subscription) Close() error { panic("stub") }

// LostError tells a subscriber that events are missing.
type LostError struct {
	Count  uint64 // zero if nobody knows how many, perhaps none
	Reason string // "queue full", "node n2 lost, now at n3"
}

func (e *LostError) Error() string { panic("stub") }

// EndedError tells a subscriber that its node ended the subscription.
type EndedError struct{ Reason string }

func (e *EndedError) Error() string { return "events: subscription ended: " + e.Reason }
