package core

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxCallsConn is how many calls of a connection run at once beside the goroutine that leads; beyond it the next one waits, and all behind it.
const maxCallsConn = 1024

// muxServer serves a connection on which clients make many calls at once.
//
// One goroutine at a time leads: it reads requests, runs their methods itself and writes replies in batches, which is by far the fastest for methods
// that are short.  When a method takes long, the daemon's watchdog hands the lead to another goroutine, and the one that was leading only finishes
// that call.  Methods that were found to take long run on goroutines of their own from then on, until they are short again.
type muxServer struct {
	*serverConn
	out    combiner
	calls  sync.WaitGroup // goroutines that lead or run methods
	poller *poller        // of who leads
	next   pollNext       // of who leads
	beside atomic.Int32   // calls beside the leading goroutine, also those that it left
	room   chan struct{}  // gets a token when beside is maxCallsConn again
	bytes  budget         // of the requests of those calls
	sample uint64         // a random number for each call beside, so that any order of methods is measured; of who leads

	running atomic.Uint64 // number of the call that the leading goroutine runs; 0 if it runs none
	seen    uint64        // by the watchdog
	crowded atomic.Bool   // several requests were answered together since the watchdog looked
	done    []byte        // replies of the leading goroutine that are to be written; set before running
	current *Method       // of the call; nil if that is not known; set before running
	ended   chan struct{} // closed when nobody reads any more
	once    sync.Once
}

func newMuxServer(c *serverConn) *muxServer {
	s := &muxServer{serverConn: c, room: make(chan struct{}, 1), ended: make(chan struct{}), poller: newPoller(c.nc)}
	s.out.init(c.wire)
	return s
}

// serve returns when the connection has ended and none of its calls runs.
func (s *muxServer) serve() {
	s.d.watchdog.add(s)
	defer s.d.watchdog.remove(s) // after a panic
	s.lead(&turn{serverConn: s.serverConn}, 1)
	<-s.ended
	s.d.watchdog.remove(s) // from here on nobody takes the lead, so that calls only become fewer
	s.calls.Wait()
}

// end makes serve return once all calls have been answered, even those that wait for items which nobody takes any more.
func (s *muxServer) end() {
	s.once.Do(func() {
		close(s.ended)
		s.d.streams.leave(s.serverConn)
	})
}

// lead serves requests until the connection ends or another goroutine leads.  Calls are numbered from next on.  While it waits, it needs
// little of its stack, which the collector halves then.
func (s *muxServer) lead(t *turn, next uint64) {
	defer s.recoverBug(s.ctx)
	leads := true
	defer func() {
		if leads {
			s.end()
		}
	}()
	for goesOn := true; goesOn; {
		if s.r.Buffered() == 0 {
			if err := s.wait(); err != nil && s.isWaitedFor(err) {
				continue
			} else if err != nil {
				return
			}
		}
		next, leads, goesOn = s.serveBuffered(t, next)
	}
}

