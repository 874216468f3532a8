package chaos

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// BenchmarkEventsPython is the rate of deliveries to ten stock Python programs whose callbacks one node calls, of events that one Go program
// publishes; publishers wait for the subscribers, so that no event is lost.
func BenchmarkEventsPython(b *testing.B) {
	const subscribers = 10
	c := startCluster(b)
	var programs []*spawn.Process
	for i := range subscribers {
		p, err := spawn.Start(fmt.Sprintf("subscriber%d", i+1), pythonCommand(b, subscriberScript, c.Addresses()[0], chaosTopic, "block", "1000"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.End(syscall.SIGKILL) })
		programs = append(programs, p)
	}
	ctx, cancel := context.WithTimeout(b.Context(), chaosPatience)
	defer cancel()
	for _, p := range programs {
		if _, err := p.Line(ctx, "subscribed"); err != nil {
			b.Fatal(err)
		}
	}
	client, err := events.NewClient(c.Addresses(), events.ClientOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	message := make([]byte, 128)
	published := 0
	start := time.Now()
	for b.Loop() {
		err := client.PublishAsync(b.Context(), chaosTopic, message)
		if published++; err == nil && published%100 == 0 {
			err = client.Flush(b.Context()) // so that not more wait than the queues hold
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := client.Publish(b.Context(), chaosTopic, "last"); err != nil {
		b.Fatal(err)
	}
	for _, p := range programs {
		if _, err := p.Line(b.Context(), "last"); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(subscribers*published)/time.Since(start).Seconds(), "deliveries/s")
}
