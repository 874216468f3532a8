package core

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"io"
	"slices"
	"time"
)

// A message of protocol 48, that of Pyro4 (Pyro4 message.py), has the parts of one of protocol 502 in another form.  All integers are big-endian.
//
//	 0               4       6       8      10      12              16      18      20      22      24
//	+---------------+-------+-------+-------+-------+---------------+-------+-------+-------+-------+
//	| 'P' 'Y' 'R' 'O'|   48  | type  | flags |  seq  | payload len   |  ser  | ann.  |   0   |  sum  |
//	|               |       |       |       |       | (signed)      |       | len   |       |       |
//	+---------------+-------+-------+-------+-------+---------------+-------+-------+-------+-------+
//
// The sum is that of version, type, flags, seq, payload length, serializer and annotations length, and 0x34e9.  An annotation is
//
//	+---------------+-------+------------------+
//	| id, 4 ASCII   | length| data             |
//	+---------------+-------+------------------+
//
// The correlation id is annotation CORR.  Annotation HMAC, of programs that share a key, is the HMAC-SHA1 of the payload as it is sent and of the
// data of the other annotations in the order of their ids.
//
// Here all that is read and written is translated from and to protocol 502, so that the rest of the package knows only that one.
const (
	header48Bytes   = 24
	version48       = 48
	checksum48      = 0x34e9
	max48Annotation = 1<<16 - 1 // bytes of one, and of all

	annotationCorrelation = "CORR"
	annotationHMAC        = "HMAC"
)

// The flags of protocol 48 that are other bits than those of 502.
const (
	flag48Meta           = 0x10 // on CONNECT: the answer is to have metadata; on CONNECTOK: it has
	flag48ItemStream     = 0x20
	flag48KeepSerialized = 0x40

	flags48Common = flagException | flagCompressed | flagOneway | flagBatch
)

// errVersion48 and errVersion502 are the errors of a message of the respective other protocol.
var (
	errVersion48  = &wireError{ProtocolError, "invalid protocol version: 48"}
	errVersion502 = &wireError{ProtocolError, "invalid protocol version: 502"}
)

// proto48 is what a connection that speaks protocol 48 has in addition.
type proto48 struct {
	key         []byte // for HMAC; nil is none
	meta        bool   // CONNECT asked for metadata
	annotations []byte // of the message read last, as in protocol 502
	head        []byte // of the message written last
}

// chunk48 is an annotation.
type chunk48 struct {
	id, data []byte
}

// isVersion48 reports whether a message begins as one of protocol 48.
func isVersion48(prefix []byte) bool {
	return string(prefix[:4]) == headerTag && binary.BigEndian.Uint16(prefix[4:]) == version48
}

// detectVersion peeks at the first message of a client.
func (c *serverConn) detectVersion() {
	prefix, err := c.r.Peek(prefixBytes)
	if err != nil || !isVersion48(prefix) || c.d.opts.NoPyro4 {
		return // whoever reads the message sees what is wrong
	}
	c.pyro4 = &proto48{key: c.d.opts.HMACKey}
}

// readStarted48 is readStarted.
func (w *wire) readStarted48() (message, error) {
	h, err := w.readHeader48()
	if err != nil {
		return message{}, torn(err)
	}
	body, err := w.readBody(int(h.bodyLen()))
	if err != nil {
		return message{}, torn(err)
	}
	if w.readBounded {
		w.readBounded = false
		if err := w.nc.SetReadDeadline(time.Time{}); err != nil {
			return message{}, err
		}
	}
	m, err := w.pyro4.parseBody(h, body, w.limit)
	m.size = header48Bytes + len(body)
	return m, err
}

// readHeader48 judges the first bytes alone: those of protocol 502 may come from a server that does not know this one.
func (w *wire) readHeader48() (header, error) {
	if w.r.Buffered() < header48Bytes {
		if err := w.boundStep(); err != nil {
			return header{}, err
		}
	}
	prefix, err := w.r.Peek(prefixBytes)
	if err != nil {
		return header{}, err
	}
	if err := checkPrefix48(prefix); err != nil {
		return header{}, err
	}
	b, err := w.r.Peek(header48Bytes)
	if err != nil {
		return header{}, err
	}
	h, err := w.pyro4.parseHeader(b, w.limit)
	if err == nil {
		w.r.Discard(header48Bytes)
	}
	return h, err
}

// hasRequest48 is hasRequest.
func (w *wire) hasRequest48() bool {
	if w.r.Buffered() < header48Bytes {
		return false
	}
	b, err := w.r.Peek(header48Bytes)
	if err != nil {
		return false
	}
	h, err := w.pyro4.parseHeader(b, w.limit)
	return err == nil && h.bodyLen() <= int64(w.r.Buffered()-header48Bytes)
}

// checkPrefix48 is checkPrefix.
func checkPrefix48(b []byte) error {
	switch err := checkPrefix(b); {
	case err == nil:
		return errVersion502
	case err == errVersion48:
		return nil
	default:
		return err
	}
}

