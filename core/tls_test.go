package core

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
)

// tlsFiles are the files of one side, whose certificate is issued by own and which trusts those of ca.
func tlsFiles(t *testing.T, own, ca *testcert.Authority, name string, hosts ...string) *TLSFiles {
	t.Helper()
	opts := TLSFileOptions{}
	if own != nil {
		opts.Cert, opts.Key = own.Issue(t, name, hosts...)
	}
	if ca != nil {
		opts.CA = ca.File
	}
	f, err := NewTLSFiles(opts)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// whoCalls is a method that tells who calls it.
func whoCalls(ctx context.Context, _ []any) (any, error) {
	info := CallInfoFrom(ctx)
	cert := info.PeerCertificate()
	if cert == nil {
		return nil, nil
	}
	return []any{cert.Subject.CommonName, info.Principal, info.TLS.Version >= tls.VersionTLS12}, nil
}

func serveWho(t *testing.T, opts DaemonOptions) (*Daemon, URI) {
	t.Helper()
	d := serve(t, opts)
	uri, err := d.Register("who", &Servant{Class: "Who", Methods: []Method{{Name: "calls", Func: whoCalls}}}, ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d, uri
}

// TestTLSPeers covers who may connect to whom, and what either side is told.
//
// spec: X4
func TestTLSPeers(t *testing.T) {
	t.Parallel()
	ours, theirs := testcert.New(t, "ca"), testcert.New(t, "ca") // a client shows no certificate of an authority of another name
	oneWay := tlsFiles(t, ours, nil, "server", "localhost", "127.0.0.1", "::1").Server()
	mutual := tlsFiles(t, ours, ours, "server", "localhost", "127.0.0.1").Server()
	commonName := tlsFiles(t, ours, nil, "localhost").Server()
	trusting := tlsFiles(t, nil, ours, "")
	for _, tt := range []struct {
		name   string
		server *tls.Config
		host   string
		client ProxyOptions
		caller any    // what the server knows
		err    string // part of what the client learns
	}{
		{"plain", nil, "127.0.0.1", ProxyOptions{}, nil, ""},
		{"one way, by address", oneWay, "127.0.0.1", ProxyOptions{TLSSource: trusting.Config}, nil, ""},
		{"one way, by name", oneWay, "localhost", ProxyOptions{TLSSource: trusting.Config}, nil, ""},
		{"a configuration of the user's", oneWay, "localhost", ProxyOptions{TLS: &tls.Config{RootCAs: ours.Pool}}, nil, ""},
		{"a name of the user's", oneWay, "127.0.0.1", ProxyOptions{TLS: &tls.Config{RootCAs: ours.Pool, ServerName: "localhost"}}, nil, ""},
		{"unverified", oneWay, "127.0.0.1", ProxyOptions{TLS: &tls.Config{InsecureSkipVerify: true}}, nil, ""},
		{"a source that has none", nil, "127.0.0.1", ProxyOptions{TLS: &tls.Config{}, TLSSource: func() *tls.Config { return nil }}, nil, ""},
		{"mutual", mutual, "localhost", ProxyOptions{TLSSource: tlsFiles(t, ours, ours, "joe").Config}, []any{"joe", "", true}, ""},
		{"common name", commonName, "localhost", ProxyOptions{TLSSource: trusting.Config, TLSCommonName: true}, nil, ""},
		{"common name not needed", mutual, "127.0.0.1", ProxyOptions{TLSSource: tlsFiles(t, ours, ours, "joe").Config, TLSCommonName: true}, []any{"joe", "", true}, ""},

		{"unknown authority", oneWay, "127.0.0.1", ProxyOptions{TLS: &tls.Config{RootCAs: theirs.Pool}}, nil, "unknown authority"},
		{"wrong name", oneWay, "localhost", ProxyOptions{TLS: &tls.Config{RootCAs: ours.Pool, ServerName: "other"}}, nil, "not other"},
		{"common name refused", commonName, "localhost", ProxyOptions{TLSSource: trusting.Config}, nil, "issue one with the subject alternative name DNS:localhost"},
		{"common name is no address", commonName, "127.0.0.1", ProxyOptions{TLSSource: trusting.Config, TLSCommonName: true}, nil, "IP:127.0.0.1"},
		{"address as common name", tlsFiles(t, ours, nil, "127.0.0.1").Server(), "127.0.0.1", ProxyOptions{TLSSource: trusting.Config, TLSCommonName: true}, nil, "IP:127.0.0.1"},
		{"another common name", commonName, "localhost",
			ProxyOptions{TLS: &tls.Config{RootCAs: ours.Pool, ServerName: "other"}, TLSCommonName: true}, nil, "DNS:other"},
		{"common name beside names", oneWay, "localhost",
			ProxyOptions{TLS: &tls.Config{RootCAs: ours.Pool, ServerName: "server"}, TLSCommonName: true}, nil, "not server"},
		{"common name of an unknown authority", commonName, "localhost",
			ProxyOptions{TLS: &tls.Config{RootCAs: theirs.Pool}, TLSCommonName: true}, nil, "unknown authority"},
		{"no client certificate", mutual, "localhost", ProxyOptions{TLSSource: trusting.Config}, nil, "certificate required"},
		{"client certificate of a stranger", mutual, "localhost", ProxyOptions{TLSSource: tlsFiles(t, theirs, ours, "joe").Config}, nil, "unknown certificate authority"},
		{"plain client", oneWay, "localhost", ProxyOptions{}, nil, "rejected: this server requires TLS (SSL)"},
		{"plain server", nil, "localhost", ProxyOptions{TLSSource: trusting.Config}, nil, "the server speaks Pyro without TLS"},
		{"old TLS", oneWay, "localhost", ProxyOptions{TLS: &tls.Config{RootCAs: ours.Pool, MaxVersion: tls.VersionTLS11}}, nil, "no supported versions"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, uri := serveWho(t, DaemonOptions{TLS: tt.server})
			uri.Host = tt.host
			p := NewProxy(uri, tt.client)
			defer p.Close()
			var caller any
			err := p.Call(t.Context(), "calls", &caller)
			if tt.err == "" {
				if err != nil || !equalValues(caller, tt.caller) {
					t.Fatalf("got %v, %v; want %v", caller, err, tt.caller)
				}
				return
			}
			fault, ok := errors.AsType[*TransportError](err)
			if !ok || fault.Written || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want a TransportError of a call that was not written, with %q", err, tt.err)
			}
			if known := tt.name != "old TLS"; errors.Is(err, ErrNotAdmitted) != known {
				t.Errorf("%v is ErrNotAdmitted: got %v, want %v", err, !known, known)
			}
		})
	}
}

