package interop

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// serializerNames are Pyro5's serializers; everything holds for each of them.
var serializerNames = []string{"serpent", "marshal", "json", "msgpack"}

// maxMessageBytes is the limit of the daemons here, small enough to be tried.
const maxMessageBytes = 16 << 20

// serve runs a daemon on a free port until the test ends.
func serve(t *testing.T, opts core.DaemonOptions, objects func(d *core.Daemon) error) *core.Daemon {
	t.Helper()
	d, err := core.Listen("127.0.0.1:0", opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := objects(d); err != nil {
		t.Fatal(errors.Join(err, d.Close()))
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()
	t.Cleanup(func() {
		d.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d
}

// Thing is the object that testdata/client.py calls; reflection describes it.
type Thing struct {
	Name  string
	Count int

	mu      sync.Mutex // protects signals
	signals map[string]chan struct{}
}

type person struct {
	FirstName string
	Tags      []string
}

type position struct{ X, Y int }

var thingOptions = core.ObjectOptions{
	Params: map[string][]string{"add": {"a", "b"}, "echo": {"message"}, "notify": {"text"}},
	Oneway: []string{"notify", "block"},
	Names:  map[string]string{"HiddenMethod": "-"},
}

func (*Thing) Echo(message any) any          { return message }
func (*Thing) Describe(value any) string     { return describe(value) }
func (*Thing) Add(a, b int) int              { return a + b }
func (*Thing) Nothing()                      {}
func (*Thing) HiddenMethod()                 {}
func (*Thing) UpperBytes(data []byte) []byte { return []byte(strings.ToUpper(string(data))) }
func (*Thing) Halve(x float64) float64       { return x / 2 }
func (*Thing) Channel() any                  { return make(chan int) }
func (*Thing) Panic()                        { panic("something is wrong") }

func (t *Thing) Increment() int {
	t.Count++
	return t.Count
}

func (*Thing) Sum(numbers []int) int {
	sum := 0
	for _, n := range numbers {
		sum += n
	}
	return sum
}

func (*Thing) Move(p position, by int) *position { return &position{p.X + by, p.Y + by} }

func (*Thing) GoValues(ctx context.Context) map[string]any {
	values := map[string]any{
		"int8": int8(-5), "uint64": uint64(1<<64 - 1), "float32": float32(0.5), "map": map[string]int{"a": 1, "b": 2},
		"nil_slice": []byte(nil), "nil_map": (*position)(nil), "array": [3]int{1, 2, 3},
		"struct":  person{FirstName: "Irmen", Tags: []string{"x"}},
		"pointer": &person{FirstName: "P"},
		"big":     new(big.Int).Lsh(big.NewInt(1), 70),
		"text":    core.ExceptionClass("text").Error(),
		"tuple":   core.Tuple{1, "two"}, "strings": []string{"a", "b"}, "set": core.Set{1, 2},
	}
	if core.CallInfoFrom(ctx).Serializer != "msgpack" {
		values["ints"] = map[int]string{1: "one", 2: "two"}
	}
	return values
}

// Self returns an object of the daemon: its caller gets a proxy.
func (t *Thing) Self() *Thing { return t }

// Blob reads a blob.
func (*Thing) Blob(b *core.Blob) ([]any, error) {
	v, err := b.Value()
	return []any{b.Info(), v}, err
}

// CountTo is an item stream, which fails after three items.
func (*Thing) CountTo(n int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if n == 3 {
			yield(0, core.ValueError.New("in the middle"))
		}
	}
}

func (*Thing) Pairs() iter.Seq2[string, int] { return maps.All(map[string]int{"a": 1}) }

func (*Thing) GoTime(ctx context.Context) any {
	if core.CallInfoFrom(ctx).Serializer == "marshal" {
		return nil
	}
	return time.Date(2024, 1, 2, 3, 4, 5, 678000, time.UTC)
}

func (*Thing) Fail(kind string) error {
	plain := errors.New("plain error")
	switch kind {
	case "plain":
		return plain
	case "wrapped plain":
		return fmt.Errorf("outer: %w", plain)
	case "value":
		return &core.RemoteError{
			Class: core.ValueError, Args: []any{"bad", 1},
			Attributes: map[string]any{"extra": 5, "more": []any{"a", map[string]any{"b": nil}}},
		}
	case "naming":
		return core.NamingError.New("a naming error")
	case "wrapped naming":
		return fmt.Errorf("not seen: %w", core.NamingError.New("a naming error"))
	case "zero division":
		return core.ExceptionClass("builtins.ZeroDivisionError").New("division by zero")
	case "key":
		return core.ExceptionClass("builtins.KeyError").New("k")
	case "sqlite":
		return core.ExceptionClass("sqlite3.OperationalError").New("locked")
	case "struct":
		return core.ExceptionClass("struct.error").New("unpack")
	case "deadline":
		return fmt.Errorf("too slow: %w", context.DeadlineExceeded)
	case "invented Pyro class":
		return core.ExceptionClass("Pyro5.errors.NoSuchError").New("invented")
	case "unserializable":
		return &core.RemoteError{Class: core.ValueError, Args: []any{"bad"}, Attributes: map[string]any{"channel": make(chan int)}}
	case "connection closed":
		return core.ConnectionClosedError.New("go elsewhere")
	case "security":
		return core.SecurityError.New("not for you")
	}
	return nil
}

// signal returns the channel of that name.
func (t *Thing) signal(name string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.signals == nil {
		t.signals = make(map[string]chan struct{})
	}
	if t.signals[name] == nil {
		t.signals[name] = make(chan struct{}, 16) // more than a script sends
	}
	return t.signals[name]
}

func (t *Thing) Notify(text string) string {
	t.signal(text) <- struct{}{}
	return "bogus return value"
}

// Notified reports whether Notify was called with text; it waits for that.
func (t *Thing) Notified(ctx context.Context, text string) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-t.signal(text):
		return true
	case <-ctx.Done():
		return false
	}
}

// Block ends when Release takes what it offers, which the client can only ask for on the same connection if Block does not hold it up.
func (t *Thing) Block(ctx context.Context, gate string) {
	select {
	case t.signal(gate) <- struct{}{}:
	case <-ctx.Done():
	}
	<-t.signal(gate + " released")
}

func (t *Thing) Release(ctx context.Context, gate string) bool {
	t.signal(gate + " released") <- struct{}{}
	return t.Notified(ctx, gate)
}

func (*Thing) CallInfo(ctx context.Context) map[string]any {
	core.AnnotateReply(ctx, "BACK", []byte("\x00 from go"))
	info := core.CallInfoFrom(ctx)
	id := hex.EncodeToString(info.CorrelationID[:])
	return map[string]any{
		"correlation_id": strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-"),
		"annotation":     string(info.Annotations["TEST"]),
		"serializer":     info.Serializer,
		"object":         info.Object,
		"method":         info.Method,
		"sequence":       int(info.Sequence),
		"peer":           info.Peer.String(),
	}
}

// greeter is an object that is spelled out.
func greeter() *core.Servant {
	return &core.Servant{
		Class: "Greeter",
		Methods: []core.Method{
			{
				Name: "greet", Variadic: true,
				Params: []core.Param{{Name: "name"}, {Name: "greeting", Optional: true, Default: "hello"}},
				Func: func(_ context.Context, args []any) (any, error) {
					return fmt.Sprintf("%v %v %v", args[1], args[0], args[2:]), nil
				},
			},
			{Name: "ow", Oneway: true, Func: func(context.Context, []any) (any, error) { return nil, nil }},
		},
		Attributes: []core.Attribute{{Name: "answer", Read: func(context.Context) (any, error) { return 42, nil }}},
	}
}

// describe says what a value is: its Go type, by a short name, and its content.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case *big.Int:
		return "big " + v.String()
	case float64:
		return "float64 " + strconv.FormatFloat(v, 'g', -1, 64)
	case []byte:
		return "bytes " + hex.EncodeToString(v)
	case []any:
		return "list" + describeAll(v)
	case core.Tuple:
		return "tuple" + describeAll(v)
	case core.Set:
		return "set" + describeAll(v)
	case core.FrozenSet:
		return "frozenset" + describeAll(v)
	case map[string]any:
		return "dict" + describeMap(v)
	case core.Dict:
		items := make([]string, len(v))
		for i, pair := range v {
			items[i] = describe(pair.Key) + ": " + describe(pair.Value)
		}
		slices.Sort(items)
		return "dict{" + strings.Join(items, ", ") + "}"
	case time.Time:
		return "time " + v.UTC().Format(time.RFC3339Nano)
	case core.Date:
		return fmt.Sprintf("date %04d-%02d-%02d", v.Year, v.Month, v.Day)
	case core.URI:
		return "URI " + v.String()
	case core.ProxyState:
		return "proxy " + v.URI.String()
	case *core.RemoteError:
		return fmt.Sprintf("exception %s %s", v.Class, describeAll(v.Args))
	case core.ClassDict:
		return "class " + v.Class + describeMap(v.Attrs)
	}
	return fmt.Sprintf("%T %v", v, v)
}

func describeAll(values []any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = describe(v)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

func describeMap(m map[string]any) string {
	items := make([]string, 0, len(m))
	for key, v := range m {
		items = append(items, fmt.Sprintf("%q: %s", key, describe(v)))
	}
	slices.Sort(items)
	return "{" + strings.Join(items, ", ") + "}"
}
