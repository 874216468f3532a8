package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Stream is the result of a method that returns an iterator or a generator of Python's: its items come one by one (Pyro5 docs,
// "Item streaming").  Of a server that is not of this project, a stream has a connection of its proxy for itself until it has ended or was closed:
// close what is not read to its end.  It is not safe for concurrent use.
type Stream struct {
	c   *clientConn // nil once the stream has ended
	mux *muxConn    // in place of c, if the connection is not for the stream alone
	id  string
	end error // why
}

// storeIn stores s in the variable for a call's result, or ends it if there is none for it.
func (s *Stream) storeIn(ctx context.Context, method string, out any) (stored bool, err error) {
	switch out := out.(type) {
	case **Stream:
		*out = s
	case *Stream:
		*out = *s
	case *any:
		*out = s
	default:
		err := s.sendClose(ctx)
		if out == nil {
			return false, nil // the call was answered, whatever became of its result
		}
		err = errors.Join(fmt.Errorf("core: result of %s is a stream: got %T to store it, want **core.Stream", method, out), err)
		return false, &LocalError{Executed: true, Err: err}
	}
	return true, nil
}

// Next stores the next item in out (see [Convert]).  The error is io.EOF after the last one, [ErrClosed] after Close, and otherwise
// that of a call; the stream has ended then, unless only out was at fault.
func (s *Stream) Next(ctx context.Context, out any) error {
	if s.hasEnded() {
		return s.end
	}
	err := s.ask(ctx, "get_next_stream_item", 0, out)
	remote, isRemote := errors.AsType[*RemoteError](err)
	switch {
	case isRemote && remote.Class == StopIteration:
		err = io.EOF
	case isRemote:
	case s.isBroken(err):
		if s.mux != nil {
			s.sendClose(ctx) // the server may go on making the item, and the connection stays
		}
	default:
		return err
	}
	s.finish(err)
	return err
}

// All returns the remaining items and closes the stream when the loop ends.  An error is the last thing it yields.
func (s *Stream) All(ctx context.Context) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) { yieldItems(ctx, s, yield) }
}

// yieldItems passes the items of a stream on until its end, or until yield or an item fails.
func yieldItems[T any](ctx context.Context, s *Stream, yield func(T, error) bool) {
	defer func() { // the loop has its items, or its error, which may be that its context has ended
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		s.Close(late)
	}()
	for {
		var item T
		err := s.Next(ctx, &item)
		if err == io.EOF || !yield(item, err) || err != nil {
			return
		}
	}
}

// InvokeStream returns an iterator over the item stream, or the list, that is the result of a call, which is made each time that the iterator
// is used.  An error is the last thing it yields.  Generated proxies use it.
func InvokeStream[T any](ctx context.Context, to Invoker, call func() *Invocation) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		v := call()
		defer v.Free()
		var none T
		if err := to.Invoke(ctx, v); err != nil {
			yield(none, err)
			return
		}
		if s, ok := v.Result.value.(*Stream); ok {
			yieldItems(ctx, s, yield)
			return
		}
		var list []T
		v.Result.Value(&list)
		for _, item := range list {
			if !yield(item, nil) {
				return
			}
		}
		if err := v.Result.Err(); err != nil {
			yield(none, err)
		}
	}
}

// Close ends the stream on the server and gives the connection back.  Closing again does nothing.
func (s *Stream) Close(ctx context.Context) error {
	if s.hasEnded() {
		return nil
	}
	err := s.sendClose(ctx)
	s.finish(ErrClosed)
	return err
}

// drop closes a stream that nobody has.
func (s *Stream) drop() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.Close(ctx)
}

func (s *Stream) hasEnded() bool { return s.c == nil && s.mux == nil }

// isBroken reports whether the stream is lost after an error.
func (s *Stream) isBroken(err error) bool {
	if s.c != nil {
		return s.c.broken
	}
	_, broken := errors.AsType[*TransportError](err)
	return broken
}

func (s *Stream) finish(err error) {
	c := s.c
	s.c, s.mux, s.end = nil, nil, err
	if c != nil {
		c.streaming = false
		c.proxy.release(c)
	}
}

// sendClose does not wait for the server on a connection that calls share, so it need not end with ctx there.
func (s *Stream) sendClose(ctx context.Context) error {
	if s.mux != nil {
		ctx = context.WithoutCancel(ctx)
	}
	return s.ask(ctx, "close_stream", flagOneway, nil)
}

// ask calls the daemon's own object, which any connection can call.
func (s *Stream) ask(ctx context.Context, method string, flags uint16, out any) error {
	if s.c != nil {
		return s.c.invoke(ctx, Request{Object: daemonID, Method: method, Args: []any{s.id}, Kwargs: noKwargs}, flags, out)
	}
	v := NewInvocation(method)
	defer v.Free()
	v.object = daemonID
	v.Args.String(s.id)
	switch err := s.mux.invoke(ctx, v, flags, nil); {
	case err == errRetired || err == errFull:
		return s.mux.c.fault(opSend, false, err)
	case err != nil:
		return err
	case out == nil:
		return nil
	}
	v.Result.Value(out)
	return v.Result.Err()
}
