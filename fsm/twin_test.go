package fsm

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// twin is the state machine once more, slow and obvious: plain maps, changed in place, everything looked for by going through everything.
type twin struct {
	index, revision uint64
	clusterID       string
	time            int64
	entries         map[string]*Entry
	groups          map[string]*twinGroup
	nodes           map[string]Node
	sessions        map[string]*twinSession
	tickets         uint64
	subscribers     map[string]*Subscriber
	subscribed      uint64
}

type twinGroup struct {
	Group
	members map[string]Member
}

type twinSession struct {
	ticket  uint64
	used    int64
	floor   uint64
	results map[uint64]Result
}

func newTwin() *twin {
	return &twin{entries: map[string]*Entry{}, groups: map[string]*twinGroup{}, nodes: map[string]Node{}, sessions: map[string]*twinSession{},
		subscribers: map[string]*Subscriber{}}
}

func (w *twin) apply(index uint64, commands []Command) []Result {
	w.index = index
	var results []Result
	for _, c := range commands {
		if c.Time > w.time {
			w.time = c.Time
		}
		w.endSessions()
		if c.Session == "" {
			results = append(results, w.run(c))
		} else {
			results = append(results, w.once(c))
		}
	}
	return results
}

func (w *twin) endSessions() {
	ids := slices.SortedFunc(maps.Keys(w.sessions), func(a, b string) int { return int(w.sessions[a].ticket) - int(w.sessions[b].ticket) })
	for _, id := range ids[:min(4, len(ids))] {
		if w.time-w.sessions[id].used >= 3600e9 {
			delete(w.sessions, id)
		}
	}
}

func (w *twin) once(c Command) Result {
	s := w.sessions[c.Session]
	if s == nil || w.time-s.used >= 60e9 {
		if s == nil {
			s = &twinSession{results: map[uint64]Result{}}
			w.sessions[c.Session] = s
		}
		w.tickets++
		s.ticket, s.used = w.tickets, w.time
	}
	r, known := s.results[c.Sequence]
	s.floor = max(s.floor, c.Floor)
	if !known && c.Sequence < s.floor {
		r = Result{Code: Forgotten}
	} else if !known {
		r = w.run(c)
		s.results[c.Sequence] = r
	}
	for sequence := range s.results {
		if sequence < s.floor {
			delete(s.results, sequence)
		}
	}
	return r
}

func (w *twin) run(c Command) Result {
	w.revision++
	r := Result{Revision: w.revision}
	switch c.Kind {
	case KindInit:
		if w.clusterID == "" {
			w.clusterID = c.ClusterID
		}
		r.Text = w.clusterID
	case KindRegister:
		r.Code = w.register(c)
	case KindRemove:
		r.Count = w.remove(func(name string) bool { return slices.Contains(c.Names, name) })
	case KindRemovePrefix:
		r.Count = w.remove(func(name string) bool { return strings.HasPrefix(name, c.Name) })
	case KindSetTags:
		r.Code = w.setTags(c)
	case KindJoin:
		if w.entries[c.Name] != nil || c.Name == "Pyro.NameServer" {
			r.Code = AlreadyRegistered
			break
		}
		if c.Member.ID == "" {
			c.Member.ID = c.Member.URI
		}
		c.Member.Weight = max(0, c.Member.Weight)
		w.join(c.Name, c.Member)
	case KindLeave:
		if g := w.groups[c.Name]; g != nil {
			if _, ok := g.members[c.Member.ID]; ok {
				w.leave(c.Name, c.Member.ID)
				r.Count = 1
			}
		}
	case KindHealth:
		for _, v := range c.Verdicts {
			g := w.groups[v.Group]
			if g == nil {
				continue
			}
			m, ok := g.members[v.Member]
			if !ok || m.Joined != v.Joined || (m.Health == v.Health && m.Reason == v.Reason) {
				continue
			}
			m.Health, m.Reason, m.Since = v.Health, v.Reason, w.time
			g.members[v.Member] = m
			g.Version = w.revision
			r.Count++
		}
	case KindPutNode:
		if w.nodes[c.Node.ID].Removed {
			r.Code = NodeRemoved
			break
		}
		c.Node.Removed = false
		w.nodes[c.Node.ID] = c.Node
	case KindRemoveNode:
		n := w.nodes[c.Node.ID]
		n.ID, n.Removed = c.Node.ID, true
		w.nodes[c.Node.ID] = n
	case KindSubscribe:
		r.Count = w.subscribe(c.Subscriber)
	case KindUnsubscribe:
		r.Count = w.unsubscribe(c)
	case KindAssign:
		for _, a := range c.Assignments {
			if s := w.subscribers[a.Subscriber]; s != nil && s.Assigned == a.Assigned && s.Owner != a.Owner {
				s.Previous, s.Owner, s.Assigned = s.Owner, a.Owner, w.revision
				w.subscribed = w.revision
				r.Count++
			}
		}
	}
	return r
}

