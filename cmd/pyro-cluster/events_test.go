package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/events"
)

// TestEvents publishes with the command line at one node what it subscribes to at another.
func TestEvents(t *testing.T) {
	t.Parallel()
	_, base := startDev(t, "--data-dir", t.TempDir())
	nodes := devAddresses(base)
	publishedNodes(t, strings.Join(nodes, ","), 3)

	sub := start(t, "events", "sub", "News", "prices.*.eur", "$cluster.name", "--count", "5", "--ns", nodes[0], "-o", "json")
	eventually(t, "streams of three patterns", "3", func() string { return streams(t, nodes[0]) })
	subscribe(t, nodes[0], "any") // returns when the other nodes know this pattern, and those before it
	must(t, "events", "pub", "NEWS", "hello, world", `{"a": [1, null]}`, "--ns", nodes[1])
	must(t, "events", "pub", "prices.abc.eur", "12", "--string", "--ns", nodes[2])
	must(t, "events", "pub", "other", "1", "--ns", nodes[2])
	r := cliInput(t, "a line\n", "events", "pub", "news", "-", "--ns", nodes[1])
	if r.code != exitOK {
		t.Errorf("pub from stdin: exit %d, %s", r.code, r.stderr)
	}
	must(t, "ns", "register", "bank", "PYRO:bank@localhost:7000", "--ns", nodes[2])
	r = sub.wait()
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("sub: exit %d, stderr %q", r.code, r.stderr)
	}
	want := map[string][]string{ // by publisher's node the order holds
		"NEWS":           {`"hello, world"`, `{"a":[1,null]}`},
		"prices.abc.eur": {`"12"`},
		"news":           {`"a line"`},
	}
	lines := 0
	for line := range strings.Lines(r.stdout) {
		lines++
		var e struct {
			Topic   string
			Message json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if e.Topic == "$cluster.name" {
			if !strings.Contains(string(e.Message), `"name":"bank"`) {
				t.Errorf("event of a name: got %s", line)
			}
			continue
		}
		if w := want[e.Topic]; len(w) == 0 || w[0] != string(e.Message) {
			t.Errorf("event %s: want %q", line, w)
			continue
		}
		want[e.Topic] = want[e.Topic][1:]
	}
	for topic, missing := range want {
		if len(missing) != 0 {
			t.Errorf("events of %s: %q did not come", topic, missing)
		}
	}
	if lines != 5 {
		t.Errorf("got %d events, want 5", lines)
	}
	topics := must(t, "events", "topics", "--ns", nodes[1])
	if !strings.Contains(topics, "PATTERN") || !strings.Contains(topics, "news") {
		t.Errorf("topics: got %s", topics)
	}
}

// subscribe subscribes at a node until the test ends.
func subscribe(t *testing.T, node, topic string) {
	t.Helper()
	c, err := events.NewClient([]string{node}, events.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := c.Subscribe(t.Context(), events.SubscribeOptions{Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
}

// streams counts the patterns that a node has a stream for.
func streams(t *testing.T, node string) string {
	var rows []topicRow
	if err := json.Unmarshal([]byte(must(t, "events", "topics", "--ns", node, "-o", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rows {
		n += r.Streams
	}
	return string(rune('0' + n))
}
