package core

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Item streams of a daemon: when a method returns an iterator, its caller gets the id of a stream and asks for the items one by one, by calls of
// get_next_stream_item of the daemon's own object (Pyro5 docs, "Item streaming").  The iterator runs only while an item is asked for.  A stream
// ends with its iterator, with an error, by close_stream, after StreamLifetime, and StreamLinger after the connection that used it last.
type itemStreams struct {
	d *Daemon

	mu     sync.Mutex
	all    map[string]*itemStream
	closed bool
}

// itemStream is one of them.
type itemStream struct {
	id       string
	call     *servedCall // that returned it
	cancel   context.CancelFunc
	lifetime *time.Timer // nil without a bound

	turn   sync.Mutex  // of who runs the iterator
	serial *sync.Mutex // locked after turn: that of the object, if it serves one call at a time
	next   func() (any, error, bool)
	stop   func()
	closed atomic.Bool

	// Guarded by the mutex of all streams:
	owner  *serverConn // whose client asks for items; nil while it lingers
	linger *time.Timer // nil unless owner is
}

const (
	defaultStreamLinger = 30 * time.Second
	defaultMaxStreams   = 10_000
)

// isIterator reports whether values of a type are sent item by item: functions that range takes and that yield one or two values.
func isIterator(t reflect.Type) bool {
	return t != nil && t.Kind() == reflect.Func && (t.CanSeq() || t.CanSeq2())
}

// items makes one iterator of all kinds of them.  The second value that one yields is an error, or makes a tuple with the first.
func items(v any) iter.Seq2[any, error] {
	switch v := v.(type) {
	case iter.Seq2[any, error]:
		return v
	case iter.Seq[any]:
		return func(yield func(any, error) bool) {
			for item := range v {
				if !yield(item, nil) {
					return
				}
			}
		}
	}
	r := reflect.ValueOf(v)
	if r.Type().CanSeq() {
		return func(yield func(any, error) bool) {
			for item := range r.Seq() {
				if !yield(item.Interface(), nil) {
					return
				}
			}
		}
	}
	if r.Type().In(0).In(1) == errorType {
		return func(yield func(any, error) bool) {
			for item, failed := range r.Seq2() {
				err, _ := failed.Interface().(error)
				if !yield(item.Interface(), err) {
					return
				}
			}
		}
	}
	return func(yield func(any, error) bool) {
		for a, b := range r.Seq2() {
			if !yield(Tuple{a.Interface(), b.Interface()}, nil) {
				return
			}
		}
	}
}

// begin makes a stream of an iterator that a call of o from c returned.
func (s *itemStreams) begin(c *serverConn, call *servedCall, o *object, cancel context.CancelFunc, iterator any) (id string, err error) {
	next, stop := iter.Pull2(items(iterator))
	stream := &itemStream{id: newStreamID(), call: call, cancel: cancel, next: next, stop: stop, serial: o.serial, owner: c}
	if err := s.add(stream); err != nil {
		stream.closed.Store(true)
		cancel()
		stop() // it has not begun to run
		return "", err
	}
	return stream.id, nil
}

func (s *itemStreams) add(stream *itemStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || stream.owner.gone.Load():
		return ConnectionClosedError.New("server is shutting down")
	case len(s.all) >= s.d.opts.MaxStreams:
		return PyroError.New("too many item streams (max=%d)", s.d.opts.MaxStreams)
	}
	if s.all == nil {
		s.all = make(map[string]*itemStream)
	}
	s.all[stream.id] = stream
	if bound := s.d.opts.StreamLifetime; bound > 0 {
		stream.lifetime = time.AfterFunc(bound, func() { s.end(stream) })
	}
	return nil
}

func newStreamID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// item returns the next item of a stream, which call asks for.  The errors, StopIteration after the last item among them, end the stream.
func (s *itemStreams) item(call *servedCall, id string) (any, error) {
	stream := s.take(call.conn, id)
	if stream == nil {
		return nil, errStreamEnded()
	}
	if call.holdsReading() {
		defer call.conn.noticeEnd(s.leave)()
	}
	item, err := stream.pull()
	if err != nil {
		s.end(stream)
		s.d.logPanic(stream.call, err)
		if e, ok := errors.AsType[*RemoteError](err); !ok || e.Class != StopIteration {
			s.d.callFailed(stream.call, err)
		}
	}
	return item, err
}

func errStreamEnded() error { return PyroError.New("item stream terminated") }

// take finds a stream, which then belongs to c if it has lost its client.
func (s *itemStreams) take(c *serverConn, id string) *itemStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	stream := s.all[id]
	if stream != nil && stream.owner == nil && !c.gone.Load() {
		stream.owner = c
		stream.linger.Stop()
	}
	return stream
}

