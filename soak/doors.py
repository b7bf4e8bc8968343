"""The two ways to the service: through the shipped nginx, and by its own socket as nothing but gunicorn reads it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.proxy import Proxied

PATIENCE = 30.0


@dataclass(frozen=True)
class Answer:
    """What was answered to one request; status 0 where nothing was."""

    status: int
    kind: str
    body: bytes
    seconds: float
    headers: dict[str, str]


class _OnSocket(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("127.0.0.1", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class Door:
    """One way in. Each request has a connection of its own, so that none is helped or harmed by the one before."""

    def __init__(self, name: str, running: Proxied) -> None:
        self.name, self._running = name, running

    def call(self, method: str, path: str, body: bytes | Iterable[bytes] | None, headers: dict[str, str]) -> Answer:
        """Send a request; a body in pieces is sent chunked."""
        connection = self._connection()
        began = time.monotonic()
        try:
            connection.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes | None))
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            return Answer(0, "", b"", time.monotonic() - began, {})
        finally:
            connection.close()
        kind = response.headers.get_content_type()
        return Answer(response.status, kind, content, time.monotonic() - began, dict(response.headers))

    def raw(self, sent: bytes) -> bytes:
        """Return all that is answered to raw bytes until the service hangs up."""
        answer = b""
        with contextlib.closing(self.connect()) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def connect(self) -> socket.socket:
        if self.name == "nginx":
            return socket.create_connection(("127.0.0.1", self._running.port), PATIENCE)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect(str(self._running.direct))
        return connection

    def _connection(self) -> http.client.HTTPConnection:
        if self.name == "nginx":
            return http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=PATIENCE)
        return _OnSocket(str(self._running.direct))


def doors(running: Proxied) -> list[Door]:
    return [Door("nginx", running), Door("socket", running)]
