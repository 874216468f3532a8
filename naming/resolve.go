package naming

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

// patiently repeats f while the name it asks for is unknown, for as long as LookupDelay says (Pyro5: nameserver.lookup).
func (c *Client) patiently(ctx context.Context, f func() error) error {
	err := f()
	deadline := time.Now().Add(c.opts.LookupDelay)
	pause := max(200*time.Millisecond, c.opts.LookupDelay/5)
	for errors.Is(err, ErrUnknownName) && time.Now().Before(deadline) {
		if !wait(ctx, min(pause, time.Until(deadline))) {
			return err
		}
		err = f()
	}
	return err
}

// wait reports whether d passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Group returns the members of a group; a plain name is a group of one, and [EventsID] that of all nodes.  Members whose address nobody can call directly, because it is
// no PYRO URI, are left out and logged.  The error is [ErrUnknownName] if there is no such name.
//
// A stock name server knows no groups: there every name is a group of one.
func (c *Client) Group(ctx context.Context, name string) (failover.Group, error) {
	var answer groupAnswer
	err := c.patiently(ctx, func() error { return c.read(ctx, "members", &answer, name) })
	if errors.Is(err, core.AttributeError) {
		return c.single(ctx, name)
	}
	if err != nil {
		return failover.Group{}, err
	}
	g := failover.Group{Name: name, Version: answer.Version}
	for _, m := range answer.Members {
		uri, err := core.ParseURI(m.URI)
		if err != nil || uri.Protocol != "PYRO" {
			c.opts.Logger.LogAttrs(ctx, slog.LevelWarn, "member left out",
				slog.String("group", name), slog.String("member", m.ID), slog.String("uri", m.URI), slog.Any("error", err))
			continue
		}
		g.Members = append(g.Members, failover.Member{ID: m.ID, URI: uri, Zone: m.Zone, Weight: m.Weight, Alive: m.Alive})
	}
	return g, nil
}

// groupAnswer is what the method members returns.
type groupAnswer struct {
	Name    string         `pyro:"name"`
	Version uint64         `pyro:"version"`
	Members []memberAnswer `pyro:"members"`
}

type memberAnswer struct {
	ID     string `pyro:"id"`
	URI    string `pyro:"uri"`
	Zone   string `pyro:"zone"`
	Weight int    `pyro:"weight"`
	Alive  bool   `pyro:"alive"`
	Reason string `pyro:"reason"`
}

func (c *Client) single(ctx context.Context, name string) (failover.Group, error) {
	e, err := c.Lookup(ctx, name)
	if err != nil {
		return failover.Group{}, err
	}
	return failover.Group{Name: name, Members: []failover.Member{{ID: e.URI.String(), URI: e.URI, Alive: true}}}, nil
}

// Resolve implements core.Resolver: a PYRONAME is looked up, of a PYROMETA one of the objects with all of its tags is drawn, a PYRO
// URI is returned as it is.  For a group's name the answer is one member that is alive.
//
// A URI that names the place of a name server is resolved there, unless that is one of this client's nodes: then, as without a
// place, all of them are asked in turn.
func (c *Client) Resolve(ctx context.Context, uri core.URI) (core.URI, error) {
	if uri.Protocol == "PYRO" {
		return uri, nil
	}
	if elsewhere := uri.Host != "" || uri.Socket != ""; elsewhere && !c.addresses[location(uri)] {
		return c.resolveAt(ctx, uri)
	}
	switch uri.Protocol {
	case "PYRONAME":
		e, err := c.Lookup(ctx, uri.Object)
		return e.URI, err
	case "PYROMETA":
		return c.resolveTags(ctx, strings.Split(uri.Object, ","))
	}
	return core.URI{}, core.PyroError.New("invalid uri protocol")
}

// resolveAt asks the name server that uri names, with a client for this one question.
func (c *Client) resolveAt(ctx context.Context, uri core.URI) (core.URI, error) {
	node := location(uri)
	other, err := NewClient([]string{node}, c.opts)
	if err != nil {
		return core.URI{}, err
	}
	defer other.Close()
	uri.Host, uri.Port, uri.Socket = "", 0, ""
	return other.Resolve(ctx, uri)
}

func (c *Client) resolveTags(ctx context.Context, tags []string) (core.URI, error) {
	var uris map[string]string
	err := c.patiently(ctx, func() error {
		if err := c.read(ctx, "yplookup", &uris, texts(tags), nil, false); err != nil {
			return err
		}
		if len(uris) == 0 {
			text := "no registrations available with desired metadata properties " + strings.Join(tags, ",")
			return &nameError{core.NamingError.New("%s", text), ErrUnknownName}
		}
		return nil
	})
	if err != nil {
		return core.URI{}, err
	}
	names := make([]string, 0, len(uris))
	for name := range uris {
		names = append(names, name)
	}
	slices.Sort(names) // chance alone decides, not the order of a map
	return core.ParseURI(uris[names[rand.IntN(len(names))]])
}
