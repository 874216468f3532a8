package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts its file: opening a damaged one panics in a goroutine of its own, or reads beyond the mapping, and both kill the process.
// So the file is walked first, without mapping it, for all that bbolt relies on.  The layout (bbolt, internal/common), little endian:
//
//	page            id u64, flags u16, count u16, overflow u32, then elements, then keys and values
//	meta page       magic u32, version u32, page size u32, flags u32, root bucket, freelist u64, high-water mark u64,
//	                transaction u64, FNV-1a of all that u64
//	bucket          root page u64, sequence u64; if the root is 0, a page follows inline
//	branch element  position u32, key size u32, page u64
//	leaf element    flags u32 (1: the value is a bucket), position u32, key size u32, value size u32
//
// A position counts from its element.
const (
	boltMagic       = 0xED0CDAED
	boltVersion     = 2
	boltPageHeader  = 16
	boltElement     = 16
	boltMeta        = 64
	boltBranchPage  = 1
	boltLeafPage    = 2
	boltBucketValue = 1
	boltBucket      = 16
	boltMaxDepth    = 64 // of pages and of buckets: far more than can be
)

// checkBolt returns an error that tells what is wrong with the file.
func checkBolt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c := &boltChecker{r: f, size: info.Size(), seen: map[uint64]bool{}}
	root, err := c.meta()
	if err != nil {
		return err
	}
	return c.page(root, nil, nil, 0)
}

type boltChecker struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	pages    uint64 // high-water mark
	seen     map[uint64]bool
}

// meta finds the newer of the valid meta pages, and returns the page of the root bucket.  One of the two may be torn, if a crash
// interrupted its writing.
func (c *boltChecker) meta() (root uint64, err error) {
	var newest []byte
	// The second one is behind the first page, whose size only a meta page tells.
	for at := int64(0); at <= 64<<10; at = max(1024, at*2) {
		b := make([]byte, boltMeta)
		if _, err := c.r.ReadAt(b, at+boltPageHeader); err != nil {
			break
		}
		if validMeta(b) && (at == 0 || int64(binary.LittleEndian.Uint32(b[8:])) == at) &&
			(newest == nil || metaTx(b) > metaTx(newest)) {
			newest = b
		}
	}
	if newest == nil {
		return 0, errors.New("neither meta page is valid")
	}
	c.pageSize = int64(binary.LittleEndian.Uint32(newest[8:]))
	c.pages = binary.LittleEndian.Uint64(newest[40:])
	if c.pageSize < 512 || c.pages > uint64(c.size/c.pageSize) {
		return 0, fmt.Errorf("%d bytes, want %d pages of %d", c.size, c.pages, c.pageSize)
	}
	return binary.LittleEndian.Uint64(newest[16:]), nil
}

func metaTx(b []byte) uint64 { return binary.LittleEndian.Uint64(b[48:]) }

func validMeta(b []byte) bool {
	h := fnv.New64a()
	h.Write(b[:boltMeta-8])
	return binary.LittleEndian.Uint32(b) == boltMagic && binary.LittleEndian.Uint32(b[4:]) == boltVersion &&
		binary.LittleEndian.Uint64(b[boltMeta-8:]) == h.Sum64()
}

// page checks a page and all below it, whose keys must be in [low, high).
func (c *boltChecker) page(id uint64, low, high []byte, depth int) error {
	if id < 2 || id >= c.pages || depth > boltMaxDepth {
		return fmt.Errorf("page %d at depth %d: out of bounds: %d pages", id, depth, c.pages)
	}
	header := make([]byte, boltPageHeader)
	if _, err := c.r.ReadAt(header, int64(id)*c.pageSize); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if got := binary.LittleEndian.Uint64(header); got != id {
		return fmt.Errorf("page %d: says that it is page %d", id, got)
	}
	overflow := uint64(binary.LittleEndian.Uint32(header[12:]))
	if overflow >= c.pages-id {
		return fmt.Errorf("page %d: %d more, of %d pages", id, overflow, c.pages)
	}
	for i := id; i <= id+overflow; i++ {
		if c.seen[i] {
			return fmt.Errorf("page %d: used twice", i)
		}
		c.seen[i] = true
	}
	b := make([]byte, int64(overflow+1)*c.pageSize)
	if _, err := c.r.ReadAt(b, int64(id)*c.pageSize); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	if err := c.elements(b, low, high, depth); err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (c *boltChecker) elements(b, low, high []byte, depth int) error {
	flags := binary.LittleEndian.Uint16(b[8:])
	count := int(binary.LittleEndian.Uint16(b[10:]))
	if flags != boltLeafPage && (flags != boltBranchPage || count == 0) {
		return fmt.Errorf("flags %#x with %d elements", flags, count)
	}
	if boltPageHeader+count*boltElement > len(b) {
		return fmt.Errorf("%d elements in %d bytes", count, len(b))
	}
	keys := make([][]byte, count+1)
	keys[count] = high
	for i := range count {
		key, err := boltKey(b, i, flags)
		if err != nil {
			return err
		}
		before, ordered := low, 0
		if i > 0 {
			before, ordered = keys[i-1], 1
		}
		if before != nil && bytes.Compare(key, before) < ordered || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("element %d: key out of order", i)
		}
		keys[i] = key
	}
	for i := range count {
		var err error
		if e := b[boltPageHeader+i*boltElement:]; flags == boltBranchPage {
			err = c.page(binary.LittleEndian.Uint64(e[8:]), keys[i], keys[i+1], depth+1)
		} else if binary.LittleEndian.Uint32(e)&boltBucketValue != 0 {
			at := int(binary.LittleEndian.Uint32(e[4:])) + int(binary.LittleEndian.Uint32(e[8:]))
			err = c.bucket(e[at:at+int(binary.LittleEndian.Uint32(e[12:]))], depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// boltKey returns the key of an element after it has checked that key and value are within the page.
func boltKey(b []byte, i int, flags uint16) ([]byte, error) {
	e := b[boltPageHeader+i*boltElement:]
	field := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(e[at:])) }
	at, size, value := field(0), field(4), uint64(0)
	if flags == boltLeafPage {
		at, size, value = field(4), field(8), field(12)
	}
	if size == 0 || at+size+value > uint64(len(e)) {
		return nil, fmt.Errorf("element %d: key of %d bytes and value of %d at %d of %d", i, size, value, at, len(e))
	}
	return e[at : at+size], nil
}

func (c *boltChecker) bucket(v []byte, depth int) error {
	switch {
	case len(v) < boltBucket:
		return fmt.Errorf("bucket of %d bytes", len(v))
	case binary.LittleEndian.Uint64(v) != 0:
		return c.page(binary.LittleEndian.Uint64(v), nil, nil, depth)
	case len(v) < boltBucket+boltPageHeader || depth > boltMaxDepth || binary.LittleEndian.Uint16(v[boltBucket+8:]) != boltLeafPage:
		return fmt.Errorf("inline bucket of %d bytes at depth %d", len(v), depth)
	}
	return c.elements(v[boltBucket:], nil, nil, depth)
}
