package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
)

// callFlags are the flags of one call.
type callFlags struct {
	kwargs        []string
	serializer    string
	handshakeFile string
	allText       bool
	attr          bool
	idempotent    bool
	oneway        bool
	traceback     bool
}

func newCall(g *globals) *cobra.Command {
	f := &callFlags{} // no serializer: core finds one that the server has
	cmd := &cobra.Command{
		Use:   "call OBJECT METHOD [ARG...]",
		Short: "Call a method of an object or of an object group",
		Long: `call calls a method and prints its result: text as it is, everything else as JSON, and the items of a stream one by one as they come.

OBJECT is a URI:
  PYRONAME:bank                     a name or an object group, known to the nodes of --ns
  PYRONAME:bank@n1:9090,n2:9090     the same, known to these nodes
  PYRO:bank@h1:7000,h2:7000         an object on one or several servers, without a name server
  PYROMETA:printer,floor:3          any object that has these tags
  PYRO://h1:7000/bank  PYRONAME://n1/bank  PYROLOC://h1:7000/bank

An argument that is JSON is sent as what it means (5, true, null, [1,2], {"a":1}, "5"), every other one as text; --string sends all as text.
A call that surely did not run is sent again to another server of the group; with --idempotent also one that may have run.`,
		Example: `  pyro-cluster call PYRONAME:jokegen joke Irmen
  pyro-cluster call PYRONAME:bank deposit irmen 100 --kw currency=EUR --idempotent
  pyro-cluster call PYRO:bank@db1.example.org:7000 balance irmen -o json
  pyro-cluster call PYRONAME:bank interest --attr`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError(fmt.Errorf("got %s, want OBJECT METHOD [ARG...]", count(len(args), "argument")), seeHelp(cmd))
			}
			return exclusive("attr", "oneway")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(g, cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.kwargs, "kw", nil, "keyword argument, `name=value`; may be repeated")
	flags.Var(&enum{&f.serializer, []string{"serpent", "marshal", "json", "msgpack"}}, "serializer", "how arguments travel (default: msgpack, or serpent with servers that lack it)")
	flags.StringVar(&f.handshakeFile, "handshake-file", "", "`file` whose first line the object's servers ask of clients: a secret, a token, or a JSON object")
	flags.BoolVar(&f.allText, "string", false, "send all arguments as text")
	flags.BoolVar(&f.attr, "attr", false, "METHOD is an attribute: read it, or write it if there is an ARG")
	flags.BoolVar(&f.idempotent, "idempotent", false, "running the method twice does no harm")
	flags.BoolVar(&f.oneway, "oneway", false, "do not wait for the method to run")
	flags.BoolVar(&f.traceback, "traceback", false, "print the remote traceback of an exception")
	return cmd
}

func (f *callFlags) run(g *globals, cmd *cobra.Command, args []string) error {
	ref, err := core.ParseReference(args[0])
	if err != nil {
		return usageError(badReference(args[0], err), hintReference(args[0]))
	}
	member, values := args[1], f.values(args[2:])
	kwargs, err := f.keywords()
	if err != nil {
		return err
	}
	if f.attr && (len(values) > 1 || len(kwargs) > 0) {
		return usageError(errors.New("an attribute takes one value at most"), seeHelp(cmd))
	}
	ctx, cancel, err := g.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	target, err := f.target(ctx, g, ref)
	if err != nil {
		return err
	}
	if len(kwargs) > 0 {
		values = append(values, kwargs)
	}
	err = f.call(ctx, cmd.OutOrStdout(), g, target, member, values)
	return f.explain(cmd.ErrOrStderr(), target.Name, member, err)
}

// hintReference says how to write what was meant by s, which is no URI.
func hintReference(s string) string {
	if !strings.Contains(s, ":") && s != "" {
		return fmt.Sprintf("did you mean PYRONAME:%s?", s)
	}
	return "give a URI such as PYRONAME:bank or PYRO:bank@host:port"
}

// target finds the members that ref stands for.  One look at the name server is enough for one call, and it tells a name that does not
// exist from a member that does not answer.
func (f *callFlags) target(ctx context.Context, g *globals, ref core.Reference) (failover.Group, error) {
	if ref.Protocol == "PYRO" {
		return failover.Static(ref.URIs()...).Group(ctx, ref.Object)
	}
	nodes := g.nodes
	if len(ref.Locations) > 0 {
		nodes = ref.Locations
	}
	client, err := g.clientOf(nodes)
	if err != nil {
		return failover.Group{}, err
	}
	defer client.Close()
	if ref.Protocol == "PYRONAME" {
		group, err := client.Group(ctx, ref.Object)
		return group, namingError(err, nodes)
	}
	uri, err := client.Resolve(ctx, core.URI{Protocol: ref.Protocol, Object: ref.Object})
	if err != nil {
		return failover.Group{}, namingError(err, nodes)
	}
	return failover.Static(uri).Group(ctx, ref.Object)
}

