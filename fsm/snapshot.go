package fsm

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
)

// A snapshot:
//
//	7 bytes   snapshotMagic
//	1 byte    snapshotVersion
//	records   each its length (uvarint) and that many bytes of msgpack, an array of fields:
//	          the head, with the number of entries, groups, nodes and sessions; then those, in this order and each kind
//	          in the order of its keys; a group is followed by its members and a session by its results; since version 2
//	          then the number and the version of subscribers, and those
//	4 bytes   CRC-32C of all bytes before, big endian
const (
	snapshotMagic   = "pyrofsm"
	snapshotVersion = 2 // 1 can be read
)

type head struct {
	index, revision uint64
	clusterID       string
	time            int64
	tickets         uint64

	entries, groups, nodes, sessions uint64
}

func codeHead(c coder, h *head) {
	c.fields(9)
	c.uint(&h.index)
	c.uint(&h.revision)
	c.str(&h.clusterID)
	c.int(&h.time)
	c.uint(&h.tickets)
	c.uint(&h.entries)
	c.uint(&h.groups)
	c.uint(&h.nodes)
	c.uint(&h.sessions)
}

func codeEntry(c coder, e *Entry) {
	c.fields(5)
	c.str(&e.Name)
	c.str(&e.URI)
	c.strs(&e.Tags)
	c.uint(&e.Created)
	c.uint(&e.Modified)
}

// groupRecord is a group without its members but with their number.
type groupRecord struct {
	Group
	members uint64
}

func codeGroup(c coder, g *groupRecord) {
	c.fields(5)
	c.str(&g.Name)
	c.strs(&g.Tags)
	c.uint(&g.Created)
	c.uint(&g.Version)
	c.uint(&g.members)
}

func codeMember(c coder, m *Member) {
	c.fields(9)
	c.str(&m.ID)
	c.str(&m.URI)
	c.str(&m.Zone)
	codeInt(c, &m.Weight)
	c.bool(&m.ByTag)
	codeHealth(c, &m.Health)
	c.str(&m.Reason)
	c.int(&m.Since)
	c.uint(&m.Joined)
}

func codeNode(c coder, n *Node) {
	c.fields(6)
	codeAddresses(c, n)
	c.bool(&n.Removed)
}

type subscribersHead struct{ count, version uint64 }

func codeSubscribersHead(c coder, h *subscribersHead) {
	c.fields(2)
	c.uint(&h.count)
	c.uint(&h.version)
}

// sessionRecord is a session without its results but with their number.
type sessionRecord struct {
	session
	id    string
	count uint64
}

func codeSession(c coder, s *sessionRecord) {
	c.fields(5)
	c.str(&s.id)
	c.uint(&s.floor)
	c.uint(&s.queued)
	c.int(&s.used)
	c.uint(&s.count)
}

type resultRecord struct {
	sequence uint64
	Result
}

func codeResult(c coder, r *resultRecord) {
	c.fields(5)
	c.uint(&r.sequence)
	c.byte((*uint8)(&r.Code))
	codeInt(c, &r.Count)
	c.uint(&r.Revision)
	c.str(&r.Text)
}

// Persist writes a snapshot, record by record.  The bytes are a function of the state alone.  Safe for concurrent use.
func (v *View) Persist(w io.Writer) error {
	sw := &snapshotWriter{w: bufio.NewWriter(w), sum: crc32.New(castagnoli), enc: newEncoder()}
	sw.write([]byte(snapshotMagic))
	sw.write([]byte{snapshotVersion})
	put(sw, codeHead, &head{
		index: v.index, revision: v.revision, clusterID: v.clusterID, time: v.time, tickets: v.sessions.tickets,
		entries: uint64(v.entries.len()), groups: uint64(v.groups.len()),
		nodes: uint64(v.nodes.len()), sessions: uint64(v.sessions.byID.len()),
	})
	for _, e := range v.entries.all() {
		put(sw, codeEntry, e)
	}
	for _, g := range v.groups.all() {
		put(sw, codeGroup, &groupRecord{*g, uint64(len(g.Members))})
		for i := range g.Members {
			put(sw, codeMember, &g.Members[i])
		}
	}
	for _, n := range v.nodes.all() {
		put(sw, codeNode, n)
	}
	for id, s := range v.sessions.byID.all() {
		put(sw, codeSession, &sessionRecord{*s, id, uint64(s.results.len())})
		for sequence, r := range s.results.all() {
			put(sw, codeResult, &resultRecord{sequence, r})
		}
	}
	put(sw, codeSubscribersHead, &subscribersHead{uint64(v.subscribers.len()), v.subscribersVersion})
	for _, s := range v.subscribers.all() {
		put(sw, codeSubscriber, s)
	}
	return sw.finish()
}

