package calls_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/internal/gen/testdata/kinds"
	"github.com/pyro-cluster/pyro-cluster/internal/gen/testdata/kinds/shapes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo implements kinds.Kinds by giving back what it gets.
type echo struct {
	notes  chan string
	closed chan struct{}
}

func (echo) Basic(_ context.Context, b bool, i int, i64 int64, u64 uint64, f float64, s string, p []byte) (bool, int, int64, uint64, float64, string, []byte, error) {
	return b, i, i64, u64, f, s, p, nil
}

func (echo) Small(_ context.Context, i8 int8, i16 int16, i32 int32, u uint, u8 uint8, u16 uint16, u32 uint32, f32 float32, c complex128, r rune) (int8, int16, int32, uint, uint8, uint16, uint32, float32, complex128, rune, error) {
	return i8, i16, i32, u, u8, u16, u32, f32, c, r, nil
}

func (echo) Named(_ context.Context, id kinds.ID, alias kinds.Alias, level kinds.Level, wait time.Duration, at time.Time, n *big.Int) (kinds.ID, kinds.Alias, kinds.Level, time.Duration, time.Time, *big.Int, error) {
	return id, alias, level, wait, at, n, nil
}

func (echo) Composed(_ context.Context, list []int, table map[string][]float64, pair [2]string, v any, item kinds.Item, next *kinds.Item) (*kinds.Item, error) {
	if len(list) == 0 {
		return nil, nil
	}
	return &kinds.Item{Name: pair[0] + pair[1], Price: table["price"][0], Parts: []*kinds.Item{&item, next}, Tags: map[string]int{v.(string): list[0]}}, nil
}

func (echo) Generic(_ context.Context, pair kinds.Pair[kinds.ID, int]) (kinds.Pair[string, []kinds.Item], error) {
	return kinds.Pair[string, []kinds.Item]{First: string(pair.First), Second: make([]kinds.Item, pair.Second)}, nil
}

func (echo) Odd(_ context.Context, odd kinds.Odd) (kinds.Odd, error) { return odd, nil }

func (echo) Core(_ context.Context, uri core.URI, tuple core.Tuple, set core.Set, date core.Date) (core.Date, error) {
	if uri.Object != "thing" || len(tuple) != 2 || len(set) != 1 {
		return core.Date{}, core.ValueError.New("got %v, %v, %v", uri, tuple, set)
	}
	return date, nil
}

func (echo) Failure(_ context.Context, err error) (error, error) {
	if errors.Is(err, core.ValueError) {
		return err, nil
	}
	return nil, err
}

func (echo) Variadic(_ context.Context, prefix string, values ...int) (int, error) {
	sum := len(prefix)
	for _, v := range values {
		sum += v
	}
	return sum, nil
}

func (echo) VariadicItems(items ...shapes.Point) (int, error) { return len(items), nil }
func (echo) Nothing() error                                   { return nil }

func (e echo) Notify(_ context.Context, text string) error {
	e.notes <- text
	return errors.New("nobody hears of this")
}

func (echo) Unnamed(_ context.Context, n int, s string) (string, error) {
	return strings.Repeat(s, n), nil
}
func (echo) Blank(_ context.Context, _ int, text string) (string, error) { return text, nil }

func (echo) Keywords(_ context.Context, userID int, path string) (string, error) {
	return strings.Repeat(path, userID), nil
}

func (echo) Collisions(_ context.Context, p, call, err, args, result, impl, core, s, time int, ctx kinds.ID, list []string, point shapes.Point, class, self bool) (int, error) {
	if string(ctx) != "ctx" || !slices.Equal(list, []string{"kinds"}) || point.X != 1 || !class || self {
		return 0, errors.New("arguments were mixed up")
	}
	return p + call + err + args + result + impl + core + s + time, nil
}

