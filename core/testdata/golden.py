"""Writes golden.txt: what Pyro5's serializers make of values and requests.

    TZ=UTC PYTHONHASHSEED=0 python3 golden.py > golden.txt

Needs Pyro5, serpent and msgpack, in the versions that the first line of golden.txt names.  A line is

    serializer kind name data

separated by tabs; kind is "value" or "request", data is hexadecimal, or the class of the exception if Pyro5 cannot write it.
golden_test.go has the Go values of the same names.
"""

import datetime
import decimal
import sys
import uuid

import msgpack
import Pyro5
import serpent
from Pyro5 import client, core, errors, serializers


class Shape:
    def __init__(self):
        self.name = "circle"
        self.size = 3


Shape.__module__ = "shapes"


def exception(cls, *args, **attributes):
    x = cls(*args)
    for name, value in attributes.items():
        setattr(x, name, value)
    return x


def proxy(uri, oneway=(), methods=(), attrs=(), serializer=None):
    p = client.Proxy(uri)
    p._pyroOneway, p._pyroMethods, p._pyroAttrs = oneway, methods, attrs
    p._pyroSerializer = serializer
    return p


def nested(depth):
    v = []
    for _ in range(depth - 1):
        v = [v]
    return v


raised = exception(ValueError, "bad", 1, _pyroTraceback=["Traceback\n", "ValueError: bad\n"], extra=5)
shared = [1, "shared"]

VALUES = {
    "none": None, "true": True, "false": False,
    **{"int %d" % i: i for i in (
        0, 1, -1, 31, 32, -32, -33, 127, 128, -128, -129, 255, 256, 32767, 32768, -32768, -32769, 65535, 65536,
        2**31 - 1, 2**31, -2**31, -2**31 - 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -2**63, -2**63 - 1,
        2**64 - 1, 2**64, 2**70, -2**70, 10**100)},
    **{"float %r" % f: f for f in (
        0.0, -0.0, 1.5, 3.0, -3.0, 0.1, 1e15, 1e16, 1e22, 123456789012345680.0, 0.0001, 0.00001, 1.7976931348623157e308, 5e-324,
        float("inf"), float("-inf"), float("nan"))},
    "complex 1+2j": 1 + 2j, "complex -1-2j": -1 - 2j, "complex 2j": 2j,
    "complex inf": complex(float("inf"), float("-inf")), "complex nan": complex(float("nan"), 1.0),
    "str empty": "", "str ascii": "hello", "str single": "it's", "str double": 'say "x"', "str both": "'\"",
    "str escapes": "a\\b\nc\rd\te\bf\fg\vh", "str controls": "\x00\x01\x1f\x7f\x80\x9f\xa0\xad", "str latin": "caf\xe9",
    "str euro": "\u20ac", "str emoji": "\U0001f600", "str separators": "\u2028\u2029\ufeff\u200b", "str 31": "a" * 31, "str 32": "a" * 32,
    "str 255": "a" * 255, "str 256": "a" * 256, "str private": "\ue000\U000e0001", "str surrogate": "a\ud800b\udfff",
    "bytes empty": b"", "bytes": b"xyz", "bytes all": bytes(range(256)), "bytearray": bytearray(b"xyz"),
    "list empty": [], "list": [1, "a", 2.5, None, True], "list nested": [[], [[1]], (2,)], "list 20": list(range(20)),
    "list 190 deep": nested(190),
    "tuple empty": (), "tuple 1": (1,), "tuple": (1, "a"), "tuple 300": tuple(range(300)),
    "set empty": set(), "set 1": {1}, "set str": {"a"}, "set tuple": {(1, "a")}, "set 3": {1, 2, 3},
    "frozenset empty": frozenset(), "frozenset 1": frozenset({1}), "set frozenset": {frozenset({1})},
    "dict empty": {}, "dict": {"a": 1, "b": [2]}, "dict 20": {"%02d" % i: i for i in range(20)}, "dict nested": {"a": {"b": {}}},
    "dict int keys": {1: "a", -2: "b"}, "dict tuple keys": {(1, 2): "x"}, "dict float keys": {1.5: 1}, "dict bool keys": {True: 1},
    "dict none keys": {None: 1}, "dict bytes keys": {b"k": 1}, "dict mixed keys": {"a": 1, 1: "b"},
    "date": datetime.date(2024, 1, 2), "date first": datetime.date.min, "date last": datetime.date.max,
    "datetime": datetime.datetime(2024, 1, 2, 3, 4, 5, 678), "datetime 1969": datetime.datetime(1969, 12, 31, 23, 59, 58, 500000),
    "datetime aware": datetime.datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=datetime.timezone.utc),
    "datetime aware seconds": datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=-2, minutes=-30))),
    "ellipsis": ...,
    "uuid": uuid.UUID(int=1), "decimal": decimal.Decimal("1.10"),
    "shared": [shared, shared, "shared"],
    "exception": raised, "exception plain": exception(errors.NamingError, "unknown name: x"), "exception empty": StopIteration(),
    "exception in list": [exception(KeyError, "k")],
    "exception wrapper": core._ExceptionWrapper(exception(ValueError, "bad")),
    "batch result": [1, core._ExceptionWrapper(exception(ValueError, "bad"))],
    "uri": core.URI("PYRO:o@h:1"), "uri unix": core.URI("PYRO:o@./u:/tmp/s"), "uri ipv6": core.URI("PYRO:o@[::1]:1"),
    "uri name": core.URI("PYRONAME:n"), "uri name host": core.URI("PYRONAME:n@h"), "uri meta": core.URI("PYROMETA:a"),
    "uri metas": core.URI("PYROMETA:a,b@h:1"), "uri in list": [core.URI("PYRO:o@h:1")],
    "uri in tuple": (core.URI("PYRO:o@h:1"), {"a"}),
    "proxy": proxy("PYRO:o@h:1"), "proxy metadata": proxy("PYRO:o@h:1", ("ow",), ("m", "ow"), ("a",), "json"),
    "proxy in dict": {"p": proxy("PYRO:o@h:1")},
    "shape": Shape(),
    "connect": {"handshake": "hello", "object": "obj1"},
    "connectok": {"handshake": "hello", "meta": {"attrs": {"a"}, "methods": {"m"}, "oneway": set()}},
}

