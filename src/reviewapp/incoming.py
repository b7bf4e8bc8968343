"""A body that is read while its answer is sent, as no more than a piece of it is kept in memory.

The service reads no further than the client takes answers. But many clients send all before they read anything (urllib,
requests): each would wait for the other for ever. So what comes while nothing can be sent is put aside in a file, and
read from there later: `limit` bytes at most, as many as the body may have.

Behind a proxy the body is put aside whole before the first answer is sent: once an answer has begun, nginx does not
pass on the rest of the body.
"""

from __future__ import annotations

import select
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flask import Request
from gunicorn.http.errors import ParseException

from .errors import BODY_READ, ReviewappError, StoreFull
from .protocol import BODY_PAUSE, DRAIN_BYTES, broken_off, check_size, discard, patience, too_large, too_short

IN_MEMORY = 1 << 20  # bytes of what is put aside; more lies in a file
PIECE = 1 << 13  # bytes sent at a time: what surely goes where something can be sent at all
MOST = 1 << 16  # bytes read at a time
LINGER = 0.01  # seconds until a client counts as waiting for answers: each commit is for as many rows as there are
_PROXIES = ("HTTP_VIA", "HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP")


class Incoming:
    """The body of a request, in pieces. Raises a 4xx where it is too long or breaks off, once what came is read.

    What is put aside lies in `folder`, in a file without a name: /tmp may be memory, or too small.
    """

    def __init__(self, asked: Request, limit: int, folder: Path, *, proxied: bool) -> None:
        self._asked, self._limit = asked, limit
        self._length = check_size(asked, limit)
        self._socket: socket.socket | None = asked.environ.get("gunicorn.socket")
        self._came = 0
        self._ended = self._length is None and not asked.environ.get("wsgi.input_terminated")
        self._failure: ReviewappError | None = None
        self._aside = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder))  # noqa: SIM115 (see close)
        self._written = self._read = 0
        if proxied or asked.environ.get("SERVER_PROTOCOL") != "HTTP/1.1" or any(n in asked.environ for n in _PROXIES):
            self._put_all_aside()

    def _put_all_aside(self) -> None:
        while not self._ended and self._failure is None:
            self._put_aside()
        if self._failure is not None:
            self.close()
            raise self._failure

    def close(self) -> None:
        """Remove what was put aside; `spread` does it, too, once it ends."""
        self._aside.close()

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._next():
            yield piece

    def _next(self) -> bytes:
        if self._read < self._written:
            self._aside.seek(self._read)
            piece = self._aside.read(MOST)
            self._read += len(piece)
            return piece
        if self._failure is not None:
            raise self._failure
        if self._written:  # all of it is read: the file need not grow
            self._aside.seek(0)
            self._aside.truncate()
            self._read = self._written = 0
        return b"" if self._ended else self._receive()

    def waits(self) -> bool:
        """Whether the next piece has not come yet."""
        if self._ended or self._read < self._written or self._socket is None or self._buffered():
            return False
        return not _ready(self._socket, select.POLLIN, LINGER)

    def spread(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces of an answer, cut small, each once the client can take it."""
        try:
            for piece in pieces:
                for start in range(0, len(piece), PIECE):
                    self._until_it_takes()
                    yield piece[start : start + PIECE]
            if not self._ended:
                discard(self._asked)
        finally:
            self.close()

    def _until_it_takes(self) -> None:
        """Wait until something can be sent, and put aside what comes meanwhile; after the body's end, sending waits."""
        while not self._ended and self._socket is not None:
            if _ready(self._socket, select.POLLOUT, 0):
                return
            with patience(self._asked, BODY_PAUSE):  # so the worker knows that a client may be sending
                ready = _ready(self._socket, select.POLLIN | select.POLLOUT, BODY_PAUSE)
            # Of who neither reads nor sends for so long it is the worker's to think: it hangs up after its timeout.
            ready = ready or _ready(self._socket, select.POLLIN | select.POLLOUT, None)
            if ready & ~select.POLLIN:
                return
            self._put_aside()

    def _put_aside(self) -> None:
        """Keep what has come for later; what comes after a failure is thrown away, so that the client hears of it."""
        try:
            piece = self._receive()
        except ReviewappError as error:
            self._failure = self._failure or error
            self._ended = self._ended or self._came > self._limit + DRAIN_BYTES
            return
        if self._failure is None:
            try:
                self._aside.seek(self._written)
                self._written += self._aside.write(piece)
            except OSError:
                self._failure = StoreFull("There is no room on the disk to keep what is sent.")

    def _receive(self) -> bytes:
        """Return what has come, a byte at least; nothing once all has."""
        try:
            with patience(self._asked, BODY_PAUSE):
                piece = self._come()
        except (OSError, ParseException):
            self._ended = True
            self._asked.environ["wsgi.input"].failed = True  # gunicorn: what follows is no next request
            raise broken_off() from None
        self._came += len(piece)
        self._asked.environ[BODY_READ] = self._came
        self._ended = not piece or self._came == self._length
        if self._came > self._limit:
            raise too_large(self._limit)
        if self._ended and self._came < (self._length or 0):
            raise too_short()
        return piece

    def _come(self) -> bytes:
        """Read what there is, where the server can tell: gunicorn's own `read` waits for as much as it is asked for."""
        body = self._asked.environ["wsgi.input"]
        reader = getattr(body, "reader", None)
        if reader is None:
            return bytes(body.read(MOST))
        first: bytes = reader.read(1)
        return first + reader.read(min(self._buffered(), MOST)) if first else first

    def _buffered(self) -> int:
        """Return how many bytes gunicorn has read already, which can be read without waiting."""
        reader = getattr(self._asked.environ["wsgi.input"], "reader", None)
        return 0 if reader is None else getattr(reader, "unreader", reader).buf.getbuffer().nbytes


def _ready(connection: socket.socket, events: int, seconds: float | None) -> int:
    """Return which of the events there are, after so many seconds at most."""
    poll = select.poll()
    poll.register(connection, events)
    found = poll.poll(None if seconds is None else seconds * 1000)
    return found[0][1] if found else 0