func (echo) Count(ctx context.Context, from, to int) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := from; i != to; i++ {
			if i == 13 {
				yield(0, core.ValueError.New("no thirteen"))
				return
			}
			if ctx.Err() != nil || !yield(i, nil) {
				return
			}
		}
	}
}

func (echo) Parts(items ...kinds.Item) iter.Seq2[*kinds.Item, error] {
	return func(yield func(*kinds.Item, error) bool) {
		for _, item := range items {
			if !yield(&item, nil) {
				return
			}
		}
	}
}

func (echo) Builtins(len, max, append int) (int, error) { return len + max + append, nil }

func (echo) Put(_ context.Context, key kinds.ID, values ...kinds.ID) error {
	if want := []kinds.ID{"b", "c"}; key != "a" || !slices.Equal(values, want) {
		return core.ValueError.New("got %q and %q", key, values)
	}
	return nil
}

func (echo) MoveTo(_ context.Context, target shapes.Point) (shapes.Point, error) { return target, nil }
func (echo) HTTPGet2(_ context.Context, userID int) (int, error)                 { return userID, nil }

func (e echo) Close() error {
	close(e.closed)
	return nil
}

var _ kinds.Kinds = echo{}

// serve returns the URI of an echo, which is served until the test ends.
func serve(t *testing.T, e echo) core.URI {
	t.Helper()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uri, err := d.Register("kinds", kinds.KindsServant(e), core.ObjectOptions{})
	if err != nil {
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
	return uri
}

// closer is a proxy.
type closer interface {
	core.Invoker
	io.Closer
}

func within[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

// TestCalls calls an interface through its proxy and its skeleton, as if neither were there.
func TestCalls(t *testing.T) {
	t.Parallel()
	e := echo{notes: make(chan string, 1), closed: make(chan struct{})}
	uri := serve(t, e)
	invokers := map[string]closer{"a group": failover.New("kinds", failover.Static(uri), failover.Options{})}
	for _, serializer := range []string{"msgpack", "serpent", "marshal"} {
		invokers[serializer] = core.NewProxy(uri, core.ProxyOptions{Serializer: serializer})
	}
	for name, invoker := range invokers {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { invoker.Close() })
			k := kinds.NewKindsProxy(invoker)
			testBasic(t, k)
			testNamed(t, k, name != "marshal") // which knows no dates
			testComposed(t, k)
			testShapes(t, k)
			if err := k.Notify(t.Context(), name); err != nil {
				t.Error(err)
			}
			if got := within(t, e.notes); got != name {
				t.Errorf("Notify: got %q, want %q", got, name)
			}
		})
	}
	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()
	if err := kinds.NewKindsProxy(p).Close(); err != nil {
		t.Error(err)
	}
	within(t, e.closed)
}

