package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/testcert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustCheck(t *testing.T) func(c Check, err error) Check {
	return func(c Check, err error) Check {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// peerListener hands out connections of clients with any address.
type peerListener struct {
	net.Listener
	conns chan net.Conn
}

func (l *peerListener) Accept() (net.Conn, error) {
	nc, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return nc, nil
}

func (l *peerListener) Close() error {
	close(l.conns)
	return nil
}

func (l *peerListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

type peerConn struct {
	net.Conn
	peer net.Addr
}

func (c peerConn) RemoteAddr() net.Addr { return c.peer }

// connect lets a client with an address connect to a daemon with a validator, and returns the principal of its calls.
func connect(t *testing.T, peer net.Addr, check Check, handshake any) (principal string, err error) {
	t.Helper()
	ln := &peerListener{conns: make(chan net.Conn)}
	d, err := core.NewDaemon(ln, core.DaemonOptions{ValidateHandshake: Require(check)})
	if err != nil {
		t.Fatal(err)
	}
	uri, err := d.Register("who", &core.Servant{Class: "Who", Methods: []core.Method{{Name: "calls", Func: func(ctx context.Context, _ []any) (any, error) {
		return core.CallInfoFrom(ctx).Principal, nil
	}}}}, core.ObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(t.Context()) }()
	defer func() {
		d.Close()
		<-served
	}()
	p := core.NewProxy(uri, core.ProxyOptions{Handshake: handshake, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		ln.conns <- peerConn{server, peer}
		return client, nil
	}})
	defer p.Close()
	err = p.Call(t.Context(), "calls", &principal)
	return principal, err
}

// TestFrom: the allow-list of addresses.
//
// spec: X2
func TestFrom(t *testing.T) {
	t.Parallel()
	check := mustCheck(t)(From("10.1.0.0/16", "192.0.2.7", "2001:db8::/32", "unix"))
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1234} }
	for _, tt := range []struct {
		name string
		peer net.Addr
		want bool
	}{
		{"in a network", tcp("10.1.2.3"), true},
		{"beside it", tcp("10.2.0.1"), false},
		{"an address", tcp("192.0.2.7"), true},
		{"the next one", tcp("192.0.2.8"), false},
		{"IPv6", tcp("2001:db8::1"), true},
		{"IPv6 with a zone", &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Zone: "eth0", Port: 1}, true},
		{"other IPv6", tcp("2001:db9::1"), false},
		{"IPv4 written as IPv6", &net.TCPAddr{IP: net.ParseIP("::ffff:10.1.2.3"), Port: 1}, true},
		{"unix socket", &net.UnixAddr{Net: "unix"}, true},
		{"no address", &net.UDPAddr{}, false},
	} {
		_, err := connect(t, tt.peer, check, "hello")
		if (err == nil) != tt.want || err != nil && !strings.HasSuffix(err.Error(), "rejected: access denied") {
			t.Errorf("%s %v: got %v, want %v", tt.name, tt.peer, err, tt.want)
		}
	}
	if _, err := connect(t, &net.UnixAddr{Net: "unix"}, mustCheck(t)(From("0.0.0.0/0", "::/0")), "hello"); err == nil {
		t.Error("unix socket: passed without being named")
	}
	for _, wrong := range []string{"", "10.0.0.0/33", "host.example.org", "10.0.0"} {
		if _, err := From(wrong); err == nil {
			t.Errorf("From(%q): no error", wrong)
		}
	}
}

// TestSecret: the shared secret.
//
// spec: X2 H7
func TestSecret(t *testing.T) {
	t.Parallel()
	check := mustCheck(t)(Secret("old secret", "new"))
	for _, tt := range []struct {
		name      string
		handshake any
		reason    string
	}{
		{"text", "new", ""},
		{"another", "old secret", ""},
		{"bytes", []byte("new"), ""},
		{"dict", map[string]any{"secret": "new", "more": 1}, ""},
		{"wrong", "old", "wrong secret"},
		{"longer", "newer", "wrong secret"},
		{"empty", "", "wrong secret"},
		{"Pyro's own", "hello", "wrong secret"},
		{"dict without", map[string]any{"user": "new"}, "no secret"},
		{"dict with another type", map[string]any{"secret": 5}, "no secret"},
		{"None", nil, "no secret"},
		{"list", []any{"new"}, "no secret"},
	} {
		wantReason(t, tt.name, check(t.Context(), tt.handshake), tt.reason)
	}
	for _, none := range [][]string{{}, {""}, {"a", ""}} {
		if _, err := Secret(none...); err == nil {
			t.Errorf("Secret(%q): no error", none)
		}
	}
}

