package main

import (
	"os"
	"strings"
)

// example is one of Pyro5's examples, a folder of its package, or a part of one.
type example struct {
	name string // the folder, and after a blank which part of it
	why  string // why it cannot be played; empty if it can
	play func(*stage)
	// inGo says that examples/pyro5 has its server in Go, with which the clients must print the same.
	inGo bool
	// differs are what may be different in what the clients print, beside addresses, ids and times.
	differs []difference
	// alone says that its own programs measure time, so that nothing else may run meanwhile.
	alone bool
}

func (e *example) folder() string {
	folder, _, _ := strings.Cut(e.name, " ")
	return folder
}

// Reasons not to play.
const (
	needsScreen = "draws windows (Tk)"
	noObjects   = "calls no remote object"
	ownNames    = "runs Pyro5's own name server inside of the server"
)

// examples are all of them.  Plays begin with the servers; what the programs ask is typed in.
//
// spec: G11
var examples = []example{
	{name: "attributes", inGo: true, play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri())
		client.prints("p.prop_value= 542", "calling p.__dunder__()....:  yep", "ok, got expected error (local only)").ends(0)
	}},
	{name: "autoproxy", play: func(s *stage) {
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("<Pyro5.client.Proxy at").ends(0)
		server.prints("Thingy 1 says: I am the first", "Thingy 3 says: I am last then...")
	}},
	{name: "autoreconnect by URI", play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri())
		client.prints("Sleeping 1 second")
		server.dies()
		client.prints("Connection lost. REBINDING...")
		s.server("server.py").prints("Method called with 42")
	}},
	{name: "autoreconnect by name", play: func(s *stage) {
		server := s.server("serverNS.py").ready()
		client := s.client("clientNS.py")
		client.prints("Sleeping 1 second")
		server.dies()
		client.prints("Connection lost. REBINDING...")
		s.server("serverNS.py").prints("Object still exists in Name Server", "Method called with 42")
	}},
	{name: "autoretry", play: func(s *stage) {
		s.server("server.py").ready()
		s.client("client.py").prints("ConnectionClosedError", "(will not raise any exceptions)").ends(0)
	}},
	{name: "banks", inGo: true, play: func(s *stage) {
		s.server("server.py").prints("ready")
		s.client("client.py").prints("Irmen is doing business with ABN bank", "Failed: insufficent balance", "Suzy : 300.75").ends(0)
	}},
	{name: "batchedcalls", inGo: true, play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri())
		client.prints("100//1 = 100", "A divide by zero error occurred during the batch! (expected)").ends(0)
		server.prints("end of batch #2")
	}, differs: []difference{speeds, traceback}},
	{name: "benchmark", play: func(s *stage) {
		uri := s.server("server.py").uri()
		s.client("client.py").types(uri).prints("total method calls: 12000").ends(0)
		s.client("connections.py").types(uri).prints("2000 new proxy calls in", "10000 calls in").ends(0)
	}},
	{name: "blob-dispatch", inGo: true, play: func(s *stage) {
		s.in("dispatcher", s.server, "dispatcher.py").ready()
		listener := s.in("listeners", s.client, "main.py", "cars")
		listener.prints("Listener for topic cars waiting for data.")
		sender := s.in("client", s.client, "client.py").types("cars", "boats", "cars", "")
		sender.ends(0)
		listener.sees(`(?s)a=42, b=hello world, c=.*a=42, b=hello world, c=`)
	}, differs: []difference{dates}},
	{name: "callback", inGo: true, play: func(s *stage) {
		s.server("server.py").prints("example.callback")
		s.client("client.py").prints("done!").ends(0)
	}, differs: []difference{sorted}},
	{name: "callback that fails", inGo: true, play: func(s *stage) {
		server := s.server("server2.py")
		server.prints("example.callback2")
		s.client("client2.py").prints("callback 1 received", "callback 2 received", "integer division or modulo by zero")
		server.prints("server: callbacks done.")
	}},
	{name: "callcontext", inGo: true, play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri())
		client.prints("DDAA -> b'custom response annotation set by the daemon'").ends(0)
		server.prints("hi there ONEWAY", "custom annotation 'XYZZ': b'custom annotation from client (2)'")
	}},
	{name: "chatbox", play: func(s *stage) {
		s.server("server.py").ready()
		first := s.run("client.py").types("cars", "irmen")
		first.prints("Joined channel cars as irmen")
		second := s.run("client.py").types("cars", "suzy", "hello there")
		second.prints("People on this channel: irmen, suzy")
		first.prints("[SERVER] ** suzy joined **", "[suzy] hello there")
		second.types("/quit").ends(0)
		first.prints("[SERVER] ** suzy left **").types("/quit").ends(0)
	}},
	{name: "circular", play: func(s *stage) {
		for _, script := range []string{"servA.py", "servB.py", "servC.py"} {
			s.server(script).ready()
		}
		s.client("client.py").prints("Result=['passed on from A', 'passed on from B', 'passed on from C', 'complete at A']").ends(0)
	}},
	{name: "custom-serialization", play: func(s *stage) {
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("<class 'mycustomclasses.Thingy'>", "<class 'mycustomclasses.OtherThingy'>").ends(0)
	}},
	{name: "diffie-hellman", play: func(s *stage) {
		server := s.server("server.py").ready()
		client := s.client("client.py")
		key := client.sees(`shared secret key =\s+([0-9a-f]{64})`)
		server.prints(key)
		client.ends(0)
	}},
	{name: "disconnects", play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri())
		client.prints("result = 12345")
		server.sees(`(?i)timed ?out|disconnected|timeout`)
		client.types("").prints("Connection restored, continue with actual method call").ends(0)
	}},
	{name: "distributed-computing", play: func(s *stage) {
		s.server("dispatcher.py").ready()
		s.run("worker.py").prints("getting work")
		s.run("worker.py").prints("getting work")
		s.client("client.py").prints("Computed Prime Factorials follow:").ends(0)
	}},
	{name: "distributed-computing2", play: func(s *stage) {
		server := s.server("servers.py")
		server.prints("Spinning up")
		s.awaitName("example.dc2.dispatcher")
		client := s.client("client.py")
		client.sees(`(?s)Top five words:\n  said \(462\).*Top five words:\n  said \(462\)`)
		client.ends(0)
	}},
	{name: "distributed-computing3", play: func(s *stage) {
		first, second := s.run("worker.py"), s.run("worker.py")
		for _, worker := range []*actor{first, second} {
			s.awaitName(worker.sees(`Starting up worker (\S+)`))
		}
		s.client("client.py").ends(0)
		first.prints("factorize request received")
		second.prints("factorize request received") // each of 100 requests goes to one of them by chance
	}},
	{name: "distributed-mandelbrot", play: func(s *stage) {
		s.server("server.py", "1").ready()
		s.server("server.py", "2").ready()
		s.client("client_asciizoom.py").prints("2 mandelbrot calculation servers found.", "Final FPS").ends(0)
	}},
	{name: "distributed-mandelbrot in a window", why: needsScreen},
	{name: "echoserver", play: func(s *stage) {
		server := s.server("-m", "Pyro5.utils.echoserver")
		client := s.client("client.py").types(server.uri())
		client.prints("got element from remote iterator: three", "caught an exception (expected)").ends(0)
		server.ends(0)
	}},
	{name: "eventloop", why: ownNames},
	{name: "exceptions", inGo: true, play: func(s *stage) {
		s.server("server.py").prints("example.exceptions")
		client := s.client("client.py")
		client.prints("DIVIDE BY ZERO:  division by zero", "VALUERROR:  a valueerror! Great!", "oneway call simply succeeded",
			"CAUGHT ERROR  >>>  unsupported operand type(s) for //: 'str' and 'int'").ends(1) // its last call fails, on purpose
	}, differs: []difference{traceback, unserializable}},
	{name: "filetransfer", play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri(), "", "", "", "")
		client.prints("**** raw socket transfers ****").ends(0)
	}},
	{name: "gui_eventloop", why: needsScreen},
	{name: "handshake", play: func(s *stage) {
		uri := s.server("server.py").uri()
		s.client("client.py").types(uri, "pancakes").prints("['how', 'are', 'you', 'doing']", "Connection ok!").ends(0)
		s.client("client.py").types(uri, "waffles").prints("wrong secret code, connection refused").ends(1)
	}},
	{name: "http", play: func(s *stage) {
		s.run("-m", "Pyro5.utils.echoserver", "-n").ready()
		s.run("-m", "Pyro5.utils.httpgateway", "-e", "Pyro.|test.").prints("gateway running on")
		s.client("client.py").prints("META--->", "'yplookup'", "'Pyro5.core.URI'", "SLOW--->").ends(0)
	}},
	{name: "http from JavaScript", why: "needs Node.js"},
	{name: "hugetransfer", play: func(s *stage) {
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("test download via iterator").ends(0)
	}},
	{name: "instancemode", inGo: true, play: func(s *stage) {
		s.server("server.py").prints("instance.percall", "unning")
		client := s.client("client.py")
		client.ends(0)
	}, differs: []difference{instances}},
	{name: "maxsize", play: func(s *stage) {
		server := s.server("-m", "Pyro5.utils.echoserver")
		client := s.client("client.py").types(server.uri())
		client.prints("success.", "ProtocolError: message too large").ends(1) // it expects a MessageTooLargeError, which Pyro5 5.17 does not raise
	}},
	{name: "messagebus in memory", play: func(s *stage) {
		manual := playMessages(s, "memory")
		manual.sees(`(?s)(PROCESSING MESSAGE:.*){5}End\.`)
		manual.prints("the calling thread is not the owner of this proxy").ends(1) // so says the example's server when somebody unsubscribes
	}},
	{name: "messagebus in a database", play: func(s *stage) {
		manual := playMessages(s, "sqlite")
		manual.sees(`(?s)(PROCESSING MESSAGE:.*){5}End\..*Unsubscribed.*(PROCESSING MESSAGE:.*){5}End\.`)
		manual.ends(0)
	}},
	{name: "messagebus with many topics", play: func(s *stage) {
		s.server("-m", "messagebus.server", "-s", "memory").prints("Server running")
		s.run("manytopics_publisher.py").sees(`[a-z] 2\d`)
		s.run("manytopics_subscriber.py").sees(`msg\.topic\.[a-z] +: +[1-9]\d* +- `)
	}},
	{name: "nameserverstress", play: func(s *stage) {
		client := s.client("stress.py")
		client.sees(`(\d \D*){1000}`)
		client.interrupt().sees(`cleaned up \d+ names`)
		client.ends(0)
	}},
	{name: "nonameserver", play: func(s *stage) {
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("Getting some quotes...").ends(0)
	}},
	{name: "ns-metadata", play: func(s *stage) {
		client := s.client("example.py")
		client.sees(`(?s)all FAST printers \(after photoprinter upgrade\):\n   example\.resource\.\w+printer -> .*\n   example\.resource\.\w+printer -> `)
		client.sees(`bound to candidate:\s+(PYRO:Pyro\.NameServer@)`)
		client.ends(0)
	}},
	{name: "oneway", play: func(s *stage) {
		server := s.server("server.py").ready()
		s.client("client.py").prints("no, trying again", "getting the result from the server: The result :)").ends(0)
		server.prints("work's done!")
	}},
	{name: "oneway in a single instance", alone: true, play: func(s *stage) {
		s.server("server2.py").ready()
		s.client("client2.py").prints("ok, the oneway calls are still being processed in the background.", "counter is now:  6").ends(0)
	}},
	{name: "privilege-separation down", why: unlessRoot(), play: func(s *stage) {
		server := s.server("drop_privs_server.py")
		s.client("drop_privs_client.py").types(server.uri()).prints("'nobody'", "ERROR (expected):").ends(0)
	}},
	{name: "privilege-separation up", why: "reads the messages of the machine's kernel, which containers have not"},
	{name: "resourcetracking", play: func(s *stage) {
		server := s.server("server.py")
		uri := server.uri()
		s.client("client.py").types(uri, "").prints("free resources normally...", "allocated resources: []").ends(0)
		aborted := s.client("client.py").types(uri)
		name := aborted.sees(`allocating resource\.\.\. (\w+)\n.*\n`)
		aborted.prints("hit Enter now").dies()
		server.prints("Resource: closing " + name)
	}},
	{name: "robots", why: needsScreen},
	{name: "servertypes threads", alone: true, play: func(s *stage) { playServertype(s, "t", "Servertype is thread") }},
	{name: "servertypes multiplex", alone: true, play: func(s *stage) { playServertype(s, "m", "Servertype is multiplex") }},
	{name: "shoppingcart", play: func(s *stage) {
		s.server("shopserver.py").ready()
		client := s.client("clients.py")
		client.prints("Customers currently in the shop: ['Harry', 'Sally', 'shoplifter']", "Sally got this receipt:",
			"attempt to steal a full cart prevented", "unknown object").ends(1) // its last call fails, on purpose
	}},
	{name: "socketpair of processes", play: playSocketpair("pair-fork.py")},
	{name: "socketpair of threads", play: playSocketpair("pair-thread.py")},
	{name: "ssl", play: func(s *stage) {
		if end := s.certificatesEnd("../../certs/server_cert.pem", "../../certs/client_cert.pem"); end != "" {
			s.cannot("its certificates were good until " + end)
			return
		}
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("SSL server cert is ok", "response: hi!").ends(0)
	}},
	{name: "stockquotes phase 1", why: noObjects},
	{name: "stockquotes phase 2", play: func(s *stage) { playStocks(s, "phase2") }},
	{name: "stockquotes phase 3", play: func(s *stage) { playStocks(s, "phase3") }},
	{name: "streaming", inGo: true, play: func(s *stage) {
		server := s.server("server.py")
		client := s.client("client.py").types(server.uri())
		client.prints("property generator:\n[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]").ends(0)
	}},
	{name: "thirdpartylib wrapped", play: func(s *stage) {
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("awesome", "couldn't call weird()", "boo").ends(0)
	}},
	{name: "thirdpartylib adapted", play: func(s *stage) {
		server := s.server("server2.py")
		s.client("client.py").types(server.uri()).prints("weird awesome", "couldn't call private()").ends(0)
	}},
	{name: "threadproxysharing", play: func(s *stage) {
		s.client("client.py").prints("Expected exception in thread", "Solution 1. The call succeeded", "Solution 2. The call succeeded").ends(0)
	}},
	{name: "timeout", alone: true, play: func(s *stage) {
		s.server("server.py").ready()
		client := s.client("client.py")
		client.sees(`(?s)(TimeoutError! As expected!.*){3}Disabling timeout`) // then it waits for a daemon that never runs
	}},
	{name: "timezones", why: "needs pytz, dateutil and pendulum"},
	{name: "unixdomainsock", play: func(s *stage) {
		server := s.server("server.py")
		s.client("client.py").types(server.uri()).prints("Response was: Roger!").ends(0)
	}},
	{name: "unixdomainsock abstract", play: func(s *stage) {
		server := s.server("abstract_namespace_server.py")
		s.client("client.py").types(server.sees(`'(PYRO:.*)'`)).prints("Response was: Roger!").ends(0)
	}},
	{name: "usersession", play: func(s *stage) {
		s.server("server.py").ready()
		client := s.client("client.py").types("", "")
		client.sees(`(?s)(num=10\d.*){6}concurrency errors will occur`)
		client.ends(0)
	}},
	{name: "warehouse phase 1", why: noObjects},
	{name: "warehouse phase 2", play: func(s *stage) {
		server := s.in("phase2", s.server, "warehouse.py")
		visit := s.in("phase2", s.client, "visit.py").types(server.uri(), "lamp", "bike", "", "lamp")
		visit.prints("This is Henry.").ends(0)
		server.prints("Janet stored the lamp.", "Henry took the lamp.")
	}},
	{name: "warehouse phase 3", play: func(s *stage) {
		server := s.in("phase3", s.server, "warehouse.py").ready()
		s.in("phase3", s.client, "visit.py").types("lamp", "bike", "", "lamp").prints("This is Henry.").ends(0)
		server.prints("Janet stored the lamp.", "Henry took the lamp.")
	}},
}

