package fsm

import (
	"slices"
	"strings"
)

// txn is the next view in the making; only Apply sees it.
type txn struct {
	View
	changes *[]Change // nil if nobody observes
}

// command runs c, or finds the result of its first run.
func (t *txn) command(c *Command) Result {
	t.time = max(t.time, c.Time)
	t.sessions.sweep(t.time)
	if c.Session == "" {
		return t.run(c)
	}
	s := t.sessions.lookup(c.Session)
	r, done := s.results.get(c.Sequence)
	s.raise(c.Floor)
	switch {
	case done:
	case c.Sequence < s.floor:
		r = Result{Code: Forgotten}
	default:
		r = t.run(c)
		s.remember(c.Sequence, r)
	}
	t.sessions.put(c.Session, s, t.time)
	return r
}

// run gives c a revision and does it.  A command that is refused changes nothing else.
func (t *txn) run(c *Command) Result {
	t.revision++
	r := Result{Revision: t.revision}
	switch c.Kind {
	case KindInit:
		if t.clusterID == "" {
			t.clusterID = c.ClusterID
		}
		r.Text = t.clusterID
	case KindRegister:
		r.Code = t.register(c)
	case KindRemove:
		r.Count = t.remove(t.present(c.Names))
	case KindRemovePrefix:
		r.Count = t.remove(t.prefixed(c.Name))
	case KindSetTags:
		r.Code = t.setTags(c.Name, normalTags(c.Tags))
	case KindJoin:
		r.Code = t.joinExplicitly(c.Name, c.Member)
	case KindLeave:
		r.Count = t.leave(c.Name, c.Member.ID, false)
	case KindHealth:
		for i := range c.Verdicts {
			r.Count += t.judge(&c.Verdicts[i])
		}
	case KindPutNode:
		r.Code = t.putNode(c.Node)
	case KindRemoveNode:
		t.removeNode(c.Node.ID)
	case KindSubscribe:
		r.Count = t.subscribe(&c.Subscriber)
	case KindUnsubscribe:
		r.Count = t.unsubscribe(c.Name, c.Names, c.IfModified)
	case KindAssign:
		for i := range c.Assignments {
			r.Count += t.assign(&c.Assignments[i])
		}
	}
	return r
}

func (t *txn) register(c *Command) Code {
	tags := normalTags(c.Tags)
	groups := groupsOf(tags)
	asMember := slices.Contains(groups, c.Name)
	_, isEntry := t.entries.get(c.Name)
	_, isGroup := t.groups.get(c.Name)
	switch {
	case c.Name == reservedName, c.Safe && isEntry, c.Safe && isGroup && !asMember:
		return AlreadyRegistered
	case t.anyIsEntry(groups):
		return AlreadyRegistered
	case asMember:
		t.registerMember(c, tags, groups)
	default:
		t.registerEntry(c, tags, groups)
	}
	return OK
}

// registerMember is for a server that registers the name of a group that it belongs to.
func (t *txn) registerMember(c *Command, tags, groups []string) {
	for _, g := range groups {
		t.join(g, Member{ID: c.URI, URI: c.URI})
	}
	g, _ := t.groups.get(c.Name)
	t.setGroupTags(g, normalTags(append(withoutGroups(tags), g.Tags...)))
}

func (t *txn) setGroupTags(g *Group, tags []string) {
	if slices.Equal(tags, g.Tags) {
		return
	}
	changed := *g
	changed.Tags = tags
	t.groups = t.groups.put(g.Name, &changed)
	t.note(Change{Kind: ChangeNameTags, Name: g.Name, Tags: tags})
}

func (t *txn) registerEntry(c *Command, tags, groups []string) {
	t.endGroup(c.Name)
	e := &Entry{Name: c.Name, URI: c.URI, Tags: tags, Created: t.revision, Modified: t.revision}
	if old, ok := t.entries.get(c.Name); ok {
		e.Created = old.Created
		t.leaveAll(c.Name, missing(groupsOf(old.Tags), groups))
	}
	t.entries = t.entries.put(c.Name, e)
	t.note(Change{Kind: ChangeNameSet, Name: c.Name, URI: c.URI, Tags: tags})
	for _, g := range groups {
		t.join(g, Member{ID: c.Name, URI: c.URI, ByTag: true})
	}
}

