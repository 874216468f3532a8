"""A stock client, secured by its environment: secure_client.py URI HANDSHAKES [DOCUMENT].

It calls who() once for each handshake of the JSON list, and prints what became of it, a JSON line each.  The handshake "tokens" stands for two
connections of the TokenProxy that DOCUMENT describes.
"""
import json
import re
import sys

import Pyro5.api

URI = sys.argv[1]


def proxies(handshake):
    if handshake != "tokens":
        p = Pyro5.api.Proxy(URI)
        p._pyroHandshake = handshake
        return [p]
    with open(sys.argv[3], encoding="utf-8") as f:
        code = re.search(r"(?s)```python\n([^`]*class TokenProxy.*?)```", f.read()).group(1)
    names = {}
    exec(code, names)
    p = names["TokenProxy"](URI, "joe", b"0123456789abcdef")
    return [p, p]


for handshake in json.loads(sys.argv[2]):
    for p in proxies(handshake):
        try:
            outcome = {"result": p.who()}
        except Exception as x:
            outcome = {"error": "%s: %s" % (type(x).__name__, x)}
        p._pyroRelease()
        print(json.dumps(outcome), flush=True)
