"""A stock server that registers in a name server: member.py HOST PORT NAME ANSWER [TAG...]."""
import sys

import Pyro5.api

import checks

checks.end_with_parent()
HOST, PORT, NAME, ANSWER, *TAGS = sys.argv[1:]


@Pyro5.api.expose
class Member:
    def who(self):
        return ANSWER


with Pyro5.api.Daemon(host="127.0.0.1") as daemon:
    uri = daemon.register(Member())
    with Pyro5.api.locate_ns(HOST, int(PORT)) as ns:
        ns.register(NAME, uri, metadata=set(TAGS) or None)
    print("uri", uri, flush=True)
    daemon.requestLoop()
