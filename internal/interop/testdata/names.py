"""Asks a name server everything that Pyro's has an answer to, and prints the answers: names.py HOST PORT.

The same questions go to the stock server and to ours; the lines are to be the same.
"""
import sys

import Pyro5.api
import Pyro5.core
import Pyro5.errors

HOST, PORT = sys.argv[1:]
LOCATION = "%s:%s" % (HOST, PORT)
OWN = "PYRO:Pyro.NameServer@" + LOCATION


def text(value):
    """repr, but sets and dicts in order, and addresses left out."""
    if isinstance(value, Pyro5.core.URI):
        return "URI(%s)" % value
    if isinstance(value, (set, frozenset)):
        return "%s{%s}" % (type(value).__name__, ", ".join(sorted(map(text, value))))
    if isinstance(value, (list, tuple)):
        return "%s[%s]" % (type(value).__name__, ", ".join(map(text, value)))
    if isinstance(value, dict):
        return "dict{%s}" % ", ".join(sorted("%s: %s" % (text(k), text(v)) for k, v in value.items()))
    return repr(value)


def entry(value):
    """The value of a list, whose tags come as a list where there are no sets; their order means nothing."""
    if isinstance(value, dict):
        return {name: (found[0], frozenset(found[1])) if isinstance(found, (list, tuple)) else found for name, found in value.items()}
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], Pyro5.core.URI):
        return value[0], frozenset(value[1])
    return value


def ask(ns, method, *args, **kwargs):
    try:
        answer = text(entry(ns._pyroInvoke(method, args, kwargs)))
    except Exception as x:
        answer = "%s: %s" % (type(x).__name__, x)
    kind = ns._pyroSerializer
    given = ", ".join([text(a) for a in args] + ["%s=%s" % (k, text(v)) for k, v in kwargs.items()])
    line = "%s %s(%s) -> %s" % (kind, method, given, answer)
    print(line.replace(LOCATION, "NS").replace("\n", "\\n"), flush=True)


