"""A stock Pyro5 server that is a member of an object group: the tag "group:jokegen" is all it takes."""
import os
import signal
import sys

import Pyro5.api


@Pyro5.api.expose
class JokeGen:
    def joke(self, name):
        return f"Sorry {name}, {member} only knows jokes about snakes."


member = sys.argv[1]
daemon = Pyro5.api.Daemon()
uri = daemon.register(JokeGen())
with Pyro5.api.locate_ns() as ns:
    ns.register(member, uri, metadata={"group:jokegen"})
print("serving", uri, flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
daemon.requestLoop()
