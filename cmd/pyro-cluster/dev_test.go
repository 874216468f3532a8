package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/naming"
)

// startDev starts a cluster and returns its first port when it is ready.
func startDev(t *testing.T, args ...string) (*command, int) {
	t.Helper()
	base := freePorts(t, devPorts...)
	c := start(t, append([]string{"dev", "--port", fmt.Sprint(base)}, args...)...)
	t.Log(c.line("ready"))
	return c, base
}

// devAddresses are the Pyro addresses of the nodes.
func devAddresses(base int) []string {
	return []string{join("localhost", base), join("localhost", base+100), join("localhost", base+200)}
}

// TestDevLeavesNothing runs alone, since it looks for goroutines.
func TestDevLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	before := goleak.IgnoreCurrent()
	c, base := startDev(t)
	if left, err := filepath.Glob(filepath.Join(temp, "*", "node?")); err != nil || len(left) != 3 {
		t.Errorf("while it runs: directories %v, %v, want those of three nodes", left, err)
	}
	if r := c.stop(); r.code != exitOK || r.stderr != "" {
		t.Errorf("stopped: exit %d, stderr %q, want 0 and nothing", r.code, r.stderr)
	}
	http.DefaultClient.CloseIdleConnections()
	goleak.VerifyNone(t, before)
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if !allFree(base, devPorts) {
		t.Error("ports are still in use")
	}
}

// TestDevStopsEarly asks for the stop before the start is done.
func TestDevStopsEarly(t *testing.T) {
	t.Parallel()
	c := start(t, "dev", "--port", fmt.Sprint(freePorts(t, devPorts...)), "--data-dir", t.TempDir())
	c.line("three nodes:")
	if r := c.stop(); r.code != exitOK || r.stderr != "" {
		t.Errorf("exit %d, stderr %q, want 0 and nothing", r.code, r.stderr)
	}
}

// TestDevKeepsData starts again on the directory of an earlier life: names are there, and the members that the other life left behind
// are replaced.
func TestDevKeepsData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, base := startDev(t, "--data-dir", dir)
	ns := devAddresses(base)[0]
	must(t, "ns", "register", "bank", "PYRO:bank@localhost:7000", "--ns", ns)
	old := must(t, "ns", "members", demoGroup, "-o", "json", "--ns", ns)
	if r := c.stop(); r.code != exitOK {
		t.Fatalf("stopped: exit %d, stderr %q", r.code, r.stderr)
	}

	c = start(t, "dev", "--port", fmt.Sprint(base), "--data-dir", dir)
	c.line("ready")
	if got := must(t, "ns", "lookup", "bank", "--ns", ns); got != "PYRO:bank@localhost:7000" {
		t.Errorf("lookup after a restart: got %q", got)
	}
	text := must(t, "ns", "members", demoGroup, "-o", "json", "--ns", ns)
	var members []memberRow
	if err := json.Unmarshal([]byte(text), &members); err != nil || len(members) != 3 {
		t.Fatalf("members after a restart: got %s, %v, want 3", text, err)
	}
	for _, m := range members {
		if !m.Alive || strings.Contains(old, m.URI) {
			t.Errorf("member of the earlier life: %+v", m)
		}
	}
	if r := c.stop(); r.code != exitOK {
		t.Errorf("stopped: exit %d, stderr %q", r.code, r.stderr)
	}
}

