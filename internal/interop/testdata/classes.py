"""Classes of the user's own that both sides register.

    classes.py server                 serves an object, and prints its URI
    classes.py client SERIALIZER URI  calls the object of classes_test.go
"""
import sys

import Pyro5.api
import Pyro5.errors

import checks
from checks import check, equal, raises


class Account:
    def __init__(self, owner, amount, home=None, more=()):
        self.owner, self.amount, self.home, self.more = owner, amount, home, list(more)


class Place:
    def __init__(self, city):
        self.city = city


class Short(Exception):
    """Raised with the text; what is missing is an attribute."""


class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees


def account_from_dict(classname, d):
    home = d["home"]
    if isinstance(home, dict):  # Pyro5 makes objects inside of objects with msgpack only
        home = Place(home["city"])
    return Account(d["owner"], d["amount"], home, d["more"])


def short_from_dict(classname, d):
    x = Short(*d["args"])
    vars(x).update(d["attributes"])
    return x


Pyro5.api.register_class_to_dict(Account, lambda a: {
    "__class__": "wallet.Account", "owner": a.owner, "amount": a.amount, "home": a.home and {"__class__": "wallet.Place", "city": a.home.city},
    "more": a.more, "attribute without a field": 1})
Pyro5.api.register_dict_to_class("wallet.Account", account_from_dict)
Pyro5.api.register_class_to_dict(Place, lambda p: {"__class__": "wallet.Place", "city": p.city})
Pyro5.api.register_dict_to_class("wallet.Place", lambda classname, d: Place(d["city"]))
Pyro5.api.register_class_to_dict(Celsius, lambda c: {"__class__": "wallet.Celsius", "degrees": c.degrees})
Pyro5.api.register_dict_to_class("wallet.Celsius", lambda classname, d: Celsius(d["degrees"]))
Pyro5.api.register_dict_to_class("wallet.Short", short_from_dict)
Short.__module__ = "wallet"


@Pyro5.api.expose
class Wallet:
    def pay(self, account, amount):
        assert type(account) is Account and type(account.home) is Place, account
        if account.amount < amount:
            x = Short("short of %d" % (amount - account.amount))
            x.missing = amount - account.amount
            raise x
        account.amount -= amount
        return account

    def all(self, accounts):
        return [self.pay(a, 1) for a in accounts]

    def read_end(self):
        raise EOFError("no more")


def client(serializer, uri):
    Pyro5.config.SERIALIZER = serializer
    wallet = Pyro5.api.Proxy(uri)

    @check
    def objects():
        account = wallet.pay(Account("irmen", 5, Place("Utrecht")), 2)
        equal(type(account), Account)
        equal((account.owner, account.amount, account.home.city, account.more), ("irmen", 3, "Utrecht", []))
        equal(wallet.go_type(Account("irmen", 5)), "interop.walletAccount")

    @check
    def nested():
        account = Account("irmen", 5, Place("Utrecht"))
        if serializer == "marshal":  # Pyro5 does not write objects inside of others
            equal([a.amount for a in wallet.twice(account)], [5, 5])
            return
        equal(wallet.go_types([account, {"x": Place("here")}]), "[interop.walletAccount map[x:interop.walletPlace]]")
        equal([a.amount for a in wallet.all([account, account])], [4, 4])

    @check
    def function():
        equal(type(wallet.warmer(Celsius(20.5), 1)), Celsius)
        equal(wallet.warmer(Celsius(20.5), 1).degrees, 21.5)

    @check
    def exceptions():
        x = raises(Short, "pay: short of 3", wallet.pay, Account("irmen", 5, Place("Utrecht")), 8)
        equal(x.missing, 3)
        assert "classes_test.go" in "".join(x._pyroTraceback), x._pyroTraceback
        raises(EOFError, "read: EOF", wallet.read_end)

    @check
    def misfit():
        raises(TypeError, "pay() argument 1: home.city: got int 5, want string", wallet.pay, Account("irmen", 5, Place(5)), 1)

    checks.run()


def server():
    checks.end_with_parent()
    with Pyro5.api.Daemon(host="127.0.0.1") as daemon:
        print("uri", daemon.register(Wallet(), "wallet"), flush=True)
        daemon.requestLoop()


if sys.argv[1] == "client":
    client(*sys.argv[2:])
else:
    server()
