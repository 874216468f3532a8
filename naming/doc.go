// Package naming is Pyro's name server on a replicated store, its client, and the discovery of both.
//
// [Server] offers the whole interface of Pyro5's name server (Pyro5 docs, "Name Server"), so that stock programs use it unchanged,
// and adds object groups: several servers behind one name.  What it needs of storage is a [Store]; a node of package cluster is one.
// A node runs beside it a [Prober], which finds out which members of groups live, [Respond], which answers the broadcasts by which
// Pyro's clients search, and [AdminServant], which tells about the nodes.
//
// [Client] asks any of several nodes, goes to the next when one fails, and gives every write a number so that one that is
// repeated happens once.  [Locate] finds a name server as Pyro5's locate_ns does.
package naming
