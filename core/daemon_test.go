package core

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// account is an ordinary Go value to be served.
type account struct {
	Owner  string
	Limit  int    `pyro:"credit_limit"`
	Secret string `pyro:"-"`

	mu      sync.Mutex
	balance map[string]int

	entered chan string   // if not nil: told when Block begins
	release chan struct{} // Block ends when it is closed, or with its context
}

func newAccount() *account {
	return &account{Owner: "irmen", balance: map[string]int{}, entered: make(chan string, 100), release: make(chan struct{})}
}

func (a *account) Deposit(name string, amount int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.balance[name] += amount
	return a.balance[name]
}

func (a *account) Echo(v any) any { return v }

func (a *account) Ping() {}

func (a *account) DivMod(x, y int64) (int64, int64, error) {
	if y == 0 {
		return 0, 0, ExceptionClass("builtins.ZeroDivisionError").New("integer division or modulo by zero")
	}
	return x / y, x % y, nil
}

func (a *account) Sum(first int, more ...int) int {
	for _, n := range more {
		first += n
	}
	return first
}

func (a *account) Fail(class, text string) error {
	switch class {
	case "":
		return errors.New(text)
	case "deadline":
		return fmt.Errorf("%s: %w", text, context.DeadlineExceeded)
	}
	return ExceptionClass(class).New("%s", text)
}

func (a *account) Panic(text string) { panic(text) }

func (a *account) Unsendable() any { return make(chan int) }

func (a *account) FailUnsendable() error {
	return &RemoteError{Class: ValueError, Args: []any{make(chan int)}}
}

func (a *account) Block(ctx context.Context, name string) (string, error) {
	a.entered <- name
	select {
	case <-a.release:
		return name, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (a *account) Info(ctx context.Context) map[string]any {
	info := CallInfoFrom(ctx)
	AnnotateReply(ctx, "TEST", []byte("back"))
	annotations := map[string]any{}
	for id, data := range info.Annotations {
		annotations[id] = string(data)
	}
	return map[string]any{
		"object": info.Object, "method": info.Method, "serializer": info.Serializer, "sequence": int(info.Sequence),
		"correlation": fmt.Sprintf("%x", info.CorrelationID), "annotations": annotations, "peer": info.Peer.String(),
	}
}

// serve runs a daemon for a test and stops it at its end.
func serve(t testing.TB, opts DaemonOptions) *Daemon {
	t.Helper()
	d, err := Listen("127.0.0.1:0", opts)
	if err != nil {
		t.Fatal(err)
	}
	run(t, d)
	return d
}

// run serves d until the end of the test.
func run(t testing.TB, d *Daemon) {
	done := make(chan error, 1)
	go func() { done <- d.Serve(context.Background()) }()
	t.Cleanup(func() {
		d.Close()
		if err := within(t, done); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// within receives from c, or fails the test after a time that no healthy machine needs.
func within[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Error("timeout")
		panic("timeout")
	}
}

// serveAccount serves an account and returns it with a proxy for it.
func serveAccount(t testing.TB, opts DaemonOptions, proxy ProxyOptions) (*account, *Daemon, *Proxy) {
	t.Helper()
	d := serve(t, opts)
	a := newAccount()
	uri, err := d.Register("account", a, accountOptions())
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(uri, proxy)
	t.Cleanup(func() { p.Close() })
	return a, d, p
}

func accountOptions() ObjectOptions {
	return ObjectOptions{
		Names:     map[string]string{"DivMod": "divmod"},
		Params:    map[string][]string{"deposit": {"name", "amount"}},
		Oneway:    []string{"ping"},
		Contracts: map[string]Contract{"echo": ContractReadOnly, "ping": ContractIdempotent},
	}
}

// spec: C1 C2 C3 C6 S11
func TestCall(t *testing.T) {
	t.Parallel()
	_, _, p := serveAccount(t, DaemonOptions{}, ProxyOptions{})
	ctx := t.Context()
	var n int
	if err := p.Call(ctx, "deposit", &n, "irmen", 100); err != nil || n != 100 {
		t.Fatalf("deposit: %d, %v, want 100", n, err)
	}
	if err := p.Call(ctx, "deposit", &n, "irmen", Kwargs{"amount": 11}); err != nil || n != 111 {
		t.Fatalf("deposit with keyword: %d, %v, want 111", n, err)
	}
	if err := p.Call(ctx, "deposit", nil, Kwargs{"amount": 11, "name": "x"}); err != nil {
		t.Fatalf("deposit with keywords only: %v", err)
	}
	if err := p.Call(ctx, "sum", &n, 1, 2, 3); err != nil || n != 6 {
		t.Fatalf("sum: %d, %v, want 6", n, err)
	}
	var pair [2]int
	if err := p.Call(ctx, "divmod", &pair, 17, 5); err != nil || pair != [2]int{3, 2} {
		t.Fatalf("divmod: %v, %v, want [3 2]", pair, err)
	}
	if err := p.Call(ctx, "ping", &n); err != nil || n != 0 {
		t.Fatalf("oneway ping: %d, %v, want the zero value", n, err)
	}
	var owner string
	if err := p.Attr(ctx, "owner", &owner); err != nil || owner != "irmen" {
		t.Fatalf("owner: %q, %v", owner, err)
	}
	if err := p.SetAttr(ctx, "credit_limit", 500); err != nil {
		t.Fatal(err)
	}
	if err := p.Attr(ctx, "credit_limit", &n); err != nil || n != 500 {
		t.Fatalf("credit_limit: %d, %v, want 500", n, err)
	}
	if err := p.Ping(ctx); err != nil {
		t.Fatal(err)
	}
}
