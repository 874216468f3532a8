package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pyro-cluster/pyro-cluster/naming"
)

// stdinName is the file name that means standard input.
const stdinName = "-"

// registerFrom registers the names in a file, a line each, and says of each when it is registered.  A line that is refused does not keep the
// others from being registered; without an answer there is no point in going on.
func (g *globals) registerFrom(cmd *cobra.Command, path string, opts naming.RegisterOptions) error {
	in := cmd.InOrStdin()
	if path != stdinName {
		f, err := os.Open(path)
		if err != nil {
			return usageError(err, "name a file with lines of NAME URI [TAG...]")
		}
		defer f.Close()
		in = f
	}
	_, cancel, err := g.context(cmd) // each name has one of its own; this one is for a --timeout that is none
	if err != nil {
		return err
	}
	cancel()
	c, err := g.client()
	if err != nil {
		return err
	}
	defer c.Close()
	lines, n, refused := bufio.NewScanner(in), 0, 0
	for lines.Scan() {
		n++
		err := g.registerLine(cmd, c, lines.Text(), opts)
		if err == nil {
			continue
		}
		code, hint := classify(err)
		err = fmt.Errorf("line %d: %w", n, err)
		if code == exitUnreachable || cmd.Context().Err() != nil {
			return &failure{code, err, hint}
		}
		printError(cmd.ErrOrStderr(), fmt.Errorf("%s: %w", strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" "), err))
		refused++
	}
	if err := lines.Err(); err != nil {
		return &failure{exitFailed, fmt.Errorf("line %d: %w", n+1, lineError(err)), "write NAME URI [TAG...]"}
	}
	if refused > 0 {
		return &failure{exitFailed, fmt.Errorf("%s not registered", count(refused, "name")), "see the lines above"}
	}
	return nil
}

func lineError(err error) error {
	if errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("longer than %d bytes", bufio.MaxScanTokenSize)
	}
	return err
}

// registerLine registers the name in a line; an empty one, or one that begins with #, has none.
func (g *globals) registerLine(cmd *cobra.Command, c *naming.Client, line string, opts naming.RegisterOptions) error {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasPrefix(words[0], "#") {
		return nil
	}
	if len(words) == 1 {
		return usageError(fmt.Errorf("%.100q has no URI", line), "write NAME URI [TAG...]")
	}
	uri, err := parseURI(words[1])
	if err != nil {
		return err
	}
	opts.Tags = append(words[2:], opts.Tags...)
	ctx, cancel, err := g.context(cmd)
	if err != nil {
		return err
	}
	defer cancel()
	if err := c.Register(ctx, words[0], uri, opts); err != nil {
		return namingError(err, g.nodes)
	}
	return g.printRegistered(cmd.OutOrStdout(), nameRow{words[0], uri.String(), append([]string{}, opts.Tags...)})
}

// printRegistered prints a line for one name of many.
func (g *globals) printRegistered(w io.Writer, r nameRow) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	_, err := fmt.Fprintf(w, "registered %s\n", r.Name)
	return err
}