// pull runs the iterator until it yields.
func (stream *itemStream) pull() (item any, err error) {
	stream.turn.Lock()
	defer stream.release()
	defer func() {
		if p := recover(); p != nil {
			item, err = nil, panicError(p)
		}
	}()
	if stream.serial != nil {
		stream.serial.Lock()
		defer stream.serial.Unlock()
	}
	if stream.closed.Load() {
		return nil, errStreamEnded()
	}
	item, err, ok := stream.next()
	if !ok {
		return nil, &RemoteError{Class: StopIteration}
	}
	return item, err
}

// release lets others run the iterator, or stops it if it was closed meanwhile.
func (stream *itemStream) release() {
	stream.turn.Unlock()
	if stream.closed.Load() {
		stream.stopIfFree()
	}
}

// stopIfFree stops the iterator unless somebody runs it, who does it then.
func (stream *itemStream) stopIfFree() {
	if !stream.turn.TryLock() {
		return
	}
	defer stream.turn.Unlock()
	defer func() {
		if p := recover(); p != nil { // an iterator that goes on after the end of its loop
			d := stream.call.conn.d
			d.logPanic(stream.call, panicError(p))
		}
	}()
	if stream.serial != nil {
		stream.serial.Lock()
		defer stream.serial.Unlock()
	}
	stream.stop()
}

// end ends a stream, now or as soon as its iterator has returned.
func (s *itemStreams) end(stream *itemStream) {
	s.mu.Lock()
	delete(s.all, stream.id)
	if stream.lifetime != nil {
		stream.lifetime.Stop()
	}
	if stream.linger != nil {
		stream.linger.Stop()
	}
	s.mu.Unlock()
	if !stream.closed.Swap(true) {
		stream.cancel()
	}
	stream.stopIfFree()
}

// close ends the stream of that id, if there is one.
func (s *itemStreams) close(id string) {
	s.mu.Lock()
	stream := s.all[id]
	s.mu.Unlock()
	if stream != nil {
		s.end(stream)
	}
}

// noticeAfter is how long an iterator may take before somebody looks whether the client is still there.
const noticeAfter = time.Second

// noticeEnd has ended called if the client closes the connection while the goroutine that reads from it runs a method; else the method would not
// learn of it, nor would anybody as long as it waits.  The method calls stop before it returns.  What came meanwhile was read ahead.
func (c *serverConn) noticeEnd(ended func(*serverConn)) (stop func()) {
	looked := make(chan struct{})
	timer := time.AfterFunc(noticeAfter, func() {
		defer close(looked)
		if _, err := c.r.Peek(1); err != nil && !isTimeout(err) {
			ended(c)
		}
	})
	return func() {
		if timer.Stop() {
			return
		}
		c.nc.SetReadDeadline(longAgo)
		<-looked
		c.nc.SetReadDeadline(time.Time{}) // wait sets that of Shutdown again
	}
}

// leave is called when a connection has ended, also while calls from it run: its streams end after a while, unless another connection asks for
// their items.
func (s *itemStreams) leave(c *serverConn) {
	c.gone.Store(true)
	var ended []*itemStream
	s.mu.Lock()
	for _, stream := range s.all {
		switch {
		case stream.owner != c:
		case s.d.opts.StreamLinger < 0:
			ended = append(ended, stream)
		default:
			stream.owner = nil
			stream.linger = time.AfterFunc(s.d.opts.StreamLinger, func() { s.expire(stream) })
		}
	}
	s.mu.Unlock()
	for _, stream := range ended {
		s.end(stream)
	}
}

// expire ends a stream that has lingered long enough.
func (s *itemStreams) expire(stream *itemStream) {
	s.mu.Lock()
	lingers := stream.owner == nil
	s.mu.Unlock()
	if lingers {
		s.end(stream)
	}
}

// shut ends all streams, and those that may come.
func (s *itemStreams) shut() {
	s.mu.Lock()
	s.closed = true
	all := s.all
	s.all = nil
	s.mu.Unlock()
	for _, stream := range all {
		s.end(stream)
	}
}

// replyStream answers with the id of a stream, at whose end is called; to clients that know no streams it is an exception.
func (c *turn) replyStream(call *servedCall, m message, s Serializer, o *object, iterator any, end func()) bool {
	h := call.replyHeader(m)
	h.flags |= flagException | flagItemStream
	a := call.takeReply()
	cancelContext := call.takeCancel()
	cancel := func() { cancelContext(); end() }
	if c.d.opts.NoStreams {
		cancel()
	} else {
		id, err := c.d.streams.begin(c.serverConn, call, o, cancel, iterator)
		if err != nil {
			return c.replyError(call, m, s, err, nil)
		}
		if a == nil {
			a = make(Annotations, 1)
		}
		a[annotationStream] = []byte(id)
	}
	e := ProtocolError.New("result of call is an iterator")
	e.Attributes = map[string]any{tracebackKey: nil}
	if err := c.prepare(h, a, s, e); err != nil {
		c.d.opts.Logger.LogAttrs(call, slog.LevelError, "stream", slog.Any("error", err))
		return false
	}
	return true
}