// serveBuffered serves requests as long as there are bytes that were read ahead.  It returns the number of the next call, whether the goroutine
// still leads, and whether the connection goes on.
func (s *muxServer) serveBuffered(t *turn, number uint64) (next uint64, leads, goesOn bool) {
	served, wrote := 0, 0 // requests, and those of them whose replies were written
	var m message
	var r encodedRequest
	for ; ; number++ {
		if len(t.out) > 0 && (t.large != nil || !s.hasRequest() || len(t.out) >= flushBytes) {
			if s.out.send(t.out, t.large, t.cut) != nil {
				return number, true, false
			}
			t.out, t.large = keepLarge(t.out), nil
			if s.pollsAfter(served-wrote) && !s.d.draining.Load() {
				s.r.poll(s.poller) // the next request may come soon
			}
			wrote = served
		}
		if s.r.Buffered() == 0 {
			return number, true, true
		}
		served++
		if s.next.requests++; s.next.requests >= aloneCalls {
			s.next.requests, s.next.alone, s.next.only = 0, s.isAlone(), s.isOnly()
		}
		if !s.takeAhead(&m) {
			var err error
			if m, err = s.readStarted(); err != nil {
				s.logBad(err)
				return number, true, false
			}
		}
		method := t.directMethod(&m, &r)
		known := method
		if known == nil {
			known = t.requested(&m)
		}
		if known != nil && !known.pace.isShort() {
			if !s.start(&m, &r, method, known) {
				return number, true, false
			}
			continue
		}
		// From here until running is taken back another goroutine may take the lead, and with it all that belongs to s.
		start := len(t.out)
		s.done, s.current = t.out[:start:start], known
		t.lend(s.memoryOf(m.payload))
		s.running.Store(number)
		s.d.watchdog.wake()
		goesOn := s.answer(t, &m, &r, method)
		fatal := !goesOn && len(t.out) == start // an exception ends nothing here, whatever its class
		if !s.running.CompareAndSwap(number, 0) {
			t.cut -= start
			s.finish(t, t.out[start:], fatal)
			s.left()
			return number, false, false
		}
		if t.given() {
			s.body = nil
		}
		s.trim()
		if fatal {
			s.out.send(t.out, nil, 0)
			return number, true, false
		}
	}
}

// pollNext is what decides whether the next request is polled for.
type pollNext struct {
	requests int  // since the next two were found out
	alone    bool // no other connection has made aloneCalls meanwhile
	only     bool // there was no other connection
	inRow    int  // times in a row that it was decided so after several replies
}

// maxInRow is how many times in a row the next requests of a connection that makes many calls at once are polled for: by the only one, and beside idle ones.
// While the goroutine polls, others wait for a processor and for the thread that watches the network: with a thousand idle connections their calls took
// 16 ms at p99 without a bound, 6 ms with 8, 2 ms with 1, and 1.4 ms without polling.
const maxInRow, maxInRowBeside = 8, 1

// pollsAfter reports whether the next request is to be polled for after so many replies that were written together: the client makes one call at a
// time, or nobody else calls.
func (s *muxServer) pollsAfter(replies int) bool {
	if replies == 1 {
		return true
	}
	s.crowd()
	n := &s.next
	limit := maxInRowBeside
	if n.only {
		limit = maxInRow
	}
	if !n.alone || s.beside.Load() > 0 || n.inRow >= limit {
		n.inRow = 0
		return false
	}
	n.inRow++
	return true
}

// crowd tells the watchdog that calls may wait for each other.
func (s *muxServer) crowd() {
	if !s.crowded.Load() {
		s.crowded.Store(true)
	}
}

// isWaitedFor reports whether an error is that of a client which is idle because it waits for its calls.
func (s *muxServer) isWaitedFor(err error) bool {
	return isTimeout(err) && s.beside.Load() > 0 && s.r.Buffered() == 0 && !s.d.draining.Load()
}

// answer appends the reply to a request to t.out.
func (s *muxServer) answer(t *turn, m *message, r *encodedRequest, method *Method) bool {
	if method != nil {
		return t.callDirect(m, r, method)
	}
	return t.answer(s.ctx, *m)
}

// finish sends the reply of a call beside the leading goroutine.
func (s *muxServer) finish(t *turn, reply []byte, fatal bool) {
	if len(reply) > 0 && s.out.sendWith(reply, t.large, t.cut, s.beside.Load() > 1) != nil || fatal {
		s.end()
		s.nc.Close()
	}
}

// left is called when a call beside the leading goroutine has ended.
func (s *muxServer) left() {
	if s.beside.Add(-1) == maxCallsConn {
		select {
		case s.room <- struct{}{}:
		default:
		}
	}
}

// awaitRoom waits until there are no more than maxCallsConn calls, with the one that is about to begin; false means that the connection has ended.
func (s *muxServer) awaitRoom() bool {
	for s.beside.Load() > maxCallsConn {
		select {
		case <-s.room:
		case <-s.ctx.Done():
			return false
		}
	}
	return true
}

