package fsm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestScripts runs the scripts in testdata/scripts.  A script is made of blocks that are divided by an empty line: commands, a line each, that
// make one log entry; a line "----"; the results and then the state that follow.  Lines that begin with # are comments.  A command is its kind
// and fields as key=value.  go test -run Scripts -update writes what comes out into the scripts, for review as a diff.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("scripts: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s:\n%s", file, firstDifference(got, string(text)))
			}
		})
	}
}

func runScript(t *testing.T, script string) string {
	s := New()
	var out []string
	for block := range strings.SplitSeq(strings.TrimSpace(script), "\n\n") {
		input, _, _ := strings.Cut(block, "\n----")
		var commands []Command
		for line := range strings.Lines(input) {
			if !strings.HasPrefix(line, "#") {
				commands = append(commands, parseCommand(t, strings.TrimSpace(line)))
			}
		}
		if len(commands) == 0 {
			out = append(out, block)
			continue
		}
		lines := []string{input, "----"}
		for _, r := range apply(t, s, commands...) {
			lines = append(lines, dumpResult(r))
		}
		out = append(out, strings.Join(lines, "\n")+"\n"+strings.TrimSpace(dump(s.View())))
	}
	return strings.Join(out, "\n\n") + "\n"
}

var kinds = map[string]Kind{
	"init": KindInit, "register": KindRegister, "remove": KindRemove, "remove-prefix": KindRemovePrefix, "set-tags": KindSetTags,
	"join": KindJoin, "leave": KindLeave, "health": KindHealth, "put-node": KindPutNode, "remove-node": KindRemoveNode, "noop": KindNoop,
	"subscribe": KindSubscribe, "unsubscribe": KindUnsubscribe, "assign": KindAssign,
}

func parseCommand(t *testing.T, line string) Command {
	t.Helper()
	fields := strings.Fields(line)
	kind, ok := kinds[fields[0]]
	if !ok {
		t.Fatalf("no such command: %q", line)
	}
	c := Command{Kind: kind}
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		if !setField(&c, key, value) {
			t.Fatalf("no such field: %q in %q", field, line)
		}
	}
	return c
}

func setField(c *Command, key, value string) bool {
	list := strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
	number, _ := strconv.ParseUint(value, 10, 63)
	switch key {
	case "name", "group", "prefix":
		c.Name = value
	case "names":
		c.Names = list
	case "uri":
		c.URI, c.Member.URI, c.Subscriber.URI = value, value, value
	case "tags":
		c.Tags = list
	case "safe":
		c.Safe = true
	case "member":
		c.Member.ID = value
	case "zone":
		c.Member.Zone = value
	case "weight":
		c.Member.Weight = int(number)
	case "verdict": // group/member/joined/health/reason
		p := strings.SplitN(value, "|", 5)
		joined, _ := strconv.ParseUint(p[2], 10, 64)
		v := Verdict{Group: p[0], Member: p[1], Joined: joined, Reason: p[4]}
		if p[3] == "suspect" {
			v.Health = Suspect
		}
		c.Verdicts = append(c.Verdicts, v)
	case "serializer":
		c.Subscriber.Serializer = value
	case "patterns":
		c.Subscriber.Patterns = list
	case "policy":
		c.Subscriber.Policy = value
	case "queue":
		c.Subscriber.Queue = int(number)
	case "owner":
		c.Subscriber.Owner = value
	case "if-modified":
		c.IfModified = number
	case "assignment": // subscriber|assigned|owner
		p := strings.SplitN(value, "|", 3)
		assigned, _ := strconv.ParseUint(p[1], 10, 64)
		c.Assignments = append(c.Assignments, Assignment{Subscriber: p[0], Assigned: assigned, Owner: p[2]})
	case "id":
		c.Node.ID, c.ClusterID = value, value
	case "pyro":
		c.Node.PyroAddress = value
	case "raft":
		c.Node.RaftAddress = value
	case "session":
		c.Session = value
	case "sequence":
		c.Sequence = number
	case "floor":
		c.Floor = number
	case "minute":
		c.Time = int64(number) * sessionRenew
	default:
		return false
	}
	return true
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d: got\n\t%s\nwant\n\t%s", i+1, g[i], strings.Join(w[min(i, len(w)):min(i+1, len(w))], ""))
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}
