package core

import "time"

// Values that cross the wire.  Every serializer reads into, and writes from, these Go types; what a format cannot express
// is listed in the table of docs/values.md (Pyro5 docs, "Serialization").
//
//	Python            Go when read                Go when written
//	None              nil                         nil, nil pointers, nil maps and slices of bytes
//	bool              bool                        bool kinds
//	int               int64, *big.Int beyond it   int and uint kinds, big.Int, *big.Int
//	float             float64                     float kinds
//	complex           complex128                  complex kinds
//	str               string                      string kinds
//	bytes, bytearray  []byte                      slices and arrays of bytes
//	list              []any                       other slices and arrays
//	tuple             Tuple                       Tuple
//	set               Set                         Set
//	frozenset         FrozenSet                   FrozenSet
//	dict              map[string]any if all keys  maps in the order of their keys, structs (exported
//	                  are str, else Dict          fields under snake_case names or their `pyro` tag), Dict in its order
//	...               Ellipsis                    Ellipsis
//	date              Date (msgpack only)         Date
//	datetime          time.Time (msgpack only)    time.Time
//	Pyro5 URI         URI                         URI
//	Pyro5 Proxy       ProxyState                  *Proxy, ProxyState
//	exception         *RemoteError                error ([RegisterError])
//	registered class  its Go type                 its Go type ([RegisterClass])
//	other class       ClassDict                   ClassDict
//
// Sets and tuples become lists in json and msgpack; serpent turns bytes into a dict of base64 text, which [Convert]
// undoes when a []byte is asked for.
//
// An error is written as the *[RemoteError] that it is or wraps, else with its text as the [ExceptionClass] that it wraps, as a
// builtins.TimeoutError if it is context.DeadlineExceeded, and as a builtins.RuntimeError otherwise: the same whether a method returns it
// as its error or as a value.

// Tuple is a Python tuple.
type Tuple []any

// Set is a Python set.  Its members are in the order of the message, duplicates included.
type Set []any

// FrozenSet is a Python frozenset, in the same way.
type FrozenSet []any

// Pair is one item of a [Dict].
type Pair struct {
	Key, Value any
}

// Dict is a Python dict whose keys are not all strings, or whose order matters.  A later item wins over an earlier one
// with the same key.
type Dict []Pair

// ClassDict is an instance of a class that core does not know: Pyro sends it as a dict with the key "__class__".  Attrs
// holds the other keys.  It is written again as it was read.
type ClassDict struct {
	Class string
	Attrs map[string]any
}

// Date is a Python date: a day without a time.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// ProxyState is a proxy that came as a value: the URI and what the sender's proxy knew.  Use [NewProxy] with its URI to
// call it.
type ProxyState struct {
	URI        URI
	Oneway     []string
	Methods    []string
	Attrs      []string
	Handshake  any
	Serializer string // empty: the sender's default
}

// Ellipsis is Python's "...", which serpent and marshal can express.
type Ellipsis struct{}

// Kwargs are keyword arguments: given as the last argument of [Proxy.Call], they are sent as such.
type Kwargs map[string]any
