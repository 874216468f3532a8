// Package pyrolite tests Java programs: Client.java calls a Go object, which it finds by our name server, with Pyrolite
// (https://github.com/irmen/Pyrolite), the library of Pyro for Java.  The tests need a JDK and what scripts/java.sh fetches from Maven
// Central, hence a build tag:
//
//	make test-java
package pyrolite
