package core

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// A message of protocol 502 is a header, annotations and a payload.  All integers are big-endian.
//
//	 0               4       6   7   8      10      12              16              20
//	+---------------+-------+---+---+-------+-------+---------------+---------------+
//	| 'P' 'Y' 'R' 'O'|  502  |typ|ser| flags |  seq  |  payload len  |  annot. len   |
//	+---------------+-------+---+---+-------+-------+---------------+---------------+
//	 20                                                             36      38      40
//	+---------------------------------------------------------------+-------+-------+
//	| correlation id, meaningful with flagCorrelationID, else zero  |   0   | 0x4dc5|
//	+---------------------------------------------------------------+-------+-------+
//
// Annotations, together as long as the header says, each:
//
//	+---------------+---------------+------------------+
//	| id, 4 ASCII   | length        | data             |
//	+---------------+---------------+------------------+
//
// Then the payload, compressed by zlib with flagCompressed; its length is that of the bytes sent.
const (
	headerBytes     = 40
	prefixBytes     = 6 // tag and version: what is judged before more is read
	protocolVersion = 502
	headerMagic     = 0x4dc5
	headerTag       = "PYRO"
)

// The types of a message.
const (
	msgConnect     = 1 // client: handshake
	msgConnectOK   = 2
	msgConnectFail = 3 // the payload is a text; the server closes
	msgInvoke      = 4
	msgResult      = 5
	msgPing        = 6 // both ways
)

// The flags of a message; unknown ones are ignored.
const (
	flagException      = 0x01 // the payload of a result is an exception
	flagCompressed     = 0x02
	flagOneway         = 0x04 // no reply will follow
	flagBatch          = 0x08 // on the request and on its result
	flagItemStream     = 0x10 // the result is a stream, its id in annotation "STRM"
	flagKeepSerialized = 0x20 // a blob
	flagCorrelationID  = 0x40
)

// The annotations that core uses.  STRM and BLBI are Pyro's.  Those of this project:
//
//   - PCCT, in CONNECTOK: the contracts of the object's methods, a line "name=number\n" for each that is not plain (1 idempotent,
//     2 read-only; a reader takes numbers it does not know for plain).  A server of this project always sends it, perhaps empty.
//   - PCNX, in a RESULT with an exception: the server did not run the method.  No data.
const (
	annotationStream      = "STRM"
	annotationBlob        = "BLBI"
	annotationContracts   = "PCCT"
	annotationNotExecuted = "PCNX"
)

// maxSendBytes bounds what is sent: Pyro5 refuses more than 1 GiB when nobody changed its configuration.
const maxSendBytes = 1 << 30

// header is the fixed part of a message.
type header struct {
	typ            uint8
	serializer     uint8
	flags          uint16
	seq            uint16
	payloadLen     uint32
	annotationsLen uint32
	correlationID  [16]byte
}

// message is a whole one.  Its slices belong to whoever made it: a reader's are valid until it reads again.
type message struct {
	header
	annotations []byte // well-formed chunks
	payload     []byte // inflated
	size        int    // bytes that were read, if it was
}

// checkPrefix judges the first six bytes, with the texts of Pyro5 (which clients get to see in CONNECTFAIL).
func checkPrefix(b []byte) error {
	if string(b[:4]) != headerTag {
		return protocolError("invalid data")
	}
	switch v := binary.BigEndian.Uint16(b[4:]); v {
	case protocolVersion:
		return nil
	case version48:
		return errVersion48
	default:
		return protocolError("invalid protocol version: %d", v)
	}
}

// parseHeader parses the first 40 bytes of a message and checks the sizes in it: limit bounds payload and annotations together.
func parseHeader(b []byte, limit int) (header, error) {
	if err := checkPrefix(b); err != nil {
		return header{}, err
	}
	h := header{
		typ:            b[6],
		serializer:     b[7],
		flags:          binary.BigEndian.Uint16(b[8:]),
		seq:            binary.BigEndian.Uint16(b[10:]),
		payloadLen:     binary.BigEndian.Uint32(b[12:]),
		annotationsLen: binary.BigEndian.Uint32(b[16:]),
		correlationID:  [16]byte(b[20:36]),
	}
	if binary.BigEndian.Uint16(b[38:]) != headerMagic {
		return header{}, protocolError("invalid message or protocol version")
	}
	if total := h.bodyLen(); total > int64(limit) {
		return header{}, tooLarge(total, limit)
	}
	return h, nil
}

