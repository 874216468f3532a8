"""Object groups, used by stock clients: groups.py HOST PORT SERIALIZER URI URI.  The URIs are of two live objects."""
import sys

import Pyro5.api
import Pyro5.core
import Pyro5.errors

from checks import check, equal, raises, run

HOST, PORT, SERIALIZER, FIRST, SECOND = sys.argv[1:]
Pyro5.config.SERIALIZER = SERIALIZER
GROUP = "group_" + SERIALIZER
ns = Pyro5.api.locate_ns(HOST, int(PORT))
NamingError = Pyro5.errors.NamingError


def members(name):
    return {m["id"]: m for m in ns.members(name)["members"]}


@check
def metadata():
    equal(ns._pyroMethods, {"count", "join", "leave", "list", "lookup", "members", "ping", "register", "remove", "set_metadata", "yplookup"})
    equal((ns._pyroOneway, ns._pyroAttrs), (set(), set()))


@check
def join():
    count = ns.count()
    equal(ns.join(GROUP, FIRST), FIRST)  # the member's id, by default the URI
    equal(ns.join(GROUP, Pyro5.core.URI(SECOND), member="second", zone="north", weight=3), "second")
    group = ns.members(GROUP)
    equal(group["name"], GROUP)
    equal(type(group["version"]), int)
    found = members(GROUP)
    equal(set(found), {FIRST, "second"})
    equal({k: found[FIRST][k] for k in ("uri", "zone", "weight", "alive")}, {"uri": FIRST, "zone": "", "weight": 1, "alive": True})
    equal({k: found["second"][k] for k in ("uri", "zone", "weight", "alive")}, {"uri": SECOND, "zone": "north", "weight": 3, "alive": True})
    equal(ns.count(), count + 1)  # a group is one name
    version = group["version"]
    equal(ns.join(group=GROUP, uri=SECOND, member="second", zone="south"), "second")  # again: the member changes
    equal(members(GROUP)["second"]["zone"], "south")
    assert ns.members(GROUP)["version"] > version


@check
def stock_calls_see_one_live_member():
    seen = {str(ns.lookup(GROUP)) for _ in range(64)}
    equal(seen, {FIRST, SECOND})  # missing one of two in 64 tries has a chance of 2 in 2**64
    uri = ns.list(prefix=GROUP)[GROUP]
    assert uri in (FIRST, SECOND), uri
    answers = set()
    for _ in range(64):
        with Pyro5.api.Proxy("PYRONAME:%s@%s:%s" % (GROUP, HOST, PORT)) as proxy:
            answers.add(proxy.who())
    equal(answers, {"first", "second"})


@check
def leave():
    equal(ns.leave(GROUP, "nobody"), False)
    equal(ns.leave(GROUP, "second"), True)
    equal(set(members(GROUP)), {FIRST})
    equal({str(ns.lookup(GROUP)) for _ in range(8)}, {FIRST})
    equal(ns.leave(GROUP, Pyro5.core.URI(FIRST)), True)  # by URI
    raises(NamingError, "unknown name: " + GROUP, ns.lookup, GROUP)
    raises(NamingError, "unknown name: " + GROUP, ns.members, GROUP)
    equal(ns.leave(GROUP, FIRST), False)


@check
def tag_makes_a_member():
    # What a stock server does that knows nothing of groups.
    group = "tagged_" + SERIALIZER
    ns.register(group + ".1", FIRST, metadata={"group:" + group, "x"})
    ns.register(group + ".2", SECOND, metadata={"group:" + group})
    equal({m["uri"] for m in members(group).values()}, {FIRST, SECOND})
    equal({str(ns.lookup(group)) for _ in range(64)}, {FIRST, SECOND})
    with Pyro5.api.Proxy("PYRONAME:%s@%s:%s" % (group, HOST, PORT)) as proxy:
        assert proxy.who() in ("first", "second")
    with Pyro5.api.Proxy("PYROMETA:group:%s@%s:%s" % (group, HOST, PORT)) as proxy:
        assert proxy.who() in ("first", "second")
    equal(set(ns.list(prefix=group + ".")), {group + ".1", group + ".2"})
    found = set(ns.yplookup(["group:" + group], return_metadata=False))
    assert found >= {group + ".1", group + ".2"}, found
    equal(ns.remove(group + ".1"), 1)
    equal({m["uri"] for m in members(group).values()}, {SECOND})
    ns.set_metadata(group + ".2", None)  # without the tag it is no member
    raises(NamingError, "unknown name: " + group, ns.lookup, group)
    equal(str(ns.lookup(group + ".2")), SECOND)
    equal(ns.remove(prefix=group), 1)


@check
def groups_and_names_are_one_name_space():
    name = "both_" + SERIALIZER
    ns.register(name, FIRST)
    raises(NamingError, None, ns.join, name, SECOND)
    equal([m["uri"] for m in ns.members(name)["members"]], [FIRST])  # a plain name is a group of one
    ns.remove(name)
    ns.join(name, FIRST)
    raises(NamingError, "name already registered: " + name, ns.register, name, SECOND, safe=True)
    ns.register(name, SECOND)  # overwrites, as Pyro's register always does
    equal(str(ns.lookup(name)), SECOND)
    raises(NamingError, None, ns.join, name, FIRST)
    equal(ns.remove(name), 1)
    ns.join(name, FIRST)
    equal(ns.remove(name), 1)  # the whole group
    raises(NamingError, "unknown name: " + name, ns.members, name)


@check
def bad_arguments():
    raises(TypeError, None, ns.join)
    raises(TypeError, None, ns.join, "g")
    raises(TypeError, None, ns.join, 5, FIRST)
    raises(TypeError, None, ns.join, "g", 5)
    raises(Pyro5.errors.PyroError, "invalid uri", ns.join, "g", "nonsense")
    raises(TypeError, None, ns.join, "g", FIRST, weight="heavy")
    raises(ValueError, None, ns.join, "g", FIRST, weight=-1)
    raises(TypeError, None, ns.join, "g", FIRST, zone=5)
    raises(TypeError, None, ns.leave, "g")
    raises(TypeError, None, ns.members)
    raises(TypeError, None, ns.members, 5)
    raises(NamingError, None, ns.join, "Pyro.NameServer", FIRST)
    raises(NamingError, "unknown name: g", ns.members, "g")


run()
