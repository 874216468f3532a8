package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// ObjectID is the id and the name of the event server.
const ObjectID = "Pyro.EventService"

// MaxEventBytes bounds the encoded message of an event.
const MaxEventBytes = 128 << 10

// batchBytes is how many bytes of events, and one event more, go into a message: as many as the connections' buffers keep room for between two
// messages.
const batchBytes = 60 << 10

// maxTopicBytes bounds a topic, and the text of a pattern.
const maxTopicBytes = 255

// publisherID names who numbers events: a [Client], or a node for publishers that do not number theirs.
type publisherID [16]byte

// Event is what a subscriber gets.
type Event struct {
	// Topic is the one that it was published to, as the publisher wrote it.
	Topic string
	// Time is when the node got it from its publisher, by that node's clock; events of one call have the same.
	Time time.Time

	publisher  publisherID
	sequence   uint64 // of the publisher's events
	serializer uint8
	payload    []byte // the message, encoded; shared with other events, never changed
}

// Decode stores the message in out, as [core.Convert] does.  Bytes go into the memory that a *[]byte has already, if there is enough of it.
func (e *Event) Decode(out any) error {
	if b, ok := out.(*[]byte); ok && e.serializer == msgpackID {
		if raw, ok := msgpackBin(e.payload); ok {
			*b = append((*b)[:0], raw...)
			return nil
		}
	}
	v, err := e.Message()
	if err != nil {
		return err
	}
	return core.Convert(out, v)
}

// Message returns the message as the value that core decodes: int64, string, map[string]any and so on.
func (e *Event) Message() (any, error) {
	s, ok := core.SerializerByID(e.serializer)
	if !ok {
		return nil, fmt.Errorf("events: message in unknown serializer %d", e.serializer)
	}
	v, err := s.ParseValue(e.payload)
	if err != nil {
		return nil, fmt.Errorf("events: message of topic %q: %w", e.Topic, err)
	}
	return v, nil
}

// The serializers' numbers on the wire.
const msgpackID = 4

// msgpackBin returns the bytes of a msgpack value that is nothing but bytes.
func msgpackBin(b []byte) ([]byte, bool) {
	if len(b) < 2 || b[0] < 0xc4 || b[0] > 0xc6 {
		return nil, false
	}
	width := 1 << (b[0] - 0xc4)
	if len(b) < 1+width {
		return nil, false
	}
	var n uint64
	for _, x := range b[1 : 1+width] {
		n = n<<8 | uint64(x)
	}
	if body := b[1+width:]; uint64(len(body)) == n {
		return body, true
	}
	return nil, false
}

// An event on the wire, between clients and nodes and among nodes:
//
//	16 bytes  publisher
//	uvarint   sequence
//	varint    time, nanoseconds since 1970
//	string    topic: uvarint length, bytes
//	1 byte    serializer of the message
//	bytes     message: uvarint length, bytes
func (e *Event) append(b []byte) []byte {
	b = binary.AppendUvarint(e.appendHead(b), uint64(len(e.payload)))
	return append(b, e.payload...)
}

// appendHead is append up to the message.
func (e *Event) appendHead(b []byte) []byte {
	b = append(b, e.publisher[:]...)
	b = binary.AppendUvarint(b, e.sequence)
	b = binary.AppendVarint(b, e.Time.UnixNano())
	b = binary.AppendUvarint(b, uint64(len(e.Topic)))
	b = append(b, e.Topic...)
	return append(b, e.serializer)
}

// appendBin appends p as a message of msgpack, with its length, without the way through the serializer.
func appendBin(b, p []byte) []byte {
	var head [5]byte
	h := head[:0]
	switch n := len(p); {
	case n <= 0xff:
		h = append(h, 0xc4, byte(n))
	case n <= 0xffff:
		h = binary.BigEndian.AppendUint16(append(h, 0xc5), uint16(n))
	default:
		h = binary.BigEndian.AppendUint32(append(h, 0xc6), uint32(n))
	}
	b = binary.AppendUvarint(b, uint64(len(h)+len(p)))
	return append(append(b, h...), p...)
}

// errMalformed is bytes that are no event, or no batch.
var errMalformed = errors.New("events: malformed message")

// reader takes apart what append functions wrote; after the first error all values are zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() { r.b, r.err = nil, errMalformed }

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes returns a part of what is read, not a copy.
func (r *reader) bytes(limit int) []byte {
	n := r.uint()
	if n > uint64(limit) {
		r.fail()
		return nil
	}
	return r.take(n)
}

func (r *reader) string(limit int) string { return string(r.bytes(limit)) }

func (r *reader) publisher() (id publisherID) {
	copy(id[:], r.take(uint64(len(id))))
	return id
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail()
	}
	return r.err
}

