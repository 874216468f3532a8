"""A stock Pyro5 client: calls a name, and knows nothing of groups, replicas or several name servers.

It prints four lines of JSON per second: calls made, calls failed, longest time without a good call, kinds of errors, who answered last.
"""
import json
import time

import Pyro5.api
import Pyro5.errors

Pyro5.api.config.MAX_RETRIES = 2
Pyro5.api.config.COMMTIMEOUT = 2.0

calls = failed = 0
errors = {}
gap = 0.0
member = ""
last_good = last_report = time.monotonic()
proxy = Pyro5.api.Proxy("PYRONAME:jokegen")
while True:
    calls += 1
    try:
        member = proxy.joke("Irmen").removeprefix("Sorry Irmen, ").split()[0]
        now = time.monotonic()
        gap = max(gap, now - last_good)
        last_good = now
    except Exception as x:  # whatever it is, it is counted
        failed += 1
        errors[type(x).__name__] = errors.get(type(x).__name__, 0) + 1
        proxy._pyroRelease()  # the next call looks the name up again
        time.sleep(0.05)
    now = time.monotonic()
    if now - last_report >= 0.25:
        last_report = now
        print(json.dumps({"calls": calls, "failed": failed, "gap": max(gap, now - last_good), "errors": errors, "member": member}), flush=True)
