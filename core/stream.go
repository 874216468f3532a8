package core

import (
	"context"
	"errors"
	"io"
	"iter"
)

// Stream is the result of a method that returns an iterator or a generator of Python's: its items come one by one (Pyro5 docs,
// "Item streaming").  A stream has a connection of its proxy for itself until it has ended or was closed: close what is not read
// to its end.  It is not safe for concurrent use.
type Stream struct {
	c   *clientConn // nil once the stream has ended
	id  string
	end error // why
}

// Next stores the next item in out (see [Convert]).  The error is io.EOF after the last one, [ErrClosed] after Close, and otherwise
// that of a call; the stream has ended then, unless only out was at fault.
func (s *Stream) Next(ctx context.Context, out any) error {
	if s.c == nil {
		return s.end
	}
	err := s.c.invoke(ctx, s.request("get_next_stream_item"), 0, out)
	remote, isRemote := errors.AsType[*RemoteError](err)
	switch {
	case isRemote && remote.Class == StopIteration:
		err = io.EOF
	case isRemote, s.c.broken:
	default:
		return err
	}
	s.finish(err)
	return err
}

// All returns the remaining items and closes the stream when the loop ends.  An error is the last thing it yields.
func (s *Stream) All(ctx context.Context) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for {
			var item any
			err := s.Next(ctx, &item)
			if err == io.EOF {
				return
			}
			if !yield(item, err) || err != nil {
				s.Close(ctx) // the loop has its items, or its error
				return
			}
		}
	}
}

// Close ends the stream on the server and gives the connection back.  Closing again does nothing.
func (s *Stream) Close(ctx context.Context) error {
	if s.c == nil {
		return nil
	}
	err := s.sendClose(ctx)
	s.finish(ErrClosed)
	return err
}

func (s *Stream) finish(err error) {
	c := s.c
	s.c, s.end = nil, err
	c.streaming = false
	c.proxy.release(c)
}

func (s *Stream) sendClose(ctx context.Context) error {
	_, err := s.c.request(ctx, s.request("close_stream"), flagOneway)
	return err
}

// request is for the daemon's own object, which any connection can call.
func (s *Stream) request(method string) Request {
	return Request{Object: daemonID, Method: method, Args: []any{s.id}, Kwargs: noKwargs}
}