func (t *txn) setTags(name string, tags []string) Code {
	if g, ok := t.groups.get(name); ok {
		t.setGroupTags(g, normalTags(withoutGroups(tags)))
		return OK
	}
	old, ok := t.entries.get(name)
	if !ok {
		return UnknownName
	}
	before, after := groupsOf(old.Tags), groupsOf(tags)
	joins := missing(after, before)
	if t.anyIsEntry(joins) {
		return AlreadyRegistered
	}
	changed := *old
	changed.Tags, changed.Modified = tags, t.revision
	t.entries = t.entries.put(name, &changed)
	t.note(Change{Kind: ChangeNameTags, Name: name, Tags: tags})
	t.leaveAll(name, missing(before, after))
	for _, g := range joins {
		t.join(g, Member{ID: name, URI: old.URI, ByTag: true})
	}
	return OK
}

// anyIsEntry reports whether one of the names cannot be a group's.
func (t *txn) anyIsEntry(groups []string) bool {
	return slices.ContainsFunc(groups, func(name string) bool {
		_, ok := t.entries.get(name)
		return ok || name == reservedName
	})
}

// present returns the names that are there, each once.
func (t *txn) present(names []string) []string {
	return slices.DeleteFunc(normalTags(names), func(name string) bool {
		_, isEntry := t.entries.get(name)
		_, isGroup := t.groups.get(name)
		return !isEntry && !isGroup
	})
}

func (t *txn) prefixed(prefix string) []string {
	var names []string
	for e := range t.Entries(prefix) {
		names = append(names, e.Name)
	}
	for g := range t.Groups(prefix) {
		names = append(names, g.Name)
	}
	return names
}

// remove removes names that are there, and returns how many: a group that ends by itself, because the entry of its last member was
// removed before it, counts as well.
func (t *txn) remove(names []string) int {
	for _, name := range names {
		if e, ok := t.entries.get(name); ok {
			t.leaveAll(name, groupsOf(e.Tags))
		}
		t.entries = t.entries.remove(name)
		t.endGroup(name)
		t.note(Change{Kind: ChangeNameRemoved, Name: name})
	}
	return len(names)
}

// endGroup takes out a group with all its members, if there is one of that name.
func (t *txn) endGroup(name string) {
	g, ok := t.groups.get(name)
	if !ok {
		return
	}
	for i := range g.Members {
		t.note(Change{Kind: ChangeMemberLeft, Name: name, Member: g.Members[i]})
	}
	t.groups = t.groups.remove(name)
}

func (t *txn) joinExplicitly(group string, m Member) Code {
	if t.anyIsEntry([]string{group}) {
		return AlreadyRegistered
	}
	if m.ID == "" {
		m.ID = m.URI
	}
	t.join(group, Member{ID: m.ID, URI: m.URI, Zone: m.Zone, Weight: max(m.Weight, 0)})
	return OK
}

// join adds m to a group, or begins a new life of the member with its id; the latest join decides all about a member.  What a living
// member says again changes nothing, so that servers can repeat it as often as they like.
func (t *txn) join(group string, m Member) {
	m.Since, m.Joined = t.time, t.revision
	old, ok := t.groups.get(group)
	if !ok {
		t.groups = t.groups.put(group, &Group{Name: group, Members: []Member{m}, Created: t.revision, Version: t.revision})
		t.note(Change{Kind: ChangeMemberJoined, Name: group, Member: m})
		return
	}
	g := *old
	i, found := g.find(m.ID)
	if found {
		if g.Members[i].sameServer(&m) && g.Members[i].Health == Alive {
			return
		}
		g.Members = slices.Clone(g.Members)
		g.Members[i] = m
	} else {
		g.Members = slices.Insert(slices.Clip(g.Members), i, m) // clipped, so that it is a copy: others read the old one
	}
	g.Version = t.revision
	t.groups = t.groups.put(group, &g)
	t.note(Change{Kind: ChangeMemberJoined, Name: group, Member: m})
}

