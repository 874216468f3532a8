package chaos

import (
	"context"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/pyro-cluster/pyro-cluster/events"
	"github.com/pyro-cluster/pyro-cluster/internal/spawn"
)

// BenchmarkEventsPython is the rate of deliveries to ten stock Python callbacks, in one program or in ten, which one node calls, of events that a Go
// program publishes.  Publishers wait for the subscribers, so that no event is lost.
func BenchmarkEventsPython(b *testing.B) {
	const subscribers = 10
	for _, programs := range []int{1, subscribers} {
		b.Run(fmt.Sprintf("programs=%d", programs), func(b *testing.B) {
			c := startCluster(b)
			waiting := startPython(b, c.Addresses()[0], programs, subscribers/programs)
			client, err := events.NewClient(c.Addresses(), events.ClientOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			start, published := time.Now(), 0
			for b.Loop() {
				err := client.PublishAsync(b.Context(), chaosTopic, make([]byte, 128))
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
			waiting("last", subscribers/programs)
			b.ReportMetric(float64(subscribers*published)/time.Since(start).Seconds(), "deliveries/s")
		})
	}
}

// startPython starts programs that subscribe so many callbacks each.  It returns a function that waits until each has printed a line so often.
func startPython(b *testing.B, node string, programs, callbacks int) func(line string, times int) {
	b.Helper()
	var started []*spawn.Process
	await := func(line string, times int) {
		b.Helper()
		ctx, cancel := context.WithTimeout(b.Context(), chaosPatience)
		defer cancel()
		for _, p := range started {
			for range times {
				if _, err := p.Line(ctx, line); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	for i := range programs {
		cmd := pythonCommand(b, subscriberScript, node, chaosTopic, "block", "1000", strconv.Itoa(callbacks))
		p, err := spawn.Start(fmt.Sprintf("program%d", i+1), cmd)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.End(syscall.SIGKILL) })
		started = append(started, p)
	}
	await("subscribed", 1)
	return await
}
