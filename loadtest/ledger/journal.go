package ledger

import (
	"fmt"
	"math/bits"
)

// Fate is how a call ended, as its caller sees it.
type Fate uint8

// The fates of a call.
const (
	Unsent      Fate = iota // the call was never begun
	Acked                   // a reply came, be it an exception that the method raised
	Sent                    // oneway: it was written, and nobody will answer
	NotExecuted             // it failed, and surely did not run
	Unknown                 // it failed, and may have run
	fates       = 5
)

// Journal notes the fate of each call of one run, in 4 bits of memory for each (up to 8 at times, as memory grows by doubling).
// Different callers may note at the same time; the calls of one caller are noted one after the other, in any order.
type Journal struct {
	run     uint64
	callers []calls
}

// calls are the calls of one caller.  Chunk i holds firstChunk<<i of them, two in a byte, from number firstChunk<<i - firstChunk on:
// nothing is ever copied, and a caller with few calls takes little.
type calls struct {
	chunks [][]byte
	_      [40]byte // callers that note at the same time share no line of the cache
}

const firstChunk = 128 // calls

// state is what is known of one call in 4 bits: its fate, and how often it was seen in ledgers (0, 1, or 2 for more).
type state uint8

const maxSeen = 2

func newState(f Fate, seen int) state { return state(f) + fates*state(seen) }
func (s state) fate() Fate            { return Fate(s % fates) }
func (s state) seen() int             { return int(s / fates) }

// NewJournal returns an empty journal for that many callers, whose numbers are those below.
func NewJournal(run uint64, callers int) *Journal {
	return &Journal{run: run, callers: make([]calls, callers)}
}

// Run is the number in the ids of this run.
func (j *Journal) Run() uint64 { return j.run }

// Note records the fate of the call id, and replaces what was recorded of it before.  It panics if id is not of this run and one of its
// callers, or if there is no such fate.  Callers number their calls without large gaps: memory is taken for those in between, too.
func (j *Journal) Note(id ID, f Fate) {
	if id.Run() != j.run || int64(id.Caller()) >= int64(len(j.callers)) || f >= fates {
		panic(fmt.Sprintf("ledger: note fate %d of run %#x, caller %d in the journal of run %#x with %d callers",
			f, id.Run(), id.Caller(), j.run, len(j.callers)))
	}
	c := &j.callers[id.Caller()]
	chunk, _ := place(id.Call())
	for len(c.chunks) <= chunk {
		c.chunks = append(c.chunks, make([]byte, firstChunk/2<<len(c.chunks)))
	}
	c.set(id.Call(), newState(f, 0))
}

// place returns the chunk of a call, and its place in there.
func place(call uint32) (chunk int, at uint64) {
	n := uint64(call) + firstChunk
	chunk = bits.Len64(n) - bits.Len64(firstChunk)
	return chunk, n - firstChunk<<chunk
}

// get returns what is known of a call, be it noted or not.
func (c *calls) get(call uint32) state {
	chunk, at := place(call)
	if chunk >= len(c.chunks) {
		return newState(Unsent, 0)
	}
	return state(c.chunks[chunk][at/2] >> (at % 2 * 4) & 0xf)
}

// set stores what is known of a call, whose chunk is there.
func (c *calls) set(call uint32, s state) {
	chunk, at := place(call)
	b, shift := &c.chunks[chunk][at/2], at%2*4
	*b = *b&^(0xf<<shift) | byte(s)<<shift
}

// each calls do with every call that was begun, in their order, and the state to change.
func (j *Journal) each(do func(caller, call uint32, s state) state) {
	for caller := range j.callers {
		c := &j.callers[caller]
		end := uint64(firstChunk)<<len(c.chunks) - firstChunk
		for n := range min(end, 1<<32) {
			call := uint32(n)
			if s := c.get(call); s.fate() != Unsent {
				c.set(call, do(uint32(caller), call, s))
			}
		}
	}
}
