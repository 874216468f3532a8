package core

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"sync"
)

// Pyro5's choices (Pyro5 protocol.py, SendingMessage): payloads above so many bytes, and a level that is fast.
const (
	compressBytes = 100
	compressLevel = 4
)

// compressor is a writer of zlib with a buffer that it writes to.
type compressor struct {
	out bytes.Buffer
	z   *zlib.Writer
}

var compressors = sync.Pool{New: func() any {
	c := new(compressor)
	c.z, _ = zlib.NewWriterLevel(&c.out, compressLevel) // only a wrong level is an error
	return c
}}

// compressMessage compresses the payload of the finished message in b from start on, where that makes it shorter.
func compressMessage(b []byte, start int) []byte {
	head := b[start:]
	body := start + headerBytes + int(binary.BigEndian.Uint32(head[16:]))
	payload := b[body:]
	if len(payload) <= compressBytes {
		return b
	}
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	c.out.Reset()
	if c.out.Cap() > maxPooledBytes {
		c.out = bytes.Buffer{}
	}
	c.z.Reset(&c.out)
	if _, err := c.z.Write(payload); err != nil || c.z.Close() != nil || c.out.Len() >= len(payload) {
		return b
	}
	binary.BigEndian.PutUint16(head[8:], binary.BigEndian.Uint16(head[8:])|flagCompressed)
	binary.BigEndian.PutUint32(head[12:], uint32(c.out.Len()))
	return append(b[:body], c.out.Bytes()...)
}
