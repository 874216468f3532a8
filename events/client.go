package events

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	nodePause  = 20 * time.Millisecond // between two rounds over nodes that do not answer; grows to maxPause
	maxPause   = time.Second
	openLimit  = 10 * time.Second // for a subscription to be made
	closeLimit = time.Second      // for a node to be told that a subscription ended
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
type Client struct {
	nodes     []core.URI // of their event servers
	opts      ClientOptions
	publisher publisher

	ctx    context.Context // ends with the client
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // guards closed, so that nothing begins after Close
	closed bool
}

// NewClient returns a client for nodes given as host or host:port (the port of Pyro clients, 9090 by default); it does no I/O.
func NewClient(nodes []string, opts ClientOptions) (*Client, error) {
	if len(nodes) == 0 {
		return nil, errors.New("events: no nodes given")
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.Proxy.Serializer, opts.Proxy.Resolver, opts.Proxy.MaxConns = defaultMessage, nil, 1
	c := &Client{opts: opts}
	for _, node := range nodes {
		uri, err := core.ParseURI("PYRONAME:" + ObjectID + "@" + node) // the form with a default port
		if err != nil {
			return nil, fmt.Errorf("events: node %q: want host or host:port: %w", node, err)
		}
		uri.Protocol = "PYRO"
		c.nodes = append(c.nodes, uri)
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.publisher.init()
	rand.Read(c.publisher.id[:])
	return c, nil
}

// start runs f until the client is closed; false if it is closed already.
func (c *Client) start(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
	return !c.closed
}

// until returns a context that ends with ctx, with the client, or after limit.
func (c *Client) until(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, giveUp := context.WithCancelCause(ctx)
	if c.ctx.Err() != nil {
		giveUp(core.ErrClosed) // at once, which AfterFunc does not
	}
	stop := context.AfterFunc(c.ctx, func() { giveUp(core.ErrClosed) })
	ctx, cancel := context.WithTimeout(ctx, limit)
	return ctx, func() { cancel(); stop(); giveUp(nil) }
}

// Topics lists what is subscribed to and published, as far as the node that is asked knows: the first one that answers.
func (c *Client) Topics(ctx context.Context) (list []TopicInfo, err error) {
	for at := range c.rounds() {
		list, err = c.topicsOf(ctx, c.nodes[at])
		if err == nil || !elsewhere(err) && core.OutcomeOf(err) != core.CallUnknown || ctx.Err() != nil {
			break
		}
	}
	return list, err
}

func (c *Client) topicsOf(ctx context.Context, node core.URI) (list []TopicInfo, err error) {
	proxy := core.NewProxy(node, c.opts.Proxy)
	defer proxy.Close()
	ctx, cancel := c.until(ctx, askLimit)
	defer cancel()
	err = proxy.Call(ctx, "topics", &list)
	return list, err
}

// rounds goes through the nodes once, from a random one on, so that clients spread.
func (c *Client) rounds() iter.Seq[int] {
	return func(yield func(int) bool) {
		first := mathrand.IntN(len(c.nodes))
		for i := range c.nodes {
			if !yield((first + i) % len(c.nodes)) {
				return
			}
		}
	}
}

// backoff is how long to pause next, while nodes do not answer; zero after one did.
type backoff time.Duration

// pause lets time pass, each time more, and not the same for all clients; false if ctx ended.
func (b *backoff) pause(ctx context.Context) bool {
	d := max(time.Duration(*b), nodePause)
	*b = backoff(min(2*d, maxPause))
	return pause(ctx, d/2+mathrand.N(d/2))
}

// elsewhere reports whether another node may be able to do what this one surely did not.
func elsewhere(err error) bool {
	if core.OutcomeOf(err) == core.CallNotExecuted {
		_, local := errors.AsType[*core.LocalError](err)
		return !local
	}
	return isClosing(err)
}

// isClosing reports whether a node said that it stops, or cannot reach the others.
func isClosing(err error) bool {
	remote, ok := errors.AsType[*core.RemoteError](err)
	return ok && remote.Is(core.ConnectionClosedError)
}

// Close ends all subscriptions, and the calls under way.  What PublishAsync left in the buffer is not published: Flush first.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel(core.ErrClosed)
	c.wg.Wait()
	return nil
}

// TopicInfo describes a pattern that is subscribed to, or a topic that was published to.
type TopicInfo struct {
	Pattern   string `pyro:"pattern"`   // "news", "prices.>" or a regular expression
	Kind      string `pyro:"kind"`      // "topic", "wildcard" or "expression"
	Streams   int    `pyro:"streams"`   // subscribers of this node
	Callbacks int    `pyro:"callbacks"` // subscribers of the cluster
	Nodes     int    `pyro:"nodes"`     // other nodes with streams for it
	Published uint64 `pyro:"published"` // events that this node got from publishers, for a topic
}
