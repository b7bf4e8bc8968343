"""A ledger copied into an empty one, from SQLite to PostgreSQL or back: every row as it is, all of them or none.

What is read is one state of the ledger, what is written is one transaction. Rows keep their numbers, and values are
handed on as the driver gives them, for that is what the chain hashes. Before the transaction ends, what was written is
read again: each table must have the same rows, and the chain must lead to the same newest link. The words of the search
are not copied: the next search takes them in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Table, UniqueConstraint, delete, func, select, text

from . import ledgerfile
from .chain import AT_A_TIME, BEGIN, in_order
from .errors import ReviewappError, StoreError, UsageError
from .intact import Whole, verify_state
from .sqlwords import POSTGRESQL
from .statements import wrapped
from .store import Store
from .tables import links, metadata, probe

# Called with the name of a table and how many more of its rows are written or read again, of so many in all.
Progress = Callable[[str, int, int], None]
_CLOSING_SECONDS = 2.0  # a session that has ended is among the server's for a little longer


@dataclass(frozen=True)
class Copied:
    """How many rows each table has, the ledger's order of tables, and what the chain over them says."""

    rows: Mapping[str, int]
    whole: Whole


def unseen(name: str, rows: int, total: int) -> None:
    """Show no progress."""


def copy(source: Store, target: Store, progress: Progress = unseen) -> Copied:
    """Copy a ledger of this version into an empty one, whose tables are made where there are none.

    Raise UsageError where one of them is not as it must be, ReviewappError where the ledger is not whole or what was
    written is not what was read; then `target` stays empty.
    """
    if _same_place(source, target):
        raise UsageError(f"{source.place} is to be copied into itself; name another database.")
    check_source(source)
    with source.reading() as old, target.writing() as new:
        check_empty(new, target)
        total = 2 * sum(old.scalar(select(func.count()).select_from(table)) or 0 for table in metadata.sorted_tables)
        new.execute(delete(probe))
        with _no_triggers(new):
            read = {
                table.name: _copied(old, new, table, lambda name, n: progress(name, n, total))
                for table in metadata.sorted_tables
            }
        if new.dialect.name == POSTGRESQL:
            _finish_server(new)
        for table in metadata.sorted_tables:
            written = _Digest(table)
            for rows in in_order(new, _query(table)).partitions(AT_A_TIME):
                written.add(rows)
                progress(table.name, len(rows), total)
            if written.told() != read[table.name].told():
                raise ReviewappError(f"{table.name} is not in {target.place} as it was read; nothing was copied.")
        whole = _verified(new, source)
        newest = old.scalar(select(links.c.hash).order_by(links.c.seq.desc()).limit(1)) or BEGIN
        if whole.newest != newest.hex():
            raise ReviewappError(f"The newest link in {target.place} is another one than it was; nothing was copied.")
    return Copied({name: one.count for name, one in read.items()}, whole)


def check_source(store: Store) -> None:
    """Raise UsageError where there is no ledger of this version."""
    if not store.exists():
        raise UsageError(f"There is no ledger in {store.place}.")
    found = ledgerfile.look_at(store)
    if found.state == ledgerfile.OLDER:
        url = store.url.render_as_string()
        raise UsageError(
            f"{store.place} has schema {found.schema}, which is older than this version's. Bring it up to date first: "
            f"REVIEWAPP_DATABASE_URL={url} reviewapp db upgrade"
        )
    if found.state == ledgerfile.UNKNOWN:
        raise StoreError(f"{store.place} has schema {found.schema}, which a newer version of reviewapp made.")


def check_empty(connection: Connection, store: Store) -> None:
    """Raise UsageError where the tables of a ledger hold anything but what a look at its health leaves."""
    for table in metadata.sorted_tables:
        if table is not probe and connection.execute(select(table.c[0]).limit(1)).first() is not None:
            raise UsageError(f"{store.place} holds rows already ({table.name}); name a new or an empty database.")


def check_unused(store: Store) -> None:
    """Raise UsageError where a service uses a database of PostgreSQL; hold_instance says so of a file."""
    if store.is_file:
        return
    asked = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND application_name = 'reviewapp'"
    )
    until = time.monotonic() + _CLOSING_SECONDS
    while True:
        with store.as_it_is() as connection:
            found = connection.scalar(asked) or 0
        if not found:
            return
        if time.monotonic() > until:
            raise UsageError(
                f"{store.place} is in use: {found} connection{'s' * (found != 1)} of reviewapp. Stop the service on "
                "every host first."
            )
        time.sleep(0.1)  # a connection that was just let go is listed a moment longer


