package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "peer" { // the program starts itself, which is the test binary here
		main()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // of the children, which would sleep a second each
	goleak.VerifyTestMain(m)
}
