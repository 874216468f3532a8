// Package failover calls object groups: several replicas of one object, on several machines.  A [Proxy] holds the endpoints of all
// members, picks one for each call, and goes to another when that one fails, as far as the call allows it.
//
// A failed call is classified (CORBA 3.0, 23.2.6: completed no, maybe, yes) into an [Outcome].  NotExecuted calls (nothing was
// written, the server refused or is draining) are always sent again to another replica.  Unknown ones (written, no
// reply) are sent again only if the method's contract says that running it twice is harmless: idempotent or read-only, as
// declared by the server or by the caller's options.  Every other failure is returned as a [CallError] that says which it was.
//
// This is also what there is of Pyro5's MAX_RETRIES, for one server as for many: Static(uri) is a group of one.  Pyro5 repeats any method call
// that broke or took too long, so that it may run twice, and neither refused connections nor attributes nor batches.  Here what surely did not run is
// sent again, whatever it is; of the rest only what may run twice: methods by contract, reading and setting attributes, and batches of such methods
// ([Proxy.Batch]).  Tries are bounded by time ([Options].CallTimeout or the context), not by their number.  A [core.Proxy] alone never repeats a call.
//
// The members come from a [Resolver]; the client of package naming is one, [Static] another.
package failover
