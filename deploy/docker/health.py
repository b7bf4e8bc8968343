"""Ask the service of this container whether it is ready; exit code 1 where it is not. It knows no curl."""

import http.client
import os
import socket
import sys


class OnSocket(http.client.HTTPConnection):
    """HTTP over the Unix socket, or the address, that REVIEWAPP_BIND names."""

    def connect(self) -> None:
        bind = os.environ["REVIEWAPP_BIND"]
        if bind.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(4)
            self.sock.connect(bind.removeprefix("unix:"))
        else:
            port = int(bind.rpartition(":")[2])
            self.sock = socket.create_connection(("127.0.0.1", port), 4)


# A Host that the service answers for; it takes no other.
connection = OnSocket(os.environ.get("REVIEWAPP_HOSTS", "localhost").split(",")[-1].strip())
try:
    connection.request("GET", "/readyz")
    response = connection.getresponse()
    said = response.read().decode()
except OSError as error:
    sys.exit(f"The service does not answer: {error}")
if response.status != 200:
    sys.exit(said)
print(said)