// bodyLen is the number of bytes behind the header.
func (h header) bodyLen() int64 { return int64(h.annotationsLen) + int64(h.payloadLen) }

// parseBody makes the message of a header and the bytes behind it, which it refers to.  An inflated payload is newly allocated.
func parseBody(h header, body []byte, limit int) (message, error) {
	if int64(len(body)) != h.bodyLen() {
		return message{}, protocolError("payload length doesn't match message header")
	}
	m := message{header: h, annotations: body[:h.annotationsLen], payload: body[h.annotationsLen:]}
	if err := checkAnnotations(m.annotations); err != nil {
		return message{}, err
	}
	if h.flags&flagCompressed != 0 {
		payload, err := inflate(m.payload, limit-len(m.annotations))
		if err != nil {
			return message{}, err
		}
		m.payload = payload
		m.flags &^= flagCompressed
	}
	return m, nil
}

// parseMessage parses the message at the start of b and returns the bytes behind it.  io.ErrUnexpectedEOF means that b is too short.
func parseMessage(b []byte, limit int) (m message, rest []byte, err error) {
	if len(b) < headerBytes {
		return message{}, b, io.ErrUnexpectedEOF
	}
	h, err := parseHeader(b[:headerBytes], limit)
	if err != nil {
		return message{}, b, err
	}
	if int64(len(b)-headerBytes) < h.bodyLen() {
		return message{}, b, io.ErrUnexpectedEOF
	}
	end := headerBytes + int(h.bodyLen())
	m, err = parseBody(h, b[headerBytes:end], limit)
	return m, b[end:], err
}

// nextAnnotation cuts the first chunk off b, which is not empty.
func nextAnnotation(b []byte) (id, data, rest []byte, err error) {
	if len(b) < 8 {
		return nil, nil, nil, protocolError("annotation chunk length exceeds remaining data")
	}
	n := int64(binary.BigEndian.Uint32(b[4:]))
	if n > int64(len(b)-8) {
		return nil, nil, nil, protocolError("annotation chunk length exceeds remaining data")
	}
	return b[:4], b[8 : 8+n], b[8+n:], nil
}

// checkAnnotations reports whether b consists of well-formed chunks.
func checkAnnotations(b []byte) error {
	for len(b) > 0 {
		id, _, rest, err := nextAnnotation(b)
		if err != nil {
			return err
		}
		if !isASCII(id) {
			return protocolError("annotation id %q is not ascii", id)
		}
		b = rest
	}
	return nil
}

func isASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// annotation returns the data of a chunk of m, the last of those with that id.
func (m message) annotation(id string) (data []byte, ok bool) {
	for b := m.annotations; len(b) > 0; {
		chunkID, chunk, rest, err := nextAnnotation(b)
		if err != nil {
			return data, ok
		}
		if string(chunkID) == id {
			data, ok = chunk, true
		}
		b = rest
	}
	return data, ok
}

// annotationMap copies the annotations of m; nil if there are none.
func (m message) annotationMap() Annotations {
	if len(m.annotations) == 0 {
		return nil
	}
	a := make(Annotations)
	for b := m.annotations; len(b) > 0; {
		id, data, rest, err := nextAnnotation(b)
		if err != nil {
			return a
		}
		a[string(id)] = bytes.Clone(data)
		b = rest
	}
	return a
}

