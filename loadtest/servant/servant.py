"""The servant of a load test on stock Pyro5: the object "loadtest", a member of an object group.

    python servant.py --member NAME --group GROUP --ns-host HOST --ns-port PORT

It prints "serving URI" when calls can come.  On SIGTERM it removes its name, finishes the calls under way and exits with 0.
"""
import argparse
import contextlib
import fcntl
import os
import signal
import socket
import stat
import sys
import threading
import time

import Pyro5.api
import Pyro5.errors

HEADER = b"pyro-ledger v1\n\0"
RECORD = 16
MAX_PART = 1 << 20
JOIN_SECONDS = 10
GOODBYE_SECONDS = 5


class Ledger:
    """A file to which the ids of calls are appended, each by one write(2): what is in it survives kill -9."""

    def __init__(self, path):
        self.torn = None  # set when a part of a record was written: no more may follow it
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as x:
            raise OSError(f"ledger: {path}: that of another servant ({x}): give each one of its own") from None
        info = os.fstat(self.fd)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f"ledger: {path}: not a regular file: name one")
        begin = os.pread(self.fd, RECORD, 0)
        if not HEADER.startswith(begin):
            raise OSError(f"ledger: {path}: begins with {begin!r}, a ledger with {HEADER!r}: name another file")
        if info.st_size % RECORD:
            os.ftruncate(self.fd, info.st_size - info.st_size % RECORD)
        if info.st_size < RECORD:
            self._write(HEADER)

    def append(self, record):
        if self.torn:
            raise self.torn
        try:
            self._write(record)
        except OSError as x:
            raise OSError(f"not run: ledger: append: {x}") from None

    def _write(self, record):
        written = os.write(self.fd, record)
        if written < len(record):
            self.torn = OSError(f"not run: ledger: append: {written} of {len(record)} bytes were written before")
            raise OSError(f"only {written} of {len(record)} bytes were written")

    def part(self, offset, size):
        return os.pread(self.fd, size, offset)


class Loadtest:
    """The works.  Each is in the ledger before it runs."""

    def __init__(self, member, ledger):
        self._member = member
        self._ledger = ledger

    def _record(self):
        if self._ledger:
            self._ledger.append(Pyro5.api.current_context.correlation_id.bytes)

    @Pyro5.api.expose
    def add(self, a, b):
        self._record()
        return a + b

    @Pyro5.api.expose
    def echo(self, value):
        # serpent brings bytes as a dict of base64 text, and takes the same dict for what they are: nothing to convert.
        self._record()
        return value

    @Pyro5.api.expose
    @Pyro5.api.oneway
    def oneway(self, value):
        self._record()

    @Pyro5.api.expose
    def who(self):
        return self._member


class LoadtestWithLedger(Loadtest):
    @Pyro5.api.expose
    def ledger(self, offset, size):
        if not isinstance(offset, int) or not isinstance(size, int) or offset < 0 or size < 0:
            raise ValueError(f"ledger({offset}, {size}): want an offset and a size of at least 0")
        return self._ledger.part(offset, min(size, MAX_PART))


class Daemon(Pyro5.api.Daemon):
    """A daemon that can finish the calls under way, which the stock one cuts off."""

    def __init__(self, *args, **kwargs):
        self._changed = threading.Condition()  # guards what follows
        self._connections = set()
        self._draining = False
        super().__init__(*args, **kwargs)

    def validateHandshake(self, conn, data):
        with self._changed:
            if self._draining:
                raise Pyro5.errors.DaemonError("server is shutting down")
            # Those whose handshake failed after this are never disconnected, only closed.
            self._connections = {c for c in self._connections if c.sock.fileno() >= 0}
            self._connections.add(conn)
        return "hello"

    def clientDisconnect(self, conn):
        with self._changed:
            self._connections.discard(conn)
            self._changed.notify_all()

    def drain(self, seconds):
        """Ends every connection after the call that runs on it: its end of the stream is all that it can still read."""
        deadline = time.monotonic() + seconds
        with self._changed:
            self._draining = True
            for conn in self._connections:
                with contextlib.suppress(OSError):  # it may be gone already
                    conn.sock.shutdown(socket.SHUT_RD)
            self._changed.wait_for(lambda: not any(c.sock.fileno() >= 0 for c in self._connections), seconds)
        for thread in threading.enumerate():
            if thread.name == "oneway-call":
                thread.join(max(0, deadline - time.monotonic()))


