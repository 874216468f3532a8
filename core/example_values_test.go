package core_test

import (
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
	// core: [0].amount: got str, want int
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
