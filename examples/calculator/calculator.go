// Package calculator is an interface that is called over the network, in Go and in Python: calculator_pyro.go and calculator.pyi are made from it.
package calculator

import (
	"context"
	"time"
)

//go:generate go run ../../cmd/pyro-cluster gen --type Calculator --pyi calculator.pyi

// Entry is a calculation of the past.
type Entry struct {
	Text   string
	Result float64
	At     time.Time
}

// Calculator calculates and remembers what it has done.
type Calculator interface {
	// Add returns the sum of all terms.
	Add(ctx context.Context, terms ...float64) (float64, error)
	// Divide returns how often the divisor is in the dividend, and what remains.  It is a ZeroDivisionError if the divisor is 0.
	Divide(ctx context.Context, dividend, divisor int) (quotient, remainder int, err error)
	// History returns the last calculations, the latest first, at most so many.
	//
	//pyro:readonly
	History(ctx context.Context, limit int) ([]Entry, error)
	// Clear forgets the history.  Nobody waits for it.
	//
	//pyro:oneway
	//pyro:idempotent
	Clear(ctx context.Context) error
}