class NameServer:
    """The nodes of the name server: each is asked in turn, until one answers, the time is over or the event stop is set."""

    def __init__(self, nodes):
        self.nodes = [(f"[{host}]" if ":" in host.strip("[]") else host, port) for host, port in nodes]

    def ask(self, seconds, question, stop):
        deadline = time.monotonic() + seconds
        while True:
            for host, port in self.nodes:
                try:
                    with Pyro5.api.Proxy(f"PYRO:Pyro.NameServer@{host}:{port}") as ns:
                        ns._pyroTimeout = max(0.1, min(2, deadline - time.monotonic()))
                        return question(ns)
                except Pyro5.errors.NamingError:
                    raise  # that is an answer
                except (Pyro5.errors.PyroError, OSError) as x:
                    error = x
            if time.monotonic() >= deadline or stop.wait(0.1):
                raise error


def options():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda text: sys.exit(usage_error(text))
    parser.add_argument("--member", required=True, help="name of this member, under which it is registered")
    parser.add_argument("--group", help="to join; without, the servant is not registered")
    parser.add_argument("--ns-host", action="append", default=[], help="of the name server; can be repeated, as --ns-port")
    parser.add_argument("--ns-port", action="append", default=[], type=int)
    parser.add_argument("--host", default="localhost", help="to bind")
    parser.add_argument("--port", default=0, type=int, help="to bind; 0 picks one")
    parser.add_argument("--nat", metavar="HOST:PORT", help="address under which clients reach it, if not that")
    parser.add_argument("--ledger", metavar="FILE", help="to which the ids of calls are written before they run")
    parser.add_argument("--threads", default=512, type=int, help="connections at a time")
    o = parser.parse_args()
    if len(o.ns_host) != len(o.ns_port):
        parser.error(f"{len(o.ns_host)} times --ns-host and {len(o.ns_port)} times --ns-port: they come in pairs")
    if o.group and not o.ns_host:
        parser.error("--group needs --ns-host and --ns-port")
    if o.threads < 1:
        parser.error(f"--threads {o.threads}: at least 1")
    o.nat_host = o.nat_port = None
    if o.nat:
        o.nat_host, _, port = o.nat.rpartition(":")
        if not o.nat_host or not port.isdecimal():
            parser.error(f"--nat {o.nat}: want HOST:PORT")
        o.nat_port = int(port)
    return o


def usage_error(text):
    print(f"servant.py: {text}", file=sys.stderr)
    return 2


def serve(o):
    asked_to_stop, left = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    Pyro5.config.THREADPOOL_SIZE = o.threads
    Pyro5.config.THREADPOOL_SIZE_MIN = min(Pyro5.config.THREADPOOL_SIZE_MIN, o.threads)
    Pyro5.config.POLLTIMEOUT = 0.1  # how soon the daemon sees that it is to end
    ledger = Ledger(o.ledger) if o.ledger else None
    daemon = Daemon(host=o.host, port=o.port, nathost=o.nat_host, natport=o.nat_port)
    uri = daemon.register((LoadtestWithLedger if ledger else Loadtest)(o.member, ledger), "loadtest")
    ns = NameServer(zip(o.ns_host, o.ns_port))
    failures = []

    def join():
        if o.group:
            ns.ask(JOIN_SECONDS, lambda ns: ns.register(o.member, uri, metadata={"group:" + o.group}), asked_to_stop)
        print("serving", uri, flush=True)

    def leave(seconds):
        if o.group:
            ns.ask(seconds, lambda ns: ns.remove(o.member), threading.Event())

    def membership():
        try:
            try:
                join()
            except Exception:
                if not asked_to_stop.is_set():
                    raise
                with contextlib.suppress(Exception):
                    leave(1)  # it may have been registered, but most likely there is no name server
            else:
                asked_to_stop.wait()
                leave(GOODBYE_SECONDS)
        except Exception as x:
            failures.append(x)
        finally:
            left.set()

    threading.Thread(target=membership, daemon=True).start()
    daemon.requestLoop(lambda: not left.is_set())
    daemon.sock.close()
    daemon.drain(GOODBYE_SECONDS)
    if failures:
        raise failures[0]


def main():
    o = options()
    try:
        serve(o)
    except Exception as x:
        print(f"servant.py: {o.member}: {type(x).__name__}: {x}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)  # without waiting for the threads of Pyro5's pool, one after the other


if __name__ == "__main__":
    main()
