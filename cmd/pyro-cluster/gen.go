package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/internal/gen"
)

func newGen() *cobra.Command {
	var o gen.Options
	cmd := &cobra.Command{
		Use:   "gen --type INTERFACE [DIRECTORY]",
		Short: "Make a typed proxy and a skeleton from a Go interface",
		Long: `gen reads an interface of the package in DIRECTORY, which is the current one unless given, and writes a Go file with

  NewCalculatorProxy     a Calculator whose methods are calls through a proxy of an object or an object group
  CalculatorServant      an object that a daemon serves, made from any Calculator
  CalculatorContracts    which methods may be repeated, if there are marks of that

for an interface Calculator. Numbers, text and bytes are sent and read without reflection. Every method needs an error as its last result, and
should take a context first. With --pyi gen writes type hints for Python as well. Comments above a method say what is special about it:

  //pyro:readonly      it changes nothing: it may be sent again, and to several servers
  //pyro:idempotent    running it twice has the effect of running it once: it may be sent again
  //pyro:oneway        the caller does not wait
  //pyro:name NAME     callers use this name, in place of the Go name in snake_case
  //pyro:keywords      the proxy sends the arguments by name

docs/gen.md has the details.`,
		Example: `  pyro-cluster gen --type Calculator
  pyro-cluster gen --type Calculator --out proxy.go --pyi stubs/calculator.pyi ./calculator
  //go:generate pyro-cluster gen --type Calculator`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return exactly("DIRECTORY")(cmd, args)
			case o.Type == "":
				return usageError(errors.New("no --type"), "name an interface of the package")
			case len(args) == 1:
				o.Dir = args[0]
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return gen.Generate(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.Type, "type", "", "the `interface`")
	cmd.Flags().StringVar(&o.Out, "out", "", "the Go `file`, in the package's directory (default INTERFACE_pyro.go, in snake_case)")
	cmd.Flags().StringVar(&o.Stub, "pyi", "", "`file` for Python's type hints, such as calculator.pyi")
	return without(cmd, append(securityFlags, "ns", "timeout", "output")...)
}
