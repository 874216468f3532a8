// Command callback is the servers of Pyro5's example "callback" in Go: workers that call back when they are done, and a client's callbacks
// that fail.  What the client passes is an object of its own daemon; here it is a proxy of that.  The worker that it gets back is an object of this
// daemon, and a proxy there.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// CallbackServer makes workers.
type CallbackServer struct {
	daemon *core.Daemon
	number atomic.Int64
}

// Addworker makes a worker an object of the daemon, and returns it: its caller gets a proxy of it.
func (s *CallbackServer) Addworker(callback core.ProxyState) (*worker, error) {
	w := &worker{daemon: s.daemon, number: s.number.Add(1), callback: callback}
	uri, err := s.daemon.Register("", w, core.ObjectOptions{Oneway: []string{"work"}})
	if err != nil {
		return nil, err
	}
	fmt.Printf("server: adding worker %d\n", w.number)
	w.id = uri.Object
	return w, nil
}

// worker works once.
type worker struct {
	daemon   *core.Daemon
	id       string // of the object
	number   int64
	callback core.ProxyState
}

// Work takes some seconds.  Its caller does not wait, and may be gone by the time that it is done.
func (w *worker) Work(amount int) {
	fmt.Printf("Worker %d busy...\n", w.number)
	time.Sleep(time.Duration(amount) * time.Second)
	fmt.Printf("Worker %d done. Informing callback client.\n", w.number)
	w.daemon.Unregister(w.id)
	callback := w.callback.Proxy(core.ProxyOptions{})
	defer callback.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := callback.Call(ctx, "done", nil, w.number); err != nil {
		log.Printf("worker %d: %v", w.number, err)
	}
}

// FailingCallbacks is the object of the second part.
type FailingCallbacks struct{}

// DoCallback calls both callbacks of the client, which fail.
func (FailingCallbacks) DoCallback(state core.ProxyState) {
	callback := state.Proxy(core.ProxyOptions{})
	defer callback.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i, method := range []string{"call1", "call2"} {
		fmt.Printf("\n\nserver: doing callback %d to client\n", i+1)
		if exception, ok := errors.AsType[*core.RemoteError](callback.Call(ctx, method, nil)); ok {
			fmt.Println("got an exception from the callback:")
			fmt.Println(strings.Join(exception.Traceback, ""))
		}
	}
	fmt.Println("server: callbacks done.")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func serve(ctx context.Context) error {
	ns, err := naming.Locate(ctx, nil, naming.ClientOptions{})
	if err != nil {
		return err
	}
	defer ns.Close()
	d, err := core.Listen("localhost:0", core.DaemonOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	first, err := d.Register("", &CallbackServer{daemon: d}, core.ObjectOptions{})
	if err != nil {
		return err
	}
	second, err := d.Register("", FailingCallbacks{}, core.ObjectOptions{
		Names:  map[string]string{"DoCallback": "doCallback"},
		Oneway: []string{"doCallback"},
	})
	if err != nil {
		return err
	}
	for name, uri := range map[string]core.URI{"example.callback": first, "example.callback2": second} {
		if err := ns.Register(ctx, name, uri, naming.RegisterOptions{}); err != nil {
			return err
		}
	}
	fmt.Println("example.callback and example.callback2 are ready.")
	return d.Serve(ctx)
}
