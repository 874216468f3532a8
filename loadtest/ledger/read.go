package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

const readBytes = 64 << 10

// Read yields the ids in a ledger in their order.  An error ends it: the header is not that of a ledger, the last record is cut short
// (io.ErrUnexpectedEOF), or r failed.  It can be ranged over once.
func Read(r io.Reader) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		in := bufio.NewReaderSize(r, readBytes)
		var record ID
		if err := readHeader(in, &record); err != nil {
			yield(ID{}, err)
			return
		}
		for {
			switch _, err := io.ReadFull(in, record[:]); {
			case err == io.EOF:
				return
			case err != nil:
				yield(ID{}, fmt.Errorf("ledger: read record: %w", err))
				return
			case record == header: // of a second process that made the file
			case !yield(record, nil):
				return
			}
		}
	}
}

func readHeader(in io.Reader, record *ID) error {
	n, err := io.ReadFull(in, record[:])
	switch {
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("ledger: read header: %d bytes, want %d: %w", n, len(header), io.ErrUnexpectedEOF)
	case err != nil:
		return fmt.Errorf("ledger: read header: %w", err)
	case *record != header:
		return fmt.Errorf("ledger: read header: %w", errNoLedger(record[:]))
	}
	return nil
}

// ReadFile yields the ids in the ledger of that path, as [Read] does; errors name it.  The file is open while it is ranged over.
func ReadFile(path string) iter.Seq2[ID, error] {
	return func(yield func(ID, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(ID{}, fmt.Errorf("ledger: %w", err))
			return
		}
		defer f.Close()
		for id, err := range Read(f) {
			if err != nil {
				err = fmt.Errorf("%s: %w", path, err)
			}
			if !yield(id, err) {
				return
			}
		}
	}
}
