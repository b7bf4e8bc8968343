"""What is told of every request once its answer is made: it is counted, and a line of the log tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .access_log import AccessLog
from .counters import OTHER, Counters
from .errors import GIVEN_UP, REQUEST_ID
from .stages import Clock

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_ANSWER = "reviewapp.answer"  # where the environment of a request keeps what its answer is


# The rule that the address matched, the status, the clock, who asked, and whether the answer is a stream, which is not
# over when it is made.
Answer = tuple[str, int, Clock, str | None, bool]


def note(environ: WSGIEnvironment, answer: Answer) -> None:
    """Say what the answer to a request is, while all is known of it."""
    environ[_ANSWER] = answer


class Meter:
    """Watches an app: which requests are under way, and what became of each."""

    def __init__(self, counters: Counters, access_log: AccessLog) -> None:
        self.counters, self.access_log = counters, access_log

    def start(self) -> None:
        """In a worker, after the fork: take up the counts of one before, and begin to write lines."""
        self.counters.open()
        self.access_log.start()

    def wrap(self, wsgi_app: WSGIApplication) -> WSGIApplication:
        """Return the app, watched."""
        enter, end = self.counters.enter, self._end

        def watched(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            enter()
            began = perf_counter()
            try:
                body = wsgi_app(environ, start_response)
            except BaseException:
                end(environ, began)
                raise
            answer = environ.get(_ANSWER)
            if answer is not None and answer[-1]:
                return _Streamed(body, lambda: end(environ, began))
            end(environ, began)
            return body

        return watched

    def _end(self, environ: WSGIEnvironment, began: float) -> None:
        if GIVEN_UP in environ:  # the worker has answered, and told of it
            self.counters.leave()
            return
        answer: Answer | None = environ.get(_ANSWER)
        route, status, client, release = OTHER, 500, None, None  # where something failed outside of the app
        taken: tuple[float, ...] = ()
        if answer is not None:
            route, status, clock, client, _ = answer
            began, taken, release = clock.started, tuple(clock.taken.values()), clock.release
        total, method = perf_counter() - began, environ["REQUEST_METHOD"]
        self.counters.answered(route, method, status, taken, total)
        if self.access_log.written:
            request_id, traceparent = environ.get(REQUEST_ID, ""), environ.get("HTTP_TRACEPARENT")
            self.access_log.add(
                (time.time(), request_id, traceparent, method, route, status, taken, total, release, client)
            )

    def without_the_app(self, request_id: str, status: int, code: str | None = None, seconds: float = 0.0) -> None:
        """A worker answered by itself, after so many seconds: it refused what is no request, or failed (no code)."""
        self.counters.without_the_app(status, failed=code is None)
        if code is not None:
            self.counters.refused([code])
        self.access_log.add((time.time(), request_id, None, OTHER, OTHER, int(status), (), seconds, None, None))


class _Streamed:
    """A body whose request ends when it does, or when nobody takes any more of it."""

    def __init__(self, body: Iterable[bytes], end: Callable[[], None]) -> None:
        self._body, self._end = body, end
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._body
        self._finish()

    def close(self) -> None:
        try:
            close: Any = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self._end()
