"""A stock client of the Go objects in objects_test.go: client.py SERIALIZER URI."""
import array
import datetime
import decimal
import enum
import math
import sqlite3
import struct
import sys
import time
import uuid

import Pyro5.api
import Pyro5.client
import Pyro5.core
import Pyro5.errors
import Pyro5.protocol
from Pyro5.api import current_context

import checks
from checks import add, check, equal, raises

SERIALIZER, URI = sys.argv[1:]
LOCATION = URI.partition("@")[2]
Pyro5.config.SERIALIZER = SERIALIZER

thing = Pyro5.api.Proxy(URI)
servant = Pyro5.api.Proxy("PYRO:servant@" + LOCATION)
daemon = Pyro5.api.Proxy("PYRO:Pyro.Daemon@" + LOCATION)

SERPENT, MARSHAL, JSON, MSGPACK = (SERIALIZER == name for name in ("serpent", "marshal", "json", "msgpack"))
LISTS = JSON or MSGPACK  # tuples and sets become lists there


class Fails:
    """An expectation: the stock library refuses the value, with one of these exceptions."""
    def __init__(self, *classes):
        self.classes = classes


class Color(enum.Enum):
    RED = "red"


same_value = object()


def value(name, v, go, back=same_value):
    """A check that Go sees what Python sends as go says (see describe), and that it comes back as it was, or as back."""
    def round_trip():
        if isinstance(go, Fails):
            for method in (thing.describe, thing.echo):
                try:
                    got = method(v)
                except go.classes:
                    continue
                raise AssertionError("got %r, want one of %r" % (got, go.classes))
            equal(thing.echo("still there"), "still there")
            return
        equal(thing.describe(v), go)
        if isinstance(back, Fails):
            try:
                got = thing.echo(v)
            except back.classes:
                equal(thing.echo("still there"), "still there")
                return
            raise AssertionError("got %r, want one of %r" % (got, back.classes))
        equal(thing.echo(v), v if back is same_value else back)
    add("value " + name, round_trip)


# The rows of the table of types (spec: Z8; what is refused is refused by the stock serializer, before or after the call).
refused = Fails(Pyro5.errors.SerializeError, TypeError, ValueError, AttributeError, KeyError)

value("None", None, "nil")
value("True", True, "bool true")
value("False", False, "bool false")
for n in (0, 1, -1, 127, 128, -129, 255, 2**15, 2**31, -2**31 - 1, 2**63 - 1, -2**63):
    value("int %d" % n, n, "int64 %d" % n)
for n in (2**63, 2**64 - 1, 2**64, -2**63 - 1, 2**70, -10**60):
    value("int %d" % n, n, "big %d" % n)
for f, text in ((3.0, "3"), (0.1, "0.1"), (1e22, "1e+22"), (-1e-300, "-1e-300"), (-0.0, "-0"), (math.inf, "+Inf"),
                (-math.inf, "-Inf"), (math.nan, "NaN")):
    value("float %r" % f, f, "float64 " + text)
value("complex", 1 + 2j, refused if JSON else "complex128 (1+2i)")
for name, s in (("empty", ""), ("ascii", "abc"), ("quotes", "it's \"so\" \\ \\n"), ("control", "\x01\t\r\n\x7f"), ("nul", "a\x00b"),
                ("unicode", "h\u00e9 \u20ac \u4f60"), ("astral", "\U0001d11e"), ("line separators", "\u2028\u2029\x85"), ("long", "x" * 70000)):
    value("str " + name, s, "string " + s)
blob = {"data": "AP8xMg==", "encoding": "base64"}
for cls in (bytes, bytearray):
    value(cls.__name__, cls(b"\x00\xff12"),
          'dict{"data": string AP8xMg==, "encoding": string base64}' if SERPENT else refused if JSON else "bytes 00ff3132",
          blob if SERPENT else b"\x00\xff12")
