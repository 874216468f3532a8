// Command callcontext is the server of Pyro5's example "callcontext" in Go: what a method can know of the call that it serves, and annotations
// in both directions.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
)

// EchoServer shows where messages come from.
type EchoServer struct{}

func (EchoServer) Echo(ctx context.Context, message string) string {
	call := core.CallInfoFrom(ctx)
	fmt.Println("\nGot Message:", message)
	fmt.Println("  object:        ", call.Object)
	fmt.Println("  client:        ", call.Peer)
	fmt.Println("  sequence:      ", call.Sequence)
	fmt.Println("  serializer:    ", call.Serializer)
	fmt.Printf("  correlation id: %x\n", call.CorrelationID)
	if text, ok := call.Annotations["XYZZ"]; ok {
		fmt.Printf("  custom annotation 'XYZZ': b'%s'\n", text)
	}
	return message
}

// Oneway is for callers that do not wait.
func (e EchoServer) Oneway(ctx context.Context, message string) { e.Echo(ctx, message) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	d, err := core.Listen("localhost:0", core.DaemonOptions{ReplyAnnotations: func(context.Context) core.Annotations {
		return core.Annotations{"DDAA": []byte("custom response annotation set by the daemon")}
	}})
	if err != nil {
		return err
	}
	defer d.Close()
	uri, err := d.Register("example.context", EchoServer{}, core.ObjectOptions{Oneway: []string{"oneway"}})
	if err != nil {
		return err
	}
	fmt.Println("Server is ready. You can use the following URI to connect:")
	fmt.Println(uri)
	return d.Serve(ctx)
}
