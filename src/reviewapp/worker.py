"""gunicorn's gthread worker, made fair: a worker whose threads are all busy leaves new connections to the others.

All workers listen on one socket, and whoever wakes first accepts. The stock worker goes on accepting while all of its
threads are busy, up to 1,000 connections, which then wait for its few threads while another worker has nothing to do;
and a connection that is kept alive stays with the worker that accepted it. Here a connection waits in the system's
queue instead, until any worker has a thread for it.

A client that begins a request and never ends it would hold a thread for ever: it is hung up on, too. And so would an
answer that never ends, but nothing ends a thread: after gunicorn's `timeout` the loop answers with 503, and the worker
takes nothing new, lets the others end and goes, so that the master starts another. Waiting for a body does not count,
and each piece of an answer that is sent begins the time anew. A body has bounds of its own: the thread waits no longer
than protocol.BODY_PAUSE for the next byte, and of who sends all of it too slowly (BODY_SECONDS, BODY_RATE) no more is
read, so that the thread finds a body that breaks off.

A connection costs a descriptor. A worker leaves some for everything else, and where there is none it takes nothing new
for a moment; gunicorn's own would end, with all it had under way.

Large pieces of memory go back to the system once they are freed. glibc would soon take them from its heaps, one for
nearly each thread, whose holes it keeps: a worker would grow for days.

What cannot be read as a request is refused in the form of every other error, without a word of what was sent.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import resource
import socket
import sys
import threading
import time
import uuid
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors as refused
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from .errors import (
    BODY_READ,
    EXTENSION,
    GIVEN_UP,
    REQUEST_ID,
    AddressTooLong,
    BadRequest,
    HeadersTooLarge,
    NotReady,
    ReviewappError,
    as_problem,
)
from .metering import Meter
from .strictjson import dumps

HEAD_SECONDS = 10.0  # that the head of a request may take
BODY_SECONDS, BODY_RATE = 30.0, 50_000  # that its body may take, and a second more for each so many bytes that came
LEAVE_SECONDS = 10.0  # that a worker with a stuck request gives the others
HUNG_UP_SECONDS = 5.0  # in which a thread notices that its client was hung up on
LOOK_SECONDS = 0.25  # from one look at all requests to the next
OTHERS_FIRST = 0.05  # in which a worker whose threads are all busy leaves a new connection to one that has a free one
STOOD_STILL = 5.0  # seconds without a look: the worker was stopped as a whole, and no request is to blame
LARGE = 128 << 10  # bytes; where glibc begins, too, and then goes up
M_MMAP_THRESHOLD = -3  # of malloc.h
OTHER_FILES = 200  # descriptors that are not for connections: the ledger's, the release's, those of threads that wait
FULL_SECONDS, FULL_AGAIN = 0.5, 60.0  # without a new connection where no descriptor is left; until that is logged again


_REFUSALS: dict[type, ReviewappError] = {
    refused.LimitRequestLine: AddressTooLong("The line of a request may have 8,190 bytes at most."),
    refused.LimitRequestHeaders: HeadersTooLarge("A request may have 100 headers of 8,190 bytes at most."),
}
_NOT_WELL_FORMED = BadRequest("The request is not well formed.")
_STATUS = {
    refused.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    refused.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
# Of gunicorn's, what the app or the operator did wrong, not the client.
_NOT_THE_CLIENTS = (refused.InvalidResponseHeader, refused.InvalidResponseHeaderName, refused.ConfigurationProblem)


class FairWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Accepts a connection only while a thread is free; gives a request's head HEAD_SECONDS, its answer `timeout`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._heads: dict[Any, float] = {}  # connections whose next request is awaited or read, and until when
        self._queued: set[Any] = set()  # connections that wait for a thread
        self._under_way: dict[Any, _Asked] = {}  # by socket: requests that are being answered
        self._looked = self._awake_since = 0.0
        self._leaves_by: float | None = None
        self._full_until = self._full_said = -FULL_AGAIN
        self._full_since = 0.0  # when the last free thread was taken
        self._meter: Meter | None = None  # of the app
        self._most = min(int(self.cfg.worker_connections), max(_files() - OTHER_FILES, int(self.cfg.threads) + 1))
        self.max_keepalived = self._most - int(self.cfg.threads)

    def get_thread_pool(self) -> Any:
        """Start all threads at once: one that could not be started later, for want of memory, would end the worker."""
        pool, threads = super().get_thread_pool(), int(self.cfg.threads)
        all_there = threading.Barrier(threads + 1)
        for _ in range(threads):
            pool.submit(all_there.wait)
        all_there.wait()
        return pool

    def load_wsgi(self) -> None:
        """Make the app, and leave what is there by then out of every later search for garbage: it stays anyway.

        With all the libraries loaded, one such search stops all threads of the worker for 150 ms.
        """
        return_large_pieces()
        super().load_wsgi()
        self._app: Any = self.wsgi
        self.wsgi: Any = self._answer
        parts = getattr(self._app, "extensions", {}).get(EXTENSION)  # other apps have none
        self._meter = None if parts is None else parts.meter
        if self._meter is not None:
            self._meter.start()
        gc.freeze()

    def run(self) -> None:
        super().run()
        if self._meter is not None:
            self._meter.access_log.stop()
        if self._under_way:
            os._exit(0)  # else Python would wait for threads that do not end

    @property
    def worker_connections(self) -> int:
        """How many connections gunicorn's loop accepts before it pauses; it asks before each, and when a thread ends.

        Those that wait for a client's next request need no thread; of all others there are as many as threads.
        """
        if time.monotonic() < self._full_until:
            return 0
        need_none = len(self.keepalived_conns) + len(self.pending_conns)
        return min(self._most, need_none + int(self.cfg.threads))

    @worker_connections.setter
    def worker_connections(self, most: int) -> None:
        """Gunicorn sets its own setting here, which is read above."""

    def accept(self, listener: Any) -> None:
        """In the loop: take a connection; where no descriptor is left it waits on in the system's queue."""
        try:
            super().accept(listener)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            now = time.monotonic()
            self._full_until = now + FULL_SECONDS
            if now - self._full_said >= FULL_AGAIN:
                self._full_said = now
                self.log.warning("no new connection can be taken for now: %s; see `ulimit -n`", error.strerror)

    def enqueue_req(self, conn: Any) -> None:
        """In the loop: have a thread handle a connection."""
        self._queued.add(conn)
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """In the loop: a request is answered, so one connection that no worker had a thread for may queue here.

        Else those that are kept alive would pass the threads on to each other for as long as they like.
        """
        super().finish_request(conn, fs)
        if self._accepting or not self.alive or self.nr_conns >= self._most:
            return
        now = time.monotonic()
        if self.nr_conns < self.worker_connections:
            self._full_since = now  # a thread is free, and whatever is taken now takes it
        elif now - self._full_since < OTHERS_FIRST:
            return
        for listener in self.sockets:
            self.accept(listener)

    def set_accept_enabled(self, enabled: bool) -> None:
        """In the loop: begin or end to take new connections; it ends where no thread is free."""
        if self._accepting and not enabled:
            self._full_since = time.monotonic()
        super().set_accept_enabled(enabled)

    @property
    def answer_seconds(self) -> float:
        """How long an answer may take."""
        return float(self.cfg.timeout)

    def handle(self, conn: Any) -> Any:
        """In a thread: read a request and answer it."""
        self._queued.discard(conn)
        self._heads[conn] = time.monotonic() + HEAD_SECONDS
        try:
            return super().handle(conn)
        finally:
            self._heads.pop(conn, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """In a thread: answer a request whose head is there."""
        self._heads.pop(conn, None)
        try:
            kept = super().handle_request(req, conn)
        finally:
            asked = self._under_way.pop(conn.sock, None)
        return kept and not (asked and asked.cut)  # the rest of a body is no request

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        """In a thread: have the app answer; nothing of it is sent where the loop has answered meanwhile."""
        asked = self._under_way[environ["gunicorn.socket"]] = _Asked(environ, time.monotonic())
        made = self._app(environ, start_response)
        if not asked.turn.acquire(blocking=False):
            if hasattr(made, "close"):
                made.close()
            raise OSError(errno.EPIPE, "the answer took too long")
        asked.response = start_response.__self__
        if asked.cut:
            asked.response.force_close()
        return made

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """In the loop: wait for what happens, while requests are under way no longer than until the next look."""
        super().wait_for_and_dispatch_events(min(timeout, LOOK_SECONDS) if self._under_way else timeout)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse what is no request; gunicorn's own page would repeat parts of it."""
        if not isinstance(exc, refused.ParseException) or isinstance(exc, _NOT_THE_CLIENTS):
            super().handle_error(req, client, addr, exc)
            return
        refusal = _REFUSALS.get(type(exc), _NOT_WELL_FORMED)
        request_id = str(uuid.uuid4())
        self.log.warning("request %s refused: %s", request_id, type(exc).__name__)
        status = _STATUS.get(type(exc), HTTPStatus(refusal.status))
        if self._meter is not None:
            self._meter.without_the_app(request_id, status, refusal.slug)
        with contextlib.suppress(OSError):  # nobody is left to be answered
            write_nonblock(client, _without_the_app(refusal, request_id, status))

    def murder_pending(self) -> None:
        """In the loop, once a second at least: hang up on clients that took too long, and give up what is stuck."""
        super().murder_pending()
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        if now - self._looked > STOOD_STILL:
            self._awake_since = now
        self._looked = now
        for conn, until in self._heads.copy().items():
            if until < now:
                _shut(conn.sock, socket.SHUT_RD)  # the thread reads the end of the connection
        for connection, asked in self._under_way.copy().items():
            if asked.reads_too_long(connection, now, self._awake_since):
                self._cut(connection, asked)
            if asked.idle(connection, now, self._awake_since) >= self.answer_seconds:
                self._give_up(connection, asked, now)
        stuck = sum(asked.given_up for asked in self._under_way.copy().values())
        if stuck and self._leaves_by is None:
            self.alive, self._leaves_by = False, now + LEAVE_SECONDS
        if self._leaves_by is not None and (
            now >= self._leaves_by or self.nr_conns <= stuck or stuck >= self.cfg.threads
        ):
            self._leave()

    def _cut(self, connection: Any, asked: _Asked) -> None:
        if not asked.cut:
            self.log.warning("request %s is read no more, for its body comes too slowly: %s", asked.id, asked)
        asked.cut = True
        _shut(connection, socket.SHUT_RD)  # the thread reads the end of the body

    def _give_up(self, connection: Any, asked: _Asked, now: float) -> None:
        if asked.turn.acquire(blocking=False):  # nothing was sent, and the thread will not
            self.log.error("request %s is stuck and given up, and this worker with it: %s", asked.id, asked)
            asked.given_up = asked.environ[GIVEN_UP] = True
            self._refuse(connection, asked.id, now - asked.began)
        elif not asked.hung_up:  # it may well be the client that does not read
            self.log.warning("request %s is hung up on, for nothing could be sent any more: %s", asked.id, asked)
            asked.hung_up, asked.since = True, now - self.answer_seconds + HUNG_UP_SECONDS
            _shut(connection, socket.SHUT_RDWR)
        elif not asked.given_up:
            self.log.error("request %s is stuck within its answer, and this worker is given up: %s", asked.id, asked)
            asked.given_up = True

    def _leave(self) -> None:
        """End this process, whatever its threads do."""
        for conn in self._queued.copy():
            self._refuse(conn.sock, str(uuid.uuid4()))
        if self._meter is not None:
            self._meter.access_log.stop()
        os._exit(0)

    def _refuse(self, connection: Any, request_id: str, seconds: float = 0.0) -> None:
        """Send a client the answer that no thread sends."""
        took = f"The answer took more than {self.answer_seconds:g} s and was given up"
        error = NotReady(f"{took}; whether it is recorded is not known.", retry_after=1)
        if self._meter is not None:
            self._meter.without_the_app(request_id, error.status, seconds=seconds)
        with contextlib.suppress(OSError):  # the client has gone
            connection.send(_without_the_app(error, request_id), socket.MSG_DONTWAIT)
        _shut(connection, socket.SHUT_WR)


class _Asked:
    """A request that is being answered, since a monotonic time."""

    __slots__ = ("began", "cut", "environ", "given_up", "hung_up", "response", "sent", "since", "turn")

    def __init__(self, environ: dict[str, Any], since: float) -> None:
        self.environ, self.began, self.since = environ, since, since
        self.turn = threading.Lock()  # who has it answers: the thread or the loop
        self.response: Any = None  # gunicorn's own, once the app made one
        self.sent = 0  # bytes of it, when it was looked at
        self.cut = self.hung_up = self.given_up = False

    @property
    def id(self) -> str:
        return str(self.environ.get(REQUEST_ID) or self.environ.setdefault(REQUEST_ID, str(uuid.uuid4())))

    def __str__(self) -> str:
        """Return method and path; a query may tell what is nobody's business."""
        return f"{self.environ['REQUEST_METHOD']} {self.environ['PATH_INFO']!r}"

    def idle(self, connection: Any, now: float, awake_since: float) -> float:
        """Return for how many seconds nothing was seen to happen."""
        sent = 0 if self.response is None else self.response.sent
        if sent != self.sent or _waits_for_a_body(connection):
            self.sent, self.since = sent, now
        return now - max(self.since, awake_since)

    def reads_too_long(self, connection: Any, now: float, awake_since: float) -> bool:
        """Whether a thread waits for a body whose time is over."""
        most = BODY_SECONDS + self.environ.get(BODY_READ, 0) / BODY_RATE
        return _waits_for_a_body(connection) and now - max(self.began, awake_since) > most


def _waits_for_a_body(connection: Any) -> bool:
    """Whether a thread does: it has set a time for that (protocol.read_body)."""
    return connection.gettimeout() is not None


def return_large_pieces() -> None:
    """Have what is LARGE go back to the system whenever it is freed, where the library is glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)


def _files() -> int:
    """Return how many files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _without_the_app(error: ReviewappError, request_id: str, status: HTTPStatus | None = None) -> bytes:
    """Return an answer as it goes to the client; `status` in place of the error's own."""
    status = HTTPStatus(error.status) if status is None else status
    body = dumps(as_problem(error, request_id) | {"status": int(status)})
    retry = "" if error.retry_after is None else f"Retry-After: {error.retry_after}\r\n"
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\nContent-Type: application/problem+json\r\n{retry}"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
        f"X-Request-ID: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _shut(connection: Any, how: int) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(how)
