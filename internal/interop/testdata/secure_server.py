"""A stock server, secured by its environment, until its standard input ends.  It tells each client whose certificate it saw."""
import Pyro5.api

import checks

checks.end_with_parent()


@Pyro5.api.expose
class Greeter:
    def greet(self, name):
        return "hello " + name


class Daemon(Pyro5.api.Daemon):
    def validateHandshake(self, conn, data):
        cert = conn.getpeercert()
        return dict(item[0] for item in cert["subject"])["commonName"] if cert else "nobody"


with Daemon(host="127.0.0.1") as daemon:
    print("uri", daemon.register(Greeter(), "greeter"), flush=True)
    daemon.requestLoop()