// snapshotWriter does nothing after its first error.
type snapshotWriter struct {
	w   *bufio.Writer
	sum hash.Hash32
	enc *encoder
	err error
}

func (sw *snapshotWriter) write(p []byte) {
	if sw.err == nil {
		sw.sum.Write(p)
		_, sw.err = sw.w.Write(p)
	}
}

// put writes one record.
func put[T any](sw *snapshotWriter, code func(coder, *T), record *T) {
	if sw.err != nil {
		return
	}
	sw.enc.buf.Reset()
	code(sw.enc, record)
	if sw.err = sw.enc.err; sw.err == nil {
		var length [binary.MaxVarintLen64]byte
		sw.write(length[:binary.PutUvarint(length[:], uint64(sw.enc.buf.Len()))])
		sw.write(sw.enc.buf.Bytes())
	}
}

func (sw *snapshotWriter) finish() error {
	sw.write(sw.sum.Sum(nil))
	if sw.err == nil {
		sw.err = sw.w.Flush()
	}
	if sw.err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", sw.err)
	}
	return nil
}

// Restore replaces the state by a snapshot that [View.Persist] wrote, once all of it is read and found right.  On error ([ErrCorrupt],
// [ErrUnknownCommand] if the snapshot is of a newer version, or that of the reader) the state is unchanged.  Memory is taken for what r
// gives, not for what it claims.
func (s *State) Restore(r io.Reader) error {
	sr := &snapshotReader{r: bufio.NewReader(r), sum: crc32.New(castagnoli), dec: newDecoder(nil)}
	v := sr.view()
	sr.finish()
	if sr.err != nil {
		return fmt.Errorf("fsm: read snapshot: byte %d: %w", sr.offset, sr.err)
	}
	s.view.Store(v)
	if s.observer != nil {
		s.observer([]Change{{Kind: ChangeRestored, Revision: v.revision, Time: v.time}})
	}
	return nil
}

// snapshotReader does nothing after its first error.
type snapshotReader struct {
	r      *bufio.Reader
	sum    hash.Hash32
	offset int64
	record bytes.Buffer
	dec    *decoder
	err    error
}

func (sr *snapshotReader) fail(err error) {
	if sr.err == nil {
		sr.err = err
	}
}

func (sr *snapshotReader) corrupt(format string, args ...any) {
	sr.fail(fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrCorrupt))
}

func (sr *snapshotReader) view() *View {
	version := sr.readStart()
	var h head
	get(sr, codeHead, &h)
	v := &View{index: h.index, revision: h.revision, clusterID: h.clusterID, time: h.time}
	v.entries = readTree(sr, h.entries, sr.entry)
	v.groups = readTree(sr, h.groups, sr.group)
	v.nodes = readTree(sr, h.nodes, sr.node)
	v.sessions.byID = readTree(sr, h.sessions, sr.session)
	v.sessions.tickets = h.tickets
	sr.index(&v.sessions)
	if version >= 2 {
		var subs subscribersHead
		get(sr, codeSubscribersHead, &subs)
		v.subscribers = readTree(sr, subs.count, sr.subscriber)
		v.subscribersVersion = subs.version
	}
	for name := range v.groups.all() {
		if _, ok := v.entries.get(name); ok {
			sr.corrupt("%q is an entry and a group", name)
		}
	}
	return v
}

func (sr *snapshotReader) entry() (string, *Entry) {
	var e Entry
	get(sr, codeEntry, &e)
	return e.Name, &e
}

func (sr *snapshotReader) group() (string, *Group) {
	var g groupRecord
	get(sr, codeGroup, &g)
	for range g.members {
		var m Member
		if get(sr, codeMember, &m); sr.err != nil {
			break
		}
		if n := len(g.Members); n > 0 && g.Members[n-1].ID >= m.ID {
			sr.corrupt("group %q: member %q after %q", g.Name, m.ID, g.Members[n-1].ID)
			break
		}
		g.Members = append(g.Members, m)
	}
	if len(g.Members) == 0 {
		sr.corrupt("group %q has no member", g.Name)
	}
	g.Members = slices.Clip(g.Members)
	return g.Name, &g.Group
}

func (sr *snapshotReader) node() (string, *Node) {
	var n Node
	get(sr, codeNode, &n)
	return n.ID, &n
}

func (sr *snapshotReader) subscriber() (string, *Subscriber) {
	var s Subscriber
	get(sr, codeSubscriber, &s)
	return s.URI, &s
}

