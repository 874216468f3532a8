"""sitecustomize for the examples: keeps programs that publish this machine's own address on the loopback interface."""
import socket


class LoopbackSocket(socket.socket):
    def connect(self, address):
        if self.type == socket.SOCK_DGRAM and address == ("4.2.2.2", 53):  # Pyro5 asks the kernel for the way out
            raise OSError("no way out: the examples stay on the loopback interface")
        return super().connect(address)


socket.socket = LoopbackSocket
socket.gethostname = lambda: "localhost"
