package core_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pyro-cluster/pyro-cluster/core"
)

func ExampleConvert() {
	// What Python sent: [{"amount": 3, "owner": "irmen"}], with a float for the amount.
	value := []any{map[string]any{"amount": 3.0, "owner": "irmen"}}
	var payments []struct {
		Amount int
		Owner  string
	}
	fmt.Println(core.Convert(&payments, value), payments)

	value[0] = map[string]any{"amount": "three"}
	fmt.Println(core.Convert(&payments, value))
	// Output:
	// <nil> [{3 irmen}]
	// core: [0].amount: got str "three", want int
}

func ExampleSerializerByName() {
	s, _ := core.SerializerByName("json")
	data, err := s.AppendValue(nil, core.Dict{{Key: "name", Value: "irmen"}, {Key: "tags", Value: core.Set{1}}})
	fmt.Printf("%s %v\n", data, err)
	v, err := s.ParseValue(data)
	fmt.Println(v, err)
	// Output:
	// {"name": "irmen", "tags": [1]} <nil>
	// map[name:irmen tags:[1]] <nil>
}

// Account travels as an instance of the Python class bank.Account.
type Account struct {
	Owner   string
	Balance int `pyro:"amount"`
}

// Teller is the object that is served.
type Teller struct{}

// Withdraw returns the account as it is then.
func (*Teller) Withdraw(a Account, amount int) (Account, error) {
	if a.Balance < amount {
		return a, &InsufficientFunds{Missing: amount - a.Balance}
	}
	a.Balance -= amount
	return a, nil
}

// InsufficientFunds is an exception of Python, too.
type InsufficientFunds struct{ Missing int }

func (e *InsufficientFunds) Error() string {
	return fmt.Sprintf("insufficient funds, %d missing", e.Missing)
}

// A Python program knows the class by register_class_to_dict and register_dict_to_class.
func ExampleRegisterClass() {
	core.RegisterClass[Account]("bank.Account")
	core.RegisterError[*InsufficientFunds]("bank.InsufficientFunds")

	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- d.Serve(context.Background()) }()
	defer func() { <-served }()
	defer d.Close()
	uri, err := d.Register("bank", &Teller{}, core.ObjectOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}

	p := core.NewProxy(uri, core.ProxyOptions{})
	defer p.Close()
	var result any
	err = p.Call(context.Background(), "withdraw", &result, Account{"irmen", 100}, 40)
	fmt.Printf("%#v %v\n", result, err)

	err = p.Call(context.Background(), "withdraw", &result, result, 100)
	if short, ok := errors.AsType[*InsufficientFunds](err); ok {
		fmt.Println(short.Missing, "more is needed")
	}
	fmt.Println(errors.Is(err, core.ExceptionClass("bank.InsufficientFunds")), err)
	// Output:
	// core_test.Account{Owner:"irmen", Balance:60} <nil>
	// 40 more is needed
	// true InsufficientFunds: insufficient funds, 40 missing
}
