package core

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// Bounds on payloads.  They hold for reading, where the bytes may come from anybody, and for writing, where they turn a value
// that contains itself into an error.
const (
	// maxDepth is how deep lists, tuples, sets and dicts may nest.  Python's own parser stops at 200 brackets, so that deeper
	// serpent data would be readable by no other program.
	maxDepth = 200
	// maxValues is how many values a message may hold.  A value takes up to 64 bytes of memory (an empty dict) for one byte of
	// the message; this bounds them to 1 GiB, whatever the limit on the size of messages.
	maxValues = 1 << 24
	// maxIntDigits is how many decimal digits an integer may have: Python's own limit, because the conversion from and to
	// decimal takes time in proportion to the square of the length.
	maxIntDigits = 4300
	// maxIntBits is how many bits surely fit into maxIntDigits.
	maxIntBits = 14284
)

var (
	errTooDeep    = fmt.Errorf("nested deeper than %d levels", maxDepth)
	errTooMany    = fmt.Errorf("more than %d values", maxValues)
	errIntTooLong = fmt.Errorf("integer of more than %d digits", maxIntDigits)
	errTruncated  = errors.New("message ends too early")
	errTrailing   = errors.New("bytes after the value")
	errNotUTF8    = errors.New("text is not UTF-8")
	errSurrogate  = errors.New("half of a surrogate pair")
	errNoRequest  = errors.New("request is no sequence of object id, method, arguments and keyword arguments")
	errTooLong    = errors.New("text, bytes or container of 4 GiB or more")
)

// Empty containers that need no memory of their own, because nothing can be added to them in place.
var (
	emptyList  any = []any{}
	emptyTuple any = Tuple{}
)

// maxPooledBytes is the size above which a buffer is left to the garbage collector rather than kept in a pool.
const maxPooledBytes = 64 << 10

// validText reports whether s is UTF-8 in which lone surrogates are allowed, as in Python's str.
func validText(s string) bool {
	for !utf8.ValidString(s) {
		i := surrogateIndex(s)
		if i < 0 || !utf8.ValidString(s[:i]) {
			return false
		}
		s = s[i+3:]
	}
	return true
}

// surrogateIndex returns where the first surrogate is that is encoded as if it were a character; -1 if there is none.
func surrogateIndex(s string) int {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == 0xed && s[i+1] >= 0xa0 && s[i+1] <= 0xbf && s[i+2] >= 0x80 && s[i+2] <= 0xbf {
			return i
		}
	}
	return -1
}

// appendSurrogate appends r, a surrogate, as if it were a character, which utf8.AppendRune refuses.
func appendSurrogate(dst []byte, r rune) []byte {
	return append(dst, 0xed, 0x80|byte(r>>6&0x3f), 0x80|byte(r&0x3f))
}

// checkContainer says why a container of n items cannot be written inside of depth others.
func checkContainer(n, depth int) error {
	if depth >= maxDepth {
		return errTooDeep
	}
	if n > maxValues {
		return errTooMany
	}
	return nil
}

// appendBigInt appends v in decimal.
func appendBigInt(dst []byte, v *big.Int) ([]byte, error) {
	// 2^14286 has 4301 digits: what has more bits is not even converted.
	if v.BitLen() > maxIntBits+2 {
		return dst, errIntTooLong
	}
	start := len(dst)
	dst = v.Append(dst, 10)
	if digits := len(dst) - start; digits > maxIntDigits+1 || digits > maxIntDigits && v.Sign() > 0 {
		return dst[:start], errIntTooLong
	}
	return dst, nil
}

// parseInt returns the integer of an optional sign and decimal digits: an int64 or, beyond it, a *big.Int.
func parseInt(text []byte) (any, error) {
	digits := text
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		digits = text[1:]
	}
	if len(digits) > maxIntDigits {
		return nil, errIntTooLong
	}
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n, nil
	}
	n, ok := new(big.Int).SetString(string(text), 10)
	if !ok {
		return nil, fmt.Errorf("%s is no integer", excerpt(text))
	}
	return intValue(n), nil
}

// intValue returns n as the type in which integers are read.
func intValue(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}
