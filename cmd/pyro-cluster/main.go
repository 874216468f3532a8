package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/naming"
)

func main() {
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly stop.  Soon after it signals have their usual effect again, so that one more ends a stop
	// that takes too long; not at once, since some (timeout(1), for one) send theirs to the process and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, restore) })
	os.Exit(printError(os.Stderr, run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)))
}

// run is the whole program.  The end of ctx is the request to stop, which is no error for commands that run until then.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.InitDefaultCompletionCmd() // now, since it remembers where to write
	if c, _, err := root.Find([]string{"completion"}); err == nil {
		c.Args, c.RunE = subcommandArgs, showHelp // cobra's own says nothing about a shell that it does not know
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return nil
	}
	if cmd == root && !isFailure(err) {
		err = usageError(err, seeHelp(root)) // cobra's own complaints about commands that do not exist
	}
	if what := strings.TrimPrefix(cmd.CommandPath(), root.Name()); what != "" {
		return fmt.Errorf("%s: %w", strings.TrimSpace(what), err)
	}
	return err
}

// globals are the flags that every command has.
type globals struct {
	nodes   []string
	timeout time.Duration
	output  string
	secure  security
}

func newRoot() *cobra.Command {
	g := &globals{output: "table"}
	root := &cobra.Command{
		Use:   "pyro-cluster",
		Short: "Highly available Pyro: a replicated name server, object groups, and calls that survive failures",
		Long: `pyro-cluster runs the nodes of a replicated name server that Pyro5 programs use unchanged, and operates them.

See it work with "pyro-cluster dev".

Exit codes: 0 done; 1 the operation failed; 2 wrong usage; 3 nothing reachable, or no majority of the nodes;
4 no such name, group or node; 5 refused; 6 damaged data.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          subcommandArgs,
		RunE:          showHelp,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(err, seeHelp(cmd)) })
	flags := root.PersistentFlags()
	flags.StringSliceVar(&g.nodes, "ns", []string{"localhost:9090"}, "nodes to ask, `host:port,...`; any of them will do")
	flags.DurationVar(&g.timeout, "timeout", 10*time.Second, "for the whole operation, retries included")
	g.secure.add(flags)
	flags.VarP(&enum{&g.output, []string{"table", "json"}}, "output", "o", "how results are printed")
	root.AddCommand(newServer(g), newDev(g), newNS(g), newCall(g), newEvents(g), newCluster(g), newLoadtest(g), newGen(), newVersion(g))
	root.SetHelpCommand(newHelp(root))
	return root
}

// newHelp is cobra's help command, except that help for what does not exist is an error.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Explain a command",
		Example: "  pyro-cluster help ns register",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return subcommandArgs(cmd, rest)
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// client returns a client of the name server.  The caller closes it.
func (g *globals) client() (*naming.Client, error) {
	return g.clientOf(g.nodes)
}

func (g *globals) clientOf(nodes []string) (*naming.Client, error) {
	proxy, err := g.secure.client()
	if err != nil {
		return nil, err
	}
	c, err := naming.NewClient(nodes, naming.ClientOptions{Timeout: g.timeout, Proxy: proxy})
	if err != nil {
		return nil, usageError(err, "name the nodes as host:port,host:port")
	}
	return c, nil
}

// withClient runs f with a client and a context that ends after --timeout.
func (g *globals) withClient(cmd *cobra.Command, f func(ctx context.Context, c *naming.Client) error) error {
	ctx, cancel, err := g.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return namingError(f(ctx, c), g.nodes)
}

// context returns the command's context with --timeout in it.
func (g *globals) context(cmd *cobra.Command) (context.Context, context.CancelFunc, error) {
	if g.timeout <= 0 {
		return nil, nil, usageError(fmt.Errorf("--timeout is %v", g.timeout), "give a time above zero, such as 10s")
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), g.timeout)
	return ctx, cancel, nil
}

// newGroup returns a command that only holds others.
func newGroup(use, short, long string, subcommands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: subcommandArgs, RunE: showHelp}
	cmd.AddCommand(subcommands...)
	return cmd
}

// subcommandArgs complains about a command that does not exist; cobra itself does so only at the root.
func subcommandArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := seeHelp(cmd)
	cmd.SuggestionsMinimumDistance = 2 // letters; cobra's own default, which it sets only at the root
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q?", near[0])
	}
	return usageError(fmt.Errorf("unknown command %q", args[0]), hint)
}

func showHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// exactly returns a check that the arguments are those of these names.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		want := "none"
		if len(names) > 0 {
			want = strings.Join(names, " ")
		}
		return usageError(fmt.Errorf("got %s, want %s", count(len(args), "argument"), want), seeHelp(cmd))
	}
}

// exclusive returns a check that at most one of the flags is given.
func exclusive(flags ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, _ []string) error {
		if given := given(cmd, flags); len(given) > 1 {
			return usageError(fmt.Errorf("%s exclude each other", strings.Join(given, " and ")), "give one of them")
		}
		return nil
	}
}

// without takes global flags that mean nothing to cmd out of its help, and refuses them.
func without(cmd *cobra.Command, flags ...string) *cobra.Command {
	cmd.Args = cobra.MatchAll(cmd.Args, func(cmd *cobra.Command, _ []string) error {
		if given := given(cmd, flags); len(given) > 0 {
			return usageError(fmt.Errorf("%s means nothing here", given[0]), seeHelp(cmd))
		}
		return nil
	})
	cmd.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		for _, name := range flags {
			f := cmd.InheritedFlags().Lookup(name)
			hidden := f.Hidden
			f.Hidden = true
			defer func() { f.Hidden = hidden }() // the flag is that of all commands
		}
		cmd.Root().HelpFunc()(cmd, args)
	})
	return cmd
}

// oneOf returns a check that one of the flags is given.
func oneOf(flags ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(given(cmd, flags)) == 0 {
			return usageError(fmt.Errorf("neither --%s", strings.Join(flags, " nor --")), "give one of them")
		}
		return exclusive(flags...)(cmd, args)
	}
}

func given(cmd *cobra.Command, flags []string) []string {
	var names []string
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			names = append(names, "--"+name)
		}
	}
	return names
}

// count returns "1 name", "2 names".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func seeHelp(cmd *cobra.Command) string {
	return fmt.Sprintf(`see "%s --help"`, cmd.CommandPath())
}

// enum is a flag that takes one of a few words.
type enum struct {
	value   *string
	allowed []string
}

func (e *enum) String() string {
	if e.value == nil { // the zero value, which pflag makes to find the default
		return ""
	}
	return *e.value
}

func (e *enum) Set(s string) error {
	for _, a := range e.allowed {
		if s == a {
			*e.value = s
			return nil
		}
	}
	return fmt.Errorf("want %s", strings.Join(e.allowed, ", "))
}

func (e *enum) Type() string { return strings.Join(e.allowed, "|") }
