import Pyro5.api

greeter = Pyro5.api.Proxy("PYRONAME:greeter")
print(greeter.say_hello("Irmen"))