func testBasic(t *testing.T, k kinds.Kinds) {
	for _, want := range [][]any{
		{true, math.MaxInt, int64(math.MinInt64), uint64(math.MaxUint64), math.Inf(1), "text \u00fc", []byte("bytes")},
		{false, -1, int64(0), uint64(0), -0.5, "", []byte{}},
	} {
		b, i, i64, u64, f, s, p, err := k.Basic(t.Context(), want[0].(bool), want[1].(int), want[2].(int64), want[3].(uint64), want[4].(float64), want[5].(string), want[6].([]byte))
		if got := []any{b, i, i64, u64, f, s, p}; err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Basic: got %v, %v, want %v", got, err, want)
		}
	}
	i8, i16, i32, u, u8, u16, u32, f32, c, r, err := k.Small(t.Context(), -128, 32767, math.MinInt32, math.MaxUint, 255, 65535, math.MaxUint32, 1.5, 1i, 'r')
	got := []any{i8, i16, i32, u, u8, u16, u32, f32, c, r}
	want := []any{int8(-128), int16(32767), int32(math.MinInt32), uint(math.MaxUint), uint8(255), uint16(65535), uint32(math.MaxUint32), float32(1.5), 1i, 'r'}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Small: got %v, %v, want %v", got, err, want)
	}
	if err := k.Nothing(); err != nil {
		t.Errorf("Nothing: %v", err)
	}
	if sum, err := k.Variadic(t.Context(), "ab", 1, 2, 3); sum != 8 || err != nil {
		t.Errorf("Variadic: got %v, %v, want 8", sum, err)
	}
	if sum, err := k.Variadic(t.Context(), "ab"); sum != 2 || err != nil {
		t.Errorf("Variadic of nothing: got %v, %v, want 2", sum, err)
	}
	if n, err := k.VariadicItems(shapes.Point{}, shapes.Point{X: 1}); n != 2 || err != nil {
		t.Errorf("VariadicItems: got %v, %v, want 2", n, err)
	}
	if sum, err := k.Builtins(1, 2, 3); sum != 6 || err != nil {
		t.Errorf("Builtins: got %v, %v, want 6", sum, err)
	}
	if err := k.Put(t.Context(), "a", "b", "c"); err != nil {
		t.Errorf("Put: %v", err)
	}
	for name, call := range map[string]func() (string, error){
		"Unnamed":  func() (string, error) { return k.Unnamed(t.Context(), 2, "ab") },
		"Blank":    func() (string, error) { return k.Blank(t.Context(), 2, "abab") },
		"Keywords": func() (string, error) { return k.Keywords(t.Context(), 2, "ab") },
	} {
		if got, err := call(); got != "abab" || err != nil {
			t.Errorf("%s: got %q, %v, want abab", name, got, err)
		}
	}
	if sum, err := k.Collisions(t.Context(), 1, 2, 3, 4, 5, 6, 7, 8, 9, "ctx", []string{"kinds"}, shapes.Point{X: 1}, true, false); sum != 45 || err != nil {
		t.Errorf("Collisions: got %v, %v, want 45", sum, err)
	}
}

func testNamed(t *testing.T, k kinds.Kinds, dates bool) {
	at := time.Date(2024, 1, 2, 3, 4, 5, 6000, time.UTC)
	if !dates {
		if _, _, _, _, _, _, err := k.Named(t.Context(), "", 0, 0, 0, at, nil); err == nil {
			t.Error("Named: got no error for a time that the serializer does not have")
		}
		return
	}
	id, alias, level, wait, when, n, err := k.Named(t.Context(), "id", 7, 3, 1500*time.Millisecond, at, big.NewInt(9))
	if err != nil || id != "id" || alias != 7 || level != 3 || wait != 1500*time.Millisecond || !when.Equal(at) || n.Cmp(big.NewInt(9)) != 0 {
		t.Errorf("Named: got %v, %v, %v, %v, %v, %v, %v", id, alias, level, wait, when, n, err)
	}
	uri, err := core.ParseURI("PYRO:thing@localhost:1")
	if err != nil {
		t.Fatal(err)
	}
	want := core.Date{Year: 2024, Month: 2, Day: 29}
	if got, err := k.Core(t.Context(), uri, core.Tuple{1, 2}, core.Set{1}, want); got != want || err != nil {
		t.Errorf("Core: got %v, %v, want %v", got, err, want)
	}
}