func equalValues(a, b any) bool {
	x, ok := a.([]any)
	y, ok2 := b.([]any)
	if !ok || !ok2 || len(x) != len(y) {
		return a == b
	}
	for i := range x {
		if x[i] != y[i] {
			return false
		}
	}
	return true
}

// TestPrincipal: who a validator says that the client is is known to its calls, and to those of nobody else.
//
// spec: X2
func TestPrincipal(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	files := tlsFiles(t, ca, ca, "joe", "localhost", "127.0.0.1")
	validate := func(ctx context.Context, handshake any) (any, error) {
		info := CallInfoFrom(ctx)
		if _, bounded := ctx.Deadline(); !bounded || info.Object != "who" || info.PeerCertificate() == nil {
			return nil, errors.New("a validator is not told what it needs")
		}
		SetPrincipal(ctx, "user "+handshake.(string))
		return nil, nil
	}
	_, uri := serveWho(t, DaemonOptions{TLS: files.Server(), ValidateHandshake: validate})
	for _, name := range []string{"a", "b"} {
		p := NewProxy(uri, ProxyOptions{TLSSource: files.Config, Handshake: name})
		defer p.Close()
		for range 2 {
			var caller any
			if err := p.Call(t.Context(), "calls", &caller); err != nil || !equalValues(caller, []any{"joe", "user " + name, true}) {
				t.Errorf("got %v, %v; want joe, user %s", caller, err, name)
			}
		}
	}
	SetPrincipal(t.Context(), "nobody") // outside of a handshake: nothing
}

