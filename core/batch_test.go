package core

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// collected returns what a batch yields.
func collected(ctx context.Context, b *Batch) (results []any, err error) {
	for result, e := range b.Do(ctx) {
		if err != nil {
			return results, errors.New("something came after an error")
		}
		if err = e; e == nil {
			results = append(results, result)
		}
	}
	return results, err
}

// spec: C7
func TestClientBatch(t *testing.T) {
	t.Parallel()
	for _, serializer := range []string{"", "serpent", "marshal", "json", "msgpack"} {
		account, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{Serializer: serializer})
		for _, test := range []struct {
			name  string
			batch func(b *Batch)
			want  []any
			err   error
			text  string
		}{
			{"nothing", func(*Batch) {}, nil, nil, ""},
			{"results in order", func(b *Batch) { b.Call("sum", 1, 2).Call("echo", "x").Call("echo", nil).Call("ping") },
				[]any{int64(3), "x", nil, nil}, nil, ""},
			{"keywords", func(b *Batch) { b.Call("deposit", "k", Kwargs{"amount": 5}) }, []any{int64(5)}, nil, ""},
			{"an exception ends it", func(b *Batch) {
				b.Call("sum", 1).Call("fail", "builtins.KeyError", "x").Call("deposit", "never", 1)
			}, []any{int64(1)}, KeyError, "KeyError: x"},
			{"wrong arguments", func(b *Batch) { b.Call("sum") }, nil, TypeError, "missing 1 required positional argument"},
			{"unknown method, found here", func(b *Batch) { b.Call("deposit", "never", 1).Call("nope") }, nil, AttributeError, "no exposed attribute or method 'nope'"},
			{"attribute", func(b *Batch) { b.Call("owner") }, nil, AttributeError, "is an attribute, not a method"},
			{"result that cannot be sent", func(b *Batch) { b.Call("sum", 1).Call("unsendable") }, nil, TypeError, "cannot be sent"},
		} {
			b := p.Batch()
			test.batch(b)
			got, err := collected(t.Context(), b)
			if !slices.Equal(got, test.want) || !errors.Is(err, test.err) || test.text != "" && !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s, %s: got %v, %v, want %v, %v (%s)", serializer, test.name, got, err, test.want, test.err, test.text)
			}
			if again, err := collected(t.Context(), b); len(again) != 0 || err != nil {
				t.Errorf("%s, %s, sent again: got %v, %v, want nothing", serializer, test.name, again, err)
			}
		}
		if account.balance["never"] != 0 {
			t.Error("a call behind the one that failed was run")
		}
		if err := p.Batch().Call("deposit", "oneway", 1).Call("fail", "builtins.KeyError", "unseen").DoOneway(t.Context()); err != nil {
			t.Errorf("%s, oneway: %v", serializer, err)
		}
	}
}

// TestBatchStopsEarly leaves the loop.
func TestBatchStopsEarly(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	for result, err := range p.Batch().Call("sum", 1).Call("sum", 2).Do(t.Context()) {
		if err != nil || result != int64(1) {
			t.Fatalf("got %v, %v", result, err)
		}
		break
	}
}

// TestBatchReplies is what a proxy makes of the answers of strange servers.
func TestBatchReplies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		reply any
		want  []any
		text  string
	}{
		{"no list", 5, nil, "are int 5"},
		{"too many", []any{1, 2, 3}, nil, "results of 2 calls are list of 3"},
		{"too few", []any{1}, []any{int64(1)}, "results of 2 calls are only 1"},
		{"Pyro4's exception", []any{1, ClassDict{"Pyro4.futures._ExceptionWrapper", map[string]any{"exception": ValueError.New("x")}}}, []any{int64(1)}, "ValueError: x"},
		{"wrapper of nothing", []any{1, ClassDict{"Pyro5.core._ExceptionWrapper", nil}},
			[]any{int64(1), ClassDict{"Pyro5.core._ExceptionWrapper", map[string]any{}}}, ""},
	} {
		uri := fakeServer(t, func(c *rawClient) {
			if c.welcome() {
				r := c.receive()
				if r.flags&flagBatch == 0 {
					t.Errorf("%s: flags %x", test.name, r.flags)
				}
				c.send(header{typ: msgResult, serializer: 4, seq: r.seq, flags: flagBatch}, nil, c.value(4, test.reply))
			}
		})
		got, err := collected(t.Context(), proxyFor(t, uri, ProxyOptions{Serializer: "msgpack"}).Batch().Call("m").Call("m"))
		if !reflect.DeepEqual(got, test.want) || (err == nil) != (test.text == "") || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, %v, want %v, %s", test.name, got, err, test.want, test.text)
		}
		if err != nil && OutcomeOf(err) != CallException {
			t.Errorf("%s: outcome %v, want that it ran", test.name, OutcomeOf(err))
		}
	}
}

// TestBatchFails is a batch without an answer.
func TestBatchFails(t *testing.T) {
	t.Parallel()
	uri := fakeServer(t, func(c *rawClient) {
		if c.welcome() {
			c.receive()
		}
	})
	got, err := collected(t.Context(), proxyFor(t, uri, ProxyOptions{}).Batch().Call("m"))
	if e, ok := errors.AsType[*TransportError](err); len(got) != 0 || !ok || !e.Written {
		t.Errorf("got %v, %v, want a TransportError after writing", got, err)
	}
}

// TestOnewayBatch is not answered.
func TestOnewayBatch(t *testing.T) {
	t.Parallel()
	flags := make(chan uint16, 1)
	uri := fakeServer(t, func(c *rawClient) {
		if c.welcome() {
			flags <- c.receive().flags
		}
	})
	if err := proxyFor(t, uri, ProxyOptions{}).Batch().Call("m").DoOneway(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := within(t, flags); got&(flagBatch|flagOneway) != flagBatch|flagOneway {
		t.Errorf("got flags %x", got)
	}
}
