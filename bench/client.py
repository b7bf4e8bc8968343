"""The load generator of our own: a closed loop over kept-alive connections, one process, one thread, little work.

    python -m bench.client HOST PORT PATH FILE --connections N --seconds S [--token TOKEN] [--least N]

POSTs the lines of FILE in turn and says what came of it in one line of JSON: `n` answers of 2xx, `errors`, `seconds`,
`p50` and `p99` in ms. Percentiles are made as wrk makes them, so that both mean the same: what took more than twice the
mean hid requests that would have been sent meanwhile, and these are put in (coordinated omission).
"""

from __future__ import annotations

import argparse
import json
import re
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
WAIT = 30.0  # seconds for one answer


class _Connection:
    """A kept-alive connection with one request under way; `take` returns the status once the answer is whole."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.socket = self._opened()
        self.sent = 0.0

    def _opened(self) -> socket.socket:
        opened = socket.create_connection(self._address, timeout=WAIT)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def send(self, request: bytes) -> None:
        self._got = b""
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def take(self) -> int | None:
        part = self.socket.recv(1 << 20)
        self._got += part
        head, end, body = self._got.partition(b"\r\n\r\n")
        if not part:
            return 0  # hung up before the answer was whole
        length = LENGTH.search(head + b"\r\n") if end else None
        if length is None:
            return None if not end else 0  # an answer whose end is not told is none
        return int(head[9:12]) if len(body) >= int(length[1]) else None


def run(
    host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float, least: int
) -> dict[str, float]:
    """Send for so many seconds, and until `least` are answered; return the figures."""
    turn: Iterator[bytes] = cycle(requests)
    taken: list[float] = []
    errors = 0
    with selectors.DefaultSelector() as waiting:
        started = time.perf_counter()
        ends = started + seconds
        for _ in range(connections):
            connection = _Connection(host, port)
            waiting.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(next(turn))
        while (now := time.perf_counter()) < ends or len(taken) < least:
            ready = waiting.select(WAIT if len(taken) < least else ends - now)
            if not ready and len(taken) < least:
                errors += 1
                break
            for key, _ in ready:
                status = key.data.take()
                if status is None:
                    continue
                if 200 <= status < 300:
                    taken.append(time.perf_counter() - key.data.sent)
                    key.data.send(next(turn))
                else:
                    errors += 1
                    waiting.unregister(key.fileobj)
            if errors:
                break
        took = time.perf_counter() - started
        for key in list(waiting.get_map().values()):
            key.data.socket.close()
    figures = sorted(corrected(taken, took * connections / max(1, len(taken))))
    p50, p99 = (figures[int(share * (len(figures) - 1))] * 1000 if figures else 0.0 for share in (0.5, 0.99))
    return {"n": len(taken), "errors": errors, "seconds": took, "p50": p50, "p99": p99}


def corrected(taken: Sequence[float], interval: float) -> list[float]:
    """Return the times, and for each beyond twice `interval` those of the requests that it kept from being sent."""
    found = list(taken)
    for one in taken:
        hidden = one - interval if one > 2 * interval else 0.0
        while hidden > interval:
            found.append(hidden)
            hidden -= interval
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("file", type=Path)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--token", default="")
    parser.add_argument("--least", type=int, default=1)
    given = parser.parse_args()
    token = f"Authorization: Bearer {given.token}\r\n" if given.token else ""
    requests = [
        f"POST {given.path} HTTP/1.1\r\nHost: {given.host}:{given.port}\r\nContent-Type: application/json\r\n"
        f"{token}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in given.file.read_bytes().splitlines()
    ]
    print(json.dumps(run(given.host, given.port, requests, given.connections, given.seconds, given.least)))


if __name__ == "__main__":
    main()