func (w *twin) subscribe(c Subscriber) int {
	s := w.subscribers[c.URI]
	if s == nil {
		if len(c.Patterns) == 0 {
			return 0
		}
		s = &Subscriber{URI: c.URI, Owner: c.Owner, Assigned: w.revision}
		w.subscribers[c.URI] = s
	}
	before := len(s.Patterns)
	s.Patterns = list(set(append(slices.Clone(s.Patterns), c.Patterns...)))
	s.Serializer, s.Policy, s.Queue, s.Modified = c.Serializer, c.Policy, c.Queue, w.revision
	if s.Owner != c.Owner {
		s.Previous, s.Owner, s.Assigned = s.Owner, c.Owner, w.revision
	}
	w.subscribed = w.revision
	return len(s.Patterns) - before
}

func (w *twin) unsubscribe(c Command) int {
	s := w.subscribers[c.Name]
	if s == nil || c.IfModified != 0 && c.IfModified != s.Modified {
		return 0
	}
	var left []string
	for _, p := range s.Patterns {
		if len(c.Names) > 0 && !slices.Contains(c.Names, p) {
			left = append(left, p)
		}
	}
	n := len(s.Patterns) - len(left)
	if n > 0 {
		w.subscribed = w.revision
	}
	if s.Patterns = left; len(left) == 0 {
		delete(w.subscribers, c.Name)
	}
	return n
}

func set(tags []string) map[string]bool {
	s := map[string]bool{}
	for _, tag := range tags {
		s[tag] = true
	}
	return s
}

func list(s map[string]bool) []string { return slices.Sorted(maps.Keys(s)) }

// groupOf returns the group that a tag speaks of.
func groupOf(tag string) (string, bool) {
	if len(tag) > len("group:") && tag[:len("group:")] == "group:" {
		return tag[len("group:"):], true
	}
	return "", false
}

func (w *twin) refuses(tags map[string]bool) bool {
	for tag := range tags {
		if g, ok := groupOf(tag); ok && (w.entries[g] != nil || g == "Pyro.NameServer") {
			return true
		}
	}
	return false
}

func (w *twin) register(c Command) Code {
	tags := set(c.Tags)
	asMember := c.Name != "" && tags["group:"+c.Name]
	if c.Name == "Pyro.NameServer" || w.refuses(tags) {
		return AlreadyRegistered
	}
	if c.Safe && (w.entries[c.Name] != nil || w.groups[c.Name] != nil && !asMember) {
		return AlreadyRegistered
	}
	if asMember {
		for tag := range tags {
			if g, ok := groupOf(tag); ok {
				w.join(g, Member{ID: c.URI, URI: c.URI})
			}
		}
		for tag := range tags {
			if !strings.HasPrefix(tag, "group:") {
				w.groups[c.Name].Tags = list(set(append(w.groups[c.Name].Tags, tag)))
			}
		}
		return OK
	}
	delete(w.groups, c.Name)
	created := w.revision
	if old := w.entries[c.Name]; old != nil {
		created = old.Created
		w.leaveTags(c.Name, old.Tags, tags)
	}
	w.entries[c.Name] = &Entry{Name: c.Name, URI: c.URI, Tags: list(tags), Created: created, Modified: w.revision}
	for tag := range tags {
		if g, ok := groupOf(tag); ok {
			w.join(g, Member{ID: c.Name, URI: c.URI, ByTag: true})
		}
	}
	return OK
}

