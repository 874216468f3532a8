package naming

import (
	"context"
	"encoding/binary"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/fsm"
)

// ObjectID is the id and the name of the name server, AdminID the id of the object that tells about the cluster's nodes, EventsID the id
// and the name of the event server that each node has.
const (
	ObjectID = "Pyro.NameServer"
	AdminID  = "Pyro.Cluster"
	EventsID = "Pyro.EventService"
)

// ownTag is the metadata of the name server's own entry, as Pyro5 writes it; eventsTag that of the event server.
const (
	ownTag    = "class:Pyro5.nameserver.NameServer"
	eventsTag = "class:pyro_cluster.EventService"
)

// groupTag is how a tag begins that makes an entry a member of a group.
const groupTag = "group:"

// storeTimeout bounds the wait for the store, so that a caller without a deadline of its own learns that this node cannot answer
// and asks another.  It is longer than an election takes.
const storeTimeout = 5 * time.Second

// Store keeps the registry.
type Store interface {
	// View returns a state that has every change acknowledged before the call (a linearizable read).
	View(ctx context.Context) (*fsm.View, error)
	// Apply runs a command and returns its result once it cannot be lost.  On an error it may or may not have run.
	Apply(ctx context.Context, c fsm.Command) (fsm.Result, error)
}

// ServerOptions set up a [Server].
type ServerOptions struct {
	URI    core.URI     // of this node's name server, as others reach it
	Events core.URI     // of this node's event server; zero if nodes have none
	Logger *slog.Logger // gets every change with the address of who made it, at level debug; nil discards it
}

// Server is the name server of one node: the interface of Pyro5's (Pyro5 docs, "Name Server") and object groups.  All of its state is in
// the [Store], but its own entry: that is made up by the node that answers, and cannot be changed.
//
// The name of the event server is made up too, while nobody has registered it: a lookup gives that of the node that answers, members gives
// those of all nodes.  It is no entry, so it is not counted or listed, and cannot be removed.
//
// Reads and writes are linearizable.  When the store cannot answer, the caller gets a ConnectionClosedError, upon which Pyro's clients
// drop the connection and so can go to another node; a NamingError is always the truth.
type Server struct {
	store  Store
	uri    core.URI
	events core.URI
	log    *slog.Logger
}

// NewServer returns the name server of the node that s belongs to.
func NewServer(s Store, opts ServerOptions) *Server {
	return &Server{store: s, uri: opts.URI, events: opts.Events, log: loggerOr(opts.Logger)}
}