REQUESTS = {
    "call": ("obj1", "meth", (1, "x"), {"k": 2.5}),
    "no arguments": ("obj1", "meth", (), {}),
    "one argument": ("obj1", "meth", ("x",), {}),
    "list of arguments": ("obj1", "meth", [1, [2]], {}),
    "unicode": ("\u20ac", "caf\xe9", ("\U0001f600",), {"\xe9": 1}),
    "get attribute": ("obj1", "__getattr__", ("a",), None),
    "set attribute": ("obj1", "__setattr__", ("a", [1]), None),
    "batch": ("obj1", "<batch>", [("m", (1,), {}), ("n", (), {"k": 1})], None),
    "uri argument": ("obj1", "meth", (core.URI("PYRO:o@h:1"),), {"uri": core.URI("PYRO:o@h:1")}),
    "exception argument": ("obj1", "meth", (exception(ValueError, "bad"),), {}),
    "values": ("obj1", "meth", (None, True, -5, 2**70, 1.5, "x", [1], {"a": {"b": 2}}), {"a": 1, "b": None}),
    "bytes argument": ("obj1", "meth", (b"xyz",), {}),
    "register": ("Pyro.NameServer", "register", ("n", "PYRO:o@h:1"), {"metadata": ["a"], "safe": True}),
}


def line(name, kind, case, dumps):
    try:
        data = dumps().hex()
    except Exception as x:
        data = type(x).__name__
    print(name, kind, case, data, sep="\t")


def main():
    print("# Pyro5 %s, serpent %s, msgpack %s, Python %s" % (
        Pyro5.__version__, serpent.__version__, ".".join(map(str, msgpack.version)), ".".join(map(str, sys.version_info[:2]))))
    for name in ("serpent", "marshal", "json", "msgpack"):
        s = serializers.serializers[name]
        for case, value in VALUES.items():
            line(name, "value", case, lambda: s.dumps(value))
        for case, request in REQUESTS.items():
            line(name, "request", case, lambda: s.dumpsCall(*request))


main()