// takeOver has another goroutine lead while the one that led runs a call that takes long.
func (s *muxServer) takeOver(number uint64) {
	if !s.running.CompareAndSwap(number, 0) {
		return
	}
	if s.current != nil {
		s.current.pace.tookLong()
	}
	// The call may still read what it was sent: that memory is left to it.
	s.r, s.body = s.r.split(), nil
	t := &turn{serverConn: s.serverConn, out: append([]byte(nil), s.done...)}
	s.beside.Add(1) // the call
	s.calls.Go(func() { s.lead(t, number+1) })
}

// requested returns the method of a request that is not run without boxing; nil if that is not simple to tell.
func (c *turn) requested(m *message) *Method {
	if m.typ != msgInvoke || m.serializer != msgpackID || m.flags&flagBatch != 0 {
		return nil
	}
	object, method, n := scanTarget(m.payload)
	if n == 0 {
		return nil
	}
	if o := c.lookup(object); o != nil {
		return o.methods[string(method)]
	}
	return nil
}

// job is a call on a goroutine of its own.  It needs little of that one's stack, which need not grow then.
type job struct {
	turn
	s       *muxServer
	request []byte // memory of the message
	message message
	known   *Method
	direct  *Method // known, if it can be run without boxing
	args    encodedRequest
	timed   bool   // for the method's pace
	work    func() // run, allocated once
}

var jobs sync.Pool

// start runs a call of a known method on a goroutine of its own, without boxing if direct is that method; false means that the connection has ended.
func (s *muxServer) start(m *message, r *encodedRequest, direct, known *Method) bool {
	if s.beside.Add(1) > maxCallsConn && !s.awaitRoom() {
		s.left()
		return false
	}
	s.bytes.take(len(m.annotations)+len(m.payload), s.d.opts.MaxMessageBytes)
	j, ok := jobs.Get().(*job)
	if !ok {
		j = new(job)
		j.work = j.run
	}
	j.s, j.serverConn = s, s.serverConn
	j.message, j.args, j.direct, j.known = *m, *r, direct, known
	if s.holds(m.payload) { // a large one goes with its memory
		j.request, s.body = s.body, nil
		j.lend(j.request)
	} else {
		j.request = append(append(j.request[:0], m.annotations...), m.payload...)
		j.message.annotations, j.message.payload = j.request[:len(m.annotations)], j.request[len(m.annotations):]
		if direct != nil {
			from := cap(m.payload) - cap(r.args) // one is a part of the other
			j.args.args = j.message.payload[from : from+len(r.args)]
		}
	}
	s.sample = s.sample*6364136223846793005 + 1442695040888963407 // Knuth, The Art of Computer Programming 2, 3.3.4
	j.timed = s.sample>>32%timedCalls == 0
	s.calls.Add(1)
	go j.work()
	return true
}

func (j *job) run() {
	s := j.s
	defer j.release()
	defer s.recoverBug(s.ctx)
	var began instant
	if j.timed {
		began = now()
	}
	goesOn := s.answer(&j.turn, &j.message, &j.args, j.direct)
	if j.timed {
		j.known.pace.took(time.Duration(now() - began))
	}
	s.finish(&j.turn, j.out, !goesOn && len(j.out) == 0)
}

// release is called when the call has ended, even with a bug's panic.
func (j *job) release() {
	s := j.s
	s.bytes.give(len(j.message.annotations) + len(j.message.payload))
	s.left()
	if j.given() {
		j.request = nil
	}
	out, request, work, calls, ids := keepLarge(j.out), keepLarge(j.request), j.work, j.calls, j.ids
	*j = job{}
	j.out, j.request, j.work, j.calls, j.ids = out, request, work, calls, ids
	jobs.Put(j)
	s.calls.Done()
}

// budget bounds the memory for requests that wait for their methods: together they have no more than one alone may have.
type budget struct {
	used atomic.Int64

	mu      sync.Mutex
	gave    sync.Cond
	waiting atomic.Bool
}

// take waits until there is room for n bytes.  One goroutine at a time does.
func (b *budget) take(n, limit int) {
	if b.tryTake(n, limit) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gave.L = &b.mu
	b.waiting.Store(true)
	for !b.tryTake(n, limit) {
		b.gave.Wait()
	}
	b.waiting.Store(false)
}

