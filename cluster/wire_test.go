package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/fsm"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Options{DataDir: "d", Listen: "127.0.0.1:0"}
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string // in the error; empty for none
	}{
		{"least", func(*Options) {}, ""},
		{"no directory", func(o *Options) { o.DataDir = "" }, "no data directory"},
		{"unknown profile", func(o *Options) { o.Profile = "moon" }, `profile "moon": want lan, default or wan`},
		{"each profile", func(o *Options) { o.Profile = ProfileWAN }, ""},
		{"no port", func(o *Options) { o.Listen = "127.0.0.1" }, "want host:port"},
		{"unspecified without advertise", func(o *Options) { o.Listen = "0.0.0.0:0" }, "needs an address to advertise"},
		{"empty host without advertise", func(o *Options) { o.Listen = ":9092" }, "needs an address to advertise"},
		{"unspecified IPv6 without advertise", func(o *Options) { o.Listen = "[::]:9092" }, "needs an address to advertise"},
		{"unspecified is advertised", func(o *Options) { o.Advertise = "0.0.0.0:9092" }, "cannot reach"},
		{"advertised without a port", func(o *Options) { o.Advertise = "h:0" }, "want host:port"},
		{"plain to others", func(o *Options) { o.Listen = "192.0.2.1:9092" }, "plain TCP: give certificates, or allow it explicitly"},
		{"plain by name", func(o *Options) { o.Advertise = "n1.example:9092" }, "plain TCP"},
		{"plain on all", func(o *Options) { o.Listen, o.Advertise = "0.0.0.0:9092", "localhost:9092" }, "plain TCP"},
		{"plain on purpose", func(o *Options) { o.Listen, o.Insecure = "192.0.2.1:9092", true }, ""},
		{"secured", func(o *Options) { o.Listen, o.TLS = "192.0.2.1:9092", &tls.Config{} }, ""},
		{"secured by what changes", func(o *Options) {
			o.Listen, o.TLSSource = "192.0.2.1:9092", func() *tls.Config { return &tls.Config{} }
		}, ""},
		{"localhost", func(o *Options) { o.Listen = "localhost:9092" }, ""},
		{"all of 127", func(o *Options) { o.Listen = "127.3.2.1:9092" }, ""},
		{"IPv6 loopback", func(o *Options) { o.Listen = "[::1]:9092" }, ""},
		{"negative expect", func(o *Options) { o.Expect = -1 }, "want zero or more"},
		{"bad join", func(o *Options) { o.Join = []string{"n1"} }, `join address "n1"`},
		{"two halves", func(o *Options) { o.Expect, o.Join = 2, []string{"a:1", "b:1", "c:1", "d:1"} }, "could form two clusters: expect at least 3"},
		{"more than half", func(o *Options) { o.Expect, o.Join = 3, []string{"a:1", "b:1", "c:1", "d:1", "e:1"} }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := good
			test.change(&o)
			err := o.check()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("check: got %v, want %q", err, test.want)
			}
		})
	}
}

// The bytes of version 1: nodes of different versions meet in one cluster.
func TestWireVectors(t *testing.T) {
	t.Parallel()
	p := &preamble{kindRaft, registryGroup, "c-1", "n-1", "h:1", "n-2"}
	r := &handshakeReply{statusWrongCluster, "c-2", "n-2", "no"}
	s := &status{peer: peer{"n-1", "h:1"}, cluster: "c", promise: "p", bound: true, round: 1, expect: 3, term: 300, lastIndex: 5, applied: 4, leader: peer{"n-2", "h:2"}}
	q := &promiseRequest{promise: promise{Cluster: "c", Coordinator: "n-1", Members: []peer{{"n-1", "h:1"}, {"n-2", "h:2"}}}, expect: 2, round: 7}
	for _, test := range []struct {
		name string
		got  []byte
		want string
		back func([]byte) (any, error)
		from any
	}{
		{"preamble", p.append(nil), "01087265676973747279" + "03632d31" + "036e2d31" + "03683a31" + "036e2d32",
			func(b []byte) (any, error) { v := &preamble{}; return v, v.parse(b) }, p},
		{"reply", r.append(nil), "01" + "03632d32" + "036e2d32" + "026e6f",
			func(b []byte) (any, error) { v := &handshakeReply{}; return v, v.parse(b) }, r},
		{"status", s.append(nil), "036e2d3103683a3101630170036e2d3203683a32" + "0100" + "0103ac020504",
			func(b []byte) (any, error) { v := &status{}; return v, v.parse(b) }, s},
		{"promise", q.append(nil), "0163036e2d310207" + "036e2d3103683a31" + "036e2d3203683a32",
			func(b []byte) (any, error) { v := &promiseRequest{}; return v, v.parse(b) }, q},
		{"result", appendResult(nil, fsm.Result{Code: 1, Count: -2, Revision: 300, Text: "t"}), "0103ac0274",
			func(b []byte) (any, error) { return parseResult(b) }, fsm.Result{Code: 1, Count: -2, Revision: 300, Text: "t"}},
	} {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		back, err := test.back(test.got)
		if err != nil || !reflect.DeepEqual(back, test.from) {
			t.Errorf("%s and back: got %+v, %v, want %+v", test.name, back, err, test.from)
		}
		if test.name == "result" || test.name == "promise" {
			continue // their ends are free
		}
		for i := range test.got {
			if _, err := test.back(test.got[:i]); err == nil {
				t.Errorf("%s cut at %d: got nil, want an error", test.name, i)
			}
		}
	}
}