// beginMessage appends room for a header, and the annotations in the order of their ids.  The payload is to be appended next;
// finishMessage fills in the header.
func beginMessage(dst []byte, a Annotations) ([]byte, error) {
	var room [headerBytes]byte
	dst = append(dst, room[:]...)
	if len(a) == 0 {
		return dst, nil
	}
	ids := make([]string, 0, len(a))
	for id := range a {
		if len(id) != 4 || !isASCII(id) {
			return dst, protocolError("annotation identifier must be 4 ascii characters, got %q", id)
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if len(a[id]) > maxSendBytes {
			return dst, tooLarge(int64(len(a[id])), maxSendBytes)
		}
		dst = append(dst, id...)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(a[id])))
		dst = append(dst, a[id]...)
	}
	return dst, nil
}

// annotationsBytes is what the annotations take in a message.
func annotationsBytes(a Annotations) (n int) {
	for _, data := range a {
		n += 8 + len(data)
	}
	return n
}

// finishMessage fills in the header of the message that is all of b, of which h.annotationsLen bytes are annotations.
func finishMessage(b []byte, h *header) error { return finishMessageParts(b, 0, h) }

// finishMessageParts is finishMessage for one of which so many bytes of the payload are not in b.
func finishMessageParts(b []byte, apart int, h *header) error {
	body := len(b) - headerBytes + apart
	if body > maxSendBytes {
		return tooLarge(int64(body), maxSendBytes)
	}
	copy(b, headerTag)
	binary.BigEndian.PutUint16(b[4:], protocolVersion)
	b[6], b[7] = h.typ, h.serializer
	binary.BigEndian.PutUint16(b[8:], h.flags)
	binary.BigEndian.PutUint16(b[10:], h.seq)
	binary.BigEndian.PutUint32(b[12:], uint32(body)-h.annotationsLen)
	binary.BigEndian.PutUint32(b[16:], h.annotationsLen)
	copy(b[20:36], h.correlationID[:])
	binary.BigEndian.PutUint16(b[36:], 0)
	binary.BigEndian.PutUint16(b[38:], headerMagic)
	return nil
}

// appendMessage appends a whole message whose payload is there already.
func appendMessage(dst []byte, h header, a Annotations, payload []byte) ([]byte, error) {
	start := len(dst)
	dst, err := beginMessage(dst, a)
	if err != nil {
		return dst[:start], err
	}
	h.annotationsLen = uint32(annotationsBytes(a))
	dst = append(dst, payload...)
	if err := finishMessage(dst[start:], &h); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// tooLarge has the text of Pyro5, which calls it a ProtocolError; the class below that says more.
func tooLarge(n int64, limit int) error {
	return &wireError{MessageTooLargeError, fmt.Sprintf("message too large (%d, max=%d)", n, limit)}
}

// inflate decompresses a payload to at most limit bytes; memory grows with what comes out, not with what is claimed.
func inflate(data []byte, limit int) ([]byte, error) {
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, protocolError("compressed payload: %v", err)
	}
	defer z.Close()
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(z, int64(limit)+1))
	if err != nil {
		return nil, protocolError("compressed payload: %v", err)
	}
	if n > int64(limit) {
		return nil, &wireError{MessageTooLargeError, fmt.Sprintf("message too large (inflated, max=%d)", limit)}
	}
	return out.Bytes(), nil
}

// errMessageType is an answer that does not fit.
func errMessageType(got uint8, want string) error {
	return protocolError("invalid msg type %d received (expected: %s)", got, want)
}

// parseContracts reads annotation PCCT.
func parseContracts(data []byte) map[string]Contract {
	contracts := make(map[string]Contract)
	for line := range bytes.Lines(data) {
		name, number, ok := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("="))
		if !ok || len(number) != 1 {
			continue
		}
		if c := Contract(number[0] - '0'); c == ContractIdempotent || c == ContractReadOnly {
			contracts[string(name)] = c
		}
	}
	return contracts
}

// appendContracts writes annotation PCCT, in the order of names.
func appendContracts(dst []byte, names []string, contracts map[string]Contract) []byte {
	for _, name := range names {
		if c := contracts[name]; c != ContractPlain {
			dst = fmt.Appendf(dst, "%s=%d\n", name, c)
		}
	}
	return dst
}
