package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/core/auth"
	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
)

// TestSecureNode runs a node that lets in only who shows a certificate and knows the secret, and a group of one that speaks TLS, too.
//
// spec: H7 X4
func TestSecureNode(t *testing.T) {
	t.Parallel()
	ours, theirs := testcert.New(t, "ours"), testcert.New(t, "theirs")
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	renew := func(a *testcert.Authority) {
		newCert, newKey := a.Issue(t, "node", "localhost", "127.0.0.1", "::1")
		for from, to := range map[string]string{newCert: cert, newKey: key} {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew(ours)
	secret := filepath.Join(dir, "secret")
	writeFile(t, secret, "open sesame\n")
	node := start(t, oneNode(filepath.Join(dir, "data"), "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ours.File, "--tls-ca", ours.File, "--secret-file", secret)...)
	uri := uriOf(t, node.line("URI = "))
	node.line("ready")
	ns := []string{"--ns", join(uri.Host, uri.Port), "--timeout", "2s"}
	joe, joeKey := ours.Issue(t, "joe")
	trust := append(ns, "--tls-ca", ours.File)
	shown := append(trust, "--tls-cert", joe, "--tls-key", joeKey)
	known := append(shown, "--secret-file", secret)
	ask := func(flags []string, args ...string) []string { return slices.Concat(args, flags) }

	must(t, ask(known, "ns", "register", "bank", "PYRO:bank@localhost:7000")...)
	if got := must(t, ask(known, "ns", "lookup", "bank")...); got != "PYRO:bank@localhost:7000" {
		t.Errorf("lookup: got %q", got)
	}
	must(t, ask(known, "cluster", "leader")...)
	sub := start(t, ask(known, "events", "sub", "news", "--count", "1")...)
	eventually(t, "a subscriber of news", "true", func() string {
		return fmt.Sprint(strings.Contains(must(t, ask(known, "events", "topics")...), "news"))
	})
	must(t, ask(known, "events", "pub", "news", "hello")...)
	if r := sub.wait(); r.code != exitOK {
		t.Errorf("sub: exit %d, stderr %q", r.code, r.stderr)
	}

	for _, tt := range []struct {
		name  string
		flags []string
		code  int
		hint  string
	}{
		{"plain", ns, exitUnreachable, "rejected: this server requires TLS (SSL): say with --tls-ca whom to trust"},
		{"no certificate", trust, exitUnreachable, "tls: certificate required: check --tls-ca, --tls-cert and --tls-key"},
		{"another authority", append(ns, "--tls-ca", theirs.File), exitUnreachable, "unknown authority: check --tls-ca, --tls-cert and --tls-key"},
		{"no secret", shown, exitRefused, "rejected: access denied: check --secret-file, --tls-cert and --tls-key"},
	} {
		for _, command := range [][]string{{"ns", "lookup", "bank"}, {"events", "topics"}, {"events", "pub", "news", "hello"}, {"events", "sub", "news"}, {"loadtest", "run", "PYRONAME:bank"}} {
			r := cli(t, ask(slices.Concat(tt.flags, []string{"--timeout", "1h"}), command...)...) // not that it waits
			if r.code != tt.code || !strings.HasSuffix(r.lastLine(), tt.hint) {
				t.Errorf("%s, %s: exit %d, %q; want %d and ... %q", tt.name, command, r.code, r.lastLine(), tt.code, tt.hint)
			}
		}
	}

	// A member that serves by TLS is alive for the node, and can be called.
	member, memberKey := ours.Issue(t, "member", "localhost", "127.0.0.1")
	start(t, "loadtest", "serve", "--group", "loadtest", "--ns", join(uri.Host, uri.Port), "--secret-file", secret,
		"--tls-ca", ours.File, "--tls-cert", member, "--tls-key", memberKey).line("serving")
	if got := must(t, ask(known, "call", "PYRONAME:loadtest", "add", "1", "2")...); got != "3" {
		t.Errorf("call: got %q", got)
	}
	must(t, ask(known, "loadtest", "run", "PYRONAME:loadtest", "--work", "add=1,lookup=1", "--duration", "200ms", "--warmup", "0s", "--callers", "2", "--slo", "errors=0")...)
	// The node calls subscribers by TLS, too.
	called := serveListener(t, uri, core.TLSFileOptions{Cert: member, Key: memberKey, CA: ours.File})
	must(t, ask(known, "events", "pub", "alerts", "fire")...)
	select {
	case <-called:
	case <-time.After(deadline):
		t.Error("the subscriber was not called")
	}

	// So it can be told from one that serves without TLS, which is probed as often.
	plain := start(t, "loadtest", "serve", "--alone").line("serving ")
	must(t, ask(known, "ns", "join", "loadtest", strings.TrimPrefix(plain, "serving "), "--member", "plain")...)
	eventually(t, "who is dead", "[plain]", func() string {
		var rows []struct {
			Member string
			Alive  bool
		}
		if err := json.Unmarshal([]byte(must(t, ask(known, "ns", "members", "loadtest", "-o", "json")...)), &rows); err != nil {
			t.Fatal(err)
		}
		dead := []string{}
		for _, r := range rows {
			if !r.Alive {
				dead = append(dead, r.Member)
			}
		}
		return fmt.Sprint(dead)
	})

	// Another certificate of another authority: clients that trust it get in, those that do not are kept from giving their secret away.
	renew(theirs)
	if got := must(t, append(ask(ns, "ns", "lookup", "bank"), "--tls-ca", theirs.File, "--tls-cert", joe, "--tls-key", joeKey, "--secret-file", secret)...); got != "PYRO:bank@localhost:7000" {
		t.Errorf("lookup after the change: got %q", got)
	}
	if r := cli(t, ask(known, "ns", "lookup", "bank")...); r.code != exitUnreachable {
		t.Errorf("old authority after the change: exit %d, %q", r.code, r.lastLine())
	}
}

// serveListener serves a callback by TLS that subscribes to alerts, and returns when it is called.
func serveListener(t *testing.T, node core.URI, opts core.TLSFileOptions) (called <-chan struct{}) {
	t.Helper()
	files, err := core.NewTLSFiles(opts)
	if err != nil {
		t.Fatal(err)
	}
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{TLS: files.Server()})
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan struct{}, 1)
	listener, err := d.Register("listener", &core.Servant{Class: "Listener", Methods: []core.Method{
		{Name: "event", Params: []core.Param{{Name: "event"}}, Func: func(context.Context, []any) (any, error) {
			calls <- struct{}{}
			return nil, nil
		}},
	}}, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, d)
	node.Object = events.ObjectID
	p := core.NewProxy(node, core.ProxyOptions{TLSSource: files.Config, Handshake: "open sesame"})
	defer p.Close()
	if err := p.Call(t.Context(), "subscribe", nil, "alerts", core.NewProxy(listener, core.ProxyOptions{})); err != nil {
		t.Fatal(err)
	}
	return calls
}

// serveUntilEnd serves with d until the test ends.
func serveUntilEnd(t *testing.T, d *core.Daemon) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()
	t.Cleanup(func() {
		d.Close()
		<-served
	})
}

// TestLocalByDefault: what nobody was told to open to others is bound to localhost, and 0.0.0.0 is never published.
//
// spec: X5
func TestLocalByDefault(t *testing.T) {
	t.Parallel()
	root := newRoot()
	for _, command := range [][]string{{"server"}, {"loadtest", "serve"}} {
		c, _, err := root.Find(command)
		if err != nil {
			t.Fatal(err)
		}
		if host := c.Flags().Lookup("host").DefValue; host != "localhost" {
			t.Errorf("%s: --host is %q by default, want localhost", command, host)
		}
	}
	r := cli(t, oneNode(t.TempDir(), "--host", "0.0.0.0", "--insecure")...)
	if r.code != exitUsage || !strings.Contains(r.lastLine(), "say with --advertise") {
		t.Errorf("all addresses: exit %d, %q", r.code, r.lastLine())
	}
}

// TestCallWithHandshake calls an object of a server that asks for something else than the nodes do.
//
// spec: H7
func TestCallWithHandshake(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	const hash = "$pbkdf2-sha256$1000$c2l4dGVlbiBieXRlcyAxNg$UqrezSG.gJVvj04aWLu2HKwX06C2lsa4yB8V8HA4ht0" // of tiger, with few iterations
	writeFile(t, users, "scott:"+hash+"\n")
	passwords, err := auth.NewPasswords(auth.PasswordOptions{File: users})
	if err != nil {
		t.Fatal(err)
	}
	digits, err := auth.Secret("12345678")
	if err != nil {
		t.Fatal(err)
	}
	d, err := core.Listen("localhost:0", core.DaemonOptions{ValidateHandshake: auth.Require(auth.Any(passwords.Check, digits))})
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, d)
	uri, err := d.Register("greeter", &core.Servant{Class: "Greeter", Methods: []core.Method{{
		Name: "hello", Func: func(context.Context, []any) (any, error) { return "hello", nil },
	}}}, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for content, code := range map[string]int{
		`{"user": "scott", "password": "tiger"}`: exitOK,
		"12345678\n":                             exitOK,
		`{"user": "scott", "password": "lion"}`:  exitRefused,
		"":                                       exitUsage,
	} {
		file := filepath.Join(t.TempDir(), "handshake")
		writeFile(t, file, content)
		r := cli(t, "call", uri.String(), "hello", "--handshake-file", file, "--timeout", "1h")
		if r.code != code {
			t.Errorf("%q: exit %d, stderr %q; want %d", content, r.code, r.stderr, code)
		}
		if code == exitRefused && !strings.HasSuffix(r.lastLine(), "rejected: access denied: check --handshake-file, --tls-cert and --tls-key") {
			t.Errorf("%q: got %q", content, r.lastLine())
		}
	}
}
