"""Objects of a stock Pyro5 daemon for what proxies in Go offer: batches, containers, proxies as values, nested calls.  Prints their URIs."""
import threading

import Pyro5.api
from Pyro5.api import current_context

import checks

checks.end_with_parent()


@Pyro5.api.expose
class Account:
    def __init__(self):
        self._balance = 0

    def deposit(self, amount, times=1):
        self._balance += amount * times
        return self._balance

    def fail(self, text):
        error = ValueError(text)
        error.extra = 5
        raise error

    @Pyro5.api.oneway
    def set_balance(self, balance):
        self._balance = balance

    @property
    def balance(self):
        return self._balance

    def unsendable(self):
        return threading.Lock()

    def stream(self):
        yield 1


@Pyro5.api.expose
class Shelf:
    """A container with an iterator."""
    def fill(self, items):
        self._items = list(items)

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __setitem__(self, index, value):
        self._items[index] = value

    def __delitem__(self, index):
        del self._items[index]

    def __contains__(self, value):
        return value in self._items

    def __iter__(self):
        yield from self._items


@Pyro5.api.expose
class Sequence:
    """A container without one."""
    def __getitem__(self, index):
        return [10, 20, 30][index]


@Pyro5.api.expose
class Caller:
    """Calls what it is given."""
    def correlation_of(self, proxy):
        """The ids of this call and of the one that it makes."""
        proxy._pyroClaimOwnership()
        with proxy:
            return str(current_context.correlation_id), proxy.correlation_id()

    def same(self, proxy, uri):
        """Whether they are equal to Python, and what is known of the proxy before it is used."""
        return proxy == Pyro5.api.Proxy(uri), sorted(proxy._pyroMethods), proxy._pyroHandshake, proxy._pyroSerializer

    def proxy(self, uri):
        return Pyro5.api.Proxy(uri)


with Pyro5.api.Daemon(host="127.0.0.1") as daemon:
    for name, servant in {"account": Account, "shelf": Shelf(), "sequence": Sequence(), "caller": Caller()}.items():
        if isinstance(servant, type):
            Pyro5.api.behavior(instance_mode="single")(servant)
        print(name, daemon.register(servant, name), flush=True)
    daemon.requestLoop()
