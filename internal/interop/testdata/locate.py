"""Finds the name server in every way that stock Pyro5 has: locate.py HOST PORT UDPPORT.  The environment says where to broadcast."""
import socket
import sys

import Pyro5.api
import Pyro5.errors

from checks import check, equal, raises, run

HOST, PORT, UDP_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
URI = "PYRO:Pyro.NameServer@%s:%d" % (HOST, PORT)


@check
def by_host_and_port():
    # spec: D3
    ns = Pyro5.api.locate_ns(HOST, PORT)
    equal(str(ns._pyroUri), URI)
    ns.ping()


@check
def by_broadcast():
    # spec: D1, D3
    ns = Pyro5.api.locate_ns()
    equal(str(ns._pyroUri), URI)
    ns.ping()
    ns = Pyro5.api.locate_ns(port=UDP_PORT)  # spec: D4: without a host, the port is that of the broadcasts
    equal(str(ns._pyroUri), URI)


@check
def other_datagrams_get_no_answer():
    # spec: D1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(30)
        for data in (b"", b"get_nsuri", b"GET_NSURI ", b"GET_NSURI\n", b"GET_NSURIGET_NSURI", b"x" * 2000, b"GET_NSURI"):
            s.sendto(data, (HOST, UDP_PORT))
        equal(s.recvfrom(100)[0], URI.encode())  # the answer to the last one, or a second one would follow
        s.sendto(b"GET_NSURI", (HOST, UDP_PORT))
        equal(s.recvfrom(100)[0], URI.encode())
        s.settimeout(0)
        raises(BlockingIOError, None, s.recvfrom, 100)


@check
def the_event_server():
    # spec: E1: every node is one, by a name that is not among the registered
    uri = "PYRO:Pyro.EventService@%s:%d" % (HOST, PORT)
    for serializer in ("serpent", "json", "msgpack"):
        ns = Pyro5.api.locate_ns(HOST, PORT)
        ns._pyroSerializer = serializer
        equal(str(ns.lookup("Pyro.EventService")), uri)
        found, tags = ns.lookup("Pyro.EventService", return_metadata=True)
        equal((str(found), set(tags)), (uri, {"class:pyro_cluster.EventService"}))
        equal(list(ns.list()), ["Pyro.NameServer"])
    for name in ("PYRONAME:Pyro.EventService", "PYRONAME:Pyro.EventService@%s:%d" % (HOST, PORT)):
        with Pyro5.api.Proxy(name) as proxy:
            proxy._pyroBind()
            equal(str(proxy._pyroUri), uri)


@check
def names_without_a_name_server():
    # spec: A2, A3
    ns = Pyro5.api.locate_ns(HOST, PORT)
    ns.register("self", URI, metadata={"one", "two"})
    for uri in ("PYRONAME:self", "PYRONAME:self@%s:%d" % (HOST, PORT), "PYROMETA:one", "PYROMETA:two,one@%s:%d" % (HOST, PORT)):
        with Pyro5.api.Proxy(uri) as proxy:
            equal(proxy.count(), 2)
            equal(str(proxy._pyroUri), uri)
            proxy._pyroRelease()
            proxy._pyroBind()
            equal(str(proxy._pyroUri), URI)
    x = raises(Pyro5.errors.NamingError, None, Pyro5.api.Proxy("PYRONAME:nobody")._pyroBind)
    equal(str(x), "unknown name: nobody")
    raises(Pyro5.errors.NamingError, None, Pyro5.api.Proxy("PYROMETA:one,three")._pyroBind)
    raises(Pyro5.errors.NamingError, "unknown name: nobody", Pyro5.api.resolve, "PYRONAME:nobody")
    raises(Pyro5.errors.NamingError, "unknown name: nobody", Pyro5.api.resolve, "PYRONAME:nobody", 0.3)  # spec: D5
    equal(str(Pyro5.api.resolve("PYRONAME:self")), URI)


run()
