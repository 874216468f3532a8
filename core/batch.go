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
	sender BatchSender
	calls  BatchCalls
}

// BatchCalls are the calls of a batch that is being sent.
type BatchCalls struct {
	names []string
	calls []any
}

// BatchSender is who sends batches: a [Proxy], or the proxy of an object group.
type BatchSender interface {
	// SendBatch makes the calls and stores the list of what came of them in out; nil means that nobody waits.  Its errors are those of Call ([Caller]).
	SendBatch(ctx context.Context, calls BatchCalls, out *any) error
}

// NewBatch returns an empty batch for s.
func NewBatch(s BatchSender) *Batch { return &Batch{sender: s} }

// Batch returns an empty batch of calls of the object.
func (p *Proxy) Batch() *Batch { return NewBatch(p) }

// Call adds a call; a last argument of type [Kwargs] holds keyword arguments.  The arguments are read when the batch is sent.
func (b *Batch) Call(method string, args ...any) *Batch {
	r := methodRequest(method, args)
	b.calls.names = append(b.calls.names, method)
	b.calls.calls = append(b.calls.calls, Tuple{method, Tuple(r.Args), r.Kwargs})
	return b
}

// Methods returns the names of the methods in order, which are not to be changed.
func (c BatchCalls) Methods() []string { return c.names }

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
func (b *Batch) DoOneway(ctx context.Context) error {
	_, err := b.send(ctx, nil)
	return err
}

// send sends the calls and forgets them; it returns how many they were.
func (b *Batch) send(ctx context.Context, out *any) (n int, err error) {
	calls := b.calls
	b.calls = BatchCalls{}
	return len(calls.names), b.sender.SendBatch(ctx, calls, out)
}

// SendBatch implements [BatchSender].
func (p *Proxy) SendBatch(ctx context.Context, calls BatchCalls, out *any) error {
	r := Request{Method: batchMethod, Args: calls.calls}
	if r.Args == nil {
		r.Args = []any{}
	}
	x := member{strings.Join(calls.names, "\n"), isBatch}
	if out == nil {
		return p.call(ctx, x, r, flagBatch|flagOneway, nil)
	}
	return p.call(ctx, x, r, flagBatch, out)
}

// results sends the batch and takes its results apart: those before the first exception, and that.
func (b *Batch) results(ctx context.Context) ([]any, error) {
	var reply any
	n, err := b.send(ctx, &reply)
	if err != nil {
		return nil, err
	}
	results, ok := sequence(reply)
	if !ok || len(results) > n {
		return nil, badResults("results of %d calls are %s", n, describe(reply))
	}
	if last := len(results) - 1; last >= 0 {
		if e, ok := wrappedException(results[last]); ok {
			return results[:last], e
		}
	}
	if len(results) < n {
		return results, badResults("results of %d calls are only %d", n, len(results))
	}
	return results, nil
}

func badResults(format string, args ...any) error {
	return &LocalError{Executed: true, Err: fmt.Errorf("core: %w", protocolError(format, args...))}
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
