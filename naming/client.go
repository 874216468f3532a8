package naming

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

const defaultTimeout = 10 * time.Second

// ClientOptions set up a [Client]; the zero value is useful.
type ClientOptions struct {
	Timeout time.Duration // of one operation whose context has no deadline, retries included; zero means 10 s
	// LookupDelay is how long Lookup, Group and Resolve wait for a name that is not registered yet, each with retries every fifth of
	// it or 200 ms; zero means not at all (Pyro5's NS_LOOKUP_DELAY).
	LookupDelay time.Duration
	// Proxy are the options for the connections to the nodes.  Serializer "marshal", which cannot carry the answer to a lookup with
	// tags, is taken for the default.
	Proxy  core.ProxyOptions
	Logger *slog.Logger // nil discards
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Proxy.Serializer == "marshal" {
		o.Proxy.Serializer = ""
	}
	o.Logger = loggerOr(o.Logger)
	return o
}

// Client is a client of the name server.  It is safe for concurrent use.
//
// It goes to another node when one fails or cannot answer, until the operation's time is over.  Writes are numbered, so one that is
// sent again because its answer was lost happens once, and Register with Safe that wins says so.  (Only with this project's name
// server; with stock Pyro5's a repeated write may find its own traces.)
//
// An error that is a core.NamingError is the name server's answer; see [ErrUnknownName] and [ErrAlreadyRegistered].  When no node
// answered it is a *failover.CallError.
type Client struct {
	opts      ClientOptions
	addresses map[string]bool // of the nodes, as location has them
	names     *failover.Proxy // Pyro.NameServer
	admin     *failover.Proxy // Pyro.Cluster
	sessions  sessions
}

var (
	_ core.Resolver     = (*Client)(nil)
	_ failover.Resolver = (*Client)(nil)
)

// nameContracts: every write can be sent again, because it carries a number.
var nameContracts = map[string]core.Contract{
	"ping": core.ContractReadOnly, "count": core.ContractReadOnly, "lookup": core.ContractReadOnly, "list": core.ContractReadOnly,
	"yplookup": core.ContractReadOnly, "members": core.ContractReadOnly,
	"register": core.ContractIdempotent, "set_metadata": core.ContractIdempotent, "remove": core.ContractIdempotent,
	"join": core.ContractIdempotent, "leave": core.ContractIdempotent,
}

// adminContracts: a transfer that is repeated could move leadership twice, a removal would not find the node.
var adminContracts = map[string]core.Contract{"nodes": core.ContractReadOnly, "leader": core.ContractReadOnly}

// NewClient returns a client that asks the nodes at these addresses: host, host:port, [ipv6]:port or ./u:path; a missing port is
// 9090.  It does no I/O.
func NewClient(nodes []string, opts ClientOptions) (*Client, error) {
	uris, err := nodeURIs(nodes)
	if err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	c := &Client{opts: opts, addresses: map[string]bool{}}
	var names, admins []core.URI
	for _, uri := range uris {
		if c.addresses[location(uri)] {
			continue
		}
		c.addresses[location(uri)] = true
		names = append(names, uri)
		uri.Object = AdminID
		admins = append(admins, uri)
	}
	c.names = failover.New(ObjectID, failover.Static(names...), c.proxyOptions(nameContracts))
	c.admin = failover.New(AdminID, failover.Static(admins...), c.proxyOptions(adminContracts))
	return c, nil
}

func (c *Client) proxyOptions(contracts map[string]core.Contract) failover.Options {
	return failover.Options{
		Contracts:   contracts,
		CallTimeout: -1,        // ask bounds the call
		Refresh:     time.Hour, // the list is static
		Proxy:       c.opts.Proxy,
		Logger:      c.opts.Logger,
	}
}

// location is where a URI points to, comparable.
func location(uri core.URI) string {
	if uri.Socket != "" {
		return "./u:" + uri.Socket
	}
	return net.JoinHostPort(strings.ToLower(uri.Host), strconv.Itoa(uri.Port))
}

