package core

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// batchMethod is what a batch is called on the wire.
const batchMethod = "<batch>"

// Batch is a list of calls of one object that travel in one message (Pyro5 docs, "Batched calls"): one round trip for all of them.
//
//	b := p.Batch()
//	b.Call("deposit", "irmen", 100)
//	b.Call("balance", "irmen")
//	for result, err := range b.Do(ctx) {
//
// The server runs the calls one after the other; the first one that raises an exception is the last one.  It belongs to one goroutine at a time.
type Batch struct {
	p     *Proxy
	names []string
	calls []any
}

// Batch returns an empty batch of calls of the object.
func (p *Proxy) Batch() *Batch { return &Batch{p: p} }

// Call adds a call; a last argument of type [Kwargs] holds keyword arguments.  The arguments are read when the batch is sent.
func (b *Batch) Call(method string, args ...any) *Batch {
	r := methodRequest(method, args)
	b.names = append(b.names, method)
	b.calls = append(b.calls, Tuple{method, Tuple(r.Args), r.Kwargs})
	return b
}

// Do sends the calls, waits for the reply and returns the results in the order of the calls; [Convert] stores one in a variable of a type.  An error
// is the last thing that is yielded: the exception of the call whose turn it is, or that of a batch that failed as a whole.  That one is as from
// [Proxy.Call]; and if the server does not know one of the methods, which is found before anything is sent as a rule, the calls in front of it may
// have run.
//
// The batch is empty afterwards, whatever became of it.  Methods that the server marks as oneway are waited for as well.
func (b *Batch) Do(ctx context.Context) iter.Seq2[any, error] {
	results, err := b.results(ctx)
	return func(yield func(any, error) bool) {
		for _, result := range results {
			if !yield(result, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// DoOneway sends the calls and does not wait: nil says that they were written, no more.  The batch is empty afterwards.
func (b *Batch) DoOneway(ctx context.Context) error { return b.send(ctx, flagOneway, nil) }

// send makes the batch one call.
func (b *Batch) send(ctx context.Context, flags uint16, out any) error {
	names, calls := b.names, b.calls
	b.names, b.calls = nil, nil
	if calls == nil {
		calls = []any{}
	}
	return b.p.call(ctx, member{strings.Join(names, "\n"), isBatch}, Request{Method: batchMethod, Args: calls}, flagBatch|flags, out)
}

// results sends the batch and takes its results apart: those before the first exception, and that.
func (b *Batch) results(ctx context.Context) ([]any, error) {
	names := b.names
	var reply any
	if err := b.send(ctx, 0, &reply); err != nil {
		return nil, err
	}
	results, ok := sequence(reply)
	if !ok || len(results) > len(names) {
		return nil, &LocalError{Executed: true, Err: protocolError("results of %d calls are %s", len(names), describe(reply))}
	}
	if len(results) > 0 {
		last := len(results) - 1
		if e, ok := wrappedException(results[last]); ok {
			return results[:last], e
		}
	}
	if len(results) < len(names) {
		err := fmt.Errorf("core: %w", protocolError("results of %d calls are only %d", len(names), len(results)))
		return results, &LocalError{Executed: true, Err: err}
	}
	return results, nil
}

// wrappedException returns the exception that stands for the result of a call in a batch.
func wrappedException(v any) (*RemoteError, bool) {
	c, ok := v.(ClassDict)
	if !ok || !strings.HasSuffix(c.Class, "._ExceptionWrapper") { // Pyro5.core, or futures of Pyro4
		return nil, false
	}
	e, ok := c.Attrs["exception"].(*RemoteError)
	return e, ok
}
