package gen

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
)

// marks are the directives above a method.
type marks struct {
	name     string // for callers; empty: made from the Go name
	oneway   bool
	keywords bool   // the proxy sends arguments as keywords
	contract string // ReadOnly, Idempotent or none
}

const markPrefix = "//pyro:"

// markNames are the directives, as in //pyro:readonly.
var markNames = []string{"oneway", "readonly", "idempotent", "keywords", "name"}

// parseMarks finds the directives in the comment above a method, which may be nil.
func parseMarks(doc *ast.CommentGroup) (m marks, err error) {
	if doc == nil {
		return m, nil
	}
	for _, c := range doc.List {
		if directive, ok := strings.CutPrefix(c.Text, markPrefix); ok {
			err = m.add(directive)
		} else if almost := misspelt(c.Text); almost != "" {
			err = fmt.Errorf("%q is a comment like any other: write %s%s, with nothing in front", c.Text, markPrefix, almost)
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *marks) add(directive string) error {
	word, argument, _ := strings.Cut(directive, " ")
	argument = strings.TrimSpace(argument)
	if word != "name" && argument != "" {
		return fmt.Errorf("%s%s takes no argument, got %q", markPrefix, word, argument)
	}
	switch word {
	case "name":
		return m.setName(argument)
	case "oneway":
		m.oneway = true
	case "keywords":
		m.keywords = true
	case "readonly":
		return m.setContract("ReadOnly")
	case "idempotent":
		return m.setContract("Idempotent")
	default:
		return fmt.Errorf("unknown mark %s%s, want one of %s", markPrefix, word, strings.Join(markNames, ", "))
	}
	return nil
}

func (m *marks) setContract(contract string) error {
	if m.contract != "" {
		return fmt.Errorf("two marks about repeating it: keep one (readonly implies idempotent)")
	}
	m.contract = contract
	return nil
}

func (m *marks) setName(name string) error {
	dunder := len(name) > 4 && strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__")
	switch {
	case m.name != "":
		return fmt.Errorf("two names, %s and %s", m.name, name)
	case !isPythonName(name):
		return fmt.Errorf("%sname %q is no name in Python", markPrefix, name)
	case strings.HasPrefix(name, "_") && !dunder:
		return fmt.Errorf("%sname %s is private, which Pyro does not expose", markPrefix, name)
	}
	m.name = name
	return nil
}

// misspelt returns the mark that a comment with a space in front of it was meant to be.
func misspelt(comment string) string {
	text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(comment, "//"), "/*"), "*/")
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), "pyro:")
	word, _, _ := strings.Cut(rest, " ")
	if ok && slices.Contains(markNames, word) {
		return rest
	}
	return ""
}
