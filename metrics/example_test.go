package metrics_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/failover"
	"github.com/pyro-cluster/pyro-cluster/metrics"
)

type Bank struct{}

func (Bank) Balance(name string) int { return len(name) }

// A program that serves an object, with metrics in a registry of its own.
func ExampleNewServer() {
	reg := prometheus.NewRegistry()
	served, err := metrics.NewServer(reg, metrics.Options{})
	if err != nil {
		log.Fatal(err)
	}
	d, err := core.Listen("localhost:0", core.DaemonOptions{Observer: served})
	if err != nil {
		log.Fatal(err)
	}
	uri, err := d.Register("bank", Bank{}, core.ObjectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Serve(context.Background()) }()

	p := core.NewProxy(uri, core.ProxyOptions{})
	var balance int
	for range 3 {
		if err := p.Call(context.Background(), "balance", &balance, "irmen"); err != nil {
			log.Fatal(err)
		}
	}
	p.Close()
	d.Close()
	<-done

	printMetrics(reg, "pyro_server_calls_total")
	// Output:
	// pyro_server_calls_total{method="balance",object="bank",outcome="exception"} 0
	// pyro_server_calls_total{method="balance",object="bank",outcome="not_executed"} 0
	// pyro_server_calls_total{method="balance",object="bank",outcome="ok"} 3
	// pyro_server_calls_total{method="balance",object="bank",outcome="unknown"} 0
}

// A program that calls an object group: what its calls came to, and what happened to the attempts.
func ExampleNewFailover() {
	reg := prometheus.NewRegistry()
	called, err := metrics.NewFailover(reg, metrics.Options{})
	if err != nil {
		log.Fatal(err)
	}
	connections, err := metrics.NewClient(reg, metrics.Options{})
	if err != nil {
		log.Fatal(err)
	}
	nowhere := core.URI{Protocol: "PYRO", Object: "bank", Host: "localhost", Port: 1}
	bank := failover.New("bank", failover.Static(nowhere), failover.Options{
		Observer: called,
		Proxy:    core.ProxyOptions{Observer: connections},
	})
	defer bank.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that nothing is tried
	fmt.Println(failover.OutcomeOf(bank.Call(ctx, "balance", nil, "irmen")))

	printMetrics(reg, "pyro_failover_calls_total", "pyro_failover_retries_total")
	// Output:
	// not executed
	// pyro_failover_calls_total{group="bank",outcome="exception"} 0
	// pyro_failover_calls_total{group="bank",outcome="not_executed"} 1
	// pyro_failover_calls_total{group="bank",outcome="ok"} 0
	// pyro_failover_calls_total{group="bank",outcome="unknown"} 0
	// pyro_failover_retries_total{group="bank"} 0
}

// printMetrics scrapes the registry as Prometheus does, and prints some of what comes.
func printMetrics(reg *prometheus.Registry, names ...string) {
	server := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	reply, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for _, name := range names {
			if strings.HasPrefix(line, name+"{") {
				fmt.Print(line)
			}
		}
	}
}
