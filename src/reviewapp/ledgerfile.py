"""The ledger's file seen from outside: what it holds and whether it is whole. Nothing is made or brought up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from .errors import StoreBusy, StoreError, StoreFull
from .schema import revisions
from .store import BUSY_SECONDS

BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database that is in use
COUNTED = ("predictions", "verdicts", "release_events", "uploads", "tokens")
NONE = "There is no ledger yet (REVIEWAPP_DATABASE_URL)."
CURRENT, OLDER, UNKNOWN = "current", "older", "unknown"


@dataclass(frozen=True)
class LedgerFile:
    """What a file holds: the version of its schema and how many rows its tables have.

    `state` compares the schema with this version's: CURRENT, OLDER, or UNKNOWN, which a newer version made.
    """

    path: Path
    schema: str
    state: str
    rows: dict[str, int]

    @property
    def size(self) -> int:
        """Its bytes on disk, with what SQLite keeps beside it."""
        files = [self.path, *(Path(f"{self.path}{suffix}") for suffix in BESIDE)]
        return sum(file.stat().st_size for file in files if file.exists())


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


def look(path: Path) -> LedgerFile:
    """Return what the file holds; raise StoreError where it is no ledger."""
    with opened(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            raise StoreError("The database holds tables that reviewapp did not make." if tables else NONE)
        [(schema,)] = connection.execute("SELECT version_num FROM alembic_version")
        count = "SELECT count(*) FROM {}"
        rows = {name: connection.execute(count.format(name)).fetchone()[0] for name in COUNTED if name in tables}
    known = revisions()
    state = CURRENT if schema == known[-1] else OLDER if schema in known else UNKNOWN
    return LedgerFile(path, schema, state, rows)


def flaws(path: Path, *, quick: bool = False) -> list[str]:
    """Return what is wrong with the file, by SQLite's own check; `quick` leaves out what indexes hold."""
    try:
        with opened(path) as connection:
            found = [row[0] for row in connection.execute(f"PRAGMA {'quick' if quick else 'integrity'}_check(10)")]
            odd = connection.execute("PRAGMA foreign_key_check").fetchall()
    except StoreBusy as error:
        return [error.detail]
    return [one for one in found if one != "ok"] + [f"{table} names a row that is not there" for table, *_ in odd[:10]]