func (b *budget) tryTake(n, limit int) bool {
	used := b.used.Add(int64(n))
	if used > int64(n) && used > int64(limit) {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) {
	b.used.Add(-int64(n))
	if b.waiting.Load() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.gave.Signal()
	}
}

// pace says whether a method is short enough to be run by the goroutine that reads requests.
type pace struct{ calls atomic.Int32 } // that were measured as short since the last one that took long, less calmCalls; not negative: the method is short

const (
	shortCall  = 100 * time.Microsecond
	calmCalls  = 64
	timedCalls = 4 // of so many calls beside the leading goroutine one is measured, since looking at the clock takes a part of a short call
)

func (p *pace) isShort() bool { return p.calls.Load() >= 0 }

// tookLong is what the watchdog found.
func (p *pace) tookLong() { p.calls.Store(-calmCalls) }

// took is what was measured.
func (p *pace) took(d time.Duration) {
	if d > shortCall {
		p.tookLong()
	} else {
		p.calls.Add(1)
	}
}

// watchdog finds calls that keep the goroutine that leads a connection from reading the next request.  It runs as long as there are calls.
type watchdog struct {
	running *sync.WaitGroup // of the daemon
	active  atomic.Bool

	mu    sync.Mutex
	conns map[*muxServer]struct{}
}

const (
	watchInterval = time.Millisecond
	calmInterval  = 10 * time.Millisecond // while clients make one call at a time: a timer that is about to fire costs each of their calls a few µs
	watchIdle     = 20                    // intervals without a call, after which it stops
)

func (w *watchdog) add(s *muxServer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns == nil {
		w.conns = make(map[*muxServer]struct{})
	}
	w.conns[s] = struct{}{}
}

func (w *watchdog) remove(s *muxServer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, s)
}

// wake makes it look at calls that began before.
func (w *watchdog) wake() {
	if !w.active.Load() && w.active.CompareAndSwap(false, true) {
		w.running.Go(w.watch) // the connection that wakes it is a part of it as well
	}
}

func (w *watchdog) watch() {
	timer := time.NewTimer(watchInterval)
	defer timer.Stop()
	for idle := 0; ; {
		<-timer.C
		calls, crowded := w.look()
		if calls || crowded {
			timer.Reset(watchInterval)
		} else {
			timer.Reset(calmInterval)
		}
		if calls {
			idle = 0
			continue
		}
		if idle++; idle < watchIdle && w.hasConns() {
			continue
		}
		w.active.Store(false)
		// A call that began before it could see that is seen here.
		if !w.anyRuns() || !w.active.CompareAndSwap(false, true) {
			return
		}
	}
}

// look takes the lead from goroutines whose call was there the last time, too.  It reports whether there are calls,
// and whether some may wait for others.
func (w *watchdog) look() (calls, crowded bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.conns {
		if s.crowded.Load() {
			s.crowded.Store(false)
			crowded = true
		}
		number := s.running.Load()
		switch {
		case number == 0:
			continue
		case number == s.seen:
			s.takeOver(number)
		}
		s.seen = number
		calls = true
	}
	return calls, crowded
}

func (w *watchdog) hasConns() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns) > 0
}

func (w *watchdog) anyRuns() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.conns {
		if s.running.Load() != 0 {
			return true
		}
	}
	return false
}

// split returns a buffer with what was read ahead; the old one keeps its memory.
func (rb *readBuffer) split() *readBuffer {
	next := &readBuffer{src: rb.src, b: make([]byte, len(rb.b))}
	next.w = copy(next.b, rb.b[rb.r:rb.w])
	return next
}

// announceDrain tells the client that the daemon shuts down.
func (s *muxServer) announceDrain() {
	notice, err := appendMessage(nil, header{typ: msgResult, serializer: msgpackID, seq: drainSeq}, Annotations{annotationDrain: nil}, nil)
	if err == nil {
		s.out.send(notice, nil, 0) // a client that is gone need not know
	}
}
