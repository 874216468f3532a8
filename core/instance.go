package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
)

// InstanceMode says for how long an object that a [Factory] has made serves calls (Pyro5 docs, "Controlling Instance modes and Instance creation").
type InstanceMode uint8

// The modes of instances.
const (
	// InstanceSession is an object for each connection, made for its first call.  A Python proxy has one connection, and so has one of this
	// project that shares it among its calls; with [ProxyOptions.Plain] a proxy has several.
	InstanceSession InstanceMode = iota
	// InstanceSingle is one object, made for the first call.
	InstanceSingle
	// InstancePerCall is an object for each call, or batch of calls.
	InstancePerCall
)

// Factory is registered in place of an object and makes objects when they are needed.  Objects that are an io.Closer are closed when they have
// served: those of a session when the connection has ended, the single one when it is unregistered or the daemon has stopped, and
// neither before the calls and streams that they serve have ended.
type Factory struct {
	// Like is any object of the kind that New makes; callers see its members.  None of them is called.  For a [Servant] whose members depend on
	// an implementation, such as a generated one, that may be nil here.
	Like any
	Mode InstanceMode
	// New makes an object.  Its error is that of the call; the next call tries again.  ctx is that of the call.
	New func(ctx context.Context) (any, error)
}

// instances are those of a factory that is registered.
type instances struct {
	factory *Factory
	opts    ObjectOptions

	mu      sync.Mutex // held while the single one is made
	single  *instance
	retired bool // no single one is made any more
}

// instance is an object that was made.
type instance struct {
	*object
	value any
	users atomic.Int64 // calls and streams that it serves, and whoever keeps it; it is closed when there are none
}

// use counts a call that the instance serves; whoever keeps it must do so meanwhile.  The call has to be followed by release.
func (i *instance) use() *instance {
	i.users.Add(1)
	return i
}

func (i *instance) release(d *Daemon) {
	if i.users.Add(-1) == 0 {
		d.dispose(i.value)
	}
}

// newFactory describes what a factory makes.
func newFactory(f *Factory, opts ObjectOptions) (*object, error) {
	switch {
	case f == nil:
		return nil, errors.New("core: register: nil factory")
	case f.New == nil:
		return nil, errors.New("core: register: factory without New")
	case f.Mode > InstancePerCall:
		return nil, fmt.Errorf("core: register: unknown instance mode %d", f.Mode)
	}
	like := f.Like
	if v := reflect.ValueOf(like); v.Kind() == reflect.Pointer && v.IsNil() {
		like = reflect.New(v.Type().Elem()).Interface()
	}
	switch like.(type) {
	case *Factory:
		return nil, errors.New("core: register: a factory of factories")
	case nil:
		return nil, errors.New("core: register: factory without Like, which says what it makes")
	}
	o, err := newObject(like, opts)
	if err != nil {
		return nil, err
	}
	o.instances = &instances{factory: f, opts: opts}
	return o, nil
}

// make makes an instance of o.
func (o *object) make(call *servedCall) (i *instance, err error) {
	defer func() {
		if p := recover(); p != nil {
			i, err = nil, panicError(p)
		}
	}()
	value, err := o.instances.factory.New(call)
	if err != nil {
		return nil, err
	}
	if _, again := value.(*Factory); again {
		return nil, TypeError.New("a factory made a factory")
	}
	made, err := newObject(value, o.instances.opts)
	if err != nil {
		return nil, errors.Join(TypeError.New("%v", err), closeInstance(value))
	}
	made.observed, made.idle = o.observed, nil // the factory has one
	for name, m := range made.methods {
		if known := o.methods[name]; known != nil {
			m.observer = known.observer
		}
	}
	i = &instance{object: made, value: value}
	return i.use(), nil
}

