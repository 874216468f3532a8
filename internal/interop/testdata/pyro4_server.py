"""A stock Pyro4 daemon with an object that Go calls: pyro4_server.py [KEY] [NS_HOST NS_PORT].  Prints its URI."""
import sys

import Pyro4

import checks

checks.end_with_parent()
Pyro4.config.SERIALIZERS_ACCEPTED = {"serpent", "json", "marshal", "msgpack"}


@Pyro4.expose
class Thing(object):
    def __init__(self):
        self._name = "four"

    def add(self, a, b=10):
        return a + b

    def echo(self, value):
        return value

    def fail(self):
        x = ValueError("bad", 1)
        x.extra = 5
        raise x

    def fail_pyro(self):
        raise Pyro4.errors.NamingError("no name")

    @Pyro4.oneway
    def note(self, text):
        self._name = text

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, value):
        self._name = value

    def generate(self, n):
        for i in range(n):
            yield i

    def context(self):
        context = Pyro4.current_context
        context.response_annotations = {"BACK": b"from 4"}
        return [str(context.correlation_id), context.annotations.get("TEST", b"").decode()]


daemon = Pyro4.Daemon()
key, location = sys.argv[1], sys.argv[2:]
if key:
    daemon._pyroHmacKey = key.encode()
uri = daemon.register(Thing(), "thing")
if location:
    with Pyro4.locateNS(location[0], int(location[1])) as ns:
        ns.register("four", uri, metadata=["stock"])
print("uri", uri, flush=True)
daemon.requestLoop()
