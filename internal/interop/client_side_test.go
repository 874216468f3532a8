package interop

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// clientSide is testdata/clientside.py.
type clientSide struct {
	account, shelf, sequence, caller core.URI
}

func startClientSide(t *testing.T) clientSide {
	t.Helper()
	p := start(t, nil, "clientside.py")
	return clientSide{
		parseURI(t, p.expect(t, "account ")), parseURI(t, p.expect(t, "shelf ")),
		parseURI(t, p.expect(t, "sequence ")), parseURI(t, p.expect(t, "caller ")),
	}
}

// results collects what a sequence yields.
func results(seq func(yield func(any, error) bool)) (values []any, err error) {
	for v, e := range seq {
		if e != nil {
			return values, e
		}
		values = append(values, v)
	}
	return values, nil
}

// TestPythonForProxies uses what proxies offer with a stock server.
func TestPythonForProxies(t *testing.T) {
	t.Parallel()
	python := startClientSide(t)
	for _, serializer := range serializerNames {
		opts := core.ProxyOptions{Serializer: serializer}
		t.Run(serializer, func(t *testing.T) {
			t.Run("batch", func(t *testing.T) { testBatch(t, newProxy(t, python.account, opts), serializer) })
			t.Run("container", func(t *testing.T) { testContainer(t, newProxy(t, python.shelf, opts)) })
			t.Run("sequence", func(t *testing.T) { testSequence(t, newProxy(t, python.sequence, opts)) })
			t.Run("proxies as values", func(t *testing.T) { testProxyValues(t, newProxy(t, python.caller, opts), python.account) })
			t.Run("nested calls", func(t *testing.T) { testNestedCalls(t, newProxy(t, python.caller, opts)) })
			t.Run("raw", func(t *testing.T) { testRaw(t, newProxy(t, python.shelf, opts)) })
		})
	}
}

// spec: C7
func testBatch(t *testing.T, p *core.Proxy, serializer string) {
	ctx := patient(t)
	got, err := results(p.Batch().Call("set_balance", 0).Call("deposit", 1).Call("deposit", 2, core.Kwargs{"times": 10}).Do(ctx))
	if want := []any{nil, int64(1), int64(21)}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	got, err = results(p.Batch().Call("deposit", 1).Call("fail", "bad").Call("set_balance", 1000).Do(ctx))
	e, ok := errors.AsType[*core.RemoteError](err)
	want := []any{int64(22)}
	if serializer == "marshal" { // with which stock cannot send exceptions within a list
		want, ok = nil, ok && e.Text() == "unmarshallable object"
	} else {
		ok = ok && e.Text() == "bad" && e.Attributes["extra"] == int64(5) && len(e.Traceback) > 0
	}
	if !reflect.DeepEqual(got, want) || !ok || e.Class != core.ValueError {
		t.Errorf("got %v, %#v, want %v and a ValueError", got, err, want)
	}
	if got, err := results(p.Batch().Do(ctx)); err != nil || len(got) != 0 {
		t.Errorf("no calls: got %v, %v", got, err)
	}
	for _, method := range []string{"unsendable", "stream"} {
		if got, err := results(p.Batch().Call("deposit", 1).Call(method).Do(ctx)); err == nil || len(got) != 0 {
			t.Errorf("%s: got %v, %v, want an error of the whole", method, got, err)
		}
	}
	if _, err := results(p.Batch().Call("deposit", 1).Call("nope").Do(ctx)); !errors.Is(err, core.AttributeError) {
		t.Errorf("unknown method: got %v", err)
	}
	if err := p.Batch().Call("set_balance", 5).Call("deposit", 2).DoOneway(ctx); err != nil {
		t.Error(err)
	}
	var balance int // the batch runs in the order of the connection
	if err := p.Attr(ctx, "balance", &balance); err != nil || balance != 7 {
		t.Errorf("after a oneway batch: got %d, %v, want 7", balance, err)
	}
}

// spec: C15 S1
func testContainer(t *testing.T, p *core.Proxy) {
	ctx := patient(t)
	call(ctx, t, p, "fill", []string{"a", "b", "c"})
	if n, err := core.Len(ctx, p); err != nil || n != 3 {
		t.Errorf("len: got %d, %v", n, err)
	}
	var item string
	if err := core.Item(ctx, p, -1, &item); err != nil || item != "c" {
		t.Errorf("[-1]: got %q, %v", item, err)
	}
	if err := core.Item(ctx, p, 3, &item); !errors.Is(err, core.IndexError) {
		t.Errorf("[3]: got %v", err)
	}
	if err := core.SetItem(ctx, p, 0, "A"); err != nil {
		t.Error(err)
	}
	if has, err := core.Contains(ctx, p, "A"); err != nil || !has {
		t.Errorf("contains: got %v, %v", has, err)
	}
	if got, err := results(core.Items(ctx, p)); err != nil || !slices.Equal(got, []any{"A", "b", "c"}) {
		t.Errorf("items: got %v, %v", got, err)
	}
	if err := errors.Join(core.DeleteItem(ctx, p, 0), core.SetItem(ctx, p, 0, "b")); err != nil {
		t.Error(err)
	}
	if n, err := core.Len(ctx, p); err != nil || n != 2 {
		t.Errorf("len: got %d, %v", n, err)
	}
}