// parseHeader parses the first 24 bytes of a message and checks the sizes in it.  What it returns has the flags and the serializer of protocol 502,
// but the length of annotations in this one.
func (p *proto48) parseHeader(b []byte, limit int) (header, error) {
	if err := checkPrefix48(b); err != nil {
		return header{}, err
	}
	typ, flags := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[8:])
	serializer := binary.BigEndian.Uint16(b[16:])
	if binary.BigEndian.Uint16(b[22:]) != sum48(b) {
		return header{}, protocolError("header checksum mismatch")
	}
	h := header{
		typ:            uint8(typ),
		seq:            binary.BigEndian.Uint16(b[10:]),
		payloadLen:     binary.BigEndian.Uint32(b[12:]),
		annotationsLen: uint32(binary.BigEndian.Uint16(b[18:])),
		flags:          flagsFrom48(flags),
	}
	var known bool
	switch h.serializer, known = serializerFrom48(serializer); {
	case typ > 0xff:
		return header{}, protocolError("invalid msg type %d received", typ)
	case !known:
		return header{}, protocolError("invalid serializer %d", serializer)
	case int32(h.payloadLen) < 0:
		return header{}, protocolError("invalid message size (outside range 0..2Gb)")
	case h.bodyLen() > int64(limit):
		return header{}, tooLarge(h.bodyLen(), limit)
	}
	if typ == msgConnect || typ == msgConnectOK {
		p.meta = flags&flag48Meta != 0
	}
	return h, nil
}

// sum48 is the checksum of a header.
func sum48(b []byte) uint16 {
	sum := uint16(checksum48)
	for _, at := range []int{4, 6, 8, 10, 14, 16, 18} { // 14 is the lower half of the payload length: the sum has only 16 bits
		sum += binary.BigEndian.Uint16(b[at:])
	}
	return sum
}

func flagsFrom48(flags uint16) uint16 {
	f := flags & flags48Common
	if flags&flag48ItemStream != 0 {
		f |= flagItemStream
	}
	if flags&flag48KeepSerialized != 0 {
		f |= flagKeepSerialized
	}
	return f
}

func flagsTo48(flags uint16) uint16 {
	f := flags & flags48Common
	if flags&flagItemStream != 0 {
		f |= flag48ItemStream
	}
	if flags&flagKeepSerialized != 0 {
		f |= flag48KeepSerialized
	}
	return f
}

// parseBody makes the message of a header and the bytes behind it, which it refers to, if HMAC says that it is right.  It is valid until the next
// one is parsed.
func (p *proto48) parseBody(h header, body []byte, limit int) (message, error) {
	if int64(len(body)) != h.bodyLen() {
		return message{}, protocolError("payload length doesn't match message header")
	}
	payload := body[h.annotationsLen:]
	chunks, err := parseChunks48(body[:h.annotationsLen])
	if err != nil {
		return message{}, err
	}
	if err := p.verify(chunks, payload); err != nil {
		return message{}, err
	}
	p.annotations = p.annotations[:0]
	for _, c := range chunks {
		switch string(c.id) {
		case annotationHMAC:
		case annotationCorrelation:
			if len(c.data) != len(h.correlationID) {
				return message{}, protocolError("correlation id has %d bytes, want %d", len(c.data), len(h.correlationID))
			}
			h.correlationID = [16]byte(c.data)
			h.flags |= flagCorrelationID
		default:
			p.annotations = append(p.annotations, c.id...)
			p.annotations = binary.BigEndian.AppendUint32(p.annotations, uint32(len(c.data)))
			p.annotations = append(p.annotations, c.data...)
		}
	}
	h.annotationsLen = uint32(len(p.annotations))
	m := message{header: h, annotations: p.annotations, payload: payload}
	if h.flags&flagCompressed != 0 {
		if m.payload, err = inflate(payload, max(0, limit-len(m.annotations))); err != nil {
			return message{}, err
		}
		m.flags &^= flagCompressed
	}
	return m, nil
}

// parseChunks48 returns the annotations in the order of their ids, of those with the same one the last.
func parseChunks48(b []byte) ([]chunk48, error) {
	var chunks []chunk48
	for len(b) > 0 {
		if len(b) < 6 || len(b)-6 < int(binary.BigEndian.Uint16(b[4:])) {
			return nil, protocolError("annotation chunk length exceeds remaining data")
		}
		n := 6 + int(binary.BigEndian.Uint16(b[4:]))
		if !isASCII(b[:4]) {
			return nil, protocolError("annotation id %q is not ascii", b[:4])
		}
		chunks = append(chunks, chunk48{b[:4], b[6:n]})
		b = b[n:]
	}
	return sortChunks48(chunks), nil
}