// wantReason compares an error with a reason, which is hidden from the client; an empty one means none.
func wantReason(t *testing.T, name string, err error, reason string) {
	t.Helper()
	d, ok := errors.AsType[*Denied](err)
	switch {
	case reason == "" && err != nil:
		t.Errorf("%s: got %v, want none", name, err)
	case reason != "" && (!ok || !strings.Contains(d.Reason, reason) || err.Error() != "access denied" || !strings.Contains(d.LogValue().String(), reason)):
		t.Errorf("%s: got %v, want it denied because %q", name, err, reason)
	}
}

// TestCombined: All and Any, and whom they take the client for.
//
// spec: X2
func TestCombined(t *testing.T) {
	t.Parallel()
	is := func(name string, err error) Check {
		return func(ctx context.Context, _ any) error {
			core.SetPrincipal(ctx, name)
			return err
		}
	}
	no, told := denied("no"), errors.New("told")
	pass := func(context.Context, any) error { return nil }
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	for _, tt := range []struct {
		name      string
		check     Check
		principal string
		err       string
	}{
		{"all of none", All(), "", ""},
		{"all", All(pass, is("a", nil), pass), "a", ""},
		{"all but one", All(is("a", nil), is("b", no), is("c", nil)), "", "access denied"},
		{"any of none", Any(), "", "access denied"},
		{"any", Any(is("a", no), is("b", nil), is("c", nil)), "b", ""},
		{"any: who failed is nobody", Any(is("a", no), pass), "", ""},
		{"any: who passed before stays", All(is("z", nil), Any(is("a", no), pass)), "z", ""},
		{"none of any", Any(is("a", no), is("b", no)), "", "access denied"},
		{"none of any, and a reason", Any(is("a", no), is("b", told)), "", "told"},
	} {
		principal, err := connect(t, local, tt.check, "hello")
		if principal != tt.principal || (err == nil) != (tt.err == "") || err != nil && !strings.HasSuffix(err.Error(), tt.err) {
			t.Errorf("%s: got %q, %v; want %q, %q", tt.name, principal, err, tt.principal, tt.err)
		}
	}
	wantReason(t, "reasons", Any(is("a", denied("one")), is("b", denied("two")))(t.Context(), nil), "one; two")
}

// TestCertificate: who shows a certificate of a name that is listed passes.
//
// spec: X2 X4
func TestCertificate(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t, "ca")
	files := func(name string, hosts ...string) *core.TLSFiles {
		cert, key := ca.Issue(t, name, hosts...)
		f, err := core.NewTLSFiles(core.TLSFileOptions{Cert: cert, Key: key, CA: ca.File})
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	asks := files("server", "127.0.0.1")
	for _, tt := range []struct {
		name      string
		client    *core.TLSFiles
		principal string // empty: denied
	}{
		{"common name", files("joe"), "joe"},
		{"DNS name", files("anything", "joe"), "joe"},
		{"common name beside others", files("joe", "ann"), ""},
		{"another", files("ann"), ""},
	} {
		d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{TLS: asks.Server(), ValidateHandshake: Require(Certificate("joe", ""))})
		if err != nil {
			t.Fatal(err)
		}
		uri, err := d.Register("who", &core.Servant{Class: "Who", Methods: []core.Method{{Name: "calls", Func: func(ctx context.Context, _ []any) (any, error) {
			return core.CallInfoFrom(ctx).Principal, nil
		}}}}, core.ObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- d.Serve(t.Context()) }()
		p := core.NewProxy(uri, core.ProxyOptions{TLSSource: tt.client.Config})
		var principal string
		err = p.Call(t.Context(), "calls", &principal)
		if principal != tt.principal || (err == nil) != (tt.principal != "") {
			t.Errorf("%s: got %q, %v; want %q", tt.name, principal, err, tt.principal)
		}
		p.Close()
		d.Close()
		<-served
	}
	wantReason(t, "no TLS", Certificate("joe")(t.Context(), nil), "no certificate")
}

