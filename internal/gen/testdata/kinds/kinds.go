// Package kinds has an interface with every kind of method that the proxy compiler takes.
package kinds

import (
	"context"
	"io"
	"iter"
	"math/big"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/internal/gen/testdata/kinds/shapes"
)

// ID is a named basic type.
type ID string

// Alias is another name of a basic type.
type Alias = int

// Level travels as its text.
type Level int

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte{'0' + byte(l)}, nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(text []byte) error {
	*l = Level(text[0] - '0')
	return nil
}

// Base is embedded.
type Base struct {
	ID   ID
	Name string
}

// Item is a struct that refers to itself, and hides a field of Base.
type Item struct {
	Base
	Name     string `pyro:"label"`
	Price    float64
	Parts    []*Item
	Tags     map[string]int
	Place    shapes.Point
	Made     time.Time
	Secret   string `pyro:"-"`
	internal int
}

// Odd has a key that is no name in Python.
type Odd struct {
	MaxSize int `pyro:"max-size"`
}

// Pair is generic.
type Pair[A, B any] struct {
	First  A
	Second B
}

// Kinds has a method of every kind.
//
// Its comment has "quotes", a \ and a second paragraph:
//
//	and code
type Kinds interface {
	shapes.Mover
	io.Closer
	Local
	Store[ID]

	// Basic echoes basic types.
	//pyro:readonly
	Basic(ctx context.Context, b bool, i int, i64 int64, u64 uint64, f float64, s string, p []byte) (bool, int, int64, uint64, float64, string, []byte, error)
	Small(ctx context.Context, i8 int8, i16 int16, i32 int32, u uint, u8 uint8, u16 uint16, u32 uint32, f32 float32, c complex128, r rune) (i8Out int8, i16Out int16, i32Out int32, uOut uint, u8Out uint8, u16Out uint16, u32Out uint32, f32Out float32, cOut complex128, rOut rune, err error)
	// Named echoes types with names.
	Named(ctx context.Context, id ID, alias Alias, level Level, wait time.Duration, at time.Time, big *big.Int) (ID, Alias, Level, time.Duration, time.Time, *big.Int, error)
	Composed(ctx context.Context, list []int, table map[string][]float64, pair [2]string, any any, item Item, next *Item) (*Item, error)
	Generic(ctx context.Context, pair Pair[ID, int]) (Pair[string, []Item], error)
	Odd(ctx context.Context, odd Odd) (Odd, error)
	Core(ctx context.Context, uri core.URI, tuple core.Tuple, set core.Set, date core.Date) (core.Date, error)
	Failure(ctx context.Context, err error) (error, error)
	Variadic(ctx context.Context, prefix string, values ...int) (sum int, err error)
	VariadicItems(items ...shapes.Point) (int, error)
	// Nothing has neither parameters nor results nor a context.
	Nothing() error
	// Notify does not wait.
	//
	//pyro:oneway
	Notify(ctx context.Context, text string) error
	// Unnamed has parameters without names.
	Unnamed(context.Context, int, string) (string, error)
	// Builtins has parameters that are called like functions of Go, which does not matter but for one.
	Builtins(len, max, append int) (new int, err error)
	// Count is an item stream; what it yields may fail to come.
	Count(ctx context.Context, from, to int) iter.Seq2[int, error]
	// Parts is one without a context.
	Parts(items ...Item) iter.Seq2[*Item, error]
	Blank(ctx context.Context, _ int, text string) (string, error)
	// Keywords sends its arguments by name.
	//
	//pyro:keywords
	//pyro:name by_keyword
	Keywords(ctx context.Context, userID int, URLPath string) (string, error)
	// Collisions has parameters that are called like what is around them.
	Collisions(c context.Context, p, call, err, args, result, impl, core, string, time int, ctx ID, kinds []string, shapes shapes.Point, class, self bool) (context int, nil error)
}

// Store is embedded, and generic.
type Store[K any] interface {
	// Put puts.
	Put(ctx context.Context, key K, values ...K) error
}

// Local is embedded, and from the same package.
type Local interface {
	// HTTPGet2 has a name with capitals.
	HTTPGet2(ctx context.Context, userID int) (int, error)
}
