package interop

import (
	"strings"
	"testing"
)

// TestNsc runs every command of the stock control tool against a node.
//
// spec: T2 N3 N4 N5 N6 N7 N8
func TestNsc(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	own := n.uri.String()
	ownEntry := "Pyro.NameServer --> " + own + "\n    metadata: {'class:Pyro5.nameserver.NameServer'}\n"
	list := func(title string, entries ...string) string {
		return "--------START LIST " + title + "\n" + strings.Join(entries, "") + "--------END LIST " + title + "\n"
	}
	const sure = "Potentially removing lots of items from the Name server. Are you sure (y/n)?"
	tests := []struct {
		command string // words, separated by blanks
		stdin   string
		want    string
		code    int
	}{
		{"ping", "", "Name server ping ok.\n", 0},
		{"list", "", list("", ownEntry), 0},
		{"register bank PYRO:bank@host:1", "", "Registered bank\n", 0},
		{"register bank PYRO:other@host:1", "", "Error: NamingError - name already registered: bank\n", 1},
		{"register bad nonsense", "", "Error: PyroError - invalid uri\n", 1},
		{"register bakery PYRO:bakery@host:2", "", "Registered bakery\n", 0},
		{"lookup bank", "", "PYRO:bank@host:1\n", 0},
		{"lookup nobody", "", "Error: NamingError - unknown name: nobody\n", 1},
		{"setmeta bank money", "", "Metadata updated\n", 0},
		{"lookup bank", "", "PYRO:bank@host:1\nmetadata: {'money'}\n", 0},
		{"setmeta nobody money", "", "Error: NamingError - unknown name: nobody\n", 1},
		{"list", "", list("", ownEntry, "bakery --> PYRO:bakery@host:2\n", "bank --> PYRO:bank@host:1\n    metadata: {'money'}\n"), 0},
		{"list bank", "", list("- prefix 'bank'", "bank --> PYRO:bank@host:1\n    metadata: {'money'}\n"), 0},
		{"listmatching ba.*y$", "", list("- regex 'ba.*y$'", "bakery --> PYRO:bakery@host:2\n"), 0},
		{"listmatching [", "", "Error: NamingError - invalid regex: unterminated character set at position 0\n", 1},
		{"yplookup_all money", "", list(" - searched by metadata", "bank --> PYRO:bank@host:1\n    metadata: {'money'}\n"), 0},
		{"yplookup_all money bread", "", list(" - searched by metadata"), 0},
		{"yplookup_any money bread", "", list(" - searched by metadata", "bank --> PYRO:bank@host:1\n    metadata: {'money'}\n"), 0},
		{"setmeta bank", "", "Metadata cleared\n", 0},
		{"remove bank", "", "Removed bank\n", 0},
		{"remove bank", "", "Nothing removed\n", 0},
		{"removematching ba.*", "n\n", sure, 0},
		{"lookup bakery", "", "PYRO:bakery@host:2\n", 0},
		{"removematching ba.*", "y\n", sure + "1 items removed.\n", 0},
		{"remove Pyro.NameServer", "", "Nothing removed\n", 0},
		{"-v list", "", "Locating name server...\nName server found: " + own + "\n" + list("", ownEntry) + "Done.\n", 0},
	}
	for _, tt := range tests {
		args := append([]string{"-m", "Pyro5.nsc", "-n", n.host, "-p", n.port}, strings.Fields(tt.command)...)
		stdout, stderr, code := run(t, nil, tt.stdin, args...)
		if stdout != tt.want || code != tt.code {
			t.Errorf("pyro5-nsc %s: exit code %d, output\n%s, want %d and\n%s\nstderr:\n%s", tt.command, code, stdout, tt.code, tt.want, stderr)
		}
	}
}
