"""Statements that SQLAlchemy writes once for a dialect; after that the driver is given nothing but the values.

What is recorded with every request, and what every request looks up, is asked so often that the making of a statement
would cost more than the database does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any
from weakref import WeakSet

from pysqlite3 import dbapi2
from sqlalchemy import Connection, Dialect, Engine, Insert, Select
from sqlalchemy.exc import DBAPIError

SQLITE_BUSY = 5  # the primary result code
FIRST_STEP, LONGEST_STEP = 50e-6, 500e-6  # seconds between two tries to get the turn from another process
# Rows of one insert. A connection keeps one prepared for each number that occurs, of 4 KB a row: all of them are 2 MB,
# and were 18 MB for up to 100 rows, which take hardly less time each.
AT_ONCE = 32


class Statement:
    """The SQL of a clause, and the order of its values in it."""

    def __init__(self, clause: Insert | Select[Any], dialect: Dialect) -> None:
        compiled = clause.compile(dialect=dialect)
        self.sql = str(compiled)
        self._of_rows: dict[int, str] = {}
        fixed = compiled.params  # None for those that each execution gives
        types = {name: bind.type.dialect_impl(dialect) for name, bind in compiled.binds.items()}
        self._order = [
            (name, fixed[name], types[name].bind_processor(dialect) if name in types else None)
            for name in compiled.positiontup or ()
        ]

    def values(self, named: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values as the driver takes them; raises KeyError where one that the statement needs is missing."""
        row = []
        for name, fixed, process in self._order:
            value = named[name] if fixed is None else fixed
            row.append(value if process is None else process(value))
        return tuple(row)

    def of_rows(self, n: int) -> str:
        """Return the SQL of an insert of `n` rows, AT_ONCE at most, whose values follow each other."""
        sql = self._of_rows.get(n)
        if sql is None:
            _, group = self.sql.split(" VALUES ")
            sql = self._of_rows[n] = self.sql + f", {group}" * (n - 1)
        return sql

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows in the transaction of a connection, in their order; raises SQLAlchemy's errors.

        Many at once: each insert into a table with a trigger begins a transaction within the transaction.
        """
        driver: Any = connection.connection.driver_connection
        many = getattr(driver, "executemany", None)
        try:
            for first in range(0, len(rows), AT_ONCE):
                some = rows[first : first + AT_ONCE]
                if many is None:  # the driver of PostgreSQL
                    driver.execute(self.of_rows(len(some)), flat(some))
                else:
                    many(self.of_rows(len(some)), [flat(some)])
        except Exception as error:
            raise wrapped(self.sql, error, connection.dialect) from error


def flat(rows: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the values of rows, one after the other."""
    return tuple(chain.from_iterable(rows))


@lru_cache(maxsize=64)
def statement(clause: Insert | Select[Any], dialect: Dialect) -> Statement:
    """Return the statement of a clause that is made once, as a module's constant."""
    return Statement(clause, dialect)


class Lookups:
    """Reads of one statement each, on a connection of the driver that a thread keeps.

    There is no transaction around them and none is left open: the connection keeps no state of the store back. It is
    opened on first use in a thread, so after the fork of a worker; a child leaves its parent's alone. No LIMIT is
    needed, and one that is a bound value has SQLite prepare the statement anew each time.
    """

    def __init__(self) -> None:
        self._begin()
        self._parents: list[Any] = []  # kept, for they must not even be closed

    def _begin(self) -> None:
        self._of_thread = threading.local()
        self._open: WeakSet[_Kept] = WeakSet()
        self._lock = threading.Lock()

    def forget_parent(self) -> None:
        self._parents.append((self._of_thread, list(self._open)))
        self._begin()

    def first(self, engine: Engine, clause: Select[Any], values: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row as the driver gives it, or None; raises SQLAlchemy's errors."""
        asked = statement(clause, engine.dialect)
        kept: _Kept | None = getattr(self._of_thread, "kept", None)
        given = asked.values(values)
        try:
            if kept is None:
                kept = self._of_thread.kept = _Kept(engine)
                with self._lock:
                    self._open.add(kept)
            cursor = kept.execute(asked.sql, given)
            found: tuple[Any, ...] | None = cursor.fetchone()
            cursor.close()
        except Exception as error:
            raise wrapped(asked.sql, error, engine.dialect) from error
        return found

    def forget(self) -> None:
        """Have each thread open a new connection; one that is in use is closed when it no longer is."""
        with self._lock:
            self._begin()

    def close(self) -> None:
        """Close all connections of this process; a thread that asks again opens a new one."""
        with self._lock:
            kept = list(self._open)
        self._begin()
        for one in kept:
            one.close()


class Appends:
    """Inserts that are a transaction each: one call of the driver, durable when it returns, all rows or none.

    Each call of the driver lets other threads go first, so that a transaction of many calls is held up at each. For one
    thread at a time, on a connection of its own that waits for nobody; it is opened on first use, so after the fork of
    a worker, and a child leaves its parent's alone.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        self._parents: list[_Kept | None] = []  # kept, for they must not even be closed

    def forget_parent(self) -> None:
        self._parents.append(self._kept)
        self._kept = None

    def insert(self, engine: Engine, made: Statement, rows: Sequence[tuple[Any, ...]], until: float) -> None:
        """Insert AT_ONCE rows at most, tried until a monotonic time while another process writes.

        Raises SQLAlchemy's errors.
        """
        sql, values = made.of_rows(len(rows)), [flat(rows)]
        try:
            if self._kept is None:
                kept = _Kept(engine)
                kept.execute("PRAGMA busy_timeout=0")
                self._kept = kept
            many = self._kept.executemany  # it does not ask for the number of the last row: one call of SQLite less
            when_free(lambda: many(sql, values), until)
        except Exception as error:
            raise wrapped(sql, error, engine.dialect) from error

    def close(self) -> None:
        """Close the connection; the next insert opens a new one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()


def when_free(write: Callable[[], object], until: float) -> None:
    """Call what begins to write, again in short steps while another process writes; raises the driver's errors.

    SQLite's own steps grow to 100 ms: under load, other processes write again and again in each of them. The last try
    is at a monotonic time or after it.
    """
    step = FIRST_STEP
    while True:
        last = time.monotonic() >= until
        try:
            write()
        except dbapi2.DatabaseError as error:
            if last or getattr(error, "sqlite_errorcode", 0) & 0xFF != SQLITE_BUSY:
                raise
        else:
            return
        time.sleep(step)
        step = min(1.5 * step, LONGEST_STEP)


class _Kept:
    """A connection with the engine's settings that is none of its pool's; opening it raises the driver's errors."""

    def __init__(self, engine: Engine) -> None:
        connection = engine.raw_connection()
        driver: Any = connection.driver_connection
        connection.detach()
        self.execute: Callable[..., Any] = driver.execute
        self.executemany: Callable[..., Any] = driver.executemany
        self.close: Callable[[], None] = driver.close
        self._connection = connection


def wrapped(sql: str | None, error: Exception, dialect: Dialect) -> BaseException:
    """Return an error of the driver as SQLAlchemy raises it; the values stay untold."""
    return DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect)