func loggerOr(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// Servant returns the object to register under [ObjectID].
func (s *Server) Servant() *core.Servant {
	none := func(name string) core.Param { return core.Param{Name: name, Optional: true} }
	optional := func(name string, value any) core.Param {
		return core.Param{Name: name, Optional: true, Default: value}
	}
	must := func(name string) core.Param { return core.Param{Name: name} }
	read := func(name string, f methodFunc, params ...core.Param) core.Method {
		return core.Method{Name: name, Params: params, Contract: core.ContractReadOnly, Func: f}
	}
	write := func(name string, c core.Contract, f methodFunc, params ...core.Param) core.Method {
		return core.Method{Name: name, Params: params, Contract: c, Func: f}
	}
	return &core.Servant{Class: "NameServer", Methods: []core.Method{
		read("ping", s.ping),
		read("count", s.count),
		read("lookup", s.lookup, must("name"), optional("return_metadata", false)),
		read("list", s.list, none("prefix"), none("regex"),
			optional("metadata_all", absent{}), optional("metadata_any", absent{}), optional("return_metadata", absent{})),
		read("yplookup", s.yplookup, none("meta_all"), none("meta_any"), optional("return_metadata", true)),
		read("members", s.members, must("group")),
		write("register", core.ContractPlain, s.register, must("name"), must("uri"), optional("safe", false), none("metadata")),
		write("set_metadata", core.ContractIdempotent, s.setMetadata, must("name"), must("metadata")),
		write("remove", core.ContractPlain, s.remove, none("name"), none("prefix"), none("regex")),
		write("join", core.ContractIdempotent, s.join,
			must("group"), must("uri"), none("member"), optional("zone", ""), optional("weight", 1)),
		write("leave", core.ContractPlain, s.leave, must("group"), must("member")),
	}}
}

type methodFunc = func(ctx context.Context, args []any) (any, error)

// view reads the store; its error is for the caller.
func (s *Server) view(ctx context.Context) (*fsm.View, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	v, err := s.store.View(ctx)
	if err != nil {
		e := unavailable(err)
		e.NotExecuted = true
		return nil, e
	}
	return v, nil
}

// apply runs a command on behalf of the caller; its error is for the caller.
func (s *Server) apply(ctx context.Context, c fsm.Command) (fsm.Result, error) {
	if n := size(c); n > maxCommandBytes {
		return fsm.Result{}, core.ValueError.New("%d bytes of names and tags: want at most %d", n, maxCommandBytes)
	}
	if err := identify(ctx, &c); err != nil {
		return fsm.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	r, err := s.store.Apply(ctx, c)
	if err != nil {
		return fsm.Result{}, unavailable(err)
	}
	if r.Code == fsm.Forgotten {
		return r, core.PyroError.New("this call was answered before, and the answer is forgotten")
	}
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.LogAttrs(ctx, slog.LevelDebug, "change", slog.Uint64("revision", r.Revision), slog.Int("kind", int(c.Kind)),
			slog.String("name", c.Name), slog.Any("names", c.Names), slog.String("actor", c.Actor), slog.Int("code", int(r.Code)))
	}
	return r, nil
}

// maxCommandBytes bounds what one change brings into the log, well below the bound of the store: a change that no store takes would look
// like a node that cannot answer, and its caller would try the others.
const maxCommandBytes = 256 << 10

// size is about what c takes in the log.
func size(c fsm.Command) int {
	n := len(c.URI) + len(c.Member.ID) + len(c.Member.URI) + len(c.Member.Zone)
	for _, texts := range [][]string{{c.Name}, c.Names, c.Tags} {
		for _, text := range texts {
			n += len(text) + 4
		}
	}
	return n
}

// The annotation with which a client numbers its writes: session, sequence number, floor (see fsm.Command), big-endian.
const (
	sessionAnnotation = "PCSQ"
	sessionIDBytes    = 16
	sessionBytes      = sessionIDBytes + 8 + 8
)

// identify notes who sent the command, and the number that its client gave it.
func identify(ctx context.Context, c *fsm.Command) error {
	info := core.CallInfoFrom(ctx)
	if info == nil {
		return nil
	}
	if info.Peer != nil {
		c.Actor = info.Peer.String()
	}
	data, ok := info.Annotations[sessionAnnotation]
	if !ok {
		return nil
	}
	if len(data) != sessionBytes {
		return core.ProtocolError.New("annotation %s has %d bytes, want %d", sessionAnnotation, len(data), sessionBytes)
	}
	c.Session = string(data[:sessionIDBytes])
	c.Sequence = binary.BigEndian.Uint64(data[sessionIDBytes:])
	c.Floor = binary.BigEndian.Uint64(data[sessionIDBytes+8:])
	return nil
}

// Prepare is what the leader does to a command before it enters the log: names that a regular expression matches are
// looked up in v, which must be the state that the command will be applied to.
func Prepare(v *fsm.View, c fsm.Command) (fsm.Command, error) {
	if c.Kind != fsm.KindRemoveMatching {
		return c, nil
	}
	p, err := compile(c.Name)
	if err != nil {
		return c, err
	}
	names, err := p.filter(allNames(v))
	if err != nil {
		return c, err
	}
	c.Kind, c.Name, c.Names = fsm.KindRemove, "", names
	return c, nil
}

func allNames(v *fsm.View) []string {
	names := make([]string, 0, v.Count())
	for e := range v.Entries("") {
		names = append(names, e.Name)
	}
	for g := range v.Groups("") {
		names = append(names, g.Name)
	}
	return names
}

func (s *Server) ping(ctx context.Context, _ []any) (any, error) {
	_, err := s.view(ctx)
	return nil, err
}

func (s *Server) count(ctx context.Context, _ []any) (any, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	return v.Count() + 1, nil
}

// found is a name as callers see it: an entry, a group, or what the node makes up.
type found struct {
	name string
	uri  string
	tags []string
}

// find returns what name stands for.
func (s *Server) find(v *fsm.View, name string) (found, bool) {
	if name == ObjectID {
		return s.own(), true
	}
	if e, ok := v.Entry(name); ok {
		return found{name, e.URI, e.Tags}, true
	}
	if g, ok := v.Group(name); ok {
		return found{name, pick(g.Members).URI, g.Tags}, true
	}
	if s.isEvents(name) {
		return found{name, s.events.String(), []string{eventsTag}}, true
	}
	return found{}, false
}

// isEvents reports whether name, if it is not registered, is that of the nodes' event servers.
func (s *Server) isEvents(name string) bool { return name == EventsID && s.events != core.URI{} }

// eventServers returns those of all nodes, this one's first.
func (s *Server) eventServers(v *fsm.View) []fsm.Member {
	own := s.events.String()
	members := []fsm.Member{{ID: own, URI: own}}
	for _, n := range v.Nodes() {
		if uri := "PYRO:" + EventsID + "@" + n.PyroAddress; uri != own && n.PyroAddress != "" {
			members = append(members, fsm.Member{ID: uri, URI: uri})
		}
	}
	return members
}

func (s *Server) own() found { return found{ObjectID, s.uri.String(), []string{ownTag}} }

// all calls yield with every name that begins with prefix.
func (s *Server) all(v *fsm.View, prefix string, yield func(found)) {
	if strings.HasPrefix(ObjectID, prefix) {
		yield(s.own())
	}
	for e := range v.Entries(prefix) {
		yield(found{e.Name, e.URI, e.Tags})
	}
	for g := range v.Groups(prefix) {
		yield(found{g.Name, pick(g.Members).URI, g.Tags})
	}
}

// pick chooses a member at random, in proportion to the weights: of those alive, or of all when none is.
func pick(members []fsm.Member) fsm.Member {
	alive := func(m fsm.Member) bool { return m.Health == fsm.Alive }
	total := totalWeight(members, alive)
	if total == 0 {
		alive = func(fsm.Member) bool { return true }
		total = totalWeight(members, alive)
	}
	if total == 0 {
		return fsm.Member{}
	}
	n := rand.IntN(total)
	for _, m := range members {
		if !alive(m) {
			continue
		}
		if n -= weight(m); n < 0 {
			return m
		}
	}
	return fsm.Member{}
}

func totalWeight(members []fsm.Member, counts func(fsm.Member) bool) int {
	total := 0
	for _, m := range members {
		if counts(m) {
			total += weight(m)
		}
	}
	return total
}

func weight(m fsm.Member) int { return min(max(m.Weight, 1), maxWeight) }

func (s *Server) lookup(ctx context.Context, args []any) (any, error) {
	if err := hashable(args[0]); err != nil {
		return nil, err
	}
	name, ok := args[0].(string)
	if !ok {
		return nil, typeError("can only concatenate str (not \"%s\") to str", pythonType(args[0]))
	}
	withTags := truthy(args[1])
	if info := core.CallInfoFrom(ctx); withTags && info != nil && info.Serializer == "marshal" {
		return nil, core.ValueError.New("unmarshallable object: marshal cannot send a URI inside of a tuple; use another serializer")
	}
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	f, ok := s.find(v, name)
	if !ok {
		return nil, unknownName(name)
	}
	uri, err := core.ParseURI(f.uri)
	if err != nil {
		return nil, asPyroError(err)
	}
	if withTags {
		return core.Tuple{uri, tagsFor(ctx, f.tags)}, nil
	}
	return uri, nil
}

// tagsFor returns the tags as the caller's Pyro has them: a list in Pyro4, a set in Pyro5.
func tagsFor(ctx context.Context, tags []string) any {
	if isPyro4(ctx) {
		return tags
	}
	return tagSet(tags)
}

func tagSet(tags []string) core.Set {
	set := make(core.Set, len(tags))
	for i, tag := range tags {
		set[i] = tag
	}
	return set
}

// listing is the dict that list and yplookup return.
type listing struct {
	ctx      context.Context // of the call
	withTags bool
	names    map[string]any
}

func (l *listing) add(f found) {
	if l.withTags {
		l.names[f.name] = core.Tuple{f.uri, tagsFor(l.ctx, f.tags)}
	} else {
		l.names[f.name] = f.uri
	}
}

func (s *Server) list(ctx context.Context, args []any) (any, error) {
	if isPyro4(ctx) {
		return s.list4(ctx, args)
	}
	withTags, err := listArgs(args)
	if err != nil {
		return nil, err
	}
	if truthy(args[0]) && truthy(args[1]) {
		return nil, errFilters()
	}
	return s.listMatching(ctx, args[0], args[1], withTags)
}

func errFilters() error { return core.ValueError.New("you can only filter on one thing at a time") }

// listMatching returns the names that one of the filters selects, or all.
func (s *Server) listMatching(ctx context.Context, prefix, regex, withTags any) (any, error) {
	accept := func(string) (bool, error) { return true, nil }
	from := ""
	switch {
	case truthy(prefix):
		text, err := prefixArg(prefix)
		if err != nil {
			return nil, err
		}
		from = text
	case truthy(regex):
		p, err := regexArg(regex)
		if err != nil {
			return nil, err
		}
		accept = p.timed()
	}
	return s.listed(ctx, from, withTags, func(f found) (bool, error) { return accept(f.name) })
}

// listed returns the names that begin with prefix and are accepted.
func (s *Server) listed(ctx context.Context, prefix string, withTags any, accept func(found) (bool, error)) (any, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	l := &listing{ctx, truthy(withTags), map[string]any{}}
	s.all(v, prefix, func(f found) {
		if err != nil {
			return
		}
		var ok bool
		if ok, err = accept(f); ok {
			l.add(f)
		}
	})
	if err != nil {
		return nil, err
	}
	return l.names, nil
}

func prefixArg(v any) (string, error) {
	prefix, ok := v.(string)
	if !ok {
		return "", typeError("startswith first arg must be str or a tuple of str, not %s", pythonType(v))
	}
	return prefix, nil
}

func regexArg(v any) (pattern, error) {
	if err := hashable(v); err != nil {
		return pattern{}, err
	}
	expr, ok := v.(string)
	if !ok {
		return pattern{}, typeError("first argument must be string or compiled pattern")
	}
	return compile(expr)
}

func (s *Server) yplookup(ctx context.Context, args []any) (any, error) {
	all, some := args[0], args[1]
	if truthy(all) && truthy(some) {
		return nil, core.ValueError.New("you can't use meta_all or meta_any at the same time")
	}
	return s.listTagged(ctx, all, some, args[2])
}

// listTagged returns the names that have all of some tags, or any of some.
func (s *Server) listTagged(ctx context.Context, all, some, withTags any) (any, error) {
	switch {
	case truthy(all):
		tags, others, err := searchArg("metadata_all", all)
		if err != nil {
			return nil, err
		}
		return s.listed(ctx, "", withTags, func(f found) (bool, error) { return others == 0 && common(tags, f.tags) == len(tags), nil })
	case truthy(some):
		tags, _, err := searchArg("metadata_any", some)
		if err != nil {
			return nil, err
		}
		return s.listed(ctx, "", withTags, func(f found) (bool, error) { return common(tags, f.tags) > 0, nil })
	}
	return map[string]any{}, nil
}

// common counts what is in both of two sorted slices without duplicates.
func common(a, b []string) int {
	n := 0
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0], b[0]); {
		case c < 0:
			a = a[1:]
		case c > 0:
			b = b[1:]
		default:
			n, a, b = n+1, a[1:], b[1:]
		}
	}
	return n
}

