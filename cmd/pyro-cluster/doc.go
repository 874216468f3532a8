// Command pyro-cluster runs and operates the replicated name server, and calls objects from a shell.
//
//	pyro-cluster dev       three nodes and a demo object group in one process
//	pyro-cluster server    one node
//	pyro-cluster ns        names and object groups
//	pyro-cluster call      call a method
//	pyro-cluster cluster   the nodes
//
// The package wires the others together and decides nothing.  Every command ends with one of the exit codes in errors.go, and an error
// is one line on stderr: "pyro-cluster: what: why: what to do".
package main
