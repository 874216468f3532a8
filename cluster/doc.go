// Package cluster is a node of the replicated name server: hashicorp/raft with its log, snapshots, transport and membership
// around the state machine of package fsm.
//
// [Open] starts a node.  [Node.Apply] runs a command anywhere in the cluster: a follower sends it to the leader, and the leader packs
// the commands that wait into one log entry (group commit).  [Node.View] is a linearizable read on any node (Raft thesis, section
// 6.4): the leader confirms that it still leads with one round of messages that all waiting readers share, and the reading node
// waits until it has applied what was committed when it asked.  DESIGN.md has the arguments.
package cluster