value("tuple", (1, "x"), "list[int64 1, string x]" if LISTS else "tuple[int64 1, string x]", [1, "x"] if LISTS else same_value)
value("tuple of one", (1,), "list[int64 1]" if LISTS else "tuple[int64 1]", [1] if LISTS else same_value)
value("tuple empty", (), "list[]" if LISTS else "tuple[]", [] if LISTS else same_value)
value("list", [1, [2.5, None], []], "list[int64 1, list[float64 2.5, nil], list[]]")
value("set", {7}, "list[int64 7]" if LISTS else "set[int64 7]", [7] if LISTS else same_value)
value("set empty", set(), "list[]" if LISTS else "tuple[]" if SERPENT else "set[]", [] if LISTS else () if SERPENT else same_value)
value("frozenset", frozenset([7]), refused if LISTS else "set[int64 7]" if SERPENT else "frozenset[int64 7]", {7} if SERPENT else same_value)
value("dict", {"a": 1, "": {"b": None}}, 'dict{"": dict{"b": nil}, "a": int64 1}')
value("dict empty", {}, "dict{}")
value("dict int keys", {1: "a", -2: "b"},
      'dict{"-2": string b, "1": string a}' if JSON else "dict{int64 -2: string b, int64 1: string a}",
      {"1": "a", "-2": "b"} if JSON else refused if MSGPACK else same_value)  # its reader is strict about keys
value("dict tuple keys", {(1, 2): "a"},
      refused if LISTS else "dict{tuple[int64 1, int64 2]: string a}")
value("dict bytes keys", {b"k": 1}, refused if JSON or SERPENT else "dict{bytes 6b: int64 1}")
value("uuid", uuid.UUID(int=5), "string 00000000-0000-0000-0000-000000000005", "00000000-0000-0000-0000-000000000005")
value("Decimal", decimal.Decimal("1.50"), refused if MARSHAL else "string 1.50", "1.50")
moment = datetime.datetime(2024, 1, 2, 3, 4, 5, 678)
value("datetime", moment, refused if MARSHAL else "time 2024-01-02T03:04:05.000678Z" if MSGPACK else "string 2024-01-02T03:04:05.000678",
      moment if MSGPACK else moment.isoformat())
value("date", moment.date(), refused if MARSHAL else "date 2024-01-02" if MSGPACK else "string 2024-01-02",
      moment.date() if MSGPACK else "2024-01-02")
value("time", moment.time(), "string 03:04:05.000678" if SERPENT else refused, "03:04:05.000678")
value("timedelta", datetime.timedelta(seconds=90), "float64 90" if SERPENT else refused, 90.0)
value("array", array.array("i", [1, -2]), "list[int64 1, int64 -2]", [1, -2])
value("array of characters", array.array("u", "ab"), "string ab", "ab")
value("enum", Color.RED, "string red" if SERPENT else refused, "red")
value("URI", Pyro5.api.URI("PYRO:o@h:1"), "URI PYRO:o@h:1")  # spec: A7
value("URI name", Pyro5.api.URI("PYRONAME:n@h"), "URI PYRONAME:n@h:9090")
value("URI unix socket", Pyro5.api.URI("PYRO:o@./u:/tmp/s"), "URI PYRO:o@./u:/tmp/s")
value("URI in a list", [Pyro5.api.URI("PYRO:o@h:1")], refused if MARSHAL else "list[URI PYRO:o@h:1]")
value("exception", ValueError("x", 1), "exception builtins.ValueError [string x, int64 1]")  # spec: Z7
value("Pyro exception", Pyro5.errors.NamingError("n"), "exception Pyro5.errors.NamingError [string n]")
value("deep", [[[[[[[[[[{"k": [(1,)]}]]]]]]]]]],
      "list[" * 10 + 'dict{"k": list[%s[int64 1]]}' % ("list" if LISTS else "tuple") + "]" * 10,
      [[[[[[[[[[{"k": [[1]]}]]]]]]]]]] if LISTS else same_value)


@check
def value_many():
    many = list(range(20000))
    equal(thing.echo(many), many)


@check
def value_uri_of_metadata():
    uri = Pyro5.api.URI("PYROMETA:a,b@h")
    equal(thing.describe(uri), "URI PYROMETA:a,b@h:9090")
    got = thing.echo(uri)
    equal((got.protocol, set(got.object), got.host, got.port), (uri.protocol, uri.object, uri.host, uri.port))


