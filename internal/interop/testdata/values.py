"""Values in and out of Pyro5's serializers, for differential tests.

    values.py make SEED COUNT    prints lines "serializer data text": COUNT random values for each serializer, as Pyro5 writes them, and
                                 what Pyro5 reads in them.
    values.py read               reads lines "serializer data" and prints "text data": what Pyro5 reads, and writes again.

data is hexadecimal, or an exclamation mark and an exception where Pyro5 refuses.  Texts are those of internal/pyvalues.
"""

import array
import datetime
import decimal
import random
import struct
import sys
import uuid

from Pyro5 import client, core, errors, serializers

EPOCH = datetime.datetime(1970, 1, 1)
EXCEPTIONS = (ValueError, KeyError, RuntimeError, ZeroDivisionError, errors.NamingError, errors.CommunicationError, errors.SecurityError)


class Thing:
    """An object of a class of the user's own, with any attributes."""

    def __init__(self, attributes):
        self.__dict__.update(attributes)


def thing_from_dict(classname, d):
    d = dict(d)
    d.pop("__class__")
    return Thing(d)


serializers.SerializerBase.register_class_to_dict(Thing, lambda x: dict(vars(x), __class__="fuzz.Thing"))
serializers.SerializerBase.register_dict_to_class("fuzz.Thing", thing_from_dict)


def float_text(f):
    return "fnan" if f != f else "f" + struct.pack(">d", f).hex()


def dict_text(d):
    return "{" + ",".join(sorted(text(k) + ":" + text(v) for k, v in d.items())) + "}"


