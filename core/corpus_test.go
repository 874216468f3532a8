package core_test

import (
	_ "embed"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/pyvalues"
)

//go:embed testdata/values.txt
var corpusText string

// TestCorpus reads random values that Pyro5 wrote as Pyro5 reads them, and writes them to be read as the same.  TestValuesFromPython of
// internal/interop does it with values that are new for each seed.
//
// spec: Z1 Z8
func TestCorpus(t *testing.T) {
	t.Parallel()
	count := make(map[string]int)
	for line := range strings.Lines(corpusText) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		part := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		data, err := hex.DecodeString(part[1])
		s, ok := core.SerializerByName(part[0])
		if err != nil || !ok || len(part) != 3 {
			t.Fatalf("%q: %v", line, err)
		}
		count[part[0]]++
		v, err := s.ParseValue(data)
		if got := pyvalues.Text(v); err != nil || got != part[2] {
			t.Errorf("%s %q:\n got %s, %v\nwant %s", part[0], data, got, err, part[2])
			continue
		}
		written, err := s.AppendValue(nil, v)
		if err != nil {
			t.Errorf("%s %q: cannot be written again: %v", part[0], data, err)
			continue
		}
		again, err := s.ParseValue(written)
		if got := pyvalues.Text(again); err != nil || got != part[2] {
			t.Errorf("%s %q: written again:\n got %s, %v\nwant %s", part[0], written, got, err, part[2])
		}
	}
	for _, name := range []string{"serpent", "marshal", "json", "msgpack"} {
		if count[name] < 100 {
			t.Errorf("%d values of %s", count[name], name)
		}
	}
}