@check
def value_proxy():
    # spec: Z6, C11
    got = thing.echo(thing)
    equal(type(got), Pyro5.api.Proxy)
    equal(got, thing)
    equal(got._pyroMethods, thing._pyroMethods)
    equal(got.echo(1), 1)
    equal(thing.describe(thing), "proxy " + URI)


@check
def autoproxy():
    # spec: O23
    if MARSHAL:
        return  # which has no proxies in Pyro5 either
    got = thing.self()
    equal(type(got), Pyro5.api.Proxy)
    equal(str(got._pyroUri), URI)
    equal(got.add(1, 2), 3)


@check
def blobs():
    # spec: S5
    if MARSHAL:
        return  # the stock client writes only sequences there
    blob = Pyro5.api.SerializedBlob("some info", {"a": [1, "x"]})
    equal(thing.blob(blob), ["some info", {"a": [1, "x"]}])
    equal(thing.add(1, 2), 3)  # the annotation of the blob is still there in the stock client, and means nothing


@check
def sessions():
    # spec: O6
    location = "PYRO:session@" + LOCATION
    with Pyro5.api.Proxy(location) as first, Pyro5.api.Proxy(location) as second:
        a, b = first.number(), second.number()
        assert a != b, (a, b)
        equal((first.number(), second.number()), (a, b))


@check
def streams():
    # spec: S1
    equal(list(thing.count_to(5)), [0, 1, 2, 3, 4])
    equal(list(thing.count_to(0)), [])
    got = []
    try:
        for i in thing.count_to(3):
            got.append(i)
    except ValueError as x:
        equal(str(x), "in the middle")
    equal(got, [0, 1, 2])
    equal([tuple(pair) for pair in thing.pairs()], [("a", 1)])
    stream = thing.count_to(10**9)
    equal(next(stream), 0)
    stream_id = stream.streamId
    stream.close()
    raises(StopIteration, None, next, stream)
    patience = time.monotonic() + 20
    try:
        while time.monotonic() < patience:  # closing is oneway, and this is another connection
            daemon.get_next_stream_item(stream_id)
        raise AssertionError("the stream is still there")
    except Pyro5.errors.PyroError as x:
        equal(str(x), "item stream terminated")


@check
def streams_in_batches():
    # spec: S4
    if MARSHAL:
        return  # the stock client cannot send batches with it
    batch = Pyro5.api.BatchProxy(thing)
    batch.nothing()
    batch.count_to(3)
    raises(TypeError, "count_to() returns an iterator: item streams are not supported in batches", batch)


@check
def streams_after_reconnect():
    # spec: S2: the server keeps a stream for a while, and the client comes back for it
    stream = thing.count_to(10)
    equal(next(stream), 0)
    thing._pyroReconnect()
    stream.pyroseq = thing._pyroSeq
    equal(next(stream), 1)
    stream.close()


@check
def value_unknown_class():
    # spec: Z5: Go keeps it as it is, and Python gets it back if it knows how
    point = checks.Point(1, 2)
    equal(thing.describe(point), 'class checks.Point{"x": int64 1, "y": int64 2}')
    raises(Pyro5.errors.SerializeError, "unsupported serialized class: checks.Point", thing.echo, point)
    Pyro5.api.register_dict_to_class("checks.Point", lambda name, d: checks.Point(d["x"], d["y"]))
    try:
        got = thing.echo(point)
        equal((type(got), got.x, got.y), (checks.Point, 1, 2))
    finally:
        Pyro5.api.unregister_dict_to_class("checks.Point")


@check
def value_typed_parameters():
    # Go methods with types: what fits is converted, what does not is a TypeError.
    if not JSON:
        equal(thing.upper_bytes(b"abc"), b"ABC" if not SERPENT else {"data": "QUJD", "encoding": "base64"})
    equal(thing.sum([1, 2, 3]), 6)
    equal(thing.sum((1, 2, 3)), 6)
    equal(thing.halve(7), 3.5)
    equal(thing.move({"x": 1, "y": 2}, 10), {"x": 11, "y": 12})
    x = raises(TypeError, None, thing.sum, ["a"])
    assert 'got str "a", want int' in str(x), x
    raises(TypeError, None, thing.halve, "a")


