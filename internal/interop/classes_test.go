package interop

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/pyro-cluster/pyro-cluster/core"
)

type walletAccount struct {
	Owner  string
	Amount int
	Home   *walletPlace
	More   []any
}

type walletPlace struct{ City string }

type walletCelsius float64

type walletShort struct{ Missing int }

func (e *walletShort) Error() string { return fmt.Sprintf("short of %d", e.Missing) }

func init() {
	core.RegisterClass[walletAccount]("wallet.Account")
	core.RegisterClass[walletPlace]("wallet.Place")
	core.RegisterClassFuncs("wallet.Celsius",
		func(c walletCelsius) (map[string]any, error) { return map[string]any{"degrees": float64(c)}, nil },
		func(attrs map[string]any) (c walletCelsius, err error) { return c, core.Convert(&c, attrs["degrees"]) })
	core.RegisterError[*walletShort]("wallet.Short")
	core.RegisterErrorValue("builtins.EOFError", io.EOF)
}

type wallet struct{}

func (wallet) Pay(a walletAccount, amount int) (walletAccount, error) {
	if a.Amount < amount {
		return a, fmt.Errorf("pay: %w", &walletShort{amount - a.Amount})
	}
	a.Amount -= amount
	return a, nil
}

func (w wallet) All(accounts []*walletAccount) ([]*walletAccount, error) {
	for i, a := range accounts {
		paid, err := w.Pay(*a, 1)
		if err != nil {
			return nil, err
		}
		accounts[i] = &paid
	}
	return accounts, nil
}

func (wallet) Twice(a walletAccount) core.Tuple { return core.Tuple{a, &a} }

func (wallet) Warmer(c walletCelsius, by float64) walletCelsius { return c + walletCelsius(by) }

func (wallet) ReadEnd() error { return fmt.Errorf("read: %w", io.EOF) }

func (wallet) GoType(v any) string { return fmt.Sprintf("%T", v) }

func (wallet) GoTypes(v []any) string {
	dict, _ := v[1].(map[string]any)
	return fmt.Sprintf("[%T map[x:%T]]", v[0], dict["x"])
}

// TestRegisteredClasses has stock programs with registered classes call Go, and Go call them.
//
// spec: Z5 R2 R3 R4
func TestRegisteredClasses(t *testing.T) {
	t.Parallel()
	python := parseURI(t, start(t, nil, "classes.py", "server").expect(t, "uri "))
	d := serve(t, core.DaemonOptions{}, func(d *core.Daemon) error {
		_, err := d.Register("wallet", wallet{}, core.ObjectOptions{})
		return err
	})
	for _, serializer := range serializerNames {
		t.Run(serializer+" from Python", func(t *testing.T) {
			t.Parallel()
			runChecks(t, nil, "classes.py", "client", serializer, d.URI("wallet").String())
		})
		t.Run(serializer+" to Python", func(t *testing.T) { callRegistered(t, python, serializer) })
	}
}

func callRegistered(t *testing.T, uri core.URI, serializer string) {
	ctx := patient(t)
	p := newProxy(t, uri, core.ProxyOptions{Serializer: serializer})
	account := walletAccount{Owner: "irmen", Amount: 5, Home: &walletPlace{"Utrecht"}}
	paid, ok := call(ctx, t, p, "pay", account, 2).(walletAccount)
	if !ok || paid.Amount != 3 || paid.Owner != "irmen" || paid.Home == nil || paid.Home.City != "Utrecht" {
		t.Errorf("pay: got %+v, %v", paid, ok)
	}
	err := p.Call(ctx, "pay", nil, &account, 8)
	if short, ok := errors.AsType[*walletShort](err); !ok || short.Missing != 3 {
		t.Errorf("pay: got %v, want *walletShort with 3", err)
	}
	if remote, ok := errors.AsType[*core.RemoteError](err); !ok || remote.Text() != "short of 3" || len(remote.Traceback) == 0 {
		t.Errorf("pay: got %v, want the exception with its traceback", err)
	}
	if err := p.Call(ctx, "read_end", nil); !errors.Is(err, io.EOF) {
		t.Errorf("read_end: got %v, want EOF", err)
	}
	if serializer == "marshal" {
		return // Pyro5 does not write objects inside of others
	}
	var all []walletAccount
	err = p.Call(ctx, "all", &all, []walletAccount{account, account})
	if err != nil || len(all) != 2 || all[1].Amount != 4 {
		t.Errorf("all: got %+v, %v", all, err)
	}
}