func TestErrorsOnTheWire(t *testing.T) {
	t.Parallel()
	for _, c := range codes {
		back := errorOf(codeOf(c.err), "text")
		if !errors.Is(back, c.err) || back.Error() != "text" {
			t.Errorf("%v: got %v back", c.err, back)
		}
	}
	if got := codeOf(errors.New("else")); got != codeOther {
		t.Errorf("code of another error: got %d, want %d", got, codeOther)
	}
	if err := errorOf(200, "new"); !errors.Is(err, errAnswer) {
		t.Errorf("code of a newer version: got %v, want %v", err, errAnswer)
	}
}

// dialRaw connects to a node without shaking hands.
func dialRaw(t testing.TB, n *Node) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", n.Address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPortRefusesStrangers(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1)[0]
	cluster := n.LocalView().ClusterID()
	hello := func(p preamble) []byte {
		var b bytes.Buffer
		if err := writeHello(&b, p.append(nil)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	newer := hello(preamble{kind: kindRaft, group: registryGroup})
	newer[4] = protocolVersion + 1
	for _, test := range []struct {
		name   string
		send   []byte
		status handshakeStatus
		closed bool // without an answer
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), 0, true},
		{"length too large", []byte("PCLN\x01\xff\xff"), 0, true},
		{"other version", newer, statusVersion, false},
		{"malformed", []byte("PCLN\x01\x00\x02\x01\xff"), statusRefused, false},
		{"other cluster", hello(preamble{kind: kindRequest, group: registryGroup, cluster: "c-other"}), statusWrongCluster, false},
		{"raft of another cluster", hello(preamble{kind: kindRaft, group: registryGroup, cluster: "c-other"}), statusWrongCluster, false},
		{"raft without a cluster", hello(preamble{kind: kindRaft, group: registryGroup}), statusRefused, false},
		{"another node is meant", hello(preamble{kind: kindRaft, group: registryGroup, cluster: cluster, target: "n-other"}), statusRefused, false},
		{"other group", hello(preamble{kind: kindRequest, group: "other"}), statusRefused, false},
		{"other kind", hello(preamble{kind: 9, group: registryGroup}), statusRefused, false},
		{"fine", hello(preamble{kind: kindRequest, group: registryGroup, cluster: cluster, target: n.ID()}), statusOK, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, n)
			if _, err := c.Write(test.send); err != nil {
				t.Fatal(err)
			}
			_, body, err := readHello(c)
			if test.closed {
				if err == nil {
					t.Errorf("got answer % x, want none", body)
				}
				return
			}
			var r handshakeReply
			if err := errors.Join(err, r.parse(body)); err != nil || r.status != test.status || r.id != n.ID() && test.status != statusVersion && test.name != "malformed" {
				t.Errorf("got %+v, %v, want status %d", r, err, test.status)
			}
		})
	}
	waitServing(t, n)
}