// TestCredentials: what is sent in CONNECT is made for each connection.
func TestCredentials(t *testing.T) {
	t.Parallel()
	seen := make(chan any, 10)
	d := serve(t, DaemonOptions{ValidateHandshake: func(_ context.Context, v any) (any, error) {
		seen <- v
		return nil, nil
	}})
	n, fail := 0, errors.New("no key")
	p := NewProxy(d.URI(daemonID), ProxyOptions{MaxIdle: 1, Credentials: func(context.Context) (any, error) {
		n++
		if n == 3 {
			return nil, fail
		}
		return n, nil
	}})
	defer p.Close()
	for want := range 2 {
		if err := p.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := within(t, seen); got != int64(want+1) {
			t.Errorf("got handshake %v, want %d", got, want+1)
		}
		p.mux.Load().Close()
	}
	if err := p.Ping(t.Context()); !errors.Is(err, fail) || OutcomeOf(err) != CallNotExecuted {
		t.Errorf("got %v, want the error of Credentials", err)
	}
	if s := p.state(); s.Handshake != defaultHandshake {
		t.Errorf("a proxy that is passed on has handshake %v, want %q", s.Handshake, defaultHandshake)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestTLSFilesReload: a new certificate, and a new authority, hold from the next handshake on.
//
// spec: X4
func TestTLSFilesReload(t *testing.T) {
	t.Parallel()
	first, second := testcert.New(t, "ca"), testcert.New(t, "ca")
	dir := t.TempDir()
	opts := TLSFileOptions{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), CA: filepath.Join(dir, "ca")}
	replace := func(own, ca *testcert.Authority) {
		cert, key := own.Issue(t, "server", "127.0.0.1")
		// One after the other, as it is done: files that do not belong together are never used.
		for _, f := range [][2]string{{cert, opts.Cert}, {key, opts.Key}, {ca.File, opts.CA}} {
			if err := os.Rename(copyOf(t, f[0]), f[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace(first, first)
	files, err := NewTLSFiles(opts)
	if err != nil {
		t.Fatal(err)
	}
	_, uri := serveWho(t, DaemonOptions{TLS: files.Server()})
	proxy := func(own, ca *testcert.Authority) *Proxy {
		p := NewProxy(uri, ProxyOptions{TLSSource: tlsFiles(t, own, ca, "joe").Config})
		t.Cleanup(func() { p.Close() })
		return p
	}
	old, renewed := proxy(first, first), proxy(second, second)
	if err := old.Ping(t.Context()); err != nil {
		t.Fatalf("before: %v", err)
	}
	if err := renewed.Ping(t.Context()); err == nil {
		t.Fatal("before: a client of another authority got in")
	}
	replace(second, second)
	if err := renewed.Ping(t.Context()); err != nil {
		t.Fatalf("after: %v", err)
	}
	if err := old.Ping(t.Context()); err != nil {
		t.Errorf("after: a connection that is open does not go on: %v", err)
	}
	if err := proxy(first, second).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "unknown certificate authority") {
		t.Errorf("after: a client of the old authority: got %v", err)
	}
	// The client's side follows its files, too: without a restart it could not connect again.
	client := NewProxy(uri, ProxyOptions{TLSSource: files.Config})
	defer client.Close()
	if err := client.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	replace(first, first)
	client.mux.Load().Close()
	if err := client.Ping(t.Context()); err != nil {
		t.Errorf("client after another change: %v", err)
	}
}

func copyOf(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestTLSFilesBroken: files that cannot be used are an error at first, and later leave what was.
func TestTLSFilesBroken(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	cert, key := ca.Issue(t, "server", "127.0.0.1")
	_, otherKey := ca.Issue(t, "other")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		opts TLSFileOptions
		err  string
	}{
		{"no such certificate", TLSFileOptions{Cert: "/does/not/exist"}, "no such file"},
		{"no key", TLSFileOptions{Cert: cert}, "key"},
		{"key alone", TLSFileOptions{Key: key}, "a key without a certificate"},
		{"key of another", TLSFileOptions{Cert: cert, Key: otherKey}, "does not match"},
		{"no such authority", TLSFileOptions{CA: "/does/not/exist"}, "no such file"},
		{"no authority", TLSFileOptions{CA: empty}, "no certificate in"},
		{"directory without authority", TLSFileOptions{CA: filepath.Dir(empty)}, "no certificate in"},
	} {
		if _, err := NewTLSFiles(tt.opts); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
		}
	}
	records := make(logRecords, 10)
	files, err := NewTLSFiles(TLSFileOptions{Cert: cert, Key: key, CA: filepath.Dir(ca.File), Logger: slog.New(records)})
	if err != nil {
		t.Fatal(err)
	}
	was := files.Config()
	if err := os.Rename(copyOf(t, otherKey), key); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if files.Config() != was {
			t.Fatal("broken files replaced good ones")
		}
	}
	if got := within(t, records); got != "certificates cannot be read; the old ones hold" {
		t.Errorf("logged %q", got)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if files.Config() != was {
		t.Fatal("a missing file replaced a good one")
	}
	within(t, records)
	if n := len(records); n != 0 {
		t.Errorf("the same failure was logged %d more times", n)
	}
	if _, err := Listen("127.0.0.1:0", DaemonOptions{TLS: &tls.Config{}}); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("daemon without a certificate: got %v", err)
	}
}

// TestTLSClients are clients that do not get as far as Pyro: they hold up nobody, and are hung up on.
//
// spec: X4 X7
func TestTLSClients(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	files := tlsFiles(t, ca, nil, "server", "127.0.0.1")
	for _, tt := range []struct {
		name string
		sent string
		want string // of what comes back
	}{
		{"nothing", "", ""},
		{"half a record", "\x16\x03\x01\x02\x00\x01", ""},
		{"garbage", "GET / HTTP/1.1\r\n\r\n", ""},
		{"Pyro", "PYRO\x01\xf6" + strings.Repeat("\x01", 34), headerTag},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, uri := serveWho(t, DaemonOptions{TLS: files.Server(), HandshakeTimeout: 300 * time.Millisecond})
			nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", portOf(uri)))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(nc, tt.sent); err != nil {
				t.Fatal(err)
			}
			p := NewProxy(uri, ProxyOptions{TLS: &tls.Config{RootCAs: ca.Pool}})
			defer p.Close()
			if err := p.Ping(t.Context()); err != nil {
				t.Errorf("another client meanwhile: %v", err)
			}
			got, err := io.ReadAll(nc)
			if err != nil || !strings.HasPrefix(string(got), tt.want) || tt.want == "" && len(got) > 0 {
				t.Errorf("got %q, %v; want %q and the end", got, err, tt.want)
			}
		})
	}
}

