"""A stock client of a skeleton that was generated from an interface: generated.py SERIALIZER URI."""
import sys

import Pyro5.api

import checks
from checks import check, equal, raises

SERIALIZER, URI = sys.argv[1:]
Pyro5.config.SERIALIZER = SERIALIZER
JSON, SERPENT = SERIALIZER == "json", SERIALIZER == "serpent"
SEQUENCE = list if SERIALIZER in ("json", "msgpack") else tuple

kinds = Pyro5.api.Proxy(URI)


@check
def several_results():
    data = None if JSON else b"bytes"
    result = kinds.basic(True, -1, -2**63, 2**64 - 1, 0.5, "text \u00fc", data)
    equal(type(result), SEQUENCE)
    if SERPENT:
        result = result[:6] + (__import__("serpent").tobytes(result[6]),)
    equal(list(result), [True, -1, -2**63, 2**64 - 1, 0.5, "text \u00fc", data])


@check
def positional_and_keyword_arguments():
    equal(kinds.by_keyword(2, "x"), "xx")
    equal(kinds.by_keyword(2, url_path="x"), "xx")
    equal(kinds.by_keyword(url_path="x", user_id=2), "xx")
    equal(kinds.unnamed(2, "x"), "xx")


@check
def variadic():
    equal(kinds.variadic("ab"), 2)
    equal(kinds.variadic("ab", 1, 2, 3), 5)
    raises(TypeError, "variadic() argument 3: got str \"x\", want int64", kinds.variadic, "ab", 1, "x")


@check
def structs():
    item = kinds.composed([1, 2], {}, ["a", "b"], None, {"label": "l", "tags": {"t": 1}, "made": "2024-01-02T03:04:05"}, None) \
        if SERIALIZER != "marshal" else None  # which knows no dates
    if item is not None:
        equal(item["label"], "l")
        equal(item["price"], 2.0)
        equal(item["tags"], {"t": 1})
        equal("secret" in item, False)


@check
def wrong_arity():
    raises(TypeError, "by_keyword() missing 1 required positional argument: 'url_path'", kinds.by_keyword, 1)
    raises(TypeError, "by_keyword() missing 2 required positional arguments: 'user_id' and 'url_path'", kinds.by_keyword)
    raises(TypeError, "by_keyword() takes 2 positional arguments but 3 were given", kinds.by_keyword, 1, "x", 2)
    raises(TypeError, "by_keyword() got an unexpected keyword argument 'y'", kinds.by_keyword, 1, "x", y=1)
    raises(TypeError, "by_keyword() got multiple values for argument 'user_id'", kinds.by_keyword, 1, user_id=1)
    raises(TypeError, "unnamed() got an unexpected keyword argument 'arg1'", kinds.unnamed, arg1=1)


@check
def wrong_type():
    raises(TypeError, "by_keyword() argument 'user_id': got str \"x\", want int64", kinds.by_keyword, "x", "x")


@check
def exception():
    raises(ValueError, "user -1", kinds.by_keyword, -1, "x")


@check
def oneway():
    equal("notify" in kinds._pyroOneway, True)
    equal(kinds.notify("noted"), None)


@check
def batch():
    if SERIALIZER == "marshal":
        return  # with which Pyro5 cannot send a batch
    calls = Pyro5.api.BatchProxy(kinds)
    calls.by_keyword(1, "x")
    calls.variadic("ab", 1)
    equal(list(calls()), ["x", 3])


@check
def private_members():
    raises(AttributeError, None, lambda: kinds.nope)


checks.run()
