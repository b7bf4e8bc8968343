"""The store in an SQLite file: settings that keep what was acknowledged, and what it means when SQLite fails.

SQLite is used through `pysqlite3`, because the library that systems ship may carry the WAL-reset bug. A file that is no
longer the one that was opened is not written to, for what is acknowledged has to be in the file that the path names.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from pysqlite3 import dbapi2
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from .chain import link_hash
from .errors import ReviewappError, StoreBusy, StoreError, StoreFull
from .keylocks import FileLocks
from .statements import Appends, Lookups, when_free, wrapped

FIXED_SQLITE = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a WAL database that several connections write
DURABLE = ("journal_mode=WAL", "synchronous=FULL")
WAL_PAGES = 4000  # 16 MB; a recorded prediction writes about 15: with SQLite's own 1000, one in 70 tidies up after them
WAL_BYTES = 5 * WAL_PAGES * 1024  # a longer log is cut when it begins anew: one that a long reader let grow
PAGES_KB = 128  # each connection's own copy of pages that the system has in memory anyway; SQLite's 2,000 gain nothing
# with secure_delete, nothing stays in the file of what was moved or deleted: a purge erases all there is
KEEPING = (
    "foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY",
    f"wal_autocheckpoint={WAL_PAGES}", f"journal_size_limit={WAL_BYTES}", f"cache_size=-{PAGES_KB}",
)  # fmt: skip
POOL = 32  # connections of one process; more threads than this wait for one


class SqliteFile:
    """The database of a store (store.py) in the file that a URL names."""

    make_tables = None  # step by step

    def __init__(self, url: URL) -> None:
        self.path = Path(url.database or "")
        self.lookups, self.appends, self.locks = Lookups(), Appends(), FileLocks(f"{self.path}.locks")
        self._file: _Identity = None  # the file that was opened, and its log
        self._log: _Identity = None

    @property
    def opened_before(self) -> bool:
        return self._file is not None

    def engine(self, until: Callable[[], float], waits: float, *, read_only: bool) -> Engine:
        """Return an engine that waits so many seconds; make the file where there is none, unless one was open.

        It begins as the one that writes, unless it is one for `reading`; `until` says how long that is waited for.
        """
        if not self.opened_before:
            _make_file(self.path, read_only=read_only)
        return _engine(self.path, until, waits, read_only=read_only)

    def reading(self, engine: Engine) -> Engine:
        """Return the engine that begins to read."""
        return engine.execution_options(begin=True)

    def opened(self) -> None:
        """Take the file that lies there now for the one that is open."""
        self._file, self._log = _identity(self.path), _identity(_log_of(self.path))

    @contextmanager
    def one_process_at_a_time(self) -> Iterator[None]:
        """Hold the folder for the first opening: the change of a new file to WAL fails where another is making it."""
        try:
            descriptor = os.open(self.path.parent, os.O_RDONLY)
        except OSError as error:
            raise StoreError(f"The ledger's folder cannot be opened: {error.strerror}.") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def replaced(self) -> bool:
        """Whether the path names another file than the one that is open; raise StoreBusy where that is no good one."""
        found = _identity(self.path)
        if found == self._file:
            return False
        if found is None:
            raise StoreBusy("The ledger's file is gone; put it back, or restore a backup.", retry_after=10)
        if self._log is not None and _identity(_log_of(self.path)) == self._log:
            raise StoreBusy(
                "The ledger's file was replaced, but not the -wal file beside it, which would spoil it: stop the "
                "service, remove the -wal and -shm files and start it again.",
                retry_after=10,
            )
        return True

    def exists(self) -> bool:
        """Whether there is a ledger, without making one."""
        return self.path.is_file()

    def size(self, engine: Callable[[], Engine]) -> int:
        """Return how many bytes the ledger's file and its log have; what is not there has none."""
        size = 0
        for path in (self.path, _log_of(self.path)):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        return size

    def tidy(self, engine: Engine) -> bool:
        """Bring all of the log into the file and cut it to nothing; return False where others read it too long."""
        asked = "PRAGMA wal_checkpoint(TRUNCATE)"
        with engine.connect() as connection:  # in no transaction
            driver: Any = connection.connection.driver_connection
            try:
                held_up, *_ = driver.execute(asked).fetchone()
            except Exception as error:
                raise wrapped(asked, error, connection.dialect) from error
            return not held_up

    def as_ours(self, error: DBAPIError) -> ReviewappError | None:
        """Return what an error of the driver means: what is full, what is busy; None where it is a mistake of ours."""
        if isinstance(error, OperationalError):
            code = getattr(error.orig, "sqlite_errorcode", 0)
            if code & 0xFF == _FULL or code == _NO_ROOM_FOR_INDEX:
                return StoreFull("The disk of the ledger is full; nothing was recorded.", retry_after=10)
            if code & 0xFF in _CAUSES:
                return StoreBusy(f"{_CAUSES[code & 0xFF]}; nothing was recorded.", retry_after=10)
            return StoreBusy("The ledger cannot be reached or is locked; nothing was recorded.", retry_after=1)
        if error.connection_invalidated or "malformed" in str(error.orig) or "not a database" in str(error.orig):
            return StoreBusy("The ledger's file is damaged; restore a backup.", retry_after=30)
        return None