func (m *Member) sameServer(o *Member) bool {
	return m.URI == o.URI && m.Zone == o.Zone && m.Weight == o.Weight && m.ByTag == o.ByTag
}

// leave takes a member out and returns 1, or 0 if there is none of that id, or byTag is asked for and it joined otherwise.
func (t *txn) leave(group, id string, byTag bool) int {
	old, ok := t.groups.get(group)
	if !ok {
		return 0
	}
	i, found := old.find(id)
	if !found || byTag && !old.Members[i].ByTag {
		return 0
	}
	t.note(Change{Kind: ChangeMemberLeft, Name: group, Member: old.Members[i]})
	if len(old.Members) == 1 {
		t.groups = t.groups.remove(group)
		return 1
	}
	g := *old
	g.Members = slices.Concat(old.Members[:i], old.Members[i+1:])
	g.Version = t.revision
	t.groups = t.groups.put(group, &g)
	return 1
}

// leaveAll ends the memberships that an entry has by its tags.
func (t *txn) leaveAll(entry string, groups []string) {
	for _, g := range groups {
		t.leave(g, entry, true)
	}
}

// judge applies a verdict and returns 1 if it changed something.
func (t *txn) judge(v *Verdict) int {
	old, ok := t.groups.get(v.Group)
	if !ok {
		return 0
	}
	i, found := old.find(v.Member)
	if !found {
		return 0
	}
	m := old.Members[i]
	if m.Joined != v.Joined || m.Health == v.Health && m.Reason == v.Reason {
		return 0
	}
	m.Health, m.Reason, m.Since = v.Health, v.Reason, t.time
	g := *old
	g.Members = slices.Clone(old.Members)
	g.Members[i] = m
	g.Version = t.revision
	t.groups = t.groups.put(v.Group, &g)
	t.note(Change{Kind: ChangeMemberHealth, Name: v.Group, Member: m})
	return 1
}

func (t *txn) putNode(n Node) Code {
	old, ok := t.nodes.get(n.ID)
	if ok && old.Removed {
		return NodeRemoved
	}
	if !ok || *old != n {
		t.note(Change{Kind: ChangeNodeSet, Node: n})
	}
	t.nodes = t.nodes.put(n.ID, &n)
	return OK
}

// removeNode leaves a tombstone, also of a node that was never here.
func (t *txn) removeNode(id string) {
	n := Node{ID: id}
	if old, ok := t.nodes.get(id); ok {
		n = *old
	}
	if !n.Removed {
		t.note(Change{Kind: ChangeNodeRemoved, Node: n})
	}
	n.Removed = true
	t.nodes = t.nodes.put(id, &n)
}

// find returns where the member with that id is, or where it would be.
func (g *Group) find(id string) (int, bool) {
	return slices.BinarySearchFunc(g.Members, id, func(m Member, id string) int { return strings.Compare(m.ID, id) })
}

// normalTags returns a sorted copy without duplicates, nil if empty.
func normalTags(tags []string) []string {
	if len(tags) == 0 {
		return nil
	}
	tags = slices.Clone(tags)
	slices.Sort(tags)
	return slices.Compact(tags)
}

// groupsOf returns the names of the groups that normal tags speak of, sorted.
func groupsOf(tags []string) []string {
	var groups []string
	for _, tag := range tags {
		if name, ok := strings.CutPrefix(tag, groupTag); ok && name != "" {
			groups = append(groups, name)
		}
	}
	return groups
}

func withoutGroups(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return strings.HasPrefix(tag, groupTag) })
}

// missing returns what is in a but not in b, both sorted.
func missing(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool {
		_, ok := slices.BinarySearch(b, s)
		return ok
	})
}
