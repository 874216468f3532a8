import sys
import threading

import Pyro5.api

nick = sys.argv[1] if len(sys.argv) > 1 else "snake"
channel = sys.argv[2] if len(sys.argv) > 2 else "lobby"


@Pyro5.api.expose
class Listener:
    def event(self, event):
        if event.get("lost"):
            print("*** some lines were lost", flush=True)
        line = event["msg"]
        if line["nick"] != nick:
            print(f"<{line['nick']}> {line['text']}", flush=True)


daemon = Pyro5.api.Daemon()
listener = Listener()
daemon.register(listener)
threading.Thread(target=daemon.requestLoop, daemon=True).start()
with Pyro5.api.Proxy("PYRONAME:Pyro.EventService") as events:
    events.subscribe("chat." + channel, listener)
    print(f"*** {nick} is in {channel}", flush=True)
    for text in sys.stdin:
        events.publish("chat." + channel, {"nick": nick, "text": text.rstrip("\n")})
    events.unsubscribe("chat." + channel, listener)
