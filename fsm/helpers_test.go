package fsm

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "rewrite the expected states in testdata")
	seed   = flag.Int64("seed", 1, "of the tests with random input, which print it when they fail")
)

// apply applies one entry with these commands at the next index.
func apply(t testing.TB, s *State, commands ...Command) []Result {
	t.Helper()
	results, err := s.Apply(s.View().Index()+1, encode(t, commands...))
	if err != nil {
		t.Fatalf("apply %+v: %v", commands, err)
	}
	return results
}

func encode(t testing.TB, commands ...Command) []byte {
	t.Helper()
	entry, err := EncodeEntry(commands)
	if err != nil {
		t.Fatalf("encode %+v: %v", commands, err)
	}
	return entry
}

func persist(t testing.TB, v *View) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := v.Persist(&buf); err != nil {
		t.Fatalf("persist: %v", err)
	}
	return buf.Bytes()
}

func restore(t testing.TB, snapshot []byte) *State {
	t.Helper()
	s := New()
	if err := s.Restore(bytes.NewReader(snapshot)); err != nil {
		t.Fatalf("restore: %v", err)
	}
	return s
}

// dump writes all of a view as text, a line for each thing.
func dump(v *View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "state index=%d revision=%d cluster=%q time=%d count=%d\n", v.Index(), v.Revision(), v.ClusterID(), v.Time(), v.Count())
	for e := range v.Entries("") {
		dumpEntry(&b, e)
	}
	for g := range v.Groups("") {
		dumpGroup(&b, g, g.Members)
	}
	for _, n := range v.nodes.all() {
		fmt.Fprintf(&b, "node %q pyro=%q raft=%q http=%q version=%q removed=%t\n", n.ID, n.PyroAddress, n.RaftAddress, n.HTTPAddress, n.Version, n.Removed)
	}
	dumpSubscribers(&b, v.SubscribersVersion(), slices.Collect(v.Subscribers()))
	for ticket, id := range v.sessions.queue.all() {
		s, _ := v.sessions.byID.get(id)
		dumpSession(&b, ticket, id, s.used, s.floor)
		for sequence, r := range s.results.all() {
			fmt.Fprintf(&b, " %d:%s", sequence, dumpResult(r))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func dumpEntry(b *strings.Builder, e Entry) {
	fmt.Fprintf(b, "entry %q %q tags=%q created=%d modified=%d\n", e.Name, e.URI, e.Tags, e.Created, e.Modified)
}

func dumpGroup(b *strings.Builder, g Group, members []Member) {
	fmt.Fprintf(b, "group %q tags=%q created=%d version=%d\n", g.Name, g.Tags, g.Created, g.Version)
	for _, m := range members {
		fmt.Fprintf(b, "  member %q %q zone=%q weight=%d bytag=%t health=%d reason=%q since=%d joined=%d\n",
			m.ID, m.URI, m.Zone, m.Weight, m.ByTag, m.Health, m.Reason, m.Since, m.Joined)
	}
}

func dumpSubscribers(b *strings.Builder, version uint64, subscribers []Subscriber) {
	if version > 0 {
		fmt.Fprintf(b, "subscribers version=%d\n", version)
	}
	for _, s := range subscribers {
		fmt.Fprintf(b, "  subscriber %q serializer=%q patterns=%q policy=%q queue=%d owner=%q previous=%q assigned=%d modified=%d\n",
			s.URI, s.Serializer, s.Patterns, s.Policy, s.Queue, s.Owner, s.Previous, s.Assigned, s.Modified)
	}
}

func dumpSession(b *strings.Builder, ticket uint64, id string, used int64, floor uint64) {
	fmt.Fprintf(b, "session %q ticket=%d used=%d floor=%d results:", id, ticket, used, floor)
}

func dumpResult(r Result) string {
	names := []string{"ok", "already-registered", "unknown-name", "node-removed", "forgotten"}
	return fmt.Sprintf("%s/count=%d/revision=%d/%q", names[r.Code], r.Count, r.Revision, r.Text)
}

// randomEntry makes a log entry's commands over so few names that they meet often.
func randomEntry(r *rand.Rand, now *int64) []Command {
	commands := make([]Command, 1+r.Intn(3))
	for i := range commands {
		commands[i] = randomCommand(r)
		commands[i].Time = *now
		switch r.Intn(40) {
		case 0:
			*now += int64(r.Intn(50)) * sessionRenew
		case 1:
			*now -= 1000 // a leader whose clock is behind
		default:
			*now += int64(r.Intn(1000))
		}
	}
	return commands
}

func randomCommand(r *rand.Rand) Command {
	pick := func(from ...string) string { return from[r.Intn(len(from))] }
	name := func() string { return pick("a", "a.b", "a.c", "b", "g", "gg", "h", "ü", "", reservedName) }
	uri := func() string { return pick("PYRO:o@h1:1", "PYRO:o@h2:1", "PYRO:o@h3:1") }
	tags := func() []string {
		var tags []string
		for range r.Intn(4) {
			tags = append(tags, pick("x", "y", "z", "group:g", "group:gg", "group:h", "group:a", "group:", "group:"+reservedName))
		}
		return tags
	}
	c := Command{Kind: Kind(1 + r.Intn(int(KindAssign)))}
	if c.Kind == KindRemoveMatching || r.Intn(3) == 0 {
		c.Kind = KindRegister
	}
	if r.Intn(2) == 0 {
		c.Session = pick("s", "t", "u", "v", "w", "x")
		c.Sequence = uint64(r.Intn(30))
		c.Floor = uint64(max(0, r.Intn(200)-175))
	}
	switch c.Kind {
	case KindInit:
		c.ClusterID = pick("c1", "c2")
	case KindRegister:
		c.Name, c.URI, c.Tags, c.Safe = name(), uri(), tags(), r.Intn(3) == 0
	case KindRemove:
		c.Names = []string{name(), name(), name()}[:r.Intn(4)]
	case KindRemovePrefix:
		c.Name = name()
		if c.Name == "" && r.Intn(4) > 0 {
			c.Name = "a."
		}
	case KindSetTags:
		c.Name, c.Tags = name(), tags()
	case KindJoin:
		c.Name = name()
		c.Member = Member{ID: pick("", "a", "m1", "m2"), URI: uri(), Zone: pick("", "eu"), Weight: r.Intn(3) - 1}
	case KindLeave:
		c.Name, c.Member.ID = name(), pick("a", "b", "m1", "m2", uri())
	case KindHealth:
		for range r.Intn(4) {
			c.Verdicts = append(c.Verdicts, Verdict{Group: name(), Member: pick("a", "b", "m1", uri()),
				Joined: uint64(r.Intn(60)), Health: Health(r.Intn(2)), Reason: pick("", "refused")})
		}
	case KindPutNode:
		c.Node = Node{ID: pick("n1", "n2", "n3"), PyroAddress: pick("h1:1", "h2:1"), RaftAddress: "h:2", HTTPAddress: "h:3", Version: "v1", Removed: r.Intn(2) == 0}
	case KindRemoveNode:
		if r.Intn(20) > 0 { // rare, since it is for ever
			c.Kind = KindNoop
		} else {
			c.Node.ID = pick("n1", "n2", "n3", "n4")
		}
	case KindSubscribe:
		c.Subscriber = Subscriber{URI: uri(), Serializer: pick("", "json"), Policy: pick("", "block"), Queue: r.Intn(3), Owner: pick("n1", "n2")}
		for range r.Intn(4) {
			c.Subscriber.Patterns = append(c.Subscriber.Patterns, pick("x", "y", "z"))
		}
	case KindUnsubscribe:
		c.Name, c.IfModified = uri(), uint64(max(0, r.Intn(100)-70))
		for range r.Intn(3) {
			c.Names = append(c.Names, pick("x", "y", "z"))
		}
	case KindAssign:
		for range r.Intn(4) {
			c.Assignments = append(c.Assignments, Assignment{uri(), uint64(r.Intn(60)), pick("n1", "n2", "n3")})
		}
	}
	return c
}

// verdictsThatFit lets about half of the random verdicts and assignments speak of members and subscribers that are there.
func verdictsThatFit(r *rand.Rand, v *View, commands []Command) {
	var all []Verdict
	for g := range v.Groups("") {
		for _, m := range g.Members {
			all = append(all, Verdict{Group: g.Name, Member: m.ID, Joined: m.Joined})
		}
	}
	subscribers := slices.Collect(v.Subscribers())
	for _, c := range commands {
		for i := range c.Assignments {
			if len(subscribers) > 0 && r.Intn(2) == 0 {
				s := subscribers[r.Intn(len(subscribers))]
				c.Assignments[i].Subscriber, c.Assignments[i].Assigned = s.URI, s.Assigned
			}
		}
		for i := range c.Verdicts {
			if len(all) > 0 && r.Intn(2) == 0 {
				fit := all[r.Intn(len(all))]
				fit.Health, fit.Reason = c.Verdicts[i].Health, c.Verdicts[i].Reason
				c.Verdicts[i] = fit
			}
		}
	}
}
