package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// jokeGen is the object that is served: an ordinary Go value.
type jokeGen struct{ member string }

func (j jokeGen) Joke(name string) string {
	return fmt.Sprintf("Sorry %s, %s only knows jokes about gophers.", name, j.member)
}

// serveReplica is a Go object server: it joins the group, serves until ctx ends, leaves, and drains.
func serveReplica(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: demo replica MEMBER NODE,NODE,…")
	}
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	uri, err := d.Register("", jokeGen{member: args[0]}, core.ObjectOptions{
		Contracts: map[string]core.Contract{"joke": core.ContractReadOnly},
	})
	if err != nil {
		return err
	}
	ns, err := naming.NewClient(strings.Split(args[1], ","), naming.ClientOptions{})
	if err != nil {
		return err
	}
	defer ns.Close()

	served := make(chan error, 1) // one result, read once
	go func() { served <- d.Serve(context.WithoutCancel(ctx)) }()
	member, err := ns.Join(ctx, group, uri, naming.JoinOptions{Member: args[0]})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "serving", uri)

	<-ctx.Done()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, leaveErr := ns.Leave(bye, group, member)
	return errors.Join(leaveErr, d.Shutdown(bye), <-served)
}