// userFile writes a file of users, whose hashes are quick to check.
func userFile(t *testing.T, users ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "users")
	writeUsers(t, file, users...)
	return file
}

func writeUsers(t *testing.T, file string, users ...string) {
	t.Helper()
	text := "# users\n\n"
	for _, u := range users {
		name, password, _ := strings.Cut(u, ":")
		h, err := newHash(password, 1000)
		if err != nil {
			t.Fatal(err)
		}
		text += name + ":" + h + "\n"
	}
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// TestPasswords: users and passwords, before and after their file changed.
//
// spec: X2
func TestPasswords(t *testing.T) {
	t.Parallel()
	file := userFile(t, "joe:secret", "ann:s:ü")
	records := make(chan slog.Record, 10)
	p, err := NewPasswords(PasswordOptions{File: file, Logger: slog.New(logRecords(records))})
	if err != nil {
		t.Fatal(err)
	}
	login := func(user, password any) map[string]any { return map[string]any{"user": user, "password": password} }
	for _, tt := range []struct {
		name      string
		handshake any
		reason    string
	}{
		{"right", login("joe", "secret"), ""},
		{"right again", login("joe", "secret"), ""},
		{"another user", login("ann", "s:ü"), ""},
		{"bytes", login([]byte("ann"), []byte("s:ü")), ""},
		{"wrong after right", login("joe", "Secret"), "wrong password"},
		{"password of another", login("joe", "s:ü"), "wrong password"},
		{"unknown user", login("bob", "secret"), "unknown"},
		{"empty", login("", ""), "unknown"},
		{"user alone", map[string]any{"user": "joe"}, "no user and password"},
		{"other types", login(1, nil), "no user and password"},
		{"password of a megabyte", login("joe", strings.Repeat("x", 1<<20)), "no user and password"},
		{"text", "joe:secret", "no user and password"},
		{"None", nil, "no user and password"},
	} {
		wantReason(t, tt.name, p.Check(t.Context(), tt.handshake), tt.reason)
	}
	if principal, err := connect(t, &net.TCPAddr{}, p.Check, login("joe", "secret")); err != nil || principal != "joe" {
		t.Errorf("got principal %q, %v", principal, err)
	}

	writeUsers(t, file, "joe:changed")
	wantReason(t, "old password after the change", p.Check(t.Context(), login("joe", "secret")), "wrong password")
	wantReason(t, "new password after the change", p.Check(t.Context(), login("joe", "changed")), "")
	wantReason(t, "removed user", p.Check(t.Context(), login("ann", "s:ü")), "unknown")
	if err := os.WriteFile(file, []byte("joe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		wantReason(t, "broken file", p.Check(t.Context(), login("joe", "changed")), "")
	}
	writeUsers(t, file, "joe:changed twice")
	wantReason(t, "mended file", p.Check(t.Context(), login("joe", "changed twice")), "")
	var logged []string
	for len(records) > 0 {
		logged = append(logged, (<-records).Message)
	}
	if want := []string{"users read again", "users cannot be read; the old ones hold", "users read again"}; fmt.Sprint(logged) != fmt.Sprint(want) {
		t.Errorf("logged %q, want %q", logged, want)
	}
}

// logRecords is a handler that keeps what is logged.
type logRecords chan slog.Record

func (r logRecords) Enabled(context.Context, slog.Level) bool { return true }
func (r logRecords) Handle(_ context.Context, rec slog.Record) error {
	r <- rec
	return nil
}
func (r logRecords) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r logRecords) WithGroup(string) slog.Handler      { return r }

func TestPasswordFiles(t *testing.T) {
	t.Parallel()
	good, err := newHash("x", 1)
	if err != nil {
		t.Fatal(err)
	}
	// What passlib.hash.pbkdf2_sha256.using(rounds=1000, salt=...).hash("password") writes.
	const passlib = "$pbkdf2-sha256$1000$OgeA0DonxLhXitG6V4oRIg$2DPcflSGtC3FSsJfN8xKxNyo3rKXFs1BwgDbUHtOGSc"
	for _, tt := range []struct{ name, text, err string }{
		{"good", "joe:" + good + "\n# comment\n\n ann:" + good, ""},
		{"passlib's", "joe:" + passlib, ""},
		{"nothing", "", "no user"},
		{"comments", "# joe:" + good, "no user"},
		{"no hash", "joe", "line 1: want NAME:HASH"},
		{"no name", "\n:" + good, "line 2: want NAME:HASH"},
		{"password as it is", "joe:secret", "line 1: hash is no $pbkdf2-sha256$"},
		{"bcrypt", "joe:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC", "hash is no $pbkdf2-sha256$"},
		{"twice", "joe:" + good + "\njoe:" + good, `line 2: user "joe" is there already`},
		{"no iterations", "joe:$pbkdf2-sha256$$c2FsdA$" + good[len(good)-43:], "iterations"},
		{"too many iterations", "joe:$pbkdf2-sha256$10000001$c2FsdA$" + good[len(good)-43:], "iterations"},
		{"no salt", "joe:$pbkdf2-sha256$1$+$" + good[len(good)-43:], "salt is no base64"},
		{"short sum", "joe:" + good[:len(good)-4], "sum has"},
		{"a line of a megabyte", strings.Repeat("x", 1<<20), "token too long"},
	} {
		file := filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := NewPasswords(PasswordOptions{File: file})
		if tt.text == "joe:"+passlib {
			wantReason(t, tt.name, p.Check(t.Context(), map[string]any{"user": "joe", "password": "password"}), "")
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.err)
		}
	}
	if _, err := NewPasswords(PasswordOptions{File: "/does/not/exist"}); err == nil {
		t.Error("no file: no error")
	}
	for _, p := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if h, err := HashPassword(p); err == nil {
			t.Errorf("password of %d bytes: got %q", len(p), h)
		}
	}
}

