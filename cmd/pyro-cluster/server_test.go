package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// oneNode returns the arguments for a cluster of one on free ports.
func oneNode(dir string, args ...string) []string {
	return append([]string{"server", "--data-dir", dir, "--port", "0", "--raft-port", "0", "--http-port", "0",
		"--profile", "lan", "--expect", "1", "--log-level", "error"}, args...)
}

// uriOf is the address in the line that the server prints.
func uriOf(t *testing.T, line string) core.URI {
	t.Helper()
	uri, err := core.ParseURI(strings.TrimPrefix(line, "URI = "))
	if err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	return uri
}

// TestDatagramsOnLoopback: on loopback a node answers no datagrams unless told to, as Pyro5's name server.
//
// spec: D2
func TestDatagramsOnLoopback(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		want int
	}{
		{"localhost", nil, 0},
		{"loopback", []string{"--host", "127.0.0.2"}, 0},
		{"loopback, told to", []string{"--host", "127.0.0.2", "--udp-port", "9091"}, 9091},
		{"another address", []string{"--host", "192.0.2.1", "--insecure"}, 9091},
		{"another address, told not to", []string{"--host", "192.0.2.1", "--insecure", "--udp-port", "0"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := &serverFlags{secure: new(security), profile: "lan", logLevel: "error", logFormat: "text"}
			cmd := &cobra.Command{}
			f.add(cmd)
			if err := cmd.ParseFlags(append([]string{"--data-dir", "d", "--expect", "1"}, tt.args...)); err != nil {
				t.Fatal(err)
			}
			cfg, err := f.config(cmd)
			if err != nil || cfg.udpPort != tt.want {
				t.Errorf("%q: got port %d, %v, want %d", tt.args, cfg.udpPort, err, tt.want)
			}
		})
	}
}

// spec: H11 T1
func TestServerAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ports := freePorts(t, 0, 1)
	c := start(t, oneNode(dir, "--udp-port", fmt.Sprint(ports), "--http-port", fmt.Sprint(ports+1))...)
	uri := uriOf(t, c.line("URI = "))
	c.line("ready")
	ns := join(uri.Host, uri.Port)
	must(t, "ns", "register", "bank", "PYRO:bank@localhost:7000", "--ns", ns)
	if got := must(t, "cluster", "leader", "--ns", ns); got != ns {
		t.Errorf("leader: got %s, want %s", got, ns)
	}
	eventually(t, "readyz", "200 ok\n", func() string { return fetch(t, "http://"+join("localhost", ports+1)+"/readyz") })
	if got := broadcast(t, ports); got != uri.String() {
		t.Errorf("answer to a broadcast: got %q, want %q", got, uri)
	}
	// Another process on the same directory.
	r := cli(t, oneNode(dir)...)
	if want := "stop the other process, or choose another --data-dir"; r.code != exitFailed || !strings.HasSuffix(r.lastLine(), want) {
		t.Errorf("second node on the directory: exit %d, %q; want 1 and ... %q", r.code, r.lastLine(), want)
	}
	if r := c.stop(); r.code != exitOK {
		t.Fatalf("stopped: exit %d, stderr %q", r.code, r.stderr)
	}

	// Again, with the directory alone.
	c = start(t, "server", "--data-dir", dir, "--port", fmt.Sprint(uri.Port), "--raft-port", "0", "--http-port", "0", "--log-level", "error")
	c.line("ready")
	if got := must(t, "ns", "lookup", "bank", "--ns", ns); got != "PYRO:bank@localhost:7000" {
		t.Errorf("lookup after a restart: got %q", got)
	}
}

// broadcast asks the UDP responder as a stock client does; a datagram may get lost while the node is not ready.
func broadcast(t *testing.T, port int) string {
	t.Helper()
	c, err := net.Dial("udp", join("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 100)
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if _, err := c.Write([]byte("GET_NSURI")); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := c.Read(buf); err == nil {
			return string(buf[:n])
		}
	}
	return "silence"
}

// TestServerWithoutQuorum is one node of two: alive, not ready, silent, and clients are told to go elsewhere.
func TestServerWithoutQuorum(t *testing.T) {
	t.Parallel()
	p := freePorts(t, 0, 1, 2, 3, 4)
	raft, other := join("localhost", p), join("localhost", p+4)
	c := start(t, "server", "--data-dir", t.TempDir(), "--port", fmt.Sprint(p+1), "--raft-port", fmt.Sprint(p), "--http-port", fmt.Sprint(p+2),
		"--udp-port", fmt.Sprint(p+3), "--expect", "2", "--join", raft+","+other, "--log-level", "error")
	c.line("URI = ")
	http := "http://" + join("localhost", p+2)
	if got := fetch(t, http+"/livez"); got != "200 ok\n" {
		t.Errorf("livez: got %q", got)
	}
	for _, path := range []string{"/readyz", "/readyz?verbose"} {
		got := fetch(t, http+path)
		t.Logf("%s: %q", path, got)
		if !strings.HasPrefix(got, "503 ") {
			t.Errorf("%s: got %q, want 503 and a reason", path, got)
		}
	}
	r := cli(t, "ns", "ping", "--ns", join("localhost", p+1), "--timeout", "500ms")
	if r.code != exitUnreachable || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("ping: exit %d, stderr %q; want 3 and one line", r.code, r.stderr)
	}
	udp, err := net.Dial("udp", join("127.0.0.1", p+3))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	udp.Write([]byte("GET_NSURI"))
	udp.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := udp.Read(make([]byte, 100)); err == nil {
		t.Errorf("a node without a quorum answered a broadcast with %d bytes", n)
	}
	if r := c.stop(); r.code != exitOK {
		t.Errorf("stopped: exit %d, stderr %q", r.code, r.stderr)
	}
}