func (sr *snapshotReader) session() (string, *session) {
	var s sessionRecord
	get(sr, codeSession, &s)
	s.results = readTree(sr, s.count, func() (uint64, Result) {
		var r resultRecord
		get(sr, codeResult, &r)
		return r.sequence, r.Result
	})
	return s.id, &s.session
}

// index makes what sessions know beside their ids.
func (sr *snapshotReader) index(s *sessions) {
	var queue []pair[uint64, string]
	for id, p := range s.byID.all() {
		queue = append(queue, pair[uint64, string]{p.queued, id})
		s.results += p.results.len()
	}
	slices.SortFunc(queue, func(a, b pair[uint64, string]) int { return cmp.Compare(a.key, b.key) })
	for i, p := range queue {
		if p.key == 0 || p.key > s.tickets || i > 0 && p.key == queue[i-1].key {
			sr.corrupt("session %q has ticket %d of %d", p.value, p.key, s.tickets)
		}
	}
	s.queue = treeOf(queue)
}

// readTree reads n records in the order of their keys.
func readTree[K cmp.Ordered, V any](sr *snapshotReader, n uint64, read func() (K, V)) tree[K, V] {
	var pairs []pair[K, V]
	for range n {
		key, value := read()
		if sr.err != nil {
			break
		}
		if len(pairs) > 0 && pairs[len(pairs)-1].key >= key {
			sr.corrupt("key %#v after %#v", key, pairs[len(pairs)-1].key)
			break
		}
		pairs = append(pairs, pair[K, V]{key, value})
	}
	return treeOf(pairs)
}

// readStart returns the snapshot's version.
func (sr *snapshotReader) readStart() (version byte) {
	start := sr.read(uint64(len(snapshotMagic) + 1))
	if sr.err != nil {
		return 0
	}
	version = start[len(snapshotMagic)]
	if magic := start[:len(snapshotMagic)]; string(magic) != snapshotMagic {
		sr.corrupt("begins with %q, want %q", magic, snapshotMagic)
	} else if version < 1 || version > snapshotVersion {
		sr.fail(fmt.Errorf("version %d, want 1 to %d: %w", version, snapshotVersion, ErrUnknownCommand))
	}
	return version
}

// get reads one record.
func get[T any](sr *snapshotReader, code func(coder, *T), record *T) {
	sr.dec.reset(sr.read(sr.length()))
	if sr.err != nil {
		return
	}
	code(sr.dec, record)
	if sr.dec.finish(); sr.dec.err != nil {
		// Before the checksum at the end is seen everything strange is taken for damage.
		sr.corrupt("record of %d bytes: %v", sr.record.Len(), sr.dec.err)
	}
}

// read returns the next n bytes; they are valid until the next read.
func (sr *snapshotReader) read(n uint64) []byte {
	if sr.err != nil {
		return nil
	}
	sr.record.Reset()
	if n > maxRecordBytes {
		sr.corrupt("record of %d bytes, want at most %d", n, maxRecordBytes)
		return nil
	}
	got, err := io.CopyN(&sr.record, sr.r, int64(n)) // grows with what comes
	sr.sum.Write(sr.record.Bytes())
	sr.offset += got
	if err != nil {
		sr.failRead(err)
		return nil
	}
	return sr.record.Bytes()
}

// maxRecordBytes only keeps lengths within an int64; memory is bounded by what is read.
const maxRecordBytes = 1 << 40

func (sr *snapshotReader) length() uint64 {
	if sr.err != nil {
		return 0
	}
	var raw [binary.MaxVarintLen64]byte
	for i := range raw {
		b, err := sr.r.ReadByte()
		if err != nil {
			sr.failRead(err)
			return 0
		}
		sr.offset++
		if raw[i] = b; b < 0x80 {
			sr.sum.Write(raw[:i+1])
			n, used := binary.Uvarint(raw[:i+1])
			if used <= 0 {
				break
			}
			return n
		}
	}
	sr.corrupt("impossible length of a record")
	return 0
}

// failRead tells a snapshot that ends too early from a reader that fails.
func (sr *snapshotReader) failRead(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		sr.corrupt("ends too early")
		return
	}
	sr.fail(err)
}

// finish checks the sum and that nothing comes after it.
func (sr *snapshotReader) finish() {
	want := sr.sum.Sum32()
	trailer := sr.read(crcBytes)
	if sr.err != nil {
		return
	}
	if got := binary.BigEndian.Uint32(trailer); got != want {
		sr.corrupt("checksum %08x, want %08x", got, want)
		return
	}
	if _, err := sr.r.ReadByte(); err == nil {
		sr.corrupt("more bytes after the checksum")
	} else if err != io.EOF {
		sr.fail(err)
	}
}