@check
def value_made_by_go():
    got = thing.go_values()
    listed = list if LISTS else tuple
    want = {
        "int8": -5, "uint64": 2**64 - 1, "float32": 0.5, "map": {"a": 1, "b": 2}, "nil_slice": None, "nil_map": None, "array": [1, 2, 3],
        "struct": {"first_name": "Irmen", "tags": ["x"]}, "pointer": {"first_name": "P", "tags": []}, "big": 2**70,
        "text": "text", "tuple": listed((1, "two")), "strings": ["a", "b"],
        "ints": {"1": "one", "2": "two"} if JSON else {1: "one", 2: "two"},
    }
    if MSGPACK:
        del want["ints"]  # sent with keys of int, which the stock reader refuses
    equal({k: got[k] for k in want}, want)
    equal(set(got["set"]), {1, 2})
    moment = thing.go_time()
    text = "2024-01-02T03:04:05.000678"
    if MSGPACK:
        equal(moment, datetime.datetime.fromisoformat(text))
    elif not MARSHAL:
        equal(moment[:26], text)


@check
def unicode_names():
    equal(thing.echo(message="k\u00e9"), "k\u00e9")


# Calls.

@check
def keywords_and_defaults():
    # spec: N11, C2
    equal(thing.add(1, 2), 3)
    equal(thing.add(a=1, b=2), 3)
    equal(thing.add(1, b=2), 3)
    equal(servant.greet("Irmen"), "hello Irmen []")
    equal(servant.greet("Irmen", "bye"), "bye Irmen []")
    equal(servant.greet("Irmen", greeting="bye"), "bye Irmen []")
    equal(servant.greet(greeting="bye", name="Irmen"), "bye Irmen []")
    equal(servant.greet("Irmen", "bye", 1, "x"), "bye Irmen [1 x]")


@check
def wrong_arguments():
    # The texts are CPython's, without the self that it counts.
    raises(TypeError, "add() missing 1 required positional argument: 'b'", thing.add, 1)
    raises(TypeError, "add() missing 2 required positional arguments: 'a' and 'b'", thing.add)
    raises(TypeError, "add() takes 2 positional arguments but 3 were given", thing.add, 1, 2, 3)
    raises(TypeError, "add() got an unexpected keyword argument 'c'", thing.add, 1, 2, c=3)
    raises(TypeError, "add() got multiple values for argument 'a'", thing.add, 1, a=3)
    raises(TypeError, "greet() missing 1 required positional argument: 'name'", servant.greet)
    raises(TypeError, "greet() missing 1 required positional argument: 'name'", servant.greet, greeting="x")
    raises(TypeError, "nothing() takes 0 positional arguments but 1 was given", thing.nothing, 1)
    equal(thing.nothing(), None)


def attribute(proxy, name, *new):
    """Reads or writes an attribute on the server, whatever the client knows of it."""
    return proxy._pyroInvoke("__setattr__" if new else "__getattr__", (name,) + new, None)


if MARSHAL:
    @check
    def attributes_and_batches_are_beyond_stock_marshal():
        # Its keyword arguments cannot be None, which these need: the stock client fails before it sends.
        raises(AttributeError, None, lambda: thing.name)
        batch = Pyro5.api.BatchProxy(thing)
        batch.nothing()
        raises(AttributeError, None, batch)
        equal(thing.echo("still there"), "still there")