func testComposed(t *testing.T, k kinds.Kinds) {
	item := kinds.Item{Base: kinds.Base{ID: "1"}, Name: "label", Tags: map[string]int{}, Parts: []*kinds.Item{}, Secret: "secret"}
	ctx := t.Context()
	if _, err := k.Composed(ctx, []int{5}, map[string][]float64{"price": {2.5}}, [2]string{"a", "b"}, "tag", kinds.Item{Made: time.Unix(0, 0)}, nil); err == nil {
		item.Made = time.Unix(1e9, 0) // the serializer has dates
	} else {
		return
	}
	got, err := k.Composed(ctx, []int{5}, map[string][]float64{"price": {2.5}}, [2]string{"a", "b"}, "tag", item, nil)
	if err != nil || got == nil || got.Name != "ab" || got.Price != 2.5 || got.Tags["tag"] != 5 || len(got.Parts) != 2 || got.Parts[1] != nil {
		t.Fatalf("Composed: got %+v, %v", got, err)
	}
	if part := got.Parts[0]; part.ID != "1" || part.Name != "label" || part.Secret != "" || !part.Made.Equal(item.Made) {
		t.Errorf("Composed: got part %+v, want %+v without its secret", part, item)
	}
	if got, err := k.Composed(ctx, nil, nil, [2]string{}, nil, item, &item); got != nil || err != nil {
		t.Errorf("Composed: got %v, %v, want nil", got, err)
	}
	pair, err := k.Generic(ctx, kinds.Pair[kinds.ID, int]{First: "id", Second: 0})
	if err != nil || pair.First != "id" || len(pair.Second) != 0 {
		t.Errorf("Generic: got %+v, %v", pair, err)
	}
	if odd, err := k.Odd(ctx, kinds.Odd{MaxSize: 3}); odd.MaxSize != 3 || err != nil {
		t.Errorf("Odd: got %+v, %v", odd, err)
	}
	failure, err := k.Failure(ctx, core.ValueError.New("as a value"))
	if err != nil || !errors.Is(failure, core.ValueError) {
		t.Errorf("Failure: got %v, %v, want a ValueError as the result", failure, err)
	}
	failure, err = k.Failure(ctx, core.KeyError.New("as an error"))
	if failure != nil || !errors.Is(err, core.KeyError) || !strings.Contains(err.Error(), "as an error") {
		t.Errorf("Failure: got %v, %v, want a KeyError as the error", failure, err)
	}
}

func testShapes(t *testing.T, k kinds.Kinds) {
	want := shapes.Point{X: 1, Y: 2}
	if got, err := k.MoveTo(t.Context(), want); got != want || err != nil {
		t.Errorf("MoveTo: got %v, %v, want %v", got, err, want)
	}
	if got, err := k.HTTPGet2(t.Context(), 5); got != 5 || err != nil {
		t.Errorf("HTTPGet2: got %v, %v, want 5", got, err)
	}
}

// TestDynamic calls the skeleton without the proxy, and asks what it offers.
func TestDynamic(t *testing.T) {
	t.Parallel()
	p := core.NewProxy(serve(t, echo{}), core.ProxyOptions{})
	defer p.Close()
	meta, err := p.Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"notify"}; !slices.Equal(meta.Oneway, want) {
		t.Errorf("oneway methods: got %v, want %v", meta.Oneway, want)
	}
	if want := kinds.KindsContracts(); !reflect.DeepEqual(meta.Contracts, want) || want["basic"] != core.ContractReadOnly || want["move"] != core.ContractIdempotent {
		t.Errorf("contracts: got %v, want %v", meta.Contracts, want)
	}
	tests := []struct {
		method string
		args   []any
		want   string // the result, or in the error
	}{
		{"by_keyword", []any{core.Kwargs{"url_path": "x", "user_id": 3}}, "xxx"},
		{"by_keyword", []any{3, core.Kwargs{"url_path": "x"}}, "xxx"},
		{"unnamed", []any{2, "x"}, "xx"},
		{"by_keyword", []any{3}, "by_keyword() missing 1 required positional argument: 'url_path'"},
		{"by_keyword", []any{1, "x", 2}, "by_keyword() takes 2 positional arguments but 3 were given"},
		{"by_keyword", []any{1, "x", core.Kwargs{"y": 1}}, "by_keyword() got an unexpected keyword argument 'y'"},
		{"by_keyword", []any{"x", "x"}, "by_keyword() argument 'user_id': got str"},
		{"blank", []any{core.Kwargs{"arg1": 1, "text": ""}}, "blank() got an unexpected keyword argument 'arg1'"},
		{"small", []any{300, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "small() argument 'i8': got int 300, which does not fit into int8"},
		{"small", []any{0, 0, 0, -1, 0, 0, 0, 0, 0, 0}, "small() argument 'u': "},
	}
	for _, tc := range tests {
		var got string
		err := p.Call(t.Context(), tc.method, &got, tc.args...)
		if err != nil && !errors.Is(err, core.TypeError) || err == nil && got != tc.want || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s%v: got %q, %v, want %s", tc.method, tc.args, got, err, tc.want)
		}
	}
}

