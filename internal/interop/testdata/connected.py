"""A stock daemon on one connection that it did not accept itself, and without a handshake.  Prints the port that it waits at."""
import socket

import Pyro5.api

import checks

checks.end_with_parent()


@Pyro5.api.expose
class Thing:
    def __init__(self):
        self._count = 0

    def echo(self, value):
        return value

    @property
    def count(self):
        self._count += 1
        return self._count

    def fail(self):
        raise ValueError("bad")


with socket.create_server(("127.0.0.1", 0)) as listener:
    print("port", listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
daemon = Pyro5.api.Daemon(connected_socket=connection)
daemon.register(Thing(), "thing")
daemon.requestLoop()
connection.close()
print("ended", flush=True)