else:
    @check
    def attributes():
        # spec: C3
        thing.name = "first"
        equal(thing.name, "first")
        thing.name = "second"
        equal(thing.name, "second")
        thing.count = 5
        equal(thing.count, 5)
        x = raises(TypeError, None, setattr, thing, "count", "five")
        assert 'got str "five", want int' in str(x), x
        equal(thing.count, 5)
        equal(servant.answer, 42)

    @check
    def attribute_errors():
        # spec: C5, O2, C4
        raises(AttributeError, "remote object '%s' has no exposed attribute or method 'hidden'" % URI, lambda: thing.hidden)
        for name in ("_x", "__init__", "hidden", "name.x", ""):
            text = "type object 'Thing' has no attribute '%s'" % name
            raises(AttributeError, text, attribute, thing, name)
            raises(AttributeError, text, attribute, thing, name, 1)
        text = "attempt to access unexposed or unknown remote attribute '%s'"
        raises(AttributeError, text % "echo", attribute, thing, "echo")
        raises(AttributeError, text % "echo", attribute, thing, "echo", 1)
        raises(AttributeError, text % "answer", setattr, servant, "answer", 43)
        equal(servant.answer, 42)

    @check
    def batch():
        # spec: C7
        calls = Pyro5.api.BatchProxy(thing)
        calls.add(1, 2)
        calls.add(a=3, b=4)
        calls.echo("x")
        equal(list(calls()), [3, 7, "x"])
        equal(list(calls()), [])  # used up

    @check
    def batch_stops_at_an_exception():
        thing.count = 0
        calls = Pyro5.api.BatchProxy(thing)
        calls.increment()
        calls.fail("value")
        calls.increment()
        results = calls()
        equal(next(results), 1)
        x = raises(ValueError, None, next, results)
        equal(x.args, ("bad", 1))
        assert "Remote traceback" in "".join(Pyro5.errors.get_pyro_traceback(type(x), x, x.__traceback__))
        raises(StopIteration, None, next, results)
        equal(thing.count, 1)

    @check
    def batch_with_an_unknown_method_fails_as_a_whole():
        thing.count = 0
        calls = Pyro5.api.BatchProxy(thing)
        calls.increment()
        calls.unknown_method()
        raises(AttributeError, "'Thing' object has no attribute 'unknown_method'", calls)
        equal(thing.count, 1)  # what came before did run
        calls = Pyro5.api.BatchProxy(thing)
        calls._private()
        raises(AttributeError, "attempt to access private attribute '_private'", calls)

    @check
    def batch_oneway():
        thing.count = 0
        calls = Pyro5.api.BatchProxy(thing)
        for _ in range(5):
            calls.increment()
        equal(calls(oneway=True), None)
        equal(thing.count, 5)  # a oneway batch runs in the order of the connection


@check
def method_errors():
    # spec: O1, O2; asked of the server itself, since the stock proxy refuses by the metadata
    raises(AttributeError, "remote object '%s' has no exposed attribute or method 'hidden_method'" % URI, lambda: thing.hidden_method)
    call = thing._pyroInvoke
    raises(AttributeError, "attempt to access private attribute '_private'", call, "_private", (), {})
    raises(AttributeError, "attempt to access private attribute '__private'", call, "__private", (), {})
    raises(AttributeError, "attempt to access private attribute '__init__'", call, "__init__", (), {})
    raises(AttributeError, "attempt to access unexposed attribute 'name'", call, "name", (), {})
    raises(AttributeError, "'Thing' object has no attribute 'hidden_method'", call, "hidden_method", (), {})
    raises(AttributeError, "'Thing' object has no attribute 'no_such'", call, "no_such", (), {})
    raises(AttributeError, "'Thing' object has no attribute 'add.x'", call, "add.x", (), {})
    raises(AttributeError, "'Thing' object has no attribute ''", call, "", (), {})
    raises(Pyro5.errors.DaemonError, "unknown object", call, "echo", (1,), {}, objectId="no such object")
    equal(thing.echo("still there"), "still there")


def remote_traceback(x):
    assert isinstance(x._pyroTraceback, list) and all(type(line) is str and line.endswith("\n") for line in x._pyroTraceback), x._pyroTraceback
    text = "".join(Pyro5.errors.get_pyro_traceback(type(x), x, x.__traceback__))
    assert "Remote traceback" in text, text
    return text


