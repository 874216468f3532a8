// Package fsm is the replicated state machine of the name server: names, object groups, the nodes' addresses, the event server's
// callback subscribers and the sessions that make retried writes happen once.
//
// It is a pure function of its state and a log entry.  It reads no clock, draws no random number, does no I/O, starts no
// goroutine and never depends on the order of a map, so that every node that applies the same log has the same state
// and writes the same snapshot.  Whatever could differ between nodes is decided by the leader before it enters the log:
// the time, who is asking, which names a regular expression matches.
//
// [State] holds the current state; [State.Apply] is called by one goroutine, for one log entry after the other.  [State.View]
// gives readers an immutable view of it in constant time.  [State.Observe] tells what each log entry changed.
package fsm