# Primary result codes of SQLite, and the one that a new connection on a full disk meets.
_FULL, _NO_ROOM_FOR_INDEX = 13, 4874
_CAUSES = {
    8: "The ledger's file can be read, but not written",
    10: "The disk of the ledger fails",
    14: "The ledger's file cannot be opened",
}

_Identity = tuple[int, int] | None


def _identity(path: Path) -> _Identity:
    """Return what tells a file from one that later has the same name, or None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _make_file(path: Path, *, read_only: bool) -> None:
    """Have a file to open; no other one is made, least of all in the place of one that has gone."""
    if read_only and not path.is_file():
        raise StoreError("There is no ledger yet (REVIEWAPP_DATABASE_URL).")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    except OSError as error:
        raise StoreError(f"The ledger's file (REVIEWAPP_DATABASE_URL) cannot be opened: {error.strerror}.") from None


def _engine(path: Path, until: Callable[[], float], waits: float, *, read_only: bool) -> Engine:
    if dbapi2.sqlite_version_info < FIXED_SQLITE:
        raise StoreError(f"SQLite {dbapi2.sqlite_version} has the WAL-reset bug; install pysqlite3 0.6.1 or newer.")
    address = f"{path.absolute().as_uri()}?mode=rw"  # never to make a file: one that has gone is not an empty ledger
    engine = create_engine(
        "sqlite://",
        creator=lambda: dbapi2.connect(address, uri=True, check_same_thread=False, timeout=waits, isolation_level=None),
        module=dbapi2,
        hide_parameters=True,  # what is kept is no business of the log's
        poolclass=QueuePool,
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=waits,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _: Any) -> None:
        for pragma in (
            f"busy_timeout={waits * 1000:.0f}",
            *(("query_only=ON",) if read_only else (*DURABLE, *KEEPING)),
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("link_hash", 4, link_hash, deterministic=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if read_only or "begin" in connection.get_execution_options():
            connection.exec_driver_sql("BEGIN")
        else:
            _begin_to_write(connection, until(), waits)

    return engine


def _begin_to_write(connection: Connection, until: float, waits: float) -> None:
    """Begin as the one that writes, tried until a monotonic time while another process does."""
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        when_free(lambda: driver.execute("BEGIN IMMEDIATE"), until)
    except Exception as error:
        raise wrapped("BEGIN IMMEDIATE", error, connection.dialect) from error
    finally:
        driver.execute(f"PRAGMA busy_timeout={waits * 1000:.0f}")
