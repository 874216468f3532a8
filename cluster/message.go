package cluster

import "encoding/binary"

// peer is another node, by id and advertised address.
type peer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// status is what a node tells of itself.
type status struct {
	peer
	cluster   string // committed cluster id, empty if not known
	promise   string // cluster that it promised to, or joins
	bound     bool   // for good
	fresh     bool   // without any data, and free to take part in forming a cluster
	round     uint64 // of its promises
	expect    uint64
	term      uint64
	lastIndex uint64 // of its log
	applied   uint64
	leader    peer
}

func (s *status) append(b []byte) []byte {
	for _, v := range []string{s.ID, s.Address, s.cluster, s.promise, s.leader.ID, s.leader.Address} {
		b = appendString(b, v)
	}
	b = appendBool(appendBool(b, s.bound), s.fresh)
	for _, v := range []uint64{s.round, s.expect, s.term, s.lastIndex, s.applied} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func (s *status) parse(b []byte) error {
	f := fields{b: b}
	for _, v := range []*string{&s.ID, &s.Address, &s.cluster, &s.promise, &s.leader.ID, &s.leader.Address} {
		*v = f.string()
	}
	s.bound, s.fresh = f.bool(), f.bool()
	for _, v := range []*uint64{&s.round, &s.expect, &s.term, &s.lastIndex, &s.applied} {
		*v = f.uint()
	}
	return f.end()
}

// promiseRequest asks a fresh node to take part in forming a cluster; round is the one of its status.
type promiseRequest struct {
	promise promise
	expect  uint64
	round   uint64
}

const maxExpect = 64

func (r *promiseRequest) append(b []byte) []byte {
	b = appendString(appendString(b, r.promise.Cluster), r.promise.Coordinator)
	b = binary.AppendUvarint(binary.AppendUvarint(b, r.expect), r.round)
	for _, m := range r.promise.Members {
		b = m.append(b)
	}
	return b
}

func (r *promiseRequest) parse(b []byte) error {
	f := fields{b: b}
	r.promise.Cluster, r.promise.Coordinator = f.string(), f.string()
	r.expect, r.round = f.uint(), f.uint()
	for len(f.b) > 0 && len(r.promise.Members) < maxExpect {
		r.promise.Members = append(r.promise.Members, peer{f.string(), f.string()})
	}
	return f.end()
}

func (p *peer) append(b []byte) []byte { return appendString(appendString(b, p.ID), p.Address) }

// parsePeer parses a message that is a peer and nothing else.
func parsePeer(b []byte) (peer, error) {
	f := fields{b: b}
	p := peer{f.string(), f.string()}
	return p, f.end()
}

// parseString parses a message that is a string and nothing else.
func parseString(b []byte) (string, error) {
	f := fields{b: b}
	s := f.string()
	return s, f.end()
}

// parseUint parses a message that is a number and nothing else.
func parseUint(b []byte) (uint64, error) {
	f := fields{b: b}
	v := f.uint()
	return v, f.end()
}