def questions(ns):
    def a(method, *args, **kwargs):
        ask(ns, method, *args, **kwargs)

    uri, other = "PYRO:o@h:1", "PYRO:p@h:2"
    a("remove", regex=".")
    a("remove", "")

    # N9, N10: a fresh name server
    a("ping")
    a("count")
    a("lookup", "Pyro.NameServer")
    a("lookup", "Pyro.NameServer", True)
    a("list")
    a("list", return_metadata=True)

    # N3, N11: register
    a("register", "a", uri)
    a("register", name="b", uri=other)
    a("register", "c", uri, False, ["x", "y", "x"])
    a("register", "c.d", uri=uri, metadata=("y",))
    a("register", "d", uri, metadata={"x", "z"})
    a("register", "e", uri, False, [])
    a("register", "f", Pyro5.core.URI(uri))
    a("register", "g", "PYRONAME:other@h")
    a("register", "h", "PYROMETA:t@h:9")
    a("register", "i", "pyro:lower@h:1")
    a("register", "j", "PYRO:o@./u:/tmp/sock")
    a("register", "k", "PYRO:o@[::1]:5")
    a("register", "", uri)
    a("register", " blank name ", uri)
    a("register", "n\u00e4me \u20ac \U0001d11e", uri)
    a("register", "new\nline", uri)
    for name in ("g", "h", "i", "j", "k", "", " blank name ", "n\u00e4me \u20ac \U0001d11e", "new\nline"):
        a("lookup", name)
    a("count")
    a("list")
    a("list", "c", return_metadata=True)
    a("list", return_metadata=True)  # with entries that have no metadata
    a("register", "a", other)
    a("lookup", "a")
    for safe in (True, 1, "yes", [0], 0.5):
        a("register", "a", uri, safe)
    for safe in (False, 0, "", [], 0.0, None):
        a("register", "a", uri, safe)
    a("register", "safe", uri, True)
    a("register", "safe", other, safe=True)
    a("register", "safe", other, True, ["t"])
    a("lookup", "safe", True)
    a("register", "c", other)
    a("lookup", "c", True)  # an overwritten entry loses its metadata
    a("register", "c", uri, False, ["x", "y"])
    for metadata in ({}, {"k": 1}, 0, False, "", 5, True, "text", [["list"]], [{}], 1.5, "t"):
        a("register", "meta", uri, False, metadata)
    a("lookup", "meta", True)
    a("register", "meta", uri, metadata={"key": "value"})
    a("lookup", "meta", True)
    for bad in ("", "foo", "PYRO:o", "PYRO:o@h", "PYRO:o@h:x", "PYROLOC:o@h:1", "PYRO:o b@h:1", "http://x", "PYRONAME:", "PYRO:@h:1", "PYRO:o@[[::1]]:1", 5, None,
                True, ["PYRO:o@h:1"], {}):
        a("register", "bad", bad)
    for bad in (5, None, True, 1.5, ["a"], {}):
        a("register", bad, uri)
    a("register", 5, "foo")
    a("register", 5, uri, False, "text")
    a("register", "a", "foo", True)
    a("register", "a", uri, True, "text")
    a("register")
    a("register", "a")
    a("register", "a", uri, False, None, 5)
    a("register", "a", uri, unknown=1)
    a("register", "a", uri, name="b")
    a("register", "a", uri, name="b", unknown=1)

    # N4: lookup
    a("lookup", name="a")
    a("lookup", "unknown")
    a("lookup", "A")
    for truth in (True, 1, 1.0, "yes", [0], {"k": 0}, -1):
        a("lookup", "d", truth)
    for truth in (False, 0, 0.0, "", [], {}, None):
        a("lookup", "d", truth)
    a("lookup", "d", return_metadata=True)
    a("lookup", name="a", return_metadata=1)
    for bad in (5, None, True, 1.5, ["a"], ("a",), {}):
        a("lookup", bad)
    a("lookup")
    a("lookup", "a", True, 5)
    a("lookup", "a", unknown=1)

    # N5, N13: list
    a("list", "c")
    a("list", "C")
    a("list", "c.")
    a("list", "Pyro.")
    a("list", prefix="")
    a("list", prefix=None, regex="")
    a("list", prefix="c", return_metadata=True)
    a("list", "c", None, 1)
    a("list", None, "c")
    a("list", regex="c.d")
    a("list", regex=r"c\.d")
    a("list", regex="c$")
    a("list", regex="^c$")
    a("list", regex=r".*d\Z")
    a("list", regex=".")
    a("list", regex="a|b")
    a("list", regex="(?i)C")
    a("list", regex="(?:a|b)$")
    a("list", regex=r"\w+\.\w+")
    a("list", regex=r"n\u00e4me")
    a("list", regex=r"(?!c)[a-d]$")
    a("list", regex=r"c(?=\.)")
    a("list", regex=r"(c).*(?<=d)")
    a("list", regex=r"(.)\1")
    a("list", regex=r"(?P<first>.)afe")
    a("list", regex=r"[[a]")
    a("list", regex=r"[\d]")
    a("list", regex=r"\s")
    a("list", regex=r"new.line")
    a("list", regex=r"(?s)new.line")
    a("list", regex="c", return_metadata=True)
    a("list", regex="unknown")
    for bad in ("(", "*", "[", "a{2,1}", "(?P<n", ")", "\\", "a**", "(?", "(?<n>a)", "x{99999999999}", "[b-a]", r"\1", "(?P=n)", "(?i"):
        a("list", regex=bad)
    a("list", "c", "c")
    a("list", "c", "")
    a("list", "", "c")
    a("list", 5)
    a("list", True)
    a("list", ["c"])
    a("list", [])
    a("list", {"c": 1})
    a("list", regex=5)
    a("list", regex=True)
    a("list", regex=["c"])
    a("list", "c", None, False, 5)
    a("list", unknown=1)

    # N8: yplookup
    a("yplookup")
    a("yplookup", ["x"])
    a("yplookup", ["y", "x"])
    a("yplookup", {"x"})
    a("yplookup", ("x",))
    a("yplookup", ["x", "nobody has"])
    a("yplookup", None, ["z", "nobody has"])
    a("yplookup", meta_any=["x", "z"])
    a("yplookup", meta_any={"nobody has"})
    a("yplookup", meta_all=["x"], return_metadata=False)
    a("yplookup", meta_any=["x"], return_metadata=0)
    a("yplookup", ["x"], None, "")
    a("yplookup", ["X"])
    a("yplookup", [], [])
    a("yplookup", [], ["x"])
    a("yplookup", ["x"], ["x"])
    a("yplookup", "x", "x")
    a("yplookup", "x")
    a("yplookup", meta_any="x")
    a("yplookup", 5)
    a("yplookup", meta_any=5)
    a("yplookup", True)
    a("yplookup", [5])
    a("yplookup", meta_any=[5, "x"])
    a("yplookup", [["x"]])
    a("yplookup", {"x": 1})
    a("yplookup", ["class:Pyro5.nameserver.NameServer"])
    a("yplookup", ["x"], None, True, 5)
    a("yplookup", unknown=["x"])

    # N7: set_metadata
    a("set_metadata", "a", ["m", "n", "m"])
    a("lookup", "a", True)
    a("set_metadata", "a", {"o"})
    a("lookup", "a", True)
    a("set_metadata", name="a", metadata=("p",))
    a("lookup", "a", True)
    a("set_metadata", "a", [])
    a("lookup", "a", True)
    a("set_metadata", "a", ["q"])
    a("set_metadata", "a", None)
    a("lookup", "a", True)
    a("set_metadata", "unknown", ["m"])
    a("set_metadata", "unknown", "text")
    for bad in ("text", "", 5, 0, [["m"]]):
        a("set_metadata", "a", bad)
    for bad in (5, None, ["a"]):
        a("set_metadata", bad, ["m"])
    a("set_metadata", "a")
    a("set_metadata", "a", [], 5)
    a("yplookup", ["p"])

    # N6: remove
    a("remove")
    a("remove", "unknown")
    a("remove", "a")
    a("remove", "a")
    a("lookup", "a")
    a("remove", name="b")
    a("remove", "Pyro.NameServer")
    a("remove", prefix="Pyro.")
    a("remove", regex="Pyro")
    a("lookup", "Pyro.NameServer")
    a("register", "p1", uri)
    a("register", "p2", uri)
    a("register", "p3", uri)
    a("remove", "p1", "p", "p")
    a("remove", "Pyro.NameServer", "p2")
    a("remove", None, "nothing has this")
    a("remove", prefix="p", regex="q")
    a("remove", regex="c.*d")
    a("remove", regex="nothing")
    a("remove", regex="(")
    a("remove", regex=5)
    a("remove", prefix=5)
    for falsy in ("", 0, [], False):
        a("remove", falsy)
    for odd in (5, True, 1.5):
        a("remove", odd)
    a("remove", ["list"])
    a("remove", "a", "b", "c", "d")
    a("remove", unknown=1)
    a("list")
    a("remove", prefix="n")
    a("remove", regex="")
    a("remove", regex=".*")
    a("list")
    a("count")
    a("count", 1)
    a("ping", 1)
    a("no_such_method")
    a("_private")

    # what only ours refuses; see the list of differences
    a("register", "odd", uri, False, [5, None])
    a("remove", "odd")
    a("register", "Pyro.NameServer", "PYRO:intruder@h:1", False, ["t"])
    a("register", "Pyro.NameServer", "PYRO:intruder@h:1", True)
    a("lookup", "Pyro.NameServer", True)
    a("set_metadata", "Pyro.NameServer", ["t"])
    a("yplookup", ["t"])
    a("register", "Pyro.NameServer", OWN, False, ["class:Pyro5.nameserver.NameServer"])
    a("lookup", "Pyro.NameServer")


for serializer in ("serpent", "marshal", "json", "msgpack"):
    server = Pyro5.api.Proxy(OWN)
    server._pyroSerializer = serializer
    questions(server)
    server._pyroRelease()
print("end", flush=True)
