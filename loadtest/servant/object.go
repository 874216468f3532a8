package servant

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"strings"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// maxPart bounds what one call of ledger() returns.
const maxPart = 1 << 20

// The exception when a call could not be written to the ledger; nothing else that a servant runs raises it.
const (
	errNotRun core.ExceptionClass = "builtins.OSError"
	// notRunPrefix begins its text.
	notRunPrefix string = "not run: "
)

// NotRun reports whether err says that a servant, in Go or Python, did not run a call because it could not write it to its ledger, as
// when its disk is full.  To others such an answer looks like an exception that the method raised.
func NotRun(err error) bool {
	e, ok := errors.AsType[*core.RemoteError](err)
	return ok && e.Class == errNotRun && strings.HasPrefix(e.Text(), notRunPrefix)
}

// object is what the methods work on.
type object struct {
	member string
	append func(ledger.ID) error // adds a call to the ledger; nil without one
	file   io.ReaderAt           // the ledger's; nil without one
	close  func() error
}

// newObject returns the object of a member, with a ledger at path unless that is empty.
func newObject(member, path string) (*object, error) {
	if path == "" {
		return &object{member: member, close: func() error { return nil }}, nil
	}
	file, err := lockedLedger(path)
	if err != nil {
		return nil, err
	}
	w, err := ledger.Create(path)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &object{
		member: member,
		append: w.Append,
		file:   file,
		close:  func() error { return errors.Join(w.Close(), unlock(file)) },
	}, nil
}

// lockedLedger opens a ledger for this servant alone, until the file is closed: two with the same one would both be asked for it, and each
// call in it counted twice.
func lockedLedger(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("servant: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("servant: ledger %s is that of another servant (%w): give each one of its own", path, err)
	}
	return f, nil
}

// unlock closes a locked file.  A child that was forked a moment ago, and has not run its program yet, still has it open: closing alone
// would leave it locked.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// servant spells the object out, which costs a call less than reflection.
func (o *object) servant() *core.Servant {
	value := []core.Param{{Name: "value"}}
	s := &core.Servant{Class: "Loadtest", Methods: []core.Method{
		o.work("add", []core.Param{{Name: "a"}, {Name: "b"}}, func(args []any) (any, error) { return add(args[0], args[1]) }),
		o.work("echo", value, func(args []any) (any, error) { return args[0], nil }),
		o.work("oneway", value, func([]any) (any, error) { return nil, nil }),
		{Name: "who", Func: func(context.Context, []any) (any, error) { return o.member, nil }},
	}}
	s.Methods[2].Oneway = true
	if o.file != nil {
		s.Methods = append(s.Methods, core.Method{
			Name:   "ledger",
			Params: []core.Param{{Name: "offset"}, {Name: "size"}},
			Func:   func(_ context.Context, args []any) (any, error) { return o.part(args[0], args[1]) },
		})
	}
	return s
}

// work is a method that is in the ledger before it runs.
func (o *object) work(name string, params []core.Param, run func(args []any) (any, error)) core.Method {
	return core.Method{Name: name, Params: params, Func: func(ctx context.Context, args []any) (any, error) {
		if o.append != nil {
			if err := o.append(core.CallInfoFrom(ctx).CorrelationID); err != nil {
				return nil, errNotRun.New("%s%v", notRunPrefix, err)
			}
		}
		return run(args)
	}}
}

// add is Python's a + b for numbers.
func add(a, b any) (any, error) {
	x, isInt := a.(int64)
	y, areInts := b.(int64)
	if sum := x + y; isInt && areInts && (sum < x) == (y < 0) {
		return sum, nil
	}
	if x, y := toInt(a), toInt(b); x != nil && y != nil {
		return x.Add(x, y), nil
	}
	f, okF := toFloat(a)
	g, okG := toFloat(b)
	if !okF || !okG {
		return nil, core.TypeError.New("add() adds numbers, got %T and %T", a, b)
	}
	return f + g, nil
}

// toInt returns a copy of an integer; nil if v is none.
func toInt(v any) *big.Int {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v)
	case *big.Int:
		return new(big.Int).Set(v)
	}
	return nil
}

func toFloat(v any) (f float64, ok bool) {
	if i := toInt(v); i != nil {
		f, _ = i.Float64()
		return f, !math.IsInf(f, 0)
	}
	f, ok = v.(float64)
	return f, ok
}

// part returns up to size bytes of the ledger file, from offset on: none at its end.
func (o *object) part(offset, size any) (any, error) {
	from, ok1 := offset.(int64)
	n, ok2 := size.(int64)
	if !ok1 || !ok2 || from < 0 || n < 0 {
		return nil, core.ValueError.New("ledger(%v, %v): want an offset and a size of at least 0", offset, size)
	}
	part := make([]byte, min(n, maxPart))
	read, err := o.file.ReadAt(part, from)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return part[:read], nil
}