func (s *Server) register(ctx context.Context, args []any) (any, error) {
	uri, err := uriArg(args[1])
	if err != nil {
		return nil, err
	}
	name, err := nameArg("name", args[0])
	if err != nil {
		return nil, err
	}
	tags, err := tagsArg(args[3])
	if err != nil {
		return nil, err
	}
	safe := truthy(args[2])
	if name == ObjectID { // the entry stays what it is; Pyro's lets anybody overwrite it
		if safe {
			return nil, alreadyRegistered(name)
		}
		return nil, nil
	}
	r, err := s.apply(ctx, fsm.Command{Kind: fsm.KindRegister, Name: name, URI: uri, Tags: tags, Safe: safe})
	if err != nil {
		return nil, err
	}
	if r.Code == fsm.AlreadyRegistered {
		return nil, s.refused(ctx, name, safe, tags)
	}
	return nil, nil
}

// refused says why the store did not register name: the name is taken, or one of the groups in its tags is no group.
func (s *Server) refused(ctx context.Context, name string, safe bool, tags []string) error {
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	if group := entryAmong(v, tags); group != "" && (!safe || group != name) {
		return noGroup(group)
	}
	if safe {
		return alreadyRegistered(name)
	}
	return core.NamingError.New("cannot join group: a name in the tags %q is registered as a single object", tags)
}

