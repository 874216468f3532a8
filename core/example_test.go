package core_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// Bank is an ordinary Go type.
type Bank struct {
	Currency string
	accounts map[string]int
}

// Deposit is called as deposit.
func (b *Bank) Deposit(account string, amount int) (int, error) {
	if amount <= 0 {
		return 0, core.ValueError.New("cannot deposit %d", amount)
	}
	b.accounts[account] += amount
	return b.accounts[account], nil
}

// A daemon serves a Go value; its parameters have names for callers that use keywords.
func ExampleDaemon() {
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error)
	go func() { served <- d.Serve(ctx) }()

	uri, err := d.Register("bank", &Bank{Currency: "EUR", accounts: map[string]int{}}, core.ObjectOptions{
		Params: map[string][]string{"deposit": {"account", "amount"}},
		Serial: true, // one call at a time, as Bank has no lock of its own
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(uri.Protocol, uri.Object)

	p := core.NewProxy(uri, core.ProxyOptions{})
	meta, err := p.Metadata(ctx)
	fmt.Println(meta.Methods, meta.Attrs, err)
	p.Close()

	stop()
	fmt.Println(<-served)
	// Output:
	// PYRO bank
	// [deposit] [currency] <nil>
	// context canceled
}

// A proxy calls methods and attributes, and tells an exception from a call that got no answer.
func ExampleProxy() {
	uri, stop := serveBank()
	defer stop()
	ctx := context.Background()

	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()
	var balance int
	err := p.Call(ctx, "deposit", &balance, "irmen", 100)
	fmt.Println(balance, err)
	err = p.Call(ctx, "deposit", &balance, "irmen", core.Kwargs{"amount": 11})
	fmt.Println(balance, err)

	var currency string
	err = p.Attr(ctx, "currency", &currency)
	fmt.Println(currency, err)

	err = p.Call(ctx, "deposit", &balance, "irmen", -1)
	fmt.Println(err, errors.Is(err, core.ValueError))

	stop()
	err = p.Call(ctx, "deposit", &balance, "irmen", 1)
	if e, ok := errors.AsType[*core.TransportError](err); ok {
		fmt.Println(e.Op, e.Written)
	}
	// Output:
	// 100 <nil>
	// 111 <nil>
	// EUR <nil>
	// ValueError: cannot deposit -1 true
	// connect false
}

// References are what people write: one object, or one name, at several places.
func ExampleParseReference() {
	for _, s := range []string{"PYRO:bank@h1:7001,h2:7001", "PYRONAME:bank@n1,n2:9091", "PYRONAME://n1/bank", "PYROLOC://h1:7766/bank", "bank"} {
		r, err := core.ParseReference(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(r, r.URIs()[0])
	}
	// Output:
	// PYRO:bank@h1:7001,h2:7001 PYRO:bank@h1:7001
	// PYRONAME:bank@n1:9090,n2:9091 PYRONAME:bank@n1:9090
	// PYRONAME:bank@n1:9090 PYRONAME:bank@n1:9090
	// PYRO:bank@h1:7766 PYRO:bank@h1:7766
	// PyroError: invalid uri
}

func ExampleParseURI() {
	u, err := core.ParseURI("pyro:bank@localhost:7001")
	fmt.Println(u, u.Object, u.Host, u.Port, err)
	_, err = core.ParseURI("PYRO:bank")
	fmt.Println(err)
	// Output:
	// PYRO:bank@localhost:7001 bank localhost 7001 <nil>
	// PyroError: invalid uri
}

// serveBank serves a bank until stop is called, any number of times.
func serveBank() (uri core.URI, stop func()) {
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		panic(err)
	}
	uri, err = d.Register("bank", &Bank{Currency: "EUR", accounts: map[string]int{}}, core.ObjectOptions{
		Params: map[string][]string{"deposit": {"account", "amount"}},
	})
	if err != nil {
		panic(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.Serve(context.Background())
	}()
	return uri, func() {
		d.Close()
		<-served
	}
}

// A batch sends several calls in one message; the first exception ends it.
func ExampleBatch() {
	uri, stop := serveBank()
	defer stop()
	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()

	b := p.Batch()
	b.Call("deposit", "irmen", 100)
	b.Call("deposit", "irmen", 20)
	b.Call("deposit", "irmen", -1)
	b.Call("deposit", "irmen", 1000)
	for balance, err := range b.Do(context.Background()) {
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(balance)
	}
	// Output:
	// 100
	// 120
	// ValueError: cannot deposit -1
}