func (w *twin) setTags(c Command) Code {
	tags := set(c.Tags)
	if g := w.groups[c.Name]; g != nil {
		maps.DeleteFunc(tags, func(tag string, _ bool) bool { return strings.HasPrefix(tag, "group:") })
		g.Tags = list(tags)
		return OK
	}
	e := w.entries[c.Name]
	if e == nil {
		return UnknownName
	}
	fresh := maps.Clone(tags)
	for _, tag := range e.Tags {
		delete(fresh, tag)
	}
	if w.refuses(fresh) {
		return AlreadyRegistered
	}
	w.leaveTags(c.Name, e.Tags, tags)
	e.Tags, e.Modified = list(tags), w.revision
	for tag := range fresh {
		if g, ok := groupOf(tag); ok {
			w.join(g, Member{ID: c.Name, URI: e.URI, ByTag: true})
		}
	}
	return OK
}

// leaveTags ends the memberships by old tags that are not kept.
func (w *twin) leaveTags(entry string, old []string, kept map[string]bool) {
	for _, tag := range old {
		if g, ok := groupOf(tag); ok && !kept[tag] && w.groups[g] != nil && w.groups[g].members[entry].ByTag {
			w.leave(g, entry)
		}
	}
}

func (w *twin) join(group string, m Member) {
	g := w.groups[group]
	if g == nil {
		g = &twinGroup{Group{Name: group, Created: w.revision}, map[string]Member{}}
		w.groups[group] = g
	}
	old, ok := g.members[m.ID]
	if ok && old.Health == Alive && old.URI == m.URI && old.Zone == m.Zone && old.Weight == m.Weight && old.ByTag == m.ByTag {
		return
	}
	m.Joined, m.Since = w.revision, w.time
	g.members[m.ID] = m
	g.Version = w.revision
}

func (w *twin) leave(group, id string) {
	g := w.groups[group]
	delete(g.members, id)
	g.Version = w.revision
	if len(g.members) == 0 {
		delete(w.groups, group)
	}
}

