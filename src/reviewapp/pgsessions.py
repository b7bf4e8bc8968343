"""Connections of the store in PostgreSQL (postgres.py) beside its engines: what each request reads, records and locks.

Each statement is a transaction of its own, asked of the driver at once. A forked child forgets them without a word to
the server, which would else end those of its parent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Select

from .errors import StoreBusy
from .statements import Statement, flat, statement, wrapped

log = logging.getLogger("reviewapp")
SESSIONS = 4  # connections of one process for what each request reads


class Session:
    """A connection of its own whose statements are a transaction each; what it raises is the driver's."""

    def __init__(self, engine: Engine) -> None:
        connection = engine.raw_connection()
        driver: Any = connection.driver_connection
        connection.detach()
        driver.autocommit = True
        self.execute: Callable[..., Any] = driver.execute
        self.close: Callable[[], None] = driver.close
        self._connection, self._driver = connection, driver

    @property
    def is_closed(self) -> bool:
        return bool(self._driver.closed)


def _first(engine: Engine, session: Session | None, sql: str, values: Any) -> tuple[Session, Any]:
    """Return the first row, or None, and the session that gave it; raises the driver's errors, with no session left.

    That is a new one where none was given, or the one given was lost: it may have been so for long, and whoever comes
    next need not hear of it. So it is for what may be asked twice.
    """
    if session is not None:
        try:
            return session, session.execute(sql, values).fetchone()
        except Exception:
            lost = session.is_closed
            session.close()
            if not lost:
                raise
        engine.dispose()  # what waits there is no younger
    session = Session(engine)
    try:
        return session, session.execute(sql, values).fetchone()
    except Exception:
        session.close()
        raise


class Lookups:
    """Reads of one statement each, on SESSIONS connections at most, opened as they are needed."""

    def __init__(self) -> None:
        self._parents: list[Any] = []  # kept, for they must not even be closed
        self._begin()

    def _begin(self) -> None:
        self._free: list[Session] = []
        self._turns = threading.BoundedSemaphore(SESSIONS)

    def first(self, engine: Engine, clause: Select[Any], values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row as the driver gives it, or None; raises SQLAlchemy's errors."""
        asked = statement(clause, engine.dialect)
        given = asked.values(values)
        with self._turns:
            try:
                session, found = _first(engine, self._free.pop() if self._free else None, asked.sql, given)
            except Exception as error:
                raise wrapped(asked.sql, error, engine.dialect) from error
            self._free.append(session)
        row: tuple[Any, ...] | None = found
        return row

    def forget_parent(self) -> None:
        self._parents.append(self._free)
        self._begin()

    def close(self) -> None:
        """Close those that nobody uses now; who asks again opens a new one."""
        free, self._free = self._free, []
        for session in free:
            session.close()

    forget = close


class Appends:
    """Inserts that are a transaction each: one message, durable when it is answered, all rows or none.

    For one thread at a time, on a connection of its own, whose settings say how long who writes is waited for.
    """

    def __init__(self) -> None:
        self._session: Session | None = None
        self._parents: list[Any] = []  # kept, for they must not even be closed

    def insert(self, engine: Engine, made: Statement, rows: Sequence[tuple[Any, ...]], until: float) -> None:
        """Insert AT_ONCE rows at most; raises SQLAlchemy's errors."""
        sql = made.of_rows(len(rows))
        try:
            session = self._session = self._session or Session(engine)
        except Exception as error:
            raise wrapped(None, error, engine.dialect) from error
        try:
            session.execute(sql, flat(rows))
        except Exception as error:
            self.close()
            raise wrapped(sql, error, engine.dialect) from error

    def forget_parent(self) -> None:
        self._parents.append(self._session)
        self._session = None

    def close(self) -> None:
        """Close the connection; the next insert opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


class SessionLocks:
    """Locks of one session of the server, which holds them for all threads of a process."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._parents: list[Any] = []  # kept, for it must not even be closed
        self._lock = threading.Lock()

    def forget_parent(self) -> None:
        self._parents.append(self._session)
        self._session, self._lock = None, threading.Lock()

    def close(self) -> None:
        """Close the session, and so let go of all; the next lock opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def take(self, number: int, engine: Callable[[], Engine]) -> bool:
        return bool(self._ask(engine(), "SELECT pg_try_advisory_lock(%s)", number))

    def give(self, number: int, engine: Callable[[], Engine]) -> None:
        try:
            self._ask(engine(), "SELECT pg_advisory_unlock(%s)", number)
        except StoreBusy:
            log.warning("The session of the locks was lost; the server lets go of them by itself.")

    def _ask(self, engine: Engine, sql: str, number: int) -> Any:
        with self._lock:
            session, self._session = self._session, None
            try:
                self._session, row = _first(engine, session, sql, (number,))
            except Exception as error:
                raise StoreBusy("The ledger cannot be reached; nothing was recorded.", retry_after=1) from wrapped(
                    sql, error, engine.dialect
                )
            return row[0]
