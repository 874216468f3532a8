// Command instancemode is the server of Pyro5's example "instancemode" in Go: objects that are made when they are needed, for all calls, for each
// connection, or for each call.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

var made atomic.Int64

// Instance knows its number.
type Instance struct {
	kind   string
	number int64
}

func newInstance(kind string) *Instance {
	i := &Instance{kind, made.Add(1)}
	fmt.Printf("created %s instance with id %d\n", i.kind, i.number)
	return i
}

// Msg returns the number.
func (i *Instance) Msg(message string) int64 {
	fmt.Printf("[%d] %s.msg: %s\n", i.number, i.kind, message)
	return i.number
}

// SessionInstance knows the call that it was made for, too.
type SessionInstance struct {
	instance      *Instance
	correlationID string
}

// Msg returns the number and the id of that call.
func (s *SessionInstance) Msg(message string) (int64, string) {
	return s.instance.Msg(message), s.correlationID
}

func newSession(ctx context.Context) (any, error) {
	id := core.CallInfoFrom(ctx).CorrelationID
	uuid := fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	return &SessionInstance{newInstance("SessionInstance"), uuid}, nil
}

func instances(kind string) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return newInstance(kind), nil }
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := naming.Serve(ctx, map[string]any{
		"instance.single":  &core.Factory{Like: &Instance{}, Mode: core.InstanceSingle, New: instances("SingleInstance")},
		"instance.session": &core.Factory{Like: &SessionInstance{}, Mode: core.InstanceSession, New: newSession},
		"instance.percall": &core.Factory{Like: &Instance{}, Mode: core.InstancePerCall, New: instances("PercallInstance")},
	}, naming.ServeOptions{Ready: func(uris map[string]core.URI) {
		for name, uri := range uris {
			fmt.Println(name, "is", uri)
		}
		fmt.Println("running.")
	}})
	if err != nil {
		log.Fatal(err)
	}
}
