package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/core/auth"
)

// A server for clients of its own machine that sign with a key, or know a secret.  Methods see who calls.
func Example() {
	key := []byte("sixteen bytes or more, random")
	tokens, err := auth.NewTokens(auth.TokenOptions{Keys: map[string][]byte{"joe": key}})
	if err != nil {
		log.Fatal(err)
	}
	near, err := auth.From("127.0.0.0/8", "::1")
	if err != nil {
		log.Fatal(err)
	}
	secret, err := auth.Secret("open sesame")
	if err != nil {
		log.Fatal(err)
	}
	d, err := core.Listen("127.0.0.1:0", core.DaemonOptions{ValidateHandshake: auth.Require(near, auth.Any(tokens.Check, secret))})
	if err != nil {
		log.Fatal(err)
	}
	who := &core.Servant{Class: "Who", Methods: []core.Method{{Name: "am_i", Func: func(ctx context.Context, _ []any) (any, error) {
		return core.CallInfoFrom(ctx).Principal, nil
	}}}}
	uri, err := d.Register("who", who, core.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.Serve(context.Background()) }()

	for _, opts := range []core.ProxyOptions{
		{Credentials: auth.Signer{Name: "joe", Key: key}.Credentials},
		{Handshake: "open sesame"},
		{Handshake: "open barley"},
	} {
		p := core.NewProxy(uri, opts)
		var name string
		err := p.Call(context.Background(), "am_i", &name)
		fmt.Printf("%q, refused: %t\n", name, errors.Is(err, core.CommunicationError))
		if err := p.Close(); err != nil {
			log.Fatal(err)
		}
	}
	if err := errors.Join(d.Close(), <-served); err != nil {
		log.Fatal(err)
	}
	// Output:
	// "joe", refused: false
	// "", refused: false
	// "", refused: true
}