// entryAmong returns the first name that a tag wants as a group but that is an entry.
func entryAmong(v *fsm.View, tags []string) string {
	for _, tag := range tags {
		group, ok := strings.CutPrefix(tag, groupTag)
		if !ok || group == "" {
			continue
		}
		if _, isEntry := v.Entry(group); isEntry || group == ObjectID {
			return group
		}
	}
	return ""
}

func (s *Server) setMetadata(ctx context.Context, args []any) (any, error) {
	name, err := nameArg("name", args[0])
	if err != nil {
		return nil, err
	}
	tags, err := tagsArg(args[1])
	if err != nil {
		return nil, err
	}
	if name == ObjectID {
		return nil, nil
	}
	r, err := s.apply(ctx, fsm.Command{Kind: fsm.KindSetTags, Name: name, Tags: tags})
	if err != nil {
		return nil, err
	}
	switch r.Code {
	case fsm.UnknownName:
		return nil, unknownName(name)
	case fsm.AlreadyRegistered:
		return nil, s.refused(ctx, name, false, tags)
	}
	return nil, nil
}

func (s *Server) remove(ctx context.Context, args []any) (any, error) {
	name, prefix, regex := args[0], args[1], args[2]
	var c fsm.Command
	switch {
	case truthy(name) && name != any(ObjectID):
		text, ok := name.(string)
		if !ok { // no such key in Pyro's dict
			return 0, hashable(name)
		}
		c = fsm.Command{Kind: fsm.KindRemove, Names: []string{text}}
	case truthy(prefix):
		text, err := prefixArg(prefix)
		if err != nil {
			return nil, err
		}
		c = fsm.Command{Kind: fsm.KindRemovePrefix, Name: text}
	case truthy(regex):
		if _, err := regexArg(regex); err != nil {
			return nil, err
		}
		c = fsm.Command{Kind: fsm.KindRemoveMatching, Name: regex.(string)}
	default:
		return 0, nil
	}
	r, err := s.apply(ctx, c)
	if err != nil {
		return nil, err
	}
	return r.Count, nil
}