def text(v):
    t = type(v)
    if v is None or v is True or v is False:
        return repr(v)
    if v is ...:
        return "..."
    if t is int:
        return "i%d" % v
    if t is float:
        return float_text(v)
    if t is complex:
        return "c" + float_text(v.real) + float_text(v.imag)
    if t is str:
        return "s" + v.encode("utf-8", "surrogatepass").hex()
    if t in (bytes, bytearray):
        return "b" + v.hex()
    if t is list:
        return "[" + ",".join(map(text, v)) + "]"
    if t is tuple:
        return "(" + ",".join(map(text, v)) + ")"
    if t in (set, frozenset):
        return t.__name__ + "{" + ",".join(sorted(set(map(text, v)))) + "}"
    if t is dict:
        return dict_text(v)
    if t is datetime.datetime:
        return "time%d" % ((v - EPOCH) // datetime.timedelta(microseconds=1))
    if t is datetime.date:
        return "date" + v.isoformat()
    if t is Thing:
        return "object fuzz.Thing" + dict_text(vars(v))
    if t is core.URI:
        return "uri" + str(v).encode().hex()
    if t is client.Proxy:
        names = ["[%s]" % " ".join(sorted(n)) for n in (v._pyroOneway, v._pyroMethods, v._pyroAttrs)]
        return "proxy %s [%s] %s %s" % (v._pyroUri, " ".join(names), text(v._pyroHandshake), v._pyroSerializer or "")
    if isinstance(v, BaseException):
        return "exception %s.%s%s%s" % (t.__module__, t.__name__, text(v.args), dict_text(vars(v)))
    return "unknown " + t.__name__


class Maker:
    """Makes random values that a serializer may take."""

    def __init__(self, seed, name):
        self.r = random.Random("%s %s" % (seed, name))
        self.name = name
        self.flat = False  # no objects: Pyro5 leaves the dicts of those that are inside of another, but with msgpack

    def value(self, depth=0):
        simple = (self.none, self.bool, self.int, self.float, self.str, self.str)
        more = {
            "serpent": (self.complex, self.bytes, self.date, self.datetime, self.time, self.timedelta, self.uuid, self.decimal, self.array),
            "marshal": (self.complex, self.bytes, self.ellipsis),
            "json": (self.date, self.datetime, self.uuid, self.decimal, self.array),
            "msgpack": (self.complex, self.bytes, self.date, self.datetime, self.uuid, self.decimal, self.array),
        }[self.name]
        containers = (self.list, self.tuple, self.dict, self.dict) + (() if self.name == "json" else (self.set,))
        objects = (self.thing, self.exception, self.uri, self.proxy)
        choices = [simple, more]
        if depth < 4:
            choices += [containers] * 3
        if not self.flat and (self.name != "marshal" or depth == 0):
            choices.append(objects)
        make = self.r.choice(self.r.choice(choices))
        if make not in objects:
            return make(depth + 1)
        was, self.flat = self.flat, self.name != "msgpack"
        value = make(depth + 1)
        self.flat = was
        return value

    def none(self, depth):
        return None

    def bool(self, depth):
        return self.r.random() < 0.5

    def ellipsis(self, depth):
        return ...

    def int(self, depth):
        n = self.r.getrandbits(self.r.choice((1, 4, 7, 8, 15, 16, 30, 31, 32, 33, 53, 62, 63, 64, 65, 100, 300)))
        n += self.r.choice((0, 0, 0, 1, -1))
        return -n if self.r.random() < 0.5 else n

    def float(self, depth):
        if self.flat and self.name == "serpent":
            return self.r.random()  # nan is an object there
        return self.r.choice((
            lambda: struct.unpack("<d", self.r.randbytes(8))[0], lambda: self.r.uniform(-10, 10), lambda: float(self.r.randrange(-1000, 1000)),
            lambda: self.r.choice((float("inf"), float("-inf"), float("nan"), -0.0, 5e-324, 1e16, 1e-4, 1e-5, 9007199254740993.0, 1e22, 123456789.0)),
            lambda: round(self.r.uniform(0, 1000), 2), lambda: 10.0 ** self.r.randrange(-320, 308)))()

    def complex(self, depth):
        c = complex(self.float(depth), self.float(depth))
        if self.name == "serpent" and not abs(c.real * c.imag) > 0:
            return 1.5 - 2j  # it does not read what it writes for nan, and reads -0.0 as 0.0 here
        return c

    def str(self, depth):
        alphabet = self.r.choice((
            "abcdefghij", "abc \t\n\r'\"\\", "".join(map(chr, range(0, 160))), "\xe9\xe0\u20ac\u4e2d\u05d0",
            "\U0001f600\U0001f9ff\U0010ffff\U000e0001", "\u2028\u2029\ufeff\u200b\u00ad\u0301\u0378\ufffe\uffff\ue000",
            "{}[]()<>&;:,#%$@`0123456789.eE+-_ jNulTrFa"))
        if self.name in ("serpent", "marshal") and self.r.random() < 0.1:
            alphabet += "\ud800\udfff"
        return "".join(self.r.choice(alphabet) for _ in range(self.size()))

    def size(self):
        return self.r.choice((0, 1, 2, 3, 5, 8, 15, 16, 31, 32, 40, 255, 256, 300)) if self.r.random() < 0.3 else self.r.randrange(12)

    def bytes(self, depth):
        b = self.r.randbytes(self.size())
        return self.r.choice((bytes, bytearray, memoryview))(b)

    def date(self, depth):
        return datetime.date.fromordinal(self.r.randrange(1, 3652060))

    def datetime(self, depth):
        year = self.r.choice((1970, 1, 9998, 1900, 2000, 2024, 2038))
        return datetime.datetime(year, 1, 1) + datetime.timedelta(
            days=self.r.randrange(366), seconds=self.r.randrange(86400), microseconds=self.r.choice((0, self.r.randrange(10**6))))

    def time(self, depth):
        return datetime.time(self.r.randrange(24), self.r.randrange(60), self.r.randrange(60), self.r.choice((0, self.r.randrange(10**6))))

    def timedelta(self, depth):
        return datetime.timedelta(self.r.randrange(-1000, 1000), self.r.randrange(86400), self.r.randrange(10**6))

    def uuid(self, depth):
        return uuid.UUID(bytes=self.r.randbytes(16))

    def decimal(self, depth):
        return decimal.Decimal(self.r.randrange(-10**20, 10**20)).scaleb(self.r.randrange(-30, 10))

    def array(self, depth):
        return self.r.choice((
            lambda: array.array("i", [self.r.randrange(-100, 100) for _ in range(self.r.randrange(5))]),
            lambda: array.array("d", [self.r.random() for _ in range(self.r.randrange(5))]), lambda: array.array("u", "caf\xe9")))()

    def some(self, make):
        return [make() for _ in range(self.r.choice((0, 1, 2, 3, 4, 5, 17)) if self.r.random() < 0.5 else self.r.randrange(4))]

    def list(self, depth):
        return self.some(lambda: self.value(depth))

    def tuple(self, depth):
        return tuple(self.list(depth))

    def key(self, depth):
        kinds = [self.str, self.str, self.str]
        if self.name in ("serpent", "marshal"):
            kinds += [self.int, self.bool, self.float, self.complex, lambda d: tuple(self.some(lambda: self.key(d + 1)) if d < 4 else ())]
        if self.name == "marshal":
            kinds += [self.none, self.ellipsis, lambda d: self.r.randbytes(3), lambda d: frozenset(self.some(lambda: self.key(d + 1)) if d < 4 else ())]
        if self.name == "msgpack":
            kinds += [lambda d: self.r.randbytes(3)]
        if self.name == "json":
            kinds += [self.int, self.bool, self.none, self.float]
        return self.r.choice(kinds)(depth)

    def set(self, depth):
        return set(self.some(lambda: self.key(depth)))

    def dict(self, depth):
        keys = (lambda: self.str(depth)) if self.r.random() < 0.6 else (lambda: self.key(depth))
        return {k: self.value(depth) for k in self.some(keys)}

    def attributes(self, depth):
        return {self.r.choice(("name", "size", "price", "caf\xe9", "_x", "items")): self.value(depth) for _ in range(self.r.randrange(4))}

    def thing(self, depth):
        return Thing(self.attributes(depth))

    def exception(self, depth):
        x = self.r.choice(EXCEPTIONS)(*self.list(depth))
        vars(x).update(self.attributes(depth))
        if self.r.random() < 0.5:
            x._pyroTraceback = ["Traceback\n", "caf\xe9: bad\n"]
        return x

    def uri(self, depth):
        return core.URI(self.r.choice((
            "PYRO:obj@host:1", "PYRO:o@./u:/tmp/s", "PYRO:o@[::1]:9090", "PYRONAME:n", "PYRONAME:n@h:1", "PYROMETA:a,b", "PYROMETA:a@h:1")))

    def proxy(self, depth):
        p = client.Proxy(self.r.choice(("PYRO:obj@host:1", "PYRONAME:n", "PYRO:o@./u:/tmp/s")))
        names = ("a", "b", "c")
        p._pyroMethods = set(self.r.sample(names, self.r.randrange(4)))
        p._pyroOneway = set(sorted(p._pyroMethods)[:1])
        p._pyroAttrs = set(self.r.sample(names, self.r.randrange(2)))
        p._pyroHandshake = self.value(depth)
        p._pyroSerializer = self.r.choice((None, "json"))
        return p


def make(seed, count):
    for name in ("serpent", "marshal", "json", "msgpack"):
        s, maker, refused = serializers.serializers[name], Maker(seed, name), 0
        left = count
        while left:
            value = maker.value()
            try:
                data = s.dumps(value)
                print(name, bytes(data).hex(), text(s.loads(data)), sep="\t")
                left -= 1
            except Exception:  # Pyro5 cannot write it, or not read what it wrote
                refused += 1
                if refused > 2 * count + 100:
                    raise


def attempt(f):
    try:
        return f()
    except Exception as x:
        return "!%s: %s" % (type(x).__name__, " ".join(str(x).split())[:200])


def read():
    for line in sys.stdin:
        name, data = line.split()
        s = serializers.serializers[name]
        try:
            value = s.loads(bytes.fromhex(data))
        except Exception as x:
            print("!%s: %s" % (type(x).__name__, " ".join(str(x).split())[:200]), "", sep="\t")
            continue
        print(text(value), attempt(lambda: bytes(s.dumps(value)).hex()), sep="\t")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], int(sys.argv[3]))
    else:
        read()
