// Package ledger finds out what became of calls: which ran twice, which were acknowledged and never ran, which ran although they were
// reported as not executed.
//
// Each call of a run has an [ID], which travels as its correlation id.  The servant writes it to a file before it runs the call
// ([Writer]; a file is what survives kill -9 of its writer), the caller notes how the call ended ([Journal]).  [Journal.Judge] compares
// the two.  It is the only way to see a double execution: neither side alone can.
package ledger

import "encoding/binary"

// ID identifies a call: the run (8 bytes), the caller (4) and the number of its call, from 0 (4), all big-endian.  A retry of a call has
// the same ID.
type ID [16]byte

// NewID returns the ID of a call.
func NewID(run uint64, caller, call uint32) (id ID) {
	binary.BigEndian.PutUint64(id[:8], run)
	binary.BigEndian.PutUint32(id[8:12], caller)
	binary.BigEndian.PutUint32(id[12:], call)
	return id
}

// Run is the number of the run.
func (id ID) Run() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// Caller is the number of the caller, from 0.
func (id ID) Caller() uint32 { return binary.BigEndian.Uint32(id[8:12]) }

// Call is the number of the caller's call, from 0.
func (id ID) Call() uint32 { return binary.BigEndian.Uint32(id[12:]) }
