// Package ledger finds out what became of calls: which ran twice, which were acknowledged and never ran, which ran although they were
// reported as not executed.
//
// Each call of a run has an [ID], which travels as its correlation id.  The servant writes it to a file before it runs the call
// ([Writer]; a file is what survives kill -9 of its writer), the caller notes how the call ended ([Journal]).  [Journal.Judge] compares
// the two.  It is the only way to see a double execution: neither side alone can.
package ledger

import (
	"io"
	"iter"
)

// ID identifies a call: the run (8 bytes), the caller (4) and the number of its call, from 0 (4), all big-endian.  A retry of a call has
// the same ID.
type ID [16]byte

// NewID returns the ID of a call.
func NewID(run uint64, caller, call uint32) ID { panic("stub") }

// Writer appends the ids of calls to a file.  It is safe for concurrent use, also by several processes with the same file.
//
// The file is a header of 16 bytes, "pyro-ledger v1\n\x00", and 16 bytes for each call, in the order in which they began.
// Nothing is buffered: a call that was appended stays in the file when the process is killed.
type Writer struct{}

// Create opens the ledger of that path for appending, and makes it if it does not exist.  A file that is no ledger is an error.
// A record that was cut short (a full disk) is cut off.
func Create(path string) (*Writer, error) { panic("stub") }

// Append adds one call.
func (w *Writer) Append(id ID) error { panic("stub") }

// Close closes the file.
func (w *Writer) Close() error { panic("stub") }

// Read yields the ids in a ledger in their order.  An error ends it: the header is not that of a ledger, the last record is cut short
// (io.ErrUnexpectedEOF), or r failed.
func Read(r io.Reader) iter.Seq2[ID, error] { panic("stub") }

// Fate is how a call ended, as its caller sees it.
type Fate uint8

// The fates of a call.
const (
	Unsent      Fate = iota // the call was never begun
	Acked                   // a reply came, be it an exception that the method raised
	Sent                    // oneway: it was written, and nobody will answer
	NotExecuted             // it failed, and surely did not run
	Unknown                 // it failed, and may have run
)

// Journal notes the fate of each call of one run, in a few bits of memory for each.  Different callers may note at the same time.
type Journal struct{}

// NewJournal returns an empty journal for that many callers.
func NewJournal(run uint64, callers int) *Journal { panic("stub") }

// Run is the number in the ids of this run.
func (j *Journal) Run() uint64 { panic("stub") }

// Note records the fate of the call id, which is one of this run.
func (j *Journal) Note(id ID, f Fate) { panic("stub") }

// Verdict is the result of a comparison.  All are numbers of calls.
type Verdict struct {
	Calls   int64 `json:"calls"`   // begun by the callers
	Ran     int64 `json:"ran"`     // found in a ledger, at least once
	Twice   int64 `json:"twice"`   // ran more than once
	Lost    int64 `json:"lost"`    // acknowledged, and never ran
	Phantom int64 `json:"phantom"` // reported as not executed, and ran
	Unknown int64 `json:"unknown"` // failed with an unknown outcome; UnknownRan of them ran
	// UnknownRan and OnewayLost tell what became of the calls for which nothing was promised.
	UnknownRan int64 `json:"unknown_ran"`
	OnewayLost int64 `json:"oneway_lost"` // written, and never ran
	Strangers  int64 `json:"strangers"`   // ids of this run in a ledger that no caller used
	// Examples are some of the calls that count as Twice, Lost, Phantom or Strangers, as text: "twice: caller 3, call 17".
	Examples []string `json:"examples,omitempty"`
}

// Judge compares the journal with the ledgers of all servants; ids of other runs are passed over.  An error of a ledger is returned,
// with what was found so far.  All callers have ended.
func (j *Journal) Judge(ledgers ...iter.Seq2[ID, error]) (Verdict, error) { panic("stub") }
