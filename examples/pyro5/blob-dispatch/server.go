// Command blob-dispatch is the dispatcher of Pyro5's example "blob-dispatch" in Go: it passes on what it gets without reading it, so it need not
// know the classes of those who send and receive.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/naming"
)

// Dispatcher knows who listens to what.
type Dispatcher struct {
	mu        sync.Mutex
	listeners map[string][]*core.Proxy // by topic
}

// Register adds a listener.
func (d *Dispatcher) Register(topic string, listener core.ProxyState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners[topic] = append(d.listeners[topic], listener.Proxy(core.ProxyOptions{}))
	fmt.Printf("New listener for topic %s registered: %s\n", topic, listener.URI)
}

// ProcessBlob passes a blob on to the listeners of the topic that it says it is for.
func (d *Dispatcher) ProcessBlob(ctx context.Context, blob *core.Blob) error {
	fmt.Println("Dispatching blob with name:", blob.Info())
	topic, _ := blob.Info().(string)
	d.mu.Lock()
	listeners := slices.Clone(d.listeners[topic])
	d.mu.Unlock()
	for _, listener := range listeners {
		if err := listener.Call(ctx, "process_blob", nil, blob); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dispatcher) close() {
	for _, listeners := range d.listeners {
		for _, listener := range listeners {
			listener.Close()
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &Dispatcher{listeners: make(map[string][]*core.Proxy)}
	defer d.close()
	err := naming.Serve(ctx, map[string]any{"example.blobdispatcher": d}, naming.ServeOptions{
		Ready: func(uris map[string]core.URI) { fmt.Println("Dispatcher is ready:", uris["example.blobdispatcher"]) },
	})
	if err != nil {
		log.Print(err)
	}
}
