"""A stock Pyro5 program that subscribes to events.

usage: events_subscriber.py NODE TOPIC POLICY QUEUE [SUBSCRIBERS]

It subscribes so many objects, one by default, prints "subscribed", and then writes a JSON line for each event to file descriptor 3, if that is
open; after an event whose message is the text "last" it prints "last".
"""
import json
import os
import sys

import Pyro5.api


@Pyro5.api.expose
class Subscriber:
    def __init__(self, out):
        self.out = out

    def event(self, event):
        if event["msg"] == "last":
            os.write(1, b"last\n")
        elif self.out:
            self.out.write(json.dumps({"lost": event.get("lost", 0), **event["msg"]}) + "\n")


def main():
    node, topic, policy, queue = sys.argv[1:5]
    count = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    try:
        out = os.fdopen(3, "w", buffering=1)
    except OSError:
        out = None
    with Pyro5.api.Daemon(host="127.0.0.1") as daemon, Pyro5.api.Proxy("PYRO:Pyro.EventService@" + node) as service:
        for _ in range(count):
            subscriber = Subscriber(out)
            daemon.register(subscriber)
            service.subscribe(topic, subscriber, policy=policy, queue=int(queue))
        print("subscribed", flush=True)
        daemon.requestLoop()


main()