// event reads what append wrote; the payload is a part of what is read.
func (r *reader) event() Event {
	e := Event{publisher: r.publisher(), sequence: r.uint()}
	e.Time = time.Unix(0, r.int())
	e.Topic = r.string(maxTopicBytes)
	e.serializer = r.byte()
	e.payload = r.bytes(MaxEventBytes)
	return e
}

// A batch is what a client reads from its stream:
//
//	1 byte   batchVersion
//	1 byte   batchStatus
//	uvarint  events lost before these, as far as the node knows
//	string   why the stream ended, empty while it goes on
//	         runs
//
// A run is events that have all in common but their messages, and whose numbers follow each other, as those of one call mostly do:
//
//	16 bytes publisher
//	uvarint  sequence of the first
//	varint   time, nanoseconds since 1970
//	string   topic: uvarint length, bytes
//	1 byte   serializer of the messages
//	uvarint  count of events, at least 1, and so many of: uvarint length, bytes
const batchVersion = 1

// batchStatus says how a stream goes on.
type batchStatus uint8

const (
	streamOpen   batchStatus = 0
	streamGone   batchStatus = 1 // the node does not have it, or ends: subscribe anew, elsewhere
	streamCut    batchStatus = 2 // ended by the policy Disconnect
	maxEndReason             = 200
)

func appendBatchHeader(b []byte, status batchStatus, lost uint64, reason string) []byte {
	b = append(b, batchVersion, byte(status))
	b = binary.AppendUvarint(b, lost)
	reason = reason[:min(len(reason), maxEndReason)]
	b = binary.AppendUvarint(b, uint64(len(reason)))
	return append(b, reason...)
}

// appendRuns appends events to a batch.
func appendRuns(b []byte, events []*routed) []byte {
	for len(events) > 0 {
		n := runLength(events)
		b = binary.AppendUvarint(events[0].appendHead(b), uint64(n))
		for _, e := range events[:n] {
			b = binary.AppendUvarint(b, uint64(len(e.payload)))
			b = append(b, e.payload...)
		}
		events = events[n:]
	}
	return b
}

// runLength is how many of the first events make a run.
func runLength(events []*routed) int {
	first := events[0]
	for i, e := range events {
		if e.sequence != first.sequence+uint64(i) || e.publisher != first.publisher || e.Time != first.Time || e.Topic != first.Topic || e.serializer != first.serializer {
			return i
		}
	}
	return len(events)
}

// batch is a batch whose events are still to be read.
type batch struct {
	status batchStatus
	lost   uint64
	reason string

	runs []byte
	at   int    // of runs, where the next message or run begins
	left uint64 // events of the run that are still to be read
	like Event  // the next of them, without its message
}

func parseBatch(b []byte) (batch, error) {
	r := reader{b: b}
	if v := r.byte(); v != batchVersion && r.err == nil {
		return batch{}, fmt.Errorf("%w: version %d", errMalformed, v)
	}
	out := batch{status: batchStatus(r.byte()), lost: r.uint(), reason: r.string(maxEndReason)}
	out.runs = r.b
	return out, r.err
}

// isEmpty reports whether there are no events in it, or no more.
func (b *batch) isEmpty() bool { return b.at == len(b.runs) }

// next returns the next event; its payload is a part of what was parsed.  After an error the batch is empty.
func (b *batch) next() (Event, error) {
	if b.left == 0 {
		if err := b.nextRun(); err != nil {
			return Event{}, err
		}
	}
	n, width := binary.Uvarint(b.runs[b.at:])
	start := b.at + width
	if width <= 0 || n > MaxEventBytes || n > uint64(len(b.runs)-start) || b.left > 1 && start+int(n) == len(b.runs) {
		return Event{}, b.malformed()
	}
	e := b.like
	b.like.sequence++
	b.left--
	b.at = start + int(n)
	e.payload = b.runs[start:b.at:b.at]
	return e, nil
}

func (b *batch) nextRun() error {
	r := reader{b: b.runs[b.at:]}
	e := Event{publisher: r.publisher(), sequence: r.uint()}
	e.Time = time.Unix(0, r.int())
	if raw := r.bytes(maxTopicBytes); string(raw) == b.like.Topic { // which saves its memory
		e.Topic = b.like.Topic
	} else {
		e.Topic = string(raw)
	}
	e.serializer = r.byte()
	b.left = r.uint()
	if r.err != nil || b.left == 0 {
		return b.malformed()
	}
	b.like, b.at = e, len(b.runs)-len(r.b)
	return nil
}

func (b *batch) malformed() error {
	b.at, b.left = len(b.runs), 0
	return errMalformed
}
