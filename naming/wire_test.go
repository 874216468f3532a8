package naming

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

var serializers = []string{"serpent", "marshal", "json", "msgpack"}

// TestWire makes the calls of a stock client with each serializer, over a socket.
func TestWire(t *testing.T) {
	t.Parallel()
	for _, serializer := range serializers {
		t.Run(serializer, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, newFakeStore())
			p := core.NewProxy(n.URI(ObjectID), core.ProxyOptions{Serializer: serializer})
			defer p.Close()
			call := func(method string, args ...any) any {
				t.Helper()
				var v any
				if err := p.Call(t.Context(), method, &v, args...); err != nil {
					t.Fatalf("%s%v: %v", method, args, err)
				}
				return v
			}
			check := func(got, want any) {
				t.Helper()
				if got, want := plain(got), plain(want); !reflect.DeepEqual(got, want) {
					t.Errorf("got %#v, want %#v", got, want)
				}
			}
			tags := any([]any{"x"})
			if serializer == "serpent" || serializer == "marshal" {
				tags = core.Set{"x"}
			}
			check(call("ping"), nil)
			check(call("register", "a", uriA, false, tags), nil)
			check(call("register", core.Kwargs{"name": "b", "uri": uriB, "safe": true, "metadata": nil}), nil)
			check(call("register", "c", uri(uriA)), nil)
			check(call("lookup", "a"), uri(uriA))
			check(call("lookup", "a", 0.0), uri(uriA))
			check(call("list", "b"), dict{"b": uriB})
			check(call("list", core.Kwargs{"regex": "a|b", "return_metadata": true}),
				dict{"a": []any{uriA, []any{"x"}}, "b": []any{uriB, []any{}}})
			check(call("yplookup", []any{"x"}), dict{"a": []any{uriA, []any{"x"}}})
			check(call("yplookup", nil, tags, false), dict{"a": uriA})
			check(call("set_metadata", "b", []any{}), nil)
			check(call("join", "g", "PYRO:o@h:1", core.Kwargs{"member": "m", "weight": 2}), "m")
			check(call("members", "g"), dict{"name": "g", "version": int64(5), "members": []any{
				dict{"id": "m", "uri": "PYRO:o@h:1", "zone": "", "weight": int64(2), "alive": true, "reason": ""}}})
			check(call("leave", "g", "m"), true)
			check(call("remove", "a"), int64(1))

			var v any
			err := p.Call(t.Context(), "lookup", &v, "b", true)
			if serializer == "marshal" {
				checkException(t, err, core.ValueError, "unmarshallable object*")
			} else if err != nil {
				t.Errorf("lookup with tags: %v", err)
			} else {
				check(v, []any{uri(uriB), []any{}})
			}
			checkException(t, p.Call(t.Context(), "lookup", nil, "a"), core.NamingError, "unknown name: a")
			checkException(t, p.Call(t.Context(), "register", nil, "b", uriA, true), core.NamingError, "name already registered: b")
			for _, bad := range [][]any{{}, {"a", "b", "c", "d"}, {"a", core.Kwargs{"nonsense": 1}}, {"a", core.Kwargs{"name": "a"}}} {
				checkException(t, p.Call(t.Context(), "lookup", nil, bad...), core.TypeError, "*")
			}
			check(call("ping"), nil)
		})
	}
}

// plain makes sequences and sets lists, since not every serializer tells them apart, and sorts nothing: all have one member at most.
func plain(v any) any {
	var items []any
	switch v := v.(type) {
	case core.Tuple:
		items = v
	case core.Set:
		items = v
	case core.FrozenSet:
		items = v
	case []any:
		items = v
	case dict:
		m := dict{}
		for key, value := range v {
			m[key] = plain(value)
		}
		return m
	default:
		return v
	}
	list := make([]any, len(items))
	for i := range items {
		list[i] = plain(items[i])
	}
	return list
}

func TestMetadataTellsContracts(t *testing.T) {
	t.Parallel()
	n := startNode(t, newFakeStore())
	p := core.NewProxy(n.URI(ObjectID), core.ProxyOptions{})
	defer p.Close()
	m, err := p.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"count", "join", "leave", "list", "lookup", "members", "ping", "register", "remove", "set_metadata", "yplookup"}
	if !slices.Equal(m.Methods, want) || len(m.Oneway) > 0 || len(m.Attrs) > 0 {
		t.Errorf("got %+v, want the methods %v", m, want)
	}
	if m.Contracts["lookup"] != core.ContractReadOnly || m.Contracts["register"] != core.ContractPlain {
		t.Errorf("contracts: got %v, want lookup read-only and register plain", m.Contracts)
	}
}

func TestBadSessionAnnotation(t *testing.T) {
	t.Parallel()
	n := startNode(t, newFakeStore())
	p := core.NewProxy(n.URI(ObjectID), core.ProxyOptions{})
	defer p.Close()
	ctx := core.WithAnnotations(t.Context(), core.Annotations{sessionAnnotation: make([]byte, 31)})
	err := p.Call(ctx, "register", nil, "a", uriA)
	checkException(t, err, core.ProtocolError, "annotation PCSQ has 31 bytes, want 32")
	if err := p.Call(t.Context(), "lookup", nil, "a"); !errors.Is(err, core.NamingError) {
		t.Errorf("lookup after the refused register: got %v, want unknown name", err)
	}
}
