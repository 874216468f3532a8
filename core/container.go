package core

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Python's special methods, by which objects are containers, are called by their names like others: Call(ctx, "__len__", &n).  The functions here
// do what Pyro5's proxy makes of the syntax (Pyro5 client.py, Proxy.__len__ and following).

// Len returns the length of a container, Python's len(o).
func Len(ctx context.Context, o Caller) (int, error) {
	var n int
	err := o.Call(ctx, "__len__", &n)
	return n, err
}

// Item stores an item of a container in out, Python's o[key].
func Item(ctx context.Context, o Caller, key, out any) error {
	return o.Call(ctx, "__getitem__", out, key)
}

// SetItem sets an item of a container, Python's o[key] = value.
func SetItem(ctx context.Context, o Caller, key, value any) error {
	return o.Call(ctx, "__setitem__", nil, key, value)
}

// DeleteItem takes an item out of a container, Python's del o[key].
func DeleteItem(ctx context.Context, o Caller, key any) error {
	return o.Call(ctx, "__delitem__", nil, key)
}

// Contains reports whether a container has a value, Python's value in o, of an object with the method __contains__.
func Contains(ctx context.Context, o Caller, value any) (bool, error) {
	var has bool
	err := o.Call(ctx, "__contains__", &has, value)
	return has, err
}

// Items returns what Python's for loop gets of o: the items of the iterator that its method __iter__ returns, or without such a method o[0],
// o[1] and so on up to an IndexError.  An error is the last thing it yields.
func Items(ctx context.Context, o Caller) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		var items any
		err := o.Call(ctx, "__iter__", &items)
		if errors.Is(err, AttributeError) {
			indexed(ctx, o, yield)
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if s, ok := items.(*Stream); ok {
			s.All(ctx)(yield)
			return
		}
		list, ok := sequence(items)
		if !ok {
			yield(nil, &LocalError{Executed: true, Err: fmt.Errorf("core: __iter__ returned %s, want an iterator or a list", pythonType(items))})
			return
		}
		for _, item := range list {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// indexed yields o[0], o[1] and so on.
func indexed(ctx context.Context, o Caller, yield func(any, error) bool) {
	for i := 0; ; i++ {
		var item any
		err := Item(ctx, o, i, &item)
		if errors.Is(err, IndexError) || errors.Is(err, StopIteration) {
			return
		}
		if !yield(item, err) || err != nil {
			return
		}
	}
}