// A connection that sends nonsense after a good handshake is closed, and the node serves on.
func TestPortRefusesBadFrames(t *testing.T) {
	t.Parallel()
	n := newCluster(t, 1)[0]
	for _, frame := range []string{"\xff\xff\xff\xff01234567890123", "\x00\x00\x00\x01012345678", "\x00\x00\x00\x0912345678\x01"} {
		c := dialRaw(t, n)
		p := preamble{kind: kindRequest, group: registryGroup}
		if err := writeHello(c, p.append(nil)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readHello(c); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, frame); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("frame % x: got % x, %v, want the end", frame, b, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for kind := range 30 {
		for _, body := range [][]byte{nil, {0xff}, bytes.Repeat([]byte{0x91}, 1000)} {
			switch requestKind(kind) {
			case requestTerm, requestStatus, requestReadIndex, requestTransfer:
				continue // have no body, or one that may be empty
			}
			if _, err := n.links.call(ctx, n.Address(), n.ID(), requestKind(kind), body, nil); err == nil {
				t.Errorf("request %d with body % x: got nil, want an error", kind, body)
			}
		}
	}
	register(t, n, "lives")
}

func FuzzWire(f *testing.F) {
	p := &preamble{kindRaft, registryGroup, "c-1", "n-1", "h:1", "n-2"}
	s := &status{peer: peer{"n-1", "h:1"}, cluster: "c"}
	q := &promiseRequest{promise: promise{Cluster: "c", Coordinator: "n-1", Members: []peer{{"n-1", "h:1"}}}, expect: 1}
	for _, seed := range [][]byte{p.append(nil), s.append(nil), q.append(nil), appendResult(nil, fsm.Result{Count: 1}), {0xff, 0xff, 0xff, 0xff, 0x0f}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// What parses is the same after another round trip.
		same := func(name string, parse func([]byte) error, appendTo func([]byte) []byte) {
			if parse(b) != nil {
				return
			}
			once := appendTo(nil)
			if err := parse(once); err != nil || !bytes.Equal(appendTo(nil), once) {
				t.Errorf("%s % x: got % x, %v after a round trip of % x", name, b, appendTo(nil), err, once)
			}
		}
		var p preamble
		same("preamble", p.parse, p.append)
		var r handshakeReply
		same("reply", r.parse, r.append)
		var s status
		same("status", s.parse, s.append)
		var q promiseRequest
		if q.parse(b) == nil && len(q.promise.Members) > maxExpect {
			t.Errorf("promise % x: %d members", b, len(q.promise.Members))
		}
		_, _ = parseResult(b)
		fr, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && len(fr.body) > len(b) {
			t.Errorf("frame % x: body of %d bytes", b, len(fr.body))
		}
	})
}

// authority signs certificates for tests.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(crand.Reader, a.cert, a.cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) config(t testing.TB, address string) *tls.Config {
	t.Helper()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(host)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(crand.Reader, c, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: a.pool, ClientCAs: a.pool}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	nodes := newCluster(t, 3, func(_ int, o *Options) { o.TLS = ours.config(t, o.Listen) })
	register(t, nodes[0], "secret")
	mustSee(t, nodes[2], "secret")

	plain := dialRaw(t, nodes[0])
	p := preamble{kind: kindRequest, group: registryGroup}
	if err := writeHello(plain, p.append(nil)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readHello(plain); err == nil {
		t.Error("plain connection: got an answer, want none")
	}
	for name, config := range map[string]*tls.Config{
		"without a certificate":       {RootCAs: ours.pool},
		"with one of somebody else's": {RootCAs: ours.pool, Certificates: newAuthority(t).config(t, nodes[0].Address()).Certificates},
	} {
		config.ServerName, _, _ = net.SplitHostPort(nodes[0].Address())
		c := tls.Client(dialRaw(t, nodes[0]), config)
		if err := writeHello(c, p.append(nil)); err != nil {
			continue
		}
		if _, _, err := readHello(c); err == nil {
			t.Errorf("%s: got an answer, want none", name)
		}
	}
}

// TestTLSSource has a node whose certificates change: each handshake goes by those of its time, on both sides.
func TestTLSSource(t *testing.T) {
	t.Parallel()
	first, second := newAuthority(t), newAuthority(t)
	var current atomic.Pointer[authority]
	current.Store(first)
	nodes := newCluster(t, 1, func(_ int, o *Options) {
		listen := o.Listen
		configs := map[*authority]*tls.Config{first: first.config(t, listen), second: second.config(t, listen)}
		o.TLSSource = func() *tls.Config { return configs[current.Load()] }
	})
	lets := func(a *authority) bool {
		config := a.config(t, nodes[0].Address())
		config.ServerName, _, _ = net.SplitHostPort(nodes[0].Address())
		c := tls.Client(dialRaw(t, nodes[0]), config)
		p := preamble{kind: kindRequest, group: registryGroup}
		if err := writeHello(c, p.append(nil)); err != nil {
			return false
		}
		_, _, err := readHello(c)
		return err == nil
	}
	if !lets(first) || lets(second) {
		t.Errorf("before: the first authority's %v, the second's %v, want true, false", lets(first), lets(second))
	}
	current.Store(second)
	if lets(first) || !lets(second) {
		t.Errorf("after: the first authority's %v, the second's %v, want false, true", lets(first), lets(second))
	}
	o := Options{TLSSource: func() *tls.Config { return &tls.Config{} }}
	if got := o.clientTLS("h"); got.ServerName != "h" || got.MinVersion != tls.VersionTLS13 {
		t.Errorf("client: got name %q, version %x", got.ServerName, got.MinVersion)
	}
}