func sortChunks48(chunks []chunk48) []chunk48 {
	if len(chunks) < 2 {
		return chunks
	}
	slices.Reverse(chunks)
	slices.SortStableFunc(chunks, func(a, b chunk48) int { return bytes.Compare(a.id, b.id) })
	return slices.CompactFunc(chunks, func(a, b chunk48) bool { return bytes.Equal(a.id, b.id) })
}

// verify compares annotation HMAC with the key: both have to be there, or neither (Pyro4 message.py, Message.recv).
func (p *proto48) verify(chunks []chunk48, payload []byte) error {
	i := slices.IndexFunc(chunks, func(c chunk48) bool { return string(c.id) == annotationHMAC })
	switch {
	case i < 0 && len(p.key) == 0:
		return nil
	case i < 0 || len(p.key) == 0:
		return &wireError{SecurityError, "hmac key config not symmetric"}
	case !hmac.Equal(chunks[i].data, p.sign(chunks, payload)):
		return &wireError{SecurityError, "message hmac mismatch"}
	}
	return nil
}

// sign returns the data of annotation HMAC of a message with these annotations, which are sorted.
func (p *proto48) sign(chunks []chunk48, payload []byte) []byte {
	mac := hmac.New(sha1.New, p.key)
	mac.Write(payload)
	for _, c := range chunks {
		if string(c.id) != annotationHMAC {
			mac.Write(c.data)
		}
	}
	return mac.Sum(nil)
}

// translate turns the finished message of protocol 502 in b from start on into one of protocol 48.  An error leaves b as it was.
func (p *proto48) translate(b []byte, start int) ([]byte, error) {
	m := b[start:]
	typ, flags := m[6], binary.BigEndian.Uint16(m[8:])
	body := headerBytes + int(binary.BigEndian.Uint32(m[16:]))
	payload := m[body:]
	chunks, err := p.chunks(m[headerBytes:body], m[20:36], flags&flagCorrelationID != 0, payload)
	if err != nil {
		return b, err
	}
	head := append(p.head[:0], headerTag...)
	head = binary.BigEndian.AppendUint16(head, version48)
	head = binary.BigEndian.AppendUint16(head, uint16(typ))
	flags = flagsTo48(flags)
	if p.meta && (typ == msgConnect || typ == msgConnectOK) {
		flags |= flag48Meta
	}
	head = binary.BigEndian.AppendUint16(head, flags)
	head = append(head, m[10:12]...)
	head = binary.BigEndian.AppendUint32(head, uint32(len(payload)))
	head = binary.BigEndian.AppendUint16(head, serializerTo48(m[7]))
	head = append(head, make([]byte, header48Bytes-len(head))...)
	for _, c := range chunks {
		head = append(head, c.id...)
		head = binary.BigEndian.AppendUint16(head, uint16(len(c.data)))
		head = append(head, c.data...)
	}
	n := len(head) - header48Bytes
	if n > max48Annotation {
		return b, protocolError("annotations of %d bytes, want at most %d with protocol 48", n, max48Annotation)
	}
	binary.BigEndian.PutUint16(head[18:], uint16(n))
	binary.BigEndian.PutUint16(head[22:], sum48(head))
	p.head = keepLarge(head)
	return slices.Replace(b, start, start+body, head...), nil
}

// chunks returns the annotations that a message of protocol 502 is to have in this one.
func (p *proto48) chunks(annotations, correlationID []byte, hasID bool, payload []byte) ([]chunk48, error) {
	var chunks []chunk48
	for b := annotations; len(b) > 0; {
		id, data, rest, err := nextAnnotation(b)
		if err != nil {
			return nil, err
		}
		b = rest
		switch {
		case string(id) == annotationCorrelation || string(id) == annotationHMAC:
			continue // they are not the caller's to set
		case len(data) > max48Annotation:
			return nil, protocolError("annotation %s of %d bytes, want at most %d with protocol 48", id, len(data), max48Annotation)
		}
		chunks = append(chunks, chunk48{id, data})
	}
	if hasID {
		chunks = append(chunks, chunk48{[]byte(annotationCorrelation), correlationID})
	}
	if len(p.key) > 0 {
		chunks = sortChunks48(chunks)
		chunks = append(chunks, chunk48{[]byte(annotationHMAC), p.sign(chunks, payload)})
	}
	return chunks, nil
}

// parse48 parses the message at the start of b and returns the bytes behind it.  io.ErrUnexpectedEOF means that b is too short.
func (p *proto48) parse48(b []byte, limit int) (m message, rest []byte, err error) {
	if len(b) < header48Bytes {
		return message{}, b, io.ErrUnexpectedEOF
	}
	h, err := p.parseHeader(b[:header48Bytes], limit)
	if err != nil {
		return message{}, b, err
	}
	end := header48Bytes + int(h.bodyLen())
	if len(b) < end {
		return message{}, b, io.ErrUnexpectedEOF
	}
	m, err = p.parseBody(h, b[header48Bytes:end], limit)
	return m, b[end:], err
}