// TestCommands drives every client command against a cluster.
func TestCommands(t *testing.T) {
	t.Parallel()
	_, base := startDev(t, "--data-dir", t.TempDir())
	addresses := devAddresses(base)
	all := strings.Join(addresses, ",")
	jokegen := "PYRONAME:jokegen@" + all
	unused := join("localhost", freePorts(t, 0))
	publishedNodes(t, all, 3)

	steps := []struct {
		name   string
		args   []string
		code   int
		stdout string // a regular expression for all of it
		stderr string // the line, exactly
	}{
		{"ping", []string{"ns", "ping"}, 0, `ok\n`, ""},
		{"ping, waiting", []string{"ns", "ping", "--wait", "10s", "-o", "json"}, 0, `\{\n  "ok": true\n\}\n`, ""},

		{"register", []string{"ns", "register", "shop.bank", "PYRO:bank@localhost:7000", "--tag", "open,branch:1"}, 0, `registered shop.bank\n`, ""},
		{"register again", []string{"ns", "register", "shop.bank", "PYRO:bank@localhost:7001"}, 1, ``,
			"pyro-cluster: ns register: name already registered: shop.bank: replace it with --force\n"},
		{"lookup", []string{"ns", "lookup", "shop.bank"}, 0, `PYRO:bank@localhost:7000\n`, ""},
		{"register with force", []string{"ns", "register", "shop.bank", "PYRO://localhost:7002/bank", "--force"}, 0, `registered shop.bank\n`, ""},
		{"lookup as JSON", []string{"ns", "lookup", "shop.bank", "-o", "json"}, 0,
			`\{\n  "name": "shop.bank",\n  "uri": "PYRO:bank@localhost:7002",\n  "tags": \[\]\n\}\n`, ""},
		{"set-metadata", []string{"ns", "set-metadata", "shop.bank", "open", "a", "open"}, 0, `shop.bank has 2 tags\n`, ""},
		{"yplookup all", []string{"ns", "yplookup", "--all", "a,open"}, 0, `NAME +URI +TAGS\nshop.bank +PYRO:bank@localhost:7002 +a,open\n`, ""},
		{"yplookup any", []string{"ns", "yplookup", "--any", "x,open"}, 0, `NAME +URI +TAGS\nshop.bank +PYRO:bank@localhost:7002 +a,open\n`, ""},
		{"yplookup none", []string{"ns", "yplookup", "--all", "a,x", "-o", "json"}, 0, `\[\]\n`, ""},
		{"list", []string{"ns", "list"}, 0, `NAME +URI +TAGS\nPyro.NameServer +PYRO:\S+ +\S+\njokegen +PYRO:jokegen@localhost:\d+ +-\nshop.bank +PYRO:bank@localhost:7002 +a,open\n`, ""},
		{"list a prefix", []string{"ns", "list", "--prefix", "joke"}, 0, `NAME +URI +TAGS\njokegen .*\n`, ""},
		{"list an expression", []string{"ns", "list", "--regex", `.*\.bank$`}, 0, `NAME +URI +TAGS\nshop.bank .*\n`, ""},
		{"list a bad expression", []string{"ns", "list", "--regex", `(`}, 1, ``, "?"},
		{"set-metadata of nothing", []string{"ns", "set-metadata", "nobody", "x"}, 4, ``,
			"pyro-cluster: ns set-metadata: unknown name: nobody: see \"pyro-cluster ns list\"\n"},
		{"lookup of nothing", []string{"ns", "lookup", "nobody"}, 4, ``, "pyro-cluster: ns lookup: unknown name: nobody: see \"pyro-cluster ns list\"\n"},
		{"remove nothing", []string{"ns", "remove", "nobody"}, 4, ``, "pyro-cluster: ns remove: unknown name: nobody: see \"pyro-cluster ns list\"\n"},
		{"remove unconfirmed", []string{"ns", "remove", "--prefix", "shop."}, 1, ``, "remove 1 name? [y/N] \npyro-cluster: ns remove: nothing removed: answer y, or give --yes\n"},
		{"remove nothing by prefix", []string{"ns", "remove", "--prefix", "nosuch."}, 0, `removed 0 names\n`, ""},
		{"remove a prefix", []string{"ns", "remove", "--prefix", "shop.", "--yes"}, 0, `removed 1 name\n`, ""},

		{"join", []string{"ns", "join", "desk", "PYRO:desk@localhost:7000", "--member", "d1", "--zone", "east", "--weight", "3"}, 0, `d1\n`, ""},
		{"members", []string{"ns", "members", "desk"}, 0, `MEMBER +URI +ZONE +WEIGHT +ALIVE\nd1 +PYRO:desk@localhost:7000 +east +3 +(true|false)\n`, ""},
		{"members of nothing", []string{"ns", "members", "nobody"}, 4, ``, "pyro-cluster: ns members: unknown name: nobody: see \"pyro-cluster ns list\"\n"},
		{"leave", []string{"ns", "leave", "desk", "d1"}, 0, `d1 left desk\n`, ""},
		{"leave again", []string{"ns", "leave", "jokegen", "d1"}, 4, ``, "pyro-cluster: ns leave: group jokegen has no member d1: see \"pyro-cluster ns members jokegen\"\n"},
		{"remove", []string{"ns", "remove", "jokegen", "--ns", unused, "--timeout", "300ms"}, 3, ``, "?"},

		{"call a group", []string{"call", jokegen, "joke", "Irmen", "--ns", unused}, 0, `Irmen .*\n`, ""},
		{"call by --ns", []string{"call", "PYRONAME:jokegen", "joke", "Irmen"}, 0, `Irmen .*\n`, ""},
		{"call, article's form", []string{"call", "PYRONAME://" + addresses[1] + "/jokegen", "joke", "Irmen"}, 0, `Irmen .*\n`, ""},
		{"call, address", []string{"call", "PYRO://" + addresses[1] + "/Pyro.NameServer", "ping"}, 0, `null\n`, ""},
		{"call, local name", []string{"call", "PYROLOC://" + addresses[1] + "/Pyro.NameServer", "ping"}, 0, `null\n`, ""},
		{"call, local name in short", []string{"call", "PYROLOC:Pyro.NameServer@" + unused + "," + addresses[1], "ping"}, 0, `null\n`, ""},
		{"register with tags", []string{"ns", "register", "finder", "PYRO:Pyro.NameServer@" + addresses[1], "--tag", "finds,names"}, 0, `registered finder\n`, ""},
		{"call, tags", []string{"call", "PYROMETA:names,finds@" + all, "ping"}, 0, `null\n`, ""},
		{"call, tags by --ns", []string{"call", "PYROMETA:names", "ping"}, 0, `null\n`, ""},
		{"remove it", []string{"ns", "remove", "finder"}, 0, `.*\n`, ""},
		{"call, keyword", []string{"call", jokegen, "joke", "--kw", "name=Irmen", "-o", "json"}, 0, `"Irmen .*"\n`, ""},
		{"call, serpent", []string{"call", jokegen, "joke", "Irmen", "--serializer", "serpent", "--idempotent"}, 0, `Irmen .*\n`, ""},
		{"call, marshal", []string{"call", jokegen, "joke", "5", "--string", "--serializer", "marshal"}, 0, `5 .*\n`, ""},
		{"call oneway", []string{"call", jokegen, "joke", "Irmen", "--oneway"}, 0, ``, ""},
		{"call the name server", []string{"call", "PYRO:Pyro.NameServer@" + all, "lookup", "Pyro.NameServer"}, 0, `"PYRO:Pyro.NameServer@localhost:\d+"\n`, ""},
		{"call, exception", []string{"call", "PYRO:Pyro.NameServer@" + all, "lookup", "nobody"}, 1, ``, "pyro-cluster: call: NamingError: unknown name: nobody\n"},
		{"call with a wrong argument", []string{"call", jokegen, "joke"}, 1, ``, "?"},
		{"call no method", []string{"call", jokegen, "frobnicate"}, 1, ``, "?"},
		{"no attribute", []string{"call", jokegen, "frobnicate", "--attr"}, 1, ``, "?"},
		{"call an unknown name", []string{"call", "PYRONAME:nobody@" + all, "joke"}, 4, ``, "pyro-cluster: call: unknown name: nobody: see \"pyro-cluster ns list\"\n"},
		{"call unknown tags", []string{"call", "PYROMETA:no,such@" + all, "joke"}, 4, ``, "?"},

		{"cluster members", []string{"cluster", "members"}, 0, `ID +ROLE +PYRO +RAFT +HTTP +VERSION\n(\S+ +(leader|voter) +localhost:\d+ +localhost:\d+ +localhost:\d+ +.*\n){3}`, ""},
		{"cluster transfer to nobody", []string{"cluster", "transfer", "--to", "nobody"}, 4, ``, "pyro-cluster: cluster transfer: unknown node: nobody: see \"pyro-cluster cluster members\"\n"},
		{"cluster remove nobody", []string{"cluster", "remove", "nobody"}, 4, ``, "pyro-cluster: cluster remove: unknown node: nobody: see \"pyro-cluster cluster members\"\n"},
	}
	for _, s := range steps {
		if !strings.Contains(strings.Join(s.args, " "), "--ns") {
			s.args = append(s.args, "--ns", all)
		}
		t.Run(s.name, func(t *testing.T) {
			r := cli(t, s.args...)
			if r.code != s.code || !regexp.MustCompile(`^(?:`+s.stdout+`)$`).MatchString(r.stdout) {
				t.Errorf("%q: exit %d, stdout %q, stderr %q; want exit %d, stdout %s", s.args, r.code, r.stdout, r.stderr, s.code, s.stdout)
			}
			if s.stderr == "?" {
				t.Logf("%s", r.stderr)
				if strings.Count(r.stderr, "\n") != 1 || !strings.HasPrefix(r.stderr, "pyro-cluster: ") {
					t.Errorf("%q: stderr %q, want one line", s.args, r.stderr)
				}
			} else if r.stderr != s.stderr {
				t.Errorf("%q: stderr\n got %q\nwant %q", s.args, r.stderr, s.stderr)
			}
		})
	}
	t.Run("confirmed removal", func(t *testing.T) { testConfirmedRemoval(t, all) })
	t.Run("register from a file", func(t *testing.T) { testRegisterFrom(t, all, unused) })
	t.Run("each node", func(t *testing.T) { testEachNode(t, addresses) })
	t.Run("transfer", func(t *testing.T) { testTransfer(t, all) })
	t.Run("traceback", func(t *testing.T) {
		r := cli(t, "call", jokegen, "joke", "--traceback")
		if r.code != exitFailed || !strings.HasPrefix(r.stderr, "Traceback") || !strings.HasPrefix(r.lastLine(), "pyro-cluster: call: TypeError: ") {
			t.Errorf("exit %d, stderr %q; want a traceback and the line of the error", r.code, r.stderr)
		}
	})
}

