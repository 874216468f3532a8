package servant

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/loadtest/ledger"
)

// ReadLedger yields the ids in the ledger of the servant that caller calls (one servant: a group's members have a ledger each), as
// [ledger.Read] does, up to its end at the time.  A servant without a ledger is an error, an AttributeError of core's.
func ReadLedger(ctx context.Context, caller core.Caller) iter.Seq2[ledger.ID, error] {
	return func(yield func(ledger.ID, error) bool) {
		offset := 0
		read := func(p []byte) (int, error) {
			var part []byte
			if err := caller.Call(ctx, "ledger", &part, offset, len(p)); err != nil {
				return 0, err
			}
			switch {
			case len(part) == 0:
				return 0, io.EOF
			case len(part) > len(p):
				return 0, fmt.Errorf("servant: ledger(%d, %d) returned %d bytes", offset, len(p), len(part))
			}
			offset += len(part)
			return copy(p, part), nil
		}
		// A buffer of this size is used as it is, so that each call brings that much.
		ledger.Read(bufio.NewReaderSize(readerFunc(read), maxPart))(yield)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