@check
def exceptions():
    # spec: R1 to R4, R6
    x = raises(RuntimeError, "plain error", thing.fail, "plain")
    assert "plain error" in remote_traceback(x)
    raises(RuntimeError, "outer: plain error", thing.fail, "wrapped plain")
    x = raises(ValueError, None, thing.fail, "value")
    equal(x.args, ("bad", 1))
    equal(x.extra, 5)
    equal(x.more, ["a", {"b": None}])
    remote_traceback(x)
    raises(Pyro5.errors.NamingError, "a naming error", thing.fail, "naming")
    raises(Pyro5.errors.NamingError, "a naming error", thing.fail, "wrapped naming")
    raises(ZeroDivisionError, "division by zero", thing.fail, "zero division")
    raises(KeyError, "'k'", thing.fail, "key")
    raises(sqlite3.OperationalError, "locked", thing.fail, "sqlite")
    raises(struct.error, "unpack", thing.fail, "struct")
    raises(TimeoutError, None, thing.fail, "deadline")
    raises(Pyro5.errors.PyroError, None, thing.fail, "invented Pyro class")
    equal(thing.echo("still there"), "still there")


@check
def exception_that_cannot_be_sent():
    # spec: R5
    x = raises(Pyro5.errors.PyroError, None, thing.fail, "unserializable")
    assert str(x).startswith("Error serializing exception: "), x
    x = raises(TypeError, None, thing.channel)
    assert "chan int" in str(x), x
    equal(thing.echo("still there"), "still there")


@check
def panic():
    x = raises(RuntimeError, None, thing.panic)
    assert "something is wrong" in str(x), x
    assert "in github.com/pyro-cluster" in remote_traceback(x), x._pyroTraceback
    equal(thing.echo("still there"), "still there")


@check
def exceptions_that_close_the_connection():
    # Pyro5's own client drops the connection upon these two, and connects anew with the next call.
    raises(Pyro5.errors.ConnectionClosedError, None, thing.fail, "connection closed")
    equal(thing.echo("still there"), "still there")
    raises(Pyro5.errors.SecurityError, None, thing.fail, "security")
    thing._pyroRelease()
    equal(thing.echo("still there"), "still there")


@check
def oneway():
    # spec: C6
    text = "oneway by " + SERIALIZER
    equal(thing.notify(text), None)
    equal(thing.notified(text), True)  # waits for it
    equal(thing.notify(), None)  # wrong arguments: nobody is told
    equal(thing._pyroInvoke("no_such", (), {}, flags=Pyro5.protocol.FLAGS_ONEWAY), None)
    equal(thing.echo("still there"), "still there")
    # Without the flag the same method answers: the flag decides, not the metadata.
    calls = thing._pyroOneway
    thing._pyroOneway = set()
    try:
        equal(thing.notify(text), "bogus return value")
    finally:
        thing._pyroOneway = calls


@check
def oneway_does_not_hold_up_the_connection():
    thing.block("gate " + SERIALIZER)  # oneway, runs until it is released by the next call
    equal(thing.release("gate " + SERIALIZER), True)


@check
def context():
    # spec: S8, S9, S10
    current_context.correlation_id = uuid.UUID("12345678-1234-5678-1234-567812345678")
    current_context.annotations = {"TEST": b"\x00 from python"}
    try:
        info = thing.call_info()
        equal(bytes(current_context.response_annotations["BACK"]), b"\x00 from go")
    finally:
        current_context.correlation_id = None
        current_context.annotations = {}
    equal(info["correlation_id"], "12345678-1234-5678-1234-567812345678")
    equal(info["annotation"], "\x00 from python")
    equal(info["serializer"], SERIALIZER)
    equal((info["object"], info["method"]), ("thing", "call_info"))
    equal(info["sequence"], thing._pyroSeq)
    host, port = thing._pyroConnection.sock.getsockname()[:2]
    equal(info["peer"], "%s:%d" % (host, port))
    first, second = thing.call_info()["correlation_id"], thing.call_info()["correlation_id"]
    assert first != second, first  # made by the server
    equal("BACK" in current_context.response_annotations, True)


@check
def handshake():
    seen = []

    class Validating(Pyro5.api.Proxy):
        def _pyroValidateHandshake(self, response):
            seen.append(response)

    proxy = Validating(URI)
    proxy._pyroHandshake = {"secret": 5}
    equal(proxy.echo(1), 1)
    equal(seen, [{"you sent": {"secret": 5}}])
    proxy = Pyro5.api.Proxy(URI)
    proxy._pyroHandshake = "wrong"
    x = raises(Pyro5.errors.CommunicationError, None, proxy._pyroBind)
    assert str(x).endswith("rejected: go away"), x