// testRegisterFrom: many names in one go, from a file or from standard input; what is wrong with a line is said of that line.
func testRegisterFrom(t *testing.T, ns, nobody string) {
	const lines = "# the shop\nbulk.bank PYRO:bank@localhost:7000 open branch:1\n\n  bulk.till\tPYRO:till@localhost:7001\n"
	file := filepath.Join(t.TempDir(), "names")
	writeFile(t, file, lines)
	if got := must(t, "ns", "register", "--from", file, "--tag", "new", "--ns", ns); got != "registered bulk.bank\nregistered bulk.till" {
		t.Errorf("got %q, want both names registered", got)
	}
	if got := must(t, "ns", "yplookup", "--all", "new,open", "--ns", ns); !strings.HasSuffix(got, " branch:1,new,open") || strings.Count(got, "\n") != 1 {
		t.Errorf("yplookup: got %q, want bulk.bank with the tags of its line and those of --tag", got)
	}
	steps := []struct {
		name, input    string
		flags          []string
		code           int
		stdout, stderr string
	}{
		{"some lines are refused", lines + "bulk.three PYRO:x@h:1\nbulk.four\nbulk.five x\n", nil, exitFailed, "registered bulk.three\n",
			"pyro-cluster: ns register: line 2: name already registered: bulk.bank: replace it with --force\n" +
				"pyro-cluster: ns register: line 4: name already registered: bulk.till: replace it with --force\n" +
				"pyro-cluster: ns register: line 6: \"bulk.four\" has no URI: write NAME URI [TAG...]\n" +
				"pyro-cluster: ns register: line 7: \"x\": invalid uri: give a URI such as PYRO:object@host:port\n" +
				"pyro-cluster: ns register: 4 names not registered: see the lines above\n"},
		{"as JSON", lines, []string{"--force", "-o", "json"}, exitOK,
			`{"name":"bulk.bank","uri":"PYRO:bank@localhost:7000","tags":["open","branch:1"]}` + "\n" + `{"name":"bulk.till","uri":"PYRO:till@localhost:7001","tags":[]}` + "\n", ""},
		{"a long line", "a PYRO:x@h:1\n" + strings.Repeat("x", 70000), []string{"--force"}, exitFailed, "registered a\n",
			"pyro-cluster: ns register: line 2: longer than 65536 bytes: write NAME URI [TAG...]\n"},
		{"nothing", "", nil, exitOK, "", ""},
		{"nobody answers", lines, []string{"--ns", nobody, "--timeout", "300ms"}, exitUnreachable, "", "?"},
	}
	for _, s := range steps {
		if !slices.Contains(s.flags, "--ns") {
			s.flags = append(s.flags, "--ns", ns)
		}
		r := cliInput(t, s.input, append([]string{"ns", "register", "--from", "-"}, s.flags...)...)
		if s.stderr == "?" && strings.HasPrefix(r.stderr, "pyro-cluster: ns register: line 2: ") && strings.Count(r.stderr, "\n") == 1 {
			s.stderr = r.stderr
		}
		if r.code != s.code || r.stdout != s.stdout || r.stderr != s.stderr {
			t.Errorf("%s: exit %d\nstdout %q\nstderr %q\nwant exit %d\nstdout %q\nstderr %q", s.name, r.code, r.stdout, r.stderr, s.code, s.stdout, s.stderr)
		}
	}
}

