// Package naming is Pyro's name server on a replicated store, its client, and the discovery of both.
//
// [Server] offers the whole interface of Pyro5's name server (Pyro5 docs, "Name Server"), so that stock programs use it unchanged,
// and adds object groups: several servers behind one name.  What it needs of storage is a [Store]; a node of package cluster is one.
//
// [Client] asks any of several nodes, goes to the next when one fails, and gives every write a number so that one that is
// repeated happens once.
package naming