// TestServerDamaged changes a byte in each file of a data directory in turn.
func TestServerDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := start(t, oneNode(dir)...)
	c.line("ready")
	c.stop()
	for _, name := range []string{"node.json", "raft.db"} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "data")
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(copied, name)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			half := data[:len(data)/2]
			if err := os.WriteFile(file, half, 0o600); err != nil {
				t.Fatal(err)
			}
			r := cli(t, oneNode(copied)...)
			t.Logf("%s", r.lastLine())
			if r.code != exitDamaged || !strings.HasPrefix(r.lastLine(), "pyro-cluster: server: ") || !strings.Contains(r.lastLine(), file) {
				t.Errorf("cut in half: exit %d, %q; want 6 and a line that names %s", r.code, r.lastLine(), file)
			}
			if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, half) {
				t.Errorf("the damaged file was changed (%v)", err)
			}
		})
	}
}

// TestServerFullDisk runs a node on a file system without room, at its start and later.
func TestServerFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("this test mounts a small file system: run it as root")
	}
	t.Run("at the start", func(t *testing.T) {
		dir := mountTemp(t, "16k")
		fill(t, dir)
		r := cli(t, oneNode(filepath.Join(dir, "data"))...)
		wantFull(t, r)
	})
	t.Run("read-only", func(t *testing.T) {
		dir := mountTemp(t, "1m")
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatalf("remount: %v", err)
		}
		r := cli(t, oneNode(filepath.Join(dir, "data"))...)
		want := "pyro-cluster: server: cluster: make data directory: mkdir " + dir + "/data: read-only file system: check --data-dir"
		if r.code != exitFailed || r.lastLine() != want {
			t.Errorf("exit %d, %q; want 1 and %q", r.code, r.lastLine(), want)
		}
	})
	t.Run("later", func(t *testing.T) {
		dir := mountTemp(t, "4m")
		c := start(t, oneNode(filepath.Join(dir, "data"))...)
		uri := uriOf(t, c.line("URI = "))
		c.line("ready")
		fill(t, dir)
		ns := join(uri.Host, uri.Port)
		for i := 0; ; i++ {
			r := cli(t, "ns", "register", fmt.Sprintf("name-%d", i), "PYRO:x@localhost:1", "--tag", strings.Repeat("x", 10000), "--ns", ns, "--timeout", "3s")
			if r.code == exitOK && i < 1000 {
				continue
			}
			t.Logf("register: exit %d, %s", r.code, r.stderr)
			if r.code != exitUnreachable && r.code != exitFailed {
				t.Errorf("register on a full disk: exit %d, stderr %q; want 1 or 3", r.code, r.stderr)
			}
			break
		}
		wantFull(t, c.wait())
	})
}

func wantFull(t *testing.T, r result) {
	t.Helper()
	t.Logf("%s", r.lastLine())
	if r.code != exitFailed || !strings.HasPrefix(r.lastLine(), "pyro-cluster: server: ") || !strings.HasSuffix(r.lastLine(), "no space left on device: make room for --data-dir") {
		t.Errorf("exit %d, %q; want 1 and a line about the room", r.code, r.lastLine())
	}
}

// mountTemp mounts a file system in memory of that size.
func mountTemp(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mount a small file system on %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			syscall.Unmount(dir, syscall.MNT_DETACH)
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill takes all the room that is left.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}

// TestServerWrongCluster lets a node with data of one cluster look for nodes of another.
func TestServerWrongCluster(t *testing.T) {
	t.Parallel()
	p := freePorts(t, 0, 1)
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		c := start(t, oneNode(dir)...)
		c.line("ready")
		c.stop()
	}
	a := start(t, oneNode(first, "--raft-port", fmt.Sprint(p))...)
	a.line("ready")
	b := start(t, oneNode(second, "--raft-port", fmt.Sprint(p+1), "--join", join("localhost", p))...)
	r := b.wait()
	t.Logf("%s", r.lastLine())
	if r.code != exitRefused || !strings.HasPrefix(r.lastLine(), "pyro-cluster: server: cluster: ") {
		t.Errorf("exit %d, %q; want 5 and a line about the cluster", r.code, r.lastLine())
	}
}