func nodeURIs(nodes []string) ([]core.URI, error) {
	if len(nodes) == 0 {
		return nil, errors.New("naming: client: no node given")
	}
	uris := make([]core.URI, len(nodes))
	for i, node := range nodes {
		uri, err := nodeURI(node)
		if err != nil {
			return nil, fmt.Errorf("naming: node %q: %w", node, err)
		}
		uris[i] = uri
	}
	return uris, nil
}

// nodeURI returns the URI of the name server at an address.
func nodeURI(node string) (core.URI, error) {
	node = strings.TrimSpace(node)
	if node == "" {
		return core.URI{}, errors.New("empty address")
	}
	if strings.HasPrefix(node, "[") && !strings.Contains(node, "]") {
		return core.URI{}, errors.New("bracket without its counterpart")
	}
	if strings.Count(node, ":") > 1 && !strings.HasPrefix(node, "[") && !strings.HasPrefix(node, "./u:") {
		node = "[" + node + "]" // an IPv6 address alone
	}
	uri, err := core.ParseURI("PYRONAME:" + ObjectID + "@" + node) // the form with a default port
	if err != nil {
		return core.URI{}, err
	}
	if uri.Socket == "" && uri.Port == 0 {
		return core.URI{}, errors.New("port 0 cannot be called")
	}
	uri.Protocol = "PYRO"
	return uri, nil
}

// Close drops all connections.  Calls under way fail; later ones return core.ErrClosed.
func (c *Client) Close() error { return errors.Join(c.names.Close(), c.admin.Close()) }

// ask makes a call within the client's timeout.
func (c *Client) ask(ctx context.Context, p *failover.Proxy, method string, out any, args ...any) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	return withMeaning(p.Call(ctx, method, out, args...))
}

func (c *Client) read(ctx context.Context, method string, out any, args ...any) error {
	return c.ask(ctx, c.names, method, out, args...)
}

// write makes a call with a number, so that it happens once however often it is sent.
func (c *Client) write(ctx context.Context, method string, out any, args ...any) error {
	w := c.sessions.begin()
	defer c.sessions.end(w)
	ctx = core.WithAnnotations(ctx, core.Annotations{sessionAnnotation: c.sessions.annotation(w)})
	return c.ask(ctx, c.names, method, out, args...)
}

// RegisterOptions say how to register a name.
type RegisterOptions struct {
	Safe bool     // an existing name is an error, else it is overwritten with its tags
	Tags []string // "group:NAME" makes the entry a member of that group
}

// Entry is a name as clients see it.
type Entry struct {
	Name string
	URI  core.URI // of a group: one member that is alive
	Tags []string // sorted
}

// Query selects names; the zero value selects all.  At most one field may be set, as in Pyro.
type Query struct {
	Prefix string
	Regex  string   // anchored at the start only, as Python's match
	All    []string // tags that all must be there
	Any    []string // tags of which one must be there
}

func (q Query) fields() int {
	n := 0
	for _, set := range []bool{q.Prefix != "", q.Regex != "", len(q.All) > 0, len(q.Any) > 0} {
		if set {
			n++
		}
	}
	return n
}

// JoinOptions describe a new member of a group.
type JoinOptions struct {
	Member string // its id; empty means the URI
	Zone   string
	Weight int // of the calls it gets, relative to the others; 0 means 1
}

// Ping returns nil if a node answers a linearizable read.
func (c *Client) Ping(ctx context.Context) error { return c.read(ctx, "ping", nil) }

// Count returns the number of names, the name server's own included.
func (c *Client) Count(ctx context.Context) (int, error) {
	var n int
	err := c.read(ctx, "count", &n)
	return n, err
}

// Register registers an object under a name.  The error is [ErrAlreadyRegistered] if the name exists and opts.Safe is set.
func (c *Client) Register(ctx context.Context, name string, uri core.URI, opts RegisterOptions) error {
	return c.write(ctx, "register", nil, name, uri.String(), opts.Safe, texts(opts.Tags))
}

// texts makes sure of a list: None would not do everywhere.
func texts(s []string) []any {
	list := make([]any, len(s))
	for i := range s {
		list[i] = s[i]
	}
	return list
}