// TestPasswordsBusy: who guesses does not get more than a part of the processors, and others do not wait for ever.
func TestPasswordsBusy(t *testing.T) {
	t.Parallel()
	p, err := NewPasswords(PasswordOptions{File: userFile(t, "joe:secret")})
	if err != nil {
		t.Fatal(err)
	}
	login := map[string]any{"user": "joe", "password": "secret"}
	if err := p.Check(t.Context(), login); err != nil {
		t.Fatal(err)
	}
	for range maxHashing {
		p.hashing <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Check(ctx, map[string]any{"user": "joe", "password": "guess"}); err == nil || err.Error() != "too many logins at a time" {
		t.Errorf("got %v, want it to wait no longer than its context", err)
	}
	if err := p.Check(ctx, login); err != nil {
		t.Errorf("a user who was there before: %v", err)
	}
}

// TestTokens: signed tokens, their clocks, and tokens that come twice.
//
// spec: X2 X3
func TestTokens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		key := []byte("0123456789abcdef")
		tokens, err := NewTokens(TokenOptions{Keys: map[string][]byte{"joe": key, "": []byte("another key of 16 bytes")}, Skew: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		joe := Signer{"joe", key}
		token := func(s Signer) string {
			t.Helper()
			text, err := s.Token()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		check := func(name string, handshake any, want string) {
			t.Helper()
			if err := tokens.Check(t.Context(), handshake); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %.200q: got %v, want %q", name, handshake, err, want)
			}
		}
		const no = "access denied"
		first := token(joe)
		check("fresh", first, "")
		check("the same again", first, "used already")
		check("another", map[string]any{"token": token(joe)}, "")
		check("bytes", []byte(token(joe)), "")
		check("of the client without a name", token(Signer{"", []byte("another key of 16 bytes")}), "")
		check("with a key of another", token(Signer{"joe", []byte("another key of 16 bytes")}), no)
		check("of an unknown client", token(Signer{"bob", key}), no)
		for i := range first {
			changed := []byte(first)
			changed[i] ^= 1
			check(fmt.Sprint("byte ", i, " changed"), changed, no)
		}
		for i := range first {
			check(fmt.Sprint("cut at ", i), first[:i], no)
		}
		check("longer", token(joe)+"00", no)
		body, signature := cutLast(token(joe))
		check("capitals", body+":"+strings.ToUpper(signature), no)
		check("None", nil, no)
		check("dict without", map[string]any{"secret": token(joe)}, no)
		check("a megabyte", strings.Repeat(":", 1<<20), no)
		signed := "p1:joe:now:nonce"
		check("a time that is none", fmt.Sprintf("%s:%s", signed, sign(key, signed)), "no number")

		// Clocks that differ; the token's own time is what counts.
		early := token(joe)
		time.Sleep(time.Minute)
		check("a minute old", early, "")
		late := token(joe)
		time.Sleep(time.Minute + time.Second)
		check("older", late, "another time")
		ahead := func(by time.Duration) string {
			signed := fmt.Sprintf("p1:joe:%d:%d", time.Now().Add(by).Unix(), by)
			return fmt.Sprintf("%s:%s", signed, sign(key, signed))
		}
		check("far ahead", ahead(time.Minute+2*time.Second), "another time")
		future := ahead(time.Minute)
		check("ahead", future, "")
		for range 8 { // as long as its time lets it pass, and longer
			time.Sleep(15 * time.Second)
			check("ahead, again", future, "used already")
		}
		time.Sleep(2 * time.Second)
		check("ahead, long after", future, "another time")

		// What is remembered is forgotten in the end, and bounded meanwhile.
		time.Sleep(time.Hour)
		check("after an hour", token(joe), "")
		if n := len(tokens.used) + len(tokens.old); n != 1 {
			t.Errorf("%d tokens are remembered, want 1", n)
		}
		time.Sleep(59 * time.Second)
		future = ahead(time.Minute)
		check("ahead, between others", future, "")
		for _, after := range []time.Duration{2, 62, 1} {
			time.Sleep(after * time.Second)
			check("another", token(joe), "")
		}
		check("ahead, between others, again", future, "used already")
		for i := range maxRemembered {
			tokens.used[fmt.Sprint(i)] = struct{}{}
		}
		check("too many", token(joe), "too many tokens")
		time.Sleep(3 * time.Minute)
		check("later", token(joe), "")
	})
}

