"""Serves a calculator in Python and prints its URI."""
import datetime

import Pyro5.api


@Pyro5.api.expose
class Calculator:
    def __init__(self):
        self.entries = []

    def _remember(self, text, result):
        self.entries.append({"text": text, "result": result, "at": datetime.datetime.now()})

    def add(self, *terms):
        self._remember(" + ".join("%g" % term for term in terms), sum(terms))
        return sum(terms)

    def divide(self, dividend, divisor):
        quotient, remainder = divmod(dividend, divisor)
        self._remember("%d / %d" % (dividend, divisor), quotient)
        return quotient, remainder

    def history(self, limit):
        return self.entries[:-limit - 1:-1]

    @Pyro5.api.oneway
    def clear(self):
        self.entries.clear()


daemon = Pyro5.api.Daemon()
print("serving", daemon.register(Calculator(), "calculator"), flush=True)
daemon.requestLoop()
