"""A stock Pyro5 daemon with an object that Go calls.  Prints its URI."""
import datetime
import decimal
import os
import sys
import threading
import uuid

import Pyro5.api
import Pyro5.errors
from Pyro5.api import current_context

import checks

checks.end_with_parent()


class CustomError(Exception):
    """An exception of a class that nobody else knows."""


class Unserializable(ValueError):
    def __init__(self):
        super().__init__("bad")
        self.lock = threading.Lock()


class Base:
    def unexposed(self):
        """Exposing a class does not expose its bases."""


@Pyro5.api.expose
class Thing(Base):
    def __init__(self):
        self._name = "python"
        self._noted = {}
        self._lock = threading.Lock()

    def echo(self, value):
        return value

    def type_and_repr(self, value):
        return "%s %r" % (type(value).__name__, value)

    def add(self, a, b=10, *more, factor=1):
        return (a + b + sum(more)) * factor

    def python_value(self, name):
        return {
            "none": None, "true": True, "int": -5, "big": 2**70, "float": 3.0, "inf": float("inf"), "nan": float("nan"), "complex": 1 + 2j,
            "str": "h\u00e9\U0001d11e\n'\"\\", "bytes": b"\x00\xff", "tuple": (1, "x"), "list": [1, [2.5, None]], "set": {7},
            "frozenset": frozenset([7]), "empty set": set(), "dict": {"a": 1, "b": {"c": []}}, "int keys": {1: "a", 2: "b"},
            "tuple keys": {(1, 2): "a"}, "uuid": uuid.UUID(int=5), "decimal": decimal.Decimal("1.50"),
            "datetime": datetime.datetime(2024, 1, 2, 3, 4, 5, 678), "date": datetime.date(2024, 1, 2),
            "uri": Pyro5.api.URI("PYRO:o@h:1"), "exception": ValueError("x", 1), "point": checks.Point(1, 2),
            "proxy": Pyro5.api.Proxy("PYRO:o@h:1"), "registered": self,
        }[name]

    @property
    def name(self):
        return self._name

    @name.setter
    def name(self, value):
        if not value:
            raise ValueError("no name")
        self._name = value

    @property
    def constant(self):
        return 42

    @property
    def countdown(self):
        return iter([3, 2, 1])

    def _event(self, text):
        with self._lock:
            return self._noted.setdefault(text, threading.Event())

    @Pyro5.api.oneway
    def note(self, text):
        self._event(text).set()
        return "bogus return value"

    def noted(self, text):
        return self._event(text).wait(30)

    def fail(self, kind):
        if kind == "value":
            x = ValueError("bad", 1)
            x.extra = 5
            raise x
        raise {
            "key": KeyError("k"), "zero": ZeroDivisionError("division by zero"), "os": FileNotFoundError(2, "No such file", "f"),
            "stop": StopIteration(), "naming": Pyro5.errors.NamingError("unknown name: x"), "custom": CustomError("mine", 2),
            "unserializable": Unserializable(), "security": Pyro5.errors.SecurityError("not for you"),
            "timeout": Pyro5.errors.TimeoutError("too late"), "closed": Pyro5.errors.ConnectionClosedError("gone"),
            "unicode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "interrupt": RuntimeError(),
        }[kind]

    def generate(self, n):
        for i in range(n):
            yield {"item": i}

    def generate_and_fail(self):
        yield 1
        raise ValueError("in the middle")

    def unserializable(self):
        return threading.Lock()

    def context(self):
        current_context.response_annotations = {"BACK": b"from python"}
        annotation = current_context.annotations.get("TEST", b"")
        return {"correlation_id": str(current_context.correlation_id), "annotation": bytes(annotation).decode("latin-1"),
                "serializer": current_context.serializer_id, "sequence": current_context.seq}

    def call_back(self, proxy, text):
        proxy._pyroClaimOwnership()
        try:
            return "%s via %d" % (proxy.echo(text), os.getpid() * 0 + 1)
        finally:
            proxy._pyroRelease()

    def blob(self, blob):
        return [blob.info, blob.deserialized()]

    def pass_on(self, blob):
        """Passes a blob on, unread, to the object that its info names."""
        with Pyro5.api.Proxy(blob.info) as proxy:
            proxy._pyroSerializer = {1: "serpent", 2: "marshal", 3: "json", 4: "msgpack"}[current_context.serializer_id]
            return proxy.blob(blob)

    def wait(self, text):
        self._event(text).wait(30)
        return text


class Daemon(Pyro5.api.Daemon):
    def validateHandshake(self, conn, data):
        if data == "wrong":
            raise ValueError("go away")
        return "hello" if data == "hello" else {"you sent": data}


with Daemon(host="127.0.0.1") as daemon:
    uri = daemon.register(Thing(), "thing")
    print("uri", uri, flush=True)
    daemon.requestLoop()
