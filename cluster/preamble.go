package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A connection between nodes begins with a preamble of the one who dialled, and an answer:
//
//	4 bytes  "PCLN"
//	1 byte   protocolVersion
//	2 bytes  length of the rest, big endian, the same in every version
//	         preamble: kind, raft group, cluster id, own id, own address, id of the node that is meant
//	         answer: status, cluster id, own id, text
//
// Strings are preceded by their length as a uvarint; an empty cluster id is one not known yet, an empty node id means whoever is there.
const (
	preambleMagic   = "PCLN"
	protocolVersion = 1
	maxPreamble     = 4 << 10
	maxString       = 512
)

// connKind is what a connection is for.
type connKind uint8

const (
	kindRaft    connKind = 1
	kindRequest connKind = 2
)

// registryGroup is the raft group of the name server; a node may come to have others.
const registryGroup = "registry"

type preamble struct {
	kind    connKind
	group   string
	cluster string
	id      string
	address string
	target  string
}

// handshakeStatus answers a preamble.
type handshakeStatus uint8

const (
	statusOK           handshakeStatus = 0
	statusWrongCluster handshakeStatus = 1
	statusVersion      handshakeStatus = 2
	statusRemoved      handshakeStatus = 3 // the one who dialled was removed from the cluster
	statusRefused      handshakeStatus = 4 // for now: not the node that was meant, no such group, not a member yet, too many connections
)

type handshakeReply struct {
	status  handshakeStatus
	cluster string
	id      string
	text    string
}

// errRefused is a handshake that may succeed later.
var errRefused = errors.New("connection refused by node")

// err is what the answer means to the one who dialled.
func (r *handshakeReply) err(cluster string) error {
	switch r.status {
	case statusOK:
		if cluster != "" && r.cluster != "" && cluster != r.cluster {
			return fmt.Errorf("%w: own cluster %s, that of node %s is %s", ErrWrongCluster, cluster, r.id, r.cluster)
		}
		return nil
	case statusWrongCluster:
		return fmt.Errorf("%w: node %s: %s", ErrWrongCluster, r.id, r.text)
	case statusRemoved:
		return fmt.Errorf("%w: node %s: %s", ErrRemoved, r.id, r.text)
	default:
		return fmt.Errorf("%w %s: %s", errRefused, r.id, r.text)
	}
}

func (p *preamble) append(b []byte) []byte {
	b = append(b, byte(p.kind))
	for _, s := range []string{p.group, p.cluster, p.id, p.address, p.target} {
		b = appendString(b, s)
	}
	return b
}

func (p *preamble) parse(b []byte) error {
	f := fields{b: b}
	p.kind = connKind(f.byte())
	for _, s := range []*string{&p.group, &p.cluster, &p.id, &p.address, &p.target} {
		*s = f.string()
	}
	return f.end()
}

func (r *handshakeReply) append(b []byte) []byte {
	b = append(b, byte(r.status))
	for _, s := range []string{r.cluster, r.id, r.text} {
		b = appendString(b, s)
	}
	return b
}

func (r *handshakeReply) parse(b []byte) error {
	f := fields{b: b}
	r.status = handshakeStatus(f.byte())
	for _, s := range []*string{&r.cluster, &r.id, &r.text} {
		*s = f.string()
	}
	return f.end()
}

func writeHello(w io.Writer, body []byte) error {
	b := append([]byte(preambleMagic), protocolVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	_, err := w.Write(append(b, body...))
	return err
}

// errProtocol is a peer that is no node of ours, or of another version.
var errProtocol = errors.New("not the node protocol")

// readHello returns the body of a preamble or of an answer, and the version that it has.
func readHello(r io.Reader) (version byte, body []byte, err error) {
	h := make([]byte, 7)
	if _, err := io.ReadFull(r, h); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint16(h[5:]))
	if string(h[:4]) != preambleMagic || n > maxPreamble {
		return 0, nil, fmt.Errorf("%w: got % x", errProtocol, h)
	}
	body = make([]byte, n)
	_, err = io.ReadFull(r, body)
	return h[4], body, err
}

// fields parses what append functions wrote; after the first error all values are zero.
type fields struct {
	b   []byte
	err error
}

var errFields = errors.New("malformed message")

func (f *fields) fail() { f.b, f.err = nil, errFields }

func (f *fields) byte() byte {
	if len(f.b) < 1 {
		f.fail()
		return 0
	}
	v := f.b[0]
	f.b = f.b[1:]
	return v
}

func (f *fields) bool() bool { return f.byte() == 1 }

func (f *fields) uint() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) int() int64 {
	v, n := binary.Varint(f.b)
	if n <= 0 {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) string() string {
	n := f.uint()
	if n > maxString || n > uint64(len(f.b)) {
		f.fail()
		return ""
	}
	s := string(f.b[:n])
	f.b = f.b[n:]
	return s
}

// rest returns what is left, which is the caller's to keep.
func (f *fields) rest() []byte {
	b := f.b
	f.b = nil
	return b
}

func (f *fields) end() error {
	if f.err == nil && len(f.b) > 0 {
		f.fail()
	}
	return f.err
}

// appendString cuts what no node would accept.
func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), maxString)]
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