func closeInstance(value any) error {
	if c, ok := value.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// instance returns the object that serves a call of o, and what is to be called when it has.
func (c *serverConn) instance(call *servedCall, o *object) (_ *object, done func(), err error) {
	if o.instances == nil {
		return o, func() {}, nil
	}
	var i *instance
	switch o.instances.factory.Mode {
	case InstancePerCall:
		i, err = o.make(call)
	case InstanceSingle:
		i, err = o.instances.one(call, o)
	default:
		i, err = c.session.of(call, o)
	}
	if err != nil {
		return nil, nil, err
	}
	return i.object, func() { i.release(c.d) }, nil
}

// dispose closes what has served, if it can be closed.
func (d *Daemon) dispose(value any) {
	defer func() {
		if p := recover(); p != nil {
			d.logClose(panicError(p))
		}
	}()
	if err := closeInstance(value); err != nil {
		d.logClose(err)
	}
}

func (d *Daemon) logClose(err error) {
	d.opts.Logger.LogAttrs(context.Background(), slog.LevelWarn, "closing what a client used", slog.Any("error", err))
}

// one returns the single instance.
func (s *instances) one(call *servedCall, o *object) (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.single != nil:
		return s.single.use(), nil
	case s.retired:
		return nil, errUnknownObject()
	}
	i, err := o.make(call)
	if err != nil {
		return nil, err
	}
	s.single = i
	return i.use(), nil
}

// retire closes the single instance once it serves nothing any more.
func (s *instances) retire(d *Daemon) {
	s.mu.Lock()
	single := s.single
	s.single, s.retired = nil, true
	s.mu.Unlock()
	if single != nil {
		single.release(d)
	}
}

// session is what belongs to a connection: instances, and what methods have tracked.
type session struct {
	making sync.Mutex // held while an instance is made

	mu        sync.Mutex // guards what follows
	ended     bool
	instances map[*object]*instance
	tracked   map[io.Closer]struct{}
}

// of returns the session's instance of o.
func (s *session) of(call *servedCall, o *object) (*instance, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if i, err := s.made(o); i != nil || err != nil {
		return i, err
	}
	i, err := o.make(call)
	if err != nil {
		return nil, err
	}
	if err := s.keep(o, i); err != nil {
		i.release(call.conn.d)
		return nil, err
	}
	return i, nil
}

// made returns the instance, in use, if there is one, or why there will be none.
func (s *session) made(o *object) (*instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, errSessionEnded()
	}
	if i := s.instances[o]; i != nil {
		return i.use(), nil
	}
	return nil, nil
}

func (s *session) keep(o *object, i *instance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errSessionEnded()
	}
	if s.instances == nil {
		s.instances = make(map[*object]*instance)
	}
	s.instances[o] = i.use()
	return nil
}

func errSessionEnded() error { return ConnectionClosedError.New("the connection has ended") }

// end closes all that belongs to the session.
func (s *session) end(d *Daemon) {
	s.mu.Lock()
	s.ended = true
	made, tracked := s.instances, s.tracked
	s.instances, s.tracked = nil, nil
	s.mu.Unlock()
	for _, i := range made {
		i.release(d)
	}
	for c := range tracked {
		d.dispose(c)
	}
}

// Track closes c when the connection of the call that ctx belongs to has ended, unless Untrack is called before (Pyro5: track_resource).  Outside
// of a served call, and when the connection has ended already, it closes c at once and returns an error.  A connection is that of a proxy, not of a
// call: see [InstanceSession].
func Track(ctx context.Context, c io.Closer) error {
	call, ok := ctx.Value(servedCallKey{}).(*servedCall)
	if !ok || call.conn == nil {
		return errors.Join(errors.New("core: track: this is no context of a served call"), c.Close())
	}
	if !reflect.ValueOf(c).Comparable() {
		return errors.Join(fmt.Errorf("core: track: values of %T cannot be told apart, track a pointer", c), c.Close())
	}
	s := &call.conn.session
	s.mu.Lock()
	ended := s.ended
	if !ended {
		if s.tracked == nil {
			s.tracked = make(map[io.Closer]struct{})
		}
		s.tracked[c] = struct{}{}
	}
	s.mu.Unlock()
	if ended {
		return errors.Join(errors.New("core: track: the connection has ended"), c.Close())
	}
	return nil
}

// Untrack undoes Track; c stays open.
func Untrack(ctx context.Context, c io.Closer) {
	if call, ok := ctx.Value(servedCallKey{}).(*servedCall); ok && call.conn != nil && reflect.ValueOf(c).Comparable() {
		s := &call.conn.session
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tracked, c)
	}
}
