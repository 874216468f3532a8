// Package core is Pyro's object layer in Go: objects are served by a [Daemon], called through a [Proxy], addressed by a
// [URI], and everything between them is Pyro's wire protocol 502, so that Python programs that use Pyro5 are equally good
// clients and servers.
//
// A server listens, registers ordinary Go values and serves:
//
//	d, err := core.Listen("localhost:0", core.DaemonOptions{})
//	uri, err := d.Register("bank", &Bank{}, core.ObjectOptions{})
//	err = d.Serve(ctx)
//
// A client calls them:
//
//	p := core.NewProxy(uri, core.ProxyOptions{})
//	defer p.Close()
//	var balance int
//	err := p.Call(ctx, "deposit", &balance, "irmen", 100)
//
// Beyond single calls, a proxy sends batches ([Proxy.Batch]), reads streams ([Stream]), calls containers as Python's syntax does ([Len], [Items]), and
// can be a value itself ([ProxyState]).  What goes along with calls, annotations and correlation ids, is in their contexts ([WithAnnotations]).
// Addresses as people write them are read by [ParseReference].
//
// From the bottom up: frame.go is the codec of messages (pure functions over bytes), the serializers (serpent.go,
// marshal.go, json.go, msgpack.go) turn payloads into the values described in value.go, conn.go is one connection,
// and proxy.go and daemon.go are the two ends.  mux.go tells how many calls share a connection, and how that is agreed on.
// What generated code calls, and is called by, is in invocation.go, encoder.go, decoder.go and direct.go.
//
// In a program whose heap is small, the collector would run dozens of times a second while calls come fast.  While the program allocates 64 MB/s or
// more, up to 32 MB of memory that nothing touches stand for a larger heap: garbage may take as much more memory before it is collected, and the
// runtime's figures of the heap contain it.  Programs that set GOGC to anything but 100, or GOMEMLIMIT below 320 MiB, are left alone.
//
// The package knows neither name server nor cluster: a PYRONAME URI is resolved by the [Resolver] that the caller passes.
package core