// Lookup returns the entry of that name, or of a group one member that is alive.  The error is [ErrUnknownName] if there is none.
func (c *Client) Lookup(ctx context.Context, name string) (Entry, error) {
	var answer any
	err := c.patiently(ctx, func() error { return c.read(ctx, "lookup", &answer, name, true) })
	if err != nil {
		return Entry{}, err
	}
	return entryOf(name, answer)
}

// entryOf reads what the name server says of a name: a pair of a URI and tags.
func entryOf(name string, answer any) (Entry, error) {
	var pair []any
	if err := core.Convert(&pair, answer); err != nil || len(pair) != 2 {
		return Entry{}, fmt.Errorf("naming: entry of %q: got %T, want a URI and tags", name, answer)
	}
	e := Entry{Name: name}
	var err error
	switch uri := pair[0].(type) {
	case core.URI:
		e.URI = uri
	case string:
		e.URI, err = core.ParseURI(uri)
	default:
		err = fmt.Errorf("got %T, want a URI", uri)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("naming: entry of %q: %w", name, err)
	}
	tags, err := tagsArg(pair[1])
	if err != nil {
		return Entry{}, fmt.Errorf("naming: entry of %q: tags: %w", name, err)
	}
	e.Tags = tags
	return e, nil
}

// List returns the names that q selects, in no order.  An entry whose URI cannot be read is left out and logged.
func (c *Client) List(ctx context.Context, q Query) (iter.Seq2[string, Entry], error) {
	if q.fields() > 1 {
		return nil, core.ValueError.New("you can only filter on one thing at a time")
	}
	var answer map[string]any
	var err error
	switch {
	case len(q.All) > 0:
		err = c.read(ctx, "yplookup", &answer, texts(q.All), nil, true)
	case len(q.Any) > 0:
		err = c.read(ctx, "yplookup", &answer, nil, texts(q.Any), true)
	default:
		err = c.read(ctx, "list", &answer, q.Prefix, q.Regex, true)
	}
	if err != nil {
		return nil, err
	}
	return func(yield func(string, Entry) bool) {
		for name, pair := range answer {
			e, err := entryOf(name, pair)
			if err != nil {
				c.opts.Logger.Warn("entry left out", "error", err)
				continue
			}
			if !yield(name, e) {
				return
			}
		}
	}, nil
}

// Remove removes a name, or a group with all its members, and reports whether it was there.
func (c *Client) Remove(ctx context.Context, name string) (bool, error) {
	if name == "" { // to Pyro that means no name
		return false, nil
	}
	var n int
	err := c.write(ctx, "remove", &n, name)
	return n > 0, err
}

// RemoveAll removes the names with q's prefix, or that match its regular expression, and returns how many.  One of the two must be
// set; tags are not possible here.
func (c *Client) RemoveAll(ctx context.Context, q Query) (int, error) {
	if q.fields() != 1 || q.Prefix == "" && q.Regex == "" {
		return 0, core.ValueError.New("remove needs either a prefix or a regular expression")
	}
	var n int
	err := c.write(ctx, "remove", &n, nil, q.Prefix, q.Regex)
	return n, err
}

// SetTags replaces the tags of a name.  The error is [ErrUnknownName] if there is none.
func (c *Client) SetTags(ctx context.Context, name string, tags []string) error {
	return c.write(ctx, "set_metadata", nil, name, texts(tags))
}

// Join makes an object a member of a group, which begins to exist with its first member.  Joining again with the same id replaces
// what was said of the member, and clears a verdict of the prober.  It is a core.NamingError if a single object has that name.
func (c *Client) Join(ctx context.Context, group string, uri core.URI, opts JoinOptions) (member string, err error) {
	err = c.write(ctx, "join", &member, group, uri.String(), opts.Member, opts.Zone, max(opts.Weight, 1))
	return member, err
}

// Leave takes a member, called by its id or URI, out of a group and reports whether it was one.
func (c *Client) Leave(ctx context.Context, group, member string) (bool, error) {
	var left bool
	err := c.write(ctx, "leave", &left, group, member)
	return left, err
}
