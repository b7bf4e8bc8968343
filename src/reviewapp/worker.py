"""gunicorn's gthread worker, made fair: a worker whose threads are all busy leaves new connections to the others.

All workers listen on one socket, and whoever wakes first accepts. The stock worker goes on accepting while all of its
threads are busy, up to 1,000 connections, which then wait for its few threads while another worker has nothing to do;
and a connection that is kept alive stays with the worker that accepted it. Here a connection waits in the system's
queue instead, until any worker has a thread for it.

A client that begins a request and never ends it would hold a thread for ever: it is hung up on, too.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

HEAD_SECONDS = 10.0  # that the head of a request may take; its body has a bound of its own (protocol.BODY_PAUSE)


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

    def murder_pending(self) -> None:
        """In the loop, once a second at least: hang up on clients that took too long."""
        super().murder_pending()
        now = time.monotonic()
        for conn, until in self._heads.copy().items():
            if until < now:
                with contextlib.suppress(OSError):  # the client was faster
                    conn.sock.shutdown(socket.SHUT_RD)  # the thread reads the end of the connection