def _same_place(source: Store, target: Store) -> bool:
    if source.is_file and target.is_file:
        return source.path.resolve() == target.path.resolve()
    places = [
        (url.host or url.query.get("host"), url.port or url.query.get("port"), url.database)
        for url in (source.url, target.url)
    ]
    return places[0] == places[1]


class _Digest:
    """How many rows of a table there are, and a digest over all their values, as the driver gives them."""

    def __init__(self, table: Table) -> None:
        self.table, self.count = table, 0
        self._hashed = sha256()

    def add(self, rows: Sequence[Any]) -> None:
        self.count += len(rows)
        for row in rows:
            self._hashed.update(repr(tuple(row)).encode())

    def told(self) -> tuple[int, str]:
        return self.count, self._hashed.hexdigest()


def _copied(old: Connection, new: Connection, table: Table, progress: Callable[[str, int], None]) -> _Digest:
    """Copy the rows of a table, few of them in memory."""
    read = _Digest(table)
    write = _into_server if new.dialect.name == POSTGRESQL else _into_file
    with write(new, table) as write_rows:
        for rows in in_order(old, _query(table)).partitions(AT_A_TIME):
            read.add(rows)
            write_rows(rows)
            progress(table.name, len(rows))
    return read


def _query(table: Table) -> str:
    """Return the SQL that reads a table in the order of its key, which is the same in both databases."""
    unique = [one.columns for one in table.constraints if isinstance(one, UniqueConstraint)]
    key = next(one for one in (table.primary_key.columns, *unique) if len(one))
    return f"SELECT {_names(table.c)} FROM {table.name} ORDER BY {_names(key)}"  # noqa: S608 (names of our own)


def _names(columns: Any) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)


Write = Callable[[Sequence[Any]], None]


@contextmanager
def _into_file(connection: Connection, table: Table) -> Iterator[Write]:
    marks = ", ".join("?" * len(table.c))
    insert = f"INSERT INTO {table.name} ({_names(table.c)}) VALUES ({marks})"  # noqa: S608 (names of our own)
    yield lambda rows: _nothing(connection.exec_driver_sql(insert, [tuple(row) for row in rows]))


@contextmanager
def _into_server(connection: Connection, table: Table) -> Iterator[Write]:
    asked = f"COPY {table.name} ({_names(table.c)}) FROM STDIN"
    driver: Any = connection.connection.driver_connection
    written = 0
    try:
        with driver.cursor() as cursor, cursor.copy(asked) as stream:

            def write(rows: Sequence[Any]) -> None:
                nonlocal written
                for row in rows:
                    stream.write_row(row)
                    written += 1

            yield write
    except driver.DataError:  # of what it says, a part may be the value
        raise UsageError(
            f"{table.name}: PostgreSQL cannot keep row {written + 1:,}, or one before it, as it is (a NUL character in "
            "a text, or no number where the column has numbers); nothing was copied."
        ) from None
    except driver.Error as error:
        raise wrapped(asked, error, connection.dialect) from error


def _nothing(_: object) -> None:
    """Leave the result of a statement alone."""


@contextmanager
def _no_triggers(connection: Connection) -> Iterator[None]:
    """Have no trigger number rows, link them or queue them in the block: they are copied with all of that."""
    if connection.dialect.name == POSTGRESQL:
        for table in metadata.tables:
            connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in metadata.tables:
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        return
    made = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").all()
    for name, _ in made:
        connection.exec_driver_sql(f"DROP TRIGGER {name}")
    yield
    for _, command in made:
        connection.exec_driver_sql(command)


def _finish_server(connection: Connection) -> None:
    """Let rows that the server numbers itself follow those that were copied, and let it know how many there are."""
    for table in metadata.sorted_tables:
        for column in table.c:
            named = {"table": table.name, "column": column.name}
            sequence = connection.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), named)
            highest = None if sequence is None else connection.scalar(select(func.max(column)))
            if highest is not None:
                connection.execute(text("SELECT setval(:name, :highest)"), {"name": sequence, "highest": highest})
    connection.exec_driver_sql(f"ANALYZE {', '.join(metadata.tables)}")


def _verified(connection: Connection, source: Store) -> Whole:
    """Return what the chain says of what was written, which is what was read."""
    try:
        return verify_state(connection)
    except ReviewappError as error:
        raise ReviewappError(f"{error.detail} So it is in {source.place}; nothing was copied.") from None
