// Command banks is the server of Pyro5's example "banks" in Go: two banks, found by the prefix of their names.  The example's client.py does
// business with them as with those in Python.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// keyError is the exception for a key that a dict does not have; Python clients catch it as KeyError.
const keyError core.ExceptionClass = "builtins.KeyError"

// Bank keeps accounts.  The daemon runs one of its methods at a time (see serve), so it needs no lock.
type Bank struct {
	title    string
	credit   bool // accounts may be overdrawn
	accounts map[string]float64
}

func newBank(title string, credit bool) *Bank {
	return &Bank{title: title, credit: credit, accounts: make(map[string]float64)}
}

func (b *Bank) Name() string { return b.title }

func (b *Bank) CreateAccount(name string) error {
	if _, taken := b.accounts[name]; taken {
		return core.ValueError.New("Account already exists")
	}
	b.accounts[name] = 0
	return nil
}

func (b *Bank) DeleteAccount(name string) error {
	if err := b.check(name); err != nil {
		return err
	}
	delete(b.accounts, name)
	return nil
}

func (b *Bank) Deposit(name string, amount float64) error {
	if err := b.check(name); err != nil {
		return err
	}
	b.accounts[name] += amount
	return nil
}

func (b *Bank) Withdraw(name string, amount float64) error {
	if err := b.check(name); err != nil {
		return err
	}
	if !b.credit && amount > b.accounts[name] {
		return core.ValueError.New("insufficent balance")
	}
	b.accounts[name] -= amount
	return nil
}

func (b *Bank) Balance(name string) (float64, error) { return b.accounts[name], b.check(name) }

func (b *Bank) AllAccounts() map[string]float64 { return b.accounts }

func (b *Bank) check(name string) error {
	if _, ok := b.accounts[name]; !ok {
		return keyError.New("unknown account")
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	ns, err := naming.Locate(ctx, nil, naming.ClientOptions{}) // as locate_ns() does, by PYRO_NS_HOST and so on
	if err != nil {
		return err
	}
	defer ns.Close()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	banks := map[string]*Bank{
		"example.banks.rabobank": newBank("Rabobank", true),
		"example.banks.abn":      newBank("ABN bank", false),
	}
	for name, bank := range banks {
		uri, err := d.Register("", bank, core.ObjectOptions{
			Names:  map[string]string{"CreateAccount": "createAccount", "DeleteAccount": "deleteAccount", "AllAccounts": "allAccounts"},
			Serial: true, // one call at a time, and its result is sent before the next
		})
		if err != nil {
			return err
		}
		if err := ns.Register(ctx, name, uri, naming.RegisterOptions{}); err != nil {
			return err
		}
	}
	fmt.Println("Banks are ready for customers.")
	return d.Serve(ctx)
}
