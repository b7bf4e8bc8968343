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
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from .counters import known_method
from .stages import STAGES

EVERY = 0.2  # seconds from one writing to the next
MOST = 10_000  # lines that wait
PIECE = 4096  # bytes of whole lines that a pipe takes as one (PIPE_BUF of Linux), so that workers' lines do not mix
END_SECONDS = 1.0  # that the last lines of a worker may take
# W3C Trace Context, level 1: version, trace, parent, flags; none of them all zeros or a version that is forbidden
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Line(NamedTuple):
    """What a line tells of one request; `at` is in seconds since 1970, `taken` and `total` are in seconds."""

    at: float
    request_id: str
    traceparent: str | None
    method: str
    route: str
    status: int
    taken: Sequence[float]
    total: float
    release: str | None
    client: str | None

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "request_id": self.request_id,
        }
        if self.traceparent is not None and _TRACEPARENT.fullmatch(self.traceparent):
            shown["traceparent"] = self.traceparent
        shown |= {"method": known_method(self.method), "route": self.route, "status": self.status}
        stages = {name: seconds for name, seconds in zip(STAGES, self.taken, strict=False) if seconds}
        shown["ms"] = {name: round(seconds * 1000, 3) for name, seconds in {**stages, "total": self.total}.items()}
        if self.release is not None:
            shown["release"] = self.release
        if self.client is not None:
            shown["client"] = self.client
        return shown


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
            line = orjson.dumps(self._waiting.popleft().as_json(), option=orjson.OPT_APPEND_NEWLINE)
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
