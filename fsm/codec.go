package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/vmihailenco/msgpack/v5"
)

// A log entry:
//
//	1 byte   entryVersion
//	msgpack  array of commands, each an array of its kind and an array of the fields that its kind uses
//	4 bytes  CRC-32C of all bytes before, big endian: at the end in every version, so that damage and a newer version
//	         can be told apart
const entryVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const crcBytes = 4

// EncodeEntry packs commands into one log entry: version, commands, and a CRC-32C over all of it.  Only the fields that a command's
// kind uses are packed.  There must be at least one command; an error that wraps [ErrUnknownCommand] says that DecodeEntry would not take it.
//
// A KindRemoveMatching is packed, so that a follower can send it to the leader in this form, but [State.Apply] refuses it.
func EncodeEntry(commands []Command) ([]byte, error) {
	if len(commands) == 0 {
		return nil, errors.New("fsm: encode log entry: no command")
	}
	for i := range commands {
		if err := checkCommand(&commands[i]); err != nil {
			return nil, fmt.Errorf("fsm: encode log entry: command %d: %w", i, err)
		}
	}
	e := newEncoder()
	e.buf.WriteByte(entryVersion)
	e.array(len(commands))
	for i := range commands {
		codeCommand(e, &commands[i])
	}
	if e.err != nil {
		return nil, fmt.Errorf("fsm: encode log entry: %w", e.err)
	}
	entry := e.buf.Bytes()
	return binary.BigEndian.AppendUint32(entry, crc32.Checksum(entry, castagnoli)), nil
}

