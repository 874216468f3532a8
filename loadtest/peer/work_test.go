package peer

import (
	"context"
	"testing"
)

// numberConn keeps the first number it is asked to add.
type numberConn struct {
	Conn
	a int64
}

func (c *numberConn) Add(_ context.Context, a, b int64) (int64, error) {
	c.a = a
	return a + b, nil
}

// TestNumbersOfSameLength has callers at their least and greatest, whose numbers all need 8 bytes, as an integer in msgpack does from 2^32 on.
func TestNumbersOfSameLength(t *testing.T) {
	t.Parallel()
	for _, id := range []int{0, 1, 2*maxCallers - 1} {
		for _, n := range []int64{0, 1, 1 << 32} {
			var c numberConn
			if err := newAdder(&c, id)(t.Context(), n); err != nil || c.a < 1<<32 || c.a < 0 {
				t.Errorf("call %d of caller %d: got %v, sent %d, want a number of 8 bytes", n, id, err, c.a)
			}
		}
	}
}