func TestTokenMistakes(t *testing.T) {
	t.Parallel()
	long := []byte("0123456789abcdef")
	for name, keys := range map[string]map[string][]byte{
		"no keys": nil, "a short key": {"joe": []byte("short")}, "a colon": {"a:b": long},
	} {
		if _, err := NewTokens(TokenOptions{Keys: keys}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, s := range map[string]Signer{"a short key": {"joe", long[:15]}, "a colon": {"a:b", long}, "a long name": {strings.Repeat("x", maxToken), long}} {
		if _, err := s.Credentials(t.Context()); err == nil {
			t.Errorf("signer with %s: no error", name)
		}
	}
}

// TestTokensAtOnce: of many clients with one token, one gets in.
func TestTokensAtOnce(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdef")
	tokens, err := NewTokens(TokenOptions{Keys: map[string][]byte{"joe": key}})
	if err != nil {
		t.Fatal(err)
	}
	handshake, err := Signer{"joe", key}.Credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	passed := make(chan bool, 50)
	for range cap(passed) {
		wg.Go(func() {
			if tokens.Check(context.Background(), handshake) == nil {
				passed <- true
			}
		})
	}
	wg.Wait()
	if len(passed) != 1 {
		t.Errorf("%d clients got in with one token", len(passed))
	}
}

// FuzzToken: no token but those that were signed.
func FuzzToken(f *testing.F) {
	key := []byte("0123456789abcdef")
	const signed = "p1:joe:1700000000:nonce"
	token := signed + ":" + string(sign(key, signed))
	f.Add(token)
	f.Add("p1:joe:1:x:00")
	f.Add(":::::")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := NewTokens(TokenOptions{Keys: map[string][]byte{"joe": key}, Skew: 1e6 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if err := tokens.Check(t.Context(), text); err == nil && text != token {
			t.Errorf("%q got in", text)
		}
	})
}

// FuzzPasswordFile: any file is read or refused.
func FuzzPasswordFile(f *testing.F) {
	h, err := newHash("x", 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("joe:" + h))
	f.Add([]byte("#\n:$$$$"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if u, err := parseUsers(text); err == nil && (len(u.hashes) == 0 || u.slow.iterations > maxIterations) {
			t.Errorf("%q: got %v", text, u.hashes)
		}
	})
}