// TestServerRemoved takes a node out of a cluster: it ends by itself, now and whenever it is started again.
func TestServerRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := freePorts(t, 0, 1, 2)
	raft := fmt.Sprintf("localhost:%d,localhost:%d,localhost:%d", p, p+1, p+2)
	node := func(i int) *command {
		return start(t, "server", "--data-dir", filepath.Join(dir, fmt.Sprint(i)), "--port", "0", "--raft-port", fmt.Sprint(p+i), "--http-port", "0",
			"--profile", "lan", "--expect", "3", "--join", raft, "--log-level", "error")
	}
	nodes := []*command{node(0), node(1), node(2)}
	var addresses []string
	for _, n := range nodes {
		uri := uriOf(t, n.line("URI = "))
		addresses = append(addresses, join(uri.Host, uri.Port))
		n.line("ready")
	}
	ns := strings.Join(addresses[:2], ",")
	var id string
	for _, n := range publishedNodes(t, ns, 3) {
		if n.PyroAddress == addresses[2] {
			id = n.ID
		}
	}
	must(t, "cluster", "remove", id, "--ns", ns)
	want := "pyro-cluster: server: cluster: this node was removed from the cluster: give it an empty --data-dir to join anew"
	if r := nodes[2].wait(); r.code != exitRefused || r.lastLine() != want {
		t.Errorf("removed node: exit %d, %q; want 5 and %q", r.code, r.lastLine(), want)
	}
	// Started again it hears it from whom it asks first.
	r := node(2).wait()
	reason := "this node was removed from the cluster"
	if r.code != exitRefused || !strings.Contains(r.lastLine(), reason) || !strings.HasSuffix(r.lastLine(), hintRemove) {
		t.Errorf("removed node, started again: exit %d, %q; want 5 and ... %q ... %q", r.code, r.lastLine(), reason, hintRemove)
	}
	publishedNodes(t, ns, 2)
}

// TestNodeTLS starts two nodes that authenticate each other, and keeps a third with a certificate of another authority out.
func TestNodeTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ours, theirs := newAuthority(t, dir, "ours"), newAuthority(t, dir, "theirs")
	p := freePorts(t, 0, 1, 2)
	nodes := fmt.Sprintf("localhost:%d,localhost:%d", p, p+1)
	node := func(i int, a authority, args ...string) []string {
		cert, key := a.issue(t, fmt.Sprintf("node%d", i))
		return append([]string{"server", "--data-dir", filepath.Join(dir, fmt.Sprint("data", i)), "--port", "0", "--raft-port", fmt.Sprint(p + i),
			"--http-port", "0", "--profile", "lan", "--join", nodes, "--node-cert", cert, "--node-key", key, "--node-ca", a.file, "--log-level", "error"}, args...)
	}
	a, b := start(t, node(0, ours, "--expect", "2")...), start(t, node(1, ours, "--expect", "2")...)
	uri := uriOf(t, a.line("URI = "))
	a.line("ready")
	b.line("ready")
	stranger := start(t, node(2, theirs)...)
	stranger.line("URI = ")
	ns := join(uri.Host, uri.Port)
	for _, n := range publishedNodes(t, ns, 2) {
		if n.Role == "nonvoter" {
			t.Errorf("node %+v is no voter", n)
		}
	}
	r := stranger.stop()
	if r.code != exitOK && r.code != exitRefused && r.code != exitFailed {
		t.Errorf("stranger: exit %d, stderr %q", r.code, r.stderr)
	}
	for l := range stranger.lines {
		if l == "ready" {
			t.Error("a node with a foreign certificate got ready")
		}
	}
}

// publishedNodes waits until that many nodes are members and known to clients.
func publishedNodes(t *testing.T, ns string, want int) []naming.NodeInfo {
	t.Helper()
	var text string
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		text = must(t, "cluster", "members", "-o", "json", "--ns", ns)
		var nodes []naming.NodeInfo
		if err := json.Unmarshal([]byte(text), &nodes); err != nil {
			t.Fatal(err)
		}
		if len(nodes) == want && !slices.ContainsFunc(nodes, func(n naming.NodeInfo) bool { return n.PyroAddress == "" }) {
			return nodes
		}
	}
	t.Fatalf("members: got %s, want %d with addresses", text, want)
	return nil
}

// authority signs certificates.
type authority struct {
	dir, file string
	cert      *x509.Certificate
	key       *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name+".pem")
	writePEM(t, file, "CERTIFICATE", der)
	return authority{dir, file, cert, key}
}

// issue writes a certificate for localhost and its key.
func (a authority) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "EC PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
