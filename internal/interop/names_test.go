package interop

import (
	"regexp"
	"strings"
	"testing"
)

// difference is where our name server knowingly answers other than Pyro5's.
type difference struct {
	question string // a regular expression for the whole of "serializer method(arguments)"
	reason   string
	// same, if set, still compares what it makes of both answers.
	same func(answer string) string
}

// exceptionClass is an answer without the text of an exception.
func exceptionClass(answer string) string {
	class, _, _ := strings.Cut(answer, ": ")
	return class
}

// anySerializer begins the questions that every serializer answers alike.
const anySerializer = `\w+ `

var differences = []difference{
	{
		anySerializer + `(register|lookup|list|yplookup|set_metadata|remove|count|ping)\(.*\)`,
		"wrong arguments are the TypeErrors of CPython, but without the class of the method and without counting self: both vary with its version",
		withoutSelf,
	},
	{
		anySerializer + `list\(regex='(\(\?!c\)\[a-d\]\$|c\(\?=.*|\(c\)\.\*\(\?<=d\)|\(\.\).*)'\)`,
		"look-around and back-references can take time without bound, which a node that many depend on cannot afford: they are a NamingError",
		nil,
	},
	{
		anySerializer + `list\(regex='(a\{2,1\}|\(\?P<n|\(\?|\(\?<n>a\)|\[b-a\]|\\\\1|\(\?P=n\)|\(\?i)'\)`,
		"texts about malformed regular expressions are Python's only as far as its usual mistakes go",
		exceptionClass,
	},
	{
		anySerializer + `list\(regex='x\{99999999999\}'\)`,
		"an absurd repetition is a malformed regular expression like others; Python raises an OverflowError",
		nil,
	},
	{
		`marshal lookup\(.+\)`,
		"marshal has no nested URIs; ours says so at length",
		exceptionClass,
	},
	{
		`(json|msgpack) list\(return_metadata=True\)`,
		"Pyro's own fails when an entry has no metadata",
		nil,
	},
	{
		anySerializer + `(register\('odd', .*\)|remove\('odd'\))`,
		"Pyro keeps tags of any type, which then break its clients and its SQL storage; ours only takes strings, as the documents say",
		nil,
	},
	{
		anySerializer + `(lookup\('Pyro.NameServer', True\)|yplookup\(list\['t'\]\))`,
		"the name server's own entry is made up by the node that answers: nobody can put another in its place",
		nil,
	},
}

var aboutArguments = regexp.MustCompile(`^TypeError: (?:NameServer\.)?(\w+\(\)) (missing|takes|got)[^:]*(.*)$`)

// withoutSelf is what is the same in texts about arguments; other answers stay as they are.
func withoutSelf(answer string) string {
	parts := aboutArguments.FindStringSubmatch(answer)
	if parts == nil {
		return answer
	}
	return strings.Join(parts[1:], " ")
}

// TestNames asks both name servers the same, with every serializer, and compares the answers.
//
// spec: N1 N3 N4 N5 N6 N7 N8 N9 N10 N11 N13 A7
func TestNames(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	ours := start(t, nil, "names.py", n.host, n.port)
	stock := start(t, nil, "module.py", "Pyro5.nameserver", "-n", "127.0.0.1", "-p", "0", "-x")
	uri := parseURI(t, stock.expect(t, "URI = "))
	theirs := start(t, nil, "names.py", uri.Host, portText(uri))

	used := make([]bool, len(differences))
	for {
		want, got := nextLine(t, theirs), nextLine(t, ours)
		if want == "end" && got == "end" {
			break
		}
		question, wantAnswer, _ := strings.Cut(want, " -> ")
		gotQuestion, gotAnswer, _ := strings.Cut(got, " -> ")
		if question != gotQuestion {
			t.Fatalf("answers are out of step:\nstock %s\n ours %s", want, got)
		}
		if wantAnswer == gotAnswer || isKnown(used, question, wantAnswer, gotAnswer) {
			continue
		}
		t.Errorf("%s\nstock: %s\n ours: %s", question, wantAnswer, gotAnswer)
	}
	for i, d := range differences {
		if !used[i] {
			t.Errorf("there is no difference any more in %s (%s): take it off the list", d.question, d.reason)
		}
	}
}

func isKnown(used []bool, question, want, got string) bool {
	for i, d := range differences {
		if regexp.MustCompile("^(?:"+d.question+")$").MatchString(question) && (d.same == nil || d.same(want) == d.same(got)) {
			used[i] = true
			return true
		}
	}
	return false
}

// nextLine returns the next line that a process prints.
func nextLine(t *testing.T, p *process) string {
	t.Helper()
	return p.expect(t, "")
}