// A proxy says so when a server gives back what the interface does not.
func TestWrongResults(t *testing.T) {
	t.Parallel()
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uri, err := d.Register("wrong", wrong{}, core.ObjectOptions{Names: map[string]string{"HTTPGet": "http_get2"}})
	if err != nil {
		t.Fatal(err)
	}
	go d.Serve(context.Background())
	defer d.Close()
	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()
	k := kinds.NewKindsProxy(p)
	_, err1 := k.HTTPGet2(t.Context(), 1)
	_, _, _, _, _, _, err2 := k.Named(t.Context(), "", 0, 0, 0, time.Time{}, nil)
	_, err3 := k.MoveTo(t.Context(), shapes.Point{})
	for _, tc := range []struct {
		err  error
		want string
	}{
		{err1, "http_get2: result: got str"},
		{err2, "named: result: got 2 values, want 6"},
		{err3, "has no exposed attribute or method 'move'"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) {
			t.Errorf("got %v, want %s", tc.err, tc.want)
		}
	}
}

// wrong has methods with results of other types.
type wrong struct{}

func (wrong) HTTPGet(int) string             { return "x" }
func (wrong) Named(...any) (string, float64) { return "x", 1 }

// collect reads at most n items of a stream.
func collect[T any](stream iter.Seq2[T, error], n int) (items []T, err error) {
	for item, err := range stream {
		if err != nil {
			return items, err
		}
		if items = append(items, item); len(items) == n {
			break
		}
	}
	return items, nil
}

// spec: S1
func TestStreams(t *testing.T) {
	t.Parallel()
	uri := serve(t, echo{})
	for name, invoker := range map[string]closer{
		"shared": core.NewProxy(uri, core.ProxyOptions{}), "plain": core.NewProxy(uri, core.ProxyOptions{Plain: true}),
		"serpent": core.NewProxy(uri, core.ProxyOptions{Serializer: "serpent"}),
	} {
		t.Run(name, func(t *testing.T) {
			defer invoker.Close()
			p := kinds.NewKindsProxy(invoker)
			stream := p.Count(t.Context(), 1, 4)
			for range 2 { // each time it is another call
				if got, err := collect(stream, -1); err != nil || !slices.Equal(got, []int{1, 2, 3}) {
					t.Errorf("got %v, %v", got, err)
				}
			}
			if got, err := collect(p.Count(t.Context(), 1, -1), 2); err != nil || !slices.Equal(got, []int{1, 2}) {
				t.Errorf("left early: got %v, %v", got, err)
			}
			if got, err := collect(p.Count(t.Context(), 12, 20), -1); !errors.Is(err, core.ValueError) || !slices.Equal(got, []int{12}) {
				t.Errorf("an error in the middle: got %v, %v", got, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			got, err := collect(func(yield func(int, error) bool) {
				for i, err := range p.Count(ctx, 1, -1) {
					cancel()
					if !yield(i, err) {
						return
					}
				}
			}, -1)
			if !errors.Is(err, context.Canceled) || !slices.Equal(got, []int{1}) {
				t.Errorf("a context that ends: got %v, %v", got, err)
			}
			items, err := collect(p.Parts(kinds.Item{Name: "a"}, kinds.Item{Name: "b"}), -1)
			if err != nil || len(items) != 2 || items[1].Name != "b" {
				t.Errorf("items: got %v, %v", items, err)
			}
		})
	}
}
