// Package events is the event server: programs publish events to topics, others subscribe to topics, and neither knows of the other
// (Pyro3 manual, chapter 6; spec of the same calls in docs/events.md).
//
// Every node of a cluster has a [Broker], which is the Pyro object "Pyro.EventService".  An event goes from the node that it was published at
// to the nodes that have subscribers for it, straight, without a log in between: it is delivered at most once, in the order in which its
// publisher published, and only to those who subscribe at that time.  What a subscriber lost it is told.
//
// There are two kinds of subscribers.  A callback is any Pyro object with a method event, as stock Python programs have: the
// subscription is part of the replicated state, one node delivers, and another takes over when that dies.  A stream belongs to the [Client] of a Go
// program: it asks for the next events over a connection of its own, and subscribes at another node when that one is gone.
//
// # How order and at-most-once are kept
//
// An event carries the id of its publisher and a number that grows with each of its events.  Who sees a number of a publisher that is not
// higher than the last one drops the event, so that neither a retry between nodes nor a subscriber that moves makes one come twice or
// late.  The node where an event enters decides, once, which node delivers it to a callback: two nodes that both believe to be responsible
// never deliver the same event.
package events
