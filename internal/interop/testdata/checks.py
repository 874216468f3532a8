"""Named checks of a script, and what several scripts share.

A script decorates functions with @check and ends with run(): that prints a JSON line for each check, then their number.
"""
import json
import math
import os
import sys
import threading
import traceback

_checks = []


def check(function):
    _checks.append((function.__name__, function))
    return function


def add(name, function):
    _checks.append((name, function))


def run():
    for name, function in _checks:
        error = ""
        try:
            function()
        except BaseException:
            error = traceback.format_exc()
        print(json.dumps({"check": name, "error": error}), flush=True)
    print(json.dumps({"done": len(_checks)}), flush=True)


def same(a, b):
    """Equality that tells types apart: 1, 1.0 and True differ, and nan equals nan."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items()) and {type(k) for k in a} == {type(k) for k in b}
    if isinstance(a, BaseException):
        return same(a.args, b.args)
    return a == b


def equal(got, want):
    if not same(got, want):
        raise AssertionError("got  %.2000r\nwant %.2000r" % (got, want))


def raises(cls, text, function, *args, **kwargs):
    """Calls, and returns the exception, which must have exactly this class, and this text if text is not None."""
    try:
        result = function(*args, **kwargs)
    except BaseException as x:
        if type(x) is not cls or (text is not None and str(x) != text):
            raise AssertionError("got  %s: %s\nwant %s: %s" % (type(x).__name__, x, cls.__name__, text)) from x
        return x
    raise AssertionError("returned %r\nwant %s: %s" % (result, cls.__name__, text))


def end_with_parent():
    """Ends this process when its standard input ends, so that nothing is left of a test that was killed."""
    def watch():
        while sys.stdin.buffer.read(4096):
            pass
        os._exit(0)
    threading.Thread(target=watch, daemon=True).start()


class Point:
    """A class that the other side does not know."""
    def __init__(self, x, y):
        self.x = x
        self.y = y