// spec: C15
func testSequence(t *testing.T, p *core.Proxy) {
	if got, err := results(core.Items(patient(t), p)); err != nil || !slices.Equal(got, []any{int64(10), int64(20), int64(30)}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// spec: C11 C14 Z6
func testProxyValues(t *testing.T, caller *core.Proxy, uri core.URI) {
	ctx := patient(t)
	sent := newProxy(t, uri, core.ProxyOptions{Handshake: "hello", Serializer: "json"})
	if _, err := sent.Metadata(ctx); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Equal      bool
		Methods    []string
		Handshake  any
		Serializer string
	}
	var parts []any
	if err := caller.Call(ctx, "same", &parts, sent, uri); err != nil {
		t.Fatal(err)
	}
	for i, out := range []any{&got.Equal, &got.Methods, &got.Handshake, &got.Serializer} {
		if err := core.Convert(out, parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !got.Equal || !slices.Contains(got.Methods, "deposit") || got.Handshake != "hello" || got.Serializer != "json" {
		t.Errorf("Python got %+v", got)
	}
	var received *core.Proxy
	if err := caller.Call(ctx, "proxy", &received, uri.String()); err != nil {
		t.Fatal(err)
	}
	defer received.Close()
	if received.URI() != uri {
		t.Errorf("got a proxy of %v, want %v", received.URI(), uri)
	}
	if err := received.Call(ctx, "deposit", nil, 1); err != nil {
		t.Errorf("call the proxy that was received: %v", err)
	}
}

// identified is a Go object that says the id of the call.
type identified struct{}

func (identified) CorrelationID(ctx context.Context) string {
	return uuid(core.CallInfoFrom(ctx).CorrelationID)
}

func uuid(id [16]byte) string {
	s := hex.EncodeToString(id[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// relay is a Go object whose method calls Python, which calls Go.
type relay struct{ caller, end *core.Proxy }

func (r relay) Ids(ctx context.Context) ([]string, error) {
	var ids []string
	err := r.caller.Call(ctx, "correlation_of", &ids, r.end)
	return append(ids, uuid(core.CallInfoFrom(ctx).CorrelationID)), err
}

// spec: S7 S8 S10
func testNestedCalls(t *testing.T, caller *core.Proxy) {
	ctx := patient(t)
	r := &relay{caller: caller}
	d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
		uri, err := d.Register("identified", identified{}, core.ObjectOptions{})
		if err == nil {
			r.end = newProxy(t, uri, core.ProxyOptions{})
			_, err = d.Register("relay", r, core.ObjectOptions{HideFields: true})
		}
		return err
	})
	var ids []string
	sent := [16]byte{0xab, 15: 0xcd}
	p := newProxy(t, d.URI("relay"), core.ProxyOptions{})
	if err := p.Call(core.WithCorrelationID(ctx, sent), "ids", &ids); err != nil {
		t.Fatal(err)
	}
	if want := uuid(sent); !slices.Equal(ids, []string{want, want, want}) {
		t.Errorf("sent: got %q, want %s three times", ids, want)
	}
	if err := p.Call(ctx, "ids", &ids); err != nil {
		t.Fatal(err)
	}
	if ids[0] != ids[1] || ids[0] != ids[2] || ids[0] == uuid(sent) || ids[0] == uuid([16]byte{}) {
		t.Errorf("made: got %q, want a new id three times", ids)
	}
}

// spec: C18
func testRaw(t *testing.T, p *core.Proxy) {
	ctx := patient(t)
	call(ctx, t, p, "fill", []string{"a", "b", "c"})
	var raw core.Raw
	if err := p.Call(ctx, "__getitem__", &raw, -1); err != nil {
		t.Fatal(err)
	}
	s, ok := core.SerializerByName(raw.Serializer)
	if !ok {
		t.Fatalf("got %q", raw.Serializer)
	}
	if v, err := s.ParseValue(raw.Data); err != nil || v != "c" {
		t.Errorf("got %q, which is %v, %v", raw.Data, v, err)
	}
}

// TestPythonOnConnection calls a stock daemon on a connection that was there before both.
//
// spec: O19
func TestPythonOnConnection(t *testing.T) {
	t.Parallel()
	for _, serializer := range append([]string{""}, serializerNames...) {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			ctx := patient(t)
			python := start(t, nil, "connected.py")
			nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", python.expect(t, "port ")))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			p := core.NewProxyOnConn(nc, "thing", core.ProxyOptions{Serializer: serializer})
			defer p.Close()
			if got := call(ctx, t, p, "echo", "x"); got != "x" {
				t.Errorf("got %v", got)
			}
			for want := range 3 {
				var count int
				if err := p.Attr(ctx, "count", &count); err != nil || count != want+1 {
					t.Errorf("got %d, %v, want %d", count, err, want+1)
				}
			}
			if err := p.Call(ctx, "fail", nil); !errors.Is(err, core.ValueError) {
				t.Errorf("got %v", err)
			}
			if err := p.Call(ctx, "nope", nil); !errors.Is(err, core.AttributeError) {
				t.Errorf("got %v", err)
			}
			if err := p.Ping(ctx); err != nil {
				t.Errorf("ping: %v", err)
			}
			nc.Close()
			python.expect(t, "ended")
			if err := p.Call(ctx, "echo", nil, 1); !errors.Is(err, core.CommunicationError) {
				t.Errorf("afterwards: got %v", err)
			}
		})
	}
}
