package peer

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// childVariable, in the environment, makes the test binary the program that Main is.
const childVariable = "LOADTEST_PEER_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0") // of the children, which would sleep a second each
		goleak.VerifyTestMain(m)
		return
	}
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	if err := Main(ctx, Pyro(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