@check
def metadata():
    # spec: C1, O25
    proxy = Pyro5.api.Proxy("PYRO:servant@" + LOCATION)
    proxy._pyroBind()
    equal(proxy._pyroMethods, {"greet", "ow"})
    equal(proxy._pyroOneway, {"ow"})
    equal(proxy._pyroAttrs, {"answer"})
    equal(dir(proxy)[-3:], sorted(["answer", "greet", "ow"]))


@check
def ping():
    # spec: S11
    for serializer_id in (1, 2, 3, 4, 42):
        message = Pyro5.protocol.SendingMessage(Pyro5.protocol.MSG_PING, 0, 77, serializer_id, b"ping")
        thing._pyroConnection.send(message.data)
        reply = Pyro5.protocol.recv_stub(thing._pyroConnection, [Pyro5.protocol.MSG_PING])
        equal((reply.seq, reply.serializer_id, bytes(reply.data)), (77, serializer_id, b"pong"))
    equal(thing.echo("still there"), "still there")


@check
def daemon_object():
    # spec: O11
    registered = daemon.registered()
    equal(type(registered), list)
    equal(sorted(registered), ["Pyro.Daemon", "servant", "session", "thing"])
    equal(daemon.ping(), None)
    info = daemon.info()
    equal(type(info), str)
    assert "\n" not in info and "4 objects" in info, info
    got = daemon.get_metadata("servant")
    equal({k: sorted(v) for k, v in got.items()}, {"methods": ["greet", "ow"], "oneway": ["ow"], "attrs": ["answer"]})
    raises(Pyro5.errors.DaemonError, "unknown object", daemon.get_metadata, "no such object")
    raises(Pyro5.errors.PyroError, "item stream terminated", daemon.get_next_stream_item, "no such stream")
    equal(daemon.close_stream("no such stream"), None)
    daemon._pyroBind()
    equal(daemon._pyroMethods, {"close_stream", "get_metadata", "get_next_stream_item", "info", "ping", "registered"})


@check
def unknown_object():
    proxy = Pyro5.api.Proxy("PYRO:no such object@".replace(" ", "_") + LOCATION)
    x = raises(Pyro5.errors.CommunicationError, None, proxy._pyroBind)
    assert str(x).endswith("rejected: unknown object"), x


@check
def big_messages():
    # spec: Z4
    big = "x" * (8 << 20)
    equal(len(thing.echo(big)), len(big))
    too_big = "x" * (17 << 20)  # the daemon takes 16 MiB
    raises(Pyro5.errors.ConnectionClosedError, None, thing.echo, too_big)
    equal(thing.echo("still there"), "still there")


@check
def compression():
    # spec: Z2
    Pyro5.config.COMPRESSION = True
    try:
        for size in (99, 100, 101, 1000, 1 << 20):
            text = "ab" * (size // 2)
            equal(thing.echo(text), text)
        bomb = "x" * (64 << 20)  # small on the wire, too big unpacked
        raises(Pyro5.errors.ConnectionClosedError, None, thing.echo, bomb)
        equal(thing.echo("still there"), "still there")
    finally:
        Pyro5.config.COMPRESSION = False


@check
def timeout():
    # spec: C13
    thing._pyroTimeout = 0.2
    try:
        raises(Pyro5.errors.TimeoutError, None, thing.notified, "never sent by " + SERIALIZER)
    finally:
        thing._pyroTimeout = None
    equal(thing.echo("still there"), "still there")


@check
def reconnect():
    # spec: C9, C11
    thing._pyroRelease()
    equal(thing.echo(1), 1)
    thing._pyroReconnect(tries=1)
    equal(thing.echo(2), 2)
    with Pyro5.api.Proxy(URI) as proxy:
        equal(proxy.echo(3), 3)


@check
def connection_without_name():
    # Any object of the daemon can be called on a connection that was made for another.
    equal(thing._pyroInvoke("greet", ("Irmen",), {}, objectId="servant"), "hello Irmen []")


checks.run()
