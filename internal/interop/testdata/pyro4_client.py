"""A stock Pyro4 client of the Go objects in objects_test.go, and of our name server: pyro4_client.py SERIALIZER URI NS_HOST NS_PORT."""
import sys

import Pyro4
import Pyro4.core
import Pyro4.errors

import checks
from checks import check, equal, raises

SERIALIZER, URI, NS_HOST, NS_PORT = sys.argv[1:]
LOCATION = URI.partition("@")[2]
Pyro4.config.SERIALIZER = SERIALIZER
thing = Pyro4.Proxy(URI)
servant = Pyro4.Proxy("PYRO:servant@" + LOCATION)
MARSHAL = SERIALIZER == "marshal"


@check
def metadata():
    thing._pyroBind()
    assert "add" in thing._pyroMethods and "notify" in thing._pyroOneway and "name" in thing._pyroAttrs
    raises(AttributeError, None, getattr, thing, "nope")


@check
def calls():
    equal(thing.add(1, 2), 3)
    equal(thing.add(a=1, b=2), 3)
    equal(thing.echo({"a": [1, None, 2.5, "x"]}), {"a": [1, None, 2.5, "x"]})
    equal(thing.echo(2**70), 2**70)
    equal(thing.echo("\u20ac" * 70000), "\u20ac" * 70000)
    equal(servant.greet("x"), "hello x []")
    raises(TypeError, None, thing.add, 1)


@check
def values():
    uri = Pyro4.core.URI("PYRO:o@h:1")
    equal(thing.describe(uri), "URI PYRO:o@h:1")
    equal(thing.echo(uri), uri)
    got = thing.echo(thing)
    equal(type(got), Pyro4.core.Proxy)
    equal(got._pyroUri, thing._pyroUri)
    equal(got.add(1, 2), 3)


@check
def attributes():
    if MARSHAL:
        return  # Pyro4 cannot send them with it
    thing.name = "four"
    equal(thing.name, "four")
    raises(TypeError, None, setattr, thing, "count", "x")


@check
def exceptions():
    x = raises(ValueError, None, thing.fail, "value")
    equal((x.args, x.extra), (("bad", 1), 5))
    assert x._pyroTraceback, x
    raises(Pyro4.errors.NamingError, "a naming error", thing.fail, "naming")
    raises(ZeroDivisionError, "division by zero", thing.fail, "zero division")
    equal(thing.add(1, 2), 3)


@check
def unknown_object():
    raises(Pyro4.errors.CommunicationError, None, Pyro4.Proxy("PYRO:nope@" + LOCATION)._pyroBind)


@check
def oneway():
    thing.notify("four " + SERIALIZER)
    assert thing.notified("four " + SERIALIZER)


@check
def batches():
    if MARSHAL:
        return  # Pyro4 cannot send them with it
    batch = Pyro4.batch(thing)
    batch.add(1, 2)
    batch.fail("value")
    batch.add(3, 4)
    results = batch()
    equal(next(results), 3)
    raises(ValueError, None, next, results)


@check
def streams():
    equal(list(thing.count_to(5)), [0, 1, 2, 3, 4])
    stream = thing.count_to(100)
    equal(next(stream), 0)
    stream.close()


@check
def annotations():
    class Annotating(Pyro4.core.Proxy):
        def _pyroAnnotations(self):
            return {"TEST": b"from 4"}

        def _pyroResponseAnnotations(self, annotations, msgtype):
            self.__dict__["got"] = annotations

    with Annotating(URI) as proxy:
        info = proxy.call_info()
        equal(info["annotation"], "from 4")
        equal(bytes(proxy.__dict__["got"]["BACK"]), b"\x00 from go")


@check
def compressed():
    Pyro4.config.COMPRESSION = True
    try:
        equal(thing.echo("x" * 5000), "x" * 5000)
    finally:
        Pyro4.config.COMPRESSION = False


@check
def ping():
    daemon = Pyro4.Proxy("PYRO:Pyro.Daemon@" + LOCATION)
    daemon.ping()
    assert "thing" in daemon.registered()


@check
def name_server():
    ns = Pyro4.locateNS(NS_HOST, int(NS_PORT))
    name = "four." + SERIALIZER
    ns.register(name, URI, metadata=["a", "b"])
    raises(Pyro4.errors.NamingError, None, ns.register, name, URI, True)
    equal(str(ns.lookup(name)), URI)
    if not MARSHAL:  # which sends no URI within a tuple
        equal(sorted(ns.lookup(name, return_metadata=True)[1]), ["a", "b"])
    equal(dict(ns.list(prefix=name)), {name: URI})
    equal(list(ns.list(regex=name)), [name])
    assert name in ns.list(metadata_all=["a", "b"])
    assert name in ns.list(metadata_any=["a", "x"])
    ns.set_metadata(name, ["c"])
    assert name in ns.list(metadata_any=["c"])
    with Pyro4.Proxy("PYRONAME:%s@%s:%s" % (name, NS_HOST, NS_PORT)) as proxy:
        equal(proxy.add(1, 2), 3)
    equal(ns.remove(name), 1)
    raises(Pyro4.errors.NamingError, None, ns.lookup, name)
    assert ns.count() >= 1


@check
def pickle_is_refused():
    Pyro4.config.SERIALIZER = "pickle"
    try:
        with Pyro4.Proxy(URI) as proxy:
            x = raises(Pyro4.errors.CommunicationError, None, proxy._pyroBind)
            assert "not accepted" in str(x), x
    finally:
        Pyro4.config.SERIALIZER = SERIALIZER


checks.run()
