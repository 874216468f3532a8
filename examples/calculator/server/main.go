// Command server serves a calculator and prints its URI.
package main

import (
	"context"
	"fmt"
	"log"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/examples/calculator"
)

const errZeroDivision core.ExceptionClass = "builtins.ZeroDivisionError"

// memory implements calculator.Calculator.
type memory struct {
	mu      sync.Mutex // guards entries
	entries []calculator.Entry
}

func (m *memory) remember(text string, result float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = append(m.entries, calculator.Entry{Text: text, Result: result, At: time.Now()})
}

func (m *memory) Add(_ context.Context, terms ...float64) (float64, error) {
	var sum float64
	for _, term := range terms {
		sum += term
	}
	m.remember(strings.Trim(strings.ReplaceAll(fmt.Sprint(terms), " ", " + "), "[]"), sum)
	return sum, nil
}

func (m *memory) Divide(_ context.Context, dividend, divisor int) (quotient, remainder int, err error) {
	if divisor == 0 {
		return 0, 0, errZeroDivision.New("%d / 0", dividend)
	}
	m.remember(fmt.Sprintf("%d / %d", dividend, divisor), float64(dividend/divisor))
	return dividend / divisor, dividend % divisor, nil
}

func (m *memory) History(_ context.Context, limit int) ([]calculator.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := slices.Clone(m.entries[max(0, len(m.entries)-max(0, limit)):])
	slices.Reverse(last)
	return last, nil
}

func (m *memory) Clear(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = nil
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		log.Fatal(err)
	}
	uri, err := d.Register("calculator", calculator.CalculatorServant(&memory{}), core.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("serving", uri)
	if err := d.Serve(ctx); err != nil {
		log.Fatal(err)
	}
}
