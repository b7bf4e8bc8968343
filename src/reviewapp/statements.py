"""Statements that SQLAlchemy writes once for a dialect; after that the driver is given nothing but the values.

What is recorded with every request, and what every request looks up, is asked so often that the making of a statement
would cost more than the database does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Dialect, Engine, Insert, Select
from sqlalchemy.exc import DBAPIError


class Statement:
    """The SQL of a clause, and the order of its values in it."""

    def __init__(self, clause: Insert | Select[Any], dialect: Dialect) -> None:
        compiled = clause.compile(dialect=dialect)
        self.sql = str(compiled)
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

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute it for each of some values, in the transaction of a connection; raises SQLAlchemy's errors."""
        driver: Any = connection.connection.driver_connection
        try:
            driver.executemany(self.sql, rows)
        except Exception as error:
            raise _wrapped(self.sql, error, connection.dialect) from error


@lru_cache(maxsize=64)
def statement(clause: Insert | Select[Any], dialect: Dialect) -> Statement:
    """Return the statement of a clause that is made once, as a module's constant."""
    return Statement(clause, dialect)


class Lookups:
    """Reads of one statement each, on a connection of the driver that a thread keeps.

    There is no transaction around them and every row is fetched: the connection keeps no state of the store back. It
    is opened on first use in a thread, so after the fork of a worker; a child leaves its parent's alone.
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
        if kept is None:
            kept = self._of_thread.kept = _Kept(engine)
            with self._lock:
                self._open.add(kept)
        given = asked.values(values)
        try:
            rows = kept.execute(asked.sql, given).fetchall()
        except Exception as error:
            raise _wrapped(asked.sql, error, engine.dialect) from error
        return rows[0] if rows else None

    def close(self) -> None:
        """Close all connections of this process; a thread that asks again opens a new one."""
        with self._lock:
            kept = list(self._open)
        self._begin()
        for one in kept:
            one.close()


class _Kept:
    """A connection with the engine's settings that is none of its pool's."""

    def __init__(self, engine: Engine) -> None:
        connection = engine.raw_connection()
        driver: Any = connection.driver_connection
        connection.detach()
        self.execute: Callable[..., Any] = driver.execute
        self.close: Callable[[], None] = driver.close
        self._connection = connection


def _wrapped(sql: str, error: Exception, dialect: Dialect) -> BaseException:
    """Return an error of the driver as SQLAlchemy raises it; the values stay untold."""
    return DBAPIError.instance(sql, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect)
