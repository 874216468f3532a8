// Command chat joins a channel: lines of standard input go to all others in it, and theirs are printed.  chat.py is the same in Python.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"

	"github.com/pyro-cluster/pyro-cluster/events"
)

var (
	nodes   = flag.String("ns", "localhost:9090,localhost:9190,localhost:9290", "nodes of the cluster")
	channel = flag.String("channel", "lobby", "channel to join")
	nick    = flag.String("nick", "gopher", "name to be known by")
)

// line is what travels: a dict for Python.
type line struct{ Nick, Text string }

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := events.NewClient(strings.Split(*nodes, ","), events.ClientOptions{})
	check(err)
	defer client.Close()
	heard, err := client.Subscribe(ctx, events.SubscribeOptions{Topics: []string{"chat." + *channel}})
	check(err)
	fmt.Printf("*** %s is in %s\n", *nick, *channel)
	go show(ctx, heard)

	for in := bufio.NewScanner(os.Stdin); in.Scan() && ctx.Err() == nil; {
		if err := client.Publish(ctx, "chat."+*channel, line{*nick, in.Text()}); err != nil {
			fmt.Println("*** not sent, as far as is known:", err)
		}
	}
}

func show(ctx context.Context, heard *events.Subscription) {
	for event, err := range heard.All(ctx) {
		if lost, ok := errors.AsType[*events.LostError](err); ok {
			fmt.Println("***", lost) // a node died, or this program was too slow: the chat goes on
			continue
		}
		var l line
		if err == nil {
			err = event.Decode(&l)
		}
		check(err)
		if l.Nick != *nick {
			fmt.Printf("<%s> %s\n", l.Nick, l.Text)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
