import Pyro5.api

@Pyro5.api.expose
class Greeter:
    def say_hello(self, name):
        return f"Hello, {name}, says Python."

daemon = Pyro5.api.Daemon()
uri = daemon.register(Greeter())
with Pyro5.api.locate_ns() as ns:
    ns.register("greeter", uri, metadata={"group:greeter"})
print("serving", uri, flush=True)
daemon.requestLoop()
