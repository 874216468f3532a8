package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// difference takes out of an output what may differ from one run to the next.
type difference func(string) string

// replacing is a difference by a regular expression.
func replacing(pattern, with string) difference {
	re := regexp.MustCompile(pattern)
	return func(text string) string { return re.ReplaceAllString(text, with) }
}

// What differs wherever it is seen.
var always = []difference{
	replacing(`obj_[0-9a-f]{32}`, "obj_ID"),
	replacing(`@(localhost|127\.0\.0\.\d+):\d+`, "@ADDRESS"),
	replacing(`0x[0-9a-f]+`, "0xID"),
	replacing(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"),
}

// What differs in some examples.
var (
	dates          = replacing(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?`, "DATE")
	speeds         = replacing(`\d+(\.\d+)?( seconds| times| calls/sec)`, "N$2")
	unserializable = replacing(`(UNSERIALIZABLE ERROR: ).*`, "$1")
	// traceback is the server's; its last line, the error, stays.  Python's names the lines of the server's script.
	traceback = replacing(`(?m)^ \|  .*\n|^ \| Traceback .*\n`, "")
)

// sorted is for lines whose order is chance.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var (
	instanceID = regexp.MustCompile(`\d{6,}|\b[1-9]\d{0,4}\b`)
	newSession = regexp.MustCompile(`^-----|^ \.\.new proxy`)
)

// instances numbers the ids of instances in each part of the output, so that it shows which are the same.  Those of instances that live for
// one call only are dropped: Python gives the memory of one, hence its id, to the next.
func instances(text string) string {
	var b strings.Builder
	seen, perCall := make(map[string]string), false
	for line := range strings.Lines(text) {
		if newSession.MatchString(line) {
			seen, perCall = make(map[string]string), strings.Contains(line, "PERCALL")
			b.WriteString(line)
			continue
		}
		b.WriteString(instanceID.ReplaceAllStringFunc(line, func(id string) string {
			if perCall {
				return "#"
			}
			if seen[id] == "" {
				seen[id] = "#" + strconv.Itoa(len(seen)+1)
			}
			return seen[id]
		}))
	}
	return b.String()
}

// normal is a text without what may differ.
func normal(text string, differs []difference) string {
	for _, without := range slices.Concat(always, differs) {
		text = without(text)
	}
	return text
}

// compare says where two outputs differ; nil if they do not.
func compare(want, got string, differs []difference) error {
	wants, gots := strings.Split(normal(want, differs), "\n"), strings.Split(normal(got, differs), "\n")
	for i := range max(len(wants), len(gots)) {
		w, g := lineAt(wants, i), lineAt(gots, i)
		if w != g {
			return fmt.Errorf("line %d of the clients' output:\n  with the server in Python: %s\n  with the server in Go:     %s", i+1, w, g)
		}
	}
	return nil
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return strconv.Quote(lines[i])
	}
	return "nothing more"
}
