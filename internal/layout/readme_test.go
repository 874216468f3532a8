package layout

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestREADMEExamples keeps the README's code the same as the examples, which are compiled and run.  With UPDATE_README=1 in the
// environment it writes them into the README.
func TestREADMEExamples(t *testing.T) {
	t.Parallel()
	const path = "../../README.md"
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- (examples/[^ ]+) -->\n```([a-z]+)\n(.*?)```")
	found := 0
	want := blocks.ReplaceAllStringFunc(string(readme), func(block string) string {
		found++
		m := blocks.FindStringSubmatch(block)
		source, err := os.ReadFile("../../" + m[1])
		if err != nil {
			t.Fatal(err)
		}
		return "<!-- " + m[1] + " -->\n```" + m[2] + "\n" + strings.TrimSuffix(string(source), "\n") + "\n```"
	})
	if found == 0 {
		t.Fatal("the README shows no example")
	}
	if want == string(readme) {
		return
	}
	if os.Getenv("UPDATE_README") == "" {
		t.Fatal("the README's examples differ from the files; update them with UPDATE_README=1 go test ./internal/layout")
	}
	if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
