package peer

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/pyro-cluster/pyro-cluster/core"
	"github.com/pyro-cluster/pyro-cluster/events"
)

const (
	eventTopic = "bench.events"
	eventQueue = 2 * eventWindow // of a subscriber, so that none is full
)

func serveEvents(ctx context.Context, ln net.Listener) error {
	d, err := core.NewDaemon(ln, core.DaemonOptions{})
	if err != nil {
		return err
	}
	broker := events.NewBroker(events.BrokerOptions{})
	if _, err := d.Register(events.ObjectID, broker.Servant(), core.ObjectOptions{}); err != nil {
		d.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { broker.Run(ctx, events.NewStandalone(broker.Changes)) })
	return d.Serve(ctx)
}

// dialEvents makes sure that the server is there, which a client of events would wait for.
func dialEvents(ctx context.Context, address string) (Broker, error) {
	uri, err := core.ParseURI("PYRO:" + events.ObjectID + "@" + address)
	if err != nil {
		return nil, err
	}
	proxy := core.NewProxy(uri, core.ProxyOptions{})
	defer proxy.Close()
	if err := proxy.Ping(ctx); err != nil {
		return nil, err
	}
	client, err := events.NewClient([]string{address}, events.ClientOptions{})
	if err != nil {
		return nil, err
	}
	return &pyroBroker{client: client}, nil
}

// pyroBroker is a client with a subscription, or without one.
type pyroBroker struct {
	client       *events.Client
	subscription *events.Subscription
	latest       []byte
}

func (b *pyroBroker) Publish(ctx context.Context, p []byte) error {
	return b.client.PublishAsync(ctx, eventTopic, p)
}

func (b *pyroBroker) Flush(ctx context.Context) error { return b.client.Flush(ctx) }

func (b *pyroBroker) Subscribe(ctx context.Context) (err error) {
	b.subscription, err = b.client.Subscribe(ctx, events.SubscribeOptions{Topics: []string{eventTopic}, Queue: eventQueue})
	return err
}

func (b *pyroBroker) Next(ctx context.Context) ([]byte, error) {
	for {
		e, err := b.subscription.Next(ctx)
		if err == nil {
			err = e.Decode(&b.latest)
			return b.latest, err
		}
		if _, lost := errors.AsType[*events.LostError](err); !lost {
			return nil, err
		} // the numbers of events tell
	}
}

func (b *pyroBroker) Close() error { return b.client.Close() }
