package interop

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// pyro4Env makes Pyro4 quiet about its age.
var pyro4Env = []string{"PYTHONWARNINGS=ignore"}

// TestPyro4Client calls Go objects, and our name server, with stock Pyro4.
func TestPyro4Client(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	for _, serializer := range serializerNames {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
				_, err := d.Register("thing", new(Thing), thingOptions)
				_, err2 := d.Register("servant", greeter(), core.ObjectOptions{})
				return errors.Join(err, err2)
			})
			runChecks(t, pyro4Env, "pyro4_client.py", serializer, d.URI("thing").String(), n.host, n.port)
		})
	}
}

// A daemon that is not to serve them says so.
func TestPyro4ClientRefused(t *testing.T) {
	t.Parallel()
	d := serve(t, core.DaemonOptions{NoPyro4: true}, func(d *core.Daemon) error {
		_, err := d.Register("thing", new(Thing), thingOptions)
		return err
	})
	_, stderr, code := run(t, pyro4Env, "", "-c", "import sys, Pyro4; Pyro4.Proxy(sys.argv[1]).nothing()", d.URI("thing").String())
	if code == 0 || !strings.Contains(stderr, "unsupported protocol version") {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
}

// TestPyro4Server calls an object of a stock Pyro4 daemon, which is found out by what it answers.
func TestPyro4Server(t *testing.T) {
	t.Parallel()
	uri := parseURI(t, start(t, pyro4Env, "pyro4_server.py", "").expect(t, "uri "))
	for _, opts := range []core.ProxyOptions{{}, {Protocol: 48}, {Serializer: "json"}, {Serializer: "marshal"}, {Serializer: "msgpack"}, {Compress: true}} {
		t.Run(strings.TrimSpace(opts.Serializer+" "+strconv.Itoa(opts.Protocol)), func(t *testing.T) {
			testPyro4Server(t, newProxy(t, uri, opts), opts.Serializer)
		})
	}
	p := newProxy(t, uri, core.ProxyOptions{Protocol: 502})
	if err := p.Call(patient(t), "echo", nil, 1); err == nil || !strings.Contains(err.Error(), "invalid protocol version: 48") {
		t.Errorf("protocol 502 alone: got %v", err)
	}
}

func testPyro4Server(t *testing.T, p *core.Proxy, serializer string) {
	ctx := patient(t)
	if got := call(ctx, t, p, "add", 1, core.Kwargs{"b": 2}); got != int64(3) {
		t.Errorf("add: got %v", got)
	}
	value := map[string]any{"a": []any{int64(1), nil, 2.5, strings.Repeat("x", 1000)}}
	if got := call(ctx, t, p, "echo", value); !reflect.DeepEqual(got, value) {
		t.Errorf("echo: got %v", got)
	}
	err := p.Call(ctx, "fail", nil)
	e, ok := errors.AsType[*core.RemoteError](err)
	if !ok || e.Class != core.ValueError || !slices.Equal(e.Args, []any{"bad", int64(1)}) || e.Attributes["extra"] != int64(5) || len(e.Traceback) == 0 {
		t.Errorf("exception: got %#v", err)
	}
	if err := p.Call(ctx, "fail_pyro", nil); !errors.Is(err, core.NamingError) {
		t.Errorf("Pyro's exception: got %v", err)
	}
	if err := p.SetAttr(ctx, "name", "set"); err != nil {
		t.Error(err)
	}
	var name string
	if err := p.Attr(ctx, "name", &name); err != nil || name != "set" {
		t.Errorf("attribute: got %q, %v", name, err)
	}
	if err := p.Call(ctx, "note", nil, "noted"); err != nil {
		t.Error(err)
	}
	if got, err := results(p.Batch().Call("add", 1).Call("add", 2).Do(ctx)); serializer != "marshal" && (err != nil || len(got) != 2) {
		t.Errorf("batch: got %v, %v", got, err)
	}
	var stream *core.Stream
	if err := p.Call(ctx, "generate", &stream, 3); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, err := range stream.All(ctx) {
		if count++; err != nil {
			t.Error(err)
		}
	}
	if count != 3 {
		t.Errorf("stream: got %d items, want 3", count)
	}
	id := [16]byte{0: 1, 6: 0x40, 8: 0x80, 15: 2}
	var back core.Annotations
	with := core.WithReplyAnnotations(core.WithAnnotations(core.WithCorrelationID(ctx, id), core.Annotations{"TEST": []byte("text")}), &back)
	var info []string
	if err := p.Call(with, "context", &info); err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(info[0], "-", ""); got != hex.EncodeToString(id[:]) || info[1] != "text" || string(back["BACK"]) != "from 4" {
		t.Errorf("context: got %q, and %q back", info, back["BACK"])
	}
	if err := p.Ping(ctx); err != nil {
		t.Error(err)
	}
}

// Messages that are signed with a key that both know.
func TestPyro4HMAC(t *testing.T) {
	t.Parallel()
	uri := parseURI(t, start(t, pyro4Env, "pyro4_server.py", "secret").expect(t, "uri "))
	p := newProxy(t, uri, core.ProxyOptions{HMACKey: []byte("secret")})
	if got := call(patient(t), t, p, "add", 1, 2); got != int64(3) {
		t.Errorf("got %v, want 3", got)
	}
	for _, key := range []string{"", "wrong"} {
		wrong := newProxy(t, uri, core.ProxyOptions{Protocol: 48, HMACKey: []byte(key)})
		if err := wrong.Call(patient(t), "add", nil, 1, 2); err == nil {
			t.Errorf("key %q: the call succeeded", key)
		}
	}
	d := serve(t, core.DaemonOptions{HMACKey: []byte("secret")}, func(d *core.Daemon) error {
		_, err := d.Register("thing", new(Thing), thingOptions)
		return err
	})
	const program = "import sys, Pyro4; p = Pyro4.Proxy(sys.argv[1]); p._pyroHmacKey = sys.argv[2].encode() or None; print(p.add(1, 2))"
	for key, want := range map[string]string{"secret": "3\n", "": "", "wrong": ""} {
		stdout, stderr, code := run(t, pyro4Env, "", "-c", program, d.URI("thing").String(), key)
		if stdout != want || (code == 0) != (want != "") {
			t.Errorf("key %q: printed %q, exit code %d, stderr:\n%s", key, stdout, code, stderr)
		}
	}
}

// A Pyro4 server registers itself at our name server, and both kinds of clients find it.
func TestPyro4ServerRegisters(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	uri := start(t, pyro4Env, "pyro4_server.py", "", n.host, n.port).expect(t, "uri ")
	names := n.client(t)
	found, err := names.Lookup(patient(t), "four")
	if err != nil || found.URI.String() != uri {
		t.Fatalf("got %v, %v, want %s", found, err, uri)
	}
	p := newProxy(t, found.URI, core.ProxyOptions{})
	if got := call(patient(t), t, p, "add", 1, 2); got != int64(3) {
		t.Errorf("got %v, want 3", got)
	}
	stdout, stderr, code := run(t, pyro4Env, "", "-c", "import sys, Pyro4; print(Pyro4.Proxy('PYRONAME:four@' + sys.argv[1]).add(1, 2))", n.address())
	if stdout != "3\n" || code != 0 {
		t.Errorf("printed %q, exit code %d, stderr:\n%s", stdout, code, stderr)
	}
}
