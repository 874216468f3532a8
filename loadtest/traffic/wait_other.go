//go:build !linux

package traffic

import "context"

func newWaiter(ctx context.Context) waiter { return newTimerWaiter(ctx) }