// CheckEntry compares the checksum of an entry, of any version, without decoding it.  The error is [ErrCorrupt], wrapped.
func CheckEntry(entry []byte) error {
	if len(entry) < 1+crcBytes {
		return fmt.Errorf("fsm: log entry: %d bytes, want at least %d: %w", len(entry), 1+crcBytes, ErrCorrupt)
	}
	body, trailer := entry[:len(entry)-crcBytes], entry[len(entry)-crcBytes:]
	if got, want := crc32.Checksum(body, castagnoli), binary.BigEndian.Uint32(trailer); got != want {
		return fmt.Errorf("fsm: log entry: checksum %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	return nil
}

// DecodeEntry is the inverse of EncodeEntry.  The error is [ErrCorrupt] or [ErrUnknownCommand], wrapped.  The commands share no memory
// with entry, and take no more than a small multiple of its size.
func DecodeEntry(entry []byte) ([]Command, error) {
	if err := CheckEntry(entry); err != nil {
		return nil, err
	}
	body := entry[:len(entry)-crcBytes]
	if body[0] != entryVersion {
		return nil, fmt.Errorf("fsm: log entry: version %d, want %d: %w", body[0], entryVersion, ErrUnknownCommand)
	}
	d := newDecoder(body[1:])
	n := d.array(1)
	// The slice grows with the commands that are really there, since a Command is much larger than the byte that claims one.
	var commands []Command
	for range n {
		var c Command
		codeCommand(d, &c)
		if d.err != nil {
			return nil, fmt.Errorf("fsm: log entry: command %d: %w", len(commands), d.err)
		}
		commands = append(commands, c)
	}
	if d.finish(); d.err != nil {
		return nil, fmt.Errorf("fsm: log entry: %w", d.err)
	}
	if len(commands) == 0 {
		return nil, fmt.Errorf("fsm: log entry: no command: %w", ErrCorrupt)
	}
	return commands, nil
}

// checkCommand refuses what DecodeEntry of any replica would refuse.
func checkCommand(c *Command) error {
	if c.Kind < KindInit || c.Kind > KindAssign {
		return fmt.Errorf("kind %d: %w", c.Kind, ErrUnknownCommand)
	}
	for _, v := range c.Verdicts {
		if v.Health > Suspect {
			return fmt.Errorf("health %d: %w", v.Health, ErrUnknownCommand)
		}
	}
	return nil
}

// coder reads or writes fields, so that one list of fields serves both directions.  After the first error it does nothing.
type coder interface {
	str(*string)
	strs(*[]string)
	uint(*uint64)
	byte(*uint8)
	int(*int64)
	bool(*bool)
	// fields begins an array of exactly n elements.
	fields(n int)
	// list begins an array of length elements, each of at least minBytes, and returns how many there are.
	list(length, minBytes int) int
	fail(error)
}

// headerFields are those of every command, whatever its kind.
const headerFields = 6

func codeCommand(c coder, cmd *Command) {
	c.fields(2)
	c.byte((*uint8)(&cmd.Kind))
	switch cmd.Kind {
	case KindInit:
		codeHeader(c, cmd, 1)
		c.str(&cmd.ClusterID)
	case KindRegister:
		codeHeader(c, cmd, 4)
		c.str(&cmd.Name)
		c.str(&cmd.URI)
		c.strs(&cmd.Tags)
		c.bool(&cmd.Safe)
	case KindRemove:
		codeHeader(c, cmd, 1)
		c.strs(&cmd.Names)
	case KindRemovePrefix, KindRemoveMatching:
		codeHeader(c, cmd, 1)
		c.str(&cmd.Name)
	case KindSetTags:
		codeHeader(c, cmd, 2)
		c.str(&cmd.Name)
		c.strs(&cmd.Tags)
	case KindJoin:
		codeHeader(c, cmd, 5)
		c.str(&cmd.Name)
		c.str(&cmd.Member.ID)
		c.str(&cmd.Member.URI)
		c.str(&cmd.Member.Zone)
		codeInt(c, &cmd.Member.Weight)
	case KindLeave:
		codeHeader(c, cmd, 2)
		c.str(&cmd.Name)
		c.str(&cmd.Member.ID)
	case KindHealth:
		codeHeader(c, cmd, 1)
		codeList(c, &cmd.Verdicts, 6, codeVerdict)
	case KindPutNode:
		codeHeader(c, cmd, 5)
		codeAddresses(c, &cmd.Node)
	case KindRemoveNode:
		codeHeader(c, cmd, 1)
		c.str(&cmd.Node.ID)
	case KindNoop:
		codeHeader(c, cmd, 0)
	case KindSubscribe:
		codeHeader(c, cmd, 6)
		c.str(&cmd.Subscriber.URI)
		c.str(&cmd.Subscriber.Serializer)
		c.strs(&cmd.Subscriber.Patterns)
		c.str(&cmd.Subscriber.Policy)
		codeInt(c, &cmd.Subscriber.Queue)
		c.str(&cmd.Subscriber.Owner)
	case KindUnsubscribe:
		codeHeader(c, cmd, 3)
		c.str(&cmd.Name)
		c.strs(&cmd.Names)
		c.uint(&cmd.IfModified)
	case KindAssign:
		codeHeader(c, cmd, 1)
		codeList(c, &cmd.Assignments, 4, codeAssignment)
	default:
		c.fail(fmt.Errorf("kind %d: %w", cmd.Kind, ErrUnknownCommand))
	}
}

// codeHeader begins the array of fields, of which n follow after the header.
func codeHeader(c coder, cmd *Command, n int) {
	c.fields(headerFields + n)
	c.int(&cmd.Time)
	c.str(&cmd.Session)
	c.uint(&cmd.Sequence)
	c.uint(&cmd.Floor)
	c.str(&cmd.Actor)
	c.str(&cmd.Reason)
}

func codeVerdict(c coder, v *Verdict) {
	c.fields(5)
	c.str(&v.Group)
	c.str(&v.Member)
	c.uint(&v.Joined)
	codeHealth(c, &v.Health)
	c.str(&v.Reason)
}

func codeAddresses(c coder, n *Node) {
	c.str(&n.ID)
	c.str(&n.PyroAddress)
	c.str(&n.RaftAddress)
	c.str(&n.HTTPAddress)
	c.str(&n.Version)
}

func codeHealth(c coder, h *Health) {
	if c.byte((*uint8)(h)); *h > Suspect {
		c.fail(fmt.Errorf("health %d: %w", *h, ErrUnknownCommand))
	}
}

// codeInt writes *n only when it changes: a snapshot encodes values that others read at the same time.
func codeInt(c coder, n *int) {
	v := int64(*n)
	if c.int(&v); int(v) != *n {
		*n = int(v)
	}
}

// codeList codes a list whose elements take at least minBytes each.
func codeList[T any](c coder, list *[]T, minBytes int, code func(coder, *T)) {
	n := c.list(len(*list), minBytes)
	if n != len(*list) {
		*list = make([]T, n)
	}
	for i := range *list {
		code(c, &(*list)[i])
	}
}

// encoder writes fields as msgpack.
type encoder struct {
	buf bytes.Buffer
	enc *msgpack.Encoder
	err error
}

func newEncoder() *encoder {
	e := &encoder{}
	e.enc = msgpack.NewEncoder(&e.buf)
	return e
}

func (e *encoder) fail(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) check(err error) {
	if err != nil {
		e.fail(err)
	}
}

func (e *encoder) str(s *string) {
	if uint64(len(*s)) > math.MaxUint32 {
		e.fail(fmt.Errorf("string of %d bytes", len(*s)))
		return
	}
	e.check(e.enc.EncodeString(*s))
}

func (e *encoder) array(n int)         { e.check(e.enc.EncodeArrayLen(n)) }
func (e *encoder) fields(n int)        { e.array(n) }
func (e *encoder) list(n, _ int) int   { e.array(n); return n }
func (e *encoder) uint(n *uint64)      { e.check(e.enc.EncodeUint(*n)) }
func (e *encoder) byte(n *uint8)       { e.check(e.enc.EncodeUint(uint64(*n))) }
func (e *encoder) int(n *int64)        { e.check(e.enc.EncodeInt(*n)) }
func (e *encoder) bool(b *bool)        { e.check(e.enc.EncodeBool(*b)) }
func (e *encoder) strs(list *[]string) { codeList(e, list, 1, coder.str) }

// decoder reads fields from bytes in memory.  No length is believed that is larger than what is left of them, and nothing nests
// deeper than the lists of fields above, so that neither memory nor stack depends on what the bytes claim.
type decoder struct {
	data []byte
	r    *bytes.Reader // over data
	dec  *msgpack.Decoder
	err  error
}

func newDecoder(data []byte) *decoder {
	d := &decoder{r: bytes.NewReader(nil), dec: msgpack.NewDecoder(nil)}
	d.reset(data)
	return d
}

// reset begins anew with other data; an error stays.
func (d *decoder) reset(data []byte) {
	d.data = data
	d.r.Reset(data)
	d.dec.ResetReader(d.r) // a bytes.Reader is read without a buffer in between, which str relies on
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) corrupt(format string, args ...any) {
	d.fail(fmt.Errorf("at byte %d of %d: %s: %w", len(d.data)-d.r.Len(), len(d.data), fmt.Sprintf(format, args...), ErrCorrupt))
}

// finish fails if anything is left.
func (d *decoder) finish() {
	if d.err == nil && d.r.Len() > 0 {
		d.corrupt("%d bytes left", d.r.Len())
	}
}

func (d *decoder) str(s *string) {
	if d.err != nil {
		return
	}
	n, err := d.dec.DecodeBytesLen()
	if err != nil {
		d.corrupt("%v", err)
		return
	}
	if n < 0 || n > d.r.Len() {
		d.corrupt("string of %d bytes, %d left", n, d.r.Len())
		return
	}
	at := len(d.data) - d.r.Len()
	*s = string(d.data[at : at+n])
	if _, err := d.r.Seek(int64(n), io.SeekCurrent); err != nil {
		d.fail(err)
	}
}

func (d *decoder) array(minBytes int) int {
	if d.err != nil {
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	if err != nil {
		d.corrupt("%v", err)
		return 0
	}
	if n < 0 || n > d.r.Len()/minBytes {
		d.corrupt("list of %d, %d bytes left", n, d.r.Len())
		return 0
	}
	return n
}

// fields takes another count of fields for a newer version of what it reads, not for damage: the checksum was right.
func (d *decoder) fields(want int) {
	if n := d.array(1); d.err == nil && n != want {
		d.fail(fmt.Errorf("%d fields, want %d: %w", n, want, ErrUnknownCommand))
	}
}

func (d *decoder) list(_, minBytes int) int { return d.array(minBytes) }

func (d *decoder) strs(list *[]string) { codeList(d, list, 1, coder.str) }

func (d *decoder) uint(n *uint64) { decodeTo(d, n, d.dec.DecodeUint64) }
func (d *decoder) int(n *int64)   { decodeTo(d, n, d.dec.DecodeInt64) }
func (d *decoder) bool(b *bool)   { decodeTo(d, b, d.dec.DecodeBool) }

func (d *decoder) byte(b *uint8) {
	var n uint64
	if d.uint(&n); n > math.MaxUint8 {
		d.fail(fmt.Errorf("number %d, want at most %d: %w", n, math.MaxUint8, ErrUnknownCommand))
		return
	}
	*b = uint8(n)
}

func decodeTo[T any](d *decoder, to *T, decode func() (T, error)) {
	if d.err != nil {
		return
	}
	v, err := decode()
	if err != nil {
		d.corrupt("%v", err)
		return
	}
	*to = v
}