func (s *Server) join(ctx context.Context, args []any) (any, error) {
	group, err := nameArg("group", args[0])
	if err != nil {
		return nil, err
	}
	m, err := memberArgs(args)
	if err != nil {
		return nil, err
	}
	if group == ObjectID {
		return nil, noGroup(group)
	}
	r, err := s.apply(ctx, fsm.Command{Kind: fsm.KindJoin, Name: group, Member: m})
	if err != nil {
		return nil, err
	}
	if r.Code != fsm.OK {
		return nil, noGroup(group)
	}
	return m.ID, nil
}

func memberArgs(args []any) (fsm.Member, error) {
	var m fsm.Member
	var err error
	if m.URI, err = uriArg(args[1]); err != nil {
		return m, err
	}
	if m.ID, err = optionalText("member", args[2]); err != nil {
		return m, err
	}
	if m.ID == "" {
		m.ID = m.URI
	}
	if m.Zone, err = optionalText("zone", args[3]); err != nil {
		return m, err
	}
	m.Weight, err = weightArg(args[4])
	return m, err
}

func (s *Server) leave(ctx context.Context, args []any) (any, error) {
	group, err := nameArg("group", args[0])
	if err != nil {
		return nil, err
	}
	member := args[1]
	if uri, ok := member.(core.URI); ok {
		member = uri.String()
	}
	id, err := nameArg("member", member)
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	g, _ := v.Group(group)
	r, err := s.apply(ctx, fsm.Command{Kind: fsm.KindLeave, Name: group, Member: fsm.Member{ID: memberID(g, id)}})
	if err != nil {
		return nil, err
	}
	return r.Count > 0, nil
}

// memberID returns the id of the member that is called by its id or its URI.  What is neither is taken for an id.
func memberID(g fsm.Group, idOrURI string) string {
	id := idOrURI
	for _, m := range g.Members {
		if m.ID == idOrURI {
			return m.ID
		}
		if m.URI == idOrURI {
			id = m.ID
		}
	}
	return id
}

func (s *Server) members(ctx context.Context, args []any) (any, error) {
	name, err := nameArg("group", args[0])
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	if g, ok := v.Group(name); ok {
		return groupDict(name, g.Version, g.Members), nil
	}
	f, ok := s.find(v, name)
	if !ok {
		return nil, unknownName(name)
	}
	e, registered := v.Entry(name)
	if !registered && s.isEvents(name) {
		return groupDict(name, v.Revision(), s.eventServers(v)), nil
	}
	return groupDict(name, e.Modified, []fsm.Member{{ID: f.uri, URI: f.uri}}), nil
}

func groupDict(name string, version uint64, members []fsm.Member) map[string]any {
	list := make([]any, len(members))
	for i, m := range members {
		list[i] = map[string]any{
			"id": m.ID, "uri": m.URI, "zone": m.Zone, "weight": weight(m), "alive": m.Health == fsm.Alive, "reason": m.Reason,
		}
	}
	return map[string]any{"name": name, "version": version, "members": list}
}
