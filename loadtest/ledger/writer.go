package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// header begins every file.  It is as long as a record, so that all records are aligned.
var header = ID([]byte("pyro-ledger v1\n\x00"))

const recordBytes = int64(len(ID{}))

// Writer appends the ids of calls to a file.  It is safe for concurrent use, also by several processes with the same file.
//
// The file is a header of 16 bytes, "pyro-ledger v1\n\x00", and 16 bytes for each call, in the order in which they began.
// Nothing is buffered: a call that was appended stays in the file when the process is killed.  (Not when the machine loses its power:
// nothing waits for the disk.)
//
// That several processes can share a file rests on O_APPEND, which network file systems may not honour.
type Writer struct {
	mu     sync.Mutex     // protects what follows
	file   io.WriteCloser // nil once closed
	record ID             // what is being written: here, so that a call allocates nothing
	torn   error          // set when a part of a record was written: no more may follow it
}

// Create opens the ledger of that path for appending, and makes it if it does not exist.  A file that is no ledger is an error, and is
// left as it is.  A record that was cut short (a full disk) is cut off.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if err := prepare(f); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %s: %w", path, err), f.Close())
	}
	return &Writer{file: f}, nil
}

// prepare makes f end after a header or a record.  Two processes that make the same file at the same moment may both write a header;
// Read passes over the second.
func prepare(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("is a %v: name a regular file", info.Mode().Type())
	}
	size := info.Size()
	begin := make([]byte, min(size, recordBytes))
	if _, err := f.ReadAt(begin, 0); err != nil {
		return err
	}
	if !strings.HasPrefix(string(header[:]), string(begin)) {
		return errNoLedger(begin)
	}
	if torn := size % recordBytes; torn != 0 {
		if err := f.Truncate(size - torn); err != nil {
			return err
		}
	}
	if size < recordBytes {
		_, err = f.Write(header[:])
	}
	return err
}

func errNoLedger(begin []byte) error {
	return fmt.Errorf("begins with %q, a ledger with %q: name another file", begin, header[:])
}

// Append adds one call.  After an error the call is not in the ledger, and must not be run.  A later Append may work again, but not if
// a part of the record was written: then every one fails, and Create cuts the part off.
func (w *Writer) Append(id ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.file == nil:
		return fmt.Errorf("ledger: append: %w", os.ErrClosed)
	case w.torn != nil:
		return w.torn
	}
	w.record = id
	n, err := w.file.Write(w.record[:])
	if err == nil {
		return nil
	}
	err = fmt.Errorf("ledger: append: %w", err)
	if n > 0 {
		w.torn = err
	}
	return err
}

// Close closes the file.  A second Close does nothing.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return f.Close()
}