func testConfirmedRemoval(t *testing.T, ns string) {
	for _, name := range []string{"temp.a", "temp.b"} {
		must(t, "ns", "register", name, "PYRO:x@localhost:1", "--ns", ns)
	}
	r := cliInput(t, "y\n", "ns", "remove", "--regex", `temp\.`, "--ns", ns)
	if r.code != exitOK || r.stdout != "removed 2 names\n" || r.stderr != "remove 2 names? [y/N] " {
		t.Errorf("got exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}

// testEachNode asks each node alone, and its probes.
func testEachNode(t *testing.T, addresses []string) {
	for _, a := range addresses {
		want := "PYRO:Pyro.NameServer@" + a
		if got := must(t, "ns", "lookup", naming.ObjectID, "--ns", a); got != want {
			t.Errorf("node %s names itself %q, want %q", a, got, want)
		}
		var p int
		fmt.Sscan(port(a), &p)
		url := "http://" + join("localhost", p+3)
		for path, want := range map[string]string{
			"/livez":          "200 ok\n",
			"/readyz":         "200 ok\n",
			"/readyz?verbose": "200 [+] serving\n[+] cluster: a leader is known, and what it had committed is applied\n",
			"/other":          "404 404 page not found\n",
		} {
			eventually(t, url+path, want, func() string { return fetch(t, url+path) })
		}
	}
}

// fetch returns status and body.
func fetch(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: deadline}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", r.StatusCode, body)
}

func testTransfer(t *testing.T, ns string) {
	before := must(t, "cluster", "leader", "--ns", ns)
	var to naming.NodeInfo
	for _, n := range publishedNodes(t, ns, 3) {
		if n.PyroAddress != before {
			to = n
		}
	}
	must(t, "cluster", "transfer", "--to", to.ID, "--ns", ns)
	must(t, "cluster", "transfer", "--to", to.ID, "--ns", ns) // where it is already
	must(t, "ns", "ping", "--wait", "10s", "--ns", ns)
	eventually(t, "leader after a transfer from "+before, to.PyroAddress, func() string { return must(t, "cluster", "leader", "--ns", ns) })
}
