"""The ledger seen from outside: what it holds and whether its file is whole. Nothing is made or brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from sqlalchemy import Connection, text

from . import schema as schemas
from .errors import StoreBusy, StoreError, StoreFull
from .schema import revisions
from .store import BUSY_SECONDS, Store

BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database that is in use
COUNTED = ("predictions", "verdicts", "release_events", "uploads", "tokens")
NONE = "There is no ledger yet (REVIEWAPP_DATABASE_URL)."
CURRENT, OLDER, UNKNOWN = "current", "older", "unknown"


@dataclass(frozen=True)
class Found:
    """What a ledger holds: the version of its schema, how many rows its tables have, how many bytes it takes.

    `state` compares the schema with this version's: CURRENT, OLDER, or UNKNOWN, which a newer version made.
    """

    schema: str
    state: str
    rows: dict[str, int]
    size: int


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Give a connection to the file as it is; raise StoreError where there is none, StoreBusy where it is damaged."""
    if not path.is_file():
        raise StoreError(NONE)
    try:
        with closing(
            dbapi2.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        ) as connection:
            yield connection
    except dbapi2.OperationalError as error:
        if "full" in str(error):
            raise StoreFull("There is not enough space on the disk.", retry_after=30) from None
        raise StoreBusy(f"{path} cannot be read: {error}.", retry_after=1) from None
    except dbapi2.DatabaseError:
        raise StoreBusy(f"{path} is damaged.", retry_after=30) from None


def look_at(store: Store) -> Found:
    """Return what a ledger holds, wherever it lies; raise StoreError where there is none, or it cannot be reached."""
    if store.is_file:
        return look(store.path)
    with store.as_it_is() as connection:
        return _look_at_server(connection)


def look(path: Path) -> Found:
    """Return what the file holds; raise StoreError where it is no ledger."""
    with opened(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if schemas.VERSION not in tables:
            raise StoreError("The database holds tables that reviewapp did not make." if tables else NONE)
        [(schema,)] = connection.execute("SELECT version_num FROM alembic_version")
        count = "SELECT count(*) FROM {}"
        rows = {name: connection.execute(count.format(name)).fetchone()[0] for name in COUNTED if name in tables}
    files = [path, *(Path(f"{path}{suffix}") for suffix in BESIDE)]
    return Found(schema, _state(schema), rows, sum(file.stat().st_size for file in files if file.exists()))


def _look_at_server(connection: Connection) -> Found:
    schema = schemas.version(connection)
    if schema is None:
        raise StoreError(NONE)
    has = connection.dialect.has_table
    rows = {
        name: int(connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0)  # noqa: S608 (names of our own)
        for name in COUNTED
        if has(connection, name)
    }
    size = int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
    return Found(schema, _state(schema), rows, size)


def _state(schema: str) -> str:
    known = revisions()
    return CURRENT if schema == known[-1] else OLDER if schema in known else UNKNOWN


def flaws(path: Path, *, quick: bool = False) -> list[str]:
    """Return what is wrong with the file, by SQLite's own check; `quick` leaves out what indexes hold."""
    try:
        with opened(path) as connection:
            found = [row[0] for row in connection.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(10)")]
            odd = connection.execute("PRAGMA foreign_key_check").fetchall()
    except StoreBusy as error:
        return [error.detail]
    return [one for one in found if one != "ok"] + [f"{table} names a row that is not there" for table, *_ in odd[:10]]