func unlessRoot() string {
	if os.Getuid() == 0 {
		return ""
	}
	return "needs root, whose rights it gives up"
}

// playMessages has a publisher, a subscriber, and another that it returns.
func playMessages(s *stage, storage string) *actor {
	s.server("-m", "messagebus.server", "-s", storage).prints("Server running")
	publisher := s.run("publisher.py").types("Groningen")
	publisher.prints("Forecast:")
	s.run("subscriber.py").types("").sees(`(?s)GOT MESSAGE:.*topic: weather-forecast.*data: \('Groningen', `)
	return s.run("subscriber_manual_consume.py").types("")
}

func playServertype(s *stage, answer, kind string) {
	s.server("server.py").types(answer).ready()
	client := s.client("client.py")
	client.prints(kind, "Number of completed calls in the server: 10", "Done. Number of completed calls in the server: 5").ends(0)
}

func playSocketpair(script string) func(*stage) {
	return func(s *stage) {
		client := s.run(script)
		client.sees(`(?s)server got message:  hello!.*client got reply: thank you.*server got message:  hello2 again!.*The end\.`)
		client.ends(0)
	}
}

func playStocks(s *stage, phase string) {
	s.in(phase, s.server, "stockmarket.py").prints("Stockmarkets available.")
	viewer := s.in(phase, s.client, "viewer.py")
	viewer.prints("found market example.stockmarket.nasdaq", "found market example.stockmarket.newyork")
	viewer.sees(`(?s)NASDAQ\.\w+: \d.*NYSE\.\w+: \d|NYSE\.\w+: \d.*NASDAQ\.\w+: \d`)
}
