"""Calls the calculator at the URI that it is given."""
import sys
from typing import TYPE_CHECKING

from Pyro5.api import Proxy

if TYPE_CHECKING:
    from calculator import Calculator

calculator: "Calculator" = Proxy(sys.argv[1])
print("1 + 2 + 3.5 =", calculator.add(1, 2, 3.5))
quotient, remainder = calculator.divide(17, divisor=5)
print("17 / 5 =", quotient, "remainder", remainder)
try:
    calculator.divide(1, 0)
except ZeroDivisionError as x:
    print("1 / 0:", x)
for entry in calculator.history(limit=10):
    print(entry["text"], "was", entry["result"])
calculator.clear()