func (w *twin) remove(match func(string) bool) int {
	var gone []string
	for name := range w.entries {
		if match(name) {
			gone = append(gone, name)
		}
	}
	for name := range w.groups {
		if match(name) {
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		delete(w.groups, name)
		if e := w.entries[name]; e != nil {
			delete(w.entries, name)
			w.leaveTags(name, e.Tags, nil)
		}
	}
	return len(gone)
}

// dump is dump for the twin.
func (w *twin) dump() string {
	var b strings.Builder
	fmt.Fprintf(&b, "state index=%d revision=%d cluster=%q time=%d count=%d\n", w.index, w.revision, w.clusterID, w.time, len(w.entries)+len(w.groups))
	for _, name := range slices.Sorted(maps.Keys(w.entries)) {
		dumpEntry(&b, *w.entries[name])
	}
	for _, name := range slices.Sorted(maps.Keys(w.groups)) {
		g := w.groups[name]
		var members []Member
		for _, id := range slices.Sorted(maps.Keys(g.members)) {
			members = append(members, g.members[id])
		}
		dumpGroup(&b, g.Group, members)
	}
	for _, id := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[id]
		fmt.Fprintf(&b, "node %q pyro=%q raft=%q http=%q version=%q removed=%t\n", n.ID, n.PyroAddress, n.RaftAddress, n.HTTPAddress, n.Version, n.Removed)
	}
	var subscribers []Subscriber
	for _, uri := range slices.Sorted(maps.Keys(w.subscribers)) {
		subscribers = append(subscribers, *w.subscribers[uri])
	}
	dumpSubscribers(&b, w.subscribed, subscribers)
	for _, id := range slices.SortedFunc(maps.Keys(w.sessions), func(a, b string) int { return int(w.sessions[a].ticket) - int(w.sessions[b].ticket) }) {
		s := w.sessions[id]
		dumpSession(&b, s.ticket, id, s.used, s.floor)
		for _, sequence := range slices.Sorted(maps.Keys(s.results)) {
			fmt.Fprintf(&b, " %d:%s", sequence, dumpResult(s.results[sequence]))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestTwin runs random logs through the state machine, its twin, and a second state machine that is now and then replaced by one
// restored from its snapshot, and compares them after every entry.
func TestTwin(t *testing.T) {
	t.Parallel()
	for run := range 8 {
		seed := *seed*100 + int64(run)
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			runTwin(t, seed, 1000)
		})
	}
}

func runTwin(t *testing.T, seed int64, steps int) {
	r := rand.New(rand.NewSource(seed))
	s, second, w := New(), New(), newTwin()
	var now int64
	var codes [Forgotten + 1]int
	for step := range steps {
		index := uint64(step + 1)
		commands := randomEntry(r, &now)
		verdictsThatFit(r, s.View(), commands)
		old, before := s.View(), dump(s.View())
		got := apply(t, s, commands...)
		apply(t, second, commands...)
		want := w.apply(index, commands)
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: %+v\nin %sgot  %v\nwant %v", step, commands, before, got, want)
		}
		if got, want := dump(s.View()), w.dump(); got != want {
			t.Fatalf("step %d: %+v\nin %s%s", step, commands, before, firstDifference(got, want))
		}
		if now := dump(old); now != before {
			t.Fatalf("step %d: %+v: the view before it changed: %s", step, commands, firstDifference(now, before))
		}
		for _, r := range got {
			codes[r.Code]++
		}
		checkInvariants(t, s.View())
		if step%50 == 0 {
			snapshot := persist(t, second.View())
			if !bytes.Equal(snapshot, persist(t, s.View())) {
				t.Fatalf("step %d: same log, other snapshot", step)
			}
			second = restore(t, snapshot)
			if !bytes.Equal(snapshot, persist(t, second.View())) {
				t.Fatalf("step %d: other snapshot after restore", step)
			}
		}
	}
	for code, n := range codes {
		if n == 0 && Code(code) != NodeRemoved {
			t.Errorf("no command ended with code %d: %v", code, codes)
		}
	}
}

// checkInvariants checks what holds in every state.
func checkInvariants(t *testing.T, v *View) {
	t.Helper()
	for g := range v.Groups("") {
		if _, ok := v.Entry(g.Name); ok || len(g.Members) == 0 || g.Name == reservedName {
			t.Fatalf("group %+v: also an entry (%t), empty or reserved", g, ok)
		}
		for i, m := range g.Members {
			if i > 0 && g.Members[i-1].ID >= m.ID {
				t.Fatalf("group %+v: members out of order", g)
			}
			if e, ok := v.Entry(m.ID); m.ByTag && (!ok || e.URI != m.URI || !slices.Contains(e.Tags, groupTag+g.Name)) {
				t.Fatalf("group %+v: member %q by tag of %+v", g, m.ID, e)
			}
		}
	}
	for s := range v.Subscribers() {
		if got, ok := v.Subscriber(s.URI); !ok || got.Modified != s.Modified {
			t.Fatalf("subscriber %+v: got %+v, %t by its URI", s, got, ok)
		}
		if len(s.Patterns) == 0 || !slices.Equal(s.Patterns, list(set(s.Patterns))) {
			t.Fatalf("subscriber %+v: patterns", s)
		}
		if s.Assigned == 0 || s.Modified == 0 || max(s.Assigned, s.Modified) > v.SubscribersVersion() || v.SubscribersVersion() > v.Revision() {
			t.Fatalf("subscriber %+v: version %d of them, revision %d", s, v.SubscribersVersion(), v.Revision())
		}
	}
	results := 0
	for id, s := range v.sessions.byID.all() {
		if queued, _ := v.sessions.queue.get(s.queued); queued != id {
			t.Fatalf("session %q: its ticket %d is %q's", id, s.queued, queued)
		}
		results += s.results.len()
	}
	if v.sessions.queue.len() != v.sessions.byID.len() || v.sessions.results != results {
		t.Fatalf("sessions: %d in queue, %d by id; %d results counted, %d there", v.sessions.queue.len(), v.sessions.byID.len(), v.sessions.results, results)
	}
}