func portOf(u URI) string {
	_, address := u.Address()
	_, port, _ := net.SplitHostPort(address)
	return port
}

// TestTLSRefusal: a daemon that is full says so by TLS, too.
//
// spec: X1
func TestTLSRefusal(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	files := tlsFiles(t, ca, ca, "both", "127.0.0.1")
	_, uri := serveWho(t, DaemonOptions{TLS: files.Server(), MaxConnections: 1})
	first := NewProxy(uri, ProxyOptions{TLSSource: files.Config})
	defer first.Close()
	if err := first.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := NewProxy(uri, ProxyOptions{TLSSource: files.Config})
	defer second.Close()
	if err := second.Ping(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "rejected: no free workers, increase server threadpool size") {
		t.Errorf("got %v, want Pyro's refusal", err)
	}
}

// TestTLSCloseAtOnce: Close does not wait for clients that do not read.
func TestTLSCloseAtOnce(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	files := tlsFiles(t, ca, nil, "server", "127.0.0.1")
	d := serve(t, DaemonOptions{TLS: files.Server()})
	nc, err := tls.Dial("tcp", d.Addr().String(), &tls.Config{RootCAs: ca.Pool})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	within(t, start(d.Close))
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := nc.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes, %v; want the end", n, err)
	}
}
