// Package layout holds the test that keeps the packages in their order.
package layout

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/pyro-cluster/pyro-cluster/"

// allowed lists which packages of the project each package may import, tests aside.  Every arrow points down: the object layer
// knows no name server, the name server no raft, and nothing imports the command line.
var allowed = map[string][]string{
	"core":         {},
	"core/auth":    {"core"},
	"fsm":          {},
	"failover":     {"core"},
	"naming":       {"core", "failover", "fsm", "internal/pyre"},
	"events":       {"core", "fsm", "internal/pyre"},
	"cluster":      {"fsm"},
	"metrics":      {"core", "failover"}, // for programs that use the library: no raft comes with it
	"metrics/node": {"cluster", "events", "fsm"},
	"loadtest": {"core", "failover", "naming", "internal/spawn",
		"loadtest/fault", "loadtest/ledger", "loadtest/link", "loadtest/report", "loadtest/servant", "loadtest/traffic"},
	"loadtest/ledger":            {},
	"loadtest/fault":             {},
	"loadtest/link":              {},
	"loadtest/traffic":           {"loadtest/ledger"},
	"loadtest/report":            {"loadtest/ledger"},
	"loadtest/servant":           {"core", "naming", "loadtest/ledger"},
	"loadtest/peer":              {"core", "events"},
	"loadtest/bench":             {"internal/spawn", "loadtest/bench/benchpb", "loadtest/peer"},
	"loadtest/bench/benchpb":     {},
	"cmd/pyro-cluster":           {"core", "core/auth", "failover", "naming", "events", "fsm", "cluster", "metrics", "metrics/node", "internal/gen", "loadtest", "loadtest/fault", "loadtest/peer", "loadtest/report", "loadtest/servant"},
	"deploy/k8s":                 {}, // tests
	"deploy/k8s/story":           {}, // it sees the product from outside, by kubectl and the command line
	"examples/calculator":        {"core"},
	"examples/calculator/server": {"core", "examples/calculator"},
	"examples/calculator/client": {"core", "examples/calculator"},
	"examples/demo":              {"core", "failover", "naming", "internal/spawn"},
	"examples/greeter/server":    {"core", "naming"},
	"examples/greeter/client":    {"failover", "naming"},
	"examples/chat":              {"events"},

	"examples/pyro5/attributes":    {"core"},
	"examples/pyro5/banks":         {"core", "naming"},
	"examples/pyro5/batchedcalls":  {"core"},
	"examples/pyro5/blob-dispatch": {"core", "naming"},
	"examples/pyro5/callback":      {"core", "naming"},
	"examples/pyro5/callcontext":   {"core"},
	"examples/pyro5/exceptions":    {"core", "naming"},
	"examples/pyro5/instancemode":  {"core", "naming"},
	"examples/pyro5/streaming":     {"core"},
}

// foreign lists packages of others that must stay out, whoever pulls them in.
var foreign = map[string][]string{
	"core":     {"github.com/hashicorp/", "github.com/prometheus/", "go.etcd.io/", "google.golang.org/grpc"},
	"failover": {"github.com/hashicorp/", "github.com/prometheus/", "go.etcd.io/", "google.golang.org/grpc"},
	"naming":   {"github.com/hashicorp/", "github.com/prometheus/", "go.etcd.io/", "google.golang.org/grpc"},
	"events":   {"github.com/hashicorp/", "github.com/prometheus/", "go.etcd.io/", "google.golang.org/grpc"},
	"fsm":      {"github.com/hashicorp/", "github.com/prometheus/", "go.etcd.io/", "google.golang.org/grpc"},
	"cluster":  {"github.com/prometheus/"},
	"metrics":  {"github.com/hashicorp/", "go.etcd.io/"},
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, line := range list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		name, imports, _ := strings.Cut(line, " ")
		name = strings.TrimPrefix(name, module)
		if strings.HasPrefix(name, "internal/") {
			continue // tests of the whole
		}
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the list of who may import whom", name)
		}
		for _, imported := range strings.Fields(imports) {
			ours, is := strings.CutPrefix(imported, module)
			if is && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s; it may import %v", name, ours, may)
			}
		}
	}
}

func TestForeignPackages(t *testing.T) {
	t.Parallel()
	for name, out := range foreign {
		for _, dependency := range list(t, "-deps", "./"+name) {
			if slices.ContainsFunc(out, func(prefix string) bool { return strings.HasPrefix(dependency, prefix) }) {
				t.Errorf("%s depends on %s", name, dependency)
			}
		}
	}
}
