package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// cutShort is what a try to connect ends with when its time is over.
var cutShort = regexp.MustCompile(`(dial tcp \S+: )?(i/o timeout|operation was canceled|(find members: )?context deadline exceeded)`)

// TestErrors holds every kind of mistake that needs no cluster to its line and exit code.
func TestErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	takenUDP, err := net.ListenPacket("udp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { takenUDP.Close() })
	takenPort, takenUDPPort := port(taken.Addr().String()), port(takenUDP.LocalAddr().String())

	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, "\nsecond line")
	otherPort := filepath.Join(dir, "other")
	writeFile(t, filepath.Join(otherPort, "dev.json"), `{"port":1234}`)
	damagedDev := filepath.Join(dir, "damaged")
	writeFile(t, filepath.Join(damagedDev, "dev.json"), "{")
	free := freePorts(t, devPorts...)
	nobody := fmt.Sprintf("localhost:%d", free)
	noConnection := fmt.Sprintf(": dial tcp 127.0.0.1:%d: connect: connection refused: check that its servers run", free)
	refused := fmt.Sprintf(": dial tcp 127.0.0.1:%d: connect: connection refused: check --ns, and that a majority of the nodes runs", free)

	node := func(args ...string) []string {
		return append([]string{"server", "--data-dir", filepath.Join(dir, "new"), "--port", "0", "--raft-port", "0", "--http-port", "0", "--expect", "1"}, args...)
	}
	cases := []struct {
		name string
		args []string
		code int
		want string // of the line, behind "pyro-cluster: "
	}{
		{"unknown command", []string{"serve"}, 2, `unknown command "serve": did you mean "server"?`},
		{"unknown command, nothing like it", []string{"frobnicate"}, 2, `unknown command "frobnicate": see "pyro-cluster --help"`},
		{"unknown subcommand", []string{"ns", "lst"}, 2, `ns: unknown command "lst": did you mean "list"?`},
		{"help for an unknown command", []string{"help", "frobnicate"}, 2, `help: unknown command "frobnicate": see "pyro-cluster --help"`},
		{"help for an unknown subcommand", []string{"help", "ns", "lst"}, 2, `help: unknown command "lst": did you mean "list"?`},
		{"unknown shell", []string{"completion", "tcsh"}, 2, `completion: unknown command "tcsh": did you mean "bash"?`},
		{"pub without a message", []string{"events", "pub", "t"}, 2, `events pub: got 1 argument, want a TOPIC and at least one MESSAGE: see "pyro-cluster events pub --help"`},
		{"pub with - and more", []string{"events", "pub", "t", "-", "x"}, 2, `events pub: - and messages exclude each other: give one of them`},
		{"pub to no topic", []string{"events", "pub", "", "x"}, 2, `events pub: events: topic "": want 1 to 255 bytes: see docs/events.md for topics and messages`},
		{"pub to a wildcard", []string{"events", "pub", "a.*", "x"}, 2,
			`events pub: events: topic "a.*": "*" is a wildcard, for subscriptions only: publish to a topic without it: see docs/events.md for topics and messages`},
		{"sub to nothing", []string{"events", "sub"}, 2, `events sub: got no arguments, want at least one PATTERN: see "pyro-cluster events sub --help"`},
		{"sub, negative count", []string{"events", "sub", "a", "--count", "-1"}, 2, `events sub: --count is -1: give a number of events, or 0 for no end`},
		{"sub, bad policy", []string{"events", "sub", "a", "--policy", "maybe"}, 2,
			`events sub: invalid argument "maybe" for "--policy" flag: want drop-oldest, drop-new, block, disconnect: see "pyro-cluster events sub --help"`},
		{"sub, bad queue", []string{"events", "sub", "a", "--queue", "-1"}, 2,
			`events sub: events: queue of -1 events: want 1 to 100000: see docs/events.md for topics and messages`},
		{"nothing reachable, sub", []string{"events", "sub", "a", "--ns", nobody, "--timeout", "300ms"}, 3, "events sub: no answer from " + nobody + refused},
		{"nothing reachable, pub", []string{"events", "pub", "a", "x", "--ns", nobody, "--timeout", "300ms"}, 3, "events pub: no answer from " + nobody + refused},
		{"nothing reachable, topics", []string{"events", "topics", "--ns", nobody, "--timeout", "300ms"}, 3, "events topics: no answer from " + nobody + refused},
		{"unknown flag", []string{"ns", "list", "--frob"}, 2, `ns list: unknown flag: --frob: see "pyro-cluster ns list --help"`},
		{"unknown root flag", []string{"--frob"}, 2, `unknown flag: --frob: see "pyro-cluster --help"`},
		{"bad output", []string{"ns", "list", "-o", "xml"}, 2, `ns list: invalid argument "xml" for "-o, --output" flag: want table, json: see "pyro-cluster ns list --help"`},
		{"bad duration", []string{"ns", "list", "--timeout", "soon"}, 2, `ns list: invalid argument "soon" for "--timeout" flag: time: invalid duration "soon": see "pyro-cluster ns list --help"`},
		{"no time", []string{"ns", "list", "--timeout", "0s"}, 2, `ns list: --timeout is 0s: give a time above zero, such as 10s`},
		{"missing argument", []string{"ns", "lookup"}, 2, `ns lookup: got 0 arguments, want NAME: see "pyro-cluster ns lookup --help"`},
		{"surplus argument", []string{"version", "x"}, 2, `version: got 1 argument, want none: see "pyro-cluster version --help"`},
		{"tags both ways", []string{"ns", "yplookup", "--all", "a", "--any", "b"}, 2, `ns yplookup: --all and --any exclude each other: give one of them`},
		{"tags no way", []string{"ns", "yplookup"}, 2, `ns yplookup: neither --all nor --any: give one of them`},
		{"remove nothing", []string{"ns", "remove"}, 2, `ns remove: got 0 arguments, want NAME: see "pyro-cluster ns remove --help"`},
		{"remove two ways", []string{"ns", "remove", "x", "--prefix", "y"}, 2, `ns remove: got 1 argument, want none: see "pyro-cluster ns remove --help"`},
		{"bad URI", []string{"ns", "register", "x", "http://h:1"}, 2, `ns register: "http://h:1": invalid uri: give a URI such as PYRO:object@host:port`},
		{"group as URI", []string{"ns", "register", "x", "PYRO:x@h:1,h:2"}, 2, `ns register: PYRO:x@h:1,h:2 has several locations: register one of them, or make a group with "pyro-cluster ns join"`},
		{"names of a file and one more", []string{"ns", "register", "x", "PYRO:x@h:1", "--from", "f"}, 2, `ns register: got 2 arguments, want none: see "pyro-cluster ns register --help"`},
		{"names of no file", []string{"ns", "register", "--from", filepath.Join(dir, "none")}, 2, `ns register: open ` + filepath.Join(dir, "none") + `: no such file or directory: name a file with lines of NAME URI [TAG...]`},
		{"names of a file without a name", []string{"ns", "register", "--from", ""}, 2, `ns register: open : no such file or directory: name a file with lines of NAME URI [TAG...]`},
		{"names in no time", []string{"ns", "register", "--from", file, "--timeout", "0s"}, 2, `ns register: --timeout is 0s: give a time above zero, such as 10s`},
		{"control of a load test nowhere", []string{"loadtest", "run", "PYRO:x@" + nobody, "--control", "9094"}, 2, `loadtest run: --control is "9094": give host:port, such as localhost:9094; port 0 picks one`},
		{"control in use", []string{"loadtest", "run", "PYRO:x@" + nobody, "--control", "127.0.0.1:" + takenPort}, 1, `loadtest run: --control: listen tcp 127.0.0.1:` + takenPort + `: bind: address already in use`},
		{"bad reference", []string{"call", "jokegen", "joke"}, 2, `call: "jokegen": invalid uri: did you mean PYRONAME:jokegen?`},
		{"bad reference with a colon", []string{"call", "PYRONOME:jokegen", "joke"}, 2, `call: "PYRONOME:jokegen": invalid uri (protocol): give a URI such as PYRONAME:bank or PYRO:bank@host:port`},
		{"call without method", []string{"call", "PYRONAME:jokegen"}, 2, `call: got 1 argument, want OBJECT METHOD [ARG...]: see "pyro-cluster call --help"`},
		{"bad keyword", []string{"call", "PYRONAME:x", "y", "--kw", "z"}, 2, `call: --kw "z": write it as name=value`},
		{"keyword twice", []string{"call", "PYRONAME:x", "y", "--kw", "z=1", "--kw", "z=2"}, 2, `call: --kw z is given twice: give each keyword once`},
		{"attribute without waiting", []string{"call", "PYRONAME:x", "y", "--attr", "--oneway"}, 2, `call: --attr and --oneway exclude each other: give one of them`},
		{"list two ways", []string{"ns", "list", "--prefix", "a", "--regex", "b"}, 2, `ns list: --prefix and --regex exclude each other: give one of them`},
		{"attribute with two values", []string{"call", "PYRONAME:x", "y", "1", "2", "--attr"}, 2, `call: an attribute takes one value at most: see "pyro-cluster call --help"`},
		{"bad node", []string{"ns", "list", "--ns", "h:port"}, 2, `ns list: naming: node "h:port": PyroError: invalid port in uri, port=port: name the nodes as host:port,host:port`},

		{"load test of nothing", []string{"loadtest", "run"}, 2, `loadtest run: there is no target: name an object or a group (PYRONAME:bank), or start one with --spawn nodes=3,replicas=3`},
		{"load test, bad target", []string{"loadtest", "run", "garbage"}, 2, `loadtest run: target "garbage" is no URI: give one such as PYRONAME:bank or PYRO:bank@host:port`},
		{"load test, bad rate", []string{"loadtest", "run", "PYRONAME:x", "--rate", "0"}, 2, `loadtest run: --rate has "0": give calls per second above 0, such as 5000 or 1000:10s,5000:10s`},
		{"load test, no file", []string{"loadtest", "run", "PYRONAME:x", "--json", filepath.Join(file, "x")}, 1, `loadtest run: --json: create ` + filepath.Join(file, "x") + `: not a directory: name a file that can be written`},
		{"load test, a directory", []string{"loadtest", "run", "PYRONAME:x", "--html", dir}, 1, `loadtest run: --html: ` + dir + ` is no regular file: name a file that can be written`},
		{"load test, one file twice", []string{"loadtest", "run", "PYRONAME:x", "--json", file, "--csv", dir + "/./file"}, 2, `loadtest run: --json and --csv name the same file: give each a file of its own`},
		{"load test, no scenario", []string{"loadtest", "run", "--scenario", filepath.Join(dir, "none")}, 2, `loadtest run: open ` + filepath.Join(dir, "none") + `: no such file or directory`},
		{"load test, target that is not there", []string{"loadtest", "run", "PYRO:x@" + nobody, "--timeout", "300ms"}, 3, `loadtest run: a first add: core: connect ` + nobody + `: dial tcp 127.0.0.1:` + fmt.Sprint(free) + `: connect: connection refused: check that its servers run`},
		{"serve http port", []string{"loadtest", "serve", "--group", "g", "--http-port", "70000"}, 2, `loadtest serve: --http-port is 70000: give a port from 0 to 65535`},
		{"serve no group", []string{"loadtest", "serve"}, 2, `loadtest serve: no --group: name the object group to join, or serve without a name server with --alone`},
		{"compare with what is no report", []string{"loadtest", "compare", file, file}, 6, ``},
		{"merge one", []string{"loadtest", "merge", file}, 2, `loadtest merge: got 1 argument, want two reports or more: see "pyro-cluster loadtest merge --help"`},
		{"gen of nothing", []string{"gen"}, 2, `gen: no --type: name an interface of the package`},
		{"gen of two packages", []string{"gen", "--type", "Bank", "a", "b"}, 2, `gen: got 2 arguments, want DIRECTORY: see "pyro-cluster gen --help"`},
		{"gen with a flag of others", []string{"gen", "--type", "Bank", "--ns", "h:1"}, 2, `gen: --ns means nothing here: see "pyro-cluster gen --help"`},
		{"gen of an unknown type", []string{"gen", "--type", "Bank", "../../examples/calculator"}, 1, `gen: package calculator has no type Bank`},
		{"gen of a struct", []string{"gen", "--type", "Entry", "../../examples/calculator"}, 1, `gen: calculator.go:12: Entry is not an interface`},
		{"gen of no package", []string{"gen", "--type", "Bank", dir}, 1, ``},
		{"gen into another directory", []string{"gen", "--type", "Calculator", "--out", filepath.Join(dir, "x.go"), "../../examples/calculator"}, 1,
			`gen: ` + filepath.Join(dir, "x.go") + ` is not in the directory of the package, ../../examples/calculator`},
		{"gen of a stub that is none", []string{"gen", "--type", "Calculator", "--pyi", "x.py", "../../examples/calculator"}, 1,
			`gen: x.py: want the name of a Python module and .pyi, such as calculator.pyi`},
		{"peer without a command", []string{"loadtest", "peer"}, 2, `loadtest peer: got no command: start with server or client, or see -h`},

		{"nothing reachable", []string{"ns", "list", "--ns", nobody, "--timeout", "300ms"}, 3, `ns list: no answer from ` + nobody + refused},
		{"nothing reachable, lookup", []string{"ns", "lookup", "x", "--ns", nobody, "--timeout", "300ms"}, 3, `ns lookup: no answer from ` + nobody + refused},
		{"nothing reachable, ping", []string{"ns", "ping", "--ns", nobody, "--timeout", "300ms"}, 3, `ns ping: no answer from ` + nobody + refused},
		{"nothing reachable, waiting", []string{"ns", "ping", "--ns", nobody, "--timeout", "100ms", "--wait", "300ms"}, 3, `ns ping: no answer from ` + nobody + refused},
		{"nothing reachable, cluster", []string{"cluster", "leader", "--ns", nobody, "--timeout", "300ms"}, 3, `cluster leader: no answer from ` + nobody + refused},
		{"nothing reachable, call by name", []string{"call", "PYRONAME:x@" + nobody, "y", "--timeout", "300ms"}, 3, `call: no answer from ` + nobody + refused},
		{"nothing reachable, call", []string{"call", "PYRO:x@" + nobody, "y", "--timeout", "300ms"}, 3, `call: y of x did not run` + noConnection},
		{"nothing reachable, oneway", []string{"call", "PYRO:x@" + nobody, "y", "--oneway", "--timeout", "300ms"}, 3, `call: y of x did not run` + noConnection},

		{"no data directory", []string{"server"}, 2, `server: no --data-dir: name a directory of this node's own for its log`},
		{"no cluster", []string{"server", "--data-dir", filepath.Join(dir, "new")}, 2, `server: ` + filepath.Join(dir, "new") + ` is empty and there is neither --expect nor --join: give --expect 1 for a cluster of one, or the addresses of others with --join`},
		{"flag of others", []string{"server", "--ns", "h:1", "--data-dir", filepath.Join(dir, "new")}, 2, `server: --ns means nothing here: see "pyro-cluster server --help"`},
		{"alone of three", []string{"server", "--data-dir", filepath.Join(dir, "new"), "--expect", "3"}, 2, `server: --expect 3 without --join: name the nodes that form the cluster with --join`},
		{"no node address", node("--join", "n1:9092,n2"), 2, `server: --join has "n2": give host:port,host:port with the others' --raft-port`},
		{"no node host", node("--join", ":9092"), 2, `server: --join has ":9092": give host:port,host:port with the others' --raft-port`},
		{"two clusters", node("--expect", "2", "--join", "n1:1,n2:1,n3:1,n4:1,n1:1"), 2, `server: --expect 2 of the 4 nodes in --join could form two clusters: expect at least 3`},
		{"advertise a port that is not chosen", node("--raft-advertise", "localhost"), 2, `server: --raft-port 0 cannot be advertised: give a --raft-port, or a port with --raft-advertise`},
		{"negative number", node("--expect", "-1"), 2, `server: --expect is -1: give the number of nodes of the new cluster`},
		{"port too high", node("--port", "65536"), 2, `server: --port is 65536: give a port from 0 to 65535`},
		{"all addresses", node("--host", "0.0.0.0", "--insecure"), 2, `server: --host "0.0.0.0" means all addresses, which is none that others could use: say with --advertise under which name this node is reached`},
		{"advertise nonsense", node("--advertise", "h:x"), 2, `server: --advertise is "h:x": give a host or host:port that others can reach`},
		{"advertise all addresses", node("--raft-advertise", "0.0.0.0:1"), 2, `server: --raft-advertise is "0.0.0.0:1": give a host or host:port that others can reach`},
		{"plain on a network", node("--host", "192.0.2.1"), 2, `server: nodes would talk plain TCP on --host 192.0.2.1: give --node-cert, --node-key and --node-ca, or --insecure`},
		{"half of TLS", node("--node-cert", file), 2, `server: --node-cert, --node-key and --node-ca belong together: give all three or none`},
		{"no certificate", node("--node-cert", file, "--node-key", file, "--node-ca", file), 2, `server: --node-cert, --node-key and --node-ca: core: TLS: certificate ` + file + ` with key ` + file + `: tls: failed to find any PEM data in certificate input: give PEM files that belong together`},
		{"half of TLS for clients", node("--tls-cert", file), 2, `server: --tls-cert and --tls-key belong together: give both or none`},
		{"certificates of clients without TLS", node("--tls-client-ca", file), 2, `server: --tls-client-ca without --tls-cert: give the node a certificate with --tls-cert and --tls-key`},
		{"no authority of others", node("--tls-ca", file), 2, `server: --tls-ca, --tls-cert and --tls-key: core: TLS: no certificate in ` + file + `, which should hold authorities in PEM: give PEM files that belong together`},
		{"no secret", node("--secret-file", empty), 2, `server: --secret-file ` + empty + ` has no secret: write it into the first line`},
		{"no file with the secret", []string{"ns", "list", "--secret-file", filepath.Join(dir, "none")}, 2,
			`ns list: --secret-file: open ` + filepath.Join(dir, "none") + `: no such file or directory: name a file with the secret in its first line`},
		{"certificate without authority", []string{"call", "PYRO:x@" + nobody, "y", "--tls-cert", file, "--tls-key", file}, 2, `call: --tls-cert without --tls-ca: say with --tls-ca whom to trust`},
		{"common name without authority", []string{"events", "topics", "--tls-common-name"}, 2, `events topics: --tls-common-name without --tls-ca: say with --tls-ca whom to trust`},
		{"no authority", []string{"cluster", "leader", "--tls-ca", file}, 2, `cluster leader: --tls-ca, --tls-cert and --tls-key: core: TLS: no certificate in ` + file + `, which should hold authorities in PEM: give PEM files that belong together`},
		{"TLS of a whole cluster", []string{"dev", "--tls-ca", file}, 2, `dev: --tls-ca means nothing here: see "pyro-cluster dev --help"`},
		{"TLS of what is started", []string{"loadtest", "run", "--spawn", "nodes=1", "--tls-ca", "system"}, 2, `loadtest run: --spawn starts servers without TLS and secret: leave out --tls-ca and --secret-file`},
		{"faults that TLS hides", []string{"loadtest", "run", "PYRO:x@" + nobody, "--fault", "reset:replica@1s", "--tls-ca", "system"}, 2,
			`loadtest run: faults of connections need to see Pyro's messages, and TLS hides them: choose faults of processes, or leave out --tls-ca`},
		{"profiles without HTTP", node("--pprof"), 2, `server: --pprof with --http-port 0: give a --http-port, which serves the profiles`},
		{"bad format of the log", []string{"dev", "--log-format", "xml"}, 2, `dev: invalid argument "xml" for "--log-format" flag: want text, json: see "pyro-cluster dev --help"`},
		{"bad profile", node("--profile", "moon"), 2, `server: invalid argument "moon" for "--profile" flag: want lan, default, wan: see "pyro-cluster server --help"`},
		{"port in use", node("--port", takenPort), 1, `server: tcp 127.0.0.1:` + takenPort + ` is in use: stop its user, or choose another --port`},
		{"UDP port in use", node("--udp-port", takenUDPPort), 1, `server: udp 127.0.0.1:` + takenUDPPort + ` is in use: stop its user, or choose another --udp-port`},
		{"raft port in use", node("--raft-port", takenPort), 1, `server: tcp 127.0.0.1:` + takenPort + ` is in use: stop its user, or choose another --raft-port`},
		{"HTTP port in use", node("--http-port", takenPort), 1, `server: tcp 127.0.0.1:` + takenPort + ` is in use: stop its user, or choose another --http-port`},
		{"address of another", node("--host", "192.0.2.1", "--insecure"), 1, `server: tcp 192.0.2.1:0 is no address of this machine: check --host, and use --advertise for addresses of others`},
		{"directory below a file", node("--data-dir", filepath.Join(file, "x")), 1, `server: cluster: make data directory: mkdir ` + file + `: not a directory: check --data-dir`},

		{"dev, port too high", []string{"dev", "--port", "65400"}, 2, `dev: --port is 65400, and ports up to 65603 are needed: give a port from 1 to 65332`},
		{"dev, port in use", []string{"dev", "--port", takenPort}, 1, `dev: tcp 127.0.0.1:` + takenPort + ` is in use: stop its user, or choose another --port; ` + takenPort + ` to ` + plus(takenPort, 203) + ` are needed`},
		{"dev, directory of another port", []string{"dev", "--port", fmt.Sprint(free), "--data-dir", otherPort}, 2, `dev: ` + otherPort + ` belongs to a cluster on port 1234: give --port 1234, or another --data-dir`},
		{"dev, damaged", []string{"dev", "--port", fmt.Sprint(free), "--data-dir", damagedDev}, 6, `dev: read ` + damagedDev + `/dev.json: unexpected end of JSON input: choose another --data-dir`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := cli(t, c.args...)
			if r.code != c.code {
				t.Errorf("%q: exit %d, want %d; stderr %q", c.args, r.code, c.code, r.stderr)
			}
			line, _ := strings.CutPrefix(r.lastLine(), "pyro-cluster: ")
			if strings.HasPrefix(c.name, "nothing reachable") { // the time may end in the midst of another try
				line = cutShort.ReplaceAllString(line, "dial tcp 127.0.0.1:"+port(nobody)+": connect: connection refused")
			}
			t.Logf("%s", line)
			if c.want != "" && line != c.want {
				t.Errorf("%q:\n got %s\nwant %s", c.args, line, c.want)
			}
			if c.code == exitUsage && strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("%q: stderr has more than one line: %q", c.args, r.stderr)
			}
		})
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func port(address string) string {
	_, p, err := net.SplitHostPort(address)
	if err != nil {
		panic(err)
	}
	return p
}

func plus(port string, n int) string {
	var p int
	fmt.Sscan(port, &p)
	return fmt.Sprint(p + n)
}
