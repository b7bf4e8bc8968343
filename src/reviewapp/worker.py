"""gunicorn's gthread worker, made fair: a worker whose threads are all busy leaves new connections to the others.

All workers listen on one socket, and whoever wakes first accepts. The stock worker goes on accepting while all of its
threads are busy, up to 1,000 connections, which then wait for its few threads while another worker has nothing to do;
and a connection that is kept alive stays with the worker that accepted it. Here a connection waits in the system's
queue instead, until any worker has a thread for it.

A client that begins a request and never ends it would hold a thread for ever: it is hung up on, too. And what cannot be
read as a request is refused in the form of every other error, without a word of what was sent.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import time
import uuid
from http import HTTPStatus
from typing import Any

from gunicorn.http import errors as refused
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from . import strictjson
from .errors import AddressTooLong, BadRequest, HeadersTooLarge, ReviewappError, as_problem

HEAD_SECONDS = 10.0  # that the head of a request may take; its body has a bound of its own (protocol.BODY_PAUSE)


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
    """Accepts a connection only while a thread is free, and gives a request's head HEAD_SECONDS to arrive."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._heads: dict[Any, float] = {}  # connections whose next request is awaited or read, and until when

    def load_wsgi(self) -> None:
        """Make the app, and leave what is there by then out of every later search for garbage: it stays anyway.

        With all the libraries loaded, one such search stops all threads of the worker for 150 ms.
        """
        super().load_wsgi()
        gc.freeze()

    @property
    def worker_connections(self) -> int:
        """How many connections gunicorn's loop accepts before it pauses; it asks before each, and when a thread ends.

        Those that wait for a client's next request need no thread; of all others there are as many as threads.
        """
        need_none = len(self.keepalived_conns) + len(self.pending_conns)
        return min(int(self.cfg.worker_connections), need_none + int(self.cfg.threads))

    @worker_connections.setter
    def worker_connections(self, most: int) -> None:
        """Gunicorn sets its own setting here, which is read above."""

    def handle(self, conn: Any) -> Any:
        """In a thread: read a request and answer it."""
        self._heads[conn] = time.monotonic() + HEAD_SECONDS
        try:
            return super().handle(conn)
        finally:
            self._heads.pop(conn, None)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """In a thread: answer a request whose head is there."""
        self._heads.pop(conn, None)
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Refuse what is no request; gunicorn's own page would repeat parts of it."""
        if not isinstance(exc, refused.ParseException) or isinstance(exc, _NOT_THE_CLIENTS):
            super().handle_error(req, client, addr, exc)
            return
        refusal = _REFUSALS.get(type(exc), _NOT_WELL_FORMED)
        status = _STATUS.get(type(exc), refusal.status)
        problem = as_problem(refusal, str(uuid.uuid4())) | {"status": int(status)}
        self.log.warning("request %s refused: %s", problem["request_id"], type(exc).__name__)
        body = strictjson.dumps(problem)
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):  # nobody is left to be answered
            write_nonblock(client, head.encode() + body)

    def murder_pending(self) -> None:
        """In the loop, once a second at least: hang up on clients that took too long."""
        super().murder_pending()
        now = time.monotonic()
        for conn, until in self._heads.copy().items():
            if until < now:
                with contextlib.suppress(OSError):  # the client was faster
                    conn.sock.shutdown(socket.SHUT_RD)  # the thread reads the end of the connection