// fixed is a resolver for a group that was looked up already.
type fixed failover.Group

func (r fixed) Group(context.Context, string) (failover.Group, error) { return failover.Group(r), nil }

func (f *callFlags) call(ctx context.Context, out io.Writer, g *globals, target failover.Group, member string, args []any) error {
	proxy, err := g.secure.client()
	if err != nil {
		return err
	}
	if proxy.Handshake, err = f.handshake(); err != nil {
		return err
	}
	proxy.Serializer = f.serializer
	opts := failover.Options{Proxy: proxy}
	if f.idempotent {
		opts.Contracts = map[string]core.Contract{member: core.ContractIdempotent}
	}
	p := failover.New(target.Name, fixed(target), opts)
	defer p.Close()
	var result any
	switch {
	case f.oneway:
		return p.CallOneway(ctx, member, args...)
	case !f.attr:
		err = p.Call(ctx, member, &result, args...)
	case len(args) == 1:
		return p.SetAttr(ctx, member, args[0])
	default:
		err = p.Attr(ctx, member, &result)
	}
	if err != nil {
		return err
	}
	return g.printResult(ctx, out, result)
}

// handshake is what the object's servers are told of us; the secret of --secret-file is the nodes' alone.
func (f *callFlags) handshake() (any, error) {
	if f.handshakeFile == "" {
		return nil, nil
	}
	line, err := firstLine("--handshake-file", f.handshakeFile)
	if err != nil {
		return nil, err
	}
	if dict, ok := jsonValue(line).(map[string]any); ok {
		return dict, nil
	}
	return line, nil // a secret of digits, too
}

// explain says what is known of a call that failed.  An exception of the method is a plain failure, whatever its class: the exit codes
// of the name server's exceptions are for its own.
func (f *callFlags) explain(stderr io.Writer, target, member string, err error) error {
	raised, ok := errors.AsType[*core.RemoteError](err)
	if ok && f.traceback {
		for _, line := range raised.Traceback {
			fmt.Fprint(stderr, line)
		}
	}
	switch {
	case err == nil:
		return nil
	case !isUnanswered(err) && ok:
		return &failure{exitFailed, raised, ""}
	case !isUnanswered(err):
		return err
	case failover.OutcomeOf(err) == failover.NotExecuted:
		code, hint := unanswered(rootCause(err), "--handshake-file", hintServers)
		return &failure{code, fmt.Errorf("%s of %s did not run: %w", member, target, rootCause(err)), hint}
	}
	return &failure{exitFailed, fmt.Errorf("%s of %s may have run: %w", member, target, rootCause(err)), "find out before calling again"}
}

// isUnanswered tells calls that no server answered from those that one did.
func isUnanswered(err error) bool {
	if _, ok := errors.AsType[*failover.CallError](err); ok {
		return true
	}
	_, ok := errors.AsType[*core.TransportError](err)
	return ok
}

// values turns arguments of the command line into arguments of the call.
func (f *callFlags) values(args []string) []any {
	values := make([]any, len(args))
	for i, a := range args {
		values[i] = f.value(a)
	}
	return values
}

func (f *callFlags) value(arg string) any {
	if f.allText {
		return arg
	}
	return jsonValue(arg)
}

// jsonValue returns what s means, or s itself if it is no JSON.
func jsonValue(s string) any {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.InputOffset() != int64(len(s)) {
		return s
	}
	v, ok := exactNumbers(v)
	if !ok {
		return s
	}
	return v
}

// exactNumbers replaces JSON's numbers by int64, *big.Int or float64, as Python reads them.  It is false for a number that no float64
// holds.
func exactNumbers(v any) (_ any, ok bool) {
	switch v := v.(type) {
	case json.Number:
		return exactNumber(v)
	case []any:
		for i := range v {
			if v[i], ok = exactNumbers(v[i]); !ok {
				return nil, false
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], ok = exactNumbers(v[key]); !ok {
				return nil, false
			}
		}
	}
	return v, true
}

func exactNumber(n json.Number) (any, bool) {
	if i, err := n.Int64(); err == nil {
		return i, true
	}
	if i, ok := new(big.Int).SetString(n.String(), 10); ok {
		return i, true
	}
	f, err := n.Float64()
	return f, err == nil
}

func (f *callFlags) keywords() (core.Kwargs, error) {
	kwargs := make(core.Kwargs, len(f.kwargs))
	for _, kw := range f.kwargs {
		name, value, ok := strings.Cut(kw, "=")
		if !ok || name == "" {
			return nil, usageError(fmt.Errorf("--kw %q", kw), "write it as name=value")
		}
		if _, twice := kwargs[name]; twice {
			return nil, usageError(fmt.Errorf("--kw %s is given twice", name), "give each keyword once")
		}
		kwargs[name] = f.value(value)
	}
	return kwargs, nil
}
