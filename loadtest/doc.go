// Package loadtest measures calls of objects, also while things break: what "pyro-cluster loadtest" does.
//
// [Run] takes a [Config] and returns a [report.Report].  It finds the target or starts one of its own (nodes and object servers as child
// processes), makes load on it (package traffic), breaks things on a schedule (packages fault and link), and compares what callers were
// told with what the servants did (package ledger).
//
// A Config comes from [Settings], which are the flags of the command line and the keys of a scenario file.
package loadtest
