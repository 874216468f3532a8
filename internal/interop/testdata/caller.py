"""A stock client that calls a name all the time and prints who answers, until its standard input ends: caller.py HOST PORT NAME.

At its end it prints how many calls it made, and how many failed.
"""
import sys
import threading

import Pyro5.api

HOST, PORT, NAME = sys.argv[1:]
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
proxy = Pyro5.api.Proxy("PYRONAME:%s@%s:%s" % (NAME, HOST, PORT))
proxy._pyroMaxRetries = 1
last, calls, errors = None, 0, []
while not ended.is_set():
    calls += 1
    try:
        who = proxy.who()
    except Exception as x:
        errors.append("%s: %s" % (type(x).__name__, x))
        proxy._pyroRelease()
        continue
    if who != last:
        print("answers", who, flush=True)
        last = who
print("made %d calls, failed %d" % (calls, len(errors)), *set(errors), flush=True)
