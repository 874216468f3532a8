package core

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// shelf is a container as Python's objects are.
func shelf(iterable bool) *Servant {
	items := []any{"a", "b", "c"}
	at := func(args []any) (int, error) {
		i, ok := args[0].(int64)
		if !ok {
			return 0, TypeError.New("indices must be integers")
		}
		if i < 0 || int(i) >= len(items) {
			return 0, IndexError.New("index out of range")
		}
		return int(i), nil
	}
	index, value := []Param{{Name: "index"}}, []Param{{Name: "value"}}
	s := &Servant{Class: "Shelf", Methods: []Method{
		{Name: "__len__", Func: func(context.Context, []any) (any, error) { return len(items), nil }},
		{Name: "__contains__", Params: value, Func: func(_ context.Context, args []any) (any, error) { return slices.Contains(items, args[0]), nil }},
		{Name: "__getitem__", Params: index, Func: func(_ context.Context, args []any) (any, error) {
			i, err := at(args)
			if err != nil {
				return nil, err
			}
			return items[i], nil
		}},
		{Name: "__setitem__", Params: append(index, value...), Func: func(_ context.Context, args []any) (any, error) {
			i, err := at(args)
			if err == nil {
				items[i] = args[1]
			}
			return nil, err
		}},
		{Name: "__delitem__", Params: index, Func: func(_ context.Context, args []any) (any, error) {
			i, err := at(args)
			if err == nil {
				items = slices.Delete(items, i, i+1)
			}
			return nil, err
		}},
	}}
	if iterable {
		s.Methods = append(s.Methods, Method{Name: "__iter__", Func: func(context.Context, []any) (any, error) { return items, nil }})
	}
	return s
}

// spec: C15
func TestContainer(t *testing.T) {
	t.Parallel()
	for name, iterable := range map[string]bool{"with __iter__": true, "by index": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := serve(t, DaemonOptions{})
			uri, err := d.Register("shelf", shelf(iterable), ObjectOptions{Serial: true})
			if err != nil {
				t.Fatal(err)
			}
			ctx, p := t.Context(), proxyFor(t, uri, ProxyOptions{})
			if n, err := Len(ctx, p); n != 3 || err != nil {
				t.Errorf("len: got %d, %v", n, err)
			}
			if err := errors.Join(SetItem(ctx, p, 0, "A"), DeleteItem(ctx, p, 1)); err != nil {
				t.Error(err)
			}
			var item string
			if err := Item(ctx, p, 1, &item); item != "c" || err != nil {
				t.Errorf("[1]: got %q, %v, want c", item, err)
			}
			if err := Item(ctx, p, 2, &item); !errors.Is(err, IndexError) {
				t.Errorf("[2]: got %v, want an IndexError", err)
			}
			for value, want := range map[string]bool{"A": true, "b": false} {
				if got, err := Contains(ctx, p, value); got != want || err != nil {
					t.Errorf("%s in: got %v, %v", value, got, err)
				}
			}
			var got []any
			for item, err := range Items(ctx, p) {
				if err != nil {
					t.Error(err)
				}
				got = append(got, item)
			}
			if !slices.Equal(got, []any{"A", "c"}) {
				t.Errorf("items: got %v, want A, c", got)
			}
			for range Items(ctx, p) {
				break
			}
		})
	}
}

// TestNoContainer is an object without such methods.
func TestNoContainer(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	if _, err := Len(t.Context(), p); !errors.Is(err, AttributeError) {
		t.Errorf("len: got %v, want an AttributeError", err)
	}
	count := 0
	for _, err := range Items(t.Context(), p) {
		if count++; !errors.Is(err, AttributeError) {
			t.Errorf("items: got %v, want an AttributeError", err)
		}
	}
	if count != 1 {
		t.Errorf("items: got %d times something, want an error once", count)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range Items(ctx, renamed{p, "echo"}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("items: got %v, want the end of the context", err)
		}
	}
}

// TestItemsOfStream follows the iterator that __iter__ returns.
func TestItemsOfStream(t *testing.T) {
	t.Parallel()
	called := make(chan string, 100)
	uri := streamServer(t, called)
	p := proxyFor(t, uri, ProxyOptions{})
	var got []any
	for item, err := range Items(t.Context(), renamed{p, "m"}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, item)
	}
	if !slices.Equal(got, []any{int64(1), int64(2), int64(3)}) {
		t.Errorf("got %v, want 1, 2, 3", got)
	}
}

// renamed calls one method whatever is asked for.
type renamed struct {
	Caller
	method string
}

func (r renamed) Call(ctx context.Context, _ string, out any, args ...any) error {
	return r.Caller.Call(ctx, r.method, out, args...)
}
