"""One line of JSON for each request, on standard output: what was asked, how it ended and what took how long.

Never what was sent: no body, no query, no path but the rule of its route, no token. A reader that is slow, or stands
still with a full pipe, holds nothing up: a request only leaves its figures in a list in memory, and one thread of each
worker writes them. Where the list is full, lines are dropped and counted.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from .counters import known_method
from .stages import STAGES

EVERY = 0.2  # seconds from one writing to the next
MOST = 10_000  # lines that wait
PIECE = 4096  # bytes of whole lines that a pipe takes as one (PIPE_BUF of Linux), so that workers' lines do not mix
END_SECONDS = 1.0  # that the last lines of a worker may take
# W3C Trace Context, level 1: version, trace, parent, flags; none of them all zeros or a version that is forbidden
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


# When it ended (seconds since 1970), request id, traceparent as it came, method, route, status, what each of STAGES and
# what all of it took (seconds), digest of the release that answered, name of the client. A tuple: nothing costs less.
Line = tuple[float, str, str | None, str, str, int, tuple[float, ...], float, str | None, str | None]


def encoded(line: Line) -> bytes:
    """Return a line as JSON, put together by hand, which takes a third of the time.

    Only the name of a client needs to be escaped: a request id is one that `protocol` lets pass, the rest is our own.
    """
    at, request_id, traceparent, method, route, status, taken, total, release, client = line
    second, rest = divmod(at, 1)
    parent = ""
    if traceparent is not None and _TRACEPARENT.fullmatch(traceparent):
        parent = f'"traceparent":"{traceparent}",'
    return (
        f'{{"time":"{_second(int(second))}.{int(1000 * rest):03}Z","request_id":"{request_id}",{parent}'
        f'"method":"{known_method(method)}","route":"{route}","status":{status},"ms":{{{_stages(taken)}"total":'
        f"{1000 * total:.3f}}}{'' if release is None else _RELEASE % release}"
        f"{'' if client is None else _client(client)}}}\n"
    ).encode()


_RELEASE = ',"release":"%s"'
_ALL_STAGES = "".join(f'"{name}":%.3f,' for name in STAGES)


def _stages(taken: tuple[float, ...]) -> str:
    if all(taken) and taken:
        return _ALL_STAGES % tuple([1000 * seconds for seconds in taken])
    return "".join(f'"{name}":{1000 * seconds:.3f},' for name, seconds in zip(STAGES, taken, strict=False) if seconds)


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=256)
def _client(name: str) -> str:
    return f',"client":{orjson.dumps(name).decode()}'


class AccessLog:
    """Takes lines from all threads of a process once it is started, and writes them from a thread of its own.

    `mode` is `on`, `off`, or `auto`: on, unless standard output is a terminal. `dropped` is told how many lines were
    lost.
    """

    def __init__(self, mode: str, dropped: Callable[[int], None]) -> None:
        self._mode, self._dropped = mode, dropped
        self._waiting: deque[Line] = deque()
        self._output: int | None = None  # where to write; None: nothing is written
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, if lines are wanted here. In a worker, after the fork: a child has none of the threads."""
        output = _standard_output()
        if self._mode == "off" or output is None or (self._mode == "auto" and os.isatty(output)):
            return
        self._output = output
        self._thread = threading.Thread(target=self._write_on, name="access-log", daemon=True)
        self._thread.start()

    @property
    def written(self) -> bool:
        """Whether lines are taken at all."""
        return self._output is not None

    def add(self, line: Line) -> None:
        """Have a line written soon; it waits for nothing."""
        if self._output is None:
            return
        if len(self._waiting) < MOST:
            self._waiting.append(line)
        else:
            self._dropped(1)

    def stop(self, seconds: float = END_SECONDS) -> None:
        """Write what waits, within so many seconds, and no more after that."""
        if self._thread is not None:
            self._end.set()
            self._thread.join(seconds)
            self._thread = self._output = None
            self._dropped(len(self._waiting))

    def _write_on(self) -> None:
        while not self._end.wait(EVERY):
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        for piece, lines in self._pieces():
            try:
                self._write(piece)
            except OSError:  # nobody reads any more, or the disk is full
                self._dropped(lines)

    def _pieces(self) -> Iterator[tuple[bytes, int]]:
        """Yield whole lines, as many as fit into a piece, and how many they are, until none waits."""
        piece, lines = b"", 0
        while self._waiting:
            line = encoded(self._waiting.popleft())
            if lines and len(piece) + len(line) > PIECE:
                yield piece, lines
                piece, lines = b"", 0
            piece, lines = piece + line, lines + 1
        if lines:
            yield piece, lines

    def _write(self, piece: bytes) -> None:
        output = self._output
        while piece and output is not None:
            try:
                piece = piece[os.write(output, piece) :]
            except BlockingIOError:  # whoever gave us this output wants it so
                select.select([], [output], [], EVERY)


def _standard_output() -> int | None:
    """Return its descriptor; the number 1 itself may be another file's, where the process was started without one."""
    try:
        return sys.stdout.fileno()
    except (AttributeError, io.UnsupportedOperation, ValueError):
        return None
