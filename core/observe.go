package core

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"time"
)

// Observer is told what proxies and daemons do, for metrics (package metrics has one for Prometheus).  One observer may serve any number
// of them; whoever observes calls and connections of both sides should have one for each side.
//
// Its methods are called by many goroutines at once, on the way of every call: they must be quick, wait for nothing, and not panic.
type Observer interface {
	// Method returns who observes the calls of a method of an object.  The answer is kept, so that a call costs no search: a daemon asks
	// when an object is registered, a proxy at the first call of a method.
	//
	// Beside names of methods these occur: "__getattr__" and "__setattr__" for attributes, "__batch__" for calls that a client sent
	// in one message, and "" for a method, or an object, that the daemon does not have, whatever name the client gave.
	Method(object, method string) CallObserver
	// ObserveConn is told what became of a connection.
	ObserveConn(e ConnEvent)
}

// CallObserver observes the calls of one method.
type CallObserver interface {
	ObserveCall(o Observation)
}

// Observation is a call that has ended.
type Observation struct {
	// Took is the time from when a proxy was asked for a call, or a daemon had read a request, until the result was stored, or the
	// reply was ready to be sent.
	Took    time.Duration
	Outcome CallOutcome
	// Sent and Received are the bytes of the call's messages as far as they were transferred, or made ready to be sent.
	Sent, Received int
}

// CallOutcome says how a call ended.
type CallOutcome uint8

// The outcomes of calls.
const (
	CallOK          CallOutcome = iota // answered with a result, or oneway and sent
	CallException                      // answered with an exception, or with a result that was not taken
	CallNotExecuted                    // the method surely did not run: nothing was sent, or the server says so
	CallUnknown                        // sent, and no answer came
)

// ConnEvent is what happens to a connection.
type ConnEvent uint8

// The events of connections.  Each ConnOpened is followed by one ConnClosed; the other two concern connections that never got so far.
const (
	ConnOpened  ConnEvent = iota // the handshake is done
	ConnClosed                   // it has ended
	ConnFailed                   // it could not be made, or the handshake failed
	ConnRefused                  // the daemon has its MaxConnections already
)

// OutcomeOf returns the outcome of a call that a [Proxy] made, from its error.
func OutcomeOf(err error) CallOutcome {
	if err == nil {
		return CallOK
	}
	// What made a transport fail, or an error local, may look like an exception: that comes last.
	if e, ok := errors.AsType[*TransportError](err); ok {
		return eitherOr(e.Written, CallUnknown, CallNotExecuted)
	}
	if e, ok := errors.AsType[*LocalError](err); ok {
		return eitherOr(e.Executed, CallException, CallNotExecuted)
	}
	if e, ok := errors.AsType[*RemoteError](err); ok {
		return eitherOr(e.NotExecuted, CallNotExecuted, CallException)
	}
	return eitherOr(errors.Is(err, ErrClosed), CallNotExecuted, CallUnknown)
}

func eitherOr(is bool, a, b CallOutcome) CallOutcome {
	if is {
		return a
	}
	return b
}

// maxObserved bounds what a proxy remembers, should a program take names of methods from others.
const maxObserved = 256

// observer returns who observes calls of a method; p has an Observer.
func (p *Proxy) observer(method string) CallObserver {
	known := p.observers.Load()
	if known != nil {
		if o, ok := (*known)[method]; ok {
			return o
		}
	}
	name := method
	if method == batchMethod {
		name = "__batch__"
	}
	o := p.opts.Observer.Method(p.uri.Object, name)
	next := map[string]CallObserver{method: o}
	if known != nil {
		if len(*known) >= maxObserved {
			return o
		}
		maps.Copy(next, *known)
	}
	p.observers.CompareAndSwap(known, &next) // whoever loses asks again at the next call
	return o
}

func (p *Proxy) observeConn(e ConnEvent) {
	if p.opts.Observer != nil {
		p.opts.Observer.ObserveConn(e)
	}
}

// callKinds are those who observe what is no call of a method that the object has.
type callKinds struct{ read, write, batch, unknown CallObserver }

// observe makes the calls of an object known to the daemon's observer.
func (d *Daemon) observe(id string, o *object) {
	w := d.opts.Observer
	if w == nil {
		return
	}
	o.observed = callKinds{w.Method(id, "__getattr__"), w.Method(id, "__setattr__"), w.Method(id, "__batch__"), w.Method(id, "")}
	for name, m := range o.methods {
		m.observer = w.Method(id, name)
	}
}

func (d *Daemon) observeConn(e ConnEvent) {
	if d.opts.Observer != nil {
		d.opts.Observer.ObserveConn(e)
	}
}

// observation is a served call in the making.  Its methods do nothing with nil, which is that of a call that nobody observes.
type observation struct {
	by       CallObserver
	start    time.Time
	received int
	outcome  CallOutcome
}

// begin starts to observe a call, of which nothing is known yet; nil if nobody observes.  The connection's memory serves one after the other.
func (c *turn) begin(received int) *observation {
	if c.d.unknown == nil {
		return nil
	}
	c.observation = observation{by: c.d.unknown, start: time.Now(), received: received}
	return &c.observation
}

// detach returns the observation of a call that goes on beside the connection.
func (o *observation) detach() *observation {
	if o == nil {
		return nil
	}
	own := *o
	return &own
}

// of says whose call it is.
func (o *observation) of(by CallObserver) {
	if o != nil {
		o.by = by
	}
}

// ends says how the call ends, unless that is CallOK.
func (o *observation) ends(outcome CallOutcome) {
	if o != nil {
		o.outcome = outcome
	}
}

// report tells the observer that the call has ended.
func (o *observation) report(sent int) {
	if o != nil {
		o.by.ObserveCall(Observation{Took: time.Since(o.start), Outcome: o.outcome, Sent: sent, Received: o.received})
	}
}

// NewLogHandler returns a handler that adds to each record of h the id of the call that it was logged in (the context has to be given to
// the logger) as "call_id", the correlation id that travels with the call and with those that its method makes.
func NewLogHandler(h slog.Handler) slog.Handler { return &logHandler{h} }

type logHandler struct{ slog.Handler }

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if info := CallInfoFrom(ctx); info != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("call_id", hex.EncodeToString(info.CorrelationID[:])))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs)}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name)}
}
