// Package interop holds this project against the real thing: the Python packages of requirements.txt.  Stock Python clients call Go
// daemons and the Go name server, Go clients call stock Python daemons, and the answers of both name servers are compared.
//
// The Python side is in testdata; its scripts print a JSON line for each check, which becomes a subtest here.  The interpreter is that of
// PCLUSTER_PYTHON, else the .venv that scripts/venv.sh makes.  Without it the tests fail: an interface that was not tried does not hold.
package interop
