package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/core/auth"
	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// tlsFiles are the files of a Go program, whose certificate may be empty.
func tlsFiles(t *testing.T, cert, key, ca string) *core.TLSFiles {
	t.Helper()
	f, err := core.NewTLSFiles(core.TLSFileOptions{Cert: cert, Key: key, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pythonTLS is the environment of a stock program that uses these files; those that are empty are left out.
func pythonTLS(side, cert, key, ca string) []string {
	env := []string{"PYRO_SSL=1"}
	for name, file := range map[string]string{side + "CERT": cert, side + "KEY": key, "CACERTS": ca} {
		if file != "" {
			env = append(env, "PYRO_SSL_"+name+"="+file)
		}
	}
	return env
}

// who is an object that tells a client who it is to the server.
func who() *core.Servant {
	return &core.Servant{Class: "Who", Methods: []core.Method{{Name: "who", Func: func(ctx context.Context, _ []any) (any, error) {
		info := core.CallInfoFrom(ctx)
		name := info.Principal
		if cert := info.PeerCertificate(); cert != nil {
			name += "/" + cert.Subject.CommonName
		}
		return name, nil
	}}}}
}

func serveWho(t *testing.T, opts core.DaemonOptions) core.URI {
	t.Helper()
	return serve(t, opts, func(d *core.Daemon) error {
		_, err := d.Register("who", who(), core.ObjectOptions{})
		return err
	}).URI("who")
}

// askWho lets a stock client ask with each of the handshakes.
func askWho(t *testing.T, env []string, uri core.URI, handshakes ...any) (outcomes []string) {
	t.Helper()
	list, err := json.Marshal(handshakes)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := filepath.Abs("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr, _ := run(t, env, "", script(t, "secure_client.py"), uri.String(), string(list), doc)
	for line := range strings.Lines(stdout) {
		var o struct{ Result, Error string }
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		outcomes = append(outcomes, o.Result+o.Error)
	}
	if len(outcomes) < len(handshakes) {
		t.Errorf("%d outcomes of %d handshakes: stderr\n%s", len(outcomes), len(handshakes), stderr)
	}
	return outcomes
}

// TestPythonClientTLS has stock clients call a Go object by TLS.
//
// spec: X4
func TestPythonClientTLS(t *testing.T) {
	t.Parallel()
	ca, other := testcert.New(t, "ca"), testcert.New(t, "other")
	cert, key := ca.Issue(t, "server", "localhost", "127.0.0.1")
	oneWay, mutual := tlsFiles(t, cert, key, "").Server(), tlsFiles(t, cert, key, ca.File).Server()
	joe, joeKey := ca.Issue(t, "joe")
	stranger, strangerKey := other.Issue(t, "joe")
	cn, cnKey := ca.Issue(t, "localhost")
	for _, tt := range []struct {
		name string
		opts core.DaemonOptions
		host string
		env  []string
		want string // prefix; of an error what is sure, whatever OpenSSL says of it
	}{
		{"one way", core.DaemonOptions{TLS: oneWay}, "localhost", pythonTLS("CLIENT", "", "", ca.File), ""},
		{"by address", core.DaemonOptions{TLS: oneWay}, "127.0.0.1", pythonTLS("CLIENT", "", "", ca.File), ""},
		{"mutual", core.DaemonOptions{TLS: mutual}, "localhost", pythonTLS("CLIENT", joe, joeKey, ca.File), "/joe"},
		{"mutual, checked", core.DaemonOptions{TLS: mutual, ValidateHandshake: auth.Require(auth.Certificate("joe"))}, "localhost",
			pythonTLS("CLIENT", joe, joeKey, ca.File), "joe/joe"},
		{"mutual, another name", core.DaemonOptions{TLS: mutual, ValidateHandshake: auth.Require(auth.Certificate("ann"))}, "localhost",
			pythonTLS("CLIENT", joe, joeKey, ca.File), "CommunicationError: connection to ('localhost', PORT) rejected: access denied"},
		{"common name alone", core.DaemonOptions{TLS: tlsFiles(t, cn, cnKey, "").Server()}, "localhost", pythonTLS("CLIENT", "", "", ca.File), ""},
		{"unknown authority", core.DaemonOptions{TLS: oneWay}, "localhost", pythonTLS("CLIENT", "", "", other.File),
			"CommunicationError: cannot connect to ('localhost', PORT): [SSL: CERTIFICATE_VERIFY_FAILED]"},
		{"no certificate", core.DaemonOptions{TLS: mutual}, "localhost", pythonTLS("CLIENT", "", "", ca.File), "ConnectionClosedError: "},
		{"certificate of a stranger", core.DaemonOptions{TLS: mutual}, "localhost", pythonTLS("CLIENT", stranger, strangerKey, ca.File), "ConnectionClosedError: "},
		{"no TLS", core.DaemonOptions{TLS: oneWay}, "localhost", nil,
			"CommunicationError: connection to ('localhost', PORT) rejected: this server requires TLS (SSL)"},
		{"TLS to a plain server", core.DaemonOptions{}, "localhost", pythonTLS("CLIENT", "", "", ca.File), "CommunicationError: cannot connect to ('localhost', PORT): [SSL: WRONG_VERSION_NUMBER]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			uri := serveWho(t, tt.opts)
			uri.Host = tt.host
			want := strings.ReplaceAll(tt.want, "PORT", fmt.Sprint(uri.Port))
			got := askWho(t, tt.env, uri, "hello")
			if len(got) != 1 || !strings.HasPrefix(got[0], want) || want == "" && got[0] != "" {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestPythonServerTLS calls stock servers by TLS.
//
// spec: X4
func TestPythonServerTLS(t *testing.T) {
	t.Parallel()
	ca, other := testcert.New(t, "ca"), testcert.New(t, "other")
	cert, key := ca.Issue(t, "server", "localhost", "127.0.0.1")
	cn, cnKey := ca.Issue(t, "localhost")
	joe, joeKey := ca.Issue(t, "joe")
	oneWay := pythonTLS("SERVER", cert, key, "")
	mutual := append(pythonTLS("SERVER", cert, key, ca.File), "PYRO_SSL_REQUIRECLIENTCERT=1")
	plain, known := tlsFiles(t, "", "", ca.File), tlsFiles(t, joe, joeKey, ca.File)
	for _, tt := range []struct {
		name   string
		env    []string
		opts   core.ProxyOptions
		client string // as the server knows it
		err    string
	}{
		{"one way", oneWay, core.ProxyOptions{TLSSource: plain.Config}, "nobody", ""},
		{"mutual", mutual, core.ProxyOptions{TLSSource: known.Config}, "joe", ""},
		{"common name alone", pythonTLS("SERVER", cn, cnKey, ""), core.ProxyOptions{TLSSource: plain.Config}, "",
			"issue one with the subject alternative name DNS:localhost, or set ProxyOptions.TLSCommonName"},
		{"common name accepted", pythonTLS("SERVER", cn, cnKey, ""), core.ProxyOptions{TLSSource: plain.Config, TLSCommonName: true}, "nobody", ""},
		{"unknown authority", oneWay, core.ProxyOptions{TLSSource: tlsFiles(t, "", "", other.File).Config}, "", "unknown authority"},
		{"no certificate", mutual, core.ProxyOptions{TLSSource: plain.Config}, "", "core: handshake"},
		{"TLS to a plain server", nil, core.ProxyOptions{TLSSource: plain.Config}, "", "the server speaks Pyro without TLS"},
		{"no TLS", oneWay, core.ProxyOptions{}, "", "core: handshake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			uri := parseURI(t, start(t, tt.env, "secure_server.py").expect(t, "uri "))
			uri.Host = "localhost"
			var client any
			tt.opts.ValidateHandshake = func(v any) error {
				client = v
				return nil
			}
			p := newProxy(t, uri, tt.opts)
			var greeting string
			err := p.Call(patient(t), "greet", &greeting, "joe")
			if tt.err == "" {
				if err != nil || greeting != "hello joe" || client != tt.client {
					t.Errorf("got %q, client %v, %v; want hello joe, client %s", greeting, client, err, tt.client)
				}
				return
			}
			if e, ok := errors.AsType[*core.TransportError](err); !ok || e.Written || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want a TransportError of a call that was not written, with %q", err, tt.err)
			}
		})
	}
}

// TestPythonValidators has stock clients pass the ready-made validators, or not.
//
// spec: X2 X3 C16
func TestPythonValidators(t *testing.T) {
	t.Parallel()
	secret, err := auth.Secret("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	near, err := auth.From("127.0.0.0/8", "::1")
	if err != nil {
		t.Fatal(err)
	}
	far, err := auth.From("192.0.2.0/24")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := auth.HashPassword("secret")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("joe:"+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := auth.NewPasswords(auth.PasswordOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokenOptions{Keys: map[string][]byte{"joe": []byte("0123456789abcdef")}})
	if err != nil {
		t.Fatal(err)
	}
	login := map[string]any{"user": "joe", "password": "secret"}
	guess := map[string]any{"user": "joe", "password": "guess"}
	const denied = "CommunicationError: connection to ('127.0.0.1', PORT) rejected: access denied"
	for _, tt := range []struct {
		name       string
		check      auth.Check
		handshakes []any
		want       []string
	}{
		{"network", near, []any{"hello"}, []string{""}},
		{"another network", far, []any{"hello"}, []string{denied}},
		{"secret", secret, []any{"open sesame", map[string]any{"secret": "open sesame"}, "hello", nil}, []string{"", "", denied, denied}},
		{"password", users.Check, []any{login, guess, "hello"}, []string{"joe", denied, denied}},
		{"tokens", tokens.Check, []any{"tokens", "p1:joe:1:x:00"}, []string{"joe", "joe", denied}},
		{"all", auth.All(near, secret, users.Check),
			[]any{map[string]any{"user": "joe", "password": "secret", "secret": "open sesame"}, login, "open sesame"}, []string{"joe", denied, denied}},
		{"any", auth.Any(far, users.Check, secret), []any{login, "open sesame", guess}, []string{"joe", "", denied}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			uri := serveWho(t, core.DaemonOptions{ValidateHandshake: auth.Require(tt.check)})
			for _, serializer := range []string{"serpent", "msgpack"} {
				got := askWho(t, []string{"PYRO_SERIALIZER=" + serializer}, uri, tt.handshakes...)
				want := strings.ReplaceAll(fmt.Sprintf("%q", tt.want), "PORT", fmt.Sprint(uri.Port))
				if fmt.Sprintf("%q", got) != want {
					t.Errorf("%s: got %q, want %s", serializer, got, want)
				}
			}
		})
	}
}

// TestNameServerSecured has a name server that lets in only who shows a certificate, or knows a secret.
//
// spec: H7 X4
func TestNameServerSecured(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	cert, key := ca.Issue(t, "both", "localhost", "127.0.0.1")
	files := tlsFiles(t, cert, key, ca.File)
	secret, err := auth.Secret("open sesame")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		opts   core.DaemonOptions
		client core.ProxyOptions
		env    []string // with which stock programs get in; nil if none does
	}{
		{"TLS", core.DaemonOptions{TLS: files.Server()}, core.ProxyOptions{TLSSource: files.Config}, pythonTLS("CLIENT", cert, key, ca.File)},
		{"secret", core.DaemonOptions{ValidateHandshake: auth.Require(secret)}, core.ProxyOptions{Handshake: "open sesame"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := startNodeWith(t, tt.opts, tt.client)
			c, err := naming.NewClient([]string{n.address()}, naming.ClientOptions{Proxy: tt.client})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Register(patient(t), "bank", parseURI(t, "PYRO:bank@h:1"), naming.RegisterOptions{}); err != nil {
				t.Fatal(err)
			}
			nsc := []string{"-m", "Pyro5.nsc", "-n", "localhost", "-p", n.port, "lookup", "bank"}
			if stdout, _, _ := run(t, nil, "", nsc...); stdout != "Error: Failed to locate the nameserver\n" {
				t.Errorf("pyro5-nsc without: got %q", stdout)
			}
			if tt.env == nil {
				return
			}
			if stdout, stderr, code := run(t, tt.env, "", nsc...); stdout != "PYRO:bank@h:1\n" || code != 0 {
				t.Errorf("pyro5-nsc: got %q, exit code %d, stderr %s", stdout, code, stderr)
			}
		})
	}
}

// TestSecurityDocument makes certificates by the commands in docs/security.md and connects both ways with them; the file of users that its
// Python program writes is read.
func TestSecurityDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of commands, want those for certificates and for users", len(blocks))
	}
	dir := t.TempDir()
	shell := func(commands string) {
		t.Helper()
		cmd := exec.CommandContext(patient(t), "sh", "-e", "-c", commands)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v (the commands need OpenSSL 3)\n%s", commands, err, out)
		}
	}
	shell(blocks[0][1])
	file := func(name string) string { return filepath.Join(dir, name) }
	server := tlsFiles(t, file("server.pem"), file("server.key"), file("ca.pem"))
	joe := tlsFiles(t, file("joe.pem"), file("joe.key"), file("ca.pem"))

	uri := serveWho(t, core.DaemonOptions{TLS: server.Server(), ValidateHandshake: auth.Require(auth.Certificate("joe"))})
	uri.Host = "localhost"
	p := newProxy(t, uri, core.ProxyOptions{TLSSource: joe.Config})
	if got := call(patient(t), t, p, "who"); got != "joe/joe" {
		t.Errorf("Go client: got %v", got)
	}
	if got := askWho(t, pythonTLS("CLIENT", file("joe.pem"), file("joe.key"), file("ca.pem")), uri, "hello"); len(got) != 1 || got[0] != "joe/joe" {
		t.Errorf("Python client: got %q", got)
	}
	env := append(pythonTLS("SERVER", file("server.pem"), file("server.key"), file("ca.pem")), "PYRO_SSL_REQUIRECLIENTCERT=1")
	python := newProxy(t, parseURI(t, start(t, env, "secure_server.py").expect(t, "uri ")), core.ProxyOptions{TLSSource: joe.Config})
	if got := call(patient(t), t, python, "greet", "joe"); got != "hello joe" {
		t.Errorf("Python server: got %v", got)
	}

	program := strings.NewReplacer("python3", interpreter(t), "getpass.getpass()", `"secret"`, "600000", "1000").Replace(blocks[1][1])
	shell(program)
	users, err := auth.NewPasswords(auth.PasswordOptions{File: file("users")})
	if err != nil {
		t.Fatal(err)
	}
	if err := users.Check(t.Context(), map[string]any{"user": "joe", "password": "secret"}); err != nil {
		t.Error(err)
	}
}
