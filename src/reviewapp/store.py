"""The store: units of work that keep what was acknowledged, in SQLite (sqlite.py) or PostgreSQL (postgres.py).

Each unit of work is one transaction: `reading()` sees one state, `writing()` is the only one that writes, in all
processes on all machines, because SQLAlchemy's default loses concurrent updates. Connections are opened on first use,
so after the fork of a worker, never before.

What goes wrong below it is told by what would help (`_translated`), and over as soon as its cause is: nothing is kept
that a fault has touched.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as NoneFree

from . import schema
from .errors import StoreBusy, StoreError, UsageError
from .keylocks import KeyLocks
from .postgres import PostgresDatabase
from .sqlite import SqliteFile
from .statements import Statement
from .tables import probe

BUSY_SECONDS = 15  # how long a turn to write is waited for, where a store is not told to wait less
PROBE_SECONDS = 0.2  # how long it is, once a wait was in vain, until a turn is had again: all threads would wait
READY_SECONDS = 0.5  # how long it is by who only asks whether the store can be written


class Store:
    """The database of one deployment. Safe to share between threads; opened by each process for itself.

    One that is `read_only` neither makes nor changes anything, whatever a running service does meanwhile. `patience` is
    how long it waits for another process that writes.
    """

    def __init__(self, url: str, *, read_only: bool = False, patience: float | None = None) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError:
            raise StoreError("REVIEWAPP_DATABASE_URL is no SQLAlchemy URL (as sqlite:////path/to/file).") from None
        kind = self.url.get_backend_name()
        if kind not in ("sqlite", "postgresql") or not self.url.database or self.url.database == ":memory:":
            raise StoreError(
                "REVIEWAPP_DATABASE_URL must name an SQLite file (sqlite:////path/to/file) or a database of PostgreSQL "
                "(postgresql+psycopg://user@host/name)."
            )
        self.database = SqliteFile(self.url) if kind == "sqlite" else PostgresDatabase(self.url)
        self._read_only, self._patience = read_only, patience
        self._lock, self._writer = threading.Lock(), threading.Lock()
        self._until = 0.0  # how long whoever holds `_writer` waits, on the monotonic clock
        self._engine: Engine | None = None
        self._reads: Engine | None = None  # the same that begins to read
        self._in_vain = False  # whether the last wait was
        os.register_at_fork(after_in_child=self._forget_parent)

    def _forget_parent(self) -> None:
        """A child must not touch the parent's connections, not even to close them."""
        self._lock, self._writer = threading.Lock(), threading.Lock()
        self.database.lookups.forget_parent()
        self.database.appends.forget_parent()
        if self._engine is not None:
            self._engine.dispose(close=False)

    @property
    def is_file(self) -> bool:
        """Whether the ledger is a file of this machine."""
        return isinstance(self.database, SqliteFile)

    @property
    def path(self) -> Path:
        """The file of the ledger; raise UsageError where it lies in PostgreSQL."""
        if not isinstance(self.database, SqliteFile):
            raise UsageError("The ledger lies in PostgreSQL (REVIEWAPP_DATABASE_URL), and this is about a file.")
        return self.database.path

    @property
    def place(self) -> str:
        """Where the ledger lies, in words: the path of the file, or the URL without its password."""
        return str(self.path) if self.is_file else self.url.render_as_string()

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._opened()
        return self._engine

    def _opened(self) -> Engine:
        database, opened_before = self.database, self.database.opened_before
        with self._translated(), ExitStack() as undo:
            engine = database.engine(lambda: self._until, self._waits(), read_only=self._read_only)
            undo.callback(engine.dispose)
            with database.one_process_at_a_time():
                with database.reading(engine).begin() as connection:  # as a rule, nobody need be waited for
                    current = schema.is_current(connection)
                if opened_before and not current:
                    raise StoreBusy("The ledger was replaced by one that the service did not make.", retry_after=10)
                if not current:
                    self._until = time.monotonic() + self._waits()
                    with engine.begin() as connection:
                        schema.upgrade(connection, database.make_tables, only_check=self._read_only)
            database.opened()
            undo.pop_all()
        return engine

    def _waits(self) -> float:
        return BUSY_SECONDS if self._patience is None else self._patience

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the store."""
        with self._translated():
            if self._reads is None:
                self._reads = self.database.reading(self.engine)
            with self._reads.begin() as connection:
                yield connection

    def lookup(self, clause: Select[Any], **values: Any) -> tuple[Any, ...] | None:
        """Return the first row of what is committed now, as the driver gives it, or None.

        For what every request reads: `clause` is made once, with a bindparam of the name of each of the values.
        """
        with self._translated():
            return self.database.lookups.first(self.engine, clause, values)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection whose changes are durable when the block ends, all or none."""
        with self.turn() as turn, turn.transaction() as connection:
            yield connection

    @contextmanager
    def turn(self, seconds: float | None = None) -> Iterator[Turn]:
        """Be the one thread of this process that writes, for what is decided only once it is.

        One at a time goes for the turn that all processes share, so that the others wait without trying. Raises
        StoreBusy where another process has it for too long; `seconds` are how long that is for this caller.
        """
        if not self._writer.acquire(timeout=BUSY_SECONDS if seconds is None else seconds):
            raise StoreBusy("The ledger cannot be reached or is locked; nothing was recorded.", retry_after=1)
        try:
            engine = self.engine
            check = partial(self._check, engine)
            check()
            waits = self._waits() if seconds is None else seconds
            self._until = time.monotonic() + (min(PROBE_SECONDS, waits) if self._in_vain else waits)
            yield Turn(engine, self, self._until, check)
            self._in_vain = False
        except StoreBusy:
            self._in_vain = True
            raise
        finally:
            self._writer.release()

    def _check(self, engine: Engine) -> None:
        """Raise StoreBusy where the database is another one than that which is open; open that one next."""
        if not self.database.replaced():
            return
        self.database.lookups.forget()
        self.database.appends.close()
        engine.dispose()
        self._engine = self._reads = None
        raise StoreBusy("The ledger's file was replaced; ask again.", retry_after=1)

    def check_writable(self, written_at: str) -> None:
        """Write and commit one row; raise StoreBusy or StoreFull where that does not work soon."""
        with self.turn(READY_SECONDS) as turn, turn.transaction() as connection:
            if not connection.execute(probe.update().values(written_at=written_at)).rowcount:
                connection.execute(probe.insert().values(id=1, written_at=written_at))

    def exists(self) -> bool:
        """Whether there is a ledger, without making one."""
        return self.database.exists()

    @contextmanager
    def as_it_is(self) -> Iterator[Connection]:
        """Give a connection to PostgreSQL that only reads, whatever the schema is; raise UsageError for a file."""
        if not isinstance(self.database, PostgresDatabase):
            raise UsageError("The ledger is an SQLite file, and this is about PostgreSQL.")
        with self.database.as_it_is() as connection:
            yield connection

    def key_locks(self) -> KeyLocks:
        """Return the locks of Idempotency-Keys."""
        return KeyLocks(self.database.locks, lambda: self.engine)

    def size(self) -> int:
        """Return how many bytes the ledger takes, with its log where that is a file."""
        with self._translated():
            return self.database.size(lambda: self.engine)

    def tidy(self) -> bool:
        """Leave nothing of what was erased in the ledger's files; return False where others read it too long."""
        with self._translated():
            return self.database.tidy(self.engine)

    def close(self) -> None:
        """Close the connections of this process."""
        self.database.lookups.close()
        self.database.appends.close()
        self.database.locks.close()
        if self._engine is not None:
            self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the driver's errors into ours: what is full, what is busy, also where a table is not there (yet)."""
        try:
            yield
        except DBAPIError as error:
            ours = self.database.as_ours(error)
            if ours is None:
                raise
            raise ours from error
        except NoneFree as error:
            raise StoreBusy("No connection to the ledger became free in time.", retry_after=1) from error


class Turn:
    """The ways to write that the one thread has that does; another process is waited for until the turn's end."""

    def __init__(self, engine: Engine, store: Store, until: float, check: Callable[[], None]) -> None:
        self._engine, self._store, self._until, self._check = engine, store, until, check

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Give a connection whose changes are durable when the block ends, all or none."""
        with self._store._translated(), self._engine.begin() as connection:
            yield connection
        self._check()

    def append(self, made: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, AT_ONCE at most: durable on return, all or none, in one call of the driver."""
        with self._store._translated():
            self._store.database.appends.insert(self._engine, made, rows, self._until)
        self._check()
