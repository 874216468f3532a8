"""Writes golden48.txt: messages of protocol 48 and values with Pyro4's classes, as Pyro4 writes them.

    TZ=UTC PYTHONHASHSEED=0 python3 golden48.py > golden48.txt

Needs Pyro4, serpent and msgpack, in the versions that the first line of golden48.txt names.  A line is

    frame name key data
    value name serializer data

separated by tabs; key is the HMAC key, or "-"; data is hexadecimal.  golden48_test.go has what they mean.
"""
import sys
import uuid

import msgpack
import Pyro4
import serpent
from Pyro4 import core, errors, futures, message, util

ID = uuid.UUID("12345678-1234-5678-1234-567812345678").bytes
M = message


def frame(name, type_, data, serializer, flags=0, seq=0, annotations=None, key=None, compress=False):
    if compress:
        data, compressed = util.get_serializer("serpent").serializeData(data, True)
        assert compressed
        flags |= M.FLAGS_COMPRESSED
    sent = M.Message(type_, data, serializer, flags, seq, annotations=annotations, hmac_key=key)
    print("frame", name, key.decode() if key else "-", sent.to_bytes().hex(), sep="\t")


def call(serializer, *args):
    return util.get_serializer(serializer).serializeCall(*args)[0]


def data(serializer, value):
    return util.get_serializer(serializer).serializeData(value)[0]


def frames():
    frame("connect", M.MSG_CONNECT, data("serpent", {"handshake": "hello", "object": "o"}), 1, M.FLAGS_META_ON_CONNECT)
    frame("connect without metadata", M.MSG_CONNECT, data("json", {"handshake": "hello"}), 2)
    frame("connectok", M.MSG_CONNECTOK, data("json", {"handshake": "hello", "meta": {"methods": ["m"], "oneway": [], "attrs": []}}), 2,
          M.FLAGS_META_ON_CONNECT, 7, {"CORR": ID})
    frame("connectfail", M.MSG_CONNECTFAIL, data("serpent", "no"), 1)
    frame("invoke msgpack", M.MSG_INVOKE, call("msgpack", "o", "m", [1, "x"], {}), 6, 0, 0x1234, {"ABCD": b"xyz", "CORR": ID})
    frame("oneway batch", M.MSG_INVOKE, call("json", "o", "<batch>", [("m", (1,), {})], None), 2, M.FLAGS_ONEWAY | M.FLAGS_BATCH, 65535)
    frame("invoke pickle", M.MSG_INVOKE, b"\x80\x04N.", 4)
    frame("blob", M.MSG_INVOKE, data("serpent", None), 1, M.FLAGS_KEEPSERIALIZED)
    frame("stream", M.MSG_RESULT, data("serpent", None), 1, M.FLAGS_EXCEPTION | M.FLAGS_ITEMSTREAMRESULT, 3, {"STRM": b"id"})
    frame("compressed", M.MSG_RESULT, "a" * 1000, 1, 0, 1, compress=True)
    frame("signed", M.MSG_INVOKE, call("serpent", "o", "m", (), {}), 1, 0, 1, {"ABCD": b"xyz", "CORR": ID, "ZZZZ": b"last"}, key=b"secret")
    frame("signed without annotations", M.MSG_PING, b"ping", 42, key=b"secret")
    frame("ping", M.MSG_PING, b"ping", 42)


def exception(cls, *args, **attributes):
    x = cls(*args)
    for name, value in attributes.items():
        setattr(x, name, value)
    return x


def values():
    proxy = core.Proxy("PYRO:o@h:1")
    named = core.Proxy("PYRONAME:n@h:1")
    named._pyroOneway, named._pyroMethods, named._pyroAttrs = {"m"}, {"m"}, {"a"}
    named._pyroSerializer, named._pyroHandshake = "json", "please"
    daemon = core.Daemon.__new__(core.Daemon)
    for name, value in (
            ("uri", core.URI("PYRO:o@h:1")),
            ("uri name", core.URI("PYRONAME:n")),
            ("uri meta", core.URI("PYROMETA:a")),
            ("uri socket", core.URI("PYRO:o@./u:/s")),
            ("proxy", proxy),
            ("proxy with metadata", named),
            ("daemon", daemon),
            ("naming error", exception(errors.NamingError, "unknown name: x")),
            ("traceback", exception(errors.SerializeError, "bad", 1, _pyroTraceback=["line\n"])),
            ("value error", ValueError("bad")),
            ("wrapper", futures._ExceptionWrapper(errors.DaemonError("unknown object")))):
        for serializer in ("serpent", "json", "marshal", "msgpack"):
            if name == "uri meta" and serializer in ("json", "msgpack"):
                continue  # a set: Pyro4 writes it as a list, which it cannot read as one
            print("value", name, serializer, data(serializer, value).hex(), sep="\t")


print("# Pyro4 %s, serpent %s, msgpack %s, Python %s" % (
    Pyro4.__version__, serpent.__version__, ".".join(map(str, msgpack.version)), sys.version.split()[0]))
frames()
values()
