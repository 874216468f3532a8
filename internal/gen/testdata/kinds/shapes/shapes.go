// Package shapes has types for another package, and an interface that it embeds.
package shapes

import "context"

// Point is a place.
type Point struct{ X, Y float64 }

// Mover moves.
type Mover interface {
	// MoveTo moves to a point, relative to the one before it.
	//
	//pyro:name move
	//pyro:idempotent
	MoveTo(ctx context.Context, target Point) (Point, error)
}
